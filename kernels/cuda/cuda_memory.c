// SPDX-License-Identifier: MIT
// One cudaMalloc or cudaMallocHost an arena, and where a pointer lies, as the driver says.

#include "base/memory.h"
#include "base/size.h"
#include "kernels/cuda/cuda_device.h"

static size_t tiles_bytes(size_t tokens) {
    return attention_tiles_most(tokens) * sizeof(struct attention_tile);
}

int cuda_plan_loading(const struct device *device, struct device_plan *plan, struct error *err) {
    (void)device;
    TRY(device_plan_add(plan, DEVICE_SCRATCH, CUDA_LOAD_BYTES, err));
    return device_plan_add(plan, DEVICE_STAGING, (size_t)CUDA_LOAD_SLOTS * CUDA_LOAD_BYTES, err);
}

// What the driver takes later is not in the plan: a kernel of cuBLASLt is loaded when it is first run, which
// tuning does, after the plan was checked. That is for the reserve (memory_reserve_gb) to cover; without one,
// an algorithm whose kernel finds no room does not run and is passed over.
int cuda_plan_own(const struct device *device, struct device_plan *plan, struct error *err) {
    if (plan->tokens == 0 || plan->tokens > INT32_MAX) {
        return error_set(err, STATUS_INTERNAL, "a plan for %zu tokens a batch", plan->tokens);
    }
    TRY(device_plan_add(plan, DEVICE_SCRATCH, tiles_bytes(plan->tokens), err));
    TRY(device_plan_add(plan, DEVICE_SCRATCH, CUDA_WORKSPACE_BYTES, err));
    return cuda_plan_loading(device, plan, err);
}

void cuda_memory(const struct device *device, uint64_t *total, uint64_t *available) {
    size_t all = 0;
    size_t left = 0;
    if (cudaSetDevice(cuda_of_const(device)->index) != cudaSuccess ||
        cudaMemGetInfo(&left, &all) != cudaSuccess) {
        (void)cudaGetLastError();
        left = all = 0; // nothing fits then, and the next call that may fail says why
    }
    *total = all;
    *available = left;
}

// Left as it comes: rows of a matmul that no token fills are computed, but nobody reads them.
static int device_arena(struct cuda_device *cuda, size_t bytes, void **base, struct error *err) {
    int status = cuda_queue_check(cuda, cudaMalloc(base, bytes), "cudaMalloc", err);
    if (status != STATUS_OK) {
        *base = NULL;
    }
    return status;
}

static int host_arena(struct cuda_device *cuda, size_t bytes, void **base, struct error *err) {
    int status = cuda_queue_check(cuda, cudaMallocHost(base, bytes), "cudaMallocHost", err);
    if (status != STATUS_OK) {
        *base = NULL;
    }
    return status;
}

int cuda_arena(struct device *device, enum device_purpose purpose, size_t bytes, void **base,
               struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    *base = NULL;
    if (bytes == 0) {
        return STATUS_OK;
    }
    int status;
    TRY_TO(done, status = cuda_queue_check(cuda, cudaSetDevice(cuda->index), "cudaSetDevice", err));
    TRY_TO(done, status = purpose == DEVICE_STAGING ? host_arena(cuda, bytes, base, err)
                                                    : device_arena(cuda, bytes, base, err));
    cuda->arenas[cuda->arena_count++] = (struct cuda_arena){purpose, *base};
done:
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "%zu bytes", bytes);
}

int cuda_prepare_loading(struct device *device, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    void *ring = NULL;
    TRY(device_take(device, DEVICE_SCRATCH, CUDA_LOAD_BYTES, &cuda->loader.landing, err));
    TRY(device_take(device, DEVICE_STAGING, (size_t)CUDA_LOAD_SLOTS * CUDA_LOAD_BYTES, &ring, err));
    cuda->loader.ring = ring;
    return STATUS_OK;
}

int cuda_prepare(struct device *device, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    void *tiles = NULL;
    void *starts = NULL;
    void *origins = NULL;
    TRY(device_take(device, DEVICE_SCRATCH, tiles_bytes(device->tokens), &tiles, err));
    TRY(device_take(device, DEVICE_SCRATCH, CUDA_WORKSPACE_BYTES, &cuda->workspace, err));
    if (cuda->loader.ring == NULL) {
        TRY(cuda_prepare_loading(device, err));
    }
    TRY(memory_zeroed(&starts, device->tokens + 1, sizeof *cuda->tiles.starts, err));
    cuda->tiles = (struct tile_list){.tiles = tiles, .starts = starts};
    TRY(memory_zeroed(&origins, device->tokens, sizeof *cuda->tiles.origins, err));
    cuda->tiles.origins = origins;
    return STATUS_OK;
}

void cuda_free_arenas(struct cuda_device *cuda) {
    for (size_t i = 0; i < cuda->arena_count; i++) {
        const struct cuda_arena *arena = &cuda->arenas[i];
        (void)(arena->purpose == DEVICE_STAGING ? cudaFreeHost(arena->base) : cudaFree(arena->base));
    }
    cuda->arena_count = 0;
}

// ---- where memory lies ----

static int check_byte(const struct cuda_device *cuda, const unsigned char *byte, const char *which,
                      struct error *err) {
    struct cudaPointerAttributes where;
    TRY(cuda_queue_check(cuda, cudaPointerGetAttributes(&where, byte), "cudaPointerGetAttributes", err));
    switch (where.type) {
    case cudaMemoryTypeDevice:
        return where.device == cuda->index
                   ? STATUS_OK
                   : error_set(err, STATUS_DEVICE, "its %s byte lies on GPU %d, not on GPU %d", which,
                               where.device, cuda->index);
    case cudaMemoryTypeManaged:
        return error_set(
            err, STATUS_DEVICE,
            "its %s byte lies in managed memory, which the driver may move to the host, not on GPU %d", which,
            cuda->index);
    case cudaMemoryTypeHost:
        return error_set(err, STATUS_DEVICE, "its %s byte lies in pinned host memory, not on GPU %d", which,
                         cuda->index);
    default:
        return error_set(err, STATUS_DEVICE, "its %s byte lies in host memory, not on GPU %d", which,
                         cuda->index);
    }
}

int cuda_check_resident(const struct device *device, const void *data, size_t bytes, struct error *err) {
    const struct cuda_device *cuda = cuda_of_const(device);
    const unsigned char *first = data;
    if (bytes == 0) {
        return STATUS_OK;
    }
    TRY(cuda_queue_check(cuda, cudaSetDevice(cuda->index), "cudaSetDevice", err));
    TRY(check_byte(cuda, first, "first", err));
    return check_byte(cuda, first + bytes - 1, "last", err);
}

// ---- the driver's own view ----

uint64_t cuda_process_bytes(const struct device *device) {
    return telemetry_process_bytes(cuda_of_const(device)->telemetry);
}

void cuda_sample(const struct device *device, struct device_sample *out) {
    telemetry_sample(cuda_of_const(device)->telemetry, out);
}
