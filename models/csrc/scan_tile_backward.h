/* One tile of the scan backward; k->h holds the states at its start, k->dy_at the gradient of y.
 *
 * Symbols as in scan_tile.h. PACK vectors are swept together, so that what is summed over the
 * channels (dB, dC) is summed in registers first.
 */

/* The states of the tile again, kept this time: decay[t] and trail[t + 1] = h_t. */
SCAN_INLINE void FN(replay)(struct scan_tile *k, int steps, int n, int c)
{
    FN(vec) h = FN(get)(k->h[n] + c), A = FN(get)(k->A2[n] + c);
    for (int t = 0; t < steps; t++) {
        FN(vec) delta = FN(get)(k->delta[t] + c);
        FN(vec) decay = FN(exp2)(delta * A);
        FN(put)(k->trail[t] + c, h);
        FN(put)(k->decay[t] + c, decay);
        h = decay * h + delta * FN(get)(k->u_at[t] + c) * k->B_at[t][n];
    }
    FN(put)(k->trail[steps] + c, h);
}

/* g_t = C_t dy_t + decay_{t+1} g_{t+1}, backwards over the tile; k->g carries decay g across.
 * The first state sets the sums over states, the last one makes du and ddelta of them. */
SCAN_INLINE void FN(sweep)(struct scan_tile *k, int steps, int n, int start, const int first,
                           const int last, int add)
{
    FN(vec) carry[PACK], dA[PACK], dD[PACK], dbias[PACK];
    UNROLL
    for (int j = 0; j < PACK; j++) {
        carry[j] = FN(get)(k->g[n] + start + j * VEC);
        dA[j] = FN(get)(k->dA[n] + start + j * VEC);
        dD[j] = FN(get)(k->dD + start + j * VEC);
        dbias[j] = FN(get)(k->dbias + start + j * VEC);
    }
    for (int t = steps - 1; t >= 0; t--) {
        float b = k->B_at[t][n], out = k->C_at[t][n];
        const float *dy_row = k->dy_at[t], *u_row = k->u_at[t];
        float *du_row = k->du_at[t];
        FN(vec) dB = start ? FN(get)(k->parts_B[t]) : FN(zero)();
        FN(vec) dC = start ? FN(get)(k->parts_C[t]) : FN(zero)();
        UNROLL
        for (int j = 0; j < PACK; j++) {
            int c = start + j * VEC;
            FN(vec) dy = FN(get)(dy_row + c), u = FN(get)(u_row + c);
            FN(vec) delta = FN(get)(k->delta[t] + c);
            FN(vec) g = dy * out + carry[j];
            dB += g * (delta * u);
            dC += dy * FN(get)(k->trail[t + 1] + c);
            carry[j] = g * FN(get)(k->decay[t] + c);
            FN(vec) exponent = carry[j] * FN(get)(k->trail[t] + c);
            dA[j] += exponent * delta;
            FN(vec) ddelta = exponent * FN(get)(k->A[n] + c), ddrive = g * b;
            if (!first) {
                ddelta += FN(get)(k->ddelta[t] + c);
                ddrive += FN(get)(k->ddrive[t] + c);
            }
            if (last) {
                FN(vec) du = ddrive * delta + FN(get)(k->D + c) * dy;
                ddelta = (ddelta + ddrive * u) * FN(get)(k->slope[t] + c);
                dD[j] += dy * u;
                dbias[j] += ddelta;
                if (add)
                    du += FN(get)(du_row + c);
                FN(put)(du_row + c, du);
            } else
                FN(put)(k->ddrive[t] + c, ddrive);
            FN(put)(k->ddelta[t] + c, ddelta);
        }
        FN(put)(k->parts_B[t], dB);
        FN(put)(k->parts_C[t], dC);
    }
    UNROLL
    for (int j = 0; j < PACK; j++) {
        FN(put)(k->g[n] + start + j * VEC, carry[j]);
        FN(put)(k->dA[n] + start + j * VEC, dA[j]);
        FN(put)(k->dD + start + j * VEC, dD[j]);
        FN(put)(k->dbias + start + j * VEC, dbias[j]);
    }
}

/* to[t][n] = sum of parts[t]: VEC steps at once, halved by adding neighbours */
SCAN_INLINE void FN(row_sums)(float (*parts)[16], float *const *to, int steps, int n)
{
    for (int t = 0; t < steps; t += VEC) {
        FN(vec) x[VEC];
        float sums[VEC];
        for (int i = 0; i < VEC; i++)
            x[i] = FN(get)(parts[t + i]);
        UNROLL
        for (int width = VEC / 2; width > 0; width /= 2)
            UNROLL
            for (int i = 0; i < width; i++)
                x[i] = FN(add_pairs)(x[2 * i], x[2 * i + 1]);
        FN(put)(sums, x[0]);
        for (int i = 0; i < VEC && t + i < steps; i++)
            to[t + i][n] = sums[i];
    }
}

/* With `add` du is added to what is in du. */
static void FN(tile_backward)(struct scan_tile *k, int steps, int states, int add)
{
    for (int n = 0; n < states; n++) {
        for (int c = 0; c < LANES; c += VEC)
            FN(replay)(k, steps, n, c);
        for (int c = 0; c < LANES; c += PACK * VEC)
            if (states == 1)
                FN(sweep)(k, steps, n, c, 1, 1, add);
            else if (n == 0)
                FN(sweep)(k, steps, n, c, 1, 0, add);
            else if (n < states - 1)
                FN(sweep)(k, steps, n, c, 0, 0, add);
            else
                FN(sweep)(k, steps, n, c, 0, 1, add);
        FN(row_sums)(k->parts_B, k->dB_at, steps, n);
        FN(row_sums)(k->parts_C, k->dC_at, steps, n);
    }
}

/* dweight[r] += sum over t of low[t][r] ddelta[t] */
SCAN_INLINE void FN(weight_block)(struct scan_tile *k, int steps, int64_t r, int c, const int count)
{
    FN(vec) sums[6][2];
    UNROLL
    for (int i = 0; i < count; i++) {
        sums[i][0] = FN(get)(k->dweight[r + i] + c);
        sums[i][1] = FN(get)(k->dweight[r + i] + c + VEC);
    }
    for (int t = 0; t < steps; t++) {
        FN(vec) d0 = FN(get)(k->ddelta[t] + c), d1 = FN(get)(k->ddelta[t] + c + VEC);
        const float *low = k->low_at[t] + r;
        UNROLL
        for (int i = 0; i < count; i++) {
            sums[i][0] += d0 * low[i];
            sums[i][1] += d1 * low[i];
        }
    }
    UNROLL
    for (int i = 0; i < count; i++) {
        FN(put)(k->dweight[r + i] + c, sums[i][0]);
        FN(put)(k->dweight[r + i] + c + VEC, sums[i][1]);
    }
}

static void FN(tile_weight_backward)(struct scan_tile *k, int steps, int64_t rank)
{
    for (int c = 0; c < LANES; c += 2 * VEC) {
        int64_t r = 0;
        for (; r + 6 <= rank; r += 6)
            FN(weight_block)(k, steps, r, c, 6);
        for (; r < rank; r++)
            FN(weight_block)(k, steps, r, c, 1);
    }
}

/* dlow[t][r] = sum over c of ddelta[t][c] weight[r][c], VEC ranks at once: no sum across a vector */
SCAN_INLINE void FN(low_block)(struct scan_tile *k, int t, int64_t r, const int count,
                               int64_t padded)
{
    FN(vec) sums[8];
    UNROLL
    for (int i = 0; i < count; i++)
        sums[i] = FN(zero)();
    for (int c = 0; c < LANES; c++) {
        FN(vec) w = FN(get)(k->by_rank + c * padded + r);
        UNROLL
        for (int i = 0; i < count; i++)
            sums[i] += w * k->ddelta[t + i][c];
    }
    UNROLL
    for (int i = 0; i < count; i++)
        FN(put)(k->dlow[t + i] + r, sums[i]);
}

static void FN(tile_low_backward)(struct scan_tile *k, int steps, int64_t padded)
{
    for (int64_t r = 0; r < padded; r += VEC) {
        int t = 0;
        for (; t + 8 <= steps; t += 8)
            FN(low_block)(k, t, r, 8, padded);
        for (; t + 4 <= steps; t += 4)
            FN(low_block)(k, t, r, 4, padded);
        for (; t < steps; t++)
            FN(low_block)(k, t, r, 1, padded);
    }
}
