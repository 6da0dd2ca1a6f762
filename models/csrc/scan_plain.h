/* VEC floats as a C++ class, for compilers without gcc's vector types: loops of fixed length. */

template <int N> struct scan_plain {
    float x[N];
};

#define SCAN_PLAIN_OPERATOR(op)                                                                    \
    template <int N> SCAN_INLINE scan_plain<N> operator op(scan_plain<N> a, scan_plain<N> b)       \
    {                                                                                              \
        for (int i = 0; i < N; i++)                                                                \
            a.x[i] = a.x[i] op b.x[i];                                                             \
        return a;                                                                                  \
    }                                                                                              \
    template <int N> SCAN_INLINE scan_plain<N> operator op(scan_plain<N> a, float b)               \
    {                                                                                              \
        for (int i = 0; i < N; i++)                                                                \
            a.x[i] = a.x[i] op b;                                                                  \
        return a;                                                                                  \
    }                                                                                              \
    template <int N> SCAN_INLINE scan_plain<N> operator op(float a, scan_plain<N> b)               \
    {                                                                                              \
        for (int i = 0; i < N; i++)                                                                \
            b.x[i] = a op b.x[i];                                                                  \
        return b;                                                                                  \
    }
SCAN_PLAIN_OPERATOR(+)
SCAN_PLAIN_OPERATOR(-)
SCAN_PLAIN_OPERATOR(*)
SCAN_PLAIN_OPERATOR(/)

template <int N> SCAN_INLINE scan_plain<N> &operator+=(scan_plain<N> &a, scan_plain<N> b)
{
    a = a + b;
    return a;
}

template <int N> SCAN_INLINE scan_plain<N> plain_magnitude(scan_plain<N> a)
{
    for (int i = 0; i < N; i++)
        a.x[i] = a.x[i] < 0.0f ? -a.x[i] : a.x[i];
    return a;
}

template <int N>
SCAN_INLINE scan_plain<N> plain_where_positive(scan_plain<N> a, scan_plain<N> yes, scan_plain<N> no)
{
    for (int i = 0; i < N; i++)
        a.x[i] = a.x[i] > 0.0f ? yes.x[i] : no.x[i];
    return a;
}

template <int N> SCAN_INLINE scan_plain<N> plain_at_least(scan_plain<N> a, float low)
{
    for (int i = 0; i < N; i++)
        a.x[i] = low > a.x[i] ? low : a.x[i];
    return a;
}

template <int N> SCAN_INLINE scan_plain<N> plain_at_most(scan_plain<N> a, float high)
{
    for (int i = 0; i < N; i++)
        a.x[i] = high < a.x[i] ? high : a.x[i];
    return a;
}

template <int N> SCAN_INLINE scan_plain<N> plain_power_of_two(scan_plain<N> shifted)
{
    int32_t bits[N];
    memcpy(bits, &shifted, sizeof bits);
    for (int i = 0; i < N; i++)
        bits[i] = (int32_t)((uint32_t)bits[i] << 23);
    memcpy(&shifted, bits, sizeof bits);
    return shifted;
}

template <int N> SCAN_INLINE scan_plain<N> plain_add_pairs(scan_plain<N> a, scan_plain<N> b)
{
    scan_plain<N> sums;
    for (int i = 0; i < N / 2; i++) {
        sums.x[i] = a.x[2 * i] + a.x[2 * i + 1];
        sums.x[N / 2 + i] = b.x[2 * i] + b.x[2 * i + 1];
    }
    return sums;
}
