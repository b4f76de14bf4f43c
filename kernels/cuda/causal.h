// SPDX-License-Identifier: MIT
// The causal convolution that a gated delta net and a state space begin with (private to kernels/cuda).
#ifndef STRATA_KERNELS_CUDA_CAUSAL_H
#define STRATA_KERNELS_CUDA_CAUSAL_H

#include "kernels/cuda/activation.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/texts.h"

enum { TAPS = 4 }; // of the convolution, where it is fast

// What is convolved: columns side by side of a batch's rows. Of a text the tokens' rows, and the taps - 1
// before them.
template <typename T> struct rows_from {
    const T *in;    // from the first column on
    size_t stride;  // of in
    size_t columns; // and of weights
    const T *weights;
    const T *bias; // NULL: none
    unsigned taps;
    const int32_t *starts;
    unsigned texts;
    size_t tokens;
};

// The rows before a text, [taps - 1, columns]; NULL: it begins with its own.
template <typename T>
static __device__ __forceinline__ const T *tail_of(const same_beginning &beginning, unsigned) {
    return (const T *)beginning.from;
}

template <typename T>
static __device__ __forceinline__ const T *tail_of(const text_beginning &beginning, unsigned text) {
    return text_goes_on(beginning, text) ? (const T *)beginning.from : NULL;
}

// The row `back` tokens before a token, NULL before the text.
template <typename T>
static __device__ __forceinline__ const T *row_before(const rows_from<T> &rows, const T *tail, int32_t start,
                                                      int32_t token, int32_t back) {
    if (token - back >= start) {
        return rows.in + (size_t)(token - back) * rows.stride;
    }
    return tail != NULL ? tail + (size_t)(token - back - start + (int32_t)rows.taps - 1) * rows.columns
                        : NULL;
}

// The fast taps' weights of columns [first + i, first + i + N), of which those below `width` are there.
template <typename T, int N>
static __device__ __forceinline__ void hold_weights(float (&held)[TAPS][N], const rows_from<T> &rows,
                                                    size_t first, size_t i, size_t width) {
    if (i < width) {
#pragma unroll
        for (int tap = 0; tap < TAPS; tap++) {
#pragma unroll
            for (int e = 0; e < N; e++) {
                held[tap][e] = number_value(rows.weights[(first + i + (size_t)e) * TAPS + (size_t)tap]);
            }
        }
    }
}

// FAST: four taps, rows that can be read in groups. Of columns [first + i, first + i + N), of which those
// from `width` numbers after `first` on are zeros.
template <typename T, int N, bool FAST, bool BIASED>
static __device__ __forceinline__ void
convolve(float (&x)[N], const rows_from<T> &rows, const float (&held)[TAPS][N], const float (&bias)[N],
         size_t first, size_t i, size_t width, const T *tail, int32_t start, int32_t token) {
    const int32_t taps = FAST ? TAPS : (int32_t)rows.taps;
#pragma unroll
    for (int e = 0; e < N; e++) {
        x[e] = 0;
    }
#pragma unroll
    for (int32_t tap = 0; tap < taps; tap++) { // the oldest token first
        const T *row = row_before(rows, tail, start, token, taps - 1 - tap);
        if (row != NULL) {
            float y[N];
            group_load(y, row + first, i, width, FAST);
#pragma unroll
            for (int e = 0; e < N; e++) {
                float weight = 0;
                if (FAST) {
                    weight = held[tap % TAPS][e];
                } else if (i + (size_t)e < width) {
                    weight = number_value(rows.weights[(first + i + (size_t)e) * rows.taps + (size_t)tap]);
                }
                x[e] = fmaf(y[e], weight, x[e]);
            }
        }
    }
#pragma unroll
    for (int e = 0; e < N; e++) {
        x[e] = rounded<T>(silu(rounded<T>(BIASED ? x[e] + bias[e] : x[e]), T()));
    }
}

#endif
