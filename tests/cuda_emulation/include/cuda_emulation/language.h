// SPDX-License-Identifier: MIT
// The language of kernels for a C++ compiler: qualifiers, indices, barriers, warp collectives, atomics and
// the intrinsics used. Threads of a block are fibers that run one at a time (see ../../blocks.cpp): a barrier
// or a collective is where one gives way to the next.
#ifndef STRATA_CUDA_EMULATION_LANGUAGE_H
#define STRATA_CUDA_EMULATION_LANGUAGE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

// One block runs at a time, so a block's shared variables are static ones. They share a section, in which
// they are poisoned before each block; the comment that the assembler sees keeps the compiler from thinking
// that variables of templates and others were in one section.
#define EMULATION_TEXT_(x) #x
#define EMULATION_TEXT(x) EMULATION_TEXT_(x)
#if defined(__x86_64__) || defined(__i386__)
#define EMULATION_ASSEMBLER_COMMENT "#"
#else
#define EMULATION_ASSEMBLER_COMMENT "//"
#endif
#define __shared__                                                                                           \
    static __attribute__((                                                                                   \
        section("cuda_shared,\"aw\",@progbits" EMULATION_ASSEMBLER_COMMENT EMULATION_TEXT(__COUNTER__))))

extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
enum { warpSize = 32 };

// ---- barriers and warp collectives ----

// Every thread of the block comes here, or the emulation names the kernel and aborts.
void emulation_barrier(const char *file, int line);
#define __syncthreads() emulation_barrier(__FILE__, __LINE__)

// The lanes of `mask` come here, each with its argument; when the last has come, `work` runs once with all of
// them (arguments[lane], NULL for lanes that are not in the mask), then every lane goes on.
void emulation_warp_collective(unsigned mask, const char *name, void *argument,
                               void (*work)(void *const *arguments, unsigned mask));

// Every lane of the warp gives `bytes` bytes and gets those of all 32 lanes, in their order.
void emulation_warp_exchange(const void *in, size_t bytes, void *all);

// For the twin of cp.async: `bytes` bytes (zeros from NULL) arrive somewhere between this call and the wait
// for their group; emulation_copy_commit ends a group, emulation_copy_wait waits until at most `groups` of
// this thread's are under way.
void emulation_copy_async(void *to, const void *from, size_t bytes);
void emulation_copy_commit(void);
void emulation_copy_wait(int groups);

static inline void emulation_nothing(void *const *, unsigned) {
}
static inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulation_warp_collective(mask, "__syncwarp", &mask, emulation_nothing);
}

struct emulation_shuffle {
    unsigned char value[16];
    unsigned char result[16];
    int source; // lane
};
void emulation_shuffle_work(void *const *arguments, unsigned mask);

template <class T>
static inline T emulation_shuffle_from(unsigned mask, const char *name, T value, int source) {
    static_assert(sizeof(T) <= 16, "a shuffle moves at most 16 bytes");
    emulation_shuffle shuffle;
    memcpy(shuffle.value, &value, sizeof value);
    shuffle.source = source;
    emulation_warp_collective(mask, name, &shuffle, emulation_shuffle_work);
    memcpy(&value, shuffle.result, sizeof value);
    return value;
}

static inline int emulation_lane(void) {
    return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
}

template <class T> static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    int lane = emulation_lane();
    return emulation_shuffle_from(mask, "__shfl_sync", value, (lane & ~(width - 1)) + (source & (width - 1)));
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    int lane = emulation_lane();
    int source = lane ^ bits;
    return emulation_shuffle_from(mask, "__shfl_xor_sync", value,
                                  (source & ~(width - 1)) > (lane & ~(width - 1)) ? lane : source);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int lane = emulation_lane();
    int source = lane + static_cast<int>(delta);
    return emulation_shuffle_from(mask, "__shfl_down_sync", value,
                                  source > (lane | (width - 1)) ? lane : source);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int lane = emulation_lane();
    int source = lane - static_cast<int>(delta);
    return emulation_shuffle_from(mask, "__shfl_up_sync", value,
                                  source < (lane & ~(width - 1)) ? lane : source);
}

unsigned __ballot_sync(unsigned mask, int predicate);
static inline int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
static inline int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) == mask;
}

// ---- atomics: on integers only, because a sum of floats would depend on who comes first ----

#define EMULATION_ATOMICS(type)                                                                              \
    static inline type atomicAdd(type *address, type value) {                                                \
        return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);                                         \
    }                                                                                                        \
    static inline type atomicOr(type *address, type value) {                                                 \
        return __atomic_fetch_or(address, value, __ATOMIC_RELAXED);                                          \
    }
EMULATION_ATOMICS(int)
EMULATION_ATOMICS(unsigned)
EMULATION_ATOMICS(unsigned long long)
float atomicAdd(float *, float) = delete;

// ---- numbers ----

static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline int __float_as_int(float x) {
    return static_cast<int>(__float_as_uint(x));
}
static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline float __int_as_float(int bits) {
    return __uint_as_float(static_cast<unsigned>(bits));
}
static inline float __fadd_rn(float a, float b) {
    return a + b;
}
static inline float __fsub_rn(float a, float b) {
    return a - b;
}
static inline float __fmul_rn(float a, float b) {
    return a * b;
}
static inline float __fdiv_rn(float a, float b) {
    return a / b;
}
static inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
static inline float __fsqrt_rn(float x) {
    return sqrtf(x);
}
static inline float __frcp_rn(float x) {
    return 1.0f / x;
}
static inline float __frsqrt_rn(float x) {
    return 1.0f / sqrtf(x);
}
static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
#define __expf expf // the C library has a function of this name
static inline float __fdividef(float a, float b) {
    return a / b;
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __clz(int x) {
    return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
template <class T> static inline T __ldg(const T *address) {
    return *address;
}
template <class T> static inline T __ldcs(const T *address) {
    return *address;
}
template <class T> static inline void __stcs(T *address, T value) {
    *address = value;
}
static inline int min(int a, int b) {
    return a < b ? a : b;
}
static inline int max(int a, int b) {
    return a > b ? a : b;
}
static inline unsigned min(unsigned a, unsigned b) {
    return a < b ? a : b;
}
static inline unsigned max(unsigned a, unsigned b) {
    return a > b ? a : b;
}
static inline float min(float a, float b) {
    return fminf(a, b);
}
static inline float max(float a, float b) {
    return fmaxf(a, b);
}

#endif
