// SPDX-License-Identifier: MIT
// What the norms of rows, of groups of columns and of heads share (private to kernels/cuda): sums over a warp
// and over a block, and the formula of each kind (enum device_norm_kind), for one number.
#ifndef STRATA_KERNELS_CUDA_NORM_H
#define STRATA_KERNELS_CUDA_NORM_H

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

// A norm as kernels take it.
template <typename T> struct norm_of {
    enum device_norm_kind kind;
    float epsilon;
    const T *weight; // NULL: none
    const T *bias;   // likewise
};

static __host__ __device__ __forceinline__ bool norm_has_mean(enum device_norm_kind kind) {
    return kind == DEVICE_NORM_LAYER || kind == DEVICE_NORM_LAYER_PLUS_ONE;
}

template <typename T> static inline norm_of<T> norm_for(const struct device_norm *norm) {
    const norm_of<T> out = {norm->kind, norm->epsilon, (const T *)norm->weight,
                            norm_has_mean(norm->kind) ? (const T *)norm->bias : NULL};
    return out;
}

// The sum over a warp, the same in every lane: lanes by halving.
static __device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(ALL_LANES, x, step);
    }
    return x;
}

// The sum over the block, the same in every thread: lanes by halving, then warps alike. `partial` is
// shared.
static __device__ __forceinline__ float block_sum(float x, float *partial) {
    unsigned lane = threadIdx.x % WARP;
    x = warp_sum(x);
    if (lane == 0) {
        partial[threadIdx.x / WARP] = x;
    }
    __syncthreads();
    x = lane < blockDim.x / WARP ? partial[lane] : 0.0f;
    return warp_sum(x);
}

// square: the sum of (x - mean)^2 over n numbers.
static __device__ __forceinline__ float norm_inverse(float square, size_t n, float epsilon) {
    return 1.0f / sqrtf(square / (float)n + epsilon);
}

// Numbers [i, i + N) of a row of n normalised; of the kinds without a mean `mean` is 0. Not yet rounded
// last.
template <typename T, int N>
static __device__ __forceinline__ void norm_numbers(float (&x)[N], const norm_of<T> &norm, float mean,
                                                    float inverse, size_t i, size_t n, bool wide) {
    float weight[N];
    float bias[N];
    if (norm_has_mean(norm.kind)) {
#pragma unroll
        for (int e = 0; e < N; e++) {
            x[e] -= mean;
        }
    }
#pragma unroll
    for (int e = 0; e < N; e++) {
        x[e] *= inverse;
    }
    if (norm.weight != NULL) {
        group_load(weight, norm.weight, i, n, wide);
#pragma unroll
        for (int e = 0; e < N; e++) {
            float of_norm = norm.kind == DEVICE_NORM_RMS ? rounded<T>(x[e]) : x[e];
            float factor = norm.kind == DEVICE_NORM_RMS_PLUS_ONE ? 1.0f + weight[e] : weight[e];
            x[e] =
                of_norm * (norm.kind == DEVICE_NORM_LAYER_PLUS_ONE ? rounded<T>(1.0f + weight[e]) : factor);
        }
    }
    if (norm.bias != NULL) {
        group_load(bias, norm.bias, i, n, wide);
#pragma unroll
        for (int e = 0; e < N; e++) {
            x[e] += bias[e];
        }
    }
}

#endif
