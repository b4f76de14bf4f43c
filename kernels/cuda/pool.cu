// SPDX-License-Identifier: MIT
// Pooling: the mean of a span's tokens, in token order, rounded to the format of the output. A thread sums
// eight columns, so that a row's columns are spread over blocks; what cannot be stored is counted by integer
// atomics.
#include <math.h>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/texts.h"

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

// Adds rows of x, from number i on.
template <bool WIDE, typename T>
static __device__ __forceinline__ void add_rows(float (&sum)[CHUNK], const T *x, int32_t first, int32_t end,
                                                size_t i, size_t hidden) {
#pragma unroll 4
    for (int32_t t = first; t < end; t++) {
        float more[CHUNK];
        group_load(more, x + (size_t)t * hidden, i, hidden, WIDE);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            sum[e] += more[e];
        }
    }
}

// What a span's rows are of: those of x alone, or those that texts go on from as well.
struct pool_plain {};

template <typename T> struct pool_origins {
    const struct device_origin *origins;
    const int32_t *starts;
    unsigned texts;
    const T *head;
    int32_t head_tokens;
};

template <bool WIDE, typename T>
static __device__ __forceinline__ void add_span(float (&sum)[CHUNK], const T *x, struct device_span span,
                                                const pool_plain &, size_t i, size_t hidden) {
    add_rows<WIDE>(sum, x, span.start, span.end, i, hidden);
}

template <bool WIDE, typename T>
static __device__ __forceinline__ void add_span(float (&sum)[CHUNK], const T *x, struct device_span span,
                                                const pool_origins<T> &from, size_t i, size_t hidden) {
    if (span.end <= 0) {
        add_rows<WIDE>(sum, from.head, from.head_tokens + span.start, from.head_tokens + span.end, i, hidden);
        return;
    }
    const int32_t text = (int32_t)text_of(from.starts, from.texts, span.end - 1);
    const int32_t ahead = from.origins[text].before - from.starts[text]; // a token's place in its text
    const int32_t end = span.end + ahead;
    for (int32_t token = span.start + ahead; token < end;) {
        const text_place place = text_place_of(from.origins, from.starts, text, token);
        const int32_t until = min(place.until, end);
        add_rows<WIDE>(sum, place.text == DEVICE_HEAD ? from.head : x, place.row, place.row + until - token,
                       i, hidden);
        token = until;
    }
}

template <typename OUT, typename T, bool WIDE, typename ORIGINS>
static __global__ void __launch_bounds__(POOL_THREADS)
    pool_kernel(OUT *out, struct device_row_check *checks, const T *x, const struct device_span *spans,
                size_t hidden, unsigned pieces, ORIGINS origins) {
    size_t row = blockIdx.x / pieces;
    size_t i = (blockIdx.x % pieces) * (size_t)POOL_COLUMNS + threadIdx.x * (size_t)CHUNK;
    if (i >= hidden) {
        return;
    }
    struct device_span span = spans[row];
    float sum[CHUNK] = {0, 0, 0, 0, 0, 0, 0, 0};
    add_span<WIDE>(sum, x, span, origins, i, hidden);
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

template <typename OUT, typename T, typename ORIGINS>
static cudaError_t pool(cudaStream_t stream, OUT *out, struct device_row_check *checks, const T *x,
                        const struct device_span *spans, size_t rows, size_t hidden, const T *head,
                        const ORIGINS &origins) {
    bool wide = rows_wide<OUT, CHUNK>(out, hidden) && rows_wide<T, CHUNK>(x, hidden) &&
                rows_wide<T, CHUNK>(head, hidden);
    size_t pieces = (hidden + POOL_COLUMNS - 1) / POOL_COLUMNS;
    if (rows > INT32_MAX / pieces) {
        return cudaErrorInvalidValue;
    }
    cudaError_t result = cudaMemsetAsync(checks, 0, rows * sizeof *checks, stream);
    if (result != cudaSuccess) {
        return result;
    }
    auto kernel = wide ? pool_kernel<OUT, T, true, ORIGINS> : pool_kernel<OUT, T, false, ORIGINS>;
    return LAUNCH(kernel, dim3((unsigned)(rows * pieces)), dim3(POOL_THREADS), 0, stream, out, checks, x,
                  spans, hidden, (unsigned)pieces, origins);
}

extern "C" cudaError_t launch_pool(cudaStream_t stream, enum dtype dtype, void *out, enum dtype out_dtype,
                                   struct device_row_check *checks, const void *x,
                                   const struct device_span *spans, const struct device_texts *texts,
                                   size_t rows, size_t hidden) {
    return with_number(dtype, [&](auto number) {
        return with_number(out_dtype, [&](auto out_number) {
            typedef decltype(number) T;
            typedef decltype(out_number) OUT;
            if (texts == NULL || texts->origins == NULL) {
                return pool(stream, (OUT *)out, checks, (const T *)x, spans, rows, hidden, (const T *)NULL,
                            pool_plain());
            }
            if (texts->count > INT32_MAX || texts->head_tokens > INT32_MAX) {
                return cudaErrorInvalidValue;
            }
            const pool_origins<T> origins = {texts->origins, texts->starts, (unsigned)texts->count,
                                             (const T *)texts->head, (int32_t)texts->head_tokens};
            return pool(stream, (OUT *)out, checks, (const T *)x, spans, rows, hidden, origins.head, origins);
        });
    });
}
