// SPDX-License-Identifier: MIT
// The instructions that C++ has no word for: matrix multiply-add (mma.sync), loads of its operands from
// shared memory (ldmatrix), asynchronous copies into shared memory (cp.async), fast exponentials. sm_80 and
// later. Each has a portable twin for the emulation with the same meaning, so that a kernel's indices, masks
// and barriers are the same code in both.
//
// Matrices of bfloat16, and of float16, lie in a warp's registers as the PTX manual's figures of mma.m16n8k16
// show; with g = lane / 4 and c = 2 * (lane % 4), a register holding the two numbers at (row, column) and
// (row, column + 1):
//   A [16, 16]  a[0] (g, c)  a[1] (g + 8, c)  a[2] (g, c + 8)  a[3] (g + 8, c + 8)
//   B [16, 8]   b[0] rows c, c + 1 of column g    b[1] rows c + 8, c + 9 of column g
//   C [16, 8]   c[0], c[1] (g, c), (g, c + 1)     c[2], c[3] (g + 8, c), (g + 8, c + 1)    in float32
#ifndef STRATA_KERNELS_CUDA_PTX_H
#define STRATA_KERNELS_CUDA_PTX_H

#include <math.h>
#include <stdint.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/numbers.h"

enum { WARP = 32 };
static const unsigned ALL_LANES = 0xffffffffu;

#ifdef STRATA_CUDA_EMULATION

typedef unsigned char *shared_place; // an address in shared memory: offsets can be added to it

static inline shared_place shared_at(void *pointer) {
    return (shared_place)pointer;
}

// The address with these bits flipped.
static inline shared_place shared_flip(shared_place place, unsigned bits) {
    return (shared_place)((uintptr_t)place ^ bits);
}

// This thread's lane, asked for anew each time rather than kept in a register.
static inline unsigned lane_now(void) {
    return threadIdx.x % WARP;
}

// threadIdx.x and blockIdx, likewise.
static inline unsigned thread_now(void) {
    return threadIdx.x;
}

static inline uint3 block_now(void) {
    return blockIdx;
}

// x becomes that of the lane whose number has these bits flipped. One meeting of the fibers, not N.
template <int N> static inline void lanes_flip(float (&x)[N], int bits) {
    struct numbers {
        float number[N];
    } mine;
    memcpy(mine.number, x, sizeof x);
    mine = __shfl_xor_sync(ALL_LANES, mine, bits);
    memcpy(x, mine.number, sizeof x);
}

// 16 bytes of global memory to shared memory, both aligned; zeros when not `there`.
static inline void copy_async(shared_place to, const void *from, bool there) {
    emulation_copy_async(to, there ? from : NULL, 16);
}

static inline void copy_commit(void) {
    emulation_copy_commit();
}

template <int N> static inline void copy_wait(void) {
    emulation_copy_wait(N);
}

// What a lane brings to a load of matrices and gets from it.
struct matrices_lane {
    const unsigned char *row;
    uint32_t *out;
};

static inline void matrices_load_all(void *const *lanes, unsigned) {
    for (unsigned lane = 0; lane < WARP; lane++) {
        for (unsigned m = 0; m < 4; m++) {
            const unsigned char *row = ((const matrices_lane *)lanes[8 * m + lane / 4])->row;
            memcpy(&((matrices_lane *)lanes[lane])->out[m], row + lane % 4 * 4, 4);
        }
    }
}

static inline void matrices_load_transposed_all(void *const *lanes, unsigned) {
    for (unsigned lane = 0; lane < WARP; lane++) {
        for (unsigned m = 0; m < 4; m++) {
            unsigned first = 8 * m + 2 * (lane % 4);
            uint16_t pair[2];
            for (unsigned e = 0; e < 2; e++) {
                memcpy(&pair[e], ((const matrices_lane *)lanes[first + e])->row + lane / 4 * 2, 2);
            }
            ((matrices_lane *)lanes[lane])->out[m] = (uint32_t)pair[0] | (uint32_t)pair[1] << 16;
        }
    }
}

// Four 8 x 8 matrices: lane 8 m + r gives the address of row r of matrix m; a lane gets numbers c, c + 1 of
// row g of each.
static inline void matrices_load(uint32_t (&out)[4], shared_place row) {
    matrices_lane mine = {row, out};
    emulation_warp_collective(ALL_LANES, "ldmatrix", &mine, matrices_load_all);
}

// The same of the transposed matrices: a lane gets rows c, c + 1 of column g.
static inline void matrices_load_transposed(uint32_t (&out)[4], shared_place row) {
    matrices_lane mine = {row, out};
    emulation_warp_collective(ALL_LANES, "ldmatrix.trans", &mine, matrices_load_transposed_all);
}

struct multiply_lane {
    float *c;
    const uint32_t *a;
    uint32_t b[2];
};

// The two numbers of a register, the first in its low half.
template <typename T> static inline void pair_values(float *out, uint32_t pair) {
    T low, high;
    low.bits = (uint16_t)pair;
    high.bits = (uint16_t)(pair >> 16);
    out[0] = number_value(low);
    out[1] = number_value(high);
}

// Products are exact; sums run over k from 0 on, in float32. On the device their order is not documented.
template <typename T> static inline void matrix_multiply_add_all(void *const *lanes, unsigned) {
    float a[16][16];
    float b[16][8];
    float c[16][8];
    for (unsigned lane = 0; lane < WARP; lane++) {
        const multiply_lane *in = (const multiply_lane *)lanes[lane];
        unsigned g = lane / 4;
        unsigned column = lane % 4 * 2;
        for (unsigned e = 0; e < 4; e++) {
            pair_values<T>(&a[g + e % 2 * 8][column + e / 2 * 8], in->a[e]);
            c[g + e / 2 * 8][column + e % 2] = in->c[e];
        }
        for (unsigned e = 0; e < 2; e++) {
            float pair[2];
            pair_values<T>(pair, in->b[e]);
            b[column + e * 8][g] = pair[0];
            b[column + e * 8 + 1][g] = pair[1];
        }
    }
    for (unsigned k = 0; k < 16; k++) {
        for (unsigned row = 0; row < 16; row++) {
            for (unsigned column = 0; column < 8; column++) {
                c[row][column] += a[row][k] * b[k][column];
            }
        }
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        for (unsigned e = 0; e < 4; e++) {
            ((multiply_lane *)lanes[lane])->c[e] = c[lane / 4 + e / 2 * 8][lane % 4 * 2 + e % 2];
        }
    }
}

// c += A B, of numbers T.
template <typename T>
static inline void matrix_multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    multiply_lane mine = {c, a, {b0, b1}};
    emulation_warp_collective(ALL_LANES, "mma.m16n8k16", &mine, matrix_multiply_add_all<T>);
}

static inline float fast_exp2(float x) {
    return exp2f(x);
}

static inline float fast_divide(float x, float y) {
    return x / y;
}

#else

typedef uint32_t shared_place;

static __device__ __forceinline__ shared_place shared_at(void *pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

static __device__ __forceinline__ shared_place shared_flip(shared_place place, unsigned bits) {
    return place ^ bits;
}

static __device__ __forceinline__ unsigned lane_now(void) {
    unsigned lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}

static __device__ __forceinline__ unsigned thread_now(void) {
    unsigned thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}

static __device__ __forceinline__ uint3 block_now(void) {
    uint3 block;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block.x));
    asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(block.y));
    asm volatile("mov.u32 %0, %%ctaid.z;" : "=r"(block.z));
    return block;
}

template <int N> static __device__ __forceinline__ void lanes_flip(float (&x)[N], int bits) {
#pragma unroll
    for (int n = 0; n < N; n++) {
        x[n] = __shfl_xor_sync(ALL_LANES, x[n], bits);
    }
}

static __device__ __forceinline__ void copy_async(shared_place to, const void *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0)
                 : "memory");
}

static __device__ __forceinline__ void copy_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most N of this thread's groups of copies are under way.
template <int N> static __device__ __forceinline__ void copy_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

static __device__ __forceinline__ void matrices_load(uint32_t (&out)[4], shared_place row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(row)
                 : "memory");
}

static __device__ __forceinline__ void matrices_load_transposed(uint32_t (&out)[4], shared_place row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(row)
                 : "memory");
}

template <typename T>
static __device__ __forceinline__ void matrix_multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                           uint32_t b1);

template <>
__device__ __forceinline__ void matrix_multiply_add<bf16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                          uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void matrix_multiply_add<f16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                         uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 2^x to about 2^-22; 2^-infinity is 0, NaN stays.
static __device__ __forceinline__ float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// x / y to 2 units in the last place; 0 where y is beyond 2^126.
static __device__ __forceinline__ float fast_divide(float x, float y) {
    return __fdividef(x, y);
}

#endif

#endif
