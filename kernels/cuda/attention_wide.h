// SPDX-License-Identifier: MIT
// Attention in a half for heads of up to 512 numbers: attention_mma.h with two warps for 16 queries.
//
// A warp has registers for 256 columns of outputs. So two of a block's four warps share 16 queries: each
// multiplies its half of the columns of queries and keys; they exchange these halves of the scores through
// shared memory, which both add up and make probabilities of; then each multiplies these with its half of the
// values' columns. A block has 32 queries of one head, and tiles of 16 keys: what every multiprocessor's
// shared memory has room for.
#ifndef STRATA_KERNELS_CUDA_ATTENTION_WIDE_H
#define STRATA_KERNELS_CUDA_ATTENTION_WIDE_H

#include "kernels/cuda/attention_mma.h"

struct wide {
    static const int D = 512;
    static const int HALF = D / 2;       // columns of a warp
    static const int STEPS = HALF / 16;  // matrix instructions over them
    static const int GROUPS = WARPS / 2; // of 16 queries
    static const int ROWS = GROUPS * QUERIES;
    static const int PARTS = ATTENTION_TILE / ROWS; // blocks of a tile
    static const int TILES = key_tile<D>::KEYS / 8;
    static const int QUERIES_AT = RING * key_tile<D>::BYTES;
    static const int EXCHANGE_AT = QUERIES_AT + ROWS * key_tile<D>::ROW_BYTES;
    static const int SHARED = EXCHANGE_AT + WARPS * TILES * 4 * WARP * (int)sizeof(float);
};

static_assert(key_tile<wide::D>::KEYS == 16, "a tile of keys is one step of the matmul with values");

// Starts to copy the columns of a warp's queries that it reads itself.
template <typename T>
static __device__ __forceinline__ void wide_queries(shared_place to, const T *from, unsigned stride, int rows,
                                                    unsigned side, unsigned head_dim, unsigned lane) {
    const unsigned chunk = side * (wide::HALF / CHUNK) + lane; // a lane has one column of chunks
    static_assert(wide::HALF / CHUNK == WARP, "a lane for each chunk");
#pragma unroll
    for (unsigned row = 0; row < QUERIES; row++) {
        copy_async(to + chunk_at<wide::D>(row, chunk), from + (size_t)row * stride + chunk * CHUNK,
                   (int)row < rows && chunk * CHUNK < head_dim);
    }
}

// This warp's half of the scores, to where its neighbour finds it.
template <typename T>
static __device__ __forceinline__ void wide_keys(float (&s)[wide::TILES][4], shared_place queries,
                                                 shared_place keys, unsigned side, float *exchange,
                                                 unsigned lane) {
    const lane_place<wide::D> rows(queries, lane % 16, lane / 16);
    const lane_place<wide::D> columns(keys, lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int i = 0; i < wide::TILES; i++) {
        s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0;
    }
#pragma unroll
    for (int k = 0; k < wide::STEPS; k++) {
        const int at = (int)side * wide::STEPS + k;
        uint32_t a[4];
        uint32_t b[4];
        matrices_load(a, rows.at(at, 0));
        matrices_load(b, columns.at(at, 0));
        matrix_multiply_add<T>(s[0], a, b[0], b[1]);
        matrix_multiply_add<T>(s[1], a, b[2], b[3]);
    }
#pragma unroll
    for (int i = 0; i < wide::TILES * 4; i++) {
        exchange[i * WARP + (int)lane] = s[i / 4][i % 4];
    }
}

// From both halves of the scores to outputs. `other`: the neighbour's half.
template <typename T>
static __device__ __forceinline__ void
wide_values(float (&o)[wide::HALF / 8][4], float (&s)[wide::TILES][4], struct running *run,
            const float *other, shared_place values, unsigned side, int key, struct warp_rows rows,
            int window, const attention_scores &scores, unsigned lane) {
    float factor[2];
    uint32_t p[4];
#pragma unroll
    for (int i = 0; i < wide::TILES * 4; i++) {
        s[i / 4][i % 4] += other[i * WARP + (int)lane];
    }
    finish_scores(s, rows.first, key, scores);
    mask_scores(s, rows.first, key, window, scores);
    softmax(s, run, factor, LOG2_E);
#pragma unroll
    for (int e = 0; e < 4; e++) {
        p[e] = pair_bits<T>(s[e / 2][e % 2 * 2], s[e / 2][e % 2 * 2 + 1]);
    }
    const lane_place<wide::D> place(values, lane % 16, lane / 16);
#pragma unroll
    for (int i = 0; i < wide::STEPS; i++) {
        uint32_t b[4];
        matrices_load_transposed(b, place.at((int)side * wide::STEPS + i, 0));
#pragma unroll
        for (int e = 0; e < 4; e++) {
            o[2 * i][e] *= factor[e / 2];
            o[2 * i + 1][e] *= factor[e / 2];
        }
        matrix_multiply_add<T>(o[2 * i], p, b[0], b[1]);
        matrix_multiply_add<T>(o[2 * i + 1], p, b[2], b[3]);
    }
}

template <typename T, typename ORIGINS>
static __global__ void __launch_bounds__(THREADS, 1)
    attention_wide_kernel(T *out, const T *qkv, const T *keys, const struct attention_tile *tiles,
                          struct attention_shape shape, struct attention_scoring scoring, ORIGINS origins) {
    SHARED_BYTES(shared);
    const struct attention_tile tile = tiles[blockIdx.x];
    const unsigned lane = threadIdx.x % WARP;
    const unsigned warp = __shfl_sync(ALL_LANES, threadIdx.x / WARP, 0);
    const unsigned side = warp % 2;
    const unsigned head = blockIdx.z;
    // Query of the tile, of the block and of the warp; later ones, which have more keys, come first.
    const int block = (wide::PARTS - 1 - (int)blockIdx.y) * wide::ROWS;
    const int mine = block + (int)(warp / 2) * QUERIES;
    const int query = tile.first - tile.start; // of the text
    const int end = min(tile.end - tile.start, query + block + wide::ROWS);
    if (query + block >= end) {
        return;
    }
    const attention_scores scores = attention_of_head<T>(scoring, shape, head);
    const int first_key =
        attention_first_key(attention_before(query + block, shape.window, scores), key_tile<wide::D>::KEYS);
    stream<T, wide::D, 1, ORIGINS> in(keys, origins, tile, shape, head / shape.group, first_key, end,
                                      shared_at(shared));
    const struct warp_rows rows = {query + mine, min(query + mine + QUERIES, end) - 1};
    const shared_place own =
        shared_at(shared) + wide::QUERIES_AT + warp / 2 * QUERIES * (unsigned)key_tile<wide::D>::ROW_BYTES;
    float *exchange = (float *)(shared + wide::EXCHANGE_AT);
    const unsigned half = wide::TILES * 4 * WARP; // numbers of a warp's
    wide_queries(own, qkv + (size_t)(tile.first + mine) * shape.stride + head * shape.apart, shape.stride,
                 end - rows.first, side, shape.head_dim, lane);
    copy_commit();
    in.template load<0>(0, first_key, shape.head_dim);
    in.template load<1>(0, first_key, shape.head_dim);

    float o[wide::HALF / 8][4] = {};
    struct running run;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        attention_begin(&run.maximum[i], &run.sum[i], scores, lane % 4 == 0);
    }
    int t = 0;
    for (int key = first_key; key < end; key += key_tile<wide::D>::KEYS, t++) {
        const bool works =
            rows.first <= rows.last && key <= rows.last &&
            key + key_tile<wide::D>::KEYS - 1 > attention_before(rows.first, shape.window, scores);
        float s[wide::TILES][4];
        in.template advance<0>(t, key, shape.head_dim); // and the exchange was read
        if (works) {
            wide_keys<T>(s, own, in.buffer(2 * t), side, exchange + warp * half, lane);
        }
        in.template advance<1>(t, key, shape.head_dim); // and the exchange is there
        if (works) {
            wide_values<T>(o, s, &run, exchange + (warp ^ 1) * half, in.buffer(2 * t + 1), side, key, rows,
                           shape.window, scores, lane);
        }
    }
    // Queries are read no more: the last barrier came after it.
    const size_t width = (size_t)shape.heads * shape.head_dim;
    store_outputs<wide::HALF>(
        out + (size_t)(tile.first + mine) * width + head * shape.head_dim + side * wide::HALF, width,
        end - rows.first, shape.head_dim - side * wide::HALF,
        shared + wide::QUERIES_AT + warp * QUERIES * (unsigned)key_tile<wide::HALF>::ROW_BYTES, o, &run);
}

template <typename T, typename ORIGINS = attention_whole>
static cudaError_t launch_wide(const struct attention_call *call, const ORIGINS &origins = ORIGINS()) {
    auto kernel = attention_wide_kernel<T, ORIGINS>;
    cudaError_t result =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, wide::SHARED);
    if (result != cudaSuccess) {
        return result;
    }
    return LAUNCH(kernel, dim3(call->tile_count, wide::PARTS, call->shape.heads), dim3(THREADS), wide::SHARED,
                  call->stream, (T *)call->out, (const T *)call->qkv, (const T *)call->keys, call->tiles,
                  call->shape, call->scoring, origins);
}

#endif
