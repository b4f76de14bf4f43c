// SPDX-License-Identifier: MIT
// Weights from mapped files to their places: several threads copy a piece into a slot of a pinned ring, a
// stream of its own carries it over, and a kernel converts it there where the formats differ. The host waits
// for nothing but a free slot of the ring, so that reading the file, filling slots and the bus overlap.
//
// Order. Outside load slots a load waits for all that `compute` and `copy` have, and all that comes to
// `compute` waits for it: resident weights are loaded before anything computes. A load slot has two events:
// `loaded`, which the next operation that uses the slot waits for, and `released`, which the next load into
// it waits for. The stream itself keeps the loads in order, so that they share the ring and the landing
// place.
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/weight_format.h"

enum { SHARE_BYTES = 512 << 10 }; // that a thread copies: less is not worth waking it

int cuda_loader_open(struct cuda_loader *loader, int threads, struct error *err) {
    *loader = (struct cuda_loader){.threads = threads};
    TRY(cuda_check(cudaStreamCreateWithFlags(&loader->stream, cudaStreamNonBlocking),
                   "cudaStreamCreateWithFlags", NULL, err));
    for (size_t i = 0; i < CUDA_LOAD_SLOTS; i++) {
        TRY(cuda_check(
            cudaEventCreateWithFlags(&loader->copied[i], cudaEventBlockingSync | cudaEventDisableTiming),
            "cudaEventCreateWithFlags", NULL, err));
    }
    return cuda_check(cudaEventCreateWithFlags(&loader->joined, cudaEventDisableTiming),
                      "cudaEventCreateWithFlags", NULL, err);
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
    for (size_t i = 0; i < loader->slot_count; i++) {
        if (loader->slots[i].loaded != NULL) {
            (void)cudaEventDestroy(loader->slots[i].loaded);
        }
        if (loader->slots[i].released != NULL) {
            (void)cudaEventDestroy(loader->slots[i].released);
        }
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

static bool meets(const struct cuda_slot *slot, const void *data, size_t bytes) {
    const unsigned char *begin = data;
    return data != NULL && begin < slot->data + slot->bytes && slot->data < begin + bytes;
}

static bool is_used(const struct cuda_slot *slot, const struct cuda_use *use) {
    for (size_t i = 0; i < sizeof use->writes / sizeof use->writes[0]; i++) {
        if (meets(slot, use->writes[i].data, use->writes[i].bytes)) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof use->reads / sizeof use->reads[0]; i++) {
        if (meets(slot, use->reads[i], 1)) {
            return true;
        }
    }
    return false;
}

static cudaError_t release(struct cuda_device *cuda, struct cuda_slot *slot) {
    slot->used = false;
    slot->busy = true;
    return cudaEventRecord(slot->released, cuda->queue.compute);
}

// A slot that the operation does not use is released in front of it: one event a turn from slot to slot, not
// one an operation.
int cuda_loader_join(struct cuda_device *cuda, const struct cuda_use *use, struct error *err) {
    struct cuda_loader *loader = &cuda->loader;
    cudaError_t result = cudaSuccess;
    if (loader->pending) {
        loader->pending = false;
        result = order(loader, cuda->queue.compute, loader->stream);
    }
    for (size_t i = 0; i < loader->slot_count && result == cudaSuccess; i++) {
        struct cuda_slot *slot = &loader->slots[i];
        bool used = is_used(slot, use);
        if (used && slot->pending) {
            slot->pending = false;
            result = cudaStreamWaitEvent(cuda->queue.compute, slot->loaded, 0);
        } else if (!used && slot->used) {
            result = release(cuda, slot);
        }
        slot->used = used;
    }
    loader->behind = true;
    return cuda_queue_check(cuda, result, "waiting for weights", err);
}

int cuda_loader_lend(struct cuda_device *cuda, struct error *err) {
    struct cuda_loader *loader = &cuda->loader;
    loader->lent = true;
    return cuda_queue_check(cuda, order(loader, cuda->queue.compute, loader->stream), "waiting for weights",
                            err);
}

// Downloads run in order: the last one of those from the slot is over behind the others.
static cudaError_t wait_for_downloads(struct cuda_device *cuda, const struct cuda_slot *slot) {
    const struct cuda_queue *queue = &cuda->queue;
    uint64_t held = queue->downloads > CUDA_DOWNLOADS ? queue->downloads - CUDA_DOWNLOADS : 0;
    for (uint64_t n = queue->downloads; n > held; n--) {
        const struct cuda_download *download = &queue->ring[(n - 1) % CUDA_DOWNLOADS];
        if (meets(slot, download->source, download->bytes)) {
            return cudaStreamWaitEvent(cuda->loader.stream, download->end, 0);
        }
    }
    return cudaSuccess;
}

static cudaError_t wait_for_all(struct cuda_device *cuda) {
    struct cuda_loader *loader = &cuda->loader;
    cudaError_t result = order(loader, loader->stream, cuda->queue.compute);
    return result == cudaSuccess ? order(loader, loader->stream, cuda->queue.copy) : result;
}

static cudaError_t wait_for_slot(struct cuda_device *cuda, struct cuda_slot *slot) {
    cudaError_t result = slot->used ? release(cuda, slot) : cudaSuccess;
    if (slot->busy && result == cudaSuccess) {
        slot->busy = false;
        result = cudaStreamWaitEvent(cuda->loader.stream, slot->released, 0);
    }
    return result == cudaSuccess ? wait_for_downloads(cuda, slot) : result;
}

// The place that is loaded may be read by an operation or a download that was queued before.
static int catch_up(struct cuda_device *cuda, struct cuda_slot *slot, struct error *err) {
    struct cuda_loader *loader = &cuda->loader;
    cudaError_t result = cudaSetDevice(cuda->index);
    if (result == cudaSuccess && (loader->lent || (slot == NULL && loader->behind))) {
        result = wait_for_all(cuda);
        loader->lent = false;
        loader->behind = false;
    }
    if (slot != NULL && result == cudaSuccess) {
        result = wait_for_slot(cuda, slot);
    }
    return cuda_queue_check(cuda, result, "loading", err);
}

// ---- slots ----

static struct cuda_slot *slot_of(struct cuda_loader *loader, const void *data, size_t bytes) {
    for (size_t i = 0; i < loader->slot_count; i++) {
        if (meets(&loader->slots[i], data, bytes)) {
            return &loader->slots[i];
        }
    }
    return NULL;
}

// What was queued before may use the slot: the first load into it waits for all of that.
int cuda_load_slot(struct device *device, const void *data, size_t bytes, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct cuda_loader *loader = &cuda->loader;
    if (loader->slot_count == DEVICE_LOAD_SLOTS) {
        return error_set(err, STATUS_INTERNAL, "more than %d load slots", DEVICE_LOAD_SLOTS);
    }
    if (slot_of(loader, data, bytes) != NULL) {
        return error_set(err, STATUS_INTERNAL, "a load slot of %zu bytes overlaps another", bytes);
    }
    struct cuda_slot *slot = &loader->slots[loader->slot_count];
    *slot = (struct cuda_slot){.data = data, .bytes = bytes, .used = true};
    TRY(cuda_queue_check(cuda, cudaSetDevice(cuda->index), "cudaSetDevice", err));
    loader->slot_count++; // from here on the loader destroys what there is of it
    cudaError_t result = cudaEventCreateWithFlags(&slot->loaded, cudaEventDisableTiming);
    if (result == cudaSuccess) {
        result = cudaEventCreateWithFlags(&slot->released, cudaEventDisableTiming);
    }
    return cuda_queue_check(cuda, result, "cudaEventCreateWithFlags", err);
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

static void read_rows(void *out, enum dtype dtype, const struct weight_view *view, size_t first, size_t count,
                      int threads) {
    size_t bytes = view->columns * dtype_size(dtype);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (size_t i = 0; i < count; i++) {
        weight_read((unsigned char *)out + i * bytes, dtype, view, first + i, 0, view->columns);
    }
}

struct load {
    unsigned char *out;
    const unsigned char *in;
    size_t width; // bytes of one of them in `in`
    size_t wide;  // and in `out`
    bool converts;
    enum dtype dtype; // of `in`, where it converts
    bool stays;       // `in` is pinned memory that does not change: no ring is needed
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
    if (result == cudaSuccess) {
        result = cudaEventRecord(loader->copied[slot], loader->stream);
    }
    if (load->converts && result == cudaSuccess) {
        result =
            launch_convert(loader->stream, load->out, cuda->base.dtype, loader->landing, load->dtype, count);
    }
    return cuda_queue_check(cuda, result, load->converts ? "converting weights" : "loading weights", err);
}

// In one go, from where it lies.
static int load_staying(struct cuda_device *cuda, const struct load *load, size_t count, struct error *err) {
    return cuda_queue_check(cuda,
                            cudaMemcpyAsync(load->out, load->in, count * load->width, cudaMemcpyHostToDevice,
                                            cuda->loader.stream),
                            "loading weights", err);
}

static int load_pieces(struct cuda_device *cuda, struct load load, size_t count, struct error *err) {
    while (count > 0) {
        size_t piece = size_min(count, CUDA_LOAD_BYTES / load.width);
        TRY(load_piece(cuda, &load, piece, err));
        load.in += piece * load.width;
        load.out += piece * load.wide;
        count -= piece;
    }
    return STATUS_OK;
}

static int load_all(struct cuda_device *cuda, struct load load, size_t count, struct error *err) {
    struct cuda_loader *loader = &cuda->loader;
    struct cuda_slot *slot = slot_of(loader, load.out, count * load.wide);
    TRY(catch_up(cuda, slot, err));
    *(slot == NULL ? &loader->pending : &slot->pending) = true;
    TRY(load.stays ? load_staying(cuda, &load, count, err) : load_pieces(cuda, load, count, err));
    return slot == NULL ? STATUS_OK
                        : cuda_queue_check(cuda, cudaEventRecord(slot->loaded, loader->stream),
                                           "loading weights", err);
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

// Plain numbers are converted where they come to lie; others are read on the host, some rows at a time.
int cuda_matrix_load(struct device *device, struct device_matrix *matrix, size_t row,
                     const struct weight_view *view, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    size_t columns = matrix->columns;
    int status = STATUS_OK;
    void *numbers;
    if (weight_format_plain(&view->format)) {
        return load_numbers(cuda, matrix->data, row * columns, view->rows * columns, view->parts[0],
                            view->format.dtype, err);
    }
    size_t step = size_max(1, CUDA_LOAD_BYTES / (columns * dtype_size(device->dtype)));
    TRY(memory_zeroed(&numbers, step, columns * dtype_size(device->dtype), err));
    for (size_t first = 0; first < view->rows; first += step) {
        size_t count = size_min(step, view->rows - first);
        read_rows(numbers, device->dtype, view, first, count, cuda->loader.threads);
        TRY_TO(done, status = load_numbers(cuda, matrix->data, (row + first) * columns, count * columns,
                                           numbers, device->dtype, err));
    }
done:
    free(numbers);
    return status;
}

int cuda_vector_load(struct device *device, void *out, size_t offset, size_t count, const void *source,
                     enum dtype source_dtype, struct error *err) {
    return load_numbers(cuda_of(device), out, offset, count, source, source_dtype, err);
}

int cuda_weights_copy(struct device *device, void *out, const void *source, size_t bytes, struct error *err) {
    return load_all(cuda_of(device), (struct load){.out = out, .in = source, .width = 1, .wide = 1}, bytes,
                    err);
}

int cuda_weights_restore(struct device *device, void *out, const void *source, size_t bytes,
                         struct error *err) {
    return load_all(cuda_of(device),
                    (struct load){.out = out, .in = source, .width = 1, .wide = 1, .stays = true}, bytes,
                    err);
}
