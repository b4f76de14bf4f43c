// SPDX-License-Identifier: MIT
// Whether this program has code for a GPU: a build for one architecture holds none for another.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/launch.h"

static __global__ void built_kernel(void) {
}

// All kernels are built for the same architectures: one tells of all.
extern "C" cudaError_t kernels_built(void) {
    struct cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, built_kernel);
}
