// Weights that are kept in a format of their own into numbers of the computation dtype (weight_decode.h): a
// thread has 8 numbers of a row, which it stores together.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"
#include "kernels/weight_decode.h"

enum { EXPAND_THREADS = 256 };
static_assert((int)DECODE_RUN == (int)CHUNK, "a run is one group");

template <typename OUT, int KIND>
static __global__ void __launch_bounds__(EXPAND_THREADS)
    expand_kernel(OUT *out, struct weight_view view, bool wide) {
    size_t runs = (view.columns + DECODE_RUN - 1) / DECODE_RUN;
    size_t i = blockIdx.x * (size_t)EXPAND_THREADS + threadIdx.x;
    size_t row = i / runs;
    if (row >= view.rows) {
        return;
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
    OUT *to = out + row * view.columns;
    group_store(to, column, view.columns, numbers, wide && left >= CHUNK);
}

template <typename OUT, int KIND>
static cudaError_t expand(cudaStream_t stream, OUT *out, const struct weight_view *view) {
    size_t runs = (view->columns + DECODE_RUN - 1) / DECODE_RUN;
    size_t blocks = (view->rows * runs + EXPAND_THREADS - 1) / EXPAND_THREADS;
    if (blocks > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    auto kernel = expand_kernel<OUT, KIND>;
    return LAUNCH(kernel, dim3((unsigned)blocks), dim3(EXPAND_THREADS), 0, stream, out, *view,
                  rows_wide<OUT, CHUNK>(out, view->columns));
}

#define EXPAND(kind)                                                                                         \
    case kind:                                                                                               \
        return expand<OUT, kind>(stream, out, view);

template <typename OUT>
static cudaError_t expand_any(cudaStream_t stream, OUT *out, const struct weight_view *view) {
    switch (view->format.kind) { WEIGHT_KINDS(EXPAND) }
    return cudaErrorInvalidValue;
}

extern "C" cudaError_t launch_expand(cudaStream_t stream, void *out, enum dtype dtype,
                                     const struct weight_view *view) {
    return with_number(dtype, [&](auto number) { return expand_any(stream, (decltype(number) *)out, view); });
}
