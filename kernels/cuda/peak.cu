// SPDX-License-Identifier: MIT
// The most that a multiprocessor's multiply-adds in registers give, and nothing else: of float32 the most
// there is; of halves the most of mma.sync, which is what attention is made of. The wgmma of compute
// capability 9.0 and the tcgen05 of 10.0, which cuBLAS uses, go beyond it.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum {
    PEAK_BLOCKS = 2, // a multiprocessor
    PEAK_THREADS = 256,
    PEAK_CHAINS = 8, // independent sums a thread: enough to hide the latency of an instruction
#ifdef STRATA_CUDA_EMULATION
    PEAK_ROUNDS = 4,
#else
    PEAK_ROUNDS = 4096,
#endif
};

// Sums go up by a little each round. The store never happens; the compiler does not know. These
// bits are 1 and 2^-7 in bfloat16, 1.875 and 1 in float16.
template <typename T> static __global__ void __launch_bounds__(PEAK_THREADS) peak_mma_kernel(float *sink) {
    const uint32_t ones = 0x3f803f80u;
    const uint32_t small = 0x3c003c00u;
    uint32_t a[4] = {ones, ones, ones, ones + (threadIdx.x & 1)};
    float c[PEAK_CHAINS][4] = {};
    for (int round = 0; round < PEAK_ROUNDS; round++) {
#pragma unroll
        for (int i = 0; i < PEAK_CHAINS; i++) {
            matrix_multiply_add<T>(c[i], a, small, small);
        }
    }
    float sum = 0;
#pragma unroll
    for (int i = 0; i < PEAK_CHAINS; i++) {
        sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
    }
    if (sum < 0) {
        *sink = sum;
    }
}

static __global__ void __launch_bounds__(PEAK_THREADS) peak_f32_kernel(float *sink, float factor) {
    float c[2 * PEAK_CHAINS];
#pragma unroll
    for (int i = 0; i < 2 * PEAK_CHAINS; i++) {
        c[i] = (float)(threadIdx.x + (unsigned)i);
    }
    for (int round = 0; round < PEAK_ROUNDS; round++) {
#pragma unroll
        for (int i = 0; i < 2 * PEAK_CHAINS; i++) {
            c[i] = fmaf(c[i], factor, 1.0f);
        }
    }
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 2 * PEAK_CHAINS; i++) {
        sum += c[i];
    }
    if (sum < 0) {
        *sink = sum;
    }
}

extern "C" cudaError_t launch_peak(cudaStream_t stream, enum dtype dtype, int multiprocessors, float *sink,
                                   double *operations) {
    if (multiprocessors <= 0) {
        return cudaErrorInvalidValue;
    }
    unsigned blocks = (unsigned)multiprocessors * PEAK_BLOCKS;
    double threads = (double)blocks * PEAK_THREADS;
    if (dtype == DTYPE_F32) {
        *operations = threads * PEAK_ROUNDS * 2 * PEAK_CHAINS * 2;
        return LAUNCH(peak_f32_kernel, dim3(blocks), dim3(PEAK_THREADS), 0, stream, sink, 0.999f);
    }
    *operations = threads / WARP * PEAK_ROUNDS * PEAK_CHAINS * (2.0 * 16 * 8 * 16);
    auto kernel = dtype == DTYPE_F16 ? peak_mma_kernel<f16> : peak_mma_kernel<bf16>;
    return LAUNCH(kernel, dim3(blocks), dim3(PEAK_THREADS), 0, stream, sink);
}
