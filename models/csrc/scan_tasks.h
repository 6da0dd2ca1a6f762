/* Tasks of selective_scan: (batch, channel block), layout (b, d, l) with l innermost.
 *
 * A block never straddles two groups, and no two tasks write to the same place: what several
 * blocks add to (dA, dB, dC, dD, dbias) goes to a slot of its own, summed by the caller.
 */

static void FN(load)(float (*restrict tile)[LANES], const float *restrict from, int64_t stride,
                     int steps, int lanes)
{
    if (lanes < LANES) /* channels that do not exist are zeros, and stay zeros */
        memset(tile, 0, sizeof(float) * (size_t)steps * LANES);
    transpose_in(tile, from, stride, steps, lanes);
}

/* What stays the same along a task: A, D, bias. */
static void FN(task_open)(struct scan_tile *k, const struct scan_args *a, const struct scan_task *q)
{
    memset(k->A, 0, sizeof(k->A[0]) * (size_t)a->n);
    memset(k->A2, 0, sizeof(k->A2[0]) * (size_t)a->n);
    memset(k->D, 0, sizeof k->D);
    memset(k->bias, 0, sizeof k->bias);
    for (int c = 0; c < q->lanes; c++) {
        for (int n = 0; n < a->n; n++) {
            k->A[n][c] = a->A[(q->channel + c) * a->n + n];
            k->A2[n][c] = k->A[n][c] * 1.44269504f; /* for powers of two */
        }
        k->D[c] = a->D ? a->D[q->channel + c] : 0.0f;
        k->bias[c] = a->bias ? a->bias[q->channel + c] : 0.0f;
    }
}

/* Every row lies in the tile itself. */
static void FN(point_at_tile)(struct scan_tile *k)
{
    for (int t = 0; t < STEPS; t++) {
        k->u_at[t] = k->u[t];
        k->dy_at[t] = k->dy[t];
        k->y_at[t] = k->y[t];
        k->du_at[t] = k->du[t];
        k->B_at[t] = k->B[t];
        k->C_at[t] = k->C[t];
        k->dB_at[t] = k->dB[t];
        k->dC_at[t] = k->dC[t];
    }
}

static void FN(task_load)(struct scan_tile *k, const struct scan_args *a, const struct scan_task *q,
                          int64_t start, int steps)
{
    int64_t at = q->row * a->l + start;
    FN(load)(k->u, a->u + at, a->l, steps, q->lanes);
    FN(load)(k->delta, a->delta + at, a->l, steps, q->lanes);
    if (a->z)
        FN(load)(k->z, a->z + at, a->l, steps, q->lanes);
    for (int n = 0; n < a->n; n++)
        for (int t = 0; t < steps; t++) {
            k->B[t][n] = a->B[(q->group * a->n + n) * a->l + start + t];
            k->C[t][n] = a->C[(q->group * a->n + n) * a->l + start + t];
        }
    FN(tile_delta)(k, steps, 0, (int)a->softplus, a->dy != NULL);
}

static void FN(forward_task)(struct scan_tile *k, const struct scan_args *a,
                             const struct scan_task *q)
{
    size_t kept = sizeof(k->h[0]) * (size_t)a->n;
    FN(task_open)(k, a, q);
    FN(point_at_tile)(k);
    memset(k->h, 0, kept);
    for (int64_t tile = 0; tile < q->tiles; tile++) {
        int64_t start = tile * STEPS;
        int steps = (int)(a->l - start < STEPS ? a->l - start : STEPS);
        if (a->states)
            memcpy(a->states + (q->index * q->tiles + tile) * a->n * LANES, k->h, kept);
        FN(task_load)(k, a, q, start, steps);
        FN(tile_forward)(k, steps, (int)a->n, 0);
        if (a->z)
            FN(tile_gate)(k, steps);
        transpose_out(a->y + q->row * a->l + start, k->y, a->l, steps, q->lanes);
    }
}

/* The tile's own gradients to the caller's arrays. */
static void FN(task_store)(struct scan_tile *k, const struct scan_args *a,
                           const struct scan_task *q, int64_t start, int steps)
{
    int64_t at = q->row * a->l + start;
    transpose_out(a->du + at, k->du, a->l, steps, q->lanes);
    transpose_out(a->ddelta + at, k->ddelta, a->l, steps, q->lanes);
    if (a->z)
        transpose_out(a->dz + at, k->z, a->l, steps, q->lanes);
    for (int n = 0; n < a->n; n++) {
        int64_t slot = (q->index * a->n + n) * a->l + start;
        for (int t = 0; t < steps; t++) {
            a->dB[slot + t] = k->dB[t][n];
            a->dC[slot + t] = k->dC[t][n];
        }
    }
}

/* What a backward sums over all steps of its channels: dA, dD, dbias, and g to start from. */
static void FN(task_clear)(struct scan_tile *k, const struct scan_args *a)
{
    size_t kept = sizeof(k->h[0]) * (size_t)a->n;
    memset(k->g, 0, kept);
    memset(k->dA, 0, kept);
    memset(k->dD, 0, sizeof k->dD);
    memset(k->dbias, 0, sizeof k->dbias);
}

static void FN(task_close)(struct scan_tile *k, const struct scan_args *a,
                           const struct scan_task *q)
{
    for (int c = 0; c < q->lanes; c++) {
        for (int n = 0; n < a->n; n++)
            a->dA[(q->row + c) * a->n + n] = k->dA[n][c];
        a->dD[q->row + c] = k->dD[c];
        a->dbias[q->row + c] = k->dbias[c];
    }
}

static void FN(backward_task)(struct scan_tile *k, const struct scan_args *a,
                              const struct scan_task *q)
{
    size_t kept = sizeof(k->h[0]) * (size_t)a->n;
    FN(task_open)(k, a, q);
    FN(task_clear)(k, a);
    FN(point_at_tile)(k);
    for (int64_t tile = q->tiles - 1; tile >= 0; tile--) {
        int64_t start = tile * STEPS;
        int steps = (int)(a->l - start < STEPS ? a->l - start : STEPS);
        const float *states = a->states + (q->index * q->tiles + tile) * a->n * LANES;
        FN(task_load)(k, a, q, start, steps);
        FN(load)(k->dy, a->dy + q->row * a->l + start, a->l, steps, q->lanes);
        memcpy(k->h, states, kept);
        if (a->z) { /* dz needs the ungated y: once forward over the tile */
            FN(tile_forward)(k, steps, (int)a->n, 0);
            FN(tile_gate_backward)(k, steps);
            memcpy(k->h, states, kept);
        }
        FN(tile_backward)(k, steps, (int)a->n, 0);
        FN(task_store)(k, a, q, start, steps);
    }
    FN(task_close)(k, a, q);
}
