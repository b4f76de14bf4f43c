// SPDX-License-Identifier: MIT
// Norms of heads and rotary positions, in place on q | k | v: a block a token, a few lanes a head.
#include "kernels/cuda/norm.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum {
    ROTARY_THREADS = 128,
    PAIRS = 4, // numbers i ... i + 3 of the left half and their partners: what a lane turns
    HEAD_DIM_MOST = 2 * PAIRS * WARP,
    TURNED_HEAD_MOST = 512, // for which shared memory suffices anywhere
};

// ---- RMSNorm of whole heads, numbers a half apart, roundings everywhere ----

template <typename T, bool WIDE>
static __device__ __forceinline__ void normalise(float (&x)[PAIRS], float inverse, const T *norm, size_t i,
                                                 size_t n) {
    float weight[PAIRS];
    group_load(weight, norm, i, n, WIDE);
#pragma unroll
    for (int e = 0; e < PAIRS; e++) {
        x[e] = rounded<T>(rounded<T>(x[e] * inverse) * weight[e]);
    }
}

// `lanes`, a power of two, share a head. Their sum of squares has an order that depends on head_dim alone:
// left numbers, right numbers, then lanes by halving.
template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROTARY_THREADS)
    rotary_kernel(T *qkv, const T *q_norm, const T *k_norm, float epsilon, const float *cosine,
                  const float *sine, const int32_t *rope_row, struct device_heads heads, unsigned lanes) {
    size_t half = heads.head_dim / 2;
    size_t turned = heads.heads + heads.kv_heads;
    size_t i = (threadIdx.x & (lanes - 1)) * (size_t)PAIRS;
    size_t groups = blockDim.x / lanes;
    T *token = qkv + (size_t)blockIdx.x * (turned + heads.kv_heads) * heads.head_dim;
    size_t angles = (size_t)rope_row[blockIdx.x] * half;
    float c[PAIRS];
    float s[PAIRS];
    group_load(c, cosine + angles, i, half, WIDE);
    group_load(s, sine + angles, i, half, WIDE);
#pragma unroll
    for (int e = 0; e < PAIRS; e++) {
        c[e] = rounded<T>(c[e]);
        s[e] = rounded<T>(s[e]);
    }
    for (size_t first = 0; first < turned; first += groups) { // a warp's groups go through it together
        size_t h = first + threadIdx.x / lanes;
        bool there = h < turned && i < half;
        T *left = token + (there ? h : 0) * heads.head_dim;
        float a[PAIRS];
        float b[PAIRS];
        group_load(a, left, i, there ? half : 0, WIDE);
        group_load(b, left + half, i, there ? half : 0, WIDE);
        if (q_norm != NULL) {
            float square = 0;
#pragma unroll
            for (int e = 0; e < PAIRS; e++) {
                square = fmaf(a[e], a[e], square);
            }
#pragma unroll
            for (int e = 0; e < PAIRS; e++) {
                square = fmaf(b[e], b[e], square);
            }
            for (unsigned step = lanes / 2; step > 0; step /= 2) {
                square += __shfl_xor_sync(ALL_LANES, square, (int)step);
            }
            float inverse = 1.0f / sqrtf(square / (float)heads.head_dim + epsilon);
            const T *norm = h < heads.heads ? q_norm : k_norm;
            normalise<T, WIDE>(a, inverse, norm, i, half);
            normalise<T, WIDE>(b, inverse, norm + half, i, half);
        }
        if (there) {
            float a_turned[PAIRS];
            float b_turned[PAIRS];
#pragma unroll
            for (int e = 0; e < PAIRS; e++) {
                a_turned[e] = rounded<T>(a[e] * c[e]) - rounded<T>(b[e] * s[e]);
                b_turned[e] = rounded<T>(b[e] * c[e]) + rounded<T>(a[e] * s[e]);
            }
            group_store(left, i, half, a_turned, WIDE);
            group_store(left + half, i, half, b_turned, WIDE);
        }
    }
}

template <typename T>
static cudaError_t rotary(cudaStream_t stream, T *qkv, const T *q_norm, const T *k_norm, float epsilon,
                          const float *cosine, const float *sine, const int32_t *rope_row,
                          struct device_heads heads, size_t tokens) {
    size_t half = heads.head_dim / 2;
    bool wide = rows_wide<T, PAIRS>(qkv, half) && rows_wide<float, PAIRS>(cosine, half) &&
                rows_wide<float, PAIRS>(sine, half) && rows_wide<T, PAIRS>(q_norm, half) &&
                rows_wide<T, PAIRS>(k_norm, half);
    unsigned lanes = 1;
    while (lanes * PAIRS < half) {
        lanes *= 2;
    }
    auto kernel = wide ? rotary_kernel<T, true> : rotary_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROTARY_THREADS), 0, stream, qkv, q_norm, k_norm,
                  epsilon, cosine, sine, rope_row, heads, lanes);
}

// ---- every other kind: a warp a head ----

template <typename T> struct turning {
    T *qkv;
    norm_of<T> q_norm; // without a weight there is none
    norm_of<T> k_norm;
    const float *cosine;
    const float *sine;
    const float *query_scale; // NULL: none
    const int32_t *row;       // NULL: neither tables nor scales are there
    unsigned heads;
    unsigned kv_heads;
    unsigned head_dim;
    unsigned apart; // columns from one query head to the next
    unsigned key;   // the first key's column
    unsigned width; // of a row
    unsigned first;
    unsigned part;
    enum device_pairing pairing;
    enum device_rope_rounding rounding;
    bool rounds_scale;
};

// Number i of the normalised head, turned.
template <typename T>
static __device__ __forceinline__ float turn(const turning<T> &call, const float *head, const float *cosine,
                                             const float *sine, unsigned i) {
    unsigned at = i - call.first; // below `first` it is beyond `part`
    if (at >= call.part) {
        return head[i];
    }
    const bool halves = call.pairing == DEVICE_PAIR_HALVES;
    const unsigned half = call.part / 2;
    const unsigned pair = !halves ? at / 2 : at < half ? at : at - half;
    const bool left = halves ? at < half : at % 2 == 0;
    const unsigned away = halves ? half : 1;
    float other = head[left ? i + away : i - away];
    float along = head[i] * cosine[pair];
    float across = other * sine[pair];
    if (call.rounding == DEVICE_ROPE_ROUNDS_ALL) {
        along = rounded<T>(along);
        across = rounded<T>(across);
    }
    return left ? along - across : along + across;
}

// What the lanes of a warp have of a head, to `out` in shared memory, normalised. The sums' order depends on
// head_dim alone: a lane's numbers, then lanes by halving.
template <typename T, bool WIDE>
static __device__ __forceinline__ void read_head(float *out, const T *from, const norm_of<T> &norm,
                                                 unsigned head_dim) {
    const unsigned lane = threadIdx.x % WARP * PAIRS;
    float x[PAIRS];
    float mean = 0;
    float square = 0;
    if (norm.weight != NULL && norm_has_mean(norm.kind)) {
        for (unsigned i = lane; i < head_dim; i += WARP * PAIRS) {
            group_load(x, from, i, head_dim, WIDE);
#pragma unroll
            for (int e = 0; e < PAIRS; e++) {
                mean += x[e];
            }
        }
        mean = warp_sum(mean) / (float)head_dim;
    }
    if (norm.weight != NULL) {
        for (unsigned i = lane; i < head_dim; i += WARP * PAIRS) {
            group_load(x, from, i, head_dim, WIDE);
#pragma unroll
            for (unsigned e = 0; e < PAIRS; e++) {
                float off = i + e < head_dim ? x[e] - mean : 0.0f;
                square = fmaf(off, off, square);
            }
        }
        square = warp_sum(square);
    }
    const float inverse = norm_inverse(square, head_dim, norm.epsilon);
    for (unsigned i = lane; i < head_dim; i += WARP * PAIRS) {
        group_load(x, from, i, head_dim, WIDE);
        if (norm.weight != NULL) {
            norm_numbers(x, norm, mean, inverse, i, head_dim, WIDE);
        }
#pragma unroll
        for (unsigned e = 0; e < PAIRS; e++) {
            if (i + e < head_dim) {
                out[i + e] = rounded<T>(x[e]);
            }
        }
    }
}

template <typename T, bool WIDE>
static __device__ __forceinline__ void write_head(T *to, const turning<T> &call, const float *head,
                                                  const float *cosine, const float *sine, bool scaled,
                                                  float scale) {
    for (unsigned i = threadIdx.x % WARP * PAIRS; i < call.head_dim; i += WARP * PAIRS) {
        float y[PAIRS];
#pragma unroll
        for (unsigned e = 0; e < PAIRS; e++) {
            y[e] = i + e < call.head_dim ? turn(call, head, cosine, sine, i + e) : 0.0f;
            if (scaled) {
                y[e] = rounded<T>(y[e]) * scale;
            }
        }
        group_store(to, i, call.head_dim, y, WIDE);
    }
}

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROTARY_THREADS) turning_kernel(turning<T> call) {
    SHARED_BYTES(shared);
    const unsigned half = call.part / 2;
    const unsigned warp = threadIdx.x / WARP;
    float *cosine = (float *)shared; // [part / 2]
    float *sine = cosine + half;
    float *head = sine + half + warp * call.head_dim; // of the warp, [head_dim]
    const size_t row = call.row == NULL ? 0 : (size_t)call.row[blockIdx.x];
    for (unsigned i = threadIdx.x; i < half; i += ROTARY_THREADS) {
        float c = call.cosine[row * half + i];
        float s = call.sine[row * half + i];
        bool rounds = call.rounding != DEVICE_ROPE_ROUNDS_ONCE;
        cosine[i] = rounds ? rounded<T>(c) : c;
        sine[i] = rounds ? rounded<T>(s) : s;
    }
    float scale = call.query_scale != NULL ? call.query_scale[row] : 1.0f;
    scale = call.rounds_scale ? rounded<T>(scale) : scale;
    __syncthreads();
    T *token = call.qkv + (size_t)blockIdx.x * call.width;
    for (unsigned h = warp; h < call.heads + call.kv_heads; h += ROTARY_THREADS / WARP) {
        bool query = h < call.heads;
        T *place = token + (query ? h * call.apart : call.key + (h - call.heads) * call.head_dim);
        if (query) {
            read_head<T, WIDE>(head, place, call.q_norm, call.head_dim);
        } else {
            read_head<T, WIDE>(head, place, call.k_norm, call.head_dim);
        }
        __syncwarp();
        write_head<T, WIDE>(place, call, head, cosine, sine, query && call.query_scale != NULL, scale);
        __syncwarp(); // the next head comes to the same place
    }
}

template <typename T>
static cudaError_t turn_heads(cudaStream_t stream, T *qkv, const struct device_rope *rope,
                              struct device_heads heads, size_t tokens) {
    const turning<T> call = {qkv,
                             norm_for<T>(&rope->q_norm),
                             norm_for<T>(&rope->k_norm),
                             rope->cosine,
                             rope->sine,
                             rope->query_scale,
                             rope->part > 0 || rope->query_scale != NULL ? rope->row : NULL,
                             (unsigned)heads.heads,
                             (unsigned)heads.kv_heads,
                             (unsigned)heads.head_dim,
                             (unsigned)device_heads_apart(heads),
                             (unsigned)device_heads_key(heads),
                             (unsigned)device_heads_width(heads),
                             (unsigned)rope->first,
                             (unsigned)rope->part,
                             rope->pairing,
                             rope->rounding,
                             !rope->wide_query_scale};
    bool wide = rows_wide<T, PAIRS>(qkv, heads.head_dim) && heads.gap % PAIRS == 0;
    for (const norm_of<T> *norm : {&call.q_norm, &call.k_norm}) {
        wide = wide && rows_wide<T, PAIRS>(norm->weight, heads.head_dim) &&
               rows_wide<T, PAIRS>(norm->bias, heads.head_dim);
    }
    size_t numbers = rope->part + ROTARY_THREADS / WARP * heads.head_dim;
    auto kernel = wide ? turning_kernel<T, true> : turning_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROTARY_THREADS), numbers * sizeof(float), stream,
                  call);
}

// ---- launch ----

// Whether it is what the first kernel does.
static bool is_plain(const struct device_rope *rope, struct device_heads heads) {
    const struct device_norm *q = &rope->q_norm;
    const struct device_norm *k = &rope->k_norm;
    bool norms = q->weight == NULL ||
                 (q->kind == DEVICE_NORM_RMS && k->kind == DEVICE_NORM_RMS && q->epsilon == k->epsilon);
    return norms && rope->first == 0 && rope->part == heads.head_dim && rope->part <= HEAD_DIM_MOST &&
           rope->pairing == DEVICE_PAIR_HALVES && rope->rounding == DEVICE_ROPE_ROUNDS_ALL &&
           rope->query_scale == NULL && heads.gap == 0;
}

extern "C" cudaError_t launch_qk_norm_rope(cudaStream_t stream, enum dtype dtype, void *qkv,
                                           const struct device_rope *rope, struct device_heads heads,
                                           size_t tokens) {
    if (tokens > INT32_MAX || heads.head_dim > TURNED_HEAD_MOST || heads.head_dim % 2 != 0 ||
        device_heads_width(heads) > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return is_plain(rope, heads)
                   ? rotary(stream, (T *)qkv, (const T *)rope->q_norm.weight, (const T *)rope->k_norm.weight,
                            rope->q_norm.epsilon, rope->cosine, rope->sine, rope->row, heads, tokens)
                   : turn_heads(stream, (T *)qkv, rope, heads, tokens);
    });
}
