// SPDX-License-Identifier: MIT
// Every operation of a forward pass once, with its shapes.
//
// Numbers. A device is opened for one computation dtype (float32, float16 or bfloat16): activations and
// weights have it unless said otherwise. Sums run in float32 and in an order that depends on shapes of one
// text alone, never on the batch, the position in it or the number of threads: results are batch-invariant.
// The two halves round where transformers' eager code rounds (the rounding points are named at each
// operation); the CUDA back end skips roundings between steps that it fuses, never adds one. float16 keeps
// subnormal numbers, and what is beyond 65504 becomes infinite, from where it goes on as any number does.
//
// Row budget. A plan names the most tokens a batch has (device_plan.tokens). Every [tokens, ...] buffer given
// to device_matmul has room for that many rows, and a back end may compute all of them (the CUDA back end
// runs every matmul at this one shape, which is what keeps a row's bits): rows from `tokens` on hold anything
// afterwards.
//
// Shapes are written [rows, columns], row-major and contiguous unless a stride is named. "tokens" is the
// number of tokens of the packed batch. Outputs do not overlap inputs unless said otherwise. Indices (ids,
// starts, spans, rope rows) are int32 in device memory.
#ifndef STRATA_KERNELS_OPERATIONS_H
#define STRATA_KERNELS_OPERATIONS_H

#include "kernels/device.h"
#include "kernels/shapes.h"

// out[t, :] (+)= table[ids[t], :] * scale, rounded before it is added. table [.., hidden], row-major. Ids are
// the caller's to check.
int device_embed(struct device *device, void *out, const void *table, const int32_t *ids, float scale,
                 enum device_store store, size_t tokens, size_t hidden, struct error *err);

// out[t, :] (+)= the norm of x[t, :] (struct device_norm), rounded before it is added. out may be x.
int device_norm(struct device *device, void *out, const void *x, const struct device_norm *norm,
                enum device_store store, size_t tokens, size_t hidden, struct error *err);

// In place on x [tokens, groups->stride]: every group of columns becomes its norm.
int device_norm_groups(struct device *device, void *x, const struct device_groups *groups,
                       const struct device_norm *norm, size_t tokens, struct error *err);

// out[t, first + g * apart + i] = in[t, in_first + g * in_apart + i], groups g < count, i < width, as columns
// say; zeros where in is NULL. out does not overlap in.
int device_copy_columns(struct device *device, void *out, const void *in,
                        const struct device_columns *columns, size_t tokens, struct error *err);

// x[t, :] += y[t, :] * scale. Halves: the product is rounded, then the sum.
int device_add(struct device *device, void *x, const void *y, float scale, size_t tokens, size_t hidden,
               struct error *err);

// x[t, :] *= factor[0], a weight.
int device_scale(struct device *device, void *x, const void *factor, size_t tokens, size_t hidden,
                 struct error *err);

// x [tokens, matrix->columns], out [tokens, matrix->rows]; bias [matrix->rows] or NULL.
int device_matmul(struct device *device, void *out, const void *x, const struct device_matrix *matrix,
                  const void *bias, size_t tokens, enum device_store store, struct error *err);

// Chooses how matmuls of this shape, store and bias are computed, for back ends that have a choice (the CUDA
// back end: cuBLASLt algorithms). Times the candidates unless device_set_algorithms named one, and proves on
// the device that a row's bits depend neither on the other rows nor on its place; a candidate that fails is
// passed over. x and out are activation buffers of plan.tokens rows; their contents are lost. The matrix is
// one of that shape whose weights are loaded: zeros prove nothing (STATUS_INTERNAL). Before device_seal; a
// shape tuned before costs nothing. STATUS_DEVICE when no candidate is left, or when one that binds is not to
// be had.
int device_matmul_tune(struct device *device, void *out, void *x, const struct device_matrix *matrix,
                       const void *bias, enum device_store store, struct error *err);

// Whether matmuls of this shape, store and bias can be computed in batches of `tokens`, before any memory is
// there. STATUS_DEVICE, saying why, when not (the CUDA back end: cuBLASLt knows no algorithm that keeps a
// row's bits).
int device_check_matmul(struct device *device, size_t tokens, size_t rows, size_t columns, bool bias,
                        enum device_store store, struct error *err);

// In place on qkv [tokens, device_heads_width], columns q | k | v, a gap behind each query head: each q and k
// head is normalised, then rotated, then queries are scaled, as rope says.
int device_qk_norm_rope(struct device *device, void *qkv, const struct device_rope *rope,
                        struct device_heads heads, size_t tokens, struct error *err);

// Bytes of DEVICE_SCRATCH that device_attention needs for these shapes (0 if none); false on overflow.
bool device_attention_scratch(const struct device *device, const struct device_attention *shape,
                              size_t *bytes);

// kept[row + t, :] = the columns k | v of qkv[t, :]. kept [.., 2 kv_heads * head_dim].
int device_keep(struct device *device, void *kept, size_t row, const void *qkv, struct device_heads heads,
                size_t tokens, struct error *err);

// The same in blocks of numbers (enum device_keeping, not DEVICE_KEEP_COMPUTED), of heads whose head_dim is a
// multiple of DEVICE_KEEP_BLOCK: a row has its keys' blocks, then its values', device_kept_bytes in all. Both
// back ends make the same bytes.
//   q8_0: scale = max |x| / 127, n = x / scale rounded to nearest, halves away from zero;
//   q4_0: scale = m / -8, m the number with the largest |m| (of equals the first),
//         n = min(15, floor(x / scale + 8.5)), x = (n - 8) scale.
// x / scale is x times the float32 1 / scale, of a scale that is not rounded to float16 yet; where that is
// not finite (of zeros, and of numbers below about 1e-37) 0. A block with a number that is not finite has the
// scale NaN (0x7e00), and otherwise what a block of zeros has.
int device_keep_packed(struct device *device, void *kept, size_t row, const void *qkv,
                       struct device_heads heads, size_t tokens, enum device_keeping keeping,
                       struct error *err);

// out [rows, 2 kv_heads * head_dim] = what device_keep_packed kept from row 0 on, times its scale in float32
// and rounded once.
int device_expand_kept(struct device *device, void *out, const void *kept, struct device_heads heads,
                       size_t rows, enum device_keeping keeping, struct error *err);

// Causal softmax(q k^T * scale) v within each text, or of a slice of one (texts.kept), or of what goes on
// from another (texts.origins), with the bits that it has in the whole text. qkv as above, out [tokens, heads
// * head_dim]. Scores are not rounded (transformers' eager halves round them, and overflow in float16);
// probabilities are where halves are multiplied as they are; out is.
int device_attention(struct device *device, void *out, const void *qkv, const struct device_attention *shape,
                     struct device_texts texts, void *scratch, struct error *err);

// out[t, i] = activation(in[t, i]), gated: times in[t, width + i]. in [tokens, width], gated [tokens, 2
// width]. Halves: the activation is rounded, then the product.
int device_activate(struct device *device, void *out, const void *in, enum device_activation activation,
                    bool gated, size_t tokens, size_t width, struct error *err);

// out[t, i] = xIELU(in[t, i]) (Huang and Schlag, arXiv 2411.13010) of the learned numbers, a weight of
// DEVICE_XIELU_NUMBERS: with a = softplus(alpha of x's sign), of x > 0 a x x + beta x, else
// (expm1(min(x, epsilon)) - x) (beta + a) + beta x. in and out [tokens, width]. Halves: every step is
// rounded.
int device_xielu(struct device *device, void *out, const void *in, const void *numbers, size_t tokens,
                 size_t width, struct error *err);

// x[t, i] becomes at most limit and at least -limit; NaN stays. x [tokens, width]; limit > 0.
int device_clamp(struct device *device, void *x, float limit, size_t tokens, size_t width, struct error *err);

// out[t, i] = activation(in[t, i]) * factor[t * factor_stride + i], rounded as above. in, out [tokens,
// width].
int device_activate_by(struct device *device, void *out, const void *in, const void *factor,
                       size_t factor_stride, enum device_activation activation, size_t tokens, size_t width,
                       struct error *err);

// x[t, g * width + i] *= sigmoid(in[t * stride + g * apart + i]) of every group g. x [tokens, groups *
// width]. Halves: the sigmoid is rounded, then the product.
int device_gate(struct device *device, void *x, const void *in, const struct device_gates *gates,
                size_t tokens, struct error *err);

// x[t, :] *= sigmoid(in[t, :] . weight). x [tokens, width], in [tokens, hidden], weight [hidden]. The product
// is float32; halves: it is rounded, then its sigmoid, then the result.
int device_gate_rows(struct device *device, void *x, const void *in, const void *weight, size_t tokens,
                     size_t width, size_t hidden, struct error *err);

// Bytes of DEVICE_SCRATCH that device_delta_net needs for batches of at most `tokens`; false on overflow. Of
// `net` the sizes count, not the weights.
bool device_delta_net_scratch(const struct device *device, const struct device_delta_net *net, size_t tokens,
                              size_t *bytes);

// A gated delta net within each text. in [tokens, device_delta_net_width], out [tokens,
// device_delta_net_out]. Of every token, in float32 from one rounding to the next:
//   q | k | v = silu(convolution), the convolution rounded, then silu;
//   q, k      = each head's numbers times (their sum of squares + 1e-6)^-1/2; q times key_dim^-1/2;
//   beta      = sigmoid(b), rounded;  g = -exp(decay) softplus(a + step_bias);
//   S         = exp(g) S;  S += k (beta (v - S^T k))^T;  o = S^T q, rounded: S [key_dim, value_dim] is a
//               value head's state, zeros before the text, never rounded;
//   out       = norm * (o / rms(o), rounded), rounded, times silu(z), rounded.
// state NULL: whole texts. Else the batch is a slice of one text, which goes on from the state that the slice
// before left (none where texts.before is 0) and leaves its own (device_delta_net_state bytes), with the bits
// of the whole text. texts.kept counts for nothing here. A text whose origin is all of the head goes on from
// texts.head, a state, which stays; so does the first slice of one. There are no other origins here.
int device_delta_net(struct device *device, void *out, const void *in, const struct device_delta_net *net,
                     struct device_texts texts, void *state, void *scratch, struct error *err);

// Bytes of DEVICE_SCRATCH that device_state_space needs for batches of at most `tokens`; false on overflow.
// Of `space` the sizes count, not the weights.
bool device_state_space_scratch(const struct device *device, const struct device_state_space *space,
                                size_t tokens, size_t *bytes);

// A selective state space within each text. in [tokens, device_state_space_width], out [tokens,
// device_state_space_out]. Of every token and head, in float32 from one rounding to the next:
//   x | B | C = silu(convolution + bias), the convolution rounded, then silu;
//   dt        = dt + step_bias, rounded; its softplus, rounded; cut to step_least .. step_most;
//   h         = exp(-exp(decay) dt) h + dt x B^T: h [head_dim, state] is zeros before the text, never
//               rounded;
//   y         = (h C + skip x) silu(z), not rounded;
//   out       = norm * y / rms(y) over each of norm_groups groups, rounded once.
// state as device_delta_net has it (device_state_space_state bytes).
int device_state_space(struct device *device, void *out, const void *in,
                       const struct device_state_space *space, struct device_texts texts, void *state,
                       void *scratch, struct error *err);

// A gated short convolution within each text. in [tokens, 3 width], out [tokens, width]; with p = b x,
// rounded:
//   out = c (bias + the sum over the taps of weight * p of the token that far before), the sum rounded.
// Before the text there is nothing. state NULL: whole texts. Else the batch is a slice of one text, as
// device_delta_net has it (device_short_convolution_state bytes).
int device_short_convolution(struct device *device, void *out, const void *in,
                             const struct device_short_convolution *shape, struct device_texts texts,
                             void *state, struct error *err);

// Chooses each token's experts. x [tokens, hidden]; router [experts, hidden] numbers, as a table is loaded,
// float32 with routing->wide_router; bias [experts] or NULL. The product is float32 before
// routing->rounds_logits.
int device_route(struct device *device, const struct device_routes *routes, const void *x, const void *router,
                 const void *bias, const struct device_routing *routing, size_t tokens, size_t hidden,
                 struct error *err);

// Bytes of DEVICE_SCRATCH that device_experts needs for batches of at most `tokens`; false on overflow. Of
// `experts` the sizes count, not the weights.
bool device_experts_scratch(const struct device *device, const struct device_experts *experts, size_t tokens,
                            size_t *bytes);

// out[t, :] (+)= the sum over t's experts, in ascending order, of weight * down(inner(gate_up(x[t, :]))), or
// as experts->plain and experts->scales_input say.
// Halves: the products are rounded where matmuls' are, the activation as device_activate does. What comes out
// of down, times a float32 weight, is not rounded, and the sum, in float32, once before it is added to out:
// so do all of transformers' ways to compute experts for which the weights are float32. A row's bits depend
// neither on the other rows nor on its place among those of its expert. Weights are stored as computed, or
// kept as matrices of experts: those that have tokens are expanded then, some at a time. out is not x.
int device_experts(struct device *device, void *out, const void *x, const struct device_routes *routes,
                   const struct device_experts *experts, enum device_store store, size_t tokens,
                   void *scratch, struct error *err);

// Whether the device's operations are built for blocks of this shape: what is admitted here none of them
// refuses for its sizes, and what is refused here one of them does. Matmuls apart: device_check_matmul.
bool device_supports(const struct device *device, const struct device_shape *shape,
                     struct device_refusal *refusal);

// out[r, :] = the float32 mean of x[t, :] for t in spans[r] in token order, then rounded to out_dtype.
// One-token spans gather exactly. out [rows, hidden] of out_dtype, checks [rows]; spans and checks in device
// memory. texts: of spans that begin before the first token that their text has in the batch (struct
// device_span); NULL: there are none. Its head may be NULL where none of them lies there.
int device_pool(struct device *device, void *out, enum dtype out_dtype, struct device_row_check *checks,
                const void *x, const struct device_span *spans, const struct device_texts *texts, size_t rows,
                size_t hidden, struct error *err);

#endif
