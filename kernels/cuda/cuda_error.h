// SPDX-License-Identifier: MIT
// What CUDA said, as this program's errors: the call or operation that failed, the name and the text of the
// error, and the status: STATUS_DEVICE when the GPU, its memory, its driver or a library is at fault (exit
// 69), STATUS_INTERNAL when a launch or a call of ours is (exit 70).
#ifndef STRATA_KERNELS_CUDA_CUDA_ERROR_H
#define STRATA_KERNELS_CUDA_CUDA_ERROR_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "base/error.h"

// STATUS_OK for cudaSuccess. `call` names what was asked for ("cudaMalloc", "attention"). `queued` is the
// operation put on the device last, or NULL: a kernel's fault comes to light in any later call, and then the
// message says after which operation that was. What CUDA keeps as its last error is cleared, so that the next
// launch does not report it again.
int cuda_check(cudaError_t result, const char *call, const char *queued, struct error *err);

// Whether it is a fault that a kernel meets while it runs, or that the GPU itself has.
bool cuda_is_late(cudaError_t result);

#endif
