// What this back end is built for, asked before any memory is taken.
#include <stdio.h>

#include "kernels/cuda/cuda_device.h"

// The rotation takes every even head up to the same size, and rows of any length have a kernel.
bool cuda_supports(const struct device *device, const struct device_shape *shape,
                   struct device_refusal *refusal) {
    refusal->dimension = DEVICE_HEAD_DIM;
    snprintf(refusal->can, sizeof refusal->can, "multiples of %d up to %d", ATTENTION_HEAD_STEP,
             ATTENTION_HEAD_MOST);
    return attention_has(device->dtype, shape->heads.head_dim);
}

// A place on the device for a bias that is not there yet (cuda_gemm.c), where nothing is reserved.
static int lend_landing(struct cuda_device *cuda, bool bias, bool *lent, struct error *err) {
    *lent = bias && cuda->loader.landing == NULL;
    return *lent ? cuda_check(cudaMalloc(&cuda->loader.landing, DEVICE_ALIGNMENT), "cudaMalloc",
                              cuda->queue.last, err)
                 : STATUS_OK;
}

// A product of its own: the table's have the plan's tokens.
int cuda_check_matmul(struct device *device, size_t tokens, size_t rows, size_t columns, bool bias,
                      enum device_store store, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct product product = {
        .tokens = tokens, .rows = rows, .columns = columns, .bias = bias, .store = store};
    bool lent = false;
    int status;
    TRY_TO(done, status = cuda_check(cudaSetDevice(cuda->index), "cudaSetDevice", cuda->queue.last, err));
    TRY_TO(done, status = lend_landing(cuda, bias, &lent, err));
    TRY_TO(done, status = cuda_product_describe(cuda, &product, err));
    TRY_TO(done, status = cuda_product_choose(cuda, &product, err));
done:
    cuda_product_destroy(&cuda->lt, &product);
    if (lent) {
        (void)cudaFree(cuda->loader.landing);
        cuda->loader.landing = NULL;
    }
    return status;
}
