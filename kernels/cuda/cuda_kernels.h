// SPDX-License-Identifier: MIT
// The kernels of the CUDA back end, as the host sees them: each call queues one operation of operations.h on
// a stream and returns what the launch said. Shapes, dtypes and meaning are those of operations.h; arguments
// were checked. C linkage, so that host files stay C.
//
// A row's result depends on that row (attention: on its text) alone, through sums in an order that is fixed
// by its own shape: one block a row in norms, attention tiles counted from the start of the text, pooling in
// token order, no float atomics.
#ifndef STRATA_KERNELS_CUDA_CUDA_KERNELS_H
#define STRATA_KERNELS_CUDA_CUDA_KERNELS_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"
#include "kernels/shapes.h"

#ifdef __cplusplus
extern "C" {
#endif

// Part of a run's identity: raise it with every change that may change a bit of a result.
enum { CUDA_KERNELS_VERSION = 1 };

// cudaSuccess when this program has code for the current GPU (or code that the driver can compile for it).
cudaError_t kernels_built(void);

// Rows [first, first + rows) of a view, and as many of others: copy c is of a view whose parts lie c *
// bytes_apart behind, from row first + c * rows_apart on, and goes to number c * out_apart. With `starts`
// only copies whose starts[c] and starts[c + 1] differ.
struct expansion {
    size_t first;
    size_t rows;
    size_t copies;
    size_t rows_apart;
    size_t bytes_apart;
    size_t out_apart;      // a multiple of a row's columns
    const int32_t *starts; // [copies + 1] in device memory; NULL: all
};

// out: [rows, view->columns] numbers of `dtype`; the view's parts lie in device memory.
cudaError_t launch_expand(cudaStream_t stream, void *out, enum dtype dtype, const struct weight_view *view,
                          const struct expansion *expansion);

cudaError_t launch_embed(cudaStream_t stream, enum dtype dtype, void *out, const void *table,
                         const int32_t *ids, float scale, enum device_store store, size_t tokens,
                         size_t hidden);

cudaError_t launch_norm(cudaStream_t stream, enum dtype dtype, void *out, const void *x,
                        const struct device_norm *norm, enum device_store store, size_t tokens,
                        size_t hidden);

cudaError_t launch_norm_groups(cudaStream_t stream, enum dtype dtype, void *x,
                               const struct device_groups *groups, const struct device_norm *norm,
                               size_t tokens);

cudaError_t launch_add(cudaStream_t stream, enum dtype dtype, void *x, const void *y, float scale,
                       size_t tokens, size_t hidden);

cudaError_t launch_scale(cudaStream_t stream, enum dtype dtype, void *x, const void *factor, size_t tokens,
                         size_t hidden);

cudaError_t launch_qk_norm_rope(cudaStream_t stream, enum dtype dtype, void *qkv,
                                const struct device_rope *rope, struct device_heads heads, size_t tokens);

// Halves: mma.sync over tiles of 64 keys (32 above 128 numbers a head, 16 above 256) with a running softmax
// (FlashAttention-2, Dao 2023); float32: the same scheme with multiply-adds.
enum { ATTENTION_TILE = 64 };

// What one or more blocks of the grid compute: query rows [first, first + ATTENTION_TILE) of the text [start,
// end), all in tokens of the batch: where the batch does not have the text's first tokens, of a slice or of
// what goes on from another text, the start lies before the text's own and may be negative.
struct attention_tile {
    int32_t start;
    int32_t end;
    int32_t first; // token of the batch, a multiple of ATTENTION_TILE behind the text's first there
    int32_t text;
};

// Room for the tiles of any batch of `tokens` tokens: a text adds at most one tile that is not full.
static inline size_t attention_tiles_most(size_t tokens) {
    return tokens / ATTENTION_TILE + tokens;
}

// Tiles of a batch, from starts in host memory; the launch's grid.
size_t attention_tile_count(const int32_t *host_starts, size_t texts);

// Sizes of heads that the kernels are built for: multiples of the step.
enum { ATTENTION_HEAD_STEP = 8, ATTENTION_HEAD_MOST = 512, ATTENTION_HEADS_MOST = 65535 };

// False when the head size is not one of them.
bool attention_has(size_t head_dim);

// Fills tiles [tile_count], tile_count = attention_tile_count(...) > 0.
cudaError_t launch_attention_tiles(cudaStream_t stream, struct attention_tile *tiles,
                                   const struct device_texts *texts, size_t tile_count);

// Whether there is a kernel whose warps have two query heads each: the same bits at another speed.
bool attention_pairs(enum dtype dtype, struct device_heads heads);

// Bytes of a multiprocessor's shared memory from which on that is the kernel to take.
enum { ATTENTION_PAIRS_SHARED = 160 << 10 };

cudaError_t launch_keep(cudaStream_t stream, enum dtype dtype, void *kept, const void *qkv,
                        struct device_heads heads, size_t tokens);

// kept: of the first token.
cudaError_t launch_keep_packed(cudaStream_t stream, enum dtype dtype, void *kept, const void *qkv,
                               struct device_heads heads, size_t tokens, enum device_keeping keeping);

// tiles: as launch_attention_tiles filled them, for the same texts; pairs: two heads a warp,
// where attention_pairs has it.
cudaError_t launch_attention(cudaStream_t stream, enum dtype dtype, void *out, const void *qkv,
                             const struct device_attention *shape, const struct device_texts *texts,
                             const struct attention_tile *tiles, size_t tile_count, bool pairs);

cudaError_t launch_activate(cudaStream_t stream, enum dtype dtype, void *out, const void *in,
                            enum device_activation activation, bool gated, size_t tokens, size_t width);

cudaError_t launch_xielu(cudaStream_t stream, enum dtype dtype, void *out, const void *in,
                         const void *numbers, size_t tokens, size_t width);

cudaError_t launch_clamp(cudaStream_t stream, enum dtype dtype, void *x, float limit, size_t tokens,
                         size_t width);

// What texts of a batch begin from: what the slice before left, or the head.
struct text_beginning {
    const void *from;                    // NULL: every text begins from nothing
    const struct device_origin *origins; // in device memory: texts behind no token do so; NULL: none does
};

// before: the taps - 1 rows before texts, as launch_causal_tail left them.
cudaError_t launch_short_convolution(cudaStream_t stream, enum dtype dtype, void *out, const void *in,
                                     const struct device_short_convolution *shape,
                                     const struct device_texts *texts, struct text_beginning before,
                                     size_t tokens);

cudaError_t launch_activate_by(cudaStream_t stream, enum dtype dtype, void *out, const void *in,
                               const void *factor, size_t factor_stride, enum device_activation activation,
                               size_t tokens, size_t width);

cudaError_t launch_gate(cudaStream_t stream, enum dtype dtype, void *x, const void *in,
                        const struct device_gates *gates, size_t tokens);

// As device_gate_rows.
cudaError_t launch_gate_rows(cudaStream_t stream, enum dtype dtype, void *x, const void *in,
                             const void *weight, size_t tokens, size_t width, size_t hidden);

cudaError_t launch_copy_columns(cudaStream_t stream, enum dtype dtype, void *out, const void *in,
                                const struct device_columns *columns, size_t tokens);

cudaError_t launch_pool(cudaStream_t stream, enum dtype dtype, void *out, enum dtype out_dtype,
                        struct device_row_check *checks, const void *x, const struct device_span *spans,
                        const struct device_texts *texts, size_t rows, size_t hidden);

// ---- mixtures of experts ----

cudaError_t launch_route(cudaStream_t stream, enum dtype dtype, const struct device_routes *routes,
                         const void *x, const void *router, const void *bias,
                         const struct device_routing *routing, size_t tokens, size_t hidden);

enum {
    EXPERTS_TILE = 128, // rows of a matmul's block
    EXPERTS_STEP = 8,   // hidden and width are multiples of it
};

// Of the rows that belong to one expert in the sorted order: a tile is one of a group of `count` tiles that
// begins with tile number `begin`, at row `first`; the expert's rows go to `end`. count 0: there is no tile.
struct experts_tile {
    int32_t expert;
    int32_t begin;
    int32_t count;
    int32_t first;
    int32_t end;
};

// Room for the tiles of any choice of `pairs` pairs of a token and an expert.
size_t experts_tile_count(size_t pairs, size_t experts);

// Fills tiles [experts_tile_count], starts [count + 1] and order [pairs] from the experts [pairs] of each
// token. count: of experts.
cudaError_t launch_experts_order(cudaStream_t stream, struct experts_tile *tiles, int32_t *starts,
                                 int32_t *order, const int32_t *experts, size_t pairs, size_t count);

// scaled[pair] = x[token] * weights[pair], [pairs, hidden].
cudaError_t launch_experts_scale(cudaStream_t stream, enum dtype dtype, void *scaled, const void *x,
                                 const float *weights, size_t pairs, size_t chosen, size_t hidden);

// The experts [first, end) of a matrix, the first of which begins where `weights` points.
struct experts_part {
    const void *weights;
    size_t first;
    size_t end;
};

// inner [pairs in the sorted order, width] = activation(gate) * up, or activation(up), of x, in which pair p
// has row p / pairs_a_row: of pairs whose expert is one of the part's.
cudaError_t launch_experts_inner(cudaStream_t stream, enum dtype dtype, void *inner, const void *x,
                                 size_t pairs_a_row, const struct device_experts *experts,
                                 const struct experts_part *part, const int32_t *order,
                                 const struct experts_tile *tiles, size_t pairs);

// products [pairs, hidden] of inner, of the same pairs.
cudaError_t launch_experts_down(cudaStream_t stream, enum dtype dtype, void *products, const void *inner,
                                const struct device_experts *experts, const struct experts_part *part,
                                const int32_t *order, const struct experts_tile *tiles, size_t pairs);

// out[t] = the sum of weights * products over t's experts; adds: it is added to out[t]. weights NULL: ones.
cudaError_t launch_experts_sum(cudaStream_t stream, enum dtype dtype, void *out, const void *products,
                               const float *weights, bool adds, size_t tokens, size_t chosen, size_t hidden);

// ---- linear attention ----

// What the convolution of the next slice needs of `columns` columns of this one's rows of `stride`: its last
// `rows` rows (> 0), after those that `before` [rows, columns] holds (NULL: zeros), which may be the tail.
cudaError_t launch_causal_tail(cudaStream_t stream, enum dtype dtype, void *tail, const void *before,
                               const void *in, size_t stride, size_t columns, size_t rows, size_t tokens);

// Sizes of a delta net's queries, keys and values that the kernels are built for: multiples of the step.
enum { DELTA_NET_STEP = 8, DELTA_NET_MOST = 256 };

static inline bool delta_net_has(size_t dim) {
    return dim % DELTA_NET_STEP == 0 && dim <= DELTA_NET_MOST;
}

// Numbers of a value head's gates in scratch, which has [tokens, key_heads, key_dim] queries, as many keys
// and [tokens, value_heads, DELTA_NET_GATES] in float32: exp(g) and beta, and two that fill 16 bytes, which
// is what an asynchronous copy brings.
enum { DELTA_NET_GATES = 4 };

// Of all tokens: queries, keys and gates into scratch, values into out. tail: the rows before texts, as
// launch_causal_tail left them.
cudaError_t launch_delta_net_rows(cudaStream_t stream, enum dtype dtype, void *out, void *scratch,
                                  const void *in, const struct device_delta_net *net,
                                  const struct device_texts *texts, struct text_beginning tail);

// Turns out from values into o, from what launch_delta_net_rows left. before: the heads' states before texts;
// state: after a slice, which without origins is in the place of what it begins from; NULL: whole texts.
cudaError_t launch_delta_net_scan(cudaStream_t stream, enum dtype dtype, void *out, void *scratch,
                                  const struct device_delta_net *net, const struct device_texts *texts,
                                  struct text_beginning before, float *state);

// And from o into its gated norm.
cudaError_t launch_delta_net_norm(cudaStream_t stream, enum dtype dtype, void *out, const void *in,
                                  const struct device_delta_net *net, size_t tokens);

// ---- state spaces ----

// Of all tokens: x, B, C and gates into scratch, which is laid out as state_space.h says. tail: the rows
// before texts, as launch_causal_tail left them.
cudaError_t launch_state_space_rows(cudaStream_t stream, enum dtype dtype, void *scratch, const void *in,
                                    const struct device_state_space *space, const struct device_texts *texts,
                                    struct text_beginning tail);

// h C + skip x into scratch, from what launch_state_space_rows left there. before: the heads' states before
// texts; state: after a slice, which without origins is in the place of what it begins from; NULL: whole
// texts.
cudaError_t launch_state_space_scan(cudaStream_t stream, void *scratch,
                                    const struct device_state_space *space, const struct device_texts *texts,
                                    struct text_beginning before, float *state);

// And from it its gated norm into out.
cudaError_t launch_state_space_norm(cudaStream_t stream, enum dtype dtype, void *out, void *scratch,
                                    const void *in, const struct device_state_space *space, size_t tokens);

// out[i] = source[i] in another format, rounded to nearest even (float16, bfloat16, float32 to dtype).
cudaError_t launch_convert(cudaStream_t stream, void *out, enum dtype dtype, const void *source,
                           enum dtype source_dtype, size_t count);

// ---- for the self-test of matmuls ----

// Seeded numbers in about [-1, 1): number i of `out` is a function of seed and i alone.
cudaError_t launch_fill(cudaStream_t stream, enum dtype dtype, void *out, size_t count, uint64_t seed);

// *differences += numbers of a and b whose bits differ (rows of `bytes`, a multiple of 4).
cudaError_t launch_compare(cudaStream_t stream, unsigned *differences, const void *a, const void *b,
                           size_t bytes);

// ---- for benchmarks ----

// A loop of matrix instructions (halves) or multiply-adds (float32) in registers on every multiprocessor;
// *operations are those it does.
cudaError_t launch_peak(cudaStream_t stream, enum dtype dtype, int multiprocessors, float *sink,
                        double *operations);

#ifdef __cplusplus
}
#endif

#endif
