// Weights from mapped files to their places: several threads copy a piece into a slot of a pinned ring, a
// stream of its own carries it over, and a kernel converts it there where the formats differ. The host waits
// for nothing but a free slot, so that reading the file, filling slots and the bus overlap.
#include <string.h>

#include "base/size.h"
#include "kernels/cuda/cuda_device.h"

enum { SHARE_BYTES = 512 << 10 }; // that a thread copies: less is not worth waking it

int cuda_loader_open(struct cuda_loader *loader, int threads, struct error *err) {
    *loader = (struct cuda_loader){.threads = threads};
    int status = cuda_check(cudaStreamCreateWithFlags(&loader->stream, cudaStreamNonBlocking),
                            "cudaStreamCreateWithFlags", NULL, err);
    for (size_t i = 0; i < CUDA_LOAD_SLOTS && status == STATUS_OK; i++) {
        status = cuda_check(
            cudaEventCreateWithFlags(&loader->copied[i], cudaEventBlockingSync | cudaEventDisableTiming),
            "cudaEventCreateWithFlags", NULL, err);
    }
    if (status == STATUS_OK) {
        status = cuda_check(cudaEventCreateWithFlags(&loader->joined, cudaEventDisableTiming),
                            "cudaEventCreateWithFlags", NULL, err);
    }
    return status;
}

void cuda_loader_destroy(struct cuda_loader *loader) {
    for (size_t i = 0; i < CUDA_LOAD_SLOTS; i++) {
        if (loader->copied[i] != NULL) {
            (void)cudaEventDestroy(loader->copied[i]);
        }
    }
    if (loader->joined != NULL) {
        (void)cudaEventDestroy(loader->joined);
    }
    if (loader->stream != NULL) {
        (void)cudaStreamDestroy(loader->stream);
    }
}

// ---- order among the streams ----

// What is queued on `after` from now on waits for what is on `before` now.
static cudaError_t order(struct cuda_loader *loader, cudaStream_t after, cudaStream_t before) {
    cudaError_t result = cudaEventRecord(loader->joined, before);
    return result == cudaSuccess ? cudaStreamWaitEvent(after, loader->joined, 0) : result;
}

int cuda_loader_join(struct cuda_device *cuda, struct error *err) {
    if (!cuda->loader.pending) {
        return STATUS_OK;
    }
    cuda->loader.pending = false;
    return cuda_queue_check(cuda, order(&cuda->loader, cuda->queue.compute, cuda->loader.stream),
                            "waiting for weights", err);
}

// The place that is loaded may be read by an operation or a download that was queued before.
static int catch_up(struct cuda_device *cuda, struct error *err) {
    struct cuda_loader *loader = &cuda->loader;
    cudaError_t result = cudaSetDevice(cuda->index);
    if (loader->behind && result == cudaSuccess) {
        result = order(loader, loader->stream, cuda->queue.compute);
        if (result == cudaSuccess) {
            result = order(loader, loader->stream, cuda->queue.copy);
        }
        loader->behind = false;
    }
    return cuda_queue_check(cuda, result, "loading", err);
}

// ---- pieces ----

// memcpy at the speed of the memory, not of one thread; where `in` is a mapped file, its pages come in on all
// threads as well.
static void fill(unsigned char *out, const unsigned char *in, size_t bytes, int threads) {
    size_t shares = (bytes + SHARE_BYTES - 1) / SHARE_BYTES;
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (shares > 1)
    for (size_t i = 0; i < shares; i++) {
        size_t at = i * SHARE_BYTES;
        memcpy(out + at, in + at, size_min(SHARE_BYTES, bytes - at));
    }
}

static int load_piece(struct cuda_device *cuda, void *out, const void *source, enum dtype source_dtype,
                      size_t count, struct error *err) {
    struct cuda_loader *loader = &cuda->loader;
    size_t bytes = count * dtype_size(source_dtype);
    size_t slot = loader->pieces % CUDA_LOAD_SLOTS;
    unsigned char *pinned = loader->ring + slot * CUDA_LOAD_BYTES;
    if (loader->pieces >= CUDA_LOAD_SLOTS) {
        int status =
            cuda_queue_check(cuda, cudaEventSynchronize(loader->copied[slot]), "loading weights", err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    loader->pieces++;
    fill(pinned, source, bytes, loader->threads);
    bool converts = source_dtype != cuda->base.dtype;
    cudaError_t result = cudaMemcpyAsync(converts ? loader->landing : out, pinned, bytes,
                                         cudaMemcpyHostToDevice, loader->stream);
    loader->pending = true;
    if (result == cudaSuccess) {
        result = cudaEventRecord(loader->copied[slot], loader->stream);
    }
    if (converts && result == cudaSuccess) {
        result = launch_convert(loader->stream, out, cuda->base.dtype, loader->landing, source_dtype, count);
    }
    return cuda_queue_check(cuda, result, converts ? "converting weights" : "loading weights", err);
}

static int load(struct cuda_device *cuda, void *out, size_t offset, size_t count, const void *source,
                enum dtype source_dtype, struct error *err) {
    size_t most = CUDA_LOAD_BYTES / dtype_size(source_dtype);
    const unsigned char *in = source;
    unsigned char *place = (unsigned char *)out + offset * dtype_size(cuda->base.dtype);
    int status = catch_up(cuda, err);
    while (count > 0 && status == STATUS_OK) {
        size_t piece = size_min(count, most);
        status = load_piece(cuda, place, in, source_dtype, piece, err);
        in += piece * dtype_size(source_dtype);
        place += piece * dtype_size(cuda->base.dtype);
        count -= piece;
    }
    return status;
}

// ---- the table's functions ----

// Row-major, as in the files: cuBLASLt transposes on the way.
bool cuda_matrix_bytes(const struct device *device, size_t rows, size_t columns, size_t *bytes) {
    return size_mul(rows, columns, bytes) && size_mul(*bytes, dtype_size(device->dtype), bytes);
}

int cuda_matrix_load(struct device *device, struct device_matrix *matrix, size_t row, size_t count,
                     const void *source, enum dtype source_dtype, struct error *err) {
    return load(cuda_of(device), matrix->data, row * matrix->columns, count * matrix->columns, source,
                source_dtype, err);
}

int cuda_vector_load(struct device *device, void *out, size_t offset, size_t count, const void *source,
                     enum dtype source_dtype, struct error *err) {
    return load(cuda_of(device), out, offset, count, source, source_dtype, err);
}
