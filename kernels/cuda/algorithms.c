// Which cuBLASLt algorithm a shape is multiplied by.
#include "kernels/cuda/cuda_device.h"

enum { CANDIDATES = 128 };

static bool read_setting(const struct cublaslt *lt, const cublasLtMatmulAlgo_t *algorithm,
                         cublasLtMatmulAlgoConfigAttributes_t attribute, uint32_t *value) {
    size_t written;
    *value = 0;
    return lt->MatmulAlgoConfigGetAttribute(algorithm, attribute, value, sizeof *value, &written) ==
           CUBLAS_STATUS_SUCCESS;
}

// A row's sum runs over the columns in one piece.
static bool is_in_order(const struct cublaslt *lt, const cublasLtMatmulAlgo_t *algorithm) {
    uint32_t splits;
    uint32_t reduction;
    return read_setting(lt, algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits) && splits <= 1 &&
           read_setting(lt, algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &reduction) &&
           reduction == CUBLASLT_REDUCTION_SCHEME_NONE;
}

int cuda_product_choose(struct cuda_device *cuda, struct product *product, struct error *err) {
    if (product->chosen) {
        return STATUS_OK;
    }
    cublasLtMatmulHeuristicResult_t results[CANDIDATES];
    int count;
    int status = cuda_product_heuristics(cuda, product, true, 0, results, CANDIDATES, &count, err);
    for (int i = 0; i < count && status == STATUS_OK && !product->chosen; i++) {
        product->algorithm = results[i].algo;
        product->chosen = results[i].state == CUBLAS_STATUS_SUCCESS && results[i].workspaceSize == 0 &&
                          is_in_order(&cuda->lt, &results[i].algo);
    }
    if (status == STATUS_OK && !product->chosen) {
        return error_set(err, STATUS_DEVICE, "cuBLASLt has no algorithm for [%zu, %zu] x [%zu, %zu] in %s",
                         cuda->base.tokens, product->columns, product->rows, product->columns,
                         dtype_name(cuda->base.dtype));
    }
    return status;
}
