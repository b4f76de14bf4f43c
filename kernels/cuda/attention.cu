// SPDX-License-Identifier: MIT
// Attention: the list of tiles, and the choice of a kernel.
#include "kernels/cuda/attention.h"

enum { TILES_THREADS = 128, PAIRS_HEAD_MOST = 128, PLAIN_HEAD_MOST = 256, GRID_MOST = 65535 };

static_assert(DEVICE_SLICE % ATTENTION_TILE == 0, "slices of a text begin with a tile");

// ---- tiles ----

static size_t tiles_of(int32_t length) {
    return ((size_t)length + ATTENTION_TILE - 1) / ATTENTION_TILE;
}

extern "C" size_t attention_tile_count(const int32_t *host_starts, size_t texts) {
    size_t count = 0;
    for (size_t i = 0; i < texts; i++) {
        count += tiles_of(host_starts[i + 1] - host_starts[i]);
    }
    return count;
}

static __device__ __forceinline__ unsigned tiles_in(const int32_t *starts, size_t text) {
    return (unsigned)(starts[text + 1] - starts[text] + ATTENTION_TILE - 1) / ATTENTION_TILE;
}

// One thread a tile. A text's later tiles have more keys: tiles are listed by their place in their text, the
// last first, so that the grid does not end with the longest work.
static __global__ void __launch_bounds__(TILES_THREADS)
    tiles_kernel(struct attention_tile *tiles, const int32_t *starts, const struct device_origin *origins,
                 size_t texts, int32_t before, size_t tile_count) {
    size_t place = blockIdx.x * (size_t)TILES_THREADS + threadIdx.x; // becomes the tile's place in its text
    if (place >= tile_count) {
        return;
    }
    size_t text = 0;
    for (unsigned tiles_here = tiles_in(starts, 0); place >= tiles_here;
         tiles_here = tiles_in(starts, text)) {
        place -= tiles_here;
        text++;
    }
    size_t number = 0; // tiles before this one
    for (size_t i = 0; i < texts; i++) {
        size_t tiles_here = tiles_in(starts, i);
        if (tiles_here > place) {
            number += tiles_here - place - 1 + (i < text);
        }
    }
    if (before == 0 && origins != NULL) { // no slice
        before = origins[text].before;
    }
    struct attention_tile tile = {starts[text] - before, starts[text + 1],
                                  starts[text] + (int32_t)place * ATTENTION_TILE, (int32_t)text};
    tiles[number] = tile;
}

// ---- launch ----

extern "C" bool attention_has(size_t head_dim) {
    return head_dim > 0 && head_dim <= ATTENTION_HEAD_MOST && head_dim % ATTENTION_HEAD_STEP == 0;
}

extern "C" bool attention_pairs(enum dtype dtype, struct device_heads heads) {
    return dtype != DTYPE_F32 && heads.heads > heads.kv_heads && heads.head_dim <= PAIRS_HEAD_MOST &&
           heads.gap == 0;
}

extern "C" cudaError_t launch_attention_tiles(cudaStream_t stream, struct attention_tile *tiles,
                                              const struct device_texts *texts, size_t tile_count) {
    if (tile_count > INT32_MAX || texts->before > INT32_MAX || texts->count > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return LAUNCH(tiles_kernel, dim3((unsigned)((tile_count + TILES_THREADS - 1) / TILES_THREADS)),
                  dim3(TILES_THREADS), 0, stream, tiles, texts->starts, texts->origins, texts->count,
                  (int32_t)texts->before, tile_count);
}

// Keys of a window or a chunk; 0: no bound.
static int reach_of(size_t keys) {
    return keys > 0 && keys < INT32_MAX ? (int)keys : INT32_MAX;
}

extern "C" cudaError_t launch_attention(cudaStream_t stream, enum dtype dtype, void *out, const void *qkv,
                                        const struct device_attention *shape,
                                        const struct device_texts *texts, const struct attention_tile *tiles,
                                        size_t tile_count, bool pairs) {
    struct device_heads heads = shape->heads;
    size_t stride = device_heads_width(heads);
    size_t kept_stride = 2 * heads.kv_heads * heads.head_dim;
    size_t number_bytes = dtype == DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    bool kept = texts->kept != NULL;
    const void *keys =
        kept ? texts->kept : (const unsigned char *)qkv + device_heads_key(heads) * number_bytes;
    uintptr_t places = (uintptr_t)out | (uintptr_t)qkv | (uintptr_t)keys | (uintptr_t)texts->head;
    if (!attention_has(heads.head_dim) || heads.heads == 0 || heads.heads > GRID_MOST ||
        tile_count > INT32_MAX || !(shape->scale > 0) || heads.gap % ATTENTION_HEAD_STEP != 0 ||
        places % 16 != 0) { // rows are multiples of 16 bytes
        return cudaErrorInvalidValue;
    }
    bool scores = shape->sinks != NULL || shape->slopes != NULL || shape->softcap > 0 || shape->chunk > 0;
    bool takes_scores = scores || heads.head_dim > PLAIN_HEAD_MOST;
    struct attention_call call = {
        stream,
        out,
        qkv,
        keys,
        tiles,
        (unsigned)tile_count,
        // The other kernel has the same bits.
        pairs && !kept && texts->origins == NULL && !scores && attention_pairs(dtype, heads),
        scores,
        {(unsigned)heads.heads, (unsigned)heads.kv_heads, (unsigned)(heads.heads / heads.kv_heads),
         (unsigned)heads.head_dim, (unsigned)stride, (unsigned)device_heads_apart(heads),
         (unsigned)(kept ? kept_stride : stride), (int)texts->before, reach_of(shape->window), shape->scale},
        {shape->sinks, shape->slopes, shape->softcap, reach_of(shape->chunk)},
        {texts->origins, texts->starts, texts->head, (unsigned)kept_stride},
    };
    bool goes_on = texts->origins != NULL;
    switch (dtype) {
    case DTYPE_F32:
        return attention_f32(&call);
    case DTYPE_F16:
        return goes_on        ? attention_origins_f16(&call, takes_scores)
               : takes_scores ? attention_scoring_f16(&call)
                              : attention_f16(&call);
    case DTYPE_BF16:
        return goes_on        ? attention_origins_bf16(&call, takes_scores)
               : takes_scores ? attention_scoring_bf16(&call)
                              : attention_bf16(&call);
    }
    return cudaErrorInvalidValue;
}
