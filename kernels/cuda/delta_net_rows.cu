// SPDX-License-Identifier: MIT
// What a gated delta net does with a token's row before and after the scan (delta_net_scan.cu): convolution,
// norms of queries and keys, gates; the gated norm of what comes out. They are bound by memory.
//
// A warp has a head's columns, 4 or 8 side by side a lane, so that sums over a head need no barrier. In the
// convolution it goes through a run of tokens: the rows before a token are still in the L1, and the taps stay
// in registers. Computed for 8,192 tokens of Qwen3.5's 16 key and 32 value heads of 128: 134 MB of halves
// read, 134 MB of float32 queries and keys and 67 MB of values written.
#include "kernels/cuda/causal.h"
#include "kernels/cuda/delta_net.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/ptx.h"

enum {
    WARPS = 4,
    THREADS = WARPS * WARP,
    RUN = 8, // tokens that a warp goes through
    GATE_THREADS = 256,
    GRID_MOST = 65535,
};

// ---- convolution ----

// A head's numbers divided by their length, times scale.
template <int N> static __device__ __forceinline__ void normalise(float (&x)[N], float scale) {
    float square = 0;
#pragma unroll
    for (int e = 0; e < N; e++) {
        square = fmaf(x[e], x[e], square);
    }
    const float inverse = 1.0f / sqrtf(warp_sum(square) + 1e-6f);
#pragma unroll
    for (int e = 0; e < N; e++) {
        x[e] = x[e] * inverse * scale;
    }
}

// A warp a head, of queries, of keys, then of values.
template <typename T, int N, bool FAST, typename BEGINNING>
static __global__ void __launch_bounds__(THREADS)
    delta_convolution_kernel(T *values, struct delta_net_scratch scratch, rows_from<T> rows,
                             struct delta_net_sizes net, BEGINNING tail) {
    const unsigned head = blockIdx.y * WARPS + threadIdx.x / WARP;
    if (head >= 2 * net.key_heads + net.value_heads) {
        return;
    }
    const bool of_value = head >= 2 * net.key_heads;
    const size_t width = of_value ? net.value_dim : net.key_dim;
    const size_t first = of_value ? (size_t)2 * net.key_heads * net.key_dim +
                                        (size_t)(head - 2 * net.key_heads) * net.value_dim
                                  : (size_t)head * net.key_dim;
    const size_t i = threadIdx.x % WARP * (size_t)N;
    float held[TAPS][N] = {};
    if (FAST) {
        hold_weights(held, rows, first, i, width);
    }
    const float scale = head < net.key_heads ? 1.0f / sqrtf((float)net.key_dim) : 1.0f;
    int32_t token = (int32_t)(blockIdx.x * RUN);
    const int32_t end = min(token + RUN, (int32_t)rows.tokens);
    unsigned text = text_of(rows.starts, rows.texts, token);
    for (; token < end; token++) {
        while (rows.starts[text + 1] <= token) { // texts may be empty
            text++;
        }
        float x[N];
        convolve<T, N, FAST, false>(x, rows, held, {}, first, i, width, tail_of<T>(tail, text),
                                    rows.starts[text], token);
        if (of_value) {
            group_store(values + (size_t)token * net.out + (size_t)(head - 2 * net.key_heads) * net.value_dim,
                        i, width, x, true);
        } else {
            normalise(x, scale);
            const unsigned of_kind = head % net.key_heads;
            group_store((head < net.key_heads ? scratch.queries : scratch.keys) +
                            ((size_t)token * net.key_heads + of_kind) * net.key_dim,
                        i, width, x, true);
        }
    }
}

template <typename T, int N>
static cudaError_t convolution(cudaStream_t stream, T *values, const struct delta_net_scratch &scratch,
                               const rows_from<T> &rows, const struct delta_net_sizes &net,
                               const struct text_beginning &tail) {
    const size_t heads = 2 * (size_t)net.key_heads + net.value_heads;
    const bool fast = net.taps == TAPS && net.width % N == 0 && rows_wide<T, N>(rows.in, net.mixed) &&
                      rows_wide<T, N>((const T *)tail.from, net.mixed);
    const dim3 grid((unsigned)((rows.tokens + RUN - 1) / RUN), (unsigned)((heads + WARPS - 1) / WARPS));
    return with_beginning(tail, [&](auto beginning) {
        typedef decltype(beginning) BEGINNING;
        auto kernel = fast ? delta_convolution_kernel<T, N, true, BEGINNING>
                           : delta_convolution_kernel<T, N, false, BEGINNING>;
        return LAUNCH(kernel, grid, dim3(THREADS), 0, stream, values, scratch, rows, net, beginning);
    });
}

// ---- gates ----

template <typename T>
static __global__ void __launch_bounds__(GATE_THREADS)
    delta_gates_kernel(float *gates, const T *in, const T *decay, const T *step_bias, size_t count,
                       struct delta_net_sizes net) {
    const size_t number = blockIdx.x * (size_t)GATE_THREADS + threadIdx.x;
    if (number >= count) {
        return;
    }
    const size_t head = number % net.value_heads;
    const T *b = in + number / net.value_heads * net.width + net.mixed + net.out;
    const T *a = b + net.value_heads;
    const float step = softplus(number_value(a[head]) + number_value(step_bias[head]));
    const float of_state = expf(-expf(number_value(decay[head])) * step);
    const float beta = rounded<T>(sigmoid(number_value(b[head]), T()));
    group_write(gates + number * DELTA_NET_GATES, {of_state, beta, 0.0f, 0.0f});
}

// ---- the gated norm ----

// In place: a warp a value head of a token.
template <typename T, int N, bool WIDE>
static __global__ void __launch_bounds__(THREADS)
    delta_norm_kernel(T *out, const T *in, const T *norm, float epsilon, size_t count,
                      struct delta_net_sizes net) {
    const size_t number = blockIdx.x * (size_t)WARPS + threadIdx.x / WARP;
    if (number >= count) {
        return;
    }
    const size_t width = net.value_dim;
    const size_t i = threadIdx.x % WARP * (size_t)N;
    const T *z = in + number / net.value_heads * net.width + net.mixed + number % net.value_heads * width;
    T *row = out + number * width;
    float x[N];
    float gate[N];
    float weight[N];
    group_load(x, row, i, width, true);
    group_load(gate, z, i, width, WIDE);
    group_load(weight, norm, i, width, WIDE);
    float square = 0;
#pragma unroll
    for (int e = 0; e < N; e++) {
        square = fmaf(x[e], x[e], square);
    }
    const float inverse = norm_inverse(warp_sum(square), width, epsilon);
#pragma unroll
    for (int e = 0; e < N; e++) {
        x[e] = rounded<T>(weight[e] * rounded<T>(x[e] * inverse)) * silu(gate[e], T());
    }
    group_store(row, i, width, x, true);
}

template <typename T, int N>
static cudaError_t gated_norm(cudaStream_t stream, T *out, const T *in, const T *norm, float epsilon,
                              size_t tokens, const struct delta_net_sizes &net) {
    const size_t count = tokens * net.value_heads;
    const bool wide =
        net.width % N == 0 && rows_wide<T, N>(in, net.mixed) && rows_wide<T, N>(norm, net.value_dim);
    auto kernel = wide ? delta_norm_kernel<T, N, true> : delta_norm_kernel<T, N, false>;
    return LAUNCH(kernel, dim3((unsigned)((count + WARPS - 1) / WARPS)), dim3(THREADS), 0, stream, out, in,
                  norm, epsilon, count, net);
}

// ---- launchers: a grid has at most 2^31 - 1 blocks across and 65,535 down ----

enum { SMALL = 4, LARGE = 8, SMALL_MOST = SMALL * WARP }; // numbers of a head a lane, and so of a head
static_assert(LARGE * WARP >= DELTA_NET_MOST, "a warp has a head");

extern "C" cudaError_t launch_delta_net_rows(cudaStream_t stream, enum dtype dtype, void *out, void *scratch,
                                             const void *in, const struct device_delta_net *net,
                                             const struct device_texts *texts, struct text_beginning tail) {
    const struct delta_net_sizes sizes = delta_net_sizes_of(net);
    const size_t tokens = (size_t)texts->host_starts[texts->count];
    const size_t gates = tokens * net->value_heads;
    const struct delta_net_scratch to = delta_net_scratch_at(scratch, net, tokens);
    if (tokens > INT32_MAX || gates > INT32_MAX || texts->count > INT32_MAX ||
        2 * net->key_heads + net->value_heads > (size_t)GRID_MOST * WARPS) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        const rows_from<T> rows = {(const T *)in, sizes.width, sizes.mixed,   (const T *)net->convolution,
                                   NULL,          sizes.taps,  texts->starts, (unsigned)texts->count,
                                   tokens};
        cudaError_t launched = net->key_dim <= SMALL_MOST && net->value_dim <= SMALL_MOST
                                   ? convolution<T, SMALL>(stream, (T *)out, to, rows, sizes, tail)
                                   : convolution<T, LARGE>(stream, (T *)out, to, rows, sizes, tail);
        return launched != cudaSuccess
                   ? launched
                   : LAUNCH(delta_gates_kernel<T>,
                            dim3((unsigned)((gates + GATE_THREADS - 1) / GATE_THREADS)), dim3(GATE_THREADS),
                            0, stream, to.gates, (const T *)in, (const T *)net->decay,
                            (const T *)net->step_bias, gates, sizes);
    });
}

extern "C" cudaError_t launch_delta_net_norm(cudaStream_t stream, enum dtype dtype, void *out, const void *in,
                                             const struct device_delta_net *net, size_t tokens) {
    const struct delta_net_sizes sizes = delta_net_sizes_of(net);
    if (tokens * net->value_heads > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        const T *norm = (const T *)net->norm;
        return net->value_dim <= SMALL_MOST
                   ? gated_norm<T, SMALL>(stream, (T *)out, (const T *)in, norm, net->epsilon, tokens, sizes)
                   : gated_norm<T, LARGE>(stream, (T *)out, (const T *)in, norm, net->epsilon, tokens, sizes);
    });
}
