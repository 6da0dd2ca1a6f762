/* VEC channels at once: the vector type of gcc and clang, which they lower to any machine.
 *
 * Included once per instruction set. Other compilers (MSVC) read the same code as C++, with the
 * loops of scan_plain.h behind the operators.
 */

#ifdef SCAN_PLAIN
typedef scan_plain<VEC> FN(vec);
#else
typedef float FN(vec) __attribute__((vector_size(4 * VEC)));
typedef int32_t FN(ivec) __attribute__((vector_size(4 * VEC)));
#endif

SCAN_INLINE FN(vec) FN(get)(const float *from)
{
    FN(vec) x;
    memcpy(&x, from, sizeof x);
    return x;
}

SCAN_INLINE void FN(put)(float *to, FN(vec) x)
{
    memcpy(to, &x, sizeof x);
}

SCAN_INLINE FN(vec) FN(zero)(void)
{
    FN(vec) x;
    memset(&x, 0, sizeof x);
    return x;
}

#ifndef SCAN_PLAIN

SCAN_INLINE FN(vec) FN(magnitude)(FN(vec) x)
{
    return (FN(vec))((FN(ivec))x & 0x7fffffff);
}

/* x > 0 ? yes : no */
SCAN_INLINE FN(vec) FN(where_positive)(FN(vec) x, FN(vec) yes, FN(vec) no)
{
#if VEC == 16
    __mmask16 mask = _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_GT_OQ);
    return (FN(vec))_mm512_mask_blend_ps(mask, (__m512)no, (__m512)yes);
#else
    FN(ivec) mask = (FN(ivec))(x > FN(zero)());
    return (FN(vec))((mask & (FN(ivec))yes) | (~mask & (FN(ivec))no));
#endif
}

/* The larger and the smaller; a NaN in x stays one. */
SCAN_INLINE FN(vec) FN(at_least)(FN(vec) x, float low)
{
#if VEC == 16
    return (FN(vec))_mm512_max_ps(_mm512_set1_ps(low), (__m512)x);
#elif VEC == 8
    return (FN(vec))_mm256_max_ps(_mm256_set1_ps(low), (__m256)x);
#elif defined(__SSE__)
    return (FN(vec))_mm_max_ps(_mm_set1_ps(low), (__m128)x);
#else
    FN(ivec) mask = (FN(ivec))(x < FN(zero)() + low);
    return (FN(vec))((mask & (FN(ivec))(FN(zero)() + low)) | (~mask & (FN(ivec))x));
#endif
}

SCAN_INLINE FN(vec) FN(at_most)(FN(vec) x, float high)
{
#if VEC == 16
    return (FN(vec))_mm512_min_ps(_mm512_set1_ps(high), (__m512)x);
#elif VEC == 8
    return (FN(vec))_mm256_min_ps(_mm256_set1_ps(high), (__m256)x);
#elif defined(__SSE__)
    return (FN(vec))_mm_min_ps(_mm_set1_ps(high), (__m128)x);
#else
    FN(ivec) mask = (FN(ivec))(x > FN(zero)() + high);
    return (FN(vec))((mask & (FN(ivec))(FN(zero)() + high)) | (~mask & (FN(ivec))x));
#endif
}

/* 2^(k - 127), k the lowest bits of the float `shifted` */
SCAN_INLINE FN(vec) FN(power_of_two)(FN(vec) shifted)
{
    return (FN(vec))((FN(ivec))shifted << 23);
}

/* Numbers 0, 2, 4 ... or 1, 3, 5 ... of a and b, one behind the other */
#if VEC == 16
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif VEC == 8
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15
#else
#define EVENS 0, 2, 4, 6
#define ODDS 1, 3, 5, 7
#endif
SCAN_INLINE FN(vec) FN(add_pairs)(FN(vec) a, FN(vec) b)
{
#ifdef __clang__
    return __builtin_shufflevector(a, b, EVENS) + __builtin_shufflevector(a, b, ODDS);
#else
    return __builtin_shuffle(a, b, (FN(ivec)){EVENS}) + __builtin_shuffle(a, b, (FN(ivec)){ODDS});
#endif
}
#undef EVENS
#undef ODDS

#else /* the plain loops of scan_plain.h */
SCAN_INLINE FN(vec) FN(magnitude)(FN(vec) x) { return plain_magnitude(x); }
SCAN_INLINE FN(vec) FN(where_positive)(FN(vec) x, FN(vec) yes, FN(vec) no)
{
    return plain_where_positive(x, yes, no);
}
SCAN_INLINE FN(vec) FN(at_least)(FN(vec) x, float low) { return plain_at_least(x, low); }
SCAN_INLINE FN(vec) FN(at_most)(FN(vec) x, float high) { return plain_at_most(x, high); }
SCAN_INLINE FN(vec) FN(power_of_two)(FN(vec) shifted) { return plain_power_of_two(shifted); }
SCAN_INLINE FN(vec) FN(add_pairs)(FN(vec) a, FN(vec) b) { return plain_add_pairs(a, b); }
#endif
