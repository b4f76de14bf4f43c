// The instructions that C++ has no word for: matrix multiply-add (mma.sync), loads of its operands from
// shared memory (ldmatrix), asynchronous copies into shared memory (cp.async), fast exponentials. sm_80 and
// later. Each has a portable twin for the emulation with the same meaning, so that a kernel's indices, masks
// and barriers are the same code in both.
//
// Matrices of bfloat16 lie in a warp's registers as the PTX manual's figures of mma.m16n8k16 show; with g =
// lane / 4 and c = 2 * (lane % 4), a register holding the two numbers at (row, column) and (row, column + 1):
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

// 16 bytes of global memory to shared memory, both aligned; zeros when not `there`.
static inline void copy_async(shared_place to, const void *from, bool there) {
    if (there) {
        memcpy(to, from, 16);
    } else {
        memset(to, 0, 16);
    }
}

static inline void copy_commit(void) {
}

template <int N> static inline void copy_wait(void) {
}

// Four 8 x 8 matrices: lane 8 m + r gives the address of row r of matrix m; a lane gets numbers c, c + 1 of
// row g of each.
static inline void matrices_load(uint32_t (&out)[4], shared_place row) {
    uint32_t rows[WARP][4];
    emulation_warp_exchange(row, 16, rows);
    unsigned lane = threadIdx.x % WARP;
    for (unsigned m = 0; m < 4; m++) {
        out[m] = rows[8 * m + lane / 4][lane % 4];
    }
}

// The same of the transposed matrices: a lane gets rows c, c + 1 of column g.
static inline void matrices_load_transposed(uint32_t (&out)[4], shared_place row) {
    uint16_t rows[WARP][8];
    emulation_warp_exchange(row, 16, rows);
    unsigned lane = threadIdx.x % WARP;
    for (unsigned m = 0; m < 4; m++) {
        unsigned first = 8 * m + 2 * (lane % 4);
        out[m] = (uint32_t)rows[first][lane / 4] | (uint32_t)rows[first + 1][lane / 4] << 16;
    }
}

// c += A B.
static inline void matrix_multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    uint32_t all[WARP][6];
    emulation_warp_exchange(mine, sizeof mine, all);
    unsigned g = threadIdx.x % WARP / 4;
    unsigned column = threadIdx.x % 4 * 2;
    for (unsigned k = 0; k < 16;
         k += 2) { // lane % 4 and register of the pair k, k + 1 in A's columns, B's rows
        unsigned lane = k % 8 / 2;
        unsigned high = k / 8;
        const uint32_t *left = all[g * 4 + lane];
        for (unsigned e = 0; e < 2; e++) {
            uint32_t right = all[(column + e) * 4 + lane][4 + high];
            for (unsigned half = 0; half < 2; half++) { // rows g and g + 8
                uint32_t pair = left[2 * high + half];
                float *sum = &c[2 * half + e];
                *sum += __uint_as_float(pair << 16) * __uint_as_float(right << 16);
                *sum += __uint_as_float(pair & 0xffff0000u) * __uint_as_float(right & 0xffff0000u);
            }
        }
    }
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

static __device__ __forceinline__ void matrix_multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                           uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
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
