// SPDX-License-Identifier: MIT
// Embedding, copies of keys and values, scaling and adding: a block a row. They are bound by memory: rows are
// read and written 16 bytes a thread where their width allows.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum { ROW_THREADS = 256 };

// ---- embedding ----

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS)
    embed_kernel(T *out, const T *table, const int32_t *ids, size_t hidden) {
    const T *from = table + (size_t)ids[blockIdx.x] * hidden;
    T *to = out + (size_t)blockIdx.x * hidden;
    const int number = WIDE ? CHUNK : 1; // that a thread copies at once
    for (size_t i = threadIdx.x * (size_t)number; i < hidden; i += ROW_THREADS * (size_t)number) {
        *(group<T, number> *)(to + i) = *(const group<T, number> *)(from + i);
    }
}

template <typename T>
static cudaError_t embed(cudaStream_t stream, T *out, const T *table, const int32_t *ids, size_t tokens,
                         size_t hidden) {
    bool wide = rows_wide<T, CHUNK>(out, hidden) && rows_wide<T, CHUNK>(table, hidden);
    auto kernel = wide ? embed_kernel<T, true> : embed_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, out, table, ids, hidden);
}

// ---- keys and values of a slice ----

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS)
    keep_kernel(T *kept, const T *keys, size_t width, size_t stride) {
    const T *from = keys + (size_t)blockIdx.x * stride;
    T *to = kept + (size_t)blockIdx.x * width;
    const int number = WIDE ? CHUNK : 1; // that a thread copies at once
    for (size_t i = threadIdx.x * (size_t)number; i < width; i += ROW_THREADS * (size_t)number) {
        *(group<T, number> *)(to + i) = *(const group<T, number> *)(from + i);
    }
}

template <typename T>
static cudaError_t keep(cudaStream_t stream, T *kept, const T *keys, size_t width, size_t stride,
                        size_t tokens) {
    bool wide = rows_wide<T, CHUNK>(kept, width) && rows_wide<T, CHUNK>(keys, width) && stride % CHUNK == 0;
    auto kernel = wide ? keep_kernel<T, true> : keep_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, kept, keys, width, stride);
}

// ---- columns ----

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS)
    copy_columns_kernel(T *out, const T *in, struct device_columns columns) {
    constexpr int N = WIDE ? CHUNK : 1; // numbers that a thread copies at once
    T *to = out + (size_t)blockIdx.x * columns.stride + columns.first;
    const T *from = in + (size_t)blockIdx.x * columns.in_stride + columns.in_first;
    const unsigned each = (unsigned)(columns.width / N);
    for (unsigned c = threadIdx.x; c < columns.count * each; c += ROW_THREADS) {
        const size_t g = c / each;
        const size_t i = c % each * (size_t)N;
        group<T, N> numbers = {};
        if (in != NULL) {
            numbers = *(const group<T, N> *)(from + g * columns.in_apart + i);
        }
        *(group<T, N> *)(to + g * columns.apart + i) = numbers;
    }
}

template <typename T>
static cudaError_t copy_columns(cudaStream_t stream, T *out, const T *in,
                                const struct device_columns *columns, size_t tokens) {
    const size_t all = columns->in_first | columns->in_apart | columns->first | columns->apart |
                       columns->width | columns->in_stride | columns->stride;
    bool wide = rows_wide<T, CHUNK>(out, all) && rows_wide<T, CHUNK>(in, all);
    auto kernel = wide ? copy_columns_kernel<T, true> : copy_columns_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, out, in, *columns);
}

// ---- scaled, and added to what is there ----

// out (+)= x * scale: the product rounded, then the sum. x may be out.
template <typename T, bool WIDE>
static __device__ __forceinline__ void scale_row(T *out, const T *x, float scale, bool add, size_t hidden) {
    for (size_t i = threadIdx.x * (size_t)CHUNK; i < hidden; i += ROW_THREADS * (size_t)CHUNK) {
        float y[CHUNK];
        group_load(y, x, i, hidden, WIDE);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            y[e] *= scale;
        }
        if (add) {
            float there[CHUNK];
            group_load(there, out, i, hidden, WIDE);
#pragma unroll
            for (int e = 0; e < CHUNK; e++) {
                y[e] = there[e] + rounded<T>(y[e]);
            }
        }
        group_store(out, i, hidden, y, WIDE);
    }
}

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS)
    embed_scaled_kernel(T *out, const T *table, const int32_t *ids, float scale, bool add, size_t hidden) {
    scale_row<T, WIDE>(out + (size_t)blockIdx.x * hidden, table + (size_t)ids[blockIdx.x] * hidden, scale,
                       add, hidden);
}

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS)
    add_kernel(T *x, const T *y, float scale, size_t hidden) {
    size_t row = (size_t)blockIdx.x * hidden;
    scale_row<T, WIDE>(x + row, y + row, scale, true, hidden);
}

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS) scale_kernel(T *x, const T *factor, size_t hidden) {
    T *row = x + (size_t)blockIdx.x * hidden;
    scale_row<T, WIDE>(row, row, number_value(factor[0]), false, hidden);
}

template <typename T>
static cudaError_t embed_scaled(cudaStream_t stream, T *out, const T *table, const int32_t *ids, float scale,
                                bool add, size_t tokens, size_t hidden) {
    bool wide = rows_wide<T, CHUNK>(out, hidden) && rows_wide<T, CHUNK>(table, hidden);
    auto kernel = wide ? embed_scaled_kernel<T, true> : embed_scaled_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, out, table, ids, scale, add,
                  hidden);
}

template <typename T>
static cudaError_t add(cudaStream_t stream, T *x, const T *y, float scale, size_t tokens, size_t hidden) {
    bool wide = rows_wide<T, CHUNK>(x, hidden) && rows_wide<T, CHUNK>(y, hidden);
    auto kernel = wide ? add_kernel<T, true> : add_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, x, y, scale, hidden);
}

template <typename T>
static cudaError_t scale_rows(cudaStream_t stream, T *x, const T *factor, size_t tokens, size_t hidden) {
    auto kernel = rows_wide<T, CHUNK>(x, hidden) ? scale_kernel<T, true> : scale_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, x, factor, hidden);
}

// ---- launchers: a grid has at most 2^31 - 1 blocks ----

extern "C" cudaError_t launch_embed(cudaStream_t stream, enum dtype dtype, void *out, const void *table,
                                    const int32_t *ids, float scale, enum device_store store, size_t tokens,
                                    size_t hidden) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    bool add = store == DEVICE_ADD;
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return scale == 1 && !add
                   ? embed(stream, (T *)out, (const T *)table, ids, tokens, hidden)
                   : embed_scaled(stream, (T *)out, (const T *)table, ids, scale, add, tokens, hidden);
    });
}

extern "C" cudaError_t launch_keep(cudaStream_t stream, enum dtype dtype, void *kept, const void *qkv,
                                   struct device_heads heads, size_t tokens) {
    size_t queries = device_heads_key(heads);
    size_t width = 2 * heads.kv_heads * heads.head_dim;
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return keep(stream, (T *)kept, (const T *)qkv + queries, width, queries + width, tokens);
    });
}

extern "C" cudaError_t launch_copy_columns(cudaStream_t stream, enum dtype dtype, void *out, const void *in,
                                           const struct device_columns *columns, size_t tokens) {
    if (tokens > INT32_MAX || columns->count * columns->width > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return copy_columns(stream, (T *)out, (const T *)in, columns, tokens);
    });
}

extern "C" cudaError_t launch_add(cudaStream_t stream, enum dtype dtype, void *x, const void *y, float scale,
                                  size_t tokens, size_t hidden) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return add(stream, (T *)x, (const T *)y, scale, tokens, hidden);
    });
}

extern "C" cudaError_t launch_scale(cudaStream_t stream, enum dtype dtype, void *x, const void *factor,
                                    size_t tokens, size_t hidden) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return scale_rows(stream, (T *)x, (const T *)factor, tokens, hidden);
    });
}
