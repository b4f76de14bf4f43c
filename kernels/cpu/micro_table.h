// SPDX-License-Identifier: MIT
// The functions and tables of a path whose operands are float32: include lanes_*.h of the path first, then
// use MICRO_KERNELS_WIDE to define its tables.
#ifndef STRATA_KERNELS_CPU_MICRO_TABLE_H
#define STRATA_KERNELS_CPU_MICRO_TABLE_H

#include "kernels/cpu/micro_convolution.h"
#include "kernels/cpu/micro_delta.h"
#include "kernels/cpu/micro_experts.h"
#include "kernels/cpu/micro_norms.h"
#include "kernels/cpu/micro_space.h"
#include "kernels/cpu/micro_tile.h"

// Paths with vectors for packed weights include micro_expand.h before.
#ifdef STRATA_KERNELS_CPU_MICRO_EXPAND_H
#define MICRO_EXPAND expand_numbers
#else
#define MICRO_EXPAND micro_expand_portable

MICRO_INLINE void micro_expand_portable(void *out, const struct weight_view *view, size_t row, size_t column,
                                        size_t count, enum dtype dtype) {
    weight_read(out, dtype, view, row, column, count);
}
#endif

// The row micro-kernels of one dtype.
#define MICRO_ROW_FUNCTIONS(suffix, dtype)                                                                   \
    static void store_sums_##suffix(void *out, const float *sums, const void *bias, size_t columns,          \
                                    enum device_store store) {                                               \
        store_sums_row(out, sums, bias, columns, store, dtype);                                              \
    }                                                                                                        \
    static void store_scaled_##suffix(void *out, const float *sums, float factor, size_t count) {            \
        store_scaled_row(out, sums, factor, count, dtype);                                                   \
    }                                                                                                        \
    static void norm_##suffix(void *out, const void *x, const struct device_norm *norm,                      \
                              enum device_store store, size_t width) {                                       \
        norm_row(out, x, norm, store, width, dtype);                                                         \
    }                                                                                                        \
    static void rope_##suffix(void *head, const struct device_norm *norm, const float *cosine,               \
                              const float *sine, const struct device_rope *rope, size_t head_dim) {          \
        rope_row(head, norm, cosine, sine, rope, head_dim, dtype);                                           \
    }                                                                                                        \
    static void scaled_##suffix(void *out, const void *x, float factor, enum device_store store, size_t n) { \
        scaled_row(out, x, factor, store, n, dtype);                                                         \
    }                                                                                                        \
    static void activate_##suffix(void *out, const void *in, const void *up,                                 \
                                  enum device_activation activation, size_t n) {                             \
        activate_row(out, in, up, activation, n, dtype);                                                     \
    }                                                                                                        \
    static void xielu_##suffix(void *out, const void *in, const float *numbers, size_t n) {                  \
        xielu_row(out, in, numbers, n, dtype);                                                               \
    }                                                                                                        \
    static void clamp_##suffix(void *x, float limit, size_t n) {                                             \
        clamp_row(x, limit, n, dtype);                                                                       \
    }                                                                                                        \
    static void gate_##suffix(void *x, const void *gate, size_t n) {                                         \
        gate_row(x, gate, n, dtype);                                                                         \
    }                                                                                                        \
    static void short_convolution_##suffix(void *out, const void *const *in,                                 \
                                           const struct device_short_convolution *shape) {                   \
        short_convolution_row(out, in, shape, dtype);                                                        \
    }                                                                                                        \
    static void activate_limited_##suffix(void *out, const void *in, const void *up, float limit,            \
                                          size_t n) {                                                        \
        activate_limited_row(out, in, up, limit, n, dtype);                                                  \
    }                                                                                                        \
    static void convolve_##suffix(void *out, const struct micro_convolution *from, size_t n) {               \
        convolve_row(out, from, n, dtype);                                                                   \
    }                                                                                                        \
    static void convolve_wide_##suffix(float *out, const struct micro_convolution *from, size_t n) {         \
        convolve_wide_row(out, from, n, dtype);                                                              \
    }                                                                                                        \
    static void space_gates_##suffix(float *step, float *factor, const void *dt,                             \
                                     const struct device_state_space *space, float least, float most,        \
                                     size_t n) {                                                             \
        space_gates_row(step, factor, dt, space, least, most, n, dtype);                                     \
    }                                                                                                        \
    static void space_scan_##suffix(const struct micro_scan *scan) {                                         \
        space_scan_columns(scan, dtype);                                                                     \
    }                                                                                                        \
    static void space_norm_##suffix(void *out, float *y, const void *z, const void *weight, float epsilon,   \
                                    size_t n) {                                                              \
        space_norm_row(out, y, z, weight, epsilon, n, dtype);                                                \
    }                                                                                                        \
    static void convolve_normed_##suffix(float *out, const struct micro_convolution *from, float scale,      \
                                         size_t n) {                                                         \
        convolve_normed_row(out, from, scale, n, dtype);                                                     \
    }                                                                                                        \
    static void delta_gates_##suffix(float *beta, float *factor, const void *b, const void *a,               \
                                     const void *decay, const void *step_bias, size_t n) {                   \
        delta_gates_row(beta, factor, b, a, decay, step_bias, n, dtype);                                     \
    }                                                                                                        \
    static void delta_scan_##suffix(const struct micro_scan *scan) {                                         \
        delta_scan_columns(scan, dtype);                                                                     \
    }                                                                                                        \
    static void delta_norm_##suffix(void *x, const void *z, const void *weight, float epsilon, size_t n) {   \
        delta_norm_row(x, z, weight, epsilon, n, dtype);                                                     \
    }                                                                                                        \
    static void gate_whole_##suffix(void *x, const void *in, const void *weight, size_t n, size_t hidden) {  \
        gate_whole_row(x, in, weight, n, hidden, dtype);                                                     \
    }                                                                                                        \
    static void add_scaled_##suffix(float *sums, const void *numbers, float factor, size_t count) {          \
        add_scaled_row(sums, numbers, factor, count, dtype);                                                 \
    }                                                                                                        \
    static void add_##suffix(float *sums, const void *numbers, size_t count) {                               \
        add_row(sums, numbers, count, dtype);                                                                \
    }                                                                                                        \
    static void turn_##suffix(void *out, size_t out_stride, const void *in, size_t in_stride, size_t rows,   \
                              size_t units) {                                                                \
        turn_numbers(out, out_stride, in, in_stride, rows, units, dtype);                                    \
    }                                                                                                        \
    static void expand_##suffix(void *out, const struct weight_view *view, size_t row, size_t column,        \
                                size_t count) {                                                              \
        MICRO_EXPAND(out, view, row, column, count, dtype);                                                  \
    }

// The packing micro-kernels of one dtype into float32 operands.
#define MICRO_PACK_FUNCTIONS(suffix, dtype)                                                                  \
    static void pack_rows_##suffix(void *out, size_t out_stride, const void *x, size_t x_stride,             \
                                   size_t rows, size_t columns, size_t padded_columns) {                     \
        pack_rows_wide(out, out_stride, x, x_stride, rows, columns, padded_columns, dtype);                  \
    }                                                                                                        \
    static void pack_keys_##suffix(void *panel, const void *keys, size_t stride, size_t count,               \
                                   size_t head_dim) {                                                        \
        pack_keys_wide(panel, keys, stride, count, head_dim, dtype);                                         \
    }                                                                                                        \
    static void pack_values_##suffix(void *panel, const void *values, size_t stride, size_t count,           \
                                     size_t padded_count, size_t columns) {                                  \
        pack_values_wide(panel, values, stride, count, padded_count, columns, dtype);                        \
    }

// The matrix micro-kernels of panels of one kind of halves, with float32 operands.
#define MICRO_WIDENING_FUNCTIONS(suffix, dtype)                                                              \
    static void stream_widening_##suffix(float *sums, size_t sums_stride, const void *a, size_t a_stride,    \
                                         const void *panel, size_t rows, size_t depth, bool accumulate,      \
                                         const void *next) {                                                 \
        stream_widening(sums, sums_stride, a, a_stride, panel, rows, depth, accumulate, next, dtype);        \
    }                                                                                                        \
    static void tile_widening_##suffix(float *sums, size_t sums_stride, const void *a, size_t a_stride,      \
                                       const uint16_t *panel, float *wide, size_t rows, size_t depth,        \
                                       bool accumulate) {                                                    \
        tile_widening(sums, sums_stride, a, a_stride, panel, wide, rows, depth, accumulate, dtype);          \
    }

#define MICRO_ROW_ENTRIES(suffix)                                                                            \
    .store_sums = store_sums_##suffix, .store_scaled = store_scaled_##suffix, .norm = norm_##suffix,         \
    .rope = rope_##suffix, .scaled = scaled_##suffix, .activate = activate_##suffix,                         \
    .xielu = xielu_##suffix, .clamp = clamp_##suffix, .gate = gate_##suffix,                                 \
    .activate_limited = activate_limited_##suffix, .exponents = exponents_row,                               \
    .short_convolution = short_convolution_##suffix, .convolve = convolve_##suffix,                          \
    .convolve_normed = convolve_normed_##suffix, .delta_gates = delta_gates_##suffix,                        \
    .convolve_wide = convolve_wide_##suffix, .space_gates = space_gates_##suffix,                            \
    .space_scan = space_scan_##suffix, .space_norm = space_norm_##suffix, .delta_scan = delta_scan_##suffix, \
    .delta_norm = delta_norm_##suffix, .gate_whole = gate_whole_##suffix, .add_scaled = add_scaled_##suffix, \
    .rescale = rescale_sums, .bend = bend_scores, .add = add_##suffix, .turn = turn_##suffix,                \
    .expand = expand_##suffix, .read = read_all

#define MICRO_WIDE_ENTRIES(suffix)                                                                           \
    .operand = DTYPE_F32, .tile_rows = TILE_ROWS, .tile_columns = TILE_COLUMNS, .depth_unit = 2,             \
    .tile = tile_f32, .tile_asking = tile_asking_f32, .pack_rows = pack_rows_##suffix,                       \
    .pack_keys = pack_keys_##suffix, .pack_values = pack_values_##suffix, .softmax = softmax_f32,            \
    .peak = peak_f32

static inline float softmax_f32(void *probabilities, float *scores, size_t low, size_t high, size_t padded,
                                float scale, float *maximum, float *sum) {
    return softmax_row(probabilities, scores, low, high, padded, scale, maximum, sum, DTYPE_F32);
}

// The tables of a path that multiplies in float32 only.
#define MICRO_KERNELS_WIDE(path)                                                                             \
    MICRO_ROW_FUNCTIONS(f32, DTYPE_F32)                                                                      \
    MICRO_ROW_FUNCTIONS(f16, DTYPE_F16)                                                                      \
    MICRO_ROW_FUNCTIONS(bf16, DTYPE_BF16)                                                                    \
    MICRO_PACK_FUNCTIONS(f32, DTYPE_F32)                                                                     \
    MICRO_PACK_FUNCTIONS(f16, DTYPE_F16)                                                                     \
    MICRO_PACK_FUNCTIONS(bf16, DTYPE_BF16)                                                                   \
    MICRO_WIDENING_FUNCTIONS(f16, DTYPE_F16)                                                                 \
    MICRO_WIDENING_FUNCTIONS(bf16, DTYPE_BF16)                                                               \
    const struct micro_kernels path##_f32 = {MICRO_WIDE_ENTRIES(f32), MICRO_ROW_ENTRIES(f32),                \
                                             .stream = stream_f32};                                          \
    const struct micro_kernels path##_f16 = {MICRO_WIDE_ENTRIES(f16), MICRO_ROW_ENTRIES(f16),                \
                                             .stream = stream_widening_f16,                                  \
                                             .tile_widening = tile_widening_f16};                            \
    const struct micro_kernels path##_bf16 = {MICRO_WIDE_ENTRIES(bf16), MICRO_ROW_ENTRIES(bf16),             \
                                              .stream = stream_widening_bf16,                                \
                                              .tile_widening = tile_widening_bf16};

#endif
