// SPDX-License-Identifier: MIT
// How kernels are written once for nvcc and for the emulation of the tests (tests/cuda_emulation), which
// builds the same .cu files with a C++ compiler: the few things that only nvcc can parse stand behind these
// macros.
//
//   LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)   the expression's value is a cudaError_t
//   SHARED_BYTES(name)    declares `unsigned char *name`, the block's dynamic shared memory, 128-byte aligned
#ifndef STRATA_KERNELS_CUDA_LAUNCH_H
#define STRATA_KERNELS_CUDA_LAUNCH_H

#include <cuda_runtime.h>

#ifdef STRATA_CUDA_EMULATION
#include "cuda_emulation/launch.h"
#else
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                               \
    (kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__), cudaGetLastError())
#define SHARED_BYTES(name)                                                                                   \
    extern __shared__ __align__(128) unsigned char strata_shared_bytes[];                                    \
    unsigned char *name = strata_shared_bytes
#endif

#endif
