// SPDX-License-Identifier: MIT
// What a state space does with a token's row before and after the scan (state_space_scan.cu): convolution and
// gates; the gated norm of what comes out. They are bound by memory.
//
// In the convolution a thread has four columns of a head or of a group, and goes through a run of tokens: the
// rows before a token are still in the L1, and four taps stay in registers.
#include "base/size.h"
#include "kernels/cuda/causal.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/state_space.h"

enum {
    QUAD = SPACE_QUAD,
    THREADS = 128,
    RUN = 8, // tokens that a thread goes through
    GATE_THREADS = 256,
    NORM_THREADS = 256, // at most, as many as a group has quads
    GRID_MOST = 65535,
};

// ---- convolution ----

struct columns_of { // of a thread
    size_t first;   // of the convolution's, those of its head or group
    size_t width;   // of these
    size_t i;       // the thread's first among them
    float *to;      // of token 0
    size_t stride;  // from token to token
};

// quad: of a row of x, B and C, each padded to whole quads.
static __device__ __forceinline__ columns_of columns_at(size_t quad, const state_space_scratch &scratch,
                                                        const state_space_sizes &space) {
    const size_t of_head = space.padded_dim / QUAD;
    const size_t of_group = space.padded_state / QUAD;
    columns_of at;
    if (quad < space.heads * of_head) {
        at.first = quad / of_head * space.head_dim;
        at.width = space.head_dim;
        at.i = quad % of_head * QUAD;
        at.to = scratch.x + quad * QUAD;
        at.stride = (size_t)space.heads * space.padded_dim;
        return at;
    }
    quad -= space.heads * of_head;
    const size_t part = quad / of_group; // B of all groups, then C
    at.first = space.out + part * space.state;
    at.width = space.state;
    at.i = quad % of_group * QUAD;
    at.to = scratch.keys + (part % space.groups * 2 + part / space.groups) * space.padded_state + at.i;
    at.stride = (size_t)space.groups * 2 * space.padded_state;
    return at;
}

template <typename T, bool FAST, typename BEGINNING>
static __global__ void __launch_bounds__(THREADS)
    space_convolution_kernel(state_space_scratch scratch, rows_from<T> rows, size_t quads,
                             state_space_sizes space, BEGINNING tail) {
    const size_t quad = blockIdx.y * (size_t)THREADS + threadIdx.x;
    if (quad >= quads) {
        return;
    }
    const columns_of at = columns_at(quad, scratch, space);
    float held[TAPS][QUAD] = {};
    float bias[QUAD] = {};
    if (FAST) {
        hold_weights(held, rows, at.first, at.i, at.width);
    }
    if (rows.bias != NULL) {
        group_load(bias, rows.bias + at.first, at.i, at.width, false);
    }
    int32_t token = (int32_t)(blockIdx.x * RUN);
    const int32_t end = min(token + RUN, (int32_t)rows.tokens);
    unsigned text = text_of(rows.starts, rows.texts, token);
    for (; token < end; token++) {
        while (rows.starts[text + 1] <= token) { // texts may be empty
            text++;
        }
        float x[QUAD];
        convolve<T, QUAD, FAST, true>(x, rows, held, bias, at.first, at.i, at.width, tail_of<T>(tail, text),
                                      rows.starts[text], token);
        group_write(at.to + (size_t)token * at.stride, x);
    }
}

template <typename T>
static cudaError_t convolution(cudaStream_t stream, const state_space_scratch &scratch,
                               const rows_from<T> &rows, const state_space_sizes &space,
                               const text_beginning &tail) {
    const size_t quads =
        ((size_t)space.heads * space.padded_dim + (size_t)space.groups * 2 * space.padded_state) / QUAD;
    const size_t down = (quads + THREADS - 1) / THREADS;
    const bool fast = rows.taps == TAPS && space.head_dim % QUAD == 0 && space.state % QUAD == 0 &&
                      space.width % QUAD == 0 && rows_wide<T, QUAD>(rows.in, space.mixed) &&
                      rows_wide<T, QUAD>((const T *)tail.from, space.mixed);
    if (down > GRID_MOST) {
        return cudaErrorInvalidValue;
    }
    const dim3 grid((unsigned)((rows.tokens + RUN - 1) / RUN), (unsigned)down);
    return with_beginning(tail, [&](auto beginning) {
        typedef decltype(beginning) BEGINNING;
        auto kernel = fast ? space_convolution_kernel<T, true, BEGINNING>
                           : space_convolution_kernel<T, false, BEGINNING>;
        return LAUNCH(kernel, grid, dim3(THREADS), 0, stream, scratch, rows, quads, space, beginning);
    });
}

// ---- gates ----

template <typename T> struct gates_from {
    const T *dt; // of token 0
    const T *decay;
    const T *step_bias;
    const T *skip;
    float least;
    float most;
};

template <typename T>
static __global__ void __launch_bounds__(GATE_THREADS)
    space_gates_kernel(float *gates, gates_from<T> from, size_t count, state_space_sizes space) {
    const size_t number = blockIdx.x * (size_t)GATE_THREADS + threadIdx.x;
    if (number >= count) {
        return;
    }
    const size_t head = number % space.heads;
    const float least = rounded<T>(from.least);
    const float most = rounded<T>(from.most);
    const float dt = number_value(from.dt[number / space.heads * space.width + head]);
    float step = rounded<T>(softplus(rounded<T>(dt + number_value(from.step_bias[head]))));
    step = step < least ? least : step; // NaN stays
    step = step > most ? most : step;
    const float of_state = expf(-expf(number_value(from.decay[head])) * step);
    group_write(gates + number * SPACE_GATES, {of_state, step, number_value(from.skip[head]), 0.0f});
}

// ---- the gated norm ----

template <typename T> struct norm_from {
    const float *y; // of token 0
    const T *z;
    const T *weight;
    float epsilon;
    unsigned groups;
    size_t width; // of a group
};

// Columns [i, i + QUAD) of a group of a token, gated. WIDE: heads are not padded.
template <typename T, bool WIDE>
static __device__ __forceinline__ void gated(float (&y)[QUAD], const float *row, const T *z, size_t first,
                                             size_t i, size_t width, const state_space_sizes &space) {
    float gate[QUAD];
    group_load(gate, z, i, width, WIDE);
    if (WIDE) {
        group_load(y, row + first, i, width, true);
    } else {
#pragma unroll
        for (int e = 0; e < QUAD; e++) {
            const size_t column = first + i + (size_t)e;
            const size_t at = column / space.head_dim * space.padded_dim + column % space.head_dim;
            y[e] = i + (size_t)e < width ? row[at] : 0.0f;
        }
    }
#pragma unroll
    for (int e = 0; e < QUAD; e++) {
        y[e] *= silu(gate[e], T());
    }
}

// A block a group of a token.
template <typename T, bool WIDE>
static __global__ void __launch_bounds__(NORM_THREADS)
    space_norm_kernel(T *out, norm_from<T> from, state_space_sizes space) {
    SHARED_BYTES(shared);
    const size_t token = blockIdx.x / from.groups;
    const size_t first = blockIdx.x % from.groups * from.width;
    const float *row = from.y + token * space.heads * space.padded_dim;
    const T *z = from.z + token * space.width + first;
    float square = 0;
    for (size_t i = threadIdx.x * (size_t)QUAD; i < from.width; i += (size_t)blockDim.x * QUAD) {
        float y[QUAD];
        gated<T, WIDE>(y, row, z, first, i, from.width, space);
#pragma unroll
        for (int e = 0; e < QUAD; e++) {
            square = fmaf(y[e], y[e], square);
        }
    }
    const float inverse = norm_inverse(block_sum(square, (float *)shared), from.width, from.epsilon);
    for (size_t i = threadIdx.x * (size_t)QUAD; i < from.width; i += (size_t)blockDim.x * QUAD) {
        float y[QUAD];
        float weight[QUAD];
        gated<T, WIDE>(y, row, z, first, i, from.width, space);
        group_load(weight, from.weight + first, i, from.width, WIDE);
#pragma unroll
        for (int e = 0; e < QUAD; e++) {
            y[e] = y[e] * inverse * weight[e];
        }
        group_store(out + token * space.out + first, i, from.width, y, WIDE);
    }
}

// ---- launchers: a grid has at most 2^31 - 1 blocks across and 65,535 down ----

extern "C" cudaError_t launch_state_space_rows(cudaStream_t stream, enum dtype dtype, void *scratch,
                                               const void *in, const struct device_state_space *space,
                                               const struct device_texts *texts, struct text_beginning tail) {
    const struct state_space_sizes sizes = state_space_sizes_of(space);
    const size_t tokens = (size_t)texts->host_starts[texts->count];
    const size_t gates = tokens * space->heads;
    const struct state_space_scratch to = state_space_scratch_at(scratch, space, tokens);
    if (tokens > INT32_MAX || gates > INT32_MAX || texts->count > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        const T *row = (const T *)in;
        const rows_from<T> rows = {row + sizes.out,
                                   sizes.width,
                                   sizes.mixed,
                                   (const T *)space->convolution,
                                   (const T *)space->bias,
                                   (unsigned)space->taps,
                                   texts->starts,
                                   (unsigned)texts->count,
                                   tokens};
        const gates_from<T> from = {
            row + sizes.out + sizes.mixed, (const T *)space->decay, (const T *)space->step_bias,
            (const T *)space->skip,        space->step_least,       space->step_most};
        cudaError_t launched = convolution(stream, to, rows, sizes, tail);
        return launched != cudaSuccess ? launched
                                       : LAUNCH(space_gates_kernel<T>,
                                                dim3((unsigned)((gates + GATE_THREADS - 1) / GATE_THREADS)),
                                                dim3(GATE_THREADS), 0, stream, to.gates, from, gates, sizes);
    });
}

extern "C" cudaError_t launch_state_space_norm(cudaStream_t stream, enum dtype dtype, void *out,
                                               void *scratch, const void *in,
                                               const struct device_state_space *space, size_t tokens) {
    const struct state_space_sizes sizes = state_space_sizes_of(space);
    const size_t width = sizes.out / space->norm_groups;
    const size_t blocks = tokens * space->norm_groups;
    const struct state_space_scratch at = state_space_scratch_at(scratch, space, tokens);
    if (blocks > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        const norm_from<T> from = {
            at.y, (const T *)in, (const T *)space->norm, space->epsilon, (unsigned)space->norm_groups, width};
        const bool wide = sizes.head_dim % QUAD == 0 && sizes.width % QUAD == 0 &&
                          rows_wide<T, QUAD>(from.z, width) && rows_wide<T, QUAD>(from.weight, width) &&
                          rows_wide<T, QUAD>((const T *)out, width);
        const size_t threads = size_min((width + QUAD * WARP - 1) / (QUAD * WARP) * WARP, NORM_THREADS);
        auto kernel = wide ? space_norm_kernel<T, true> : space_norm_kernel<T, false>;
        return LAUNCH(kernel, dim3((unsigned)blocks), dim3((unsigned)threads), WARP * sizeof(float), stream,
                      (T *)out, from, sizes);
    });
}
