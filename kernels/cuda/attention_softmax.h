// SPDX-License-Identifier: MIT
// From a warp's scores to its probabilities: what families do with scores, the mask, the running softmax. Of
// halves, on the layout of matrix instructions (ptx.h).
#ifndef STRATA_KERNELS_CUDA_ATTENTION_SOFTMAX_H
#define STRATA_KERNELS_CUDA_ATTENTION_SOFTMAX_H

#include "kernels/cuda/attention.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

static const float LOG2_E = 1.44269504f;

// What a row of the scores of a warp's matmul is, and a column.
static __device__ __forceinline__ int row_of(unsigned lane, int e) {
    return (int)(lane / 4) + e / 2 * 8;
}

static __device__ __forceinline__ int column_of(unsigned lane, int i, int e) {
    return i * 8 + (int)(lane % 4) * 2 + e % 2;
}

template <int TILES, typename SCORES>
static __device__ __forceinline__ void mask_scores(float (&s)[TILES][4], int query, int key, int window,
                                                   const SCORES &scores) {
    const unsigned lane = lane_now();
#pragma unroll
    for (int i = 0; i < TILES; i++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int row = query + row_of(lane, e);
            int column = key + column_of(lane, i, e);
            if (!attention_sees(row, column, attention_before(row, window, scores))) {
                s[i][e] = -INFINITY;
            }
        }
    }
}

// What is left of scaling for the softmax, whose exponentials are of 2.
static __device__ __forceinline__ float softmax_scale(const attention_plain &, float scale) {
    return scale * LOG2_E;
}

static __device__ __forceinline__ float softmax_scale(const attention_scores &, float) {
    return LOG2_E;
}

template <int TILES>
static __device__ __forceinline__ void finish_scores(float (&)[TILES][4], int, int, const attention_plain &) {
}

// tanh by an exponential: off by about 2^-23 of the cap, which a half's probabilities do not show.
template <int TILES>
static __device__ __forceinline__ void finish_scores(float (&s)[TILES][4], int query, int key,
                                                     const attention_scores &scores) {
    const unsigned lane = lane_now();
#pragma unroll
    for (int i = 0; i < TILES; i++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            s[i][e] *= scores.scale;
            if (scores.softcap > 0) {
                float power = fast_exp2(s[i][e] * scores.inverse_cap * (2 * LOG2_E));
                s[i][e] = scores.softcap * (1.0f - fast_divide(2.0f, 1.0f + power));
            }
            if (scores.slope != 0) {
                s[i][e] += attention_slope(scores, query + row_of(lane, e), key + column_of(lane, i, e));
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

#endif
