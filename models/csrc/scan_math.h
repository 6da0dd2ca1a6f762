/* exp, softplus and silu as polynomials that a compiler vectorises.
 *
 * No branch, no call, no table: each is a straight line of float operations, so a loop over
 * channels becomes SIMD. Included once per instruction set, inside that set's target region.
 */

/* exp(x), relative error 1e-7. Exactly 0 below -87.7 (denormals would be slow), inf above 88.4. */
SCAN_INLINE float FN(exp)(float x)
{
    union { int32_t bits; float value; } scale;
    x = -88.0f > x ? -88.0f : x; /* written so that a NaN stays one */
    x = 88.5f < x ? 88.5f : x;
    int32_t k = (int32_t)(x * 1.44269504f + 127.5f); /* rounded exponent, biased by 127 */
    float whole = (float)k - 127.0f;
    float r = x - whole * 0.693359375f; /* ln 2 in two parts: the first product is exact */
    r = r + whole * 2.12194440e-4f;
    float p = 0.00139338835f;
    p = p * r + 0.0083633356f;
    p = p * r + 0.0416664628f;
    p = p * r + 0.16666576f;
    p = p * r + 0.500000001f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    scale.bits = (int32_t)((uint32_t)k << 23);
    return p * scale.value;
}

/* softplus(x) and its derivative, the sigmoid:
 * max(x, 0) + log1p(w), w = exp(-|x|); log1p(w) = 2 atanh(s), s = w / (2 + w).
 * Above 20 this is x to the last bit, which is where torch switches to the linear branch. */
SCAN_INLINE float FN(softplus)(float x, float *slope)
{
    float w = FN(exp)(x > 0.0f ? -x : x);
    float inverse = 1.0f / ((1.0f + w) * (2.0f + w)); /* one division for both quotients */
    float s = w * (1.0f + w) * inverse;
    float v = s * s;
    float p = 0.116195257f;
    p = p * v + 0.108516574f;
    p = p * v + 0.142962917f;
    p = p * v + 0.199998507f;
    p = p * v + 0.333333337f;
    p = p * v + 1.0f;
    *slope = (x > 0.0f ? 1.0f : w) * (2.0f + w) * inverse;
    return (x < 0.0f ? 0.0f : x) + 2.0f * s * p;
}

SCAN_INLINE float FN(sigmoid)(float x)
{
    float w = FN(exp)(x > 0.0f ? -x : x);
    return (x > 0.0f ? 1.0f : w) / (1.0f + w);
}
