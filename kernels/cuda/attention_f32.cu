// SPDX-License-Identifier: MIT
// Attention in float32 with multiply-adds: the scheme of attention_mma.h, simpler, for runs that want
// exactness.
//
// A block of 16 x 16 threads computes 64 queries of one head; thread (x, y) has queries 4 y ... 4 y + 3 (of
// heads above 256 numbers, for which shared memory is short, 16 queries and query y), of a tile of keys those
// that are x modulo 16, and of the outputs columns 4 x ... 4 x + 3 of every 64. Sixteen lanes side by side
// share queries.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum {
    SIDE = 16,
    THREADS = SIDE * SIDE,
    QUAD = 4,
    COLUMNS = SIDE * QUAD, // that one row of threads covers
    PADDING = 4,           // numbers, so that rows side by side lie in different banks
};

template <int D> struct build {
    static const int QUERIES = D <= 256 ? ATTENTION_TILE / SIDE : 1; // of a thread
    static const int ROWS = QUERIES * SIDE;                          // of a block
    static const int PARTS = ATTENTION_TILE / ROWS;                  // blocks of a tile
    static const int KEYS = D <= 128 ? 32 : 16;                      // of a tile
    static const int STRIDE = D + PADDING; // of queries, and of keys or values, which share a place
    static const int KEYS_AT = ROWS * STRIDE;
    static const int P_AT = KEYS_AT + KEYS * STRIDE;
    static const int P_STRIDE = KEYS + PADDING;
    static const int SHARED = (P_AT + ROWS * P_STRIDE) * (int)sizeof(float);
};

static __device__ __forceinline__ void quad_load(float (&out)[QUAD], const float *from) {
    group<float, QUAD> in = *(const group<float, QUAD> *)from;
#pragma unroll
    for (int e = 0; e < QUAD; e++) {
        out[e] = in.number[e];
    }
}

struct whole_rows { // one after another
    const float *from;
    size_t stride;

    __device__ __forceinline__ const float *at(int row) const {
        return from + (size_t)row * stride;
    }
    __device__ __forceinline__ whole_rows behind(size_t columns) const { // of the same tokens
        return {from + columns, stride};
    }
};

struct origin_rows { // of a text that goes on from others: row k is that of its token k
    const float *keys;
    const struct attention_origins &origins;
    size_t key_stride;
    int text;
    size_t column;

    __device__ __forceinline__ const float *at(int row) const {
        const text_place place = text_place_of(origins.origins, origins.starts, text, row);
        return (place.text == DEVICE_HEAD
                    ? (const float *)origins.head + (size_t)place.row * origins.head_stride
                    : keys + (size_t)place.row * key_stride) +
               column;
    }
    __device__ __forceinline__ origin_rows behind(size_t columns) const {
        return {keys, origins, key_stride, text, column + columns};
    }
};

// The keys and values of a text, from its first token on.
static __device__ __forceinline__ whole_rows rows_of(const float *keys, const attention_whole &,
                                                     const struct attention_tile &tile,
                                                     const struct attention_shape &shape) {
    return {keys + (size_t)(tile.start + shape.before) * shape.key_stride, shape.key_stride};
}

static __device__ __forceinline__ origin_rows rows_of(const float *keys, const attention_origins &origins,
                                                      const struct attention_tile &tile,
                                                      const struct attention_shape &shape) {
    return {keys, origins, shape.key_stride, tile.text, 0};
}

// Rows [first, first + ROWS) into shared memory; rows from `end` on are zeros.
template <int D, int ROWS, typename LINES>
static __device__ __forceinline__ void load_rows(float *to, const LINES &lines, int first, int end,
                                                 unsigned head_dim) {
    for (unsigned row = threadIdx.x / SIDE; row < ROWS; row += SIDE) {
        const float *line = lines.at(first + (int)row);
        bool there = first + (int)row < end;
        for (unsigned column = threadIdx.x % SIDE * QUAD; column < head_dim; column += COLUMNS) {
            group<float, QUAD> in = {};
            if (there) {
                in = *(const group<float, QUAD> *)(line + column);
            }
            *(group<float, QUAD> *)(to + row * build<D>::STRIDE + column) = in;
        }
    }
}

template <int D>
static __device__ __forceinline__ void multiply_keys(float (&s)[build<D>::QUERIES][build<D>::KEYS / SIDE],
                                                     const float *queries, const float *keys,
                                                     unsigned head_dim) {
    const int columns = build<D>::KEYS / SIDE;
#pragma unroll
    for (int i = 0; i < build<D>::QUERIES; i++) {
#pragma unroll
        for (int j = 0; j < columns; j++) {
            s[i][j] = 0;
        }
    }
    for (unsigned d = 0; d < head_dim; d += QUAD) {
        float k[columns][QUAD];
#pragma unroll
        for (int j = 0; j < columns; j++) {
            quad_load(k[j], keys + (threadIdx.x % SIDE + (unsigned)j * SIDE) * build<D>::STRIDE + d);
        }
#pragma unroll
        for (int i = 0; i < build<D>::QUERIES; i++) {
            float q[QUAD];
            quad_load(q, queries + (threadIdx.x / SIDE * build<D>::QUERIES + (unsigned)i) * build<D>::STRIDE +
                             d);
#pragma unroll
            for (int j = 0; j < columns; j++) {
#pragma unroll
                for (int e = 0; e < QUAD; e++) {
                    s[i][j] = fmaf(q[e], k[j][e], s[i][j]);
                }
            }
        }
    }
}

template <int D> struct running {
    float maximum[build<D>::QUERIES];
    float sum[build<D>::QUERIES]; // of this lane's probabilities
};

// Scores become probabilities; earlier sums and outputs are brought to the new maximum.
static __device__ __forceinline__ float finish_score(float score, int, int, const attention_shape &shape,
                                                     const attention_plain &) {
    return score * shape.scale;
}

static __device__ __forceinline__ float
finish_score(float score, int query, int key, const attention_shape &shape, const attention_scores &scores) {
    score *= shape.scale;
    if (scores.softcap > 0) {
        score = scores.softcap * tanhf(score / scores.softcap);
    }
    return scores.slope != 0 ? score + attention_slope(scores, query, key) : score;
}

template <int D, typename SCORES>
static __device__ __forceinline__ void
softmax(float (&s)[build<D>::QUERIES][build<D>::KEYS / SIDE],
        float (&o)[build<D>::QUERIES][(D + COLUMNS - 1) / COLUMNS][QUAD], running<D> *run, int query, int key,
        const struct attention_shape &shape, const SCORES &scores) {
    const int columns = build<D>::KEYS / SIDE;
#pragma unroll
    for (int i = 0; i < build<D>::QUERIES; i++) {
        float most = run->maximum[i];
#pragma unroll
        for (int j = 0; j < columns; j++) {
            int column = key + (int)(threadIdx.x % SIDE) + j * SIDE;
            s[i][j] = attention_sees(query + i, column, attention_before(query + i, shape.window, scores))
                          ? finish_score(s[i][j], query + i, column, shape, scores)
                          : -INFINITY;
            most = fmaxf(most, s[i][j]);
        }
#pragma unroll
        for (int step = SIDE / 2; step > 0; step /= 2) {
            most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, step));
        }
        float base = most == -INFINITY ? 0.0f : most; // a row that has seen no key yet stays at 0
        float factor = expf(run->maximum[i] - base);
        run->maximum[i] = most;
        run->sum[i] *= factor;
#pragma unroll
        for (int j = 0; j < columns; j++) {
            s[i][j] = expf(s[i][j] - base);
            run->sum[i] += s[i][j];
        }
#pragma unroll
        for (int c = 0; c < (D + COLUMNS - 1) / COLUMNS; c++) {
#pragma unroll
            for (int e = 0; e < QUAD; e++) {
                o[i][c][e] *= factor;
            }
        }
    }
}

template <int D>
static __device__ __forceinline__ void
multiply_values(float (&o)[build<D>::QUERIES][(D + COLUMNS - 1) / COLUMNS][QUAD], const float *probabilities,
                const float *values) {
    for (int k = 0; k < build<D>::KEYS; k++) {
        float p[build<D>::QUERIES];
#pragma unroll
        for (int i = 0; i < build<D>::QUERIES; i++) {
            p[i] = probabilities[(threadIdx.x / SIDE * build<D>::QUERIES + (unsigned)i) * build<D>::P_STRIDE +
                                 (unsigned)k];
        }
#pragma unroll
        for (int c = 0; c < (D + COLUMNS - 1) / COLUMNS; c++) {
            float v[QUAD];
            quad_load(v, values + k * build<D>::STRIDE + c * COLUMNS + threadIdx.x % SIDE * QUAD);
#pragma unroll
            for (int i = 0; i < build<D>::QUERIES; i++) {
#pragma unroll
                for (int e = 0; e < QUAD; e++) {
                    o[i][c][e] = fmaf(p[i], v[e], o[i][c][e]);
                }
            }
        }
    }
}

template <int D>
static __device__ __forceinline__ void
store_outputs(float *out, size_t stride, int rows, unsigned head_dim,
              float (&o)[build<D>::QUERIES][(D + COLUMNS - 1) / COLUMNS][QUAD], running<D> *run) {
    unsigned y = threadIdx.x / SIDE;
    unsigned x = threadIdx.x % SIDE;
#pragma unroll
    for (int i = 0; i < build<D>::QUERIES; i++) {
        float sum = run->sum[i];
#pragma unroll
        for (int step = SIDE / 2; step > 0; step /= 2) {
            sum += __shfl_xor_sync(ALL_LANES, sum, step);
        }
        unsigned row = y * build<D>::QUERIES + (unsigned)i;
#pragma unroll
        for (int c = 0; c < (D + COLUMNS - 1) / COLUMNS; c++) {
            unsigned column = (unsigned)c * COLUMNS + x * QUAD;
            if ((int)row < rows && column < head_dim) {
                group<float, QUAD> result;
#pragma unroll
                for (int e = 0; e < QUAD; e++) {
                    result.number[e] = o[i][c][e] / sum;
                }
                *(group<float, QUAD> *)(out + row * stride + column) = result;
            }
        }
    }
}

template <int D, typename SCORING, typename ORIGINS>
static __global__ void __launch_bounds__(THREADS, D <= 128 ? 2 : 1)
    attention_f32_kernel(float *out, const float *qkv, const float *keys_values,
                         const struct attention_tile *tiles, struct attention_shape shape, SCORING scoring,
                         ORIGINS origins) {
    const int keys = build<D>::KEYS;
    SHARED_BYTES(shared);
    float *queries = (float *)shared;
    float *tile_rows = queries + build<D>::KEYS_AT; // keys, then values
    float *probabilities = queries + build<D>::P_AT;
    const struct attention_tile tile = tiles[blockIdx.x];
    const unsigned head = blockIdx.y;
    const unsigned kv_head = head / shape.group;
    const int first = tile.first + (build<D>::PARTS > 1 ? (int)blockIdx.z * build<D>::ROWS : 0);
    const int query = first - tile.start; // of the text
    const int end = tile.end - tile.start;
    const auto text_keys =
        rows_of(keys_values, origins, tile, shape).behind((size_t)kv_head * shape.head_dim);
    const auto text_values = text_keys.behind((size_t)shape.kv_heads * shape.head_dim);
    load_rows<D, build<D>::ROWS>(queries, whole_rows{qkv + (size_t)head * shape.apart, shape.stride}, first,
                                 tile.end, shape.head_dim);
    const auto scores = attention_of_head<float>(scoring, shape, head);
    float o[build<D>::QUERIES][(D + COLUMNS - 1) / COLUMNS][QUAD] = {};
    running<D> run;
#pragma unroll
    for (int i = 0; i < build<D>::QUERIES; i++) {
        attention_begin(&run.maximum[i], &run.sum[i], scores, threadIdx.x % SIDE == 0);
    }
    int last =
        end < query + build<D>::ROWS ? end : query + build<D>::ROWS; // no query here sees a key from it on
    for (int key = attention_first_key(attention_before(query, shape.window, scores), keys); key < last;
         key += keys) {
        __syncthreads(); // the values before were read
        load_rows<D, keys>(tile_rows, text_keys, key, end, shape.head_dim);
        __syncthreads();
        float s[build<D>::QUERIES][keys / SIDE];
        multiply_keys<D>(s, queries, tile_rows, shape.head_dim);
        softmax<D>(s, o, &run, query + (int)(threadIdx.x / SIDE) * build<D>::QUERIES, key, shape, scores);
#pragma unroll
        for (int i = 0; i < build<D>::QUERIES; i++) {
#pragma unroll
            for (int j = 0; j < keys / SIDE; j++) {
                probabilities[(threadIdx.x / SIDE * build<D>::QUERIES + (unsigned)i) * build<D>::P_STRIDE +
                              threadIdx.x % SIDE + (unsigned)j * SIDE] = s[i][j];
            }
        }
        __syncthreads(); // the keys were read
        load_rows<D, keys>(tile_rows, text_values, key, end, shape.head_dim);
        __syncthreads();
        multiply_values<D>(o, probabilities, tile_rows);
    }
    size_t out_stride = (size_t)shape.heads * shape.head_dim;
    store_outputs<D>(out + (size_t)first * out_stride + (size_t)head * shape.head_dim, out_stride,
                     tile.end - first, shape.head_dim, o, &run);
}

template <int D, typename SCORING, typename ORIGINS>
static cudaError_t launch(const struct attention_call *call, const SCORING &scoring, const ORIGINS &origins) {
    auto kernel = attention_f32_kernel<D, SCORING, ORIGINS>;
    cudaError_t result =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, build<D>::SHARED);
    if (result != cudaSuccess) {
        return result;
    }
    return LAUNCH(kernel, dim3(call->tile_count, call->shape.heads, build<D>::PARTS), dim3(THREADS),
                  build<D>::SHARED, call->stream, (float *)call->out, (const float *)call->qkv,
                  (const float *)call->keys, call->tiles, call->shape, scoring, origins);
}

template <typename SCORING, typename ORIGINS>
static cudaError_t launch_for(const struct attention_call *call, const SCORING &scoring,
                              const ORIGINS &origins) {
    unsigned head_dim = call->shape.head_dim;
    return head_dim <= 64    ? launch<64>(call, scoring, origins)
           : head_dim <= 128 ? launch<128>(call, scoring, origins)
           : head_dim <= 256 ? launch<256>(call, scoring, origins)
                             : launch<512>(call, scoring, origins);
}

template <typename SCORING>
static cudaError_t launch_for(const struct attention_call *call, const SCORING &scoring) {
    return call->origins.origins != NULL ? launch_for(call, scoring, call->origins)
                                         : launch_for(call, scoring, attention_whole());
}

cudaError_t attention_f32(const struct attention_call *call) {
    return call->scores ? launch_for(call, call->scoring) : launch_for(call, attention_plain());
}
