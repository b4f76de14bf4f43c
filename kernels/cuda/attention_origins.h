// SPDX-License-Identifier: MIT
// Attention in a half of texts that go on from others (struct device_origin): attention_mma.h's kernels,
// whose keys and values come from where the tokens of the text lie, in rows of the batch or of the head.
//
// A row's bits are those that it has in the whole text. Tiles of keys are counted from the text's first
// token, those of queries from its first own one, and a row does not depend on its place among queries: of
// tiles that it sees no key of, probabilities are 0 and a maximum stays. (Of numbers that are not finite this
// does not hold: 0 times an infinite value is NaN.)
#ifndef STRATA_KERNELS_CUDA_ATTENTION_ORIGINS_H
#define STRATA_KERNELS_CUDA_ATTENTION_ORIGINS_H

#include "kernels/cuda/attention_mma.h"
#include "kernels/cuda/texts.h"

// As that of whole texts. The rows of a tile mostly lie one after another, as those of the tile before did:
// then a thread goes on from where it was. Where a tile has tokens of several texts, it looks each of its
// rows up.
template <typename T, int D> struct stream<T, D, 1, attention_origins> {
    static const int KEYS = key_tile<D>::KEYS;
    const attention_origins &from;
    const T *keys;   // rows of the batch's texts
    const T *next;   // of the tile of keys, or of the values to them, to be asked for: this thread's first
    unsigned stride; // of the rows from there on
    int until;       // of the text's tokens, the first whose row lies elsewhere
    unsigned column; // of a row, the first of a key's head
    unsigned values; // from a key to its value
    unsigned key_stride; // of rows of the batch's texts
    int text;
    int end; // of the rows of the text that are seen
    shared_place ring;

    // From the tile on that begins at first_key.
    __device__ __forceinline__ stream(const T *rows, const attention_origins &origins,
                                      const struct attention_tile &tile, const struct attention_shape &shape,
                                      unsigned kv_head, int first_key, int last, shared_place buffers)
        : from(origins), keys(rows), next(rows), stride(0), until(first_key),
          column(kv_head * shape.head_dim), values(shape.kv_heads * shape.head_dim),
          key_stride(shape.key_stride), text(tile.text), end(last), ring(buffers) {
    }
    __device__ __forceinline__ shared_place buffer(int step) const {
        return ring + (unsigned)(step % RING) * key_tile<D>::BYTES;
    }
    // The first number of a token's row, of a key's head.
    __device__ __forceinline__ const T *find(int token, unsigned *row_stride, int *row_until) const {
        const text_place place = text_place_of(from.origins, from.starts, text, token);
        const bool of_head = place.text == DEVICE_HEAD;
        *row_stride = of_head ? from.head_stride : key_stride;
        *row_until = place.until;
        return (of_head ? (const T *)from.head : keys) + (size_t)place.row * *row_stride + column;
    }
    // Starts to copy a tile row by row; offset: to what is copied of a row.
    __device__ __forceinline__ void copy_apart(const share<D> &mine, shared_place to, int key,
                                               unsigned offset) const {
        if (share<D>::PASS * share<D>::CHUNKS < THREADS && mine.row >= share<D>::PASS) {
            return;
        }
#pragma unroll 1
        for (unsigned row = mine.row; row < KEYS; row += share<D>::PASS) {
            unsigned row_stride;
            int row_until;
            const bool there = mine.there && key + (int)row < end;
            const T *line = there ? find(key + (int)row, &row_stride, &row_until) : keys;
            copy_async(to + chunk_at<D>(row, mine.chunk), line + offset + mine.chunk * CHUNK, there);
        }
    }
    template <int OF_VALUES> __device__ __forceinline__ void load(int tile, int key, unsigned head_dim) {
        if (key < end) {
            const share<D> mine(head_dim, thread_now()); // found anew for each tile, as registers are short
            const unsigned offset = OF_VALUES ? values : 0;
            const shared_place to = buffer(2 * tile + OF_VALUES);
            if (!OF_VALUES && key >= until) {
                next = find(key, &stride, &until) + (size_t)mine.row * stride + mine.chunk * CHUNK;
            }
            if (min(key + KEYS, end) <= until) {
                mine.template copy<KEYS>(to, next + offset, stride, end - key - (int)mine.row);
            } else {
                copy_apart(mine, to, key, offset);
            }
            next += OF_VALUES ? (size_t)KEYS * stride : 0;
        }
        copy_commit();
    }
    template <int OF_VALUES> __device__ __forceinline__ void advance(int tile, int key, unsigned head_dim) {
        copy_wait<1>();
        __syncthreads();
        load<OF_VALUES>(tile + 1, key + KEYS, head_dim);
    }
};

#endif
