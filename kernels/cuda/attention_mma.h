// SPDX-License-Identifier: MIT
// Attention in a half (float16, bfloat16) on matrix instructions: FlashAttention-2's scheme (Dao 2023). The
// body of attention_f16.cu and attention_bf16.cu, which are two sources so that they are compiled side by
// side: all is the same but the instruction and the conversion of pairs.
//
// A block has four warps, and a warp 16 queries of one or two query heads of one head of keys, with their
// running maxima, sums and outputs in registers: the keys and values that a block loads serve 64 or 128 rows.
// They come in tiles, counted from the text's start, through a ring of three buffers: K0 V0 K1 V1 and so on.
// Step n computes with tile n while n + 1 is under way, and asks for n + 2 in the buffer that step n - 1 has
// left; the one barrier of a step says both that tile n is there and that all warps are done with n - 1.
//
// With two heads a matrix load feeds twice the instructions, at twice the registers (two blocks at work on a
// multiprocessor instead of three) and with the queries in shared memory. It is for multiprocessors whose
// matrix instructions outrun their matrix loads: those of ATTENTION_PAIRS_SHARED and more. Computed
// for a layer of 8,192 tokens in texts of 256 on average (median 196), 32 heads of 128 over 8 of keys:
//   a block: 64 queries of a head       724 MB from and to the L2, 2.01 GB of matrix loads
//   16 queries of four heads            627                        2.01
//   32 queries of two pairs of heads    397                        1.28
// A row's bits are the same in all.
//
// In shared memory a tile's rows are 16-byte chunks, exchanged within a row so that eight rows of one column
// of chunks, which is what a matrix load reads, lie in different banks.
//
// Scores are float32; probabilities 2^(scale' s - scale' max), scale' = scale log2 e, are rounded to the half
// for the product with V, and summed before that. The largest of a row is about 1, so that those which are
// subnormal in float16, below 2^-14, are off by 2^-25 at most of what the row adds up. Outputs are divided by
// their sums before they are rounded: float16 overflows only where the output itself does.
#ifndef STRATA_KERNELS_CUDA_ATTENTION_MMA_H
#define STRATA_KERNELS_CUDA_ATTENTION_MMA_H

#include "kernels/cuda/attention_softmax.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum {
    WARPS = 4,
    THREADS = WARPS * WARP,
    QUERIES = 16, // of a warp, of each of its heads: rows of a matrix instruction
    RING = 3,
    CHUNK_BYTES = 16,
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
    MULTIPROCESSOR_SHARED = 100 << 10, // bytes of shared memory of a multiprocessor
#else
    MULTIPROCESSOR_SHARED = 164 << 10, // sm_80; sm_90 and sm_100 have 228 KB
#endif
};

static_assert(WARPS * QUERIES == ATTENTION_TILE, "a tile is a block for each pack of heads");

// A tile of keys, or of values. D: head_dim rounded up (what is beyond it is zero).
template <int D> struct key_tile {
    static const int KEYS = D <= 128 ? 64 : D <= 256 ? 32 : 16;
    static const int ROW_BYTES = 2 * D;
    static const int BYTES = KEYS * ROW_BYTES;
};

// One build of the kernel. HEADS: query heads of a warp.
template <int D, int HEADS> struct build {
    static const bool HOLDS_QUERIES = HEADS == 1 && D <= 128; // in registers; else they stay in shared memory
    static const int WARP_BYTES = HEADS * QUERIES * key_tile<D>::ROW_BYTES; // of a warp's queries
    // Queries that need not stay come through the last buffer of the ring.
    static const int QUERIES_AT = HOLDS_QUERIES ? (RING - 1) * key_tile<D>::BYTES : RING * key_tile<D>::BYTES;
    static const int SHARED = QUERIES_AT + WARPS * WARP_BYTES;
    // Blocks that a multiprocessor is to have room for: as many as shared memory (1 KB more a block) and a
    // number of registers without spills allow. The compiler bounds registers by it.
    static const int SHARED_BLOCKS = MULTIPROCESSOR_SHARED / (SHARED + (1 << 10));
    static const int REGISTER_BLOCKS = HEADS * (D + 32) <= 96 ? 4 : HEADS * (D + 32) <= 192 ? 3 : 2;
    static const int BLOCKS = SHARED_BLOCKS < REGISTER_BLOCKS ? SHARED_BLOCKS : REGISTER_BLOCKS;
};

// Packs of HEADS query heads for one head of keys; the blocks of a tile, as it has 4 times 16 queries.
template <int HEADS>
static __host__ __device__ __forceinline__ unsigned packs_of(const struct attention_shape &shape) {
    return (shape.group + HEADS - 1) / HEADS;
}

// Chunk c of a row lies at c ^ key: eight rows of any chunk column fall into eight different 16-byte columns
// of the banks, which are 128 bytes wide.
template <int D> struct swizzle {
    static const unsigned MOST = D % 64 == 0 ? 7 : 3; // a key, as bits

    static __device__ __forceinline__ unsigned key(unsigned row) {
        return D % 64 == 0 ? row & 7 : row >> 1 & 3;
    }
};

template <int D> static __device__ __forceinline__ unsigned chunk_at(unsigned row, unsigned chunk) {
    return row * key_tile<D>::ROW_BYTES + (chunk ^ swizzle<D>::key(row)) * CHUNK_BYTES;
}

// Where a lane reads from, for matrix loads of 16 columns: in row `row` of the matrix at `from`, one
// (`second`) of two neighbouring chunks. The bits that are exchanged are not touched by rows and buffers.
template <int D> struct lane_place {
    shared_place first; // of columns [0, 16)

    __device__ __forceinline__ lane_place(shared_place from, unsigned row, unsigned second)
        : first(from + chunk_at<D>(row, second)) {
    }
    // Of columns [16 k, 16 k + 16) of the row `below` rows, a multiple of 8, further down.
    __device__ __forceinline__ shared_place at(int k, int below) const {
        unsigned chunk = 2 * (unsigned)k;
        return shared_flip(first, (chunk & swizzle<D>::MOST) * CHUNK_BYTES) +
               ((chunk & ~swizzle<D>::MOST) * CHUNK_BYTES + (unsigned)below * key_tile<D>::ROW_BYTES);
    }
};

// A thread's share of copying a tile: one chunk column of every PASS-th row.
template <int D> struct share {
    static const unsigned CHUNKS = D / CHUNK; // of a row
    // Rows at once: the most that is a power of two, so that a tile has a whole number of passes.
    static const unsigned PASS = D <= 32 ? 32 : D <= 64 ? 16 : D <= 128 ? 8 : D <= 256 ? 4 : 2;
    static_assert(PASS * CHUNKS <= THREADS, "no more chunks at once than threads");
    unsigned row;
    unsigned chunk;
    bool there; // columns from head_dim on are zeros

    __device__ __forceinline__ share(unsigned head_dim, unsigned thread)
        : row(thread / CHUNKS), chunk(thread % CHUNKS), there(chunk * CHUNK < head_dim) {
    }
    // This thread's first number of a tile: rows of the text from `token` on, columns of a head of keys.
    template <typename T>
    __device__ __forceinline__ const T *first(const T *text, unsigned stride, int token, unsigned head,
                                              unsigned head_dim) const {
        return text + ((size_t)token + row) * stride + (size_t)head * head_dim + chunk * CHUNK;
    }
    // Starts to copy ROWS rows; from[0] is this thread's first number, `rows` is how many rows there are from
    // its first on (the others become zeros).
    template <int ROWS, typename T>
    __device__ __forceinline__ void copy(shared_place to, const T *from, unsigned stride, int rows) const {
        if (PASS * CHUNKS < THREADS && row >= PASS) {
            return;
        }
#pragma unroll
        for (unsigned i = 0; i < ROWS / PASS; i++) {
            copy_async(to + chunk_at<D>(row + i * PASS, chunk), from + (size_t)(i * PASS) * stride,
                       there && (int)(i * PASS) < rows);
        }
    }
};

// A warp's queries, A operands: QUERIES rows of each of its heads.
template <int D, int HEADS> struct queries {
    uint32_t held[build<D, HEADS>::HOLDS_QUERIES ? D / 16 : 1][4];
    shared_place place; // of the warp's; with two heads of the block's first warp's

    // Starts to copy those that there are; to: the warp's place, from: the first query of the first head.
    // Other lanes' copies are the warp's after a wait and a barrier.
    template <typename T>
    __device__ __forceinline__ void copy(shared_place to, const T *from, unsigned stride, int rows, int heads,
                                         unsigned head_dim, unsigned lane) const {
        const unsigned chunks = D / CHUNK;
#pragma unroll
        for (unsigned i = 0; i < HEADS * QUERIES * chunks / WARP; i++) {
            unsigned number = lane + i * WARP;
            unsigned head = number / (QUERIES * chunks);
            unsigned row = number / chunks % QUERIES;
            unsigned chunk = number % chunks;
            copy_async(to + chunk_at<D>(head * QUERIES + row, chunk),
                       from + (size_t)row * stride + head * head_dim + chunk * CHUNK,
                       (int)row < rows && (int)head < heads && chunk * CHUNK < head_dim);
        }
    }
    // Columns [16 k, 16 k + 16) of a head's; from: the warp's place.
    __device__ __forceinline__ void load(uint32_t (&out)[4], shared_place from, int k, int head,
                                         unsigned lane) const {
        matrices_load(out, lane_place<D>(from, lane % 16, lane / 16).at(k, head * QUERIES));
    }
    __device__ __forceinline__ void hold(unsigned lane) {
#pragma unroll
        for (int k = 0; k < (build<D, HEADS>::HOLDS_QUERIES ? D / 16 : 0); k++) {
            load(held[k], place, k, 0, lane);
        }
    }
};

// How many groups of 16 of a tile's keys from `key` on a warp is to look at: the others lie after its last
// query.
static __device__ __forceinline__ int groups_seen(int key, int last_query) {
    return (last_query - key) / 16 + 1;
}

// scores [16, keys of a tile] of N heads = queries keys^T, of the first 32 HALVES keys; n-tile i of 8 keys in
// s[head][i]. Those of the other keys are zero.
template <typename T, int D, int HEADS, int N, int HALVES>
static __device__ __forceinline__ void multiply_keys(float (&s)[HEADS][key_tile<D>::KEYS / 8][4],
                                                     queries<D, HEADS> &q, shared_place keys,
                                                     unsigned kept_lane) {
    // Two heads leave no register for what follows from the thread's number.
    const unsigned thread = HEADS == 1 ? 0 : thread_now();
    const unsigned lane = HEADS == 1 ? kept_lane : thread % WARP;
    const shared_place mine = HEADS == 1 ? q.place : q.place + thread / WARP * build<D, HEADS>::WARP_BYTES;
    const lane_place<D> place(keys, lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int h = 0; h < N; h++) {
#pragma unroll
        for (int i = 0; i < key_tile<D>::KEYS / 8; i++) {
            s[h][i][0] = s[h][i][1] = s[h][i][2] = s[h][i][3] = 0;
        }
    }
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t a[N][4];
        if (!build<D, HEADS>::HOLDS_QUERIES) {
#pragma unroll
            for (int h = 0; h < N; h++) {
                q.load(a[h], mine, k, h, lane);
            }
        }
#pragma unroll
        for (int i = 0; i < 2 * HALVES; i++) {
            uint32_t b[4];
            matrices_load(b, place.at(k, i * 16));
#pragma unroll
            for (int h = 0; h < N; h++) {
                const uint32_t(&rows)[4] =
                    build<D, HEADS>::HOLDS_QUERIES ? q.held[build<D, HEADS>::HOLDS_QUERIES ? k : 0] : a[h];
                matrix_multiply_add<T>(s[h][2 * i], rows, b[0], b[1]);
                matrix_multiply_add<T>(s[h][2 * i + 1], rows, b[2], b[3]);
            }
        }
    }
}

// outputs [16, D] of N heads += probabilities values, of the keys that are seen.
template <typename T, int D, int HEADS, int N>
static __device__ __forceinline__ void multiply_values(float (&o)[HEADS][D / 8][4],
                                                       const uint32_t (&p)[HEADS][key_tile<D>::KEYS / 16][4],
                                                       shared_place values, int seen, unsigned kept_lane) {
    const unsigned lane = HEADS == 1 ? kept_lane : lane_now();
    const lane_place<D> place(values, lane % 16, lane / 16);
#pragma unroll
    for (int k = 0; k < key_tile<D>::KEYS / 16; k++) {
        if (k >= seen) {
            break;
        }
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            uint32_t b[4];
            matrices_load_transposed(b, place.at(i, k * 16));
#pragma unroll
            for (int h = 0; h < N; h++) {
                matrix_multiply_add<T>(o[h][2 * i], p[h][k], b[0], b[1]);
                matrix_multiply_add<T>(o[h][2 * i + 1], p[h][k], b[2], b[3]);
            }
        }
    }
}

// A head's outputs over their sums to out[row * stride, head_dim numbers] for the first `rows` of its
// queries: through shared memory, rows of the warp's own, so that they are written as whole chunks.
template <int D, typename T>
static __device__ __forceinline__ void store_outputs(T *out, size_t stride, int rows, unsigned head_dim,
                                                     unsigned char *shared, float (&o)[D / 8][4],
                                                     struct running *run) {
    const unsigned lane = lane_now();
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = run->sum[half];
        sum += __shfl_xor_sync(ALL_LANES, sum, 1);
        sum += __shfl_xor_sync(ALL_LANES, sum, 2);
        inverse[half] = 1.0f / sum;
    }
#pragma unroll
    for (int i = 0; i < D / 8; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            unsigned at = chunk_at<D>(lane / 4 + (unsigned)half * 8, (unsigned)i) + lane % 4 * 4;
            *(uint32_t *)(shared + at) =
                pair_bits<T>(o[i][2 * half] * inverse[half], o[i][2 * half + 1] * inverse[half]);
        }
    }
    __syncwarp();
    const unsigned chunks = D / CHUNK;
#pragma unroll
    for (unsigned i = 0; i < QUERIES * chunks / WARP; i++) {
        unsigned number = lane + i * WARP;
        unsigned row = number / chunks;
        unsigned chunk = number % chunks;
        if ((int)row < rows && chunk * CHUNK < head_dim) {
            *(group<T, CHUNK> *)(out + row * stride + chunk * CHUNK) =
                *(const group<T, CHUNK> *)(shared + chunk_at<D>(row, chunk));
        }
    }
}

// What a block reads: the tiles of one key and value head of one text. Those of keys are steps 0, 2, 4 ...,
// those of values 1, 3, 5 ... This is of whole texts and of slices; attention_origins.h has the other.
template <typename T, int D, int HEADS, typename ORIGINS> struct stream {
    static const int KEYS = key_tile<D>::KEYS;
    share<D> kept;   // of one head; with two it is found anew for each tile, as registers are short
    const T *next;   // of the tile of keys, or of the values to them, to be asked for: this thread's first
    unsigned values; // from a key to its value
    unsigned stride; // of rows
    int end;         // of the rows of the text that are seen
    shared_place ring;

    // Of keys and values. Two heads a warp are for whole texts only: this formula and no other leaves the
    // compiler the registers.
    static __device__ __forceinline__ unsigned row_stride(const struct attention_shape &shape) {
        return HEADS == 1 ? shape.key_stride : (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    }
    // From the tile on that begins at first_key.
    __device__ __forceinline__ stream(const T *keys, const ORIGINS &, const struct attention_tile &tile,
                                      const struct attention_shape &shape, unsigned kv_head, int first_key,
                                      int last, shared_place buffers)
        : kept(shape.head_dim, threadIdx.x), values(shape.kv_heads * shape.head_dim),
          stride(row_stride(shape)), end(last), ring(buffers) {
        const int first_row = HEADS == 1 ? tile.start + shape.before : tile.start;
        next = kept.first(keys + (size_t)first_row * stride, stride, first_key, kv_head, shape.head_dim);
    }
    __device__ __forceinline__ shared_place buffer(int step) const {
        return ring + (unsigned)(step % RING) * key_tile<D>::BYTES;
    }
    // Starts to load a tile, that begins at `key`, if there is one; a group of copies in any case.
    template <int OF_VALUES> __device__ __forceinline__ void load(int tile, int key, unsigned head_dim) {
        if (key < end) {
            const share<D> mine = HEADS == 1 ? kept : share<D>(head_dim, thread_now());
            mine.template copy<KEYS>(buffer(2 * tile + OF_VALUES), next + (OF_VALUES ? values : 0), stride,
                                     end - key - (int)mine.row);
            next += OF_VALUES ? (size_t)KEYS * stride : 0;
        }
        copy_commit();
    }
    // Waits for a tile and asks for the one two steps on.
    template <int OF_VALUES> __device__ __forceinline__ void advance(int tile, int key, unsigned head_dim) {
        copy_wait<1>();
        __syncthreads();
        load<OF_VALUES>(tile + 1, key + KEYS, head_dim);
    }
};

// A warp's queries: rows of the text.
struct warp_rows {
    int first;
    int last; // the last that there is; before `first` when there is none
};

// All that a warp does with a tile of keys for N heads. Its probabilities are left in p.
template <typename T, int D, int HEADS, int N, typename SCORES>
static __device__ __forceinline__ void
attend_keys(uint32_t (&p)[HEADS][key_tile<D>::KEYS / 16][4], float (&o)[HEADS][D / 8][4],
            struct running (&run)[HEADS], queries<D, HEADS> &q, shared_place keys, int key,
            struct warp_rows rows, const struct attention_shape &shape, const SCORES &scores, unsigned lane) {
    const int halves = key_tile<D>::KEYS / 32;
    float s[HEADS][key_tile<D>::KEYS / 8][4];
    if (halves == 1 || groups_seen(key, rows.last) > 2) {
        multiply_keys<T, D, HEADS, N, halves>(s, q, keys, lane);
    } else {
        multiply_keys<T, D, HEADS, N, 1>(s, q, keys, lane);
    }
#pragma unroll
    for (int h = 0; h < N; h++) {
        finish_scores(s[h], rows.first, key, scores);
    }
    // Whether a query does not see all of the tile.
    if (key + key_tile<D>::KEYS - 1 > rows.first ||
        key <= attention_before(rows.last, shape.window, scores)) {
#pragma unroll
        for (int h = 0; h < N; h++) {
            mask_scores(s[h], rows.first, key, shape.window, scores);
        }
    }
#pragma unroll
    for (int h = 0; h < N; h++) {
        float factor[2];
        softmax(s[h], &run[h], factor, softmax_scale(scores, shape.scale));
#pragma unroll
        for (int i = 0; i < key_tile<D>::KEYS / 16; i++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                p[h][i][e] = pair_bits<T>(s[h][2 * i + e / 2][e % 2 * 2], s[h][2 * i + e / 2][e % 2 * 2 + 1]);
            }
        }
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                o[h][i][e] *= factor[e / 2];
            }
        }
    }
}

// Which queries and heads a block and one of its warps have. The query heads of a key's head are taken in
// packs of HEADS, of which the last may have fewer; a tile's warps, one for 16 queries of a pack, stand in
// the order of their queries, those of a pack after those of the one before it, and four of them make a
// block.
template <int HEADS> struct place {
    int first;     // query of the block's first warp, of the tile
    int end;       // after those of the block's last
    int query;     // the warp's first
    unsigned head; // the warp's first
    int heads;     // of the warp

    // kv_head: the key's; part: of the tile's blocks, from the last on, as later queries have more keys.
    __device__ __forceinline__ place(const struct attention_shape &shape, unsigned kv_head, unsigned part,
                                     unsigned warp) {
        unsigned packs = packs_of<HEADS>(shape);
        unsigned begin = (packs - 1 - part) * WARPS;
        unsigned of_group = (begin + warp) % packs * HEADS;
        first = (int)(begin / packs) * QUERIES;
        end = (int)((begin + WARPS - 1) / packs + 1) * QUERIES;
        query = (int)((begin + warp) / packs) * QUERIES;
        head = kv_head * shape.group + of_group;
        heads = (int)min(shape.group - of_group, (unsigned)HEADS);
    }
};

// All of a warp's outputs. A warp's own queries are read no more, and the buffer of the last keys, of tile
// `count` - 1, is free: the barrier of the last step came after them. The tile is read again rather than
// kept: registers are what bounds the blocks at work.
template <int D, int HEADS, typename T>
static __device__ __forceinline__ void store_heads(T *out, const struct attention_tile *tiles,
                                                   const struct attention_shape &shape, unsigned char *shared,
                                                   int count, float (&o)[HEADS][D / 8][4],
                                                   struct running (&run)[HEADS], unsigned warp) {
    const unsigned through =
        (build<D, HEADS>::HOLDS_QUERIES ? (unsigned)((2 * count - 2) % RING) * key_tile<D>::BYTES
                                        : (unsigned)build<D, HEADS>::QUERIES_AT) +
        warp * build<D, HEADS>::WARP_BYTES;
    const uint3 block = block_now();
    const struct attention_tile again = tiles[block.x];
    const place<HEADS> there(shape, block.z, block.y, warp);
    const size_t width = (size_t)shape.heads * shape.head_dim;
    T *to = out + (size_t)(again.first + there.query) * width + (size_t)there.head * shape.head_dim;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        if (h < there.heads) {
            store_outputs<D>(to + (unsigned)h * shape.head_dim, width, again.end - again.first - there.query,
                             shape.head_dim, shared + through + h * QUERIES * key_tile<D>::ROW_BYTES, o[h],
                             &run[h]);
        }
    }
}

template <typename T, int D, int HEADS, typename SCORING, typename ORIGINS>
static __global__ void __launch_bounds__(THREADS, (build<D, HEADS>::BLOCKS))
    attention_mma_kernel(T *out, const T *qkv, const T *keys, const struct attention_tile *tiles,
                         struct attention_shape shape, SCORING scoring, ORIGINS origins) {
    SHARED_BYTES(shared);
    const struct attention_tile tile = tiles[blockIdx.x];
    const unsigned lane = threadIdx.x % WARP;
    // By a shuffle, so that the compiler knows that the lanes of a warp agree on it.
    const unsigned warp = __shfl_sync(ALL_LANES, threadIdx.x / WARP, 0);
    const place<HEADS> here(shape, blockIdx.z, blockIdx.y, warp);
    const int query = tile.first - tile.start; // of the text
    const int end = min(tile.end - tile.start, query + here.end);
    if (query + here.first >= end) {
        return; // a text's last tile may have fewer queries
    }
    const auto scores = attention_of_head<T>(scoring, shape, here.head);
    const int first_key =
        attention_first_key(attention_before(query + here.first, shape.window, scores), key_tile<D>::KEYS);
    stream<T, D, HEADS, ORIGINS> in(keys, origins, tile, shape, blockIdx.z, first_key, end,
                                    shared_at(shared));
    const int first_query = query + here.query;
    const struct warp_rows rows = {first_query, min(first_query + QUERIES, end) - 1};

    queries<D, HEADS> q;
    const shared_place own =
        shared_at(shared) + build<D, HEADS>::QUERIES_AT + warp * build<D, HEADS>::WARP_BYTES;
    q.place = HEADS == 1 ? own : shared_at(shared) + build<D, HEADS>::QUERIES_AT;
    q.copy(own, qkv + (size_t)(tile.first + here.query) * shape.stride + here.head * shape.apart,
           shape.stride, end - first_query, here.heads, shape.head_dim, lane);
    copy_commit();
    in.template load<0>(0, first_key, shape.head_dim);
    in.template load<1>(0, first_key, shape.head_dim);
    if (build<D, HEADS>::HOLDS_QUERIES) { // before the barrier of step 0, after which their buffer is filled
        copy_wait<2>();
        __syncwarp();
        q.hold(lane);
    }

    float o[HEADS][D / 8][4] = {};
    struct running run[HEADS];
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            attention_begin(&run[h].maximum[half], &run[h].sum[half], scores, lane % 4 == 0);
        }
    }
    const bool whole = HEADS == 1 || here.heads == HEADS;
    int t = 0;
    for (int key = first_key; key < end; key += key_tile<D>::KEYS, t++) {
        // A warp without a query, or whose queries see none of these keys, only helps to copy.
        const bool works = rows.first <= rows.last && key <= rows.last &&
                           key + key_tile<D>::KEYS - 1 > attention_before(rows.first, shape.window, scores);
        uint32_t p[HEADS][key_tile<D>::KEYS / 16][4];
        in.template advance<0>(t, key, shape.head_dim);
        if (works) {
            if (whole) {
                attend_keys<T, D, HEADS, HEADS>(p, o, run, q, in.buffer(2 * t), key, rows, shape, scores,
                                                lane);
            } else {
                attend_keys<T, D, HEADS, 1>(p, o, run, q, in.buffer(2 * t), key, rows, shape, scores, lane);
            }
        }
        in.template advance<1>(t, key, shape.head_dim);
        if (works && whole) {
            multiply_values<T, D, HEADS, HEADS>(o, p, in.buffer(2 * t + 1), groups_seen(key, rows.last),
                                                lane);
        } else if (works) {
            multiply_values<T, D, HEADS, 1>(o, p, in.buffer(2 * t + 1), groups_seen(key, rows.last), lane);
        }
    }

    store_heads<D, HEADS>(out, tiles, shape, shared, t, o, run, warp);
}

template <typename T, int D, int HEADS, typename SCORING, typename ORIGINS = attention_whole>
static cudaError_t launch(const struct attention_call *call, const SCORING &scoring,
                          const ORIGINS &origins = ORIGINS()) {
    auto kernel = attention_mma_kernel<T, D, HEADS, SCORING, ORIGINS>;
    const int shared = build<D, HEADS>::SHARED;
    cudaError_t result = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (result != cudaSuccess) {
        return result;
    }
    return LAUNCH(kernel, dim3(call->tile_count, packs_of<HEADS>(call->shape), call->shape.kv_heads),
                  dim3(THREADS), shared, call->stream, (T *)call->out, (const T *)call->qkv,
                  (const T *)call->keys, call->tiles, call->shape, scoring, origins);
}

#endif
