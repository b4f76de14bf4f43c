// SPDX-License-Identifier: MIT
// Eight float lanes: AVX2 with FMA and F16C.
#ifndef STRATA_KERNELS_CPU_LANES_AVX2_H
#define STRATA_KERNELS_CPU_LANES_AVX2_H

#include <immintrin.h>

#include "base/dtype.h"

enum { LANES = 8, TILE_ROWS = 6, TILE_VECTORS = 2 };

typedef __m256 lanes;

static inline lanes lanes_set(float value) {
    return _mm256_set1_ps(value);
}

static inline lanes lanes_load(const void *in) {
    return _mm256_loadu_ps(in);
}

static inline void lanes_store(void *out, lanes value) {
    _mm256_storeu_ps(out, value);
}

// Past the caches, to where whole vectors are aligned; lanes_stream_end before others read them.
static inline void lanes_stream(void *out, lanes value) {
    _mm256_stream_ps(out, value);
}

static inline void lanes_stream_end(void) {
    _mm_sfence();
}

static inline lanes lanes_load_bf16(const void *in) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)in));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

// The bits of `value` rounded to bfloat16, still in the upper half of each lane; NaN stays a quiet NaN.
static inline lanes lanes_round_bf16(lanes value) {
    __m256i bits = _mm256_castps_si256(value);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
    __m256 nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    rounded = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan));
    return _mm256_castsi256_ps(_mm256_and_si256(rounded, _mm256_set1_epi32((int)0xffff0000u)));
}

static inline void lanes_store_bf16(void *out, lanes value) {
    __m256i bits = _mm256_srli_epi32(_mm256_castps_si256(lanes_round_bf16(value)), 16);
    __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
    _mm_storeu_si128((__m128i *)out, halves);
}

// The same of every number: where lanes_store_bf16 takes subnormals as zero, this does not.
static inline void lanes_store_bf16_exact(void *out, lanes value) {
    lanes_store_bf16(out, value);
}

// Conversions of float16 take subnormals for what they are, whatever the processor's state says.
static inline lanes lanes_load_f16(const void *in) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)in));
}

static inline void lanes_store_f16(void *out, lanes value) {
    _mm_storeu_si128((__m128i *)out, _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

static inline lanes lanes_round_f16(lanes value) {
    return _mm256_cvtph_ps(_mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

// Of pairs of bfloat16 numbers the first and the second of each.
static inline void lanes_split(lanes pairs, lanes *first, lanes *second) {
    __m256i bits = _mm256_castps_si256(pairs);
    *first = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
    *second = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32((int)0xffff0000u)));
}

static inline lanes lanes_add(lanes a, lanes b) {
    return _mm256_add_ps(a, b);
}

static inline lanes lanes_sub(lanes a, lanes b) {
    return _mm256_sub_ps(a, b);
}

static inline lanes lanes_mul(lanes a, lanes b) {
    return _mm256_mul_ps(a, b);
}

static inline lanes lanes_div(lanes a, lanes b) {
    return _mm256_div_ps(a, b);
}

static inline lanes lanes_fma(lanes a, lanes b, lanes c) {
    return _mm256_fmadd_ps(a, b, c);
}

// The greater of the two; b when either is NaN. lanes_min likewise.
static inline lanes lanes_max(lanes a, lanes b) {
    return _mm256_max_ps(a, b);
}

static inline lanes lanes_min(lanes a, lanes b) {
    return _mm256_min_ps(a, b);
}

// value where x >= bound or x is NaN, otherwise 0.
static inline lanes lanes_zero_below(lanes value, lanes x, lanes bound) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, bound, _CMP_LT_OQ), value);
}

// yes where x < bound, otherwise, and where x is NaN, no.
static inline lanes lanes_where_below(lanes x, lanes bound, lanes yes, lanes no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(x, bound, _CMP_LT_OQ));
}

// value * 2^exponent, exponent an integer in [-126, 127].
static inline lanes lanes_scale2(lanes value, lanes exponent) {
    __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
    return _mm256_mul_ps(value, _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)));
}

static inline float lanes_sum(lanes a) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float lanes_greatest(lanes a) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// ---- codes of packed weights (micro_expand.h) ----

typedef uint32_t lanes_ints __attribute__((vector_size(32)));

static inline lanes_ints lanes_bytes(const unsigned char *in) {
    return (lanes_ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)in));
}

static inline lanes_ints lanes_signed_bytes(const unsigned char *in) {
    return (lanes_ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)in));
}

static inline lanes_ints lanes_halves(const unsigned char *in) {
    return (lanes_ints)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)in));
}

// Half as many bytes, each two codes, of which the first lies in the low half, or in the high one.
static inline lanes_ints lanes_nibbles(const unsigned char *in, bool high_first) {
    int word;
    memcpy(&word, in, sizeof word);
    __m256i bytes = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(word));
    __m256i pairs = high_first ? _mm256_or_si256(_mm256_srli_epi64(bytes, 4), _mm256_slli_epi64(bytes, 32))
                               : _mm256_or_si256(bytes, _mm256_slli_epi64(bytes, 28));
    return (lanes_ints)pairs & 15u;
}

static inline lanes lanes_floats(lanes_ints whole) {
    return _mm256_cvtepi32_ps((__m256i)whole);
}

// yes where a number is below the bound, otherwise no; both are below 2^31.
static inline lanes lanes_below(lanes_ints numbers, uint32_t bound, lanes yes, lanes no) {
    __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)bound), (__m256i)numbers);
    return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(below));
}

static inline lanes lanes_with_sign(lanes value, lanes_ints sign) { // in the uppermost bit
    return (lanes)((lanes_ints)value | (sign & 0x80000000u));
}

// Float8 (OCP E4M3).
static inline lanes lanes_load_e4m3(const unsigned char *in) {
    lanes_ints byte = lanes_bytes(in);
    lanes_ints rest = byte & 0x7fu;
    lanes_ints normal = (rest << 20) + (120u << 23);
    lanes small = _mm256_mul_ps(lanes_floats(rest), _mm256_set1_ps(0x1p-9f));
    lanes value = lanes_below(rest, 8, small, (lanes)normal);
    value = lanes_below(rest, 0x7f, value, _mm256_set1_ps(__builtin_nanf("")));
    return lanes_with_sign(value, byte << 24);
}

struct lanes_table { // of 16 numbers
    lanes low;
    lanes high;
};

static inline struct lanes_table lanes_table_load(const void *in) {
    return (struct lanes_table){lanes_load(in), lanes_load((const float *)in + LANES)};
}

static inline lanes lanes_lookup(struct lanes_table table, lanes_ints codes) { // below 16
    lanes low = _mm256_permutevar8x32_ps(table.low, (__m256i)codes);
    lanes high = _mm256_permutevar8x32_ps(table.high, (__m256i)codes);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps((__m256i)(codes << 28)));
}

static inline lanes lanes_gather(const float *in, lanes_ints numbers) {
    return _mm256_i32gather_ps(in, (__m256i)numbers, sizeof *in);
}

// ---- transposing ----

// Of pairs of 16-bit numbers, those of a before those of b, the first and the second of each.
static inline void lanes_unzip(lanes a, lanes b, lanes *first, lanes *second) {
    const __m256i low = _mm256_set1_epi32(0xffff);
    __m256i in_a = _mm256_castps_si256(a);
    __m256i in_b = _mm256_castps_si256(b);
    __m256i firsts = _mm256_packus_epi32(_mm256_and_si256(in_a, low), _mm256_and_si256(in_b, low));
    __m256i seconds = _mm256_packus_epi32(_mm256_srli_epi32(in_a, 16), _mm256_srli_epi32(in_b, 16));
    *first = _mm256_castsi256_ps(_mm256_permute4x64_epi64(firsts, 0xd8)); // a and b were packed half by half
    *second = _mm256_castsi256_ps(_mm256_permute4x64_epi64(seconds, 0xd8));
}

// Row r, lane c to row c, lane r.
static inline void lanes_transpose(lanes rows[LANES]) {
    lanes pairs[LANES];
    lanes fours[LANES]; // [4q + c]: half h holds lane 4h + c of rows 4q to 4q + 3
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i += 4) {
        fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
        fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
    }
#pragma GCC unroll 8
    for (int c = 0; c < 4; c++) {
        rows[c] = _mm256_permute2f128_ps(fours[c], fours[c + 4], 0x20);
        rows[c + 4] = _mm256_permute2f128_ps(fours[c], fours[c + 4], 0x31);
    }
}

#endif
