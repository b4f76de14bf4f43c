// SPDX-License-Identifier: MIT
// What a gated delta net and a state space have in common: every head of a text has a state, which its tokens
// change one after another, made from keys, queries and values that a causal convolution mixed.
//
// Token by token: what a state is after some tokens has the same bits however these come in slices, and
// whatever else is computed. The batch goes in pieces of its tokens: first the keys, queries, values and
// gates of all of them, spread by token, then the states, spread by blocks of their columns (which go their
// own ways), then norms. So scratch is small, and what was just written is read from a cache. A text that the
// end of a piece cuts leaves its states as one does at the end of a slice.
//
// The names are a delta net's; of a state space B is a key, C a query, and x a value.
#ifndef STRATA_KERNELS_CPU_RECURRENCE_H
#define STRATA_KERNELS_CPU_RECURRENCE_H

#include "kernels/cpu/rows.h"

struct recurrence_sizes {
    size_t key_heads;
    size_t value_heads; // a multiple of it
    size_t key_dim;
    size_t value_dim;
    size_t taps;
    size_t width;     // numbers of a row of the input,
    size_t first;     // of them before those that are convolved,
    size_t mixed;     // and how many those are
    bool has_bias;    // the convolution may have one
    bool keeps_wide;  // what comes out of the states is float32 until it is normalised
    size_t out_width; // value_heads * value_dim
};

struct recurrence_layout { // of scratch; offsets in bytes
    size_t tokens;         // of a piece
    size_t weights;        // float [taps, mixed] of the convolution, with has_bias then [mixed]
    size_t keys;           // float [key_heads, tokens, 2 key_dim]: k | q
    size_t values;         // numbers [value_heads, tokens, value_dim]
    size_t beta;           // float [tokens, value_heads]
    size_t factors;        // float [tokens, value_heads]: of the state
    size_t states;         // float [value_heads, key_dim, value_dim]
    size_t blocks;         // float [threads, key_dim, MICRO_SCAN_COLUMNS]
    size_t wide;           // float [tokens, out_width] with keeps_wide
    size_t bytes;
};

// Grows with tokens, so that a smaller batch fits into scratch that was planned for the largest. False on
// overflow.
bool recurrence_lay_out(const struct cpu_device *cpu, const struct recurrence_sizes *sizes, size_t tokens,
                        struct recurrence_layout *out);

struct recurrence {
    struct rows rows; // tokens of the piece
    const void *net;  // struct device_delta_net or struct device_state_space
    struct recurrence_sizes sizes;
    // Of token `token` of the batch: what goes into its states, `at` tokens into the piece. mixed: its
    // convolution's rows, from the first column on.
    void (*mix)(const struct recurrence *job, size_t token, size_t at, const struct micro_convolution *mixed);
    void (*scan)(const struct micro_scan *scan);
    // From what came out of its states what is written.
    void (*norm)(const struct recurrence *job, size_t token, size_t at);
    const void *skips; // [value_heads] numbers; NULL: none
    enum dtype dtype;
    size_t tokens;  // that a piece has room for
    size_t first;   // of the piece in the batch
    size_t text;    // that the piece begins in
    const void *in; // [.., width]
    void *out;      // [.., out_width]
    const int32_t *starts;
    const struct device_texts *texts;
    bool resumes;  // the batch goes on from the slice before
    float *states; // of the text that the last piece cut, or the slice
    bool keeps;    // states of the last text are left
    float *weights;
    bool biased; // the convolution
    float *keys;
    void *values;
    float *beta;
    float *factors;
    float *blocks;
    float *wide;
    size_t column_blocks; // of a value head
};

// Of a batch or a slice, as operations.h says of device_delta_net. Fill in rows.cpu, net, sizes, mix, scan,
// norm, skips and what the call came with; the convolution's weights are numbers [mixed, taps], its bias
// [mixed] or NULL.
int recurrence_run(struct recurrence *job, const void *weights, const void *bias, struct device_texts texts,
                   void *state, void *scratch, struct error *err);

// The same taps of columns from `column` on.
struct micro_convolution recurrence_column(const struct recurrence *job, const struct micro_convolution *from,
                                           size_t column);

#endif
