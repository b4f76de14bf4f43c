// SPDX-License-Identifier: MIT
// cuBLASLt's functions, found when a GPU is opened (library.h says why not at link time).
#ifndef STRATA_KERNELS_CUDA_CUBLASLT_H
#define STRATA_KERNELS_CUDA_CUBLASLT_H

#include <cublasLt.h>

#include "base/error.h"
#include "kernels/cuda/library.h"

struct cublaslt {
    struct library *library;
    cublasLtHandle_t handle;
    // Each is the function of its name with cublasLt before it.
    __typeof__(cublasLtCreate) *Create;
    __typeof__(cublasLtDestroy) *Destroy;
    __typeof__(cublasLtGetVersion) *GetVersion;
    __typeof__(cublasLtGetStatusName) *GetStatusName;
    __typeof__(cublasLtMatmulDescCreate) *MatmulDescCreate;
    __typeof__(cublasLtMatmulDescDestroy) *MatmulDescDestroy;
    __typeof__(cublasLtMatmulDescSetAttribute) *MatmulDescSetAttribute;
    __typeof__(cublasLtMatrixLayoutCreate) *MatrixLayoutCreate;
    __typeof__(cublasLtMatrixLayoutDestroy) *MatrixLayoutDestroy;
    __typeof__(cublasLtMatmulPreferenceCreate) *MatmulPreferenceCreate;
    __typeof__(cublasLtMatmulPreferenceDestroy) *MatmulPreferenceDestroy;
    __typeof__(cublasLtMatmulPreferenceSetAttribute) *MatmulPreferenceSetAttribute;
    __typeof__(cublasLtMatmulAlgoGetHeuristic) *MatmulAlgoGetHeuristic;
    __typeof__(cublasLtMatmulAlgoCheck) *MatmulAlgoCheck;
    __typeof__(cublasLtMatmulAlgoCapGetAttribute) *MatmulAlgoCapGetAttribute;
    __typeof__(cublasLtMatmulAlgoConfigGetAttribute) *MatmulAlgoConfigGetAttribute;
    __typeof__(cublasLtMatmulAlgoConfigSetAttribute) *MatmulAlgoConfigSetAttribute;
    __typeof__(cublasLtMatmul) *Matmul;
};

// Names the library's file, or the folder that it lies in, for every program that opens a GPU. Which library
// is taken changes no result unseen: its version is part of a device's identity.
#define CUBLASLT_VARIABLE "STRATA_CUBLASLT"

// Loads the library and makes a handle on the current device: what CUBLASLT_VARIABLE names and nothing else,
// otherwise the first that is found by the loader or in cublaslt_places. STATUS_DEVICE with every file that
// was tried and why it was not taken. Close it, also after an error.
int cublaslt_open(struct cublaslt *lt, struct error *err);
void cublaslt_close(struct cublaslt *lt); // accepts zeros; leaves zeros

// As cuda_check.
int cublaslt_check(const struct cublaslt *lt, cublasStatus_t result, const char *call, struct error *err);

#endif
