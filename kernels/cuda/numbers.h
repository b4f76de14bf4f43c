// SPDX-License-Identifier: MIT
// Numbers in kernels: float32, float16 and bfloat16 as types of their own, conversions that round to nearest,
// ties to even (NaN becomes the format's one NaN), and groups of numbers read and written 16 bytes at a time.
//
// Conversions are one instruction each; the twins of the emulation do the same, NaN included. Those to
// bfloat16 and float16 are of two numbers, zero beside one that is alone: that is F2FP in SASS, whereas a
// conversion of one is F2F, which others found slow on sm_90.
#ifndef STRATA_KERNELS_CUDA_NUMBERS_H
#define STRATA_KERNELS_CUDA_NUMBERS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/launch.h"
#include "kernels/device.h"
#include "kernels/shapes.h"

struct bf16 {
    uint16_t bits;
};

struct f16 {
    uint16_t bits;
};

#ifdef STRATA_CUDA_EMULATION

static inline uint16_t bf16_bits(float x) {
    uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return 0x7fff;
    }
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline uint32_t bf16_pair_bits(float low, float high) {
    return (uint32_t)bf16_bits(low) | (uint32_t)bf16_bits(high) << 16;
}

static inline uint16_t f16_bits(float x) {
    uint32_t bits = __float_as_uint(x);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) {
        return 0x7fff;
    }
    if (bits >= 0x477ff000u) { // 65520 and above round to infinity
        return (uint16_t)(sign | 0x7c00u);
    }
    if (bits < 0x38800000u) { // below 2^-14: adding 0.5 lets the adder round to a multiple of 2^-24
        return (uint16_t)(sign | (__float_as_uint(__uint_as_float(bits) + 0.5f) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((bits + 0xfffu + ((bits >> 13) & 1u) - 0x38000000u) >> 13));
}

static inline uint32_t f16_pair_bits(float low, float high) {
    return (uint32_t)f16_bits(low) | (uint32_t)f16_bits(high) << 16;
}

static inline float f16_value(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 31u;
    uint32_t mantissa = half & 0x3ffu;
    if (exponent == 31) {
        return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
    }
    if (exponent == 0) {
        return __uint_as_float(__float_as_uint((float)mantissa * 0x1p-24f) | sign);
    }
    return __uint_as_float(sign | (exponent + 112u) << 23 | mantissa << 13);
}

// A GPU faults where a vector does not lie on a multiple of its size.
template <size_t N> static inline void words_store(void *to, const uint32_t (&words)[N]) {
    if ((uintptr_t)to % (sizeof words < 16 ? sizeof words : 16) != 0) {
        abort();
    }
    memcpy(to, words, sizeof words);
}

#else

static __device__ __forceinline__ uint32_t bf16_pair_bits(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

static __device__ __forceinline__ uint32_t f16_pair_bits(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

static __device__ __forceinline__ float f16_value(uint16_t half) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    return x;
}

// Words to aligned global memory by stores of a vector each: of what is written in C++ nvcc makes smaller
// ones where a loop or a branch is about it.
static __device__ __forceinline__ void words_store(void *to, const uint32_t (&words)[2]) {
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(words[0]),
                 "r"(words[1])
                 : "memory");
}

static __device__ __forceinline__ void words_store(void *to, const uint32_t (&words)[4]) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
                 "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
}

static __device__ __forceinline__ void words_store(void *to, const uint32_t (&words)[8]) {
    words_store(to, {words[0], words[1], words[2], words[3]});
    words_store((char *)to + 16, {words[4], words[5], words[6], words[7]});
}

#endif

static __device__ __forceinline__ float number_value(float x) {
    return x;
}

static __device__ __forceinline__ float number_value(bf16 x) {
    return __uint_as_float((uint32_t)x.bits << 16);
}

static __device__ __forceinline__ float number_value(f16 x) {
    return f16_value(x.bits);
}

static __device__ __forceinline__ void number_set(float *out, float x) {
    *out = x;
}

static __device__ __forceinline__ void number_set(bf16 *out, float x) {
    out->bits = (uint16_t)bf16_pair_bits(x, 0.0f);
}

static __device__ __forceinline__ void number_set(f16 *out, float x) {
    out->bits = (uint16_t)f16_pair_bits(x, 0.0f);
}

// Rounds where a computation in T rounds.
template <typename T> static __device__ __forceinline__ float rounded(float x);

template <> __device__ __forceinline__ float rounded<float>(float x) {
    return x;
}

template <> __device__ __forceinline__ float rounded<bf16>(float x) {
    return __uint_as_float(bf16_pair_bits(0.0f, x));
}

template <> __device__ __forceinline__ float rounded<f16>(float x) {
    return f16_value((uint16_t)f16_pair_bits(x, 0.0f));
}

// Two numbers of a half side by side, as memory and matrix instructions have them.
template <typename T> static __device__ __forceinline__ uint32_t pair_bits(float low, float high);

template <> __device__ __forceinline__ uint32_t pair_bits<bf16>(float low, float high) {
    return bf16_pair_bits(low, high);
}

template <> __device__ __forceinline__ uint32_t pair_bits<f16>(float low, float high) {
    return f16_pair_bits(low, high);
}

// ---- dtypes ----

// Calls launch with a number of the dtype's type: the one place where a dtype becomes a type.
template <typename F> static inline cudaError_t with_number(enum dtype dtype, F launch) {
    switch (dtype) {
    case DTYPE_F32:
        return launch(float());
    case DTYPE_F16:
        return launch(f16());
    case DTYPE_BF16:
        return launch(bf16());
    }
    return cudaErrorInvalidValue;
}

// ---- groups of numbers ----

enum { CHUNK = 8 }; // numbers that a thread reads at once: 16 bytes of a half, 32 of float32

// N numbers side by side, aligned for the widest access they allow.
template <typename T, int N> struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) group { T number[N]; };

// Numbers [i, i + N) of a row of n; those beyond n are zero. wide: the row allows aligned groups (rows_wide),
// of which i begins one.
template <typename T, int N>
static __device__ __forceinline__ void group_load(float (&out)[N], const T *row, size_t i, size_t n,
                                                  bool wide) {
    group<T, N> in = {};
    if (wide) {
        if (i < n) {
            in = *(const group<T, N> *)(row + i);
        }
    } else {
#pragma unroll
        for (int e = 0; e < N; e++) {
            if (i + (size_t)e < n) {
                in.number[e] = row[i + (size_t)e];
            }
        }
    }
#pragma unroll
    for (int e = 0; e < N; e++) {
        out[e] = number_value(in.number[e]);
    }
}

template <int N> static __device__ __forceinline__ void group_write(float *to, const float (&in)[N]) {
    uint32_t words[N];
#pragma unroll
    for (int e = 0; e < N; e++) {
        words[e] = __float_as_uint(in[e]);
    }
    words_store(to, words);
}

template <typename T, int N>
static __device__ __forceinline__ void group_write(T *to, const float (&in)[N]) { // halves
    uint32_t words[N / 2];
#pragma unroll
    for (int e = 0; e < N; e += 2) {
        words[e / 2] = pair_bits<T>(in[e], in[e + 1]);
    }
    words_store(to, words);
}

// The same as group_load of storing; nothing beyond n is touched.
template <typename T, int N>
static __device__ __forceinline__ void group_store(T *row, size_t i, size_t n, const float (&in)[N],
                                                   bool wide) {
    if (wide) {
        if (i < n) {
            group_write(row + i, in);
        }
        return;
    }
#pragma unroll
    for (int e = 0; e < N; e++) {
        if (i + (size_t)e < n) {
            number_set(row + i + e, in[e]);
        }
    }
}

// Whether rows of n numbers from `rows` on can be read in groups of N.
template <typename T, int N> static inline bool rows_wide(const T *rows, size_t n) {
    return n % N == 0 && (uintptr_t)rows % alignof(group<T, N>) == 0;
}

#endif
