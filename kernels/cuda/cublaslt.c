#include "kernels/cuda/cublaslt.h"

#include <stdbool.h>
#include <string.h>

// CMake gives the major version of the toolkit, and where it found cuBLAS for the case that the loader does
// not look there.
#ifndef STRATA_CUBLAS_MAJOR
#define STRATA_CUBLAS_MAJOR "13"
#endif

static const char *const names[] = {
    "libcublasLt.so." STRATA_CUBLAS_MAJOR,
#ifdef STRATA_CUBLAS_DIR
    STRATA_CUBLAS_DIR "/libcublasLt.so." STRATA_CUBLAS_MAJOR,
#endif
    NULL,
};

static int resolve(struct cublaslt *lt, struct error *err) {
    const struct {
        const char *name;
        void *place; // a pointer to the function pointer
    } functions[] = {
        {"cublasLtCreate", &lt->Create},
        {"cublasLtDestroy", &lt->Destroy},
        {"cublasLtGetVersion", &lt->GetVersion},
        {"cublasLtGetStatusName", &lt->GetStatusName},
        {"cublasLtMatmulDescCreate", &lt->MatmulDescCreate},
        {"cublasLtMatmulDescDestroy", &lt->MatmulDescDestroy},
        {"cublasLtMatmulDescSetAttribute", &lt->MatmulDescSetAttribute},
        {"cublasLtMatrixLayoutCreate", &lt->MatrixLayoutCreate},
        {"cublasLtMatrixLayoutDestroy", &lt->MatrixLayoutDestroy},
        {"cublasLtMatmulPreferenceCreate", &lt->MatmulPreferenceCreate},
        {"cublasLtMatmulPreferenceDestroy", &lt->MatmulPreferenceDestroy},
        {"cublasLtMatmulPreferenceSetAttribute", &lt->MatmulPreferenceSetAttribute},
        {"cublasLtMatmulAlgoGetHeuristic", &lt->MatmulAlgoGetHeuristic},
        {"cublasLtMatmulAlgoCheck", &lt->MatmulAlgoCheck},
        {"cublasLtMatmulAlgoCapGetAttribute", &lt->MatmulAlgoCapGetAttribute},
        {"cublasLtMatmulAlgoConfigGetAttribute", &lt->MatmulAlgoConfigGetAttribute},
        {"cublasLtMatmulAlgoConfigSetAttribute", &lt->MatmulAlgoConfigSetAttribute},
        {"cublasLtMatmul", &lt->Matmul},
    };
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        void *symbol = library_symbol(lt->library, functions[i].name);
        if (symbol == NULL) {
            return error_set(err, STATUS_DEVICE, "%s has no %s", names[0], functions[i].name);
        }
        memcpy(functions[i].place, &symbol, sizeof symbol); // C has no cast from data to function pointers
    }
    return STATUS_OK;
}

int cublaslt_open(struct cublaslt *lt, struct error *err) {
    char why[512];
    *lt = (struct cublaslt){.library = library_open(names, why, sizeof why)};
    if (lt->library == NULL) {
        return error_set(err, STATUS_DEVICE, "cuBLASLt could not be loaded: %s", why);
    }
    int status = resolve(lt, err);
    return status == STATUS_OK ? cublaslt_check(lt, lt->Create(&lt->handle), "cublasLtCreate", err) : status;
}

void cublaslt_close(struct cublaslt *lt) {
    if (lt->handle != NULL) {
        lt->Destroy(lt->handle);
    }
    library_close(lt->library);
    *lt = (struct cublaslt){0};
}

int cublaslt_check(const struct cublaslt *lt, cublasStatus_t result, const char *call, struct error *err) {
    if (result == CUBLAS_STATUS_SUCCESS) {
        return STATUS_OK;
    }
    bool device = result == CUBLAS_STATUS_NOT_INITIALIZED || result == CUBLAS_STATUS_ALLOC_FAILED ||
                  result == CUBLAS_STATUS_ARCH_MISMATCH;
    return error_set(err, device ? STATUS_DEVICE : STATUS_INTERNAL, "%s: %s", call,
                     lt->GetStatusName(result));
}
