// SPDX-License-Identifier: MIT
// Matmuls by cuBLASLt, always at the plan's number of tokens: one shape and one algorithm whatever the
// batch, which is what keeps a row's bits. Rows that no token fills are computed and never read.
//
// cuBLASLt thinks in columns: a row-major [rows, columns] is a column-major [columns, rows]. So
// out [tokens, rows] = x [tokens, columns] W^T with W [rows, columns] is, in its terms,
// out' [rows, tokens] = transpose(W' [columns, rows]) x' [columns, tokens], and the bias, one number a row of
// out', is its epilogue. The residual add is beta = 1 into out: sums are float32 to the end, rounded once.
#include "base/size.h"
#include "kernels/cuda/cuda_device.h"

static cudaDataType_t data_type(enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F16:
        return CUDA_R_16F;
    case DTYPE_BF16:
        return CUDA_R_16BF;
    default:
        return CUDA_R_32F;
    }
}

// ---- shapes ----

static int describe_operation(struct cuda_device *cuda, struct matmul *matmul, struct error *err) {
    const struct cublaslt *lt = &cuda->lt;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasOperation_t plain = CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = matmul->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    // Full float32 for float32 numbers (no TF32), float32 sums for halves.
    cublasStatus_t result = lt->MatmulDescCreate(&matmul->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    const struct {
        cublasLtMatmulDescAttributes_t attribute;
        const void *value;
        size_t size;
    } settings[] = {
        {CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed},
        {CUBLASLT_MATMUL_DESC_TRANSB, &plain, sizeof plain},
        {CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue},
    };
    for (size_t i = 0; i < sizeof settings / sizeof settings[0] && result == CUBLAS_STATUS_SUCCESS; i++) {
        result = lt->MatmulDescSetAttribute(matmul->operation, settings[i].attribute, settings[i].value,
                                            settings[i].size);
    }
    // Each call sets its own bias. Until then it is some place on the device: cuBLASLt looks for no
    // algorithm, and checks none, of an epilogue whose bias is missing.
    if (matmul->bias && result == CUBLAS_STATUS_SUCCESS) {
        const void *somewhere = cuda->loader.landing;
        result = lt->MatmulDescSetAttribute(matmul->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &somewhere,
                                            sizeof somewhere);
    }
    return cublaslt_check(lt, result, "cublasLtMatmulDescSetAttribute", err);
}

int cuda_matmul_describe(struct cuda_device *cuda, struct matmul *matmul, struct error *err) {
    const struct cublaslt *lt = &cuda->lt;
    cudaDataType_t type = data_type(cuda->base.dtype);
    uint64_t tokens = matmul->tokens;
    uint64_t rows = matmul->rows;
    uint64_t columns = matmul->columns;
    TRY(describe_operation(cuda, matmul, err));
    cublasStatus_t result = lt->MatrixLayoutCreate(&matmul->weights, type, columns, rows, (int64_t)columns);
    if (result == CUBLAS_STATUS_SUCCESS) {
        result = lt->MatrixLayoutCreate(&matmul->input, type, columns, tokens, (int64_t)columns);
    }
    if (result == CUBLAS_STATUS_SUCCESS) {
        result = lt->MatrixLayoutCreate(&matmul->output, type, rows, tokens, (int64_t)rows);
    }
    return cublaslt_check(lt, result, "cublasLtMatrixLayoutCreate", err);
}

void cuda_matmul_destroy(const struct cublaslt *lt, struct matmul *matmul) {
    if (matmul->operation != NULL) {
        lt->MatmulDescDestroy(matmul->operation);
    }
    cublasLtMatrixLayout_t layouts[] = {matmul->weights, matmul->input, matmul->output};
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        if (layouts[i] != NULL) {
            lt->MatrixLayoutDestroy(layouts[i]);
        }
    }
}

void cuda_matmuls_destroy(struct cuda_device *cuda) {
    for (size_t i = 0; i < cuda->matmul_count; i++) {
        cuda_matmul_destroy(&cuda->lt, &cuda->matmuls[i]);
    }
    cuda->matmul_count = 0;
}

struct matmul *cuda_matmul_get(struct cuda_device *cuda, size_t tokens, size_t rows, size_t columns,
                               bool bias, enum device_store store) {
    for (size_t i = 0; i < cuda->matmul_count; i++) {
        struct matmul *matmul = &cuda->matmuls[i];
        if (matmul->tokens == tokens && matmul->rows == rows && matmul->columns == columns &&
            matmul->bias == bias && matmul->store == store) {
            return matmul;
        }
    }
    if (cuda->matmul_count == CUDA_MATMULS) {
        return NULL;
    }
    struct matmul *matmul = &cuda->matmuls[cuda->matmul_count++];
    *matmul =
        (struct matmul){.tokens = tokens, .rows = rows, .columns = columns, .bias = bias, .store = store};
    return matmul;
}

int cuda_matmul_find(struct cuda_device *cuda, const struct device_matrix *matrix, bool bias,
                     enum device_store store, struct matmul **out, struct error *err) {
    struct matmul *matmul =
        cuda_matmul_get(cuda, cuda->base.tokens, matrix->rows, matrix->columns, bias, store);
    *out = matmul;
    if (matmul == NULL) {
        return error_set(err, STATUS_INTERNAL, "more than %d matmul shapes", CUDA_MATMULS);
    }
    return matmul->operation != NULL ? STATUS_OK : cuda_matmul_describe(cuda, matmul, err);
}

// ---- algorithms that cuBLASLt expects to be fast ----

int cuda_matmul_heuristics(struct cuda_device *cuda, struct matmul *matmul, bool restricted,
                           cublasLtMatmulHeuristicResult_t *results, int most, int *count,
                           struct error *err) {
    const struct cublaslt *lt = &cuda->lt;
    const size_t workspace = CUDA_WORKSPACE_BYTES;
    const uint32_t in_order = CUBLASLT_REDUCTION_SCHEME_NONE;
    cublasLtMatmulPreference_t preference = NULL;
    *count = 0;
    cublasStatus_t result = lt->MatmulPreferenceCreate(&preference);
    if (result == CUBLAS_STATUS_SUCCESS) {
        result = lt->MatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &workspace, sizeof workspace);
    }
    if (restricted && result == CUBLAS_STATUS_SUCCESS) {
        result = lt->MatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                  &in_order, sizeof in_order);
    }
    if (result == CUBLAS_STATUS_SUCCESS) {
        result =
            lt->MatmulAlgoGetHeuristic(cuda->lt.handle, matmul->operation, matmul->weights, matmul->input,
                                       matmul->output, matmul->output, preference, most, results, count);
    }
    if (preference != NULL) {
        lt->MatmulPreferenceDestroy(preference);
    }
    if (result == CUBLAS_STATUS_NOT_SUPPORTED) { // it knows none
        *count = 0;
        return STATUS_OK;
    }
    return cublaslt_check(lt, result, "cublasLtMatmulAlgoGetHeuristic", err);
}

// ---- running ----

cublasStatus_t cuda_matmul_run(struct cuda_device *cuda, const struct matmul *matmul,
                               const struct matmul_call *call) {
    const struct cublaslt *lt = &cuda->lt;
    if (matmul->bias) {
        cublasStatus_t result = lt->MatmulDescSetAttribute(
            matmul->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &call->bias, sizeof call->bias);
        if (result != CUBLAS_STATUS_SUCCESS) {
            return result;
        }
    }
    return lt->Matmul(lt->handle, matmul->operation, &call->scale, call->weights, matmul->weights, call->x,
                      matmul->input, &call->kept, call->out, matmul->output, call->out, matmul->output,
                      call->algorithm, call->workspace > 0 ? cuda->workspace : NULL, call->workspace,
                      cuda->queue.compute);
}

// When the device failed cuBLASLt says less than CUDA does, and what it met on the way is no last error of
// ours (it may have a runtime of its own): the stream is asked.
static int check_run(const struct cuda_device *cuda, cublasStatus_t said, struct error *err) {
    cudaError_t below = said == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaStreamQuery(cuda->queue.compute);
    return below == cudaSuccess || below == cudaErrorNotReady
               ? cublaslt_check(&cuda->lt, said, "cublasLtMatmul", err)
               : cuda_queue_check(cuda, below, "cublasLtMatmul", err);
}

static int run_matmul(struct cuda_device *cuda, const struct matmul *matmul, const struct matmul_call *call,
                      struct error *err) {
    size_t bytes = matmul->tokens * matmul->rows * dtype_size(cuda->base.dtype);
    const struct cuda_use use = {.writes = {{call->out, bytes}},
                                 .reads = {call->x, call->weights, call->bias}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "matmul", &use, err));
    cublasStatus_t said = cuda_matmul_run(cuda, matmul, call);
    int status = check_run(cuda, said, err);
    cuda->queue.last = "matmul";
    return status;
}

int cuda_matmul(struct device *device, void *out, const void *x, const struct device_matrix *matrix,
                const void *bias, size_t tokens, enum device_store store, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct matmul *matmul = NULL;
    int status;
    if (tokens > device->tokens) {
        return error_set(err, STATUS_INTERNAL, "matmul: %zu tokens in a batch planned for %zu", tokens,
                         device->tokens);
    }
    TRY_TO(done, status = cuda_matmul_find(cuda, matrix, bias != NULL, store, &matmul, err));
    TRY_TO(done, status = cuda_matmul_choose(cuda, matmul, err));
    struct matmul_call call = matmul_call(matmul, out, x, matrix->data, bias);
    TRY_TO(done, status = run_matmul(cuda, matmul, &call, err));
done:
    return status == STATUS_OK ? STATUS_OK
                               : error_wrap(err, "matmul of [%zu, %zu] by [%zu, %zu]", device->tokens,
                                            matrix->columns, matrix->rows, matrix->columns);
}

// ---- asked before any memory is taken ----

// A place on the device for a bias that is not there yet (cuda_gemm.c), where nothing is reserved.
static int lend_landing(struct cuda_device *cuda, bool bias, bool *lent, struct error *err) {
    *lent = bias && cuda->loader.landing == NULL;
    return *lent ? cuda_queue_check(cuda, cudaMalloc(&cuda->loader.landing, DEVICE_ALIGNMENT), "cudaMalloc",
                                    err)
                 : STATUS_OK;
}

// A shape of its own: the table's have the plan's tokens.
int cuda_check_matmul(struct device *device, size_t tokens, size_t rows, size_t columns, bool bias,
                      enum device_store store, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct matmul matmul = {.tokens = tokens, .rows = rows, .columns = columns, .bias = bias, .store = store};
    bool lent = false;
    int status;
    TRY_TO(done, status = cuda_queue_check(cuda, cudaSetDevice(cuda->index), "cudaSetDevice", err));
    TRY_TO(done, status = lend_landing(cuda, bias, &lent, err));
    TRY_TO(done, status = cuda_matmul_describe(cuda, &matmul, err));
    TRY_TO(done, status = cuda_matmul_choose(cuda, &matmul, err));
done:
    cuda_matmul_destroy(&cuda->lt, &matmul);
    if (lent) {
        (void)cudaFree(cuda->loader.landing);
        cuda->loader.landing = NULL;
    }
    return status;
}
