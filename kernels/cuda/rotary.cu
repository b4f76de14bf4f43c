// QK-norm and rotary positions, in place on q | k | v: a block a token, a few lanes a head.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum {
    ROTARY_THREADS = 128,
    PAIRS = 4, // numbers i ... i + 3 of the left half and their partners: what a lane turns
    HEAD_DIM_MOST = 2 * PAIRS * WARP,
};

template <typename T, bool WIDE>
static __device__ __forceinline__ void normalise(float (&x)[PAIRS], float inverse, const T *norm, size_t i,
                                                 size_t n) {
    float weight[PAIRS];
    group_load(weight, norm, i, n, WIDE);
#pragma unroll
    for (int e = 0; e < PAIRS; e++) {
        x[e] = rounded<T>(rounded<T>(x[e] * inverse) * weight[e]);
    }
}

// `lanes`, a power of two, share a head. Their sum of squares has an order that depends on head_dim alone:
// left numbers, right numbers, then lanes by halving.
template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROTARY_THREADS)
    rotary_kernel(T *qkv, const T *q_norm, const T *k_norm, float epsilon, const float *cosine,
                  const float *sine, const int32_t *rope_row, struct device_heads heads, unsigned lanes) {
    size_t half = heads.head_dim / 2;
    size_t turned = heads.heads + heads.kv_heads;
    size_t i = (threadIdx.x & (lanes - 1)) * (size_t)PAIRS;
    size_t groups = blockDim.x / lanes;
    T *token = qkv + (size_t)blockIdx.x * (turned + heads.kv_heads) * heads.head_dim;
    size_t angles = (size_t)rope_row[blockIdx.x] * half;
    float c[PAIRS];
    float s[PAIRS];
    group_load(c, cosine + angles, i, half, WIDE);
    group_load(s, sine + angles, i, half, WIDE);
#pragma unroll
    for (int e = 0; e < PAIRS; e++) {
        c[e] = rounded<T>(c[e]);
        s[e] = rounded<T>(s[e]);
    }
    for (size_t first = 0; first < turned; first += groups) { // a warp's groups go through it together
        size_t h = first + threadIdx.x / lanes;
        bool there = h < turned && i < half;
        T *left = token + (there ? h : 0) * heads.head_dim;
        float a[PAIRS];
        float b[PAIRS];
        group_load(a, left, i, there ? half : 0, WIDE);
        group_load(b, left + half, i, there ? half : 0, WIDE);
        if (q_norm != NULL) {
            float square = 0;
#pragma unroll
            for (int e = 0; e < PAIRS; e++) {
                square = fmaf(a[e], a[e], square);
            }
#pragma unroll
            for (int e = 0; e < PAIRS; e++) {
                square = fmaf(b[e], b[e], square);
            }
            for (unsigned step = lanes / 2; step > 0; step /= 2) {
                square += __shfl_xor_sync(ALL_LANES, square, (int)step);
            }
            float inverse = 1.0f / sqrtf(square / (float)heads.head_dim + epsilon);
            const T *norm = h < heads.heads ? q_norm : k_norm;
            normalise<T, WIDE>(a, inverse, norm, i, half);
            normalise<T, WIDE>(b, inverse, norm + half, i, half);
        }
        if (there) {
            float a_turned[PAIRS];
            float b_turned[PAIRS];
#pragma unroll
            for (int e = 0; e < PAIRS; e++) {
                a_turned[e] = rounded<T>(a[e] * c[e]) - rounded<T>(b[e] * s[e]);
                b_turned[e] = rounded<T>(b[e] * c[e]) + rounded<T>(a[e] * s[e]);
            }
            group_store(left, i, half, a_turned, WIDE);
            group_store(left + half, i, half, b_turned, WIDE);
        }
    }
}

template <typename T>
static cudaError_t rotary(cudaStream_t stream, T *qkv, const T *q_norm, const T *k_norm, float epsilon,
                          const float *cosine, const float *sine, const int32_t *rope_row,
                          struct device_heads heads, size_t tokens) {
    size_t half = heads.head_dim / 2;
    bool wide = rows_wide<T, PAIRS>(qkv, half) && rows_wide<float, PAIRS>(cosine, half) &&
                rows_wide<float, PAIRS>(sine, half) && rows_wide<T, PAIRS>(q_norm, half) &&
                rows_wide<T, PAIRS>(k_norm, half);
    unsigned lanes = 1;
    while (lanes * PAIRS < half) {
        lanes *= 2;
    }
    auto kernel = wide ? rotary_kernel<T, true> : rotary_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROTARY_THREADS), 0, stream, qkv, q_norm, k_norm,
                  epsilon, cosine, sine, rope_row, heads, lanes);
}

extern "C" cudaError_t launch_qk_norm_rope(cudaStream_t stream, enum dtype dtype, void *qkv,
                                           const void *q_norm, const void *k_norm, float epsilon,
                                           const float *cosine, const float *sine, const int32_t *rope_row,
                                           struct device_heads heads, size_t tokens) {
    if (tokens > INT32_MAX || heads.head_dim > HEAD_DIM_MOST || heads.head_dim % 2 != 0) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return rotary(stream, (T *)qkv, (const T *)q_norm, (const T *)k_norm, epsilon, cosine, sine, rope_row,
                      heads, tokens);
    });
}
