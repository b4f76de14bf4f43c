// SPDX-License-Identifier: MIT
// What the parts of attention share (private to kernels/cuda): a call as the kernels take it.
#ifndef STRATA_KERNELS_CUDA_ATTENTION_H
#define STRATA_KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/texts.h"

// Tiles are innermost in the grid and heads outermost, so that what blocks read at about the same time is the
// keys and values of a head or two, which every L2 holds.
struct attention_shape {
    unsigned heads;
    unsigned kv_heads;
    unsigned group; // heads / kv_heads
    unsigned head_dim;
    unsigned stride;     // numbers of a row of queries
    unsigned apart;      // of them, from one query head to the next
    unsigned key_stride; // of keys and values
    int before;          // of a slice, tokens of the text before it: the keys have those too
    int window;          // keys that a query sees, > 0
    float scale;         // of the scores
};

// What some families do with scores beside scaling them. Kernels are built without it (attention_plain, an
// empty class, so that nothing is left of it) and with it.
struct attention_plain {};

struct attention_scoring {
    const void *sinks;   // [heads] numbers of the computation dtype; NULL: none
    const float *slopes; // [heads]; NULL: none
    float softcap;       // 0: none
    int chunk;           // keys that a query sees are of its own so many, > 0
};

// Where keys and values lie: one row after another, of whole texts and slices; or of texts that go on from
// others, found by their place in the text. Kernels are built for the one and for the other.
struct attention_whole {};

struct attention_origins {
    const struct device_origin *origins; // [texts]
    const int32_t *starts;
    const void *head;     // keys and values [.., head_stride]; NULL: no text goes on from it
    unsigned head_stride; // numbers
};

struct attention_call {
    cudaStream_t stream;
    void *out;        // [tokens, heads * head_dim]
    const void *qkv;  // [tokens, shape.stride]
    const void *keys; // keys and values: columns k | v of qkv, or those that were kept
    const struct attention_tile *tiles;
    unsigned tile_count;
    bool pairs;  // a warp has two heads, where attention_pairs has it and texts are whole
    bool scores; // `scoring` is not empty
    struct attention_shape shape;
    struct attention_scoring scoring;
    struct attention_origins origins; // none are used where origins.origins is NULL
};

cudaError_t attention_bf16(const struct attention_call *call);
cudaError_t attention_f16(const struct attention_call *call);
cudaError_t attention_f32(const struct attention_call *call);
cudaError_t attention_scoring_bf16(const struct attention_call *call);
cudaError_t attention_scoring_f16(const struct attention_call *call);

// The same of texts that go on from others. scoring: the kernels that take scores, or heads above 256
// numbers.
cudaError_t attention_origins_bf16(const struct attention_call *call, bool scoring);
cudaError_t attention_origins_f16(const struct attention_call *call, bool scoring);

// The same of one head.
struct attention_scores {
    float scale;
    float softcap;
    float inverse_cap; // 1 / softcap
    float slope;
    float sink;
    bool has_sink;
    int chunk;
};

template <typename T>
static __device__ __forceinline__ attention_plain attention_of_head(const attention_plain &,
                                                                    const attention_shape &, unsigned) {
    return attention_plain();
}

template <typename T>
static __device__ __forceinline__ attention_scores attention_of_head(const attention_scoring &scoring,
                                                                     const attention_shape &shape,
                                                                     unsigned head) {
    const T *sinks = (const T *)scoring.sinks;
    return {shape.scale,
            scoring.softcap,
            scoring.softcap > 0 ? 1.0f / scoring.softcap : 0.0f,
            scoring.slopes == NULL ? 0.0f : scoring.slopes[head],
            sinks == NULL ? -INFINITY : number_value(sinks[head]),
            sinks != NULL,
            scoring.chunk};
}

// The last key before those that a query of the text sees; negative when it sees all from the text's start.
static __device__ __forceinline__ int attention_before(int query, int window, const attention_plain &) {
    return query - window;
}

static __device__ __forceinline__ int attention_before(int query, int window,
                                                       const attention_scores &scores) {
    return max(query - window, query / scores.chunk * scores.chunk - 1);
}

// First key of the tile (of `keys` keys, counted from the start of the text) where a block begins that
// computes a query and those after it; before: attention_before of that query.
static __device__ __forceinline__ int attention_first_key(int before, int keys) {
    int low = before + 1;
    return low > 0 ? low / keys * keys : 0;
}

// Whether a query of the text sees a key.
static __device__ __forceinline__ bool attention_sees(int query, int key, int before) {
    return key <= query && key > before;
}

// What a slope adds to a score. A softmax does not change with what is added to all of its scores: counted
// from the query on, the numbers stay small. A sink's score is no key's, and stays as it is.
static __device__ __forceinline__ float attention_slope(const attention_scores &scores, int query, int key) {
    return scores.slope * (float)(key - (scores.has_sink ? 0 : query));
}

// What rows begin with: nothing, or a sink, whose probability counts once among the lanes that share a row.
static __device__ __forceinline__ void attention_begin(float *maximum, float *sum, const attention_plain &,
                                                       bool) {
    *maximum = -INFINITY;
    *sum = 0;
}

static __device__ __forceinline__ void attention_begin(float *maximum, float *sum,
                                                       const attention_scores &scores, bool first_lane) {
    *maximum = scores.sink;
    *sum = scores.has_sink && first_lane ? 1.0f : 0.0f;
}

#endif
