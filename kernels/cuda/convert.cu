// SPDX-License-Identifier: MIT
// Weights into the computation dtype; seeded numbers and the comparison of bits for the self-test of
// matmuls.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum { CONVERT_THREADS = 256, COMPARE_BLOCKS = 1024 };

// Blocks for one chunk a thread; 0 when a grid cannot have so many.
static unsigned chunk_blocks(size_t count) {
    size_t blocks = (count + CONVERT_THREADS * CHUNK - 1) / (CONVERT_THREADS * CHUNK);
    return blocks <= INT32_MAX ? (unsigned)blocks : 0;
}

static __device__ __forceinline__ size_t chunk_first(void) {
    return (blockIdx.x * (size_t)CONVERT_THREADS + threadIdx.x) * CHUNK;
}

// ---- conversion ----

template <typename OUT, typename T>
static __global__ void __launch_bounds__(CONVERT_THREADS)
    convert_kernel(OUT *out, const T *source, size_t count, bool wide_out, bool wide_in) {
    size_t i = chunk_first();
    if (i < count) {
        bool whole = i + CHUNK <= count;
        float x[CHUNK];
        group_load(x, source, i, count, whole && wide_in);
        group_store(out, i, count, x, whole && wide_out);
    }
}

template <typename OUT, typename T>
static cudaError_t convert(cudaStream_t stream, OUT *out, const T *source, size_t count) {
    unsigned blocks = chunk_blocks(count);
    if (blocks == 0) {
        return count == 0 ? cudaSuccess : cudaErrorInvalidValue;
    }
    auto kernel = convert_kernel<OUT, T>;
    return LAUNCH(kernel, dim3(blocks), dim3(CONVERT_THREADS), 0, stream, out, source, count,
                  rows_wide<OUT, CHUNK>(out, 0), rows_wide<T, CHUNK>(source, 0));
}

extern "C" cudaError_t launch_convert(cudaStream_t stream, void *out, enum dtype dtype, const void *source,
                                      enum dtype source_dtype, size_t count) {
    return with_number(dtype, [&](auto number) {
        return with_number(source_dtype, [&](auto source_number) {
            return convert(stream, (decltype(number) *)out, (const decltype(source_number) *)source, count);
        });
    });
}

// ---- seeded numbers ----

// SplitMix64 (Steele, Lea, Flood 2014), its state after `i` steps from `seed`.
static __device__ __forceinline__ uint64_t mixed(uint64_t seed, uint64_t i) {
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

template <typename T>
static __global__ void __launch_bounds__(CONVERT_THREADS)
    fill_kernel(T *out, size_t count, uint64_t seed, bool wide) {
    size_t i = chunk_first();
    if (i < count) {
        float x[CHUNK];
#pragma unroll
        for (int e = 0; e < CHUNK; e++) { // 24 bits: exact in float32
            x[e] = (float)(mixed(seed, i + (size_t)e) >> 40) * 0x1p-23f - 1.0f;
        }
        group_store(out, i, count, x, wide && i + CHUNK <= count);
    }
}

template <typename T> static cudaError_t fill(cudaStream_t stream, T *out, size_t count, uint64_t seed) {
    unsigned blocks = chunk_blocks(count);
    if (blocks == 0) {
        return count == 0 ? cudaSuccess : cudaErrorInvalidValue;
    }
    return LAUNCH(fill_kernel<T>, dim3(blocks), dim3(CONVERT_THREADS), 0, stream, out, count, seed,
                  rows_wide<T, CHUNK>(out, 0));
}

extern "C" cudaError_t launch_fill(cudaStream_t stream, enum dtype dtype, void *out, size_t count,
                                   uint64_t seed) {
    return with_number(dtype,
                       [&](auto number) { return fill(stream, (decltype(number) *)out, count, seed); });
}

// ---- comparison ----

static __global__ void __launch_bounds__(CONVERT_THREADS)
    compare_kernel(unsigned *differences, const uint32_t *a, const uint32_t *b, size_t words) {
    unsigned found = 0;
    size_t step = gridDim.x * (size_t)CONVERT_THREADS;
    for (size_t i = blockIdx.x * (size_t)CONVERT_THREADS + threadIdx.x; i < words; i += step) {
        found += a[i] != b[i];
    }
    if (found > 0) {
        atomicAdd(differences, found);
    }
}

extern "C" cudaError_t launch_compare(cudaStream_t stream, unsigned *differences, const void *a,
                                      const void *b, size_t bytes) {
    size_t words = bytes / sizeof(uint32_t);
    size_t blocks = (words + CONVERT_THREADS - 1) / CONVERT_THREADS;
    if (bytes % sizeof(uint32_t) != 0) {
        return cudaErrorInvalidValue;
    }
    if (blocks == 0) {
        return cudaSuccess;
    }
    return LAUNCH(compare_kernel, dim3(blocks < COMPARE_BLOCKS ? (unsigned)blocks : (unsigned)COMPARE_BLOCKS),
                  dim3(CONVERT_THREADS), 0, stream, differences, (const uint32_t *)a, (const uint32_t *)b,
                  words);
}
