// SPDX-License-Identifier: MIT
// Opening a GPU: what must be there, and the reason of what is not, in the driver's words.
#include "kernels/cuda/cuda_device.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum {
    CAPABILITY_LEAST = 80, // bfloat16 matrix instructions, asynchronous copies
    LOAD_THREADS = 8,      // fill a slot of the ring faster than any bus empties it
};

static void cuda_close(struct device *device) {
    struct cuda_device *cuda = cuda_of(device);
    if (cudaSetDevice(cuda->index) == cudaSuccess) {
        (void)cudaDeviceSynchronize();
    }
    telemetry_stop(cuda->telemetry);
    cuda_matmuls_destroy(cuda);
    cublaslt_close(&cuda->lt);
    cuda_loader_destroy(&cuda->loader);
    cuda_queue_destroy(&cuda->queue);
    cuda_free_arenas(cuda);
    free(cuda->tiles.starts);
    free(cuda->tiles.origins);
    free(cuda);
}

// How algorithms are chosen is no part of the identity: a run's ledger names those that it began with.
static void cuda_describe(const struct device *device, struct device_description *out) {
    const struct cuda_device *cuda = cuda_of_const(device);
    snprintf(out->kind, sizeof out->kind, "cuda");
    snprintf(out->name, sizeof out->name, "%s", cuda->name);
    snprintf(out->path, sizeof out->path, "sm_%d", cuda->capability);
    snprintf(out->reason, sizeof out->reason, "%s", cuda->reason);
    snprintf(out->identity, sizeof out->identity,
             "cuda %s, sm_%d, %d multiprocessors, driver %d, cublasLt %zu, kernels=%d", cuda->name,
             cuda->capability, cuda->multiprocessors, cuda->driver, cuda->lt.GetVersion(),
             CUDA_KERNELS_VERSION);
    out->threads = cuda->loader.threads;
    out->queues = true;
    cuda_memory(device, &out->memory, &out->memory_free);
    out->cache = (uint64_t)cuda->cache;
}

const char *cuda_build(void) {
    return STRATA_CUDA_BUILD "; loads cuBLASLt " STRATA_CUBLAS_MAJOR " with a GPU";
}

#define OPERATION(type, name, arguments) .name = cuda_##name,

// clang-format off
static const struct device_ops cuda_ops = {
    .close = cuda_close,
    .describe = cuda_describe,
    .plan_own = cuda_plan_own,
    .plan_loading = cuda_plan_loading,
    .memory = cuda_memory,
    .arena = cuda_arena,
    .prepare_loading = cuda_prepare_loading,
    .prepare = cuda_prepare,
    .check_resident = cuda_check_resident,
    .process_bytes = cuda_process_bytes,
    .sample = cuda_sample,
    .matrix_bytes = cuda_matrix_bytes,
    .matrix_load = cuda_matrix_load,
    .vector_load = cuda_vector_load,
    .weights_copy = cuda_weights_copy,
    .weights_restore = cuda_weights_restore,
    .load_slot = cuda_load_slot,
    .upload = cuda_upload,
    .download = cuda_download,
    .fence = cuda_fence,
    .wait = cuda_wait,
    .reached = cuda_reached,
    .transfer = cuda_transfer,
    .check_matmul = cuda_check_matmul,
    .matmul_tune = cuda_matmul_tune,
    .algorithms = cuda_algorithms,
    .set_algorithms = cuda_set_algorithms,
    .matmul_candidates = cuda_matmul_candidates,
    .attention_turn = cuda_attention_turn,
    .peak = cuda_peak,
    .peak_instruction = "mma.sync", // Hopper and Blackwell have faster ones, which cuBLAS uses
    BACK_END_OPERATIONS(OPERATION)
};
// clang-format on

#undef OPERATION

// ---- what is there ----

// Why there is no driver to ask, or one too old: CUDA has one name for both.
static int refuse_driver(struct error *err) {
    const char *name = cudaGetErrorName(cudaErrorInsufficientDriver);
    int driver = 0;
    int runtime = 0;
    (void)cudaGetLastError();
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        return error_set(err, STATUS_DEVICE, "no NVIDIA driver was found (cudaGetDeviceCount: %s)", name);
    }
    (void)cudaRuntimeGetVersion(&runtime);
    return error_set(
        err, STATUS_DEVICE,
        "the NVIDIA driver is for CUDA %d.%d, this program for %d.%d (cudaGetDeviceCount: %s): get a "
        "newer driver, or build with an older CUDA",
        driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10, name);
}

// The number of GPUs that the driver shows this process; 0 with its reason.
static int count_devices(int *count, struct error *err) {
    *count = 0;
    cudaError_t result = cudaGetDeviceCount(count);
    if (result == cudaSuccess && *count > 0) {
        return STATUS_OK;
    }
    *count = 0;
    return result == cudaErrorInsufficientDriver
               ? refuse_driver(err)
               : cuda_check(result == cudaSuccess ? cudaErrorNoDevice : result, "cudaGetDeviceCount", NULL,
                            err);
}

size_t cuda_gpus(struct error *why) {
    int count;
    return count_devices(&count, why) == STATUS_OK ? (size_t)count : 0;
}

bool cuda_bus_id(int index, char out[CUDA_BUS_ID]) {
    return cudaDeviceGetPCIBusId(out, CUDA_BUS_ID, index) == cudaSuccess;
}

static int read_attribute(int *out, enum cudaDeviceAttr attribute, int index, struct error *err) {
    return cuda_check(cudaDeviceGetAttribute(out, attribute, index), "cudaDeviceGetAttribute", NULL, err);
}

static int read_properties(struct cuda_device *cuda, struct error *err) {
    struct cudaDeviceProp properties;
    int major = 0;
    int minor = 0;
    TRY(cuda_check(cudaGetDeviceProperties(&properties, cuda->index), "cudaGetDeviceProperties", NULL, err));
    snprintf(cuda->name, sizeof cuda->name, "%.*s", (int)sizeof cuda->name - 1, properties.name);
    cuda->attention_pairs = properties.sharedMemPerMultiprocessor >= ATTENTION_PAIRS_SHARED;
    TRY(read_attribute(&major, cudaDevAttrComputeCapabilityMajor, cuda->index, err));
    TRY(read_attribute(&minor, cudaDevAttrComputeCapabilityMinor, cuda->index, err));
    TRY(read_attribute(&cuda->multiprocessors, cudaDevAttrMultiProcessorCount, cuda->index, err));
    TRY(read_attribute(&cuda->cache, cudaDevAttrL2CacheSize, cuda->index, err));
    cuda->capability = 10 * major + minor;
    return cuda_check(cudaDriverGetVersion(&cuda->driver), "cudaDriverGetVersion", NULL, err);
}

// Known here, not at the first kernel, which is behind the load.
static int check_built(struct cuda_device *cuda, bool *there, struct error *err) {
    TRY(cuda_check(cudaSetDevice(cuda->index), "cudaSetDevice", NULL, err));
    cudaError_t result = kernels_built();
    if (result != cudaErrorNoKernelImageForDevice && result != cudaErrorInvalidDeviceFunction &&
        result != cudaErrorUnsupportedPtxVersion) {
        return cuda_check(result, "cudaFuncGetAttributes", NULL, err);
    }
    (void)cudaGetLastError();
    *there = false;
    return error_set(err, STATUS_DEVICE,
                     "this program has no code for GPU %d (%s, compute capability %d.%d): build it with "
                     "-DSTRATA_CUDA_ARCHITECTURES=%d-real or for all (cudaFuncGetAttributes: %s)",
                     cuda->index, cuda->name, cuda->capability / 10, cuda->capability % 10, cuda->capability,
                     cudaGetErrorName(result));
}

// Whether GPU `index` is one that this back end is for.
static int find(struct cuda_device *cuda, bool *there, struct error *err) {
    int count;
    TRY(count_devices(&count, err));
    if (cuda->index >= count) {
        return error_set(err, STATUS_DEVICE, "there is no GPU %d: the driver reports %d", cuda->index, count);
    }
    *there = true; // whatever else fails
    TRY(read_properties(cuda, err));
    *there = cuda->capability >= CAPABILITY_LEAST;
    if (!*there) {
        return error_set(err, STATUS_DEVICE, "GPU %d (%s) has compute capability %d.%d; 8.0 is needed",
                         cuda->index, cuda->name, cuda->capability / 10, cuda->capability % 10);
    }
    return check_built(cuda, there, err);
}

// ---- opening ----

// Which of a machine's cuBLASLts was taken belongs to the description's reason.
static int open_matmuls(struct cuda_device *cuda, struct error *err) {
    char file[300];
    TRY(cublaslt_open(&cuda->lt, err));
    size_t used = strlen(cuda->reason);
    size_t version = cuda->lt.GetVersion();
    library_file(cuda->lt.library, file, sizeof file);
    snprintf(cuda->reason + used, sizeof cuda->reason - used, "; cuBLASLt %zu.%zu.%zu of %s", version / 10000,
             version / 100 % 100, version % 100, file);
    return STATUS_OK;
}

// What will not be known of the GPU is a warning, in the description's reason.
static int open_telemetry(struct cuda_device *cuda, struct error *err) {
    char bus_id[CUDA_BUS_ID];
    char warning[160];
    TRY(cuda_check(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, cuda->index), "cudaDeviceGetPCIBusId", NULL,
                   err));
    TRY(telemetry_start(&cuda->telemetry, bus_id, warning, sizeof warning, err));
    if (warning[0] != 0) {
        size_t used = strlen(cuda->reason);
        snprintf(cuda->reason + used, sizeof cuda->reason - used, "; %s", warning);
    }
    return STATUS_OK;
}

static int open_parts(struct cuda_device *cuda, const struct device_options *options, struct error *err) {
    int threads = options->threads > 0 ? options->threads : omp_get_max_threads();
    TRY(cuda_check(cudaSetDevice(cuda->index), "cudaSetDevice", NULL, err));
    TRY(cuda_queue_open(&cuda->queue, err));
    TRY(cuda_loader_open(&cuda->loader, threads < LOAD_THREADS ? threads : LOAD_THREADS, err));
    TRY(open_matmuls(cuda, err));
    return open_telemetry(cuda, err);
}

int cuda_device_open(struct device **out, int index, const struct device_options *options, const char *why,
                     bool *there, struct error *err) {
    void *memory;
    *out = NULL;
    *there = false;
    TRY(memory_zeroed(&memory, 1, sizeof(struct cuda_device), err));
    struct cuda_device *cuda = memory;
    cuda->base.ops = &cuda_ops;
    cuda->base.dtype = options->dtype;
    cuda->base.staging_is_host = true;
    cuda->base.memory_reserve = options->memory_reserve;
    cuda->base.memory_limit = options->memory_limit;
    cuda->base.device_limit = options->device_limit;
    cuda->index = index;
    snprintf(cuda->reason, sizeof cuda->reason, "%s", why);
    int status = find(cuda, there, err);
    if (status != STATUS_OK) { // nothing was made yet, and CUDA may not even be there
        free(cuda);
        return status;
    }
    status = open_parts(cuda, options, err);
    if (status != STATUS_OK) {
        cuda_close(&cuda->base);
        return error_wrap(err, "GPU %d", index);
    }
    *out = &cuda->base;
    return STATUS_OK;
}
