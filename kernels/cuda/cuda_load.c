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

struct load {
    unsigned char *out;
    const unsigned char *in;
    size_t width; // bytes of one of them in `in`
    size_t wide;  // and in `out`
    bool converts;
    enum dtype dtype; // of `in`, where it converts
};

static int load_piece(struct cuda_device *cuda, const struct load *load, size_t count, struct error *err) {
    struct cuda_loader *loader = &cuda->loader;
    size_t slot = loader->pieces % CUDA_LOAD_SLOTS;
    unsigned char *pinned = loader->ring + slot * CUDA_LOAD_BYTES;
    if (loader->pieces >= CUDA_LOAD_SLOTS) {
        TRY(cuda_queue_check(cuda, cudaEventSynchronize(loader->copied[slot]), "loading weights", err));
    }
    loader->pieces++;
    fill(pinned, load->in, count * load->width, loader->threads);
    cudaError_t result = cudaMemcpyAsync(load->converts ? loader->landing : load->out, pinned,
                                         count * load->width, cudaMemcpyHostToDevice, loader->stream);
    loader->pending = true;
    if (result == cudaSuccess) {
        result = cudaEventRecord(loader->copied[slot], loader->stream);
    }
    if (load->converts && result == cudaSuccess) {
        result =
            launch_convert(loader->stream, load->out, cuda->base.dtype, loader->landing, load->dtype, count);
    }
    return cuda_queue_check(cuda, result, load->converts ? "converting weights" : "loading weights", err);
}

static int load_all(struct cuda_device *cuda, struct load load, size_t count, struct error *err) {
    TRY(catch_up(cuda, err));
    while (count > 0) {
        size_t piece = size_min(count, CUDA_LOAD_BYTES / load.width);
        TRY(load_piece(cuda, &load, piece, err));
        load.in += piece * load.width;
        load.out += piece * load.wide;
        count -= piece;
    }
    return STATUS_OK;
}

static int load_numbers(struct cuda_device *cuda, void *out, size_t offset, size_t count, const void *source,
                        enum dtype dtype, struct error *err) {
    size_t wide = dtype_size(cuda->base.dtype);
    return load_all(cuda,
                    (struct load){.out = (unsigned char *)out + offset * wide,
                                  .in = source,
                                  .width = dtype_size(dtype),
                                  .wide = wide,
                                  .converts = dtype != cuda->base.dtype,
                                  .dtype = dtype},
                    count, err);
}

// ---- the table's functions ----

// Row-major, as in the files: cuBLASLt transposes on the way.
bool cuda_matrix_bytes(const struct device *device, size_t rows, size_t columns, size_t *bytes) {
    return size_mul(rows, columns, bytes) && size_mul(*bytes, dtype_size(device->dtype), bytes);
}

int cuda_matrix_load(struct device *device, struct device_matrix *matrix, size_t row, size_t count,
                     const void *source, enum dtype source_dtype, struct error *err) {
    return load_numbers(cuda_of(device), matrix->data, row * matrix->columns, count * matrix->columns, source,
                        source_dtype, err);
}

int cuda_vector_load(struct device *device, void *out, size_t offset, size_t count, const void *source,
                     enum dtype source_dtype, struct error *err) {
    return load_numbers(cuda_of(device), out, offset, count, source, source_dtype, err);
}

int cuda_weights_copy(struct device *device, void *out, const void *source, size_t bytes, struct error *err) {
    return load_all(cuda_of(device), (struct load){.out = out, .in = source, .width = 1, .wide = 1}, bytes,
                    err);
}
