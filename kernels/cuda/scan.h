// SPDX-License-Identifier: MIT
// What the scans of a gated delta net and a state space share (private to kernels/cuda): how a block of one
// head's columns of a state lies in its threads' registers, and how rows come into shared memory.
#ifndef STRATA_KERNELS_CUDA_SCAN_H
#define STRATA_KERNELS_CUDA_SCAN_H

#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum {
    WARPS = 4,
    THREADS = WARPS * WARP,
    PARTS = 8,             // lanes that share columns
    COLUMNS = 2,           // of a thread
    ACROSS = WARP / PARTS, // lanes of a part
    WARP_COLUMNS = ACROSS * COLUMNS,
    BLOCK_COLUMNS = WARPS * WARP_COLUMNS,
    QUAD = 4,                 // rows side by side
    QUAD_ROWS = QUAD * PARTS, // of all parts
    TILE = 8,                 // tokens
    COPY = 16,                // bytes
};

// A thread's share of copying rows of a tile's tokens into a buffer: one chunk of every PASS-th row.
template <unsigned ROW_BYTES> struct rows_copy {
    static const unsigned CHUNKS = ROW_BYTES / COPY;
    static const unsigned PASS = THREADS / CHUNKS;
    const unsigned char *from; // the chunk of its first row
    size_t stride;             // bytes from one row to the next
    bool within;               // a row
    unsigned row;
    unsigned to; // of a buffer

    // Rows from token `first` on, of which `bytes` are there.
    __device__ __forceinline__ void set(const void *rows, size_t row_stride, unsigned bytes, int32_t first,
                                        unsigned place) {
        const unsigned at = threadIdx.x % CHUNKS * COPY;
        row = threadIdx.x / CHUNKS;
        stride = row_stride;
        within = at < bytes;
        from = (const unsigned char *)rows + ((size_t)first + row) * stride + at;
        to = place + threadIdx.x * COPY;
    }

    // Copies what is there of the next tile, whose text has `left` more tokens; the rest becomes zeros.
    __device__ __forceinline__ void copy(shared_place buffer, int32_t left) {
#pragma unroll
        for (unsigned begin = 0; begin < TILE; begin += PASS) {
            if (PASS <= TILE || row < TILE) {
                copy_async(buffer + to + begin * ROW_BYTES, from + begin * stride,
                           within && (int32_t)(row + begin) < left);
            }
        }
        from += TILE * stride;
    }
};

// A thread's rows of a key or a query, of B or C.
template <int QUADS>
static __device__ __forceinline__ void rows_load(float (&out)[QUADS * QUAD], const float *row) {
#pragma unroll
    for (int j = 0; j < QUADS; j++) {
        const group<float, QUAD> in = *(const group<float, QUAD> *)(row + j * QUAD_ROWS);
#pragma unroll
        for (int e = 0; e < QUAD; e++) {
            out[j * QUAD + e] = in.number[e];
        }
    }
}

// Sums of the lanes that share columns, the same in each of them.
template <int N> static __device__ __forceinline__ void add_parts(float (&x)[N]) {
#pragma unroll
    for (int step = WARP / 2; step >= ACROSS; step /= 2) {
        float other[N];
#pragma unroll
        for (int n = 0; n < N; n++) {
            other[n] = x[n];
        }
        lanes_flip(other, step);
#pragma unroll
        for (int n = 0; n < N; n++) {
            x[n] += other[n];
        }
    }
}

// A thread's columns, side by side.
static __device__ __forceinline__ void columns_store(float *to, const float (&x)[COLUMNS]) {
    group<float, COLUMNS> pair;
    pair.number[0] = x[0];
    pair.number[1] = x[1];
    *(group<float, COLUMNS> *)to = pair;
}

#endif
