// SPDX-License-Identifier: MIT
// The matmuls of a mixture of experts: all experts in one launch. A block multiplies up to 128 rows of one
// expert with 128 rows of its matrix (float32: 64), in steps of 64 columns (16) that come through a ring of
// three buffers by asynchronous copies; rows of tokens are gathered on the way. Step n computes while n + 1
// and n + 2 are under way; its one barrier says both that n is there and that all warps are done with n - 1,
// whose buffer is filled next.
//
// No sum is split: a row's sum runs over the columns in their order, by the same instructions wherever in its
// tile the row lies, so that its bits depend on it and on its expert alone. Columns beyond the last are
// zeros.
//
// Halves: eight warps of 64 x 32, float32 sums in 64 registers a thread; with operands and places that fits
// the 128 that two blocks on a multiprocessor leave. Shared memory, 96 KB, allows two blocks on sm_90 and
// sm_100, and one elsewhere. A step reads 32 KB and does 128 x 128 x 64 multiply-adds: 64 operations a byte.
//
// Which blocks run side by side decides what the L2 has to hold. Blocks go through the expert's tiles, 16 at
// a time, for one column of the matrix after another. Computed for 8,192 tokens on 132 multiprocessors of two
// blocks: with 128 experts of 2,048 x 768, 8 chosen, an expert has about 4 tiles (2 MB of rows) beside 6 MB
// of gate and up; with 8 experts of 4,096 x 14,336, 2 chosen, 16 tiles (17 MB) meet 16 columns (17 MB) of 235
// MB, each of which comes from memory once, not once a tile.
#include "kernels/cuda/activation.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum {
    THREADS = 256,
    BLOCKS = 2, // that registers are to suffice for
    RING = 3,
    CHUNK_BYTES = 16,
    OUT_BYTES = 256,   // of a row of the finished tile in shared memory
    WARPS_ACROSS = 4,  // halves: warps side by side
    WARP_ROWS = 64,    // of A
    WARP_COLUMNS = 32, // rows of W
    SIDE = 16,         // float32: threads side by side
    THREAD_ROWS = EXPERTS_TILE / SIDE,
    THREAD_COLUMNS = 4,
};

enum product_kind { // struct experts_product
    GATED,          // gate_up, and the inner activation of both
    PLAIN,          // gate_up without a gate, and the inner activation
    DOWN,
};

// A step's rows in shared memory. Halves: 128 bytes, whose chunks are exchanged so that eight rows of one
// column of chunks, which is what a matrix load reads, lie in different banks.
template <typename T> struct step {
    static const unsigned COLUMNS = 64;
    static const unsigned ACROSS = 128; // rows of W
    static const unsigned ROW_BYTES = 128;

    static __device__ __forceinline__ unsigned at(unsigned row, unsigned chunk) {
        return row * ROW_BYTES + (chunk ^ (row & 7)) * CHUNK_BYTES;
    }
};

// float32: 64 bytes and 16 more, so that eight rows lie in different banks.
template <> struct step<float> {
    static const unsigned COLUMNS = 16;
    static const unsigned ACROSS = 64;
    static const unsigned ROW_BYTES = 80;

    static __device__ __forceinline__ unsigned at(unsigned row, unsigned chunk) {
        return row * ROW_BYTES + chunk * CHUNK_BYTES;
    }
};

template <typename T> struct build {
    static const unsigned W_AT = EXPERTS_TILE * step<T>::ROW_BYTES;
    static const unsigned BUFFER = W_AT + step<T>::ACROSS * step<T>::ROW_BYTES;
    static const unsigned SHARED = RING * BUFFER;
    static_assert(SHARED >= EXPERTS_TILE * OUT_BYTES, "the finished tile lies where the ring was");
};

// What a block computes.
struct place {
    unsigned expert;
    unsigned first; // row of the sorted order
    unsigned rows;  // 0: nothing
    unsigned column;
};

template <typename T, product_kind KIND>
static __device__ __forceinline__ place place_of(const struct experts_product &product) {
    const struct experts_tile tile = product.tiles[blockIdx.x / product.blocks_across];
    place here = {};
    if (tile.count > 0 && (unsigned)tile.expert >= product.first_expert &&
        (unsigned)tile.expert < product.expert_end) {
        unsigned count = (unsigned)tile.count;
        unsigned within = blockIdx.x - (unsigned)tile.begin * product.blocks_across;
        here.expert = (unsigned)tile.expert;
        here.first = (unsigned)tile.first + within % count * EXPERTS_TILE;
        here.rows = min((unsigned)tile.end - here.first, (unsigned)EXPERTS_TILE);
        here.column = within / count * (KIND == GATED ? step<T>::ACROSS / 2 : step<T>::ACROSS);
    }
    return here;
}

// The row of an expert's matrix that is row `row` of the block's part of it; GATED: the first half of these
// are rows of gate and the second half the same rows of up. NONE: beyond the last.
static const unsigned NONE = 0xffffffffu;

template <typename T, product_kind KIND>
static __device__ __forceinline__ unsigned matrix_row(const struct experts_product &product, unsigned column,
                                                      unsigned row) {
    const unsigned half = step<T>::ACROSS / 2;
    unsigned out = column + (KIND == GATED ? row % half : row);
    return out >= product.rows ? NONE : out + (KIND == GATED && row >= half ? product.rows : 0);
}

// A thread's share of copying a step: one chunk of every PASS-th row.
template <typename T, product_kind KIND> struct reader {
    static const unsigned CHUNKS = step<T>::COLUMNS * sizeof(T) / CHUNK_BYTES;
    static const unsigned NUMBERS = CHUNK_BYTES / sizeof(T);
    static const unsigned PASS = THREADS / CHUNKS;
    static const unsigned A_PASSES = EXPERTS_TILE / PASS;
    static const unsigned W_PASSES = step<T>::ACROSS / PASS;
    unsigned a_row[A_PASSES]; // of A; NONE: zeros
    unsigned w_row[W_PASSES]; // of W

    __device__ __forceinline__ reader(const struct experts_product &product, const place &here) {
        const unsigned row = threadIdx.x / CHUNKS;
#pragma unroll
        for (unsigned i = 0; i < A_PASSES; i++) {
            unsigned at = here.first + row + i * PASS;
            a_row[i] = NONE;
            if (row + i * PASS < here.rows) {
                a_row[i] = KIND != DOWN ? (unsigned)product.order[at] / product.pairs_a_row : at;
            }
        }
#pragma unroll
        for (unsigned i = 0; i < W_PASSES; i++) {
            unsigned of_expert = matrix_row<T, KIND>(product, here.column, row + i * PASS);
            w_row[i] = of_expert == NONE
                           ? NONE
                           : (here.expert - product.first_expert) * product.matrix_rows + of_expert;
        }
    }
    static __device__ __forceinline__ void copy(shared_place to, const void *from, unsigned row,
                                                unsigned columns, unsigned column) {
        bool there = row != NONE && column < columns;
        copy_async(to, (const T *)from + (there ? (size_t)row * columns + column : 0), there);
    }
    // Starts to copy a step, if there is one; a group of copies in any case.
    __device__ __forceinline__ void load(const struct experts_product &product, shared_place ring,
                                         unsigned number) const {
        const unsigned row = threadIdx.x / CHUNKS;
        const unsigned chunk = threadIdx.x % CHUNKS;
        const unsigned column = number * step<T>::COLUMNS + chunk * NUMBERS;
        const shared_place to = ring + number % RING * build<T>::BUFFER;
        if (number * step<T>::COLUMNS < product.columns) {
#pragma unroll
            for (unsigned i = 0; i < A_PASSES; i++) {
                copy(to + step<T>::at(row + i * PASS, chunk), product.a, a_row[i], product.columns, column);
            }
#pragma unroll
            for (unsigned i = 0; i < W_PASSES; i++) {
                copy(to + build<T>::W_AT + step<T>::at(row + i * PASS, chunk), product.weights, w_row[i],
                     product.columns, column);
            }
        }
        copy_commit();
    }
};

// Where a number of the finished tile lies in shared memory.
template <typename T> static __device__ __forceinline__ unsigned out_at(unsigned row, unsigned column) {
    unsigned bytes = column * (unsigned)sizeof(T);
    return row * OUT_BYTES + (bytes / CHUNK_BYTES ^ (row & 7)) * CHUNK_BYTES + bytes % CHUNK_BYTES;
}

template <typename T, product_kind KIND>
static __device__ __forceinline__ float bias_of(const struct experts_product &product, const place &here,
                                                unsigned row) {
    unsigned of_expert = matrix_row<T, KIND>(product, here.column, row);
    return product.bias == NULL || of_expert == NONE
               ? 0.0f
               : number_value(
                     ((const T *)product.bias)[(size_t)here.expert * product.matrix_rows + of_expert]);
}

// ---- sums: halves ----

template <typename T> struct sums {
    float c[WARP_ROWS / 16][WARP_COLUMNS / 8][4];

    __device__ __forceinline__ sums() : c() {
    }
    static __device__ __forceinline__ unsigned row(void) {
        return threadIdx.x / WARP / WARPS_ACROSS * WARP_ROWS;
    }
    static __device__ __forceinline__ unsigned column(void) {
        return threadIdx.x / WARP % WARPS_ACROSS * WARP_COLUMNS;
    }
    // Rows from `rows` on belong to nobody: a warp that has no others waits for the rest.
    __device__ __forceinline__ void add(unsigned char *shared, unsigned buffer, unsigned rows) {
        if (row() >= rows) {
            return;
        }
        const unsigned lane = threadIdx.x % WARP;
        const shared_place from = shared_at(shared) + buffer;
        const shared_place a_from = from + step<T>::at(row() + lane % 16, lane / 16);
        const shared_place w_from =
            from + build<T>::W_AT + step<T>::at(column() + lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
        for (unsigned k = 0; k < step<T>::COLUMNS / 16; k++) {
            uint32_t a[WARP_ROWS / 16][4];
#pragma unroll
            for (unsigned m = 0; m < WARP_ROWS / 16; m++) {
                matrices_load(a[m], shared_flip(a_from, 2 * k * CHUNK_BYTES) + m * 16 * step<T>::ROW_BYTES);
            }
#pragma unroll
            for (unsigned n = 0; n < WARP_COLUMNS / 16; n++) {
                uint32_t w[4];
                matrices_load(w, shared_flip(w_from, 2 * k * CHUNK_BYTES) + n * 16 * step<T>::ROW_BYTES);
#pragma unroll
                for (unsigned m = 0; m < WARP_ROWS / 16; m++) {
                    matrix_multiply_add<T>(c[m][2 * n], a[m], w[0], w[1]);
                    matrix_multiply_add<T>(c[m][2 * n + 1], a[m], w[2], w[3]);
                }
            }
        }
    }
    // With the bias, rounded.
    template <product_kind KIND>
    __device__ __forceinline__ void finish(unsigned char *out, const struct experts_product &product,
                                           const place &here) const {
        const unsigned lane = threadIdx.x % WARP;
#pragma unroll
        for (unsigned n = 0; n < WARP_COLUMNS / 8; n++) {
            unsigned at = column() + n * 8 + lane % 4 * 2;
            float low = bias_of<T, KIND>(product, here, at);
            float high = bias_of<T, KIND>(product, here, at + 1);
#pragma unroll
            for (unsigned m = 0; m < WARP_ROWS / 16; m++) {
#pragma unroll
                for (unsigned half = 0; half < 2; half++) {
                    *(uint32_t *)(out + out_at<T>(row() + m * 16 + half * 8 + lane / 4, at)) =
                        pair_bits<T>(c[m][n][2 * half] + low, c[m][n][2 * half + 1] + high);
                }
            }
        }
    }
};

// ---- sums: float32 ----

// A thread has THREAD_ROWS rows side by side, and every SIDE-th row of W.
template <> struct sums<float> {
    float c[THREAD_ROWS][THREAD_COLUMNS];

    __device__ __forceinline__ sums() : c() {
    }
    static __device__ __forceinline__ void quad(float (&out)[4], const unsigned char *from) {
        group<float, 4> in = *(const group<float, 4> *)from;
#pragma unroll
        for (int e = 0; e < 4; e++) {
            out[e] = in.number[e];
        }
    }
    __device__ __forceinline__ void add(unsigned char *shared, unsigned buffer, unsigned rows) {
        const unsigned first = threadIdx.x / SIDE * THREAD_ROWS;
        if (first >= rows) {
            return;
        }
#pragma unroll
        for (unsigned chunk = 0; chunk < step<float>::COLUMNS / 4; chunk++) {
            float w[THREAD_COLUMNS][4];
#pragma unroll
            for (unsigned n = 0; n < THREAD_COLUMNS; n++) {
                quad(w[n], shared + buffer + build<float>::W_AT +
                               step<float>::at(threadIdx.x % SIDE + n * SIDE, chunk));
            }
#pragma unroll
            for (unsigned m = 0; m < THREAD_ROWS; m++) {
                float a[4];
                quad(a, shared + buffer + step<float>::at(first + m, chunk));
#pragma unroll
                for (unsigned n = 0; n < THREAD_COLUMNS; n++) {
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        c[m][n] = fmaf(a[e], w[n][e], c[m][n]);
                    }
                }
            }
        }
    }
    template <product_kind KIND>
    __device__ __forceinline__ void finish(unsigned char *out, const struct experts_product &product,
                                           const place &here) const {
#pragma unroll
        for (unsigned n = 0; n < THREAD_COLUMNS; n++) {
            unsigned at = threadIdx.x % SIDE + n * SIDE;
            float bias = bias_of<float, KIND>(product, here, at);
#pragma unroll
            for (unsigned m = 0; m < THREAD_ROWS; m++) {
                *(float *)(out + out_at<float>(threadIdx.x / SIDE * THREAD_ROWS + m, at)) = c[m][n] + bias;
            }
        }
    }
};

// ---- the finished tile ----

template <typename T>
static __device__ __forceinline__ void out_load(float (&out)[CHUNK], const unsigned char *tile, unsigned row,
                                                unsigned column) {
    const unsigned numbers = CHUNK_BYTES / sizeof(T);
#pragma unroll
    for (unsigned i = 0; i < CHUNK / numbers; i++) {
        const group<T, numbers> in =
            *(const group<T, numbers> *)(tile + out_at<T>(row, column + i * numbers));
#pragma unroll
        for (unsigned e = 0; e < numbers; e++) {
            out[i * numbers + e] = number_value(in.number[e]);
        }
    }
}

// The inner activation, rounded at every step but the last. NaN stays: what is compared with it is false.
template <typename T>
static __device__ __forceinline__ float inner_of(float gate, float up, const struct experts_product &p) {
    if (!(p.limit > 0)) {
        return rounded<T>(activated<T>(gate, p.activation)) * up;
    }
    gate = gate > p.limit ? p.limit : gate;
    up = up > p.limit ? p.limit : up < -p.limit ? -p.limit : up;
    return rounded<T>(gate * sigmoid(1.702f * gate, T())) * rounded<T>(up + 1.0f);
}

// Rows of the tile to their places, eight numbers a thread.
template <typename T, product_kind KIND>
static __device__ __forceinline__ void store_tile(const unsigned char *tile,
                                                  const struct experts_product &product, const place &here) {
    const unsigned across = KIND == GATED ? step<T>::ACROSS / 2 : step<T>::ACROSS;
    const unsigned groups = across / CHUNK;
#pragma unroll 1
    for (unsigned number = threadIdx.x; number < here.rows * groups; number += THREADS) {
        unsigned row = number / groups;
        unsigned column = number % groups * CHUNK;
        if (here.column + column >= product.rows) {
            continue;
        }
        float y[CHUNK];
        out_load<T>(y, tile, row, column);
        size_t to = here.first + row;
        if (KIND == GATED) {
            float up[CHUNK];
            out_load<T>(up, tile, row, across + column);
#pragma unroll
            for (int e = 0; e < CHUNK; e++) {
                y[e] = inner_of<T>(y[e], up[e], product);
            }
        } else if (KIND == PLAIN) {
#pragma unroll
            for (int e = 0; e < CHUNK; e++) {
                y[e] = activated<T>(y[e], product.activation);
            }
        } else {
            to = (size_t)product.order[to];
        }
        group_write((T *)product.out + to * product.rows + here.column + column, y);
    }
}

template <typename T, product_kind KIND>
static __global__ void __launch_bounds__(THREADS, BLOCKS) experts_kernel(struct experts_product product) {
    SHARED_BYTES(shared);
    const place here = place_of<T, KIND>(product);
    if (here.rows == 0) {
        return;
    }
    const reader<T, KIND> in(product, here);
    const shared_place ring = shared_at(shared);
    sums<T> sum;
#pragma unroll
    for (unsigned i = 0; i < RING - 1; i++) {
        in.load(product, ring, i);
    }
    for (unsigned i = 0; i * step<T>::COLUMNS < product.columns; i++) {
        copy_wait<RING - 2>();
        __syncthreads();
        in.load(product, ring, i + RING - 1);
        sum.add(shared, i % RING * build<T>::BUFFER, here.rows);
    }
    __syncthreads(); // what is under way now are groups without copies
    sum.template finish<KIND>(shared, product, here);
    __syncthreads();
    store_tile<T, KIND>(shared, product, here);
}

// ---- launch ----

template <typename T, product_kind KIND>
static cudaError_t launch(cudaStream_t stream, struct experts_product product, size_t tiles) {
    auto kernel = experts_kernel<T, KIND>;
    const unsigned across = KIND == GATED ? step<T>::ACROSS / 2 : step<T>::ACROSS;
    const int shared = (int)build<T>::SHARED;
    product.blocks_across = (product.rows + across - 1) / across;
    if (tiles * product.blocks_across > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    cudaError_t result = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (result != cudaSuccess) {
        return result;
    }
    return LAUNCH(kernel, dim3((unsigned)(tiles * product.blocks_across)), dim3(THREADS), shared, stream,
                  product);
}

// Sizes fit the kernel's 32 bits, and rows are whole chunks.
static bool fits(const struct device_experts *experts, const struct experts_part *part, size_t pairs,
                 const void *out, const void *a) {
    return experts->hidden % EXPERTS_STEP == 0 && experts->width % EXPERTS_STEP == 0 &&
           experts->hidden <= INT32_MAX && experts->width <= INT32_MAX / 2 && pairs <= INT32_MAX / 2 &&
           experts->gate_up->rows <= INT32_MAX && experts->down->rows <= INT32_MAX &&
           ((uintptr_t)out | (uintptr_t)a | (uintptr_t)part->weights) % CHUNK_BYTES == 0;
}

template <product_kind KIND>
static cudaError_t launch_product(cudaStream_t stream, enum dtype dtype, struct experts_product product,
                                  size_t tiles) {
    return with_number(dtype,
                       [&](auto number) { return launch<decltype(number), KIND>(stream, product, tiles); });
}

extern "C" cudaError_t launch_experts_inner(cudaStream_t stream, enum dtype dtype, void *inner, const void *x,
                                            size_t pairs_a_row, const struct device_experts *experts,
                                            const struct experts_part *part, const int32_t *order,
                                            const struct experts_tile *tiles, size_t pairs) {
    if (!fits(experts, part, pairs, inner, x)) {
        return cudaErrorInvalidValue;
    }
    struct experts_product product = {
        inner,
        x,
        part->weights,
        experts->gate_up_bias,
        order,
        tiles,
        (unsigned)experts->hidden,
        (unsigned)experts->width,
        (unsigned)device_experts_rows(experts),
        (unsigned)pairs_a_row,
        0,
        experts->limit,
        experts->activation,
        (unsigned)part->first,
        (unsigned)part->end,
    };
    const size_t tile_count = experts_tile_count(pairs, experts->experts);
    return experts->plain ? launch_product<PLAIN>(stream, dtype, product, tile_count)
                          : launch_product<GATED>(stream, dtype, product, tile_count);
}

extern "C" cudaError_t launch_experts_down(cudaStream_t stream, enum dtype dtype, void *products,
                                           const void *inner, const struct device_experts *experts,
                                           const struct experts_part *part, const int32_t *order,
                                           const struct experts_tile *tiles, size_t pairs) {
    if (!fits(experts, part, pairs, products, inner)) {
        return cudaErrorInvalidValue;
    }
    struct experts_product product = {
        products,
        inner,
        part->weights,
        experts->down_bias,
        order,
        tiles,
        (unsigned)experts->width,
        (unsigned)experts->hidden,
        (unsigned)experts->hidden,
        1,
        0,
        experts->limit,
        experts->activation,
        (unsigned)part->first,
        (unsigned)part->end,
    };
    return launch_product<DOWN>(stream, dtype, product, experts_tile_count(pairs, experts->experts));
}
