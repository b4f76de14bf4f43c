// What the parts of attention share (private to kernels/cuda): a call as the kernels take it.
#ifndef STRATA_KERNELS_CUDA_ATTENTION_H
#define STRATA_KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/launch.h"

// Tiles are innermost in the grid and heads outermost, so that what blocks read at about the same time is the
// keys and values of a head or two, which every L2 holds.
struct attention_shape {
    unsigned heads;
    unsigned kv_heads;
    unsigned group; // heads / kv_heads
    unsigned head_dim;
    unsigned stride;     // numbers of a row of queries
    unsigned key_stride; // of keys and values
    int before;          // tokens of the text before the batch: row `before` of the keys is its first token's
    int window;          // keys that a query sees, > 0
    float scale;         // of the scores
};

struct attention_call {
    cudaStream_t stream;
    void *out;        // [tokens, heads * head_dim]
    const void *qkv;  // [tokens, (heads + 2 kv_heads) * head_dim]
    const void *keys; // keys and values: columns k | v of qkv, or of a slice those that were kept
    const struct attention_tile *tiles;
    unsigned tile_count;
    bool pairs; // a warp has two heads, where attention_pairs has it
    struct attention_shape shape;
};

cudaError_t attention_bf16(const struct attention_call *call);
cudaError_t attention_f16(const struct attention_call *call);
cudaError_t attention_f32(const struct attention_call *call);

// First key of the tile (of `keys` keys, counted from the start of the text) where a block begins that
// computes the query `query` of the text and those after it. A window's first tiles are passed over.
static __device__ __forceinline__ int attention_first_key(int query, int window, int keys) {
    int low = query - window + 1;
    return low > 0 ? low / keys * keys : 0;
}

// Whether a query of the text sees a key.
static __device__ __forceinline__ bool attention_sees(int query, int key, int window) {
    return key <= query && key > query - window;
}

#endif
