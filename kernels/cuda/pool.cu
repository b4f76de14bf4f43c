// SPDX-License-Identifier: MIT
// Pooling: the mean of a span's tokens, in token order, rounded to the format of the output. A thread sums
// eight columns, so that a row's columns are spread over blocks; what cannot be stored is counted by integer
// atomics.
#include <math.h>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"

enum { POOL_THREADS = 128, POOL_COLUMNS = POOL_THREADS * CHUNK };

static const float F16_LARGEST = 65504.0f;
static const float F16_OVERFLOW = 65520.0f; // from here on rounding to nearest gives infinity

// Brings a number into the output format's range: only float16's is smaller than float32's.
template <typename OUT> static __device__ __forceinline__ float ranged(float x, unsigned *) {
    return x;
}

template <> __device__ __forceinline__ float ranged<f16>(float x, unsigned *overflowed) {
    if (!(fabsf(x) > F16_LARGEST) || isinf(x)) {
        return x;
    }
    *overflowed += fabsf(x) >= F16_OVERFLOW;
    return copysignf(F16_LARGEST, x);
}

template <typename OUT, typename T, bool WIDE>
static __global__ void __launch_bounds__(POOL_THREADS)
    pool_kernel(OUT *out, struct device_row_check *checks, const T *x, const struct device_span *spans,
                size_t hidden, unsigned pieces) {
    size_t row = blockIdx.x / pieces;
    size_t i = (blockIdx.x % pieces) * (size_t)POOL_COLUMNS + threadIdx.x * (size_t)CHUNK;
    if (i >= hidden) {
        return;
    }
    struct device_span span = spans[row];
    float sum[CHUNK] = {0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll 4
    for (int32_t t = span.start; t < span.end; t++) {
        float more[CHUNK];
        group_load(more, x + (size_t)t * hidden, i, hidden, WIDE);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            sum[e] += more[e];
        }
    }
    unsigned not_finite = 0;
    unsigned overflowed = 0;
#pragma unroll
    for (int e = 0; e < CHUNK; e++) { // columns beyond the row are 0
        sum[e] /= (float)(span.end - span.start);
        not_finite += !isfinite(sum[e]);
        sum[e] = ranged<OUT>(sum[e], &overflowed);
    }
    if (not_finite > 0) {
        atomicAdd(&checks[row].not_finite, not_finite);
    }
    if (overflowed > 0) {
        atomicAdd(&checks[row].overflowed, overflowed);
    }
    group_store(out + row * hidden, i, hidden, sum, WIDE);
}

template <typename OUT, typename T>
static cudaError_t pool(cudaStream_t stream, OUT *out, struct device_row_check *checks, const T *x,
                        const struct device_span *spans, size_t rows, size_t hidden) {
    bool wide = rows_wide<OUT, CHUNK>(out, hidden) && rows_wide<T, CHUNK>(x, hidden);
    size_t pieces = (hidden + POOL_COLUMNS - 1) / POOL_COLUMNS;
    if (rows > INT32_MAX / pieces) {
        return cudaErrorInvalidValue;
    }
    cudaError_t result = cudaMemsetAsync(checks, 0, rows * sizeof *checks, stream);
    if (result != cudaSuccess) {
        return result;
    }
    auto kernel = wide ? pool_kernel<OUT, T, true> : pool_kernel<OUT, T, false>;
    return LAUNCH(kernel, dim3((unsigned)(rows * pieces)), dim3(POOL_THREADS), 0, stream, out, checks, x,
                  spans, hidden, (unsigned)pieces);
}

extern "C" cudaError_t launch_pool(cudaStream_t stream, enum dtype dtype, void *out, enum dtype out_dtype,
                                   struct device_row_check *checks, const void *x,
                                   const struct device_span *spans, size_t rows, size_t hidden) {
    return with_number(dtype, [&](auto number) {
        return with_number(out_dtype, [&](auto out_number) {
            return pool(stream, (decltype(out_number) *)out, checks, (const decltype(number) *)x, spans, rows,
                        hidden);
        });
    });
}
