// SPDX-License-Identifier: MIT
// The micro-kernels of one instruction-set path for one computation dtype, and the table of paths.
//
// gemm.c, attention.c, rows.c, norms.c and recurrence.c hold all blocking and threading and are built once;
// what touches numbers in bulk is behind the pointers below, built once a path (cpu/paths/*.c) from the
// shared bodies micro_tile.h, micro_rows.h, micro_norms.h, micro_activations.h, micro_experts.h,
// micro_delta.h and micro_space.h over the vector type of that path (lanes_*.h).
//
// "number" is the computation dtype as it lies in activations. "operand" is the type that tile multiplies:
// bfloat16 where the processor multiplies it, otherwise float32, and numbers are widened when they are
// packed.
//
// A panel is a block of tile_columns columns of a right-hand matrix, [depth][tile_columns] in order of depth;
// with bfloat16 numbers two depths are interleaved: [depth / 2][tile_columns][2]. float16 is not, as it is
// widened from memory a vector at a time. With halves depth is padded with zeros to be even.
#ifndef STRATA_KERNELS_CPU_MICRO_KERNELS_H
#define STRATA_KERNELS_CPU_MICRO_KERNELS_H

#include "kernels/device.h"
#include "kernels/shapes.h"
#include "kernels/weight_format.h"

enum {
    TILE_ROWS_MOST = 32,
    TILE_COLUMNS_MOST = 64,
    MICRO_SCAN_COLUMNS = 32, // of a state that are scanned at a time
};

struct micro_convolution { // of one token over some columns
    const void *first;     // numbers, those of the oldest of the last `near` tokens, itself included
    size_t stride;         // numbers from one to the next
    size_t near;           // at least 1, at most taps
    const void *before;    // those of the taps - near tokens before; NULL: there were none
    size_t before_stride;
    const float *weights; // [taps, weight_stride], with a bias one row more: it
    size_t weight_stride;
    size_t taps;
    bool biased;
};

// Of a value head's columns over some tokens of one text, at least 1. Of a state space B and C are keys and
// queries, x values, and a step is a beta.
struct micro_scan {
    float *state;        // [key_dim, MICRO_SCAN_COLUMNS], read and written; beyond `columns`, too
    const float *keys;   // [tokens, 2 key_dim]: k | q
    const float *beta;   // row stride gate_stride
    const float *factor; // the same, of the state: e^g
    size_t gate_stride;
    const void *values; // numbers, row stride value_stride
    size_t value_stride;
    void *out; // numbers, of a state space float32; row stride out_stride
    size_t out_stride;
    float skip; // of a state space, the head's
    size_t tokens;
    size_t key_dim;
    size_t columns; // at most MICRO_SCAN_COLUMNS
};

struct tile_kernels;

struct micro_kernels {
    enum dtype operand;
    size_t tile_rows;
    size_t tile_columns;
    size_t depth_unit;                // depths and padded columns below are multiples of it
    const struct tile_kernels *tiles; // matmuls run through these (tile_matmul.c); NULL: gemm.c

    // Around the calls of a thread, where the processor's state has to be set up for them; NULL: nothing to
    // do.
    void (*begin)(void);
    void (*end)(void);

    // sums[r, c] (+)= sum over k < depth of a[r, k] * panel[k, c], for r < rows <= tile_rows and all columns,
    // k ascending, in float32; rows beyond may hold anything afterwards. a: operands, row stride a_stride,
    // all tile_rows may be read; depth is a multiple of depth_unit. sums: row stride sums_stride.
    void (*tile)(float *sums, size_t sums_stride, const void *a, size_t a_stride, const void *panel,
                 size_t rows, size_t depth, bool accumulate);

    // The same bits; asks the memory on the way for the line at `next` and, `step` bytes on a depth, for
    // those after it. Not there with `tiles`.
    void (*tile_asking)(float *sums, size_t sums_stride, const void *a, size_t a_stride, const void *panel,
                        size_t rows, size_t depth, bool accumulate, const void *next, size_t step);

    // The same bits from a panel of halves as it lies in a matrix, which this leaves in `wide` as
    // operands for the tiles after it. NULL where panels hold operands already.
    void (*tile_widening)(float *sums, size_t sums_stride, const void *a, size_t a_stride,
                          const uint16_t *panel, float *wide, size_t rows, size_t depth, bool accumulate);

    // The same bits from a panel as it lies in a matrix (not widened), for exactly `rows` rows. Asks the
    // memory for half as many bytes at `next` as it reads. Not there with `tiles`.
    void (*stream)(float *sums, size_t sums_stride, const void *a, size_t a_stride, const void *panel,
                   size_t rows, size_t depth, bool accumulate, const void *next);

    // Numbers x [rows, columns] (row stride x_stride) to operands [rows, padded_columns] (row stride
    // out_stride); what is beyond columns becomes zero.
    void (*pack_rows)(void *out, size_t out_stride, const void *x, size_t x_stride, size_t rows,
                      size_t columns, size_t padded_columns);

    // out[u][r] = in[r][u] for u < units and r < rows; a unit is a number, of bfloat16 a pair of them;
    // out_stride in units, in_stride in bytes. What rows of weights become panels with.
    void (*turn)(void *out, size_t out_stride, const void *in, size_t in_stride, size_t rows, size_t units);

    // Numbers [column, column + count) of a row of weights, the bits of weight_read.
    void (*expand)(void *out, const struct weight_view *view, size_t row, size_t column, size_t count);

    // out[c] = sums[c] + bias[c], or out[c] + that (DEVICE_ADD), rounded as device_matmul says; bias may be
    // NULL.
    void (*store_sums)(void *out, const float *sums, const void *bias, size_t columns,
                       enum device_store store);

    // Keys [count, head_dim] (numbers, row stride `stride`) to one panel of operands whose columns are keys
    // and whose depth is head_dim; values to one panel whose columns are the head's dimensions and whose
    // depth is keys (columns <= tile_columns of them; rows beyond count up to padded_count become zero).
    // Depths of keys beyond head_dim, up to a multiple of depth_unit, become zero.
    void (*pack_keys)(void *panel, const void *keys, size_t stride, size_t count, size_t head_dim);
    void (*pack_values)(void *panel, const void *values, size_t stride, size_t count, size_t padded_count,
                        size_t columns);

    // What a model makes of scores [low, high) before their softmax: scaled, then softcap * tanh(score /
    // softcap) unless softcap is 0, then slope * (first + i) is added.
    void (*bend)(float *scores, size_t low, size_t high, float scale, float softcap, float slope,
                 float first);

    // One step of a running softmax over a block of keys. scores [padded] are overwritten; keys in [low,
    // high) are seen. probabilities [padded] (operands, 0 where not seen) = exp(score * scale - maximum);
    // maximum and sum are brought up to date. Returns the factor that what was summed under the old maximum
    // must be multiplied with.
    float (*softmax)(void *probabilities, float *scores, size_t low, size_t high, size_t padded, float scale,
                     float *maximum, float *sum);
    void (*rescale)(float *sums, float factor, size_t count); // sums *= factor
    void (*store_scaled)(void *out, const float *sums, float factor,
                         size_t count); // out = sums * factor, as numbers

    void (*add)(float *sums, const void *numbers, size_t count); // sums += numbers

    // ---- one row, as operations.h says ----

    void (*norm)(void *out, const void *x, const struct device_norm *norm, enum device_store store,
                 size_t width);
    // One head, but for the query_scale. cosine and sine: of its row.
    void (*rope)(void *head, const struct device_norm *norm, const float *cosine, const float *sine,
                 const struct device_rope *rope, size_t head_dim);
    void (*scaled)(void *out, const void *x, float factor, enum device_store store,
                   size_t n); // out (+)= x * factor; out may be x
    void (*activate)(void *out, const void *in, const void *up, enum device_activation activation,
                     size_t n); // out = activation(in), times up where that is not NULL; out may be in
    // numbers [DEVICE_XIELU_NUMBERS]: alphas after softplus, the second with beta added.
    void (*xielu)(void *out, const void *in, const float *numbers, size_t n);
    void (*clamp)(void *x, float limit, size_t n);     // x at most limit, at least -limit
    void (*gate)(void *x, const void *gate, size_t n); // x *= sigmoid(gate)

    // in: rows of b | c | x of the taps; NULL: nothing.
    void (*short_convolution)(void *out, const void *const *in, const struct device_short_convolution *shape);

    // ---- mixtures of experts ----

    void (*activate_limited)(void *out, const void *in, const void *up, float limit,
                             size_t n);                           // as struct device_experts says
    void (*exponents)(float *numbers, float shift, size_t count); // e^(number - shift)
    void (*add_scaled)(float *sums, const void *numbers, float factor,
                       size_t count); // sums += factor * numbers

    // ---- linear attention, as operations.h says of device_delta_net ----

    // v of some columns.
    void (*convolve)(void *out, const struct micro_convolution *from, size_t n);
    void (*convolve_wide)(float *out, const struct micro_convolution *from, size_t n); // the same, widened
    // q or k of one head, normalised, times scale.
    void (*convolve_normed)(float *out, const struct micro_convolution *from, float scale, size_t n);
    // beta and e^g of n heads.
    void (*delta_gates)(float *beta, float *factor, const void *b, const void *a, const void *decay,
                        const void *step_bias, size_t n);
    void (*delta_scan)(const struct micro_scan *scan); // o, and the state after the tokens
    // One head of out from o, in place.
    void (*delta_norm)(void *x, const void *z, const void *weight, float epsilon, size_t n);

    // ---- state spaces, as operations.h says of device_state_space ----

    // Steps of n heads and what becomes of their states, exp(-exp(decay) step). Steps are cut to `least` ..
    // `most`, which are numbers.
    void (*space_gates)(float *step, float *factor, const void *dt, const struct device_state_space *space,
                        float least, float most, size_t n);
    void (*space_scan)(const struct micro_scan *scan); // h C + skip x, and the state after the tokens
    // n columns of one group of out, from what the scan left in y, which is spoilt.
    void (*space_norm)(void *out, float *y, const void *z, const void *weight, float epsilon, size_t n);

    // x *= sigmoid(in . weight); x [n], in and weight [hidden].
    void (*gate_whole)(void *x, const void *in, const void *weight, size_t n, size_t hidden);

    // `rounds` rounds of one product onto each of tile_rows x tile_columns sums, from registers alone: the
    // limit of tile. Returns the number of floating-point operations. sums [tile_rows, tile_columns] are read
    // first and written last.
    double (*peak)(size_t rounds, float *sums);

    // Reads `bytes` from memory and does next to nothing with them; the result depends on all of them.
    float (*read)(const void *data, size_t bytes);
};

static inline void micro_kernels_begin(const struct micro_kernels *kernels) {
    if (kernels->begin != NULL) {
        kernels->begin();
    }
}

static inline void micro_kernels_end(const struct micro_kernels *kernels) {
    if (kernels->end != NULL) {
        kernels->end();
    }
}

enum cpu_path_use {
    CPU_PATH_FOR_ALL,
    CPU_PATH_FOR_BF16, // its float32 and float16 are another path's
    CPU_PATH_BY_NAME,  // only when a job or a test names it
};

struct cpu_features;

struct cpu_path {
    const char *name;
    enum cpu_path_use use;
    bool (*available)(const struct cpu_features *features);
    const struct micro_kernels *f32;
    const struct micro_kernels *f16;
    const struct micro_kernels *bf16;
};

static inline const struct micro_kernels *cpu_path_kernels(const struct cpu_path *path, enum dtype dtype) {
    return dtype == DTYPE_F32 ? path->f32 : dtype == DTYPE_F16 ? path->f16 : path->bf16;
}

extern const struct micro_kernels portable_f32;
extern const struct micro_kernels portable_f16;
extern const struct micro_kernels portable_bf16;
extern const struct micro_kernels amxbf16_twin_bf16;
#if defined(__x86_64__)
extern const struct micro_kernels avx2_f32;
extern const struct micro_kernels avx2_f16;
extern const struct micro_kernels avx2_bf16;
extern const struct micro_kernels avx512_f32;
extern const struct micro_kernels avx512_f16;
extern const struct micro_kernels avx512_bf16;
extern const struct micro_kernels avx512bf16_bf16;
extern const struct micro_kernels amxbf16_bf16;
#endif

#endif
