// SPDX-License-Identifier: MIT
// A gated short convolution: a block a token, a thread a column. What it reads and writes is little beside
// the products around it.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/texts.h"

enum { ROW_THREADS = 256 };

template <typename T> struct convolving {
    T *out;
    const T *in;
    const T *weight;
    const T *bias; // NULL: none
    const int32_t *starts;
    size_t texts;
    size_t before; // tokens of a slice's text before it
    size_t width;
    size_t taps;
};

// Tokens before a text's first one in the batch.
template <typename T>
static __device__ __forceinline__ size_t tokens_before(const convolving<T> &call,
                                                       const same_beginning &beginning, unsigned) {
    return beginning.from != NULL ? call.before : 0;
}

template <typename T>
static __device__ __forceinline__ size_t tokens_before(const convolving<T> &, const text_beginning &beginning,
                                                       unsigned text) {
    return (size_t)beginning.origins[text].before;
}

// beginning: rows, [taps - 1, 3 width].
template <typename T, typename BEGINNING>
static __global__ void __launch_bounds__(ROW_THREADS)
    convolve_kernel(convolving<T> call, BEGINNING beginning) {
    const size_t token = blockIdx.x;
    const size_t width = call.width;
    const unsigned text = text_of(call.starts, (unsigned)call.texts, (int32_t)token);
    const size_t there = token - (size_t)call.starts[text]; // tokens before it in the batch
    const size_t most = there + tokens_before(call, beginning, text);
    const T *before = (const T *)beginning.from;
    const T *own = call.in + token * 3 * width;
    for (size_t i = threadIdx.x; i < width; i += ROW_THREADS) {
        float sum = 0;
        for (size_t k = 0; k < call.taps; k++) {
            const size_t back = call.taps - 1 - k;
            if (back <= most) {
                const T *row = back <= there ? own - back * 3 * width
                                             : before + (call.taps - 1 - (back - there)) * 3 * width;
                float product = rounded<T>(number_value(row[i]) * number_value(row[2 * width + i]));
                sum = fmaf(number_value(call.weight[i * call.taps + k]), product, sum);
            }
        }
        if (call.bias != NULL) {
            sum += number_value(call.bias[i]);
        }
        number_set(call.out + token * width + i, number_value(own[width + i]) * rounded<T>(sum));
    }
}

extern "C" cudaError_t launch_short_convolution(cudaStream_t stream, enum dtype dtype, void *out,
                                                const void *in, const struct device_short_convolution *shape,
                                                const struct device_texts *texts,
                                                struct text_beginning before, size_t tokens) {
    if (tokens > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        const convolving<T> call = {(T *)out,
                                    (const T *)in,
                                    (const T *)shape->weight,
                                    (const T *)shape->bias,
                                    texts->starts,
                                    texts->count,
                                    texts->before,
                                    shape->width,
                                    shape->taps};
        return with_beginning(before, [&](auto beginning) {
            return LAUNCH((convolve_kernel<T, decltype(beginning)>), dim3((unsigned)tokens),
                          dim3(ROW_THREADS), 0, stream, call, beginning);
        });
    });
}
