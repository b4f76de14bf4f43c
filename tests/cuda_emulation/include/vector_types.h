// SPDX-License-Identifier: MIT
// Vector types of CUDA, as far as they are used; sizes and alignments as nvcc has them.
#ifndef STRATA_CUDA_EMULATION_VECTOR_TYPES_H
#define STRATA_CUDA_EMULATION_VECTOR_TYPES_H

#define EMULATION_VECTORS(type, name)                                                                        \
    struct __attribute__((aligned(2 * sizeof(type)))) name##2 {                                              \
        type x, y;                                                                                           \
    };                                                                                                       \
    struct name##3 {                                                                                         \
        type x, y, z;                                                                                        \
    };                                                                                                       \
    struct __attribute__((aligned(4 * sizeof(type)))) name##4 {                                              \
        type x, y, z, w;                                                                                     \
    };                                                                                                       \
    typedef struct name##2 name##2;                                                                          \
    typedef struct name##3 name##3;                                                                          \
    typedef struct name##4 name##4;                                                                          \
    static inline struct name##2 make_##name##2(type x, type y) {                                            \
        struct name##2 v = {x, y};                                                                           \
        return v;                                                                                            \
    }                                                                                                        \
    static inline struct name##4 make_##name##4(type x, type y, type z, type w) {                            \
        struct name##4 v = {x, y, z, w};                                                                     \
        return v;                                                                                            \
    }

EMULATION_VECTORS(int, int)
EMULATION_VECTORS(unsigned, uint)
EMULATION_VECTORS(unsigned short, ushort)
EMULATION_VECTORS(float, float)

#ifdef __cplusplus
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {
    }
};
#else
struct dim3 {
    unsigned x, y, z;
};
typedef struct dim3 dim3;
#endif

#endif
