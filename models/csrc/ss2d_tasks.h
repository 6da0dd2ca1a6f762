/* Tasks of the 2-D core: (batch, channel block), all four directions one after another.
 *
 * Nothing is permuted: x and delta lie channels last, a direction is an order of pixels, and the
 * rows of a tile are read and summed where they lie. y and dx are summed in place, direction 0
 * first, by the one task that owns their channels.
 * Layouts: x, y (b, l, d); projected (b, l, 4, r + 2 n), in the order dt, B, C; weight (4, d, r);
 * A (4 d, n); what several tasks add to has a slot for each: dB, the gradient of `projected`, is
 * (tasks, l, 4, r + 2 n). The step sizes delta = dt weight^T exist for one tile at a time.
 */

/* A block narrower than LANES goes through the tile, filled up with zeros. */
static void FN(narrow_in)(float (*tile)[LANES], const float *from, const struct scan_path *p,
                          int64_t stride)
{
    for (int t = 0; t < p->steps; t++) {
        memset(tile[t], 0, sizeof tile[t]);
        memcpy(tile[t], from + p->pixel[t] * stride, sizeof(float) * (size_t)p->lanes);
    }
}

static void FN(narrow_out)(float *to, float (*tile)[LANES], const struct scan_path *p,
                           int64_t stride)
{
    for (int t = 0; t < p->steps; t++)
        memcpy(to + p->pixel[t] * stride, tile[t], sizeof(float) * (size_t)p->lanes);
}

static int64_t FN(padded_rank)(const struct scan_args *a)
{
    return (a->rank + VEC - 1) / VEC * VEC; /* what is in excess is zero */
}

/* The weights of one direction, channels innermost. */
static void FN(path_open)(struct scan_tile *k, const struct scan_args *a, const struct scan_path *p)
{
    const float *weight = a->weight + (p->direction * a->d + p->first) * a->rank;
    FN(load)(k->weight, weight, a->rank, (int)a->rank, p->lanes);
}

/* The same for the backward, ranks innermost as well. */
static void FN(path_open_backward)(struct scan_tile *k, const struct scan_args *a,
                                   const struct scan_path *p)
{
    const float *weight = a->weight + (p->direction * a->d + p->first) * a->rank;
    int64_t padded = FN(padded_rank)(a);
    FN(path_open)(k, a, p);
    memset(k->dweight, 0, sizeof(k->dweight[0]) * (size_t)a->rank);
    memset(k->by_rank, 0, sizeof(float) * (size_t)(LANES * padded));
    for (int c = 0; c < p->lanes; c++)
        memcpy(k->by_rank + c * padded, weight + c * a->rank, sizeof(float) * (size_t)a->rank);
}

/* Where the rows of a tile lie: u and the projected dt, B, C; and delta from them. */
static void FN(path_load)(struct scan_tile *k, const struct scan_args *a, const struct scan_path *p)
{
    int64_t part = a->rank + 2 * a->n, map = p->batch * a->l * a->d + p->first;
    const float *projected = a->B + (p->batch * a->l * 4 + p->direction) * part;
    int narrow = p->lanes < LANES;
    for (int t = 0; t < p->steps; t++) {
        k->low_at[t] = projected + p->pixel[t] * 4 * part;
        k->B_at[t] = k->low_at[t] + a->rank;
        k->C_at[t] = k->B_at[t] + a->n;
        k->u_at[t] = narrow ? k->u[t] : a->u + map + p->pixel[t] * a->d;
    }
    if (narrow)
        FN(narrow_in)(k->u, a->u + map, p, a->d);
    FN(tile_delta)(k, p->steps, a->rank, 1, a->dy != NULL);
}

static void FN(path_forward)(struct scan_tile *k, const struct scan_args *a,
                             const struct scan_path *p)
{
    float *y = a->y + p->batch * a->l * a->d + p->first;
    int add = p->direction > 0, narrow = p->lanes < LANES;
    for (int t = 0; t < p->steps; t++)
        k->y_at[t] = narrow ? k->y[t] : y + p->pixel[t] * a->d;
    if (narrow && add)
        FN(narrow_in)(k->y, y, p, a->d);
    FN(path_load)(k, a, p);
    FN(tile_forward)(k, p->steps, (int)a->n, add);
    if (narrow)
        FN(narrow_out)(y, k->y, p, a->d);
}

static void FN(ss2d_forward_task)(struct scan_tile *k, const struct scan_args *a,
                                  const struct scan_task *q)
{
    size_t kept = sizeof(k->h[0]) * (size_t)a->n;
    struct scan_path p = path_of(q);
    for (p.direction = 0; p.direction < 4; p.direction++) {
        struct scan_task at = *q;
        at.channel = p.direction * a->d + p.first;
        FN(task_open)(k, a, &at);
        FN(path_open)(k, a, &p);
        memset(k->h, 0, kept);
        for (int64_t tile = 0; tile < q->tiles; tile++) {
            path_at(&p, a, tile);
            if (a->states)
                memcpy(a->states + ((q->index * 4 + p.direction) * q->tiles + tile) * a->n * LANES,
                       k->h, kept);
            FN(path_forward)(k, a, &p);
        }
    }
}

static void FN(path_backward)(struct scan_tile *k, const struct scan_args *a,
                              const struct scan_task *q, const struct scan_path *p)
{
    int64_t part = a->rank + 2 * a->n, map = p->batch * a->l * a->d + p->first;
    float *slot = a->dB + (q->index * a->l * 4 + p->direction) * part;
    int add = p->direction > 0, narrow = p->lanes < LANES;
    for (int t = 0; t < p->steps; t++) {
        k->dy_at[t] = narrow ? k->dy[t] : a->dy + map + p->pixel[t] * a->d;
        k->du_at[t] = narrow ? k->du[t] : a->du + map + p->pixel[t] * a->d;
        k->dB_at[t] = slot + p->pixel[t] * 4 * part + a->rank;
        k->dC_at[t] = k->dB_at[t] + a->n;
    }
    if (narrow) {
        FN(narrow_in)(k->dy, a->dy + map, p, a->d);
        if (add)
            FN(narrow_in)(k->du, a->du + map, p, a->d);
    }
    FN(path_load)(k, a, p);
    FN(tile_backward)(k, p->steps, (int)a->n, add);
    if (narrow)
        FN(narrow_out)(a->du + map, k->du, p, a->d);
    FN(tile_weight_backward)(k, p->steps, a->rank);
    FN(tile_low_backward)(k, p->steps, FN(padded_rank)(a));
    for (int t = 0; t < p->steps; t++)
        memcpy(k->dB_at[t] - a->rank, k->dlow[t], sizeof(float) * (size_t)a->rank);
}

static void FN(ss2d_backward_task)(struct scan_tile *k, const struct scan_args *a,
                                   const struct scan_task *q)
{
    size_t kept = sizeof(k->h[0]) * (size_t)a->n;
    struct scan_path p = path_of(q);
    for (p.direction = 0; p.direction < 4; p.direction++) {
        struct scan_task at = *q;
        at.channel = p.direction * a->d + p.first;
        at.row = p.batch * 4 * a->d + at.channel;
        FN(task_open)(k, a, &at);
        FN(path_open_backward)(k, a, &p);
        FN(task_clear)(k, a);
        for (int64_t tile = q->tiles - 1; tile >= 0; tile--) {
            path_at(&p, a, tile);
            memcpy(k->h,
                   a->states + ((q->index * 4 + p.direction) * q->tiles + tile) * a->n * LANES,
                   kept);
            FN(path_backward)(k, a, q, &p);
        }
        FN(task_close)(k, a, &at);
        transpose_out(a->dweight + at.row * a->rank, k->dweight, a->rank, (int)a->rank, p.lanes);
    }
}
