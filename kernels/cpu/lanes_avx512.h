// SPDX-License-Identifier: MIT
// Sixteen float lanes: AVX-512 (F, BW, DQ, VL). Rounding to bfloat16 takes the processor's instruction where
// the file is compiled for it, integer arithmetic otherwise; both round to nearest even (the instruction
// takes subnormals as zero).
#ifndef STRATA_KERNELS_CPU_LANES_AVX512_H
#define STRATA_KERNELS_CPU_LANES_AVX512_H

#include <immintrin.h>

#include "base/dtype.h"

enum { LANES = 16, TILE_ROWS = 6, TILE_VECTORS = 4 };

typedef __m512 lanes;

static inline lanes lanes_set(float value) {
    return _mm512_set1_ps(value);
}

static inline lanes lanes_load(const void *in) {
    return _mm512_loadu_ps(in);
}

static inline void lanes_store(void *out, lanes value) {
    _mm512_storeu_ps(out, value);
}

// Past the caches, to where whole vectors are aligned; lanes_stream_end before others read them.
static inline void lanes_stream(void *out, lanes value) {
    _mm512_stream_ps(out, value);
}

static inline void lanes_stream_end(void) {
    _mm_sfence();
}

static inline lanes lanes_widen(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

static inline lanes lanes_load_bf16(const void *in) {
    return lanes_widen(_mm256_loadu_si256((const __m256i *)in));
}

static inline __m256i lanes_narrow_exact(lanes value) {
    __m512i bits = _mm512_castps_si512(value);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x00400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

static inline __m256i lanes_narrow(lanes value) {
#ifdef __AVX512BF16__
    return (__m256i)_mm512_cvtneps_pbh(value);
#else
    return lanes_narrow_exact(value);
#endif
}

static inline lanes lanes_round_bf16(lanes value) {
    return lanes_widen(lanes_narrow(value));
}

static inline void lanes_store_bf16(void *out, lanes value) {
    _mm256_storeu_si256((__m256i *)out, lanes_narrow(value));
}

// The same of every number: where lanes_store_bf16 takes subnormals as zero, this does not.
static inline void lanes_store_bf16_exact(void *out, lanes value) {
    _mm256_storeu_si256((__m256i *)out, lanes_narrow_exact(value));
}

static inline lanes lanes_load_f16(const void *in) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)in));
}

// Without optimisation these intrinsics are macros that convert a mask as -Wsign-conversion warns of.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
static inline __m256i lanes_narrow_f16(lanes value) {
    return _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#pragma GCC diagnostic pop

static inline void lanes_store_f16(void *out, lanes value) {
    _mm256_storeu_si256((__m256i *)out, lanes_narrow_f16(value));
}

static inline lanes lanes_round_f16(lanes value) {
    return _mm512_cvtph_ps(lanes_narrow_f16(value));
}

// Of pairs of bfloat16 numbers the first and the second of each.
static inline void lanes_split(lanes pairs, lanes *first, lanes *second) {
    __m512i bits = _mm512_castps_si512(pairs);
    *first = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
    *second = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32((int)0xffff0000u)));
}

static inline lanes lanes_add(lanes a, lanes b) {
    return _mm512_add_ps(a, b);
}

static inline lanes lanes_sub(lanes a, lanes b) {
    return _mm512_sub_ps(a, b);
}

static inline lanes lanes_mul(lanes a, lanes b) {
    return _mm512_mul_ps(a, b);
}

static inline lanes lanes_div(lanes a, lanes b) {
    return _mm512_div_ps(a, b);
}

static inline lanes lanes_fma(lanes a, lanes b, lanes c) {
    return _mm512_fmadd_ps(a, b, c);
}

// The greater of the two; b when either is NaN. lanes_min likewise.
static inline lanes lanes_max(lanes a, lanes b) {
    return _mm512_max_ps(a, b);
}

static inline lanes lanes_min(lanes a, lanes b) {
    return _mm512_min_ps(a, b);
}

// value where x >= bound or x is NaN, otherwise 0.
static inline lanes lanes_zero_below(lanes value, lanes x, lanes bound) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ), value);
}

// yes where x < bound, otherwise, and where x is NaN, no.
static inline lanes lanes_where_below(lanes x, lanes bound, lanes yes, lanes no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, bound, _CMP_LT_OQ), no, yes);
}

// value * 2^exponent, exponent an integer in [-126, 127].
static inline lanes lanes_scale2(lanes value, lanes exponent) {
    return _mm512_scalef_ps(value, exponent);
}

static inline float lanes_sum(lanes a) {
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float lanes_greatest(lanes a) {
    return _mm512_reduce_max_ps(a);
}

// ---- codes of packed weights (micro_expand.h) ----

typedef uint32_t lanes_ints __attribute__((vector_size(64)));

static inline lanes_ints lanes_bytes(const unsigned char *in) {
    return (lanes_ints)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)in));
}

static inline lanes_ints lanes_signed_bytes(const unsigned char *in) {
    return (lanes_ints)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)in));
}

static inline lanes_ints lanes_halves(const unsigned char *in) {
    return (lanes_ints)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)in));
}

// Half as many bytes, each two codes, of which the first lies in the low half, or in the high one.
static inline lanes_ints lanes_nibbles(const unsigned char *in, bool high_first) {
    __m512i bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)in));
    __m512i pairs = high_first ? _mm512_or_si512(_mm512_srli_epi64(bytes, 4), _mm512_slli_epi64(bytes, 32))
                               : _mm512_or_si512(bytes, _mm512_slli_epi64(bytes, 28));
    return (lanes_ints)pairs & 15u;
}

static inline lanes lanes_floats(lanes_ints whole) {
    return _mm512_cvtepi32_ps((__m512i)whole);
}

// yes where a number is below the bound, otherwise no; both are below 2^31.
static inline lanes lanes_below(lanes_ints numbers, uint32_t bound, lanes yes, lanes no) {
    __mmask16 below = _mm512_cmplt_epi32_mask((__m512i)numbers, _mm512_set1_epi32((int)bound));
    return _mm512_mask_blend_ps(below, no, yes);
}

// Float8 (OCP E4M3): as float16, whose subnormals are converted as fast as others, a 256th of it.
static inline lanes lanes_load_e4m3(const unsigned char *in) {
    __m256i bytes = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)in)), 8);
    __m256i half = _mm256_and_si256(_mm256_srai_epi16(bytes, 1), _mm256_set1_epi16((short)0xbf80));
    lanes value = _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256));
    lanes_ints most = (lanes_ints)value & 0x7fffffffu; // 480 stands for NaN
    return lanes_below(most, 0x43f00000, value, _mm512_set1_ps(__builtin_nanf("")));
}

struct lanes_table { // of 16 numbers
    lanes numbers;
};

static inline struct lanes_table lanes_table_load(const void *in) {
    return (struct lanes_table){lanes_load(in)};
}

static inline lanes lanes_lookup(struct lanes_table table, lanes_ints codes) { // below 16
    return _mm512_permutexvar_ps((__m512i)codes, table.numbers);
}

// Without optimisation these intrinsics are macros that convert a mask as -Wsign-conversion warns of.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
static inline lanes lanes_gather(const float *in, lanes_ints numbers) {
    return _mm512_i32gather_ps((__m512i)numbers, in, sizeof *in);
}
#pragma GCC diagnostic pop

// ---- transposing ----

// Of pairs of 16-bit numbers, those of a before those of b, the first and the second of each.
static inline void lanes_unzip(lanes a, lanes b, lanes *first, lanes *second) {
    __m256i first_a = _mm512_cvtepi32_epi16(_mm512_castps_si512(a));
    __m256i first_b = _mm512_cvtepi32_epi16(_mm512_castps_si512(b));
    __m256i second_a = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(a), 16));
    __m256i second_b = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(b), 16));
    *first = _mm512_castsi512_ps(_mm512_inserti64x4(_mm512_castsi256_si512(first_a), first_b, 1));
    *second = _mm512_castsi512_ps(_mm512_inserti64x4(_mm512_castsi256_si512(second_a), second_b, 1));
}

// Row r, lane c to row c, lane r.
static inline void lanes_transpose(lanes rows[LANES]) {
    lanes pairs[LANES];
    lanes fours[LANES]; // [4q + c]: 128-bit part p holds lane 4p + c of rows 4q to 4q + 3
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i += 2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i += 4) {
        fours[i] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        fours[i + 1] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
        fours[i + 2] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        fours[i + 3] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
    }
#pragma GCC unroll 8
    for (int c = 0; c < 4; c++) { // parts 0 and 2, then 1 and 3, of four rows at a time
        lanes even0 = _mm512_shuffle_f32x4(fours[c], fours[c + 4], 0x88);
        lanes even1 = _mm512_shuffle_f32x4(fours[c + 8], fours[c + 12], 0x88);
        lanes odd0 = _mm512_shuffle_f32x4(fours[c], fours[c + 4], 0xdd);
        lanes odd1 = _mm512_shuffle_f32x4(fours[c + 8], fours[c + 12], 0xdd);
        rows[c] = _mm512_shuffle_f32x4(even0, even1, 0x88);
        rows[c + 4] = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
        rows[c + 8] = _mm512_shuffle_f32x4(even0, even1, 0xdd);
        rows[c + 12] = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
    }
}

#endif
