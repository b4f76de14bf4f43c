// SPDX-License-Identifier: MIT
// Activations of inner rows, gated or not, and the gates of a row: a block a row. They are bound by memory:
// rows are read and written 16 bytes a thread where their width allows.
#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum { ROW_THREADS = 256 };

// ---- SwiGLU ----

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS)
    swiglu_kernel(T *out, const T *gate_up, size_t intermediate) {
    const T *gates = gate_up + 2 * (size_t)blockIdx.x * intermediate;
    T *to = out + (size_t)blockIdx.x * intermediate;
    for (size_t i = threadIdx.x * (size_t)CHUNK; i < intermediate; i += ROW_THREADS * (size_t)CHUNK) {
        float gate[CHUNK];
        float y[CHUNK];
        group_load(gate, gates, i, intermediate, WIDE);
        group_load(y, gates + intermediate, i, intermediate, WIDE);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            y[e] *= rounded<T>(silu(gate[e], T()));
        }
        group_store(to, i, intermediate, y, WIDE);
    }
}

template <typename T>
static cudaError_t swiglu(cudaStream_t stream, T *out, const T *gate_up, size_t tokens, size_t intermediate) {
    bool wide = rows_wide<T, CHUNK>(out, intermediate) && rows_wide<T, CHUNK>(gate_up, intermediate);
    auto kernel = wide ? swiglu_kernel<T, true> : swiglu_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, out, gate_up, intermediate);
}

// ---- other activations, and those without a gate ----

template <typename T> struct activate_rows {
    T *out; // [tokens, width]
    const T *in;
    const T *up; // NULL: none
    size_t in_stride;
    size_t up_stride;
    enum device_activation activation;
};

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS)
    activate_kernel(struct activate_rows<T> rows, size_t width) {
    const T *from = rows.in + blockIdx.x * rows.in_stride;
    const T *ups = rows.up + blockIdx.x * rows.up_stride;
    T *to = rows.out + (size_t)blockIdx.x * width;
    for (size_t i = threadIdx.x * (size_t)CHUNK; i < width; i += ROW_THREADS * (size_t)CHUNK) {
        float x[CHUNK];
        group_load(x, from, i, width, WIDE);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            x[e] = activated<T>(x[e], rows.activation);
        }
        if (rows.up != NULL) {
            float up[CHUNK];
            group_load(up, ups, i, width, WIDE);
#pragma unroll
            for (int e = 0; e < CHUNK; e++) {
                x[e] = up[e] * rounded<T>(x[e]);
            }
        }
        group_store(to, i, width, x, WIDE);
    }
}

template <typename T>
static cudaError_t activate(cudaStream_t stream, struct activate_rows<T> rows, size_t tokens, size_t width) {
    bool wide = rows_wide<T, CHUNK>(rows.out, width) && rows_wide<T, CHUNK>(rows.in, width) &&
                rows.in_stride % CHUNK == 0 &&
                (rows.up == NULL || (rows_wide<T, CHUNK>(rows.up, width) && rows.up_stride % CHUNK == 0));
    auto kernel = wide ? activate_kernel<T, true> : activate_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, rows, width);
}

// ---- xIELU, and a limit ----

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS)
    xielu_kernel(T *out, const T *in, const T *numbers, size_t width) {
    const T *from = in + (size_t)blockIdx.x * width;
    T *to = out + (size_t)blockIdx.x * width;
    const float beta = number_value(numbers[2]);
    const struct xielu_numbers of = {rounded<T>(softplus(number_value(numbers[0]))),
                                     rounded<T>(beta + rounded<T>(softplus(number_value(numbers[1])))), beta,
                                     number_value(numbers[3])};
    for (size_t i = threadIdx.x * (size_t)CHUNK; i < width; i += ROW_THREADS * (size_t)CHUNK) {
        float x[CHUNK];
        group_load(x, from, i, width, WIDE);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            x[e] = xielu<T>(x[e], of);
        }
        group_store(to, i, width, x, WIDE);
    }
}

template <typename T>
static cudaError_t xielu_rows(cudaStream_t stream, T *out, const T *in, const T *numbers, size_t tokens,
                              size_t width) {
    bool wide = rows_wide<T, CHUNK>(out, width) && rows_wide<T, CHUNK>(in, width);
    auto kernel = wide ? xielu_kernel<T, true> : xielu_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, out, in, numbers, width);
}

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS) clamp_kernel(T *x, float limit, size_t width) {
    T *row = x + (size_t)blockIdx.x * width;
    for (size_t i = threadIdx.x * (size_t)CHUNK; i < width; i += ROW_THREADS * (size_t)CHUNK) {
        float y[CHUNK];
        group_load(y, row, i, width, WIDE);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) { // NaN stays
            y[e] = y[e] > limit ? limit : y[e] < -limit ? -limit : y[e];
        }
        group_store(row, i, width, y, WIDE);
    }
}

template <typename T>
static cudaError_t clamp_rows(cudaStream_t stream, T *x, float limit, size_t tokens, size_t width) {
    auto kernel = rows_wide<T, CHUNK>(x, width) ? clamp_kernel<T, true> : clamp_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, x, limit, width);
}

// ---- gates ----

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS)
    gate_kernel(T *x, const T *in, struct device_gates gates) {
    const T *from = in + (size_t)blockIdx.x * gates.stride;
    T *row = x + (size_t)blockIdx.x * gates.groups * gates.width;
    const unsigned chunks = (unsigned)((gates.width + CHUNK - 1) / CHUNK); // of a group
    for (unsigned c = threadIdx.x; c < gates.groups * chunks; c += ROW_THREADS) {
        const size_t group = c / chunks;
        const size_t i = c % chunks * (size_t)CHUNK;
        float open[CHUNK];
        float y[CHUNK];
        group_load(open, from + group * gates.apart, i, gates.width, WIDE);
        group_load(y, row + group * gates.width, i, gates.width, WIDE);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            y[e] *= rounded<T>(sigmoid(open[e], T()));
        }
        group_store(row + group * gates.width, i, gates.width, y, WIDE);
    }
}

template <typename T>
static cudaError_t gate_rows(cudaStream_t stream, T *x, const T *in, const struct device_gates *gates,
                             size_t tokens) {
    bool wide = rows_wide<T, CHUNK>(x, gates->width) && rows_wide<T, CHUNK>(in, gates->width) &&
                gates->stride % CHUNK == 0 && gates->apart % CHUNK == 0;
    auto kernel = wide ? gate_kernel<T, true> : gate_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), 0, stream, x, in, *gates);
}

// ---- one gate for all of a row ----

// The product is the sum of what each thread adds up of its chunks, in their order; WIDE is of x.
template <typename T, bool WIDE>
static __global__ void __launch_bounds__(ROW_THREADS)
    gate_rows_kernel(T *x, const T *in, const T *weight, size_t width, size_t hidden, bool wide) {
    SHARED_BYTES(shared);
    const T *from = in + (size_t)blockIdx.x * hidden;
    T *row = x + (size_t)blockIdx.x * width;
    float product = 0;
    for (size_t i = threadIdx.x * (size_t)CHUNK; i < hidden; i += ROW_THREADS * (size_t)CHUNK) {
        float a[CHUNK];
        float w[CHUNK];
        group_load(a, from, i, hidden, wide);
        group_load(w, weight, i, hidden, wide);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            product = fmaf(a[e], w[e], product);
        }
    }
    product = rounded<T>(block_sum(product, (float *)shared));
    const float open = rounded<T>(sigmoid(product, T()));
    for (size_t i = threadIdx.x * (size_t)CHUNK; i < width; i += ROW_THREADS * (size_t)CHUNK) {
        float y[CHUNK];
        group_load(y, row, i, width, WIDE);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            y[e] *= open;
        }
        group_store(row, i, width, y, WIDE);
    }
}

template <typename T>
static cudaError_t gate_whole_rows(cudaStream_t stream, T *x, const T *in, const T *weight, size_t tokens,
                                   size_t width, size_t hidden) {
    bool wide = rows_wide<T, CHUNK>(in, hidden) && rows_wide<T, CHUNK>(weight, hidden);
    auto kernel = rows_wide<T, CHUNK>(x, width) ? gate_rows_kernel<T, true> : gate_rows_kernel<T, false>;
    return LAUNCH(kernel, dim3((unsigned)tokens), dim3(ROW_THREADS), WARP * sizeof(float), stream, x, in,
                  weight, width, hidden, wide);
}

// ---- launchers: a grid has at most 2^31 - 1 blocks ----

extern "C" cudaError_t launch_activate(cudaStream_t stream, enum dtype dtype, void *out, const void *in,
                                       enum device_activation activation, bool gated, size_t tokens,
                                       size_t width) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return activation == DEVICE_SILU && gated
                   ? swiglu(stream, (T *)out, (const T *)in, tokens, width)
                   : activate<T>(stream,
                                 {(T *)out, (const T *)in, gated ? (const T *)in + width : NULL,
                                  gated ? 2 * width : width, 2 * width, activation},
                                 tokens, width);
    });
}

extern "C" cudaError_t launch_activate_by(cudaStream_t stream, enum dtype dtype, void *out, const void *in,
                                          const void *factor, size_t factor_stride,
                                          enum device_activation activation, size_t tokens, size_t width) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return activate<T>(stream,
                           {(T *)out, (const T *)in, (const T *)factor, width, factor_stride, activation},
                           tokens, width);
    });
}

extern "C" cudaError_t launch_xielu(cudaStream_t stream, enum dtype dtype, void *out, const void *in,
                                    const void *numbers, size_t tokens, size_t width) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return xielu_rows(stream, (T *)out, (const T *)in, (const T *)numbers, tokens, width);
    });
}

extern "C" cudaError_t launch_clamp(cudaStream_t stream, enum dtype dtype, void *x, float limit,
                                    size_t tokens, size_t width) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return clamp_rows(stream, (T *)x, limit, tokens, width);
    });
}

extern "C" cudaError_t launch_gate(cudaStream_t stream, enum dtype dtype, void *x, const void *in,
                                   const struct device_gates *gates, size_t tokens) {
    if (tokens > INT32_MAX || gates->groups * gates->width > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return gate_rows(stream, (T *)x, (const T *)in, gates, tokens);
    });
}

extern "C" cudaError_t launch_gate_rows(cudaStream_t stream, enum dtype dtype, void *x, const void *in,
                                        const void *weight, size_t tokens, size_t width, size_t hidden) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return gate_whole_rows(stream, (T *)x, (const T *)in, (const T *)weight, tokens, width, hidden);
    });
}
