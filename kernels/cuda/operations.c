// The operations that are kernels of our own: order on the queue, launch, what the launch said.
#include <string.h>

#include "base/size.h"
#include "kernels/cuda/cuda_device.h"

// Bytes of [rows, columns] numbers; the buffers are there, so the product fits.
static size_t bytes_of(const struct cuda_device *cuda, size_t rows, size_t columns) {
    return rows * columns * dtype_size(cuda->base.dtype);
}

int cuda_embed(struct device *device, void *out, const void *table, const int32_t *ids, size_t tokens,
               size_t hidden, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    int status = cuda_queue_begin(cuda, CUDA_COMPUTING, "embed", out, bytes_of(cuda, tokens, hidden), err);
    if (status != STATUS_OK) {
        return status;
    }
    cudaError_t launched = launch_embed(cuda->queue.compute, device->dtype, out, table, ids, tokens, hidden);
    return cuda_queue_end(cuda, "embed", launched, err);
}

int cuda_rms_norm(struct device *device, void *out, const void *x, const void *weight, float epsilon,
                  size_t tokens, size_t hidden, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    int status = cuda_queue_begin(cuda, CUDA_COMPUTING, "rms_norm", out, bytes_of(cuda, tokens, hidden), err);
    if (status != STATUS_OK) {
        return status;
    }
    cudaError_t launched =
        launch_rms_norm(cuda->queue.compute, device->dtype, out, x, weight, epsilon, tokens, hidden);
    return cuda_queue_end(cuda, "rms_norm", launched, err);
}

int cuda_qk_norm_rope(struct device *device, void *qkv, const void *q_norm, const void *k_norm, float epsilon,
                      const float *cosine, const float *sine, const int32_t *rope_row,
                      struct device_heads heads, size_t tokens, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    size_t width = (heads.heads + 2 * heads.kv_heads) * heads.head_dim;
    int status =
        cuda_queue_begin(cuda, CUDA_COMPUTING, "qk_norm_rope", qkv, bytes_of(cuda, tokens, width), err);
    if (status != STATUS_OK) {
        return status;
    }
    cudaError_t launched = launch_qk_norm_rope(cuda->queue.compute, device->dtype, qkv, q_norm, k_norm,
                                               epsilon, cosine, sine, rope_row, heads, tokens);
    return cuda_queue_end(cuda, "qk_norm_rope", launched, err);
}

// The running softmax needs no scores in memory; the tiles are taken once for all shapes.
bool cuda_attention_scratch(const struct device *device, const struct device_attention *shape,
                            size_t *bytes) {
    (void)device;
    (void)shape;
    *bytes = 0;
    return true;
}

// The layers of a batch share one list of tiles: it is made when the texts are others than those of the last
// one.
static int take_tiles(struct cuda_device *cuda, struct device_texts texts, size_t *tiles, struct error *err) {
    struct tile_list *list = &cuda->tiles;
    *tiles = attention_tile_count(texts.host_starts, texts.count);
    if (*tiles > attention_tiles_most(cuda->base.tokens) || texts.count > cuda->base.tokens) {
        return error_set(err, STATUS_INTERNAL,
                         "attention: %zu texts of %zu tiles in a batch planned for %zu tokens", texts.count,
                         *tiles, cuda->base.tokens);
    }
    size_t bytes = (texts.count + 1) * sizeof *texts.host_starts;
    if (*tiles == 0 || (list->texts == texts.count && memcmp(list->starts, texts.host_starts, bytes) == 0)) {
        return STATUS_OK;
    }
    int status = cuda_queue_begin(cuda, CUDA_COMPUTING, "attention", list->tiles, 0, err);
    if (status == STATUS_OK) {
        list->texts = 0; // until the new one is there
        status = cuda_queue_end(
            cuda, "attention",
            launch_attention_tiles(cuda->queue.compute, list->tiles, texts.starts, texts.count, *tiles), err);
    }
    if (status == STATUS_OK) {
        list->texts = texts.count;
        memcpy(list->starts, texts.host_starts, bytes);
    }
    return status;
}

int cuda_attention(struct device *device, void *out, const void *qkv, const struct device_attention *shape,
                   struct device_texts texts, void *scratch, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    size_t tiles;
    (void)scratch;
    if (!attention_has(device->dtype, shape->heads.head_dim)) {
        return error_set(err, STATUS_DEVICE, "attention on CUDA is not built for heads of %zu numbers",
                         shape->heads.head_dim);
    }
    int status = take_tiles(cuda, texts, &tiles, err);
    if (status != STATUS_OK || tiles == 0) {
        return status;
    }
    size_t end = (size_t)texts.host_starts[texts.count];
    status = cuda_queue_begin(cuda, CUDA_COMPUTING, "attention", out,
                              bytes_of(cuda, end, shape->heads.heads * shape->heads.head_dim), err);
    if (status != STATUS_OK) {
        return status;
    }
    cudaError_t launched = launch_attention(cuda->queue.compute, device->dtype, out, qkv, shape,
                                            cuda->tiles.tiles, tiles, cuda->attention_pairs);
    return cuda_queue_end(cuda, "attention", launched, err);
}

const char *cuda_attention_turn(struct device *device, const struct device_attention *shape) {
    struct cuda_device *cuda = cuda_of(device);
    if (!attention_pairs(device->dtype, shape->heads)) {
        return NULL;
    }
    cuda->attention_pairs = !cuda->attention_pairs;
    return cuda->attention_pairs ? "two heads a warp" : "one head a warp";
}

int cuda_swiglu(struct device *device, void *out, const void *gate_up, size_t tokens, size_t intermediate,
                struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    int status =
        cuda_queue_begin(cuda, CUDA_COMPUTING, "swiglu", out, bytes_of(cuda, tokens, intermediate), err);
    if (status != STATUS_OK) {
        return status;
    }
    cudaError_t launched =
        launch_swiglu(cuda->queue.compute, device->dtype, out, gate_up, tokens, intermediate);
    return cuda_queue_end(cuda, "swiglu", launched, err);
}

int cuda_pool(struct device *device, void *out, enum dtype out_dtype, struct device_row_check *checks,
              const void *x, const struct device_span *spans, size_t rows, size_t hidden, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    int status =
        cuda_queue_begin(cuda, CUDA_COMPUTING, "pool", out, rows * hidden * dtype_size(out_dtype), err);
    status = status == STATUS_OK
                 ? cuda_queue_begin(cuda, CUDA_COMPUTING, "pool", checks, rows * sizeof checks[0], err)
                 : status;
    if (status != STATUS_OK) {
        return status;
    }
    cudaError_t launched =
        launch_pool(cuda->queue.compute, device->dtype, out, out_dtype, checks, x, spans, rows, hidden);
    return cuda_queue_end(cuda, "pool", launched, err);
}

// The best of some runs: the first may wait for the clock to rise.
int cuda_peak(struct device *device, enum dtype dtype, double *rate, struct error *err) {
    enum { RUNS = 3 };
    struct cuda_device *cuda = cuda_of(device);
    *rate = 0;
    for (int i = 0; i < RUNS; i++) {
        struct device_mark mark;
        struct device_times times;
        double operations = 0;
        int status = cuda_mark(device, &mark, err);
        status = status == STATUS_OK ? cuda_queue_begin(cuda, CUDA_COMPUTING, "peak", cuda->loader.landing,
                                                        CUDA_LOAD_BYTES, err)
                                     : status;
        if (status != STATUS_OK) {
            return status;
        }
        status = cuda_queue_end(
            cuda, "peak",
            launch_peak(cuda->queue.compute, dtype, cuda->multiprocessors, cuda->loader.landing, &operations),
            err);
        status = status == STATUS_OK ? cuda_mark(device, &mark, err) : status;
        status = status == STATUS_OK ? cuda_wait(device, mark, &times, err) : status;
        if (status != STATUS_OK) {
            return status;
        }
        if (times.compute_seconds > 0 && operations / times.compute_seconds > *rate) {
            *rate = operations / times.compute_seconds;
        }
    }
    return STATUS_OK;
}
