// SPDX-License-Identifier: MIT
// A cuBLASLt for test_cublaslt.c: a library with its functions' names. FAKE_VERSION is what it says of
// itself, FAKE_SHORT leaves its last function out.
#include <stddef.h>

int cublasLtCreate(void **handle);
size_t cublasLtGetVersion(void);

int cublasLtCreate(void **handle) {
    *handle = NULL;
    return 0;
}

size_t cublasLtGetVersion(void) {
    return FAKE_VERSION;
}

#define NEVER_CALLED(name)                                                                                   \
    int name(void);                                                                                          \
    int name(void) {                                                                                         \
        return 1;                                                                                            \
    }

NEVER_CALLED(cublasLtDestroy)
NEVER_CALLED(cublasLtGetStatusName)
NEVER_CALLED(cublasLtMatmulDescCreate)
NEVER_CALLED(cublasLtMatmulDescDestroy)
NEVER_CALLED(cublasLtMatmulDescSetAttribute)
NEVER_CALLED(cublasLtMatrixLayoutCreate)
NEVER_CALLED(cublasLtMatrixLayoutDestroy)
NEVER_CALLED(cublasLtMatmulPreferenceCreate)
NEVER_CALLED(cublasLtMatmulPreferenceDestroy)
NEVER_CALLED(cublasLtMatmulPreferenceSetAttribute)
NEVER_CALLED(cublasLtMatmulAlgoGetHeuristic)
NEVER_CALLED(cublasLtMatmulAlgoCheck)
NEVER_CALLED(cublasLtMatmulAlgoCapGetAttribute)
NEVER_CALLED(cublasLtMatmulAlgoConfigGetAttribute)
NEVER_CALLED(cublasLtMatmulAlgoConfigSetAttribute)
#ifndef FAKE_SHORT
NEVER_CALLED(cublasLtMatmul)
#endif
