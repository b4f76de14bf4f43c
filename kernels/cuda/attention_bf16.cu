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
};

// One build of the kernel. D: head_dim rounded up (what is beyond it is zero); KEYS: of a tile.
template <int D> struct build {
    static const int KEYS = D <= 128 ? 64 : 32;
    static const bool HOLDS_QUERIES = D <= 128; // in registers; else they stay in shared memory
    static const int BLOCKS = D <= 128 ? 3 : 2; // a multiprocessor, which bounds the registers
    static const int ROW_BYTES = 2 * D;
    static const int BUFFER_BYTES = KEYS * ROW_BYTES;
    static const int QUERY_BYTES = ATTENTION_TILE * ROW_BYTES;
    // Queries that need not stay come through the last buffer of the ring.
    static const int QUERIES_AT = HOLDS_QUERIES ? (RING - 1) * BUFFER_BYTES : RING * BUFFER_BYTES;
    static const int SHARED = QUERIES_AT + QUERY_BYTES;
};

// What chunks of a row are exchanged with: eight rows of any chunk column fall into eight different 16-byte
// columns of the banks.
template <int D> static __device__ __forceinline__ unsigned row_key(unsigned row) {
    return D % 64 == 0 ? row & 7 : row >> 1 & 3;
}

template <int D> static __device__ __forceinline__ unsigned chunk_at(unsigned row, unsigned chunk) {
    return row * build<D>::ROW_BYTES + (chunk ^ row_key<D>(row)) * CHUNK_BYTES;
}

// Where a lane reads from, for matrix loads of 16 columns: in a row, one of two neighbouring chunks.
template <int D> struct lane_place {
    unsigned row; // bytes
    unsigned chunk;

    __device__ __forceinline__ lane_place(unsigned number, unsigned second)
        : row(number * build<D>::ROW_BYTES), chunk(second ^ row_key<D>(number)) {
    }
    // Of columns [16 k, 16 k + 16).
    __device__ __forceinline__ unsigned at(unsigned k) const {
        return row + (chunk ^ 2 * k) * CHUNK_BYTES;
    }
};

// Starts to copy rows [first, first + ROWS) of a text to shared memory; rows from `end` on and columns from
// head_dim on become zeros.
template <int D, int ROWS>
static __device__ __forceinline__ void load_rows(shared_place to, const bf16 *from, size_t stride, int first,
                                                 int end, unsigned head_dim) {
    const unsigned chunks = D / CHUNK;
    static_assert(ROWS * (D / CHUNK) % THREADS == 0, "every thread copies as much");
#pragma unroll
    for (unsigned i = 0; i < ROWS * chunks / THREADS; i++) {
        unsigned number = threadIdx.x + i * THREADS;
        unsigned row = number / chunks;
        unsigned chunk = number % chunks;
        bool there = first + (int)row < end && chunk * CHUNK < head_dim;
        size_t at = (size_t)(first + (int)row) * stride + chunk * CHUNK;
        copy_async(to + chunk_at<D>(row, chunk), from + (there ? at : 0), there);
    }
}

template <int D> struct queries { // of a warp: A operands
    uint32_t held[build<D>::HOLDS_QUERIES ? D / 16 : 1][4];
    shared_place place;
};

template <int D> static __device__ __forceinline__ lane_place<D> query_place(unsigned lane, unsigned warp) {
    return lane_place<D>(warp * WARP_QUERIES + lane % 16, lane / 16);
}

// scores [16, KEYS] = queries keys^T; n-tile i of 8 keys in s[i].
template <int D>
static __device__ __forceinline__ void multiply_keys(float (&s)[build<D>::KEYS / 8][4], queries<D> &q,
                                                     shared_place keys, unsigned lane, unsigned warp) {
    const lane_place<D> place(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int i = 0; i < build<D>::KEYS / 8; i++) {
        s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0;
    }
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        if (!build<D>::HOLDS_QUERIES) {
            matrices_load(q.held[0], q.place + query_place<D>(lane, warp).at((unsigned)k));
        }
        const uint32_t(&a)[4] = q.held[build<D>::HOLDS_QUERIES ? k : 0];
#pragma unroll
        for (int i = 0; i < build<D>::KEYS / 16; i++) {
            uint32_t b[4];
            matrices_load(b, keys + place.at(k) + i * 16 * build<D>::ROW_BYTES);
            matrix_multiply_add(s[2 * i], a, b[0], b[1]);
            matrix_multiply_add(s[2 * i + 1], a, b[2], b[3]);
        }
    }
}

// outputs [16, D] += probabilities values.
template <int D>
static __device__ __forceinline__ void multiply_values(float (&o)[D / 8][4],
                                                       const uint32_t (&p)[build<D>::KEYS / 16][4],
                                                       shared_place values, unsigned lane) {
    const lane_place<D> place(lane % 16, lane / 16);
#pragma unroll
    for (int k = 0; k < build<D>::KEYS / 16; k++) {
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            uint32_t b[4];
            matrices_load_transposed(b, values + place.at(i) + k * 16 * build<D>::ROW_BYTES);
            matrix_multiply_add(o[2 * i], p[k], b[0], b[1]);
            matrix_multiply_add(o[2 * i + 1], p[k], b[2], b[3]);
        }
    }
}

template <int TILES>
static __device__ __forceinline__ void mask_scores(float (&s)[TILES][4], int query, int key, int window,
                                                   unsigned lane) {
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
        factor[half] = fast_exp2(fmaf(run->maximum[half], scale, -base));
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

// Outputs over their sums, through shared memory of the warp's own (rows of its queries), as whole rows to
// `out` [end - first rows, head_dim at `stride`].
template <int D>
static __device__ __forceinline__ void store_outputs(bf16 *out, size_t stride, int rows, unsigned head_dim,
                                                     unsigned char *shared, float (&o)[D / 8][4],
                                                     struct running *run, unsigned lane, unsigned warp) {
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

// What a block reads: one key and value head of one text, tile after tile.
template <int D> struct stream {
    const bf16 *keys; // of the text's first token
    const bf16 *values;
    size_t stride;
    int first; // key of tile 0
    int end;   // of the text
    int steps; // twice the tiles of keys
    unsigned head_dim;
    shared_place ring;

    __device__ __forceinline__ shared_place buffer(int step) const {
        return ring + (unsigned)(step % RING) * build<D>::BUFFER_BYTES;
    }
    // Starts to load the tile of a step, if there is one; a group of copies in any case.
    __device__ __forceinline__ void load(int step) const {
        if (step < steps) {
            load_rows<D, build<D>::KEYS>(buffer(step), step % 2 == 0 ? keys : values, stride,
                                         first + step / 2 * build<D>::KEYS, end, head_dim);
        }
        copy_commit();
    }
    // Waits for the tile of a step and asks for the one after the next.
    __device__ __forceinline__ void advance(int step) const {
        copy_wait<1>();
        __syncthreads();
        load(step + 2);
    }
};

template <int D>
static __device__ __forceinline__ void attend(const stream<D> &in, queries<D> &q, int query,
                                              const struct attention_shape &shape, float (&o)[D / 8][4],
                                              struct running *run, unsigned lane, unsigned warp) {
    const int keys = build<D>::KEYS;
    const float scale = shape.scale * 1.44269504f;
    for (int step = 0; step < in.steps; step += 2) {
        in.advance(step);
        float s[keys / 8][4];
        multiply_keys<D>(s, q, in.buffer(step), lane, warp);
        int key = in.first + step / 2 * keys;
        // Whether a query of the block does not see all of the tile.
        if (key + keys - 1 > query || key <= query + ATTENTION_TILE - 1 - shape.window) {
            mask_scores(s, query + (int)warp * WARP_QUERIES, key, shape.window, lane);
        }
        float factor[2];
        softmax(s, run, factor, scale);
        uint32_t p[keys / 16][4];
#pragma unroll
        for (int i = 0; i < keys / 16; i++) {
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
        in.advance(step + 1);
        multiply_values<D>(o, p, in.buffer(step + 1), lane);
    }
}

template <int D>
static __global__ void __launch_bounds__(THREADS, build<D>::BLOCKS)
    attention_bf16_kernel(bf16 *out, const bf16 *qkv, const struct attention_tile *tiles,
                          struct attention_shape shape) {
    SHARED_BYTES(shared);
    const struct attention_tile tile = tiles[blockIdx.x / shape.heads];
    const unsigned head = blockIdx.x % shape.heads;
    const unsigned kv_head = head / (shape.heads / shape.kv_heads);
    const unsigned lane = threadIdx.x % WARP;
    const unsigned warp = threadIdx.x / WARP;
    const int query = tile.first - tile.start; // of the text
    const int end = tile.end - tile.start;
    stream<D> in;
    in.stride = (size_t)(shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    const bf16 *text = qkv + (size_t)tile.start * in.stride;
    in.keys = text + (size_t)(shape.heads + kv_head) * shape.head_dim;
    in.values = in.keys + (size_t)shape.kv_heads * shape.head_dim;
    in.first = attention_first_key(query, shape.window, build<D>::KEYS);
    in.end = end;
    // Up to the last key that a query of this tile sees.
    in.steps =
        2 * (((end < query + ATTENTION_TILE ? end : query + ATTENTION_TILE) - in.first + build<D>::KEYS - 1) /
             build<D>::KEYS);
    in.head_dim = shape.head_dim;
    in.ring = shared_at(shared);

    queries<D> q;
    q.place = shared_at(shared + build<D>::QUERIES_AT);
    load_rows<D, ATTENTION_TILE>(q.place, text + (size_t)head * shape.head_dim, in.stride, query, end,
                                 shape.head_dim);
    copy_commit();
    in.load(0);
    in.load(1);
    copy_wait<2>();
    __syncthreads();
    if (build<D>::HOLDS_QUERIES) { // before the barrier of step 0, after which their buffer is filled
#pragma unroll
        for (int k = 0; k < (build<D>::HOLDS_QUERIES ? D / 16 : 0); k++) {
            matrices_load(q.held[k], q.place + query_place<D>(lane, warp).at(k));
        }
    }
    float o[D / 8][4] = {};
    struct running run = {{-INFINITY, -INFINITY}, {0, 0}};
    attend<D>(in, q, query, shape, o, &run, lane, warp);

    // A warp's own queries are read no more, and the buffer of the last keys is free: the barrier of the last
    // step came after them.
    unsigned place = build<D>::HOLDS_QUERIES ? (unsigned)((in.steps - 2) % RING) * build<D>::BUFFER_BYTES
                                             : (unsigned)build<D>::QUERIES_AT;
    size_t out_stride = (size_t)shape.heads * shape.head_dim;
    store_outputs<D>(out + (size_t)tile.first * out_stride + (size_t)head * shape.head_dim, out_stride,
                     tile.end - tile.first, shape.head_dim, shared + place, o, &run, lane, warp);
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
