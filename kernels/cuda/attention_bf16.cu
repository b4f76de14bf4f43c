// Attention in bfloat16 on matrix instructions: FlashAttention-2's scheme (Dao 2023).
//
// A block computes 64 queries of one head; each of its four warps has 16 of them, with their running maxima,
// sums and outputs in registers. Keys and values come in tiles, counted from the text's start, through a ring
// of three buffers: K0 V0 K1 V1 ... Step n computes with tile n while n + 1 is under way, and asks for n + 2
// in the buffer that step n - 1 has left; the one barrier of a step says both that tile n is there and that
// all warps are done with n - 1.
//
// In shared memory a tile's rows are 16-byte chunks, exchanged within a row so that eight rows of one column
// of chunks, which is what a matrix load reads, lie in different banks.
//
// Scores are float32; probabilities 2^(scale' s - scale' max), scale' = scale log2 e, are rounded to bfloat16
// for the product with V, and summed before that.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum {
    WARPS = 4,
    THREADS = WARPS * WARP,
    WARP_QUERIES = ATTENTION_TILE / WARPS,
    RING = 3,
    CHUNK_BYTES = 16,
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
    MULTIPROCESSOR_SHARED = 100 << 10, // bytes of shared memory of a multiprocessor
#else
    MULTIPROCESSOR_SHARED = 164 << 10, // sm_80; sm_90 and sm_100 have 228 KB
#endif
};

static const float LOG2_E = 1.44269504f;

// One build of the kernel. D: head_dim rounded up (what is beyond it is zero); KEYS: of a tile.
template <int D> struct build {
    static const int KEYS = D <= 128 ? 64 : 32;
    static const bool HOLDS_QUERIES = D <= 128; // in registers; else they stay in shared memory
    static const int ROW_BYTES = 2 * D;
    static const int BUFFER_BYTES = KEYS * ROW_BYTES;
    static const int QUERY_BYTES = ATTENTION_TILE * ROW_BYTES;
    // Queries that need not stay come through the last buffer of the ring.
    static const int QUERIES_AT = HOLDS_QUERIES ? (RING - 1) * BUFFER_BYTES : RING * BUFFER_BYTES;
    static const int SHARED = QUERIES_AT + QUERY_BYTES;
    // Blocks that a multiprocessor is to have room for: as many as shared memory (1 KB more a block) and a
    // number of registers without spills allow. The compiler bounds registers by it.
    static const int SHARED_BLOCKS = MULTIPROCESSOR_SHARED / (SHARED + (1 << 10));
    static const int REGISTER_BLOCKS = D <= 64 ? 4 : D <= 128 ? 3 : 2;
    static const int BLOCKS = SHARED_BLOCKS < REGISTER_BLOCKS ? SHARED_BLOCKS : REGISTER_BLOCKS;
};

// Chunk c of a row lies at c ^ key: eight rows of any chunk column fall into eight different 16-byte columns
// of the banks, which are 128 bytes wide.
template <int D> struct swizzle {
    static const unsigned MOST = D % 64 == 0 ? 7 : 3; // a key, as bits

    static __device__ __forceinline__ unsigned key(unsigned row) {
        return D % 64 == 0 ? row & 7 : row >> 1 & 3;
    }
};

template <int D> static __device__ __forceinline__ unsigned chunk_at(unsigned row, unsigned chunk) {
    return row * build<D>::ROW_BYTES + (chunk ^ swizzle<D>::key(row)) * CHUNK_BYTES;
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
               ((chunk & ~swizzle<D>::MOST) * CHUNK_BYTES + (unsigned)below * build<D>::ROW_BYTES);
    }
};

// A thread's share of copying a tile: one chunk column of every PASS-th row.
template <int D> struct share {
    static const unsigned CHUNKS = D / CHUNK; // of a row
    // Rows at once: the most that is a power of two, so that a tile has a whole number of passes.
    static const unsigned PASS = D <= 32 ? 32 : D <= 64 ? 16 : D <= 128 ? 8 : 4;
    static_assert(PASS * CHUNKS <= THREADS, "no more chunks at once than threads");
    unsigned row;
    unsigned chunk;
    bool there; // columns from head_dim on are zeros

    __device__ __forceinline__ explicit share(unsigned head_dim)
        : row(threadIdx.x / CHUNKS), chunk(threadIdx.x % CHUNKS), there(chunk * CHUNK < head_dim) {
    }
    // This thread's first number of a tile: rows of the text from `token` on, columns of a head of q | k | v.
    __device__ __forceinline__ const bf16 *first(const bf16 *text, unsigned stride, int token, unsigned head,
                                                 unsigned head_dim) const {
        return text + ((size_t)token + row) * stride + (size_t)head * head_dim + chunk * CHUNK;
    }
    // Starts to copy ROWS rows; from[0] is this thread's first number, `rows` is how many rows there are from
    // its first on (the others become zeros).
    template <int ROWS>
    __device__ __forceinline__ void copy(shared_place to, const bf16 *from, unsigned stride, int rows) const {
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

template <int D> struct queries { // of a warp: A operands
    uint32_t held[build<D>::HOLDS_QUERIES ? D / 16 : 1][4];
    shared_place place;
};

template <int D>
static __device__ __forceinline__ lane_place<D> query_place(shared_place from, unsigned lane, unsigned warp) {
    return lane_place<D>(from, warp * WARP_QUERIES + lane % 16, lane / 16);
}

// How many groups of 16 of a tile's keys from `key` on a warp is to look at: the others lie after its last
// query.
static __device__ __forceinline__ int groups_seen(int key, int last_query) {
    return (last_query - key) / 16 + 1;
}

// scores [16, KEYS] = queries keys^T; n-tile i of 8 keys in s[i]. The tile's second half is left at zero
// where no key of it is seen.
template <int D>
static __device__ __forceinline__ void multiply_keys(float (&s)[build<D>::KEYS / 8][4], queries<D> &q,
                                                     shared_place keys, int seen, unsigned lane,
                                                     unsigned warp) {
    const lane_place<D> place(keys, lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int i = 0; i < build<D>::KEYS / 8; i++) {
        s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0;
    }
#pragma unroll
    for (int half = 0; half < build<D>::KEYS / 32; half++) {
        if (half * 2 >= seen) {
            break;
        }
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            if (!build<D>::HOLDS_QUERIES) {
                matrices_load(q.held[0], query_place<D>(q.place, lane, warp).at(k, 0));
            }
            const uint32_t(&a)[4] = q.held[build<D>::HOLDS_QUERIES ? k : 0];
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                uint32_t b[4];
                matrices_load(b, place.at(k, i * 16));
                matrix_multiply_add(s[2 * i], a, b[0], b[1]);
                matrix_multiply_add(s[2 * i + 1], a, b[2], b[3]);
            }
        }
    }
}

// outputs [16, D] += probabilities values, of the keys that are seen.
template <int D>
static __device__ __forceinline__ void multiply_values(float (&o)[D / 8][4],
                                                       const uint32_t (&p)[build<D>::KEYS / 16][4],
                                                       shared_place values, int seen, unsigned lane) {
    const lane_place<D> place(values, lane % 16, lane / 16);
#pragma unroll
    for (int k = 0; k < build<D>::KEYS / 16; k++) {
        if (k >= seen) {
            break;
        }
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            uint32_t b[4];
            matrices_load_transposed(b, place.at(i, k * 16));
            matrix_multiply_add(o[2 * i], p[k], b[0], b[1]);
            matrix_multiply_add(o[2 * i + 1], p[k], b[2], b[3]);
        }
    }
}

template <int TILES>
static __device__ __forceinline__ void mask_scores(float (&s)[TILES][4], int query, int key, int window) {
    const unsigned lane = lane_now();
#pragma unroll
    for (int i = 0; i < TILES; i++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int row = query + (int)(lane / 4) + e / 2 * 8;
            int column = key + i * 8 + (int)(lane % 4) * 2 + e % 2;
            if (!attention_sees(row, column, window)) {
                s[i][e] = -INFINITY;
            }
        }
    }
}

// Rows g and g + 8 of a warp's queries, each spread over four lanes.
struct running {
    float maximum[2]; // of the scores so far
    float sum[2];     // of this lane's probabilities
};

// Scores become probabilities; `factor` is what earlier sums and outputs are to be multiplied with.
template <int TILES>
static __device__ __forceinline__ void softmax(float (&s)[TILES][4], struct running *run, float (&factor)[2],
                                               float scale) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = run->maximum[half];
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            most = fmaxf(most, fmaxf(s[i][2 * half], s[i][2 * half + 1]));
        }
        most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 1));
        most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 2));
        float base = most == -INFINITY ? 0.0f : most * scale; // a row that has seen no key yet stays at 0
        factor[half] = fast_exp2(run->maximum[half] * scale - base); // 1 where the maximum stays
        run->maximum[half] = most;
        float sum = run->sum[half] * factor[half];
#pragma unroll
        for (int i = 0; i < TILES; i++) {
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; e++) {
                s[i][e] = fast_exp2(fmaf(s[i][e], scale, -base));
                sum += s[i][e];
            }
        }
        run->sum[half] = sum;
    }
}

// Outputs over their sums to out[row * stride, head_dim numbers] for the block's first `rows` queries:
// through shared memory, rows of the warp's own, so that they are written as whole chunks.
template <int D>
static __device__ __forceinline__ void store_outputs(bf16 *out, size_t stride, int rows, unsigned head_dim,
                                                     unsigned char *shared, float (&o)[D / 8][4],
                                                     struct running *run, unsigned warp) {
    const unsigned lane = lane_now();
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = run->sum[half];
        sum += __shfl_xor_sync(ALL_LANES, sum, 1);
        sum += __shfl_xor_sync(ALL_LANES, sum, 2);
        inverse[half] = 1.0f / sum;
    }
    unsigned first = warp * WARP_QUERIES;
#pragma unroll
    for (int i = 0; i < D / 8; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            unsigned at = chunk_at<D>(first + lane / 4 + (unsigned)half * 8, (unsigned)i) + lane % 4 * 4;
            *(uint32_t *)(shared + at) =
                bf16_pair_bits(o[i][2 * half] * inverse[half], o[i][2 * half + 1] * inverse[half]);
        }
    }
    __syncwarp();
    const unsigned chunks = D / CHUNK;
#pragma unroll
    for (unsigned i = 0; i < WARP_QUERIES * chunks / WARP; i++) {
        unsigned number = lane + i * WARP;
        unsigned row = first + number / chunks;
        unsigned chunk = number % chunks;
        if ((int)row < rows && chunk * CHUNK < head_dim) {
            *(group<bf16, CHUNK> *)(out + row * stride + chunk * CHUNK) =
                *(const group<bf16, CHUNK> *)(shared + chunk_at<D>(row, chunk));
        }
    }
}

// What a block reads: the tiles of one key and value head of one text. Those of keys are steps 0, 2, 4 ...,
// those of values 1, 3, 5 ...
template <int D> struct stream {
    share<D> mine;
    const bf16 *keys; // this thread's first number of tile 0
    unsigned values;  // from a key to its value
    unsigned stride;  // of rows
    int rows;         // of the text from this thread's first of tile 0 on
    int tiles;        // of keys
    shared_place ring;

    // first_key and end: of the text, its tiles from the one that begins at first_key to the one that has
    // `last` - 1.
    __device__ __forceinline__ stream(const bf16 *text, const struct attention_shape &shape, unsigned kv_head,
                                      int first_key, int last, int end, shared_place buffers)
        : mine(shape.head_dim), values(shape.kv_heads * shape.head_dim),
          stride((shape.heads + 2 * shape.kv_heads) * shape.head_dim), rows(end - first_key - (int)mine.row),
          tiles((last - first_key + build<D>::KEYS - 1) / build<D>::KEYS), ring(buffers) {
        keys = mine.first(text, stride, first_key, shape.heads + kv_head, shape.head_dim);
    }
    __device__ __forceinline__ shared_place buffer(int step) const {
        return ring + (unsigned)(step % RING) * build<D>::BUFFER_BYTES;
    }
    // Starts to load a tile, if there is one; a group of copies in any case.
    template <int OF_VALUES> __device__ __forceinline__ void load(int tile) const {
        const int keys_a_tile = build<D>::KEYS;
        if (tile < tiles) {
            mine.template copy<build<D>::KEYS>(buffer(2 * tile + OF_VALUES),
                                               keys + (size_t)(tile * keys_a_tile) * stride +
                                                   (OF_VALUES ? values : 0),
                                               stride, rows - tile * keys_a_tile);
        }
        copy_commit();
    }
    // Waits for a tile and asks for the one two steps on.
    template <int OF_VALUES> __device__ __forceinline__ void advance(int tile) const {
        copy_wait<1>();
        __syncthreads();
        load<OF_VALUES>(tile + 1);
    }
};

// A warp's queries: rows of the text.
struct warp_rows {
    int first;
    int last; // the last that there is; before `first` when there is none
};

// All that a warp does with a tile of keys. Its probabilities are left in p.
template <int D>
static __device__ __forceinline__ void
attend_keys(uint32_t (&p)[build<D>::KEYS / 16][4], float (&o)[D / 8][4], struct running *run, queries<D> &q,
            shared_place keys, int key, struct warp_rows rows, const struct attention_shape &shape,
            unsigned lane, unsigned warp) {
    float s[build<D>::KEYS / 8][4];
    multiply_keys<D>(s, q, keys, groups_seen(key, rows.last), lane, warp);
    // Whether a query does not see all of the tile.
    if (key + build<D>::KEYS - 1 > rows.first || key <= rows.last - shape.window) {
        mask_scores(s, rows.first, key, shape.window);
    }
    float factor[2];
    softmax(s, run, factor, shape.scale * LOG2_E);
#pragma unroll
    for (int i = 0; i < build<D>::KEYS / 16; i++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            p[i][e] = bf16_pair_bits(s[2 * i + e / 2][e % 2 * 2], s[2 * i + e / 2][e % 2 * 2 + 1]);
        }
    }
#pragma unroll
    for (int i = 0; i < D / 8; i++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            o[i][e] *= factor[e / 2];
        }
    }
}

// The block's queries, held if they are to be; the first keys and values are asked for on the way. from,
// rows: as for a tile of keys.
template <int D>
static __device__ __forceinline__ void begin(queries<D> &q, const stream<D> &in, const bf16 *from, int rows,
                                             unsigned lane, unsigned warp) {
    in.mine.template copy<ATTENTION_TILE>(q.place, from, in.stride, rows);
    copy_commit();
    in.template load<0>(0);
    in.template load<1>(0);
    copy_wait<2>();
    __syncthreads();
    if (build<D>::HOLDS_QUERIES) { // before the barrier of step 0, after which their buffer is filled
#pragma unroll
        for (int k = 0; k < (build<D>::HOLDS_QUERIES ? D / 16 : 0); k++) {
            matrices_load(q.held[k], query_place<D>(q.place, lane, warp).at(k, 0));
        }
    }
}

template <int D>
static __global__ void __launch_bounds__(THREADS, build<D>::BLOCKS)
    attention_bf16_kernel(bf16 *out, const bf16 *qkv, const struct attention_tile *tiles,
                          struct attention_shape shape) {
    SHARED_BYTES(shared);
    const struct attention_tile tile = tiles[blockIdx.x / shape.heads];
    const unsigned head = blockIdx.x % shape.heads;
    const unsigned lane = threadIdx.x % WARP;
    // By a shuffle, so that the compiler knows that the lanes of a warp agree on it.
    const unsigned warp = __shfl_sync(ALL_LANES, threadIdx.x / WARP, 0);
    const int query = tile.first - tile.start; // of the text
    const int end = tile.end - tile.start;
    const int last = end < query + ATTENTION_TILE ? end : query + ATTENTION_TILE; // queries end before it
    const int first_key = attention_first_key(query, shape.window, build<D>::KEYS);
    const size_t stride = (size_t)(shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    const bf16 *text = qkv + (size_t)tile.start * stride;
    const stream<D> in(text, shape, head / (shape.heads / shape.kv_heads), first_key, last, end,
                       shared_at(shared));
    queries<D> q;
    q.place = shared_at(shared + build<D>::QUERIES_AT);
    begin<D>(q, in, in.mine.first(text, in.stride, query, head, shape.head_dim),
             end - query - (int)in.mine.row, lane, warp);

    const int first_query = query + (int)warp * WARP_QUERIES;
    const struct warp_rows rows = {first_query, min(first_query + WARP_QUERIES, last) - 1};
    float o[D / 8][4] = {};
    struct running run = {{-INFINITY, -INFINITY}, {0, 0}};
    for (int t = 0; t < in.tiles; t++) { // a warp without a query, or before these keys, only helps to copy
        const int key = first_key + t * build<D>::KEYS;
        const bool works = rows.first <= rows.last && key <= rows.last;
        uint32_t p[build<D>::KEYS / 16][4];
        in.template advance<0>(t);
        if (works) {
            attend_keys<D>(p, o, &run, q, in.buffer(2 * t), key, rows, shape, lane, warp);
        }
        in.template advance<1>(t);
        if (works) {
            multiply_values<D>(o, p, in.buffer(2 * t + 1), groups_seen(key, rows.last), lane);
        }
    }

    // A warp's own queries are read no more, and the buffer of the last keys is free: the barrier of the last
    // step came after them. The tile is read again rather than kept: registers are what bounds the blocks at
    // work.
    const unsigned place = build<D>::HOLDS_QUERIES
                               ? (unsigned)((2 * in.tiles - 2) % RING) * build<D>::BUFFER_BYTES
                               : (unsigned)build<D>::QUERIES_AT;
    const struct attention_tile again = tiles[blockIdx.x / shape.heads];
    const size_t width = (size_t)shape.heads * shape.head_dim;
    store_outputs<D>(out + (size_t)again.first * width + (size_t)head * shape.head_dim, width,
                     again.end - again.first, shape.head_dim, shared + place, o, &run, warp);
}

template <int D> static cudaError_t launch(const struct attention_call *call) {
    auto kernel = attention_bf16_kernel<D>;
    cudaError_t result =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, build<D>::SHARED);
    if (result != cudaSuccess) {
        return result;
    }
    return LAUNCH(kernel, dim3(call->blocks), dim3(THREADS), build<D>::SHARED, call->stream,
                  (bf16 *)call->out, (const bf16 *)call->qkv, call->tiles, call->shape);
}

cudaError_t attention_bf16(const struct attention_call *call) {
    unsigned head_dim = call->shape.head_dim;
    return head_dim <= 32    ? launch<32>(call)
           : head_dim <= 64  ? launch<64>(call)
           : head_dim <= 96  ? launch<96>(call)
           : head_dim <= 128 ? launch<128>(call)
           : head_dim <= 192 ? launch<192>(call)
                             : launch<256>(call);
}
