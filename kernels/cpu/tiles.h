// SPDX-License-Identifier: MIT
// The tile instructions that strata uses (AMX-TILE, AMX-BF16), or their twin in portable C.
//
// A file built for AMX-BF16 gets the instructions; any other gets the twin: the same eight registers, one set
// a thread, and the same semantics, rounding included, so that everything above this header is tested on
// processors without AMX. The names of registers are numbers 0 to 7 written out.
//
// A tile is TILE_LINES lines of TILE_LINE_BYTES: of sums [16][16] float32, of a left side [16 rows][32]
// bfloat16, of a right side [16][16 columns][2] bfloat16, the last index running over the two depths of a
// pair.
//
//   tiles_configure()             before the first use in a thread; another call between is allowed
//   tiles_release()               after the last: the registers no longer count when the thread is switched
//   tile_zero(to)
//   tile_load(to, base, stride)   line i from base + i * stride bytes
//   tile_store(from, base, stride)
//   tile_dot(sums, left, right)   sums[m][n] += sum over 32 depths of left[m][k] * right[k][n]
//
// tile_dot is TDPBF16PS as Intel's manual (Software Developer's Manual, volume 2) defines it: even and odd
// depths are summed from zero by float32 fused multiply-adds, in ascending order; the odd sum is added to the
// even one, and that to sums; every step rounds to nearest even, takes subnormal inputs as zero and makes
// subnormal results zero.
#ifndef STRATA_KERNELS_CPU_TILES_H
#define STRATA_KERNELS_CPU_TILES_H

#include <stddef.h>
#include <stdint.h>

enum {
    TILE_LINES = 16,
    TILE_LINE_BYTES = 64,
    TILE_DEPTH = 32,   // depths of one tile_dot
    TILE_NUMBERS = 512 // bfloat16 numbers of a tile
};

#if (defined(__AMX_TILE__) && defined(__AMX_BF16__)) || (defined(__AMXTILE__) && defined(__AMXBF16__))

// Written as assembly, not through the compiler's intrinsics: those of GCC 12 say nothing about memory, and
// the compiler then moves or drops stores around them ("memory" and the operand of ldtilecfg say it).
enum { TILES_ARE_TWIN = 0 };

struct tile_configuration { // operand of ldtilecfg
    uint8_t palette;
    uint8_t start_line;
    uint8_t reserved[14];
    uint16_t line_bytes[16];
    uint8_t lines[16];
};
_Static_assert(sizeof(struct tile_configuration) == 64, "ldtilecfg reads 64 bytes");

static inline void tiles_configure(void) {
    struct tile_configuration all = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        all.line_bytes[i] = TILE_LINE_BYTES;
        all.lines[i] = TILE_LINES;
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(all));
}

static inline void tiles_release(void) {
    __asm__ volatile("tilerelease");
}

#define tile_zero(to) __asm__ volatile("tilezero %%tmm" #to : :)
#define tile_load(to, base, stride)                                                                          \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #to : : "r"(base), "r"((size_t)(stride)) : "memory")
#define tile_store(from, base, stride)                                                                       \
    __asm__ volatile("tilestored %%tmm" #from ", (%0,%1,1)" : : "r"(base), "r"((size_t)(stride)) : "memory")
#define tile_dot(sums, left, right)                                                                          \
    __asm__ volatile("tdpbf16ps %%tmm" #right ", %%tmm" #left ", %%tmm" #sums : :)

#else

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"

enum { TILES_ARE_TWIN = 1 };

union twin_tile {
    unsigned char bytes[TILE_LINES][TILE_LINE_BYTES];
    float sums[TILE_LINES][16];
    uint16_t halves[TILE_LINES][32];
};

// Stands for a thread's registers, which the instructions have too.
static _Thread_local struct {
    bool configured;
    union twin_tile tile[8];
} twin;

static inline void tiles_configure(void) {
    memset(&twin, 0, sizeof twin);
    twin.configured = true;
}

static inline void tiles_release(void) {
    twin.configured = false;
}

// Tiles used without a configuration end the process, as the instruction would.
static inline union twin_tile *twin_register(int number) {
    if (!twin.configured) {
        abort();
    }
    return &twin.tile[number];
}

static inline void twin_load(union twin_tile *to, const void *base, size_t stride) {
    for (size_t i = 0; i < TILE_LINES; i++) {
        memcpy(to->bytes[i], (const unsigned char *)base + i * stride, TILE_LINE_BYTES);
    }
}

static inline void twin_store(const union twin_tile *from, void *base, size_t stride) {
    for (size_t i = 0; i < TILE_LINES; i++) {
        memcpy((unsigned char *)base + i * stride, from->bytes[i], TILE_LINE_BYTES);
    }
}

// Four numbers at a time by the compiler's vector extension, so that tests stay quick.
typedef float twin_four __attribute__((vector_size(16)));
typedef int32_t twin_bits __attribute__((vector_size(16)));
enum { TWIN_FOURS = TILE_LINES / 4, TWIN_EXPONENT = 0x7f800000, TWIN_SIZE = 0x7fffffff };

// Subnormal numbers become zeros of their sign.
static inline twin_four twin_flush(twin_four value) {
    twin_bits bits = (twin_bits)value;
    twin_bits small = (bits & TWIN_EXPONENT) == 0;
    return (twin_four)(bits & ~(small & TWIN_SIZE));
}

static inline float twin_number(uint16_t half) {
    return (half & 0x7f80) == 0 ? 0.0f
                                : bf16_to_f32(half); // the sign of a factor 0 shows in no sum of products
}

// sums + a * b in one rounding; none of the numbers is subnormal. The product of two bfloat16 numbers has 16
// significant bits, so that float32 holds it unless it leaves the range of exponents, and the addition is
// then the only rounding.
static inline twin_four twin_multiply_add(twin_four sums, float a, twin_four b) {
    twin_four product = a * b;
    twin_bits exponent = (twin_bits)product & TWIN_EXPONENT;
    twin_bits rounded = ((exponent == 0) | (exponent == TWIN_EXPONENT)) & ((twin_bits)b != 0);
    twin_four next = product + sums;
    if (a != 0.0f && (rounded[0] | rounded[1] | rounded[2] | rounded[3]) != 0) {
        for (int i = 0; i < 4; i++) {
            next[i] = fmaf(a, b[i], sums[i]);
        }
    }
    return twin_flush(next);
}

static void twin_dot(union twin_tile *sums, const union twin_tile *left, const union twin_tile *right) {
    float depths[TILE_DEPTH][TILE_LINES];
    for (int k = 0; k < TILE_DEPTH; k++) {
        for (int n = 0; n < TILE_LINES; n++) {
            depths[k][n] = twin_number(right->halves[k / 2][2 * n + k % 2]);
        }
    }
    for (int m = 0; m < TILE_LINES; m++) {
        twin_four chain[2][TWIN_FOURS] = {{{0}}}; // of even and of odd depths
        for (int k = 0; k < TILE_DEPTH; k++) {
            float factor = twin_number(left->halves[m][k]);
            for (int v = 0; v < TWIN_FOURS; v++) {
                twin_four b;
                memcpy(&b, &depths[k][4 * v], sizeof b);
                chain[k % 2][v] = twin_multiply_add(chain[k % 2][v], factor, b);
            }
        }
        for (int v = 0; v < TWIN_FOURS; v++) {
            twin_four before;
            memcpy(&before, &sums->sums[m][4 * v], sizeof before);
            twin_four after = twin_flush(twin_flush(before) + twin_flush(chain[0][v] + chain[1][v]));
            memcpy(&sums->sums[m][4 * v], &after, sizeof after);
        }
    }
}

#define tile_zero(to) memset(twin_register(to), 0, sizeof(union twin_tile))
#define tile_load(to, base, stride) twin_load(twin_register(to), base, stride)
#define tile_store(from, base, stride) twin_store(twin_register(from), base, stride)
#define tile_dot(sums, left, right) twin_dot(twin_register(sums), twin_register(left), twin_register(right))

#endif

#endif
