// SPDX-License-Identifier: MIT
// Uploads and operations in order on one stream, downloads beside them on another, and fences over both.
//
// A download's source must not be overwritten before it was read. Downloads run in order, so one number says
// which of them the compute stream already waits for (`ordered`); an operation whose output meets one of the
// later ones makes the stream wait for that download's end, on the device: the host goes on.
//
// A transfer to another GPU is a download whose end the other's compute stream waits for, and which itself
// waits for the place that it writes to.
//
// Times come from events: one at each turn between uploads, operations and waits for another GPU, two around
// each download. A stream that is idle passes an event when the host records it, so waiting for the host
// between a fence and the next operation counts nowhere; nor do waits for another GPU.
#include "base/clock.h"
#include "kernels/cuda/cuda_device.h"

// ---- faults ----

// Adds the driver's XID code of a fault, which comes a moment after the fault itself. What came before the
// device was last seen at work is not this fault's.
static int add_xid(const struct cuda_device *cuda, int status, struct error *err) {
    enum { LOOKS = 8 };
    int64_t xid = 0;
    for (int i = 0; i < LOOKS && xid == 0; i++) {
        if (i > 0) {
            clock_sleep(0.05);
        }
        xid = telemetry_fresh_xid(cuda->telemetry);
    }
    if (xid <= 0) {
        return status;
    }
    struct error before = *err;
    return error_set(err, device_xid_blames_program(xid) ? status : STATUS_DEVICE,
                     "%.1900s; the driver reports XID %lld", before.message, (long long)xid);
}

int cuda_queue_check(const struct cuda_device *cuda, cudaError_t result, const char *call,
                     struct error *err) {
    if (result == cudaSuccess) {
        return STATUS_OK;
    }
    int status = cuda_check(result, call, cuda->queue.last, err);
    if (cuda_is_late(result)) {
        (void)add_xid(cuda, status, err);
    }
    return error_wrap(err, "GPU %d", cuda->index);
}

// ---- life ----

// Events that are waited for by a thread that sleeps instead of spinning.
static cudaError_t create_event(cudaEvent_t *event, cudaError_t before) {
    return before == cudaSuccess ? cudaEventCreateWithFlags(event, cudaEventBlockingSync) : before;
}

int cuda_queue_open(struct cuda_queue *queue, struct error *err) {
    *queue = (struct cuda_queue){.intervals[1] = {0}};
    cudaError_t result = cudaStreamCreateWithFlags(&queue->compute, cudaStreamNonBlocking);
    if (result == cudaSuccess) {
        result = cudaStreamCreateWithFlags(&queue->copy, cudaStreamNonBlocking);
    }
    if (result != cudaSuccess) {
        return cuda_check(result, "cudaStreamCreateWithFlags", NULL, err);
    }
    for (size_t i = 0; i < CUDA_FENCES; i++) {
        struct cuda_interval *interval = &queue->intervals[i];
        for (size_t s = 0; s < CUDA_SEGMENTS; s++) {
            result = create_event(&interval->segment[s].begin, result);
        }
        result = create_event(&interval->computed, result);
        result = create_event(&interval->copied, result);
    }
    for (size_t i = 0; i < CUDA_DOWNLOADS; i++) {
        result = create_event(&queue->ring[i].begin, result);
        result = create_event(&queue->ring[i].end, result);
    }
    if (result == cudaSuccess) {
        result = cudaEventCreateWithFlags(&queue->ready, cudaEventDisableTiming);
    }
    return cuda_check(result, "cudaEventCreateWithFlags", NULL, err);
}

static void destroy_event(cudaEvent_t event) {
    if (event != NULL) {
        (void)cudaEventDestroy(event);
    }
}

void cuda_queue_destroy(struct cuda_queue *queue) {
    for (size_t i = 0; i < CUDA_FENCES; i++) {
        struct cuda_interval *interval = &queue->intervals[i];
        for (size_t s = 0; s < CUDA_SEGMENTS; s++) {
            destroy_event(interval->segment[s].begin);
        }
        destroy_event(interval->computed);
        destroy_event(interval->copied);
    }
    for (size_t i = 0; i < CUDA_DOWNLOADS; i++) {
        destroy_event(queue->ring[i].begin);
        destroy_event(queue->ring[i].end);
    }
    destroy_event(queue->ready);
    if (queue->compute != NULL) {
        (void)cudaStreamDestroy(queue->compute);
    }
    if (queue->copy != NULL) {
        (void)cudaStreamDestroy(queue->copy);
    }
}

// ---- order ----

// The interval that is being filled: its fence is the next one.
static struct cuda_interval *present(struct cuda_queue *queue) {
    return &queue->intervals[(queue->fences + 1) % CUDA_FENCES];
}

static bool overlaps(const struct cuda_download *download, const unsigned char *out, size_t bytes) {
    return out < download->source + download->bytes && download->source < out + bytes;
}

// Before `stream`, `compute` or one that `compute` is about to wait for, writes to a place of this device.
static int order_after_downloads(struct cuda_device *cuda, cudaStream_t stream, const unsigned char *out,
                                 size_t bytes, struct error *err) {
    struct cuda_queue *queue = &cuda->queue;
    for (uint64_t n = queue->downloads; n > queue->ordered; n--) {
        const struct cuda_download *download = &queue->ring[(n - 1) % CUDA_DOWNLOADS];
        if (overlaps(download, out, bytes)) {
            queue->ordered = n; // downloads run in order: the earlier ones are over then, too
            return cuda_queue_check(cuda, cudaStreamWaitEvent(stream, download->end, 0),
                                    "cudaStreamWaitEvent", err);
        }
    }
    return STATUS_OK;
}

static int turn_to(struct cuda_device *cuda, enum cuda_work work, struct error *err) {
    struct cuda_interval *interval = present(&cuda->queue);
    size_t segments = interval->segments;
    // More turns than are timed count with the last one, which is work.
    if (segments == CUDA_SEGMENTS - (work == CUDA_WAITING) || segments == CUDA_SEGMENTS ||
        (segments > 0 && interval->segment[segments - 1].work == work)) {
        return STATUS_OK;
    }
    interval->segment[segments].work = work;
    interval->segments++;
    return cuda_queue_check(cuda, cudaEventRecord(interval->segment[segments].begin, cuda->queue.compute),
                            "cudaEventRecord", err);
}

int cuda_queue_begin(struct cuda_device *cuda, enum cuda_work work, const char *operation,
                     const struct cuda_use *use, struct error *err) {
    int status;
    TRY_TO(done, status = cuda_queue_check(cuda, cudaSetDevice(cuda->index), "cudaSetDevice", err));
    TRY_TO(done, status = cuda_loader_join(cuda, use, err));
    for (size_t i = 0; i < sizeof use->writes / sizeof use->writes[0]; i++) {
        TRY_TO(done, status = order_after_downloads(cuda, cuda->queue.compute, use->writes[i].data,
                                                    use->writes[i].bytes, err));
    }
    TRY_TO(done, status = turn_to(cuda, work, err));
done:
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "%s", operation);
}

int cuda_queue_end(struct cuda_device *cuda, const char *operation, cudaError_t launched, struct error *err) {
    int status = cuda_queue_check(cuda, launched, operation, err);
    cuda->queue.last = operation;
    return status;
}

// ---- copies ----

int cuda_upload(struct device *device, void *out, const void *source, size_t bytes, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{out, bytes}}};
    TRY(cuda_queue_begin(cuda, CUDA_UPLOADING, "upload", &use, err));
    cudaError_t result = cudaMemcpyAsync(out, source, bytes, cudaMemcpyHostToDevice, cuda->queue.compute);
    return cuda_queue_end(cuda, "upload", result, err);
}

static double seconds_between(cudaEvent_t begin, cudaEvent_t end, cudaError_t *result) {
    float milliseconds = 0;
    if (*result == cudaSuccess) {
        *result = cudaEventElapsedTime(&milliseconds, begin, end);
    }
    return 1e-3 * (double)milliseconds;
}

// A place in the ring for one more download. The one that had it is long over, unless hundreds are in flight.
static int take_download(struct cuda_device *cuda, struct cuda_download **out, struct error *err) {
    struct cuda_queue *queue = &cuda->queue;
    struct cuda_download *download = &queue->ring[queue->downloads % CUDA_DOWNLOADS];
    *out = download;
    if (queue->downloads >= CUDA_DOWNLOADS) {
        struct cuda_interval *interval = &queue->intervals[download->fence % CUDA_FENCES];
        cudaError_t result = cudaEventSynchronize(download->end);
        double seconds = seconds_between(download->begin, download->end, &result);
        if (interval->number == download->fence || queue->fences + 1 == download->fence) {
            interval->download_seconds += seconds;
        }
        uint64_t oldest = queue->downloads - CUDA_DOWNLOADS;
        queue->ordered = queue->ordered > oldest ? queue->ordered : oldest + 1;
        return cuda_queue_check(cuda, result, "cudaEventSynchronize", err);
    }
    return STATUS_OK;
}

// From here on what is put on `copy` comes after everything on `compute`.
static int begin_copy(struct cuda_device *cuda, const void *source, size_t bytes,
                      struct cuda_download **download, struct error *err) {
    struct cuda_queue *queue = &cuda->queue;
    const struct cuda_use use = {.writes = {{source, bytes}}}; // the whole range; `compute` goes first
    TRY(cuda_queue_check(cuda, cudaSetDevice(cuda->index), "cudaSetDevice", err));
    TRY(cuda_loader_join(cuda, &use, err));
    TRY(take_download(cuda, download, err));
    cudaError_t result = cudaEventRecord(queue->ready, queue->compute);
    if (result == cudaSuccess) {
        result = cudaStreamWaitEvent(queue->copy, queue->ready, 0);
    }
    return cuda_queue_check(cuda, result, "waiting for the source", err);
}

// The copy itself, to the host or to another GPU, on `copy`.
static int put_copy(struct cuda_device *cuda, struct cuda_download *download, const struct cuda_device *to,
                    void *out, const void *source, size_t bytes, struct error *err) {
    struct cuda_queue *queue = &cuda->queue;
    cudaError_t result = cudaEventRecord(download->begin, queue->copy);
    if (result == cudaSuccess) {
        result = to == NULL ? cudaMemcpyAsync(out, source, bytes, cudaMemcpyDeviceToHost, queue->copy)
                            : cudaMemcpyPeerAsync(out, to->index, source, cuda->index, bytes, queue->copy);
    }
    if (result == cudaSuccess) {
        result = cudaEventRecord(download->end, queue->copy);
    }
    download->source = source;
    download->bytes = bytes;
    download->fence = queue->fences + 1;
    queue->downloads++;
    return cuda_queue_check(cuda, result, to == NULL ? "download" : "cudaMemcpyPeerAsync", err);
}

int cuda_download(struct device *device, void *out, const void *source, size_t bytes, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct cuda_download *download = NULL;
    if (begin_copy(cuda, source, bytes, &download, err) != STATUS_OK) {
        return error_wrap(err, "download");
    }
    return put_copy(cuda, download, NULL, out, source, bytes, err);
}

// ---- fences ----

int cuda_fence(struct device *device, struct device_fence *fence, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct cuda_queue *queue = &cuda->queue;
    struct cuda_interval *interval = present(queue);
    cudaError_t result = cudaSetDevice(cuda->index);
    if (result == cudaSuccess) {
        result = cudaEventRecord(interval->computed, queue->compute);
    }
    if (result == cudaSuccess) {
        result = cudaEventRecord(interval->copied, queue->copy);
    }
    interval->number = queue->fences + 1;
    interval->end_download = queue->downloads;
    fence->number = interval->number;
    queue->fences++;

    struct cuda_interval *next = present(queue);
    next->number = 0;
    next->segments = 0;
    next->first_download = queue->downloads;
    next->download_seconds = 0;
    return cuda_queue_check(cuda, result, "fence", err);
}

static int interval_times(struct cuda_device *cuda, const struct cuda_interval *interval,
                          struct device_times *times, struct error *err) {
    const struct cuda_queue *queue = &cuda->queue;
    cudaError_t result = cudaSuccess;
    *times = (struct device_times){.download_seconds = interval->download_seconds};
    for (size_t s = 0; s < interval->segments; s++) {
        cudaEvent_t end = s + 1 < interval->segments ? interval->segment[s + 1].begin : interval->computed;
        double seconds = seconds_between(interval->segment[s].begin, end, &result);
        times->upload_seconds += interval->segment[s].work == CUDA_UPLOADING ? seconds : 0;
        times->compute_seconds += interval->segment[s].work == CUDA_COMPUTING ? seconds : 0;
    }
    uint64_t held = queue->downloads > CUDA_DOWNLOADS ? queue->downloads - CUDA_DOWNLOADS : 0;
    for (uint64_t n = interval->first_download > held ? interval->first_download : held;
         n < interval->end_download; n++) {
        const struct cuda_download *download = &queue->ring[n % CUDA_DOWNLOADS];
        times->download_seconds += seconds_between(download->begin, download->end, &result);
    }
    return cuda_queue_check(cuda, result, "cudaEventElapsedTime", err);
}

static int refuse_fence(struct device_fence fence, struct error *err) {
    return error_set(err, STATUS_INTERNAL, "fence %llu was never created or is forgotten",
                     (unsigned long long)fence.number);
}

// The interval that ends with a fence.
static int find_fence(struct cuda_device *cuda, struct device_fence fence, const struct cuda_interval **out,
                      struct error *err) {
    const struct cuda_interval *interval = &cuda->queue.intervals[fence.number % CUDA_FENCES];
    *out = interval;
    return fence.number != 0 && interval->number == fence.number ? STATUS_OK : refuse_fence(fence, err);
}

int cuda_wait(struct device *device, struct device_fence fence, struct device_times *times,
              struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct cuda_queue *queue = &cuda->queue;
    const struct cuda_interval *interval;
    TRY(find_fence(cuda, fence, &interval, err));
    cudaError_t result = cudaSetDevice(cuda->index);
    if (result == cudaSuccess) {
        result = cudaEventSynchronize(interval->computed);
    }
    if (result == cudaSuccess) {
        result = cudaEventSynchronize(interval->copied);
    }
    if (result != cudaSuccess) {
        return cuda_queue_check(cuda, result, "waiting for the device", err);
    }
    telemetry_settled(cuda->telemetry);
    if (queue->ordered < interval->end_download) {
        queue->ordered = interval->end_download;
    }
    return interval_times(cuda, interval, times, err);
}

// Not ready is no error, but what CUDA keeps as its last one, which the next launch would report.
static cudaError_t ask(cudaEvent_t event, bool *reached) {
    cudaError_t result = cudaEventQuery(event);
    *reached = result == cudaSuccess;
    if (result == cudaErrorNotReady) {
        (void)cudaGetLastError();
        return cudaSuccess;
    }
    return result;
}

int cuda_reached(struct device *device, struct device_fence fence, bool *reached, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_interval *interval;
    TRY(find_fence(cuda, fence, &interval, err));
    cudaError_t result = cudaSetDevice(cuda->index);
    if (result == cudaSuccess) {
        result = ask(interval->computed, reached);
    }
    if (result == cudaSuccess && *reached) {
        result = ask(interval->copied, reached);
    }
    return cuda_queue_check(cuda, result, "asking the device", err);
}

// ---- transfers ----

// Copies to a GPU that is a peer take the direct way; the driver stages the others in host memory. All GPUs
// of a process share what was enabled, so another device may have done it.
static int make_peer(struct cuda_device *cuda, const struct cuda_device *peer, struct error *err) {
    int direct = 0;
    uint64_t bit = peer->index < CUDA_PEERS ? UINT64_C(1) << peer->index : 0;
    if (cuda->index == peer->index || (cuda->peers & bit) != 0) {
        return STATUS_OK;
    }
    cuda->peers |= bit;
    cudaError_t result = cudaSetDevice(cuda->index);
    if (result == cudaSuccess) {
        result = cudaDeviceCanAccessPeer(&direct, cuda->index, peer->index);
    }
    if (result == cudaSuccess && direct) {
        result = cudaDeviceEnablePeerAccess(peer->index, 0);
    }
    if (result == cudaErrorPeerAccessAlreadyEnabled || result == cudaErrorTooManyPeers) {
        (void)cudaGetLastError();
        return STATUS_OK;
    }
    return cuda_queue_check(cuda, result, "cudaDeviceEnablePeerAccess", err);
}

// `stream` of another GPU waits; where the fence's events are a later fence's by now, for that one.
static int wait_for_fence(struct cuda_device *cuda, cudaStream_t stream, struct device_fence fence,
                          struct error *err) {
    const struct cuda_interval *interval = &cuda->queue.intervals[fence.number % CUDA_FENCES];
    if (fence.number == 0 || fence.number > cuda->queue.fences) {
        return refuse_fence(fence, err);
    }
    cudaError_t result = cudaStreamWaitEvent(stream, interval->computed, 0);
    if (result == cudaSuccess) {
        result = cudaStreamWaitEvent(stream, interval->copied, 0);
    }
    return cuda_queue_check(cuda, result, "cudaStreamWaitEvent", err);
}

// What is put on `stream`, of another GPU, from now on may write to [out, out + bytes) of this one.
static int clear_place(struct cuda_device *cuda, cudaStream_t stream, void *out, size_t bytes,
                       const struct device_fence *after, struct error *err) {
    const struct cuda_use use = {.writes = {{out, bytes}}};
    cudaError_t result = cudaSetDevice(cuda->index);
    if (cuda->loader.pending && result == cudaSuccess) {
        result = cudaEventRecord(cuda->loader.joined, cuda->loader.stream);
        if (result == cudaSuccess) {
            result = cudaStreamWaitEvent(stream, cuda->loader.joined, 0);
        }
    }
    TRY(cuda_queue_check(cuda, result, "waiting for weights", err));
    TRY(cuda_loader_join(cuda, &use, err));
    if (after != NULL) {
        TRY(wait_for_fence(cuda, stream, *after, err));
    }
    return order_after_downloads(cuda, stream, out, bytes, err);
}

int cuda_transfer(struct device *to_device, void *out, struct device *from_device, const void *source,
                  size_t bytes, const struct device_fence *after, struct error *err) {
    struct cuda_device *to = cuda_of(to_device);
    struct cuda_device *from = cuda_of(from_device);
    struct cuda_download *copy = NULL;
    int status;
    TRY_TO(done, status = make_peer(from, to, err));
    TRY_TO(done, status = clear_place(to, from->queue.copy, out, bytes, after, err));
    TRY_TO(done, status = begin_copy(from, source, bytes, &copy, err));
    TRY_TO(done, status = put_copy(from, copy, to, out, source, bytes, err));
    TRY_TO(done, status = cuda_queue_check(to, cudaSetDevice(to->index), "cudaSetDevice", err));
    TRY_TO(done, status = turn_to(to, CUDA_WAITING, err));
    status = cuda_queue_check(to, cudaStreamWaitEvent(to->queue.compute, copy->end, 0), "cudaStreamWaitEvent",
                              err);
done:
    return status == STATUS_OK ? STATUS_OK
                               : error_wrap(err, "transfer from GPU %d to GPU %d", from->index, to->index);
}

int cuda_queue_finish(struct cuda_device *cuda, struct error *err) {
    return cuda_queue_check(cuda, cudaStreamSynchronize(cuda->queue.compute), "cudaStreamSynchronize", err);
}
