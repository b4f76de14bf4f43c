// SPDX-License-Identifier: MIT
// Opening a GPU, its memory, and what is said when something is not there, too small or broken.
#include "cuda_testing.h"

#include "kernels/cuda/cuda_error.h"

// ---- opening ----

static void no_gpu(struct rig *rig) {
    struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct device_description about;
    REFUSED(device_open(&rig->device, "cuda:0", &options, &rig->error), STATUS_DEVICE, "cudaErrorNoDevice");
    REQUIRE(rig->device == NULL);
    MUST(device_open(&rig->device, "auto", &options, &rig->error));
    device_describe(rig->device, &about);
    REQUIRE(strcmp(about.kind, "cpu") == 0);
    REQUIRE(strstr(about.reason, "auto took the CPU") != NULL);
    REQUIRE(strstr(about.reason, "cudaErrorNoDevice") != NULL);
}

static void old_driver(struct rig *rig) {
    struct device_options options = {.dtype = DTYPE_F32};
    REFUSED(device_open(&rig->device, "cuda", &options, &rig->error), STATUS_DEVICE,
            "the NVIDIA driver is for CUDA 11.8");
}

// A build for another architecture: said when the GPU is opened, and no GPU for auto.
static void other_build(struct rig *rig) {
    struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct device_description about;
    REFUSED(device_open(&rig->device, "cuda:0", &options, &rig->error), STATUS_DEVICE,
            "this program has no code for GPU 0 (Emulated GPU, compute capability 8.6): build it with "
            "-DSTRATA_CUDA_ARCHITECTURES=86-real");
    MUST(device_open(&rig->device, "auto", &options, &rig->error));
    device_describe(rig->device, &about);
    REQUIRE(strstr(about.reason, "auto took the CPU: this program has no code for GPU 0") != NULL);
}

static void other_index(struct rig *rig) {
    struct device_options options = {.dtype = DTYPE_F32};
    REFUSED(device_open(&rig->device, "cuda:3", &options, &rig->error), STATUS_DEVICE, "there is no GPU 3");
}

// A GPU without its library is no reason to go to the CPU unasked.
static void no_library(struct rig *rig) {
    struct device_options options = {.dtype = DTYPE_F32};
    REFUSED(device_open(&rig->device, "cuda:0", &options, &rig->error), STATUS_DEVICE,
            "cuBLASLt could not be loaded");
    REFUSED(device_open(&rig->device, "auto", &options, &rig->error), STATUS_DEVICE,
            "cuBLASLt could not be loaded");
}

static void describe(struct rig *rig) {
    struct device_options options = {.dtype = DTYPE_BF16};
    struct device_description about;
    MUST(device_open(&rig->device, "auto", &options, &rig->error));
    device_describe(rig->device, &about);
    REQUIRE(strcmp(about.kind, "cuda") == 0 && about.queues && about.memory > 0);
    REQUIRE(strncmp(about.path, "sm_", 3) == 0 && strstr(about.identity, about.path) != NULL);
    REQUIRE(strstr(about.identity, "cublasLt 1") != NULL && strstr(about.identity, "kernels=") != NULL);
    REQUIRE(strstr(about.reason, "auto took the first GPU") != NULL);
}

static void no_nvml(struct rig *rig) {
    struct device_description about;
    struct device_sample sample;
    rig_open(rig, DTYPE_BF16);
    device_describe(rig->device, &about);
    REQUIRE(strstr(about.reason, "asked for; ") == about.reason); // and the warning
    device_sample(rig->device, &sample);
    REQUIRE(sample.memory_used == DEVICE_UNKNOWN);
}

static void test_opening(void **state) {
    (void)state;
    in_child("DEVICES=0", no_gpu);
    in_child("DRIVER=11080", old_driver);
    in_child("DEVICES=1", other_index);
    in_child("KERNELS=0", other_build);
    in_child("CUBLASLT=0", no_library);
    in_child("DEVICES=1", describe);
    in_child("NVML=0", no_nvml);
}

// ---- memory ----

static void too_small(struct rig *rig) {
    struct device_plan plan = rig_plan();
    plan.bytes[DEVICE_WEIGHTS] = (size_t)1 << 30;
    rig_open(rig, DTYPE_BF16);
    REFUSED(device_check_fits(rig->device, &plan, &rig->error), STATUS_DEVICE, "weights 1.000 GiB");
    REFUSED(device_reserve(rig->device, &plan, &rig->error), STATUS_DEVICE, "weights 1.000 GiB");
    plan = rig_plan();
    plan.bytes[DEVICE_STAGING] = (size_t)1 << 30; // more than the GPU has: it is the host's
    MUST(device_check_fits(rig->device, &plan, &rig->error));
    plan.bytes[DEVICE_STAGING] = (size_t)1 << 50;
    REFUSED(device_check_fits(rig->device, &plan, &rig->error), STATUS_DEVICE, "host memory: staging");
}

static void malloc_fails(struct rig *rig) {
    struct device_plan plan = rig_plan();
    rig_open(rig, DTYPE_BF16);
    REFUSED(device_reserve(rig->device, &plan, &rig->error), STATUS_DEVICE,
            "activations: 1048576 bytes: GPU 0: cudaMalloc: cudaErrorMemoryAllocation");
}

static void malloc_host_fails(struct rig *rig) {
    struct device_plan plan = rig_plan();
    rig_open(rig, DTYPE_BF16);
    REFUSED(device_reserve(rig->device, &plan, &rig->error), STATUS_DEVICE,
            "cudaMallocHost: cudaErrorMemoryAllocation");
}

static void no_tokens(struct rig *rig) {
    struct device_plan plan = rig_plan();
    plan.tokens = 0;
    rig_open(rig, DTYPE_BF16);
    REFUSED(device_reserve(rig->device, &plan, &rig->error), STATUS_INTERNAL, "0 tokens");
}

static void resident(struct rig *rig) {
    int local = 0;
    rig_open(rig, DTYPE_BF16);
    rig_reserve(rig);
    unsigned char *weights = rig_take(rig, DEVICE_WEIGHTS, RIG_BYTES);
    unsigned char *staging = rig_take(rig, DEVICE_STAGING, 64);
    MUST(device_check_resident(rig->device, weights, RIG_BYTES, &rig->error));
    REFUSED(device_check_resident(rig->device, staging, 64, &rig->error), STATUS_DEVICE, "pinned host");
    REFUSED(device_check_resident(rig->device, &local, sizeof local, &rig->error), STATUS_DEVICE,
            "host memory");
    REFUSED(device_check_resident(rig->device, weights, (size_t)1 << 32, &rig->error), STATUS_DEVICE, "last");
    struct device_residency residency;
    device_residency(rig->device, &residency);
    REQUIRE(residency.planned[DEVICE_WEIGHTS] == RIG_BYTES && residency.taken[DEVICE_WEIGHTS] == RIG_BYTES);
    device_seal(rig->device);
    void *more;
    REFUSED(device_take(rig->device, DEVICE_WEIGHTS, 1, &more, &rig->error), STATUS_INTERNAL,
            "after the start");
}

static void test_memory(void **state) {
    (void)state;
    in_child("MEMORY=2000000000 FREE=1000000000", too_small);
    in_child("FAIL_MALLOC=2", malloc_fails);
    in_child("FAIL_MALLOC_HOST=1", malloc_host_fails);
    in_child("DEVICES=1", no_tokens);
    in_child("DEVICES=1", resident);
}

// ---- faults ----

static int run_rows(struct rig *rig) {
    struct device_fence fence;
    rig_reserve(rig);
    void *x = rig_take(rig, DEVICE_ACTIVATIONS, 4096);
    void *out = rig_take(rig, DEVICE_ACTIVATIONS, 4096);
    void *weight = rig_take(rig, DEVICE_WEIGHTS, 4096);
    int status = device_norm(rig->device, out, x, &(struct device_norm){.epsilon = 1e-6f, .weight = weight},
                             DEVICE_STORE, 4, 64, &rig->error);
    status = status == STATUS_OK ? device_activate(rig->device, x, out, DEVICE_SILU, true, 4, 32, &rig->error)
                                 : status;
    status = status == STATUS_OK ? device_fence(rig->device, &fence, &rig->error) : status;
    return status == STATUS_OK ? device_wait(rig->device, fence, NULL, &rig->error) : status;
}

static void launch_fails(struct rig *rig) {
    rig_open(rig, DTYPE_F32);
    REFUSED(run_rows(rig), STATUS_INTERNAL, "cudaErrorLaunchFailure");
    REQUIRE(strstr(rig->error.message, "noticed after activate was queued") != NULL);
    struct device_fence fence; // and it stays so
    REFUSED(device_fence(rig->device, &fence, &rig->error), STATUS_INTERNAL, "cudaErrorLaunchFailure");
}

static void device_is_lost(struct rig *rig) {
    rig_open(rig, DTYPE_F32);
    rig_reserve(rig);
    void *x = rig_take(rig, DEVICE_ACTIVATIONS, 4096);
    void *weight = rig_take(rig, DEVICE_WEIGHTS, 4096);
    int status = STATUS_OK;
    for (int i = 0; i < 100000 && status == STATUS_OK; i++) {
        struct device_fence fence;
        status = device_norm(rig->device, x, x, &(struct device_norm){.epsilon = 1e-6f, .weight = weight},
                             DEVICE_STORE, 1, 64, &rig->error);
        status = status == STATUS_OK ? device_fence(rig->device, &fence, &rig->error) : status;
        status = status == STATUS_OK ? device_wait(rig->device, fence, NULL, &rig->error) : status;
    }
    REFUSED(status, STATUS_DEVICE, "the driver reports XID 79");
}

// By number: it is newer than CUDA 12.4.
static void contained_fault(struct rig *rig) {
    cudaError_t contained = (cudaError_t)226;
    REQUIRE(cuda_is_late(contained));
    REFUSED(cuda_check(contained, "cudaEventSynchronize", "activate", &rig->error), STATUS_DEVICE,
            "noticed after activate was queued");
}

static void test_faults(void **state) {
    (void)state;
    in_child("DEVICES=1", contained_fault);
    in_child("FAIL_LAUNCH=1 SEED=0", launch_fails);
    in_child("LOSE_DEVICE=4000", device_is_lost);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opening),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
