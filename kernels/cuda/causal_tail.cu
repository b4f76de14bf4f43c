// SPDX-License-Identifier: MIT
// The rows that the next slice's convolution needs (causal.h).
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/numbers.h"

enum { THREADS = 256 };

// Row j becomes row tokens + j of the rows before followed by the slice's. A thread has a column of
// all rows, and a row is read before it is written.
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    causal_tail_kernel(T *tail, const T *before, const T *in, size_t stride, size_t columns, size_t rows,
                       size_t tokens) {
    const size_t column = blockIdx.x * (size_t)THREADS + threadIdx.x;
#pragma unroll 1
    for (size_t j = 0; j < rows && column < columns; j++) {
        const size_t from = tokens + j;
        T number = {};
        if (from >= rows) {
            number = in[(from - rows) * stride + column];
        } else if (before != NULL) {
            number = before[from * columns + column];
        }
        tail[j * columns + column] = number;
    }
}

extern "C" cudaError_t launch_causal_tail(cudaStream_t stream, enum dtype dtype, void *tail,
                                          const void *before, const void *in, size_t stride, size_t columns,
                                          size_t rows, size_t tokens) {
    const size_t blocks = (columns + THREADS - 1) / THREADS;
    if (blocks > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return LAUNCH(causal_tail_kernel<T>, dim3((unsigned)blocks), dim3(THREADS), 0, stream, (T *)tail,
                      (const T *)before, (const T *)in, stride, columns, rows, tokens);
    });
}
