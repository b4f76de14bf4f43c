// SPDX-License-Identifier: MIT
// What nvcc adds to the runtime's calls in a .cu file: overloads, and the language of kernels.
#ifndef STRATA_CUDA_EMULATION_CUDA_RUNTIME_H
#define STRATA_CUDA_EMULATION_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus
#include "cuda_emulation/language.h"

template <class... Parameters>
static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes,
                                                void (*kernel)(Parameters...)) {
    return ::cudaFuncGetAttributes(attributes, reinterpret_cast<const void *>(kernel));
}

template <class... Parameters>
static inline cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                               int value) {
    return ::cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}
#endif

#endif
