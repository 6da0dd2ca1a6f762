/* Tasks of the 2-D core: (batch, channel block), all four directions one after another.
 *
 * Nothing is permuted: x and delta lie channels last, a direction is an order of pixels. y and dx
 * are summed in place, direction 0 first, by the one task that owns their channels.
 * Layouts: x, y (b, l, d); projected (b, l, 4, r + 2 n), in the order dt, B, C; weight (4, d, r);
 * A (4 d, n); what several tasks add to has a slot for each: dB, the gradient of `projected`, is
 * (tasks, l, 4, r + 2 n). The step sizes delta = dt weight^T exist for one tile at a time.
 */

static void FN(pixels_in)(float (*restrict tile)[LANES], const float *restrict from,
                          const int64_t *pixel, int64_t stride, int steps, int lanes)
{
    for (int t = 0; t < steps; t++) {
        const float *restrict row = from + pixel[t] * stride;
        if (lanes == LANES)
            for (int c = 0; c < LANES; c++)
                tile[t][c] = row[c];
        else {
            memset(tile[t], 0, sizeof tile[t]);
            memcpy(tile[t], row, sizeof(float) * (size_t)lanes);
        }
    }
}

static void FN(pixels_out)(float *restrict to, float (*restrict tile)[LANES], const int64_t *pixel,
                           int64_t stride, int steps, int lanes, int add)
{
    for (int t = 0; t < steps; t++) {
        float *restrict row = to + pixel[t] * stride;
        if (!add)
            memcpy(row, tile[t], sizeof(float) * (size_t)lanes);
        else if (lanes == LANES)
            for (int c = 0; c < LANES; c++)
                row[c] += tile[t][c];
        else
            for (int c = 0; c < lanes; c++)
                row[c] += tile[t][c];
    }
}

static int64_t FN(padded_rank)(const struct scan_args *a)
{
    return (a->rank + 3) / 4 * 4; /* the rows in excess are zeros */
}

/* delta[t] = sum over r of low[r][t] weight[r], four r a turn */
static void FN(tile_project)(struct scan_tile *k, int steps, int64_t rank)
{
    for (int t = 0; t < steps; t++) {
        float *restrict delta = k->delta[t];
        memset(delta, 0, sizeof k->delta[t]);
        for (int64_t r = 0; r < rank; r += 4) {
            const float *restrict w = k->weight[r];
            float l0 = k->low[r][t], l1 = k->low[r + 1][t];
            float l2 = k->low[r + 2][t], l3 = k->low[r + 3][t];
            for (int c = 0; c < LANES; c++)
                delta[c] += (l0 * w[c] + l1 * w[LANES + c]) +
                            (l2 * w[2 * LANES + c] + l3 * w[3 * LANES + c]);
        }
    }
}

/* dweight[r] += sum over t of low[r][t] ddelta[t], four t a turn: the rows after `steps` are zeros;
 * dlow[r][t] = sum over c of ddelta[t][c] weight[r][c] */
static void FN(tile_project_backward)(struct scan_tile *k, int steps, int64_t rank)
{
    for (int64_t r = 0; r < rank; r++) {
        float *restrict dw = k->dweight[r];
        for (int t = 0; t < steps; t += 4) {
            const float *restrict d = k->ddelta[t];
            float l0 = k->low[r][t], l1 = k->low[r][t + 1];
            float l2 = k->low[r][t + 2], l3 = k->low[r][t + 3];
            for (int c = 0; c < LANES; c++)
                dw[c] += (l0 * d[c] + l1 * d[LANES + c]) +
                         (l2 * d[2 * LANES + c] + l3 * d[3 * LANES + c]);
        }
        FN(tile_weigh)(k->ddelta, &k->weight[r], steps, k->dlow[r]);
    }
}

/* The weights of one direction, channels innermost. */
static void FN(path_open)(struct scan_tile *k, const struct scan_args *a, const struct scan_path *p)
{
    int64_t rank = FN(padded_rank)(a);
    const float *weight = a->weight + (p->direction * a->d + p->first) * a->rank;
    memset(k->weight, 0, sizeof(k->weight[0]) * (size_t)rank);
    memset(k->dweight, 0, sizeof(k->dweight[0]) * (size_t)rank);
    memset(k->low, 0, sizeof(k->low[0]) * (size_t)rank);
    for (int c = 0; c < p->lanes; c++)
        for (int64_t r = 0; r < a->rank; r++)
            k->weight[r][c] = weight[c * a->rank + r];
}

/* One tile of one direction. */
static void FN(path_load)(struct scan_tile *k, const struct scan_args *a, const struct scan_path *p)
{
    int64_t n = a->n, rank = a->rank, row = 4 * (rank + 2 * n);
    const float *projected = a->B + p->batch * a->l * row + p->direction * (rank + 2 * n);
    FN(pixels_in)(k->u, a->u + p->batch * a->l * a->d + p->first, p->pixel, a->d, p->steps, p->lanes);
    for (int t = 0; t < p->steps; t++) {
        const float *here = projected + p->pixel[t] * row;
        for (int64_t r = 0; r < rank; r++)
            k->low[r][t] = here[r];
        for (int64_t i = 0; i < n; i++) {
            k->B[i][t] = here[rank + i];
            k->C[i][t] = here[rank + n + i];
        }
    }
    if (p->steps < STEPS)
        for (int64_t r = 0; r < rank; r++)
            memset(k->low[r] + p->steps, 0, sizeof(float) * (size_t)(STEPS - p->steps));
    FN(tile_project)(k, p->steps, FN(padded_rank)(a));
    FN(tile_delta)(k, p->steps, 1);
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
            FN(path_load)(k, a, &p);
            FN(tile_forward)(k, p.steps, (int)a->n);
            FN(pixels_out)(a->y + p.batch * a->l * a->d + p.first, k->y, p.pixel, a->d, p.steps,
                           p.lanes, p.direction > 0);
        }
    }
}

static void FN(path_store)(struct scan_tile *k, const struct scan_args *a,
                           const struct scan_task *q, const struct scan_path *p)
{
    int64_t n = a->n, rank = a->rank, row = 4 * (rank + 2 * n);
    float *slot = a->dB + q->index * a->l * row + p->direction * (rank + 2 * n);
    FN(pixels_out)(a->du + p->batch * a->l * a->d + p->first, k->ddrive, p->pixel, a->d, p->steps,
                   p->lanes, p->direction > 0);
    for (int t = 0; t < p->steps; t++) {
        float *here = slot + p->pixel[t] * row;
        for (int64_t r = 0; r < rank; r++)
            here[r] = k->dlow[r][t];
        for (int64_t i = 0; i < n; i++) {
            here[rank + i] = k->dB[i][t];
            here[rank + n + i] = k->dC[i][t];
        }
    }
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
        FN(path_open)(k, a, &p);
        FN(task_clear)(k, a);
        for (int64_t tile = q->tiles - 1; tile >= 0; tile--) {
            path_at(&p, a, tile);
            FN(path_load)(k, a, &p);
            FN(pixels_in)(k->dy, a->dy + p.batch * a->l * a->d + p.first, p.pixel, a->d, p.steps,
                          p.lanes);
            memcpy(k->h,
                   a->states + ((q->index * 4 + p.direction) * q->tiles + tile) * a->n * LANES,
                   kept);
            FN(tile_backward)(k, p.steps, (int)a->n);
            FN(tile_project_backward)(k, p.steps, FN(padded_rank)(a));
            FN(path_store)(k, a, q, &p);
        }
        FN(task_close)(k, a, &at);
        for (int c = 0; c < p.lanes; c++)
            for (int64_t r = 0; r < a->rank; r++)
                a->dweight[(at.row + c) * a->rank + r] = k->dweight[r][c];
    }
}
