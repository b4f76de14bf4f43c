// SPDX-License-Identifier: MIT
// Keys and values into blocks of numbers, a thread a block, with the bytes of the CPU: no multiplication is
// fused with an addition, and scales are divided as IEEE 754 says. It is done once for each token of the
// head; what reads them (expand.cu) runs with every batch.
#include <math.h>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"

enum { PACK_THREADS = 128, BLOCK = DEVICE_KEEP_BLOCK, NOT_A_NUMBER = 0x7e00 };

static __device__ __forceinline__ void pair_store(unsigned char *to, unsigned low, unsigned high) {
    *(uint16_t *)to = (uint16_t)(low | high << 8);
}

// What a block's numbers are multiplied with. The scale's float16 is written; it is NaN where a number of the
// block is not finite, and then, as for a scale too small to divide by, every code is that of 0.
static __device__ __forceinline__ float put_scale(unsigned char *out, float scale, bool finite) {
    const float inverse = 1.0f / scale;
    *(uint16_t *)out = finite ? (uint16_t)f16_pair_bits(scale, 0.0f) : (uint16_t)NOT_A_NUMBER;
    return finite && isfinite(inverse) ? inverse : 0.0f; // of a scale of 0 it is infinite
}

static __device__ __forceinline__ unsigned code_of(float x, float inverse, bool wide) {
    if (wide) {
        return (unsigned)(int)roundf(__fmul_rn(x, inverse)) & 0xffu;
    }
    return (unsigned)fminf(floorf(__fadd_rn(__fmul_rn(x, inverse), 8.5f)), 15.0f);
}

template <typename T, bool Q8>
static __global__ void __launch_bounds__(PACK_THREADS)
    pack_kernel(unsigned char *kept, const T *rows, size_t stride, size_t blocks_a_row, size_t blocks,
                bool aligned) {
    const size_t block = blockIdx.x * (size_t)PACK_THREADS + threadIdx.x;
    if (block >= blocks) {
        return;
    }
    const T *from = rows + block / blocks_a_row * stride + block % blocks_a_row * BLOCK;
    unsigned char *to = kept + block * (Q8 ? DEVICE_KEEP_Q8_0_BYTES : DEVICE_KEEP_Q4_0_BYTES);
    float x[BLOCK];
    float greatest = 0; // the first of those with the greatest size
    bool finite = true;
#pragma unroll
    for (int first = 0; first < BLOCK; first += CHUNK) {
        float numbers[CHUNK];
        group_load(numbers, from, (size_t)first, BLOCK, aligned);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            x[first + e] = numbers[e];
            greatest = fabsf(numbers[e]) > fabsf(greatest) ? numbers[e] : greatest;
            finite = finite && isfinite(numbers[e]);
        }
    }
    const float inverse = put_scale(to, Q8 ? fabsf(greatest) / 127.0f : greatest / -8.0f, finite);
#pragma unroll
    for (int i = 0; i < BLOCK; i++) {
        x[i] = inverse != 0 ? x[i] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < (Q8 ? BLOCK : BLOCK / 2); i += 2) {
        unsigned codes[2];
#pragma unroll
        for (int e = 0; e < 2; e++) {
            codes[e] = code_of(x[i + e], inverse, Q8);
            if (!Q8) {
                codes[e] |= code_of(x[BLOCK / 2 + i + e], inverse, false) << 4;
            }
        }
        pair_store(to + 2 + i, codes[0], codes[1]);
    }
}

template <typename T>
static cudaError_t pack(cudaStream_t stream, unsigned char *kept, const T *rows, size_t stride, size_t width,
                        size_t tokens, bool q8) {
    const size_t blocks = tokens * (width / BLOCK);
    const size_t grid = (blocks + PACK_THREADS - 1) / PACK_THREADS;
    if (grid > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    auto kernel = q8 ? pack_kernel<T, true> : pack_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)grid), dim3(PACK_THREADS), 0, stream, kept, rows, stride,
                  width / BLOCK, blocks, rows_wide<T, CHUNK>(rows, stride));
}

extern "C" cudaError_t launch_keep_packed(cudaStream_t stream, enum dtype dtype, void *kept, const void *qkv,
                                          struct device_heads heads, size_t tokens,
                                          enum device_keeping keeping) {
    const size_t width = 2 * heads.kv_heads * heads.head_dim;
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return pack(stream, (unsigned char *)kept, (const T *)qkv + device_heads_key(heads),
                    device_heads_width(heads), width, tokens, keeping == DEVICE_KEEP_Q8_0);
    });
}
