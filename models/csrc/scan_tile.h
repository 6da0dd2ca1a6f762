/* One tile of the scan forward: up to STEPS steps of LANES channels, channels innermost.
 *
 * Symbols: t step, c channel, n state, r rank of the step sizes; arrays are [t][c], states [n][c].
 * The caller fills the tile, or points k->..._at[t] at rows that lie elsewhere; nothing here knows
 * the layout outside. `count` steps go together, so that weights are read once for all of them.
 */

/* delta' = softplus(delta + bias), where delta is in the tile or, with a rank, low weight. */
SCAN_INLINE void FN(delta_block)(struct scan_tile *k, int t, int c, const int count, int64_t rank,
                                 int softplus, const int slopes)
{
    FN(vec) raw[4][2];
    UNROLL
    for (int i = 0; i < count; i++) {
        raw[i][0] = FN(get)(k->bias + c);
        raw[i][1] = FN(get)(k->bias + c + VEC);
        if (!rank) {
            raw[i][0] += FN(get)(k->delta[t + i] + c);
            raw[i][1] += FN(get)(k->delta[t + i] + c + VEC);
        }
    }
    for (int64_t r = 0; r < rank; r++) {
        FN(vec) w0 = FN(get)(k->weight[r] + c), w1 = FN(get)(k->weight[r] + c + VEC);
        UNROLL
        for (int i = 0; i < count; i++) {
            float low = k->low_at[t + i][r];
            raw[i][0] += w0 * low;
            raw[i][1] += w1 * low;
        }
    }
    UNROLL
    for (int i = 0; i < count; i++)
        for (int j = 0; j < 2; j++) {
            FN(vec) slope = FN(zero)() + 1.0f, delta = raw[i][j];
            if (softplus)
                delta = FN(softplus)(delta, &slope);
            FN(put)(k->delta[t + i] + c + j * VEC, delta);
            if (slopes)
                FN(put)(k->slope[t + i] + c + j * VEC, slope);
        }
}

SCAN_INLINE void FN(deltas)(struct scan_tile *k, int steps, int64_t rank, int softplus,
                            const int slopes)
{
    for (int c = 0; c < LANES; c += 2 * VEC) {
        int t = 0;
        for (; t + 4 <= steps; t += 4)
            FN(delta_block)(k, t, c, 4, rank, softplus, slopes);
        for (; t < steps; t++)
            FN(delta_block)(k, t, c, 1, rank, softplus, slopes);
    }
}

/* With `slopes` the derivative of softplus is kept for the backward. */
static void FN(tile_delta)(struct scan_tile *k, int steps, int64_t rank, int softplus, int slopes)
{
    if (slopes)
        FN(deltas)(k, steps, rank, softplus, 1);
    else
        FN(deltas)(k, steps, rank, softplus, 0);
}

/* h_t = exp(delta' A) h_{t-1} + B_t delta' u_t, y_t = sum over n of C_t h_t + D u_t */
SCAN_INLINE void FN(forward_block)(struct scan_tile *k, int t, int c, const int count, int states,
                                   int add)
{
    FN(vec) delta[4], drive[4], y[4];
    UNROLL
    for (int i = 0; i < count; i++) {
        FN(vec) u = FN(get)(k->u_at[t + i] + c);
        delta[i] = FN(get)(k->delta[t + i] + c);
        drive[i] = delta[i] * u;
        y[i] = FN(get)(k->D + c) * u;
        if (add)
            y[i] += FN(get)(k->y_at[t + i] + c);
    }
    for (int n = 0; n < states; n++) {
        FN(vec) h = FN(get)(k->h[n] + c), A = FN(get)(k->A2[n] + c);
        UNROLL
        for (int i = 0; i < count; i++) {
            h = FN(exp2)(delta[i] * A) * h + drive[i] * k->B_at[t + i][n];
            y[i] += h * k->C_at[t + i][n];
        }
        FN(put)(k->h[n] + c, h);
    }
    UNROLL
    for (int i = 0; i < count; i++)
        FN(put)(k->y_at[t + i] + c, y[i]);
}

/* With `add` the sum is added to what is in y. */
static void FN(tile_forward)(struct scan_tile *k, int steps, int states, int add)
{
    for (int c = 0; c < LANES; c += VEC) {
        int t = 0;
        for (; t + 4 <= steps; t += 4)
            FN(forward_block)(k, t, c, 4, states, add);
        for (; t < steps; t++)
            FN(forward_block)(k, t, c, 1, states, add);
    }
}

/* y *= silu(z) */
static void FN(tile_gate)(struct scan_tile *k, int steps)
{
    for (int t = 0; t < steps; t++)
        for (int c = 0; c < LANES; c += VEC) {
            FN(vec) z = FN(get)(k->z[t] + c);
            FN(put)(k->y[t] + c, FN(get)(k->y[t] + c) * z * FN(sigmoid)(z));
        }
}

/* dz from the ungated y, and dy of the ungated y in place. */
static void FN(tile_gate_backward)(struct scan_tile *k, int steps)
{
    for (int t = 0; t < steps; t++)
        for (int c = 0; c < LANES; c += VEC) {
            FN(vec) z = FN(get)(k->z[t] + c), dy = FN(get)(k->dy[t] + c);
            FN(vec) open = FN(sigmoid)(z);
            FN(put)(k->z[t] + c, dy * FN(get)(k->y[t] + c) * open * (z * (1.0f - open) + 1.0f));
            FN(put)(k->dy[t] + c, dy * z * open);
        }
}
