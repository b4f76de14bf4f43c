// SPDX-License-Identifier: MIT
// Weights that are kept in a format of their own into numbers of the computation dtype (weight_decode.h): a
// thread has 8 numbers of a row, which it stores together; the grid's second dimension are copies.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"
#include "kernels/weight_decode.h"

enum { EXPAND_THREADS = 128 };
static_assert((int)DECODE_RUN == (int)CHUNK, "a run is one group");

template <typename OUT, int KIND>
static __global__ void __launch_bounds__(EXPAND_THREADS)
    expand_kernel(OUT *out, struct weight_view view, struct expansion expansion, bool wide) {
    size_t runs = (view.columns + DECODE_RUN - 1) / DECODE_RUN;
    size_t i = blockIdx.x * (size_t)EXPAND_THREADS + threadIdx.x;
    size_t copy = blockIdx.y;
    size_t out_row = i / runs;
    if (out_row >= expansion.rows ||
        (expansion.starts != NULL && expansion.starts[copy] == expansion.starts[copy + 1])) {
        return;
    }
    size_t row = expansion.first + copy * expansion.rows_apart + out_row;
#pragma unroll
    for (int part = 0; part < WEIGHT_PARTS; part++) {
        view.parts[part] += copy * expansion.bytes_apart;
    }
    size_t column = i % runs * DECODE_RUN;
    size_t left = view.columns - column;
    float numbers[DECODE_RUN] = {0};
    if (left >= DECODE_RUN) {
        decode_run(numbers, DECODE_RUN, &view, row, column, (enum weight_kind)KIND);
    } else if (KIND <= WEIGHT_LOOKUP) { // a row of blocks ends with one: no number is alone
#pragma unroll
        for (size_t k = 0; k < DECODE_RUN; k++) { // with constant counts the numbers stay in registers
            if (k < left) {
                decode_run(numbers + k, 1, &view, row, column + k, (enum weight_kind)KIND);
            }
        }
    }
    OUT *to = out + copy * expansion.out_apart + out_row * view.columns;
    group_store(to, column, view.columns, numbers, wide && left >= CHUNK);
}

template <typename OUT, int KIND>
static cudaError_t expand(cudaStream_t stream, OUT *out, const struct weight_view *view,
                          const struct expansion *expansion) {
    size_t runs = (view->columns + DECODE_RUN - 1) / DECODE_RUN;
    size_t blocks = (expansion->rows * runs + EXPAND_THREADS - 1) / EXPAND_THREADS;
    if (blocks > INT32_MAX || expansion->copies > UINT16_MAX) {
        return cudaErrorInvalidValue;
    }
    auto kernel = expand_kernel<OUT, KIND>;
    return LAUNCH(kernel, dim3((unsigned)blocks, (unsigned)expansion->copies), dim3(EXPAND_THREADS), 0,
                  stream, out, *view, *expansion, rows_wide<OUT, CHUNK>(out, view->columns));
}

#define EXPAND(kind)                                                                                         \
    case kind:                                                                                               \
        return expand<OUT, kind>(stream, out, view, expansion);

template <typename OUT>
static cudaError_t expand_any(cudaStream_t stream, OUT *out, const struct weight_view *view,
                              const struct expansion *expansion) {
    switch (view->format.kind) { WEIGHT_KINDS(EXPAND) }
    return cudaErrorInvalidValue;
}

extern "C" cudaError_t launch_expand(cudaStream_t stream, void *out, enum dtype dtype,
                                     const struct weight_view *view, const struct expansion *expansion) {
    return with_number(
        dtype, [&](auto number) { return expand_any(stream, (decltype(number) *)out, view, expansion); });
}
