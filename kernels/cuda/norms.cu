// SPDX-License-Identifier: MIT
// Norms: a block a row, or a group of columns of a row. They are bound by memory: rows are read and written
// 16 bytes a thread where their width allows.
#include "kernels/cuda/norm.h"

enum { NORM_THREADS = 1024, GRID_MOST = 65535 };

// A function of `width` alone, and with it the order of sums over a row.
static unsigned norm_threads(size_t width) {
    size_t warps = ((width + CHUNK - 1) / CHUNK + WARP - 1) / WARP;
    return warps < NORM_THREADS / WARP ? (unsigned)warps * WARP : (unsigned)NORM_THREADS;
}

// ---- RMSNorm ----

static __device__ __forceinline__ float add_squares(float sum, const float (&x)[CHUNK]) {
#pragma unroll
    for (int e = 0; e < CHUNK; e++) {
        sum = fmaf(x[e], x[e], sum);
    }
    return sum;
}

template <typename T, bool WIDE>
static __device__ __forceinline__ void norm_store(T *out, const T *weight, const float (&x)[CHUNK],
                                                  float inverse, size_t i, size_t hidden) {
    float y[CHUNK];
    group_load(y, weight, i, hidden, WIDE);
#pragma unroll
    for (int e = 0; e < CHUNK; e++) {
        y[e] *= rounded<T>(x[e] * inverse);
    }
    group_store(out, i, hidden, y, WIDE);
}

// Each thread has chunks threadIdx.x, threadIdx.x + blockDim.x, ... of the row; the first (in most models the
// only one) stays in registers between the sum and the product. The block's size, and with it the order of
// the sum, is a function of `hidden` alone.
template <typename T, bool WIDE>
static __global__ void __launch_bounds__(NORM_THREADS)
    rms_norm_kernel(T *out, const T *x, const T *weight, float epsilon, size_t hidden) {
    SHARED_BYTES(shared);
    const T *from = x + (size_t)blockIdx.x * hidden;
    T *to = out + (size_t)blockIdx.x * hidden;
    size_t first = threadIdx.x * (size_t)CHUNK;
    size_t step = blockDim.x * (size_t)CHUNK;
    float held[CHUNK];
    group_load(held, from, first, hidden, WIDE);
    float square = add_squares(0.0f, held);
    for (size_t i = first + step; i < hidden; i += step) {
        float more[CHUNK];
        group_load(more, from, i, hidden, WIDE);
        square = add_squares(square, more);
    }
    square = block_sum(square, (float *)shared);
    float inverse = 1.0f / sqrtf(square / (float)hidden + epsilon);
    if (first < hidden) {
        norm_store<T, WIDE>(to, weight, held, inverse, first, hidden);
    }
    for (size_t i = first + step; i < hidden; i += step) {
        float more[CHUNK];
        group_load(more, from, i, hidden, WIDE);
        norm_store<T, WIDE>(to, weight, more, inverse, i, hidden);
    }
}

template <typename T>
static cudaError_t rms_norm(cudaStream_t stream, T *out, const T *x, const T *weight, float epsilon,
                            size_t tokens, size_t hidden) {
    bool wide = rows_wide<T, CHUNK>(out, hidden) && rows_wide<T, CHUNK>(x, hidden) &&
                rows_wide<T, CHUNK>(weight, hidden);
    auto kernel = wide ? rms_norm_kernel<T, true> : rms_norm_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(norm_threads(hidden)), WARP * sizeof(float), stream,
                  out, x, weight, epsilon, hidden);
}

// ---- the other kinds, groups of columns, the sum with what is there ----

// Where rows lie: of `count` groups side by side in a row.
template <typename T> struct norm_place {
    T *out;
    const T *x;
    size_t stride; // numbers from one row to the next, of both
    size_t width;  // of a group
    bool own_weights;
};

// Of what a thread has of a row.
static __device__ __forceinline__ float norm_sum(float sum, const float (&x)[CHUNK]) {
#pragma unroll
    for (int e = 0; e < CHUNK; e++) {
        sum += x[e];
    }
    return sum;
}

// As add_squares; beyond the row there is nothing, not even its mean.
static __device__ __forceinline__ float norm_squares(float sum, const float (&x)[CHUNK], float mean, size_t i,
                                                     size_t width) {
#pragma unroll
    for (int e = 0; e < CHUNK; e++) {
        float off = i + (size_t)e < width ? x[e] - mean : 0.0f;
        sum = fmaf(off, off, sum);
    }
    return sum;
}

template <typename T, bool WIDE>
static __device__ __forceinline__ void norm_finish(T *to, float (&x)[CHUNK], const norm_of<T> &norm,
                                                   enum device_store store, float mean, float inverse,
                                                   size_t i, size_t width) {
    norm_numbers(x, norm, mean, inverse, i, width, WIDE);
    if (store == DEVICE_ADD) {
        float there[CHUNK];
        group_load(there, to, i, width, WIDE);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            x[e] = there[e] + rounded<T>(x[e]);
        }
    }
    group_store(to, i, width, x, WIDE);
}

// As rms_norm_kernel, but that the row is read once for every sum and once more, from the nearest cache: held
// between them it takes more registers than a block of this size has.
template <typename T, bool WIDE>
static __global__ void __launch_bounds__(NORM_THREADS)
    norm_kernel(norm_place<T> place, norm_of<T> norm, enum device_store store) {
    SHARED_BYTES(shared);
    float *partial = (float *)shared; // [2, WARP]: of both sums
    const size_t width = place.width;
    const size_t at = blockIdx.x * place.stride + blockIdx.y * width;
    norm.weight += place.own_weights ? blockIdx.y * width : 0;
    const T *from = place.x + at;
    const size_t first = threadIdx.x * (size_t)CHUNK;
    const size_t step = blockDim.x * (size_t)CHUNK;
    float x[CHUNK];
    float mean = 0;
    if (norm_has_mean(norm.kind)) {
        float sum = 0;
        for (size_t i = first; i < width; i += step) {
            group_load(x, from, i, width, WIDE);
            sum = norm_sum(sum, x);
        }
        mean = block_sum(sum, partial + WARP) / (float)width;
    }
    float square = 0;
    for (size_t i = first; i < width; i += step) {
        group_load(x, from, i, width, WIDE);
        square = norm_squares(square, x, mean, i, width);
    }
    float inverse = norm_inverse(block_sum(square, partial), width, norm.epsilon);
    for (size_t i = first; i < width; i += step) {
        group_load(x, from, i, width, WIDE);
        norm_finish<T, WIDE>(place.out + at, x, norm, store, mean, inverse, i, width);
    }
}

template <typename T>
static cudaError_t norm_groups(cudaStream_t stream, norm_place<T> place, const struct device_norm *norm,
                               enum device_store store, size_t tokens, size_t count) {
    norm_of<T> kind = norm_for<T>(norm);
    bool wide = rows_wide<T, CHUNK>(place.out, place.width) && rows_wide<T, CHUNK>(place.x, place.width) &&
                place.stride % CHUNK == 0 && rows_wide<T, CHUNK>(kind.weight, place.width) &&
                rows_wide<T, CHUNK>(kind.bias, place.width);
    auto kernel = wide ? norm_kernel<T, true> : norm_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens, (unsigned)count), dim3(norm_threads(place.width)),
                  2 * WARP * sizeof(float), stream, place, kind, store);
}

// ---- launchers: a grid has at most 2^31 - 1 blocks ----

extern "C" cudaError_t launch_norm(cudaStream_t stream, enum dtype dtype, void *out, const void *x,
                                   const struct device_norm *norm, enum device_store store, size_t tokens,
                                   size_t hidden) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        if (norm->kind == DEVICE_NORM_RMS && store == DEVICE_STORE && norm->weight != NULL) {
            return rms_norm(stream, (T *)out, (const T *)x, (const T *)norm->weight, norm->epsilon, tokens,
                            hidden);
        }
        norm_place<T> place = {(T *)out, (const T *)x, hidden, hidden, false};
        return norm_groups(stream, place, norm, store, tokens, 1);
    });
}

extern "C" cudaError_t launch_norm_groups(cudaStream_t stream, enum dtype dtype, void *x,
                                          const struct device_groups *groups, const struct device_norm *norm,
                                          size_t tokens) {
    if (tokens > INT32_MAX || groups->count > GRID_MOST) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        norm_place<T> place = {(T *)x + groups->first, (const T *)x + groups->from, groups->stride,
                               groups->width, groups->own_weights};
        return norm_groups(stream, place, norm, DEVICE_STORE, tokens, groups->count);
    });
}
