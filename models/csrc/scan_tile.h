/* One tile of the scan: STEPS steps of LANES channels, channels innermost.
 *
 * Symbols: t step, c channel, n state; arrays are [t][c], states [n][c], B and C [n][t].
 * The caller fills the inputs, the kernels here know nothing of the layout outside.
 */

/* delta' = softplus(delta + bias), du = delta' u */
static void FN(tile_delta)(struct scan_tile *k, int steps, int softplus)
{
    for (int t = 0; t < steps; t++) {
        float *restrict delta = k->delta[t], *restrict slope = k->slope[t];
        float *restrict drive = k->drive[t];
        const float *restrict u = k->u[t], *restrict bias = k->bias;
        if (softplus)
            for (int c = 0; c < LANES; c++) {
                float derivative;
                delta[c] = FN(softplus)(delta[c] + bias[c], &derivative);
                slope[c] = derivative;
                drive[c] = delta[c] * u[c];
            }
        else
            for (int c = 0; c < LANES; c++) {
                delta[c] += bias[c];
                slope[c] = 1.0f;
                drive[c] = delta[c] * u[c];
            }
    }
}

/* h_t = exp(delta' A) h_{t-1} + B_t du_t, y_t += C_t h_t, over the tile, y started at D u */
static void FN(tile_forward)(struct scan_tile *k, int steps, int states)
{
    for (int t = 0; t < steps; t++)
        for (int c = 0; c < LANES; c++)
            k->y[t][c] = k->D[c] * k->u[t][c];
    for (int n = 0; n < states; n++) {
        float *restrict h = k->h[n];
        const float *restrict A = k->A[n];
        for (int t = 0; t < steps; t++) {
            const float *restrict delta = k->delta[t], *restrict drive = k->drive[t];
            float *restrict y = k->y[t];
            float b = k->B[n][t], out = k->C[n][t];
            for (int c = 0; c < LANES; c++) {
                h[c] = FN(exp)(delta[c] * A[c]) * h[c] + b * drive[c];
                y[c] += out * h[c];
            }
        }
    }
}

/* sums[t] = sum over c of a[t][c] b[t][c] (b[0][c] where b does not move, move 0), in one order whatever the instruction set: 16 running
 * sums, then 4, then 1, each step over the whole tile so that none is a horizontal sum. */
SCAN_INLINE void FN(sums)(float (*restrict a)[LANES], float (*restrict b)[LANES], const int move,
                          int steps, float *restrict sums)
{
    float parts[STEPS][16], quads[STEPS][4];
    for (int t = 0; t < steps; t++) {
        const float *restrict x = a[t], *restrict w = b[move * t];
        for (int j = 0; j < 16; j++) {
            float part = x[j] * w[j];
            for (int c = 16; c < LANES; c += 16)
                part += x[c + j] * w[c + j];
            parts[t][j] = part;
        }
    }
    for (int t = 0; t < steps; t++)
        for (int j = 0; j < 4; j++)
            quads[t][j] = (parts[t][j] + parts[t][j + 4]) + (parts[t][j + 8] + parts[t][j + 12]);
    for (int t = 0; t < steps; t++)
        sums[t] = (quads[t][0] + quads[t][1]) + (quads[t][2] + quads[t][3]);
}

static void FN(tile_dot)(float (*restrict a)[LANES], float (*restrict b)[LANES], int steps,
                         float *restrict sums)
{
    FN(sums)(a, b, 1, steps, sums);
}

static void FN(tile_weigh)(float (*restrict a)[LANES], float (*restrict b)[LANES], int steps,
                           float *restrict sums)
{
    FN(sums)(a, b, 0, steps, sums);
}

/* The states of the tile again, kept this time: decay[t] and trail[t + 1] = h_t. */
static void FN(tile_replay)(struct scan_tile *k, int steps, int n)
{
    const float *restrict A = k->A[n];
    memcpy(k->trail[0], k->h[n], sizeof k->trail[0]);
    for (int t = 0; t < steps; t++) {
        const float *restrict delta = k->delta[t], *restrict drive = k->drive[t];
        const float *restrict before = k->trail[t];
        float *restrict after = k->trail[t + 1], *restrict decay = k->decay[t];
        float b = k->B[n][t];
        for (int c = 0; c < LANES; c++) {
            decay[c] = FN(exp)(delta[c] * A[c]);
            after[c] = decay[c] * before[c] + b * drive[c];
        }
    }
}

/* g_t = C_t dy_t + decay_{t+1} g_{t+1}, backwards over the tile; k->g carries decay g across.
 * g_t is left in the place of decay_t. */
static void FN(tile_sweep)(struct scan_tile *k, int steps, int n)
{
    float *restrict carry = k->g[n], *restrict dA = k->dA[n];
    const float *restrict A = k->A[n];
    for (int t = steps - 1; t >= 0; t--) {
        const float *restrict delta = k->delta[t], *restrict dy = k->dy[t];
        const float *restrict before = k->trail[t];
        float *restrict decay = k->decay[t];
        float *restrict ddelta = k->ddelta[t], *restrict ddrive = k->ddrive[t];
        float b = k->B[n][t], out = k->C[n][t];
        for (int c = 0; c < LANES; c++) {
            float g = out * dy[c] + carry[c];
            ddrive[c] += g * b;
            carry[c] = g * decay[c];
            decay[c] = g;
            float exponent = carry[c] * before[c];
            dA[c] += exponent * delta[c];
            ddelta[c] += exponent * A[c];
        }
    }
}

/* Backward over one tile; k->h holds the states at its start, k->dy the gradient of the sum. */
static void FN(tile_backward)(struct scan_tile *k, int steps, int states)
{
    memset(k->ddelta, 0, sizeof k->ddelta);
    memset(k->ddrive, 0, sizeof k->ddrive);
    for (int n = 0; n < states; n++) {
        FN(tile_replay)(k, steps, n);
        FN(tile_sweep)(k, steps, n);
        FN(tile_dot)(k->dy, k->trail + 1, steps, k->dC[n]);
        FN(tile_dot)(k->decay, k->drive, steps, k->dB[n]);
    }
    for (int t = 0; t < steps; t++) {
        float *restrict ddelta = k->ddelta[t], *restrict du = k->ddrive[t];
        const float *restrict u = k->u[t], *restrict dy = k->dy[t], *restrict delta = k->delta[t];
        const float *restrict slope = k->slope[t], *restrict D = k->D;
        float *restrict dD = k->dD, *restrict dbias = k->dbias;
        for (int c = 0; c < LANES; c++) {
            ddelta[c] = (ddelta[c] + du[c] * u[c]) * slope[c];
            du[c] = du[c] * delta[c] + D[c] * dy[c];
            dD[c] += dy[c] * u[c];
            dbias[c] += ddelta[c];
        }
    }
}

/* y *= silu(z) */
static void FN(tile_gate)(struct scan_tile *k, int steps)
{
    for (int t = 0; t < steps; t++) {
        float *restrict y = k->y[t];
        const float *restrict z = k->z[t];
        for (int c = 0; c < LANES; c++)
            y[c] *= z[c] * FN(sigmoid)(z[c]);
    }
}

/* dz from the ungated y, and dy of the ungated y in place. */
static void FN(tile_gate_backward)(struct scan_tile *k, int steps)
{
    for (int t = 0; t < steps; t++) {
        float *restrict z = k->z[t], *restrict dy = k->dy[t];
        const float *restrict y = k->y[t];
        for (int c = 0; c < LANES; c++) {
            float open = FN(sigmoid)(z[c]);
            float dz = dy[c] * y[c] * open * (1.0f + z[c] * (1.0f - open));
            dy[c] *= z[c] * open;
            z[c] = dz;
        }
    }
}
