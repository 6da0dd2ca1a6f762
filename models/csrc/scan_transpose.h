/* Tiles [t][c] from and to rows of steps (c, t). Four by four with SSE, which every x86-64 has. */

static void transpose_in(float (*restrict tile)[LANES], const float *restrict from, int64_t stride,
                         int steps, int lanes)
{
    int c = 0;
#if defined(__x86_64__) || defined(_M_X64)
    for (; c + 4 <= lanes; c += 4) {
        int t = 0;
        for (; t + 4 <= steps; t += 4) {
            __m128 a = _mm_loadu_ps(from + c * stride + t);
            __m128 b = _mm_loadu_ps(from + (c + 1) * stride + t);
            __m128 d = _mm_loadu_ps(from + (c + 2) * stride + t);
            __m128 e = _mm_loadu_ps(from + (c + 3) * stride + t);
            _MM_TRANSPOSE4_PS(a, b, d, e);
            _mm_storeu_ps(&tile[t][c], a);
            _mm_storeu_ps(&tile[t + 1][c], b);
            _mm_storeu_ps(&tile[t + 2][c], d);
            _mm_storeu_ps(&tile[t + 3][c], e);
        }
        for (; t < steps; t++)
            for (int j = c; j < c + 4; j++)
                tile[t][j] = from[j * stride + t];
    }
#endif
    for (; c < lanes; c++)
        for (int t = 0; t < steps; t++)
            tile[t][c] = from[c * stride + t];
}

static void transpose_out(float *restrict to, float (*restrict tile)[LANES], int64_t stride,
                          int steps, int lanes)
{
    int c = 0;
#if defined(__x86_64__) || defined(_M_X64)
    for (; c + 4 <= lanes; c += 4) {
        int t = 0;
        for (; t + 4 <= steps; t += 4) {
            __m128 a = _mm_loadu_ps(&tile[t][c]);
            __m128 b = _mm_loadu_ps(&tile[t + 1][c]);
            __m128 d = _mm_loadu_ps(&tile[t + 2][c]);
            __m128 e = _mm_loadu_ps(&tile[t + 3][c]);
            _MM_TRANSPOSE4_PS(a, b, d, e);
            _mm_storeu_ps(to + c * stride + t, a);
            _mm_storeu_ps(to + (c + 1) * stride + t, b);
            _mm_storeu_ps(to + (c + 2) * stride + t, d);
            _mm_storeu_ps(to + (c + 3) * stride + t, e);
        }
        for (; t < steps; t++)
            for (int j = c; j < c + 4; j++)
                to[j * stride + t] = tile[t][j];
    }
#endif
    for (; c < lanes; c++)
        for (int t = 0; t < steps; t++)
            to[c * stride + t] = tile[t][c];
}
