/* exp, softplus and sigmoid of VEC numbers as polynomials: no branch, no call, no table. */

/* p 2^whole where shifted = whole + POWER_SHIFT, a sum that rounds to whole numbers: 1.5 2^23,
 * and the bias of the exponent. Too small a result is 0, denormals would be slow. */
#define POWER_SHIFT (12582912.0f + 127.0f)

/* 2^x, relative error 1e-7, and 1 where x is 0; x is delta A / ln 2, in a network at most 0. */
SCAN_INLINE FN(vec) FN(exp2)(FN(vec) x)
{
#if VEC == 16
    FN(vec) whole = (FN(vec))_mm512_roundscale_ps((__m512)x, 8); /* to nearest, silently */
#else
    x = FN(at_most)(FN(at_least)(x, -127.0f), 128.0f);
    FN(vec) shifted = x + POWER_SHIFT;
    FN(vec) whole = shifted - POWER_SHIFT;
#endif
    FN(vec) r = x - whole;
    FN(vec) p = r * 0.000153533721f + 0.00133988808f;
    p = p * r + 0.00961843692f;
    p = p * r + 0.0555033237f;
    p = p * r + 0.240226477f;
    p = p * r + 0.693147182f;
    p = p * r + 1.0f;
#if VEC == 16
    return (FN(vec))_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
    return p * FN(power_of_two)(shifted);
#endif
}

/* exp(x) for x <= 0, relative error 1e-7; exactly 0 below -87.7. */
SCAN_INLINE FN(vec) FN(exp_down)(FN(vec) x)
{
    x = FN(at_least)(x, -88.0f);
    FN(vec) shifted = x * 1.44269504f + POWER_SHIFT;
    FN(vec) whole = shifted - POWER_SHIFT;
    FN(vec) r = x - whole * 0.693359375f; /* ln 2 in two parts: the first product is exact */
    r = r + whole * 2.12194440e-4f;
    FN(vec) p = r * 0.00139338835f + 0.0083633356f;
    p = p * r + 0.0416664628f;
    p = p * r + 0.16666576f;
    p = p * r + 0.500000001f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * FN(power_of_two)(shifted);
}

/* 1 / x to the last bit but one, for x neither huge nor tiny. */
SCAN_INLINE FN(vec) FN(inverse)(FN(vec) x)
{
#if VEC == 16
    FN(vec) guess = (FN(vec))_mm512_rcp14_ps((__m512)x);
    return guess + guess * (1.0f - x * guess); /* one step of Newton doubles its 14 bits */
#else
    return 1.0f / x;
#endif
}

/* softplus(x) and its derivative, the sigmoid:
 * max(x, 0) + log1p(w), w = exp(-|x|); log1p(w) = 2 atanh(s), s = w / (2 + w).
 * Above 20 this is x to the last bit, which is where torch switches to the linear branch. */
SCAN_INLINE FN(vec) FN(softplus)(FN(vec) x, FN(vec) *slope)
{
    FN(vec) size = FN(magnitude)(x);
    FN(vec) w = FN(exp_down)(FN(zero)() - size);
    FN(vec) one = w + 1.0f, two = w + 2.0f;
    FN(vec) inverse = FN(inverse)(one * two); /* one division for both quotients */
    FN(vec) s = w * one * inverse;
    FN(vec) v = s * s;
    FN(vec) p = v * 0.116195257f + 0.108516574f;
    p = p * v + 0.142962917f;
    p = p * v + 0.199998507f;
    p = p * v + 0.333333337f;
    p = p * v + 1.0f;
    *slope = FN(where_positive)(x, FN(zero)() + 1.0f, w) * (two * inverse);
    return (x + size) * 0.5f + (s + s) * p;
}

SCAN_INLINE FN(vec) FN(sigmoid)(FN(vec) x)
{
    FN(vec) w = FN(exp_down)(FN(zero)() - FN(magnitude)(x));
    return FN(where_positive)(x, FN(zero)() + 1.0f, w) / (w + 1.0f);
}
