/* The selective scan on a CPU, forward and backward, called through ctypes.
 *
 *     delta' = softplus(delta + bias),  h_t = exp(delta' A) h_{t-1} + delta' B_t u_t
 *     y_t = sum_n C_t h_t + D u_t,  y *= silu(z)
 *
 * Symbols: b batch, d channels, l steps, n states, g groups that share B and C.
 * No array of (l, d, n) exists: a task walks its channels in tiles of STEPS steps and keeps one
 * state per tile for the backward, which replays the tile from there.
 * The kernel is compiled for AVX-512, AVX2 and the baseline, and chosen when it is called. What it
 * does for VEC channels at a time stays in registers over four or more steps.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef LANES
#define LANES 32 /* channels of a block */
#endif
#define STEPS 32
#define MAX_STATES 64
#define MAX_RANK 256 /* a multiple of 16 */
#define ROWS (STEPS + 1) /* the odd row keeps equal steps of two arrays out of one cache set */

/* MSVC has no vector types: setup.py gives it this file as C++, see scan_plain.h. */
#if defined(_MSC_VER) && !defined(__clang__)
#define SCAN_PLAIN 1
#define SCAN_INLINE static __forceinline
#define restrict __restrict
#else
#define SCAN_INLINE static inline __attribute__((always_inline))
#ifdef SCAN_PLAIN
#define restrict __restrict
#endif
#endif

#ifdef _WIN32
#define SCAN_VISIBLE __declspec(dllexport)
#else
#define SCAN_VISIBLE __attribute__((visibility("default")))
#endif
#ifdef __cplusplus
#define SCAN_EXPORT extern "C" SCAN_VISIBLE
#else
#define SCAN_EXPORT SCAN_VISIBLE
#endif

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__) && !defined(SCAN_PLAIN)
#define SCAN_X86_TARGETS 1
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif

/* Mirrored field by field in selective_scan_c.py. A null pointer is an absent argument. */
struct scan_args {
    int64_t b, d, l, n, g, softplus;
    int64_t height, width, rank; /* of the 2-D core alone */
    const float *u, *delta, *A, *B, *C, *D, *z, *bias, *dy, *weight;
    float *states, *y;
    float *du, *ddelta, *dA, *dB, *dC, *dD, *dz, *dbias, *dweight;
};

/* One (batch, channel block): its number, first channel, first row of (b, d), row of (b, g). */
struct scan_task {
    int64_t index, channel, row, group, tiles;
    int lanes;
};

/* Where a task of the 2-D core stands: its channels, its direction, the pixels of its tile. */
struct scan_path {
    int64_t batch, first, direction, pixel[STEPS];
    int lanes, steps;
};

/* Working memory of one task: what stays in the first and second cache. */
struct scan_tile {
    float delta[ROWS][LANES], slope[ROWS][LANES], u[ROWS][LANES];
    float y[ROWS][LANES], dy[ROWS][LANES], du[ROWS][LANES], z[ROWS][LANES];
    float decay[ROWS][LANES], trail[ROWS][LANES];
    float ddelta[ROWS][LANES], ddrive[ROWS][LANES];
    float D[LANES], bias[LANES], dD[LANES], dbias[LANES];
    float A[MAX_STATES][LANES], A2[MAX_STATES][LANES], h[MAX_STATES][LANES];
    float g[MAX_STATES][LANES], dA[MAX_STATES][LANES];
    float B[STEPS][MAX_STATES], C[STEPS][MAX_STATES], dB[STEPS][MAX_STATES], dC[STEPS][MAX_STATES];
    float parts_B[STEPS][16], parts_C[STEPS][16];
    /* of the 2-D core alone */
    float weight[MAX_RANK][LANES], dweight[MAX_RANK][LANES], by_rank[LANES * MAX_RANK];
    float dlow[STEPS][MAX_RANK];
    /* where the rows of a step lie: in the arrays above, or in the caller's */
    const float *u_at[STEPS], *dy_at[STEPS], *low_at[STEPS], *B_at[STEPS], *C_at[STEPS];
    float *y_at[STEPS], *du_at[STEPS], *dB_at[STEPS], *dC_at[STEPS];
};

#ifdef SCAN_PLAIN
#include "scan_plain.h"
#endif
#include "scan_transpose.h"

static struct scan_path path_of(const struct scan_task *q)
{
    struct scan_path p;
    memset(&p, 0, sizeof p);
    p.batch = q->group; /* one group here */
    p.first = q->channel;
    p.lanes = q->lanes;
    return p;
}

/* Directions: 0 row by row, 1 column by column, 2 and 3 the same backwards. */
static void path_at(struct scan_path *p, const struct scan_args *a, int64_t tile)
{
    int64_t start = tile * STEPS, turn = p->direction < 2 ? 1 : -1;
    p->steps = (int)(a->l - start < STEPS ? a->l - start : STEPS);
    int64_t step = p->direction < 2 ? start : a->l - 1 - start;
    if (p->direction % 2 == 0) {
        for (int t = 0; t < p->steps; t++)
            p->pixel[t] = step + turn * t;
        return;
    }
    int64_t i = step % a->height, j = step / a->height; /* row and column; no division a step */
    for (int t = 0; t < p->steps; t++) {
        p->pixel[t] = i * a->width + j;
        i += turn;
        if (i == a->height || i < 0) {
            i = turn > 0 ? 0 : a->height - 1;
            j += turn;
        }
    }
}

#define JOIN_(name, set) name##_##set
#define JOIN(name, set) JOIN_(name, set)
#define FN(name) JOIN(name, SET)

#define SET base
#define VEC 4 /* channels of a vector */
#define PACK 2 /* vectors that are swept together */
#include "scan_kernels.h"
#undef SET
#undef VEC
#undef PACK

#ifdef SCAN_X86_TARGETS
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define SET avx2
#define VEC 8
#define PACK 2
#include "scan_kernels.h"
#undef SET
#undef VEC
#undef PACK
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(                                                                      \
    __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512")
#endif
#define SET avx512
#define VEC 16
#define PACK 2
#include "scan_kernels.h"
#undef SET
#undef VEC
#undef PACK
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

/* States that die out become denormals, a hundred times slower: flush them, and put back the
 * caller's mode afterwards. */
static uint64_t flush_denormals(void)
{
#if defined(__x86_64__) || defined(_M_X64)
    unsigned int before = _mm_getcsr();
    _mm_setcsr(before | 0x8040u);
    return before;
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (UINT64_C(1) << 24)));
    return before;
#else
    return 0;
#endif
}

static void restore_mode(uint64_t before)
{
#if defined(__x86_64__) || defined(_M_X64)
    _mm_setcsr((unsigned int)before);
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

static int64_t blocks_of(const struct scan_args *a)
{
    return (a->d / a->g + LANES - 1) / LANES;
}

static struct scan_task task_at(const struct scan_args *a, int64_t index)
{
    struct scan_task q;
    int64_t width = a->d / a->g, blocks = blocks_of(a);
    int64_t group = index / blocks % a->g, first = index % blocks * LANES;
    q.index = index;
    q.group = index / blocks; /* row of (b, g) */
    q.channel = group * width + first;
    q.row = q.group / a->g * a->d + q.channel;
    q.lanes = (int)(width - first < LANES ? width - first : LANES);
    q.tiles = (a->l + STEPS - 1) / STEPS;
    return q;
}

typedef void scan_kernel(struct scan_tile *, const struct scan_args *, const struct scan_task *);

enum { SET_BASE, SET_AVX2, SET_AVX512 };

SCAN_EXPORT int napari_activeft_best_set(void)
{
#ifdef SCAN_X86_TARGETS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        return SET_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return SET_AVX2;
#endif
    return SET_BASE;
}

static int run(scan_kernel *const kernels[3], const struct scan_args *a, int64_t begin, int64_t end,
               int set)
{
    char *memory = (char *)malloc(sizeof(struct scan_tile) + 64);
    if (!memory)
        return 1;
    struct scan_tile *k = (struct scan_tile *)(memory + 64 - (uintptr_t)memory % 64);
    uint64_t mode = flush_denormals();
    for (int64_t index = begin; index < end; index++) {
        struct scan_task task = task_at(a, index);
        kernels[set](k, a, &task);
    }
    restore_mode(mode);
    free(memory);
    return 0;
}

#ifdef SCAN_X86_TARGETS
#define KERNELS(name) {name##_base, name##_avx2, name##_avx512}
#else
#define KERNELS(name) {name##_base, name##_base, name##_base}
#endif
static scan_kernel *const FORWARD[3] = KERNELS(forward_task);
static scan_kernel *const BACKWARD[3] = KERNELS(backward_task);
static scan_kernel *const SS2D_FORWARD[3] = KERNELS(ss2d_forward_task);
static scan_kernel *const SS2D_BACKWARD[3] = KERNELS(ss2d_backward_task);

/* Tasks begin..end-1 of the forward; 0, or 1 where memory is short. */
SCAN_EXPORT int napari_activeft_scan_forward(const struct scan_args *a, int64_t begin, int64_t end,
                                             int set)
{
    return run(FORWARD, a, begin, end, set);
}

/* Tasks begin..end-1 of the backward; 0, or 1 where memory is short. */
SCAN_EXPORT int napari_activeft_scan_backward(const struct scan_args *a, int64_t begin,
                                              int64_t end, int set)
{
    return run(BACKWARD, a, begin, end, set);
}

/* The same for the 2-D core. */
SCAN_EXPORT int napari_activeft_ss2d_forward(const struct scan_args *a, int64_t begin, int64_t end,
                                             int set)
{
    return run(SS2D_FORWARD, a, begin, end, set);
}

SCAN_EXPORT int napari_activeft_ss2d_backward(const struct scan_args *a, int64_t begin,
                                              int64_t end, int set)
{
    return run(SS2D_BACKWARD, a, begin, end, set);
}

SCAN_EXPORT int napari_activeft_lanes(void)
{
    return LANES;
}
