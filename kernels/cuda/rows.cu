// Embedding, copies of keys and values, RMSNorm and SwiGLU: a block a row. They are bound by memory: rows are
// read and written 16 bytes a thread where their width allows.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum { ROW_THREADS = 256, NORM_THREADS = 1024 };

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

// ---- RMSNorm ----

// The sum over the block, the same in every thread: lanes by halving, then warps alike. `partial` is shared.
static __device__ float block_sum(float x, float *partial) {
    unsigned lane = threadIdx.x % WARP;
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(ALL_LANES, x, step);
    }
    if (lane == 0) {
        partial[threadIdx.x / WARP] = x;
    }
    __syncthreads();
    x = lane < blockDim.x / WARP ? partial[lane] : 0.0f;
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(ALL_LANES, x, step);
    }
    return x;
}

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
    size_t warps = ((hidden + CHUNK - 1) / CHUNK + WARP - 1) / WARP;
    unsigned threads = warps < NORM_THREADS / WARP ? (unsigned)warps * WARP : (unsigned)NORM_THREADS;
    auto kernel = wide ? rms_norm_kernel<T, true> : rms_norm_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(threads), WARP * sizeof(float), stream, out, x, weight,
                  epsilon, hidden);
}

// ---- SwiGLU ----

// x / (1 + e^-x). float32: as exact as expf and the division. Halves, which are rounded after it: fast.
static __device__ __forceinline__ float silu(float x, float) {
    return x / (1.0f + expf(-x));
}

// Of all numbers of float16 at most 17 come out as the neighbour of what they should (computed, with each
// step as far off as CUDA's documentation allows; one does with float32's form).
template <typename T> static __device__ __forceinline__ float silu(float x, T) {
    return fast_divide(x, 1.0f + fast_exp2(x * -1.44269504f));
}

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS)
    swiglu_kernel(T *out, const T *gate_up, size_t intermediate) {
    const T *gates = gate_up + 2 * (size_t)blockIdx.x * intermediate;
    T *to = out + (size_t)blockIdx.x * intermediate;
    for (size_t i = threadIdx.x * (size_t)CHUNK; i < intermediate; i += ROW_THREADS * (size_t)CHUNK) {
        float gate[CHUNK];
        float y[CHUNK];
        group_load(gate, gates, i, intermediate, WIDE);
        group_load(y, gates + intermediate, i, intermediate, WIDE);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            y[e] *= rounded<T>(silu(gate[e], T()));
        }
        group_store(to, i, intermediate, y, WIDE);
    }
}

template <typename T>
static cudaError_t swiglu(cudaStream_t stream, T *out, const T *gate_up, size_t tokens, size_t intermediate) {
    bool wide = rows_wide<T, CHUNK>(out, intermediate) && rows_wide<T, CHUNK>(gate_up, intermediate);
    auto kernel = wide ? swiglu_kernel<T, true> : swiglu_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, out, gate_up, intermediate);
}

// ---- launchers: a grid has at most 2^31 - 1 blocks ----

extern "C" cudaError_t launch_embed(cudaStream_t stream, enum dtype dtype, void *out, const void *table,
                                    const int32_t *ids, size_t tokens, size_t hidden) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return embed(stream, (T *)out, (const T *)table, ids, tokens, hidden);
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

extern "C" cudaError_t launch_rms_norm(cudaStream_t stream, enum dtype dtype, void *out, const void *x,
                                       const void *weight, float epsilon, size_t tokens, size_t hidden) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return rms_norm(stream, (T *)out, (const T *)x, (const T *)weight, epsilon, tokens, hidden);
    });
}

extern "C" cudaError_t launch_swiglu(cudaStream_t stream, enum dtype dtype, void *out, const void *gate_up,
                                     size_t tokens, size_t intermediate) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return swiglu(stream, (T *)out, (const T *)gate_up, tokens, intermediate);
    });
}
