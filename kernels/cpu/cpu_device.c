// SPDX-License-Identifier: MIT
// The CPU back end's table: opening, arenas, copies and fences. Everything runs when it is called, so that a
// fence is reached as soon as it is made.
#include "kernels/cpu/cpu_device.h"

#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/cpu/limits.h"
#include "kernels/cpu/processors.h"
#include "kernels/cpu/team.h"
#include "kernels/cpu/tile_matmul.h"

static void cpu_close(struct device *device) {
    struct cpu_device *cpu = cpu_of(device);
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        arena_destroy(&cpu->arenas[p]);
    }
    cpu_team_close(cpu->team);
    free(cpu);
}

// "model name : ..." of /proc/cpuinfo, where the system has it.
static void processor_name(char *out, size_t size) {
    snprintf(out, size, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL) {
        return;
    }
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            line[strcspn(line, "\n")] = 0;
            snprintf(out, size, "%s", colon + 1 + (colon[1] == ' '));
            break;
        }
    }
    fclose(file);
}

static void cpu_describe(const struct device *device, struct device_description *out) {
    const struct cpu_device *cpu = cpu_of_const(device);
    snprintf(out->kind, sizeof out->kind, "cpu");
    processor_name(out->name, sizeof out->name);
    snprintf(out->path, sizeof out->path, "%s", cpu->path->name);
    snprintf(out->reason, sizeof out->reason, "%s", cpu->reason);
    snprintf(out->identity, sizeof out->identity, "cpu path=%s kernels=%d", cpu->path->name,
             CPU_KERNELS_VERSION);
    out->threads = cpu->threads;
    limits_memory("", &out->memory, &out->memory_free);
    long level3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
    out->cache = level3 > 0 ? (uint64_t)level3 : 0;
}

// ---- memory ----

size_t cpu_thread_scratch(const struct cpu_device *cpu) {
    size_t matmul = cpu->kernels->tiles != NULL ? cpu_tile_matmul_scratch() : cpu_matmul_scratch();
    return size_max(matmul, cpu_route_scratch());
}

static int cpu_plan_own(const struct device *device, struct device_plan *plan, struct error *err) {
    size_t bytes;
    if (!size_mul(cpu_thread_scratch(cpu_of_const(device)), (size_t)cpu_of_const(device)->threads, &bytes)) {
        return error_set(err, STATUS_INTERNAL, "scratch of %d threads overflows",
                         cpu_of_const(device)->threads);
    }
    return device_plan_add(plan, DEVICE_SCRATCH, bytes, err);
}

static void cpu_memory_of(const struct device *device, uint64_t *total, uint64_t *available) {
    (void)device;
    limits_memory("", total, available);
}

static int cpu_arena(struct device *device, enum device_purpose purpose, size_t bytes, void **base,
                     struct error *err) {
    struct arena *arena = &cpu_of(device)->arenas[purpose];
    int status = arena_create(arena, bytes, err);
    *base = arena->data;
    return status;
}

static int cpu_prepare(struct device *device, struct error *err) {
    struct cpu_device *cpu = cpu_of(device);
    void *scratch;
    TRY(device_take(device, DEVICE_SCRATCH, cpu_thread_scratch(cpu) * (size_t)cpu->threads, &scratch, err));
    cpu->thread_scratch = scratch;
    return STATUS_OK;
}

static int cpu_check_resident(const struct device *device, const void *data, size_t bytes,
                              struct error *err) {
    const unsigned char *begin = data;
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        const struct arena *arena = &cpu_of_const(device)->arenas[p];
        if (begin >= arena->data && bytes <= arena->capacity &&
            begin <= arena->data + (arena->capacity - bytes)) {
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_DEVICE, "%zu bytes lie outside the device's arenas", bytes);
}

static uint64_t cpu_process_bytes(const struct device *device) {
    (void)device;
    return UINT64_MAX;
}

static void cpu_sample(const struct device *device, struct device_sample *out) {
    (void)device;
    (void)out; // what a processor's monitoring says, the run reads from the system itself
}

static int cpu_vector_load(struct device *device, void *out, size_t offset, size_t count, const void *source,
                           enum dtype source_dtype, struct error *err) {
    (void)err;
    dtype_convert(number_in(out, offset, device->dtype), device->dtype, source, source_dtype, count);
    return STATUS_OK;
}

// ---- copies and fences ----

static int cpu_upload(struct device *device, void *out, const void *source, size_t bytes, struct error *err) {
    (void)err;
    double started = clock_seconds();
    memcpy(out, source, bytes);
    cpu_of(device)->since_fence.upload_seconds += clock_seconds() - started;
    return STATUS_OK;
}

static int cpu_download(struct device *device, void *out, const void *source, size_t bytes,
                        struct error *err) {
    (void)err;
    double started = clock_seconds();
    memcpy(out, source, bytes);
    cpu_of(device)->since_fence.download_seconds += clock_seconds() - started;
    return STATUS_OK;
}

static int cpu_fence(struct device *device, struct device_fence *fence, struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    fence->number = ++cpu->fences;
    size_t slot = fence->number % CPU_FENCES;
    double worked = cpu_team_worked(cpu->team);
    cpu->since_fence.worked_seconds = (worked - cpu->worked) / cpu->threads;
    cpu->worked = worked;
    cpu->ring[slot].number = fence->number;
    cpu->ring[slot].times = cpu->since_fence;
    cpu->since_fence = (struct device_times){0};
    return STATUS_OK;
}

static int cpu_wait(struct device *device, struct device_fence fence, struct device_times *times,
                    struct error *err) {
    struct cpu_device *cpu = cpu_of(device);
    size_t slot = fence.number % CPU_FENCES;
    if (fence.number == 0 || cpu->ring[slot].number != fence.number) {
        return error_set(err, STATUS_INTERNAL, "fence %llu was never created or is forgotten",
                         (unsigned long long)fence.number);
    }
    *times = cpu->ring[slot].times;
    return STATUS_OK;
}

static int cpu_reached(struct device *device, struct device_fence fence, bool *reached, struct error *err) {
    struct device_times unread;
    TRY(cpu_wait(device, fence, &unread, err));
    *reached = true;
    return STATUS_OK;
}

static int cpu_transfer(struct device *to, void *out, struct device *from, const void *source, size_t bytes,
                        const struct device_fence *after, struct error *err) {
    (void)to;
    (void)after; // reached when it was made
    return cpu_download(from, out, source, bytes, err);
}

static double cpu_clock(const struct device *device) {
    const struct cpu_device *cpu = cpu_of_const(device);
    return cpu_team_clock(cpu->team) / cpu->threads;
}

// ---- peak ----

struct peak {
    const struct micro_kernels *kernels;
    size_t rounds;
    _Atomic uint64_t *operations;
};

static void peak_of_member(const void *job, size_t piece, size_t member) {
    const struct peak *peak = job;
    float sums[TILE_ROWS_MOST * TILE_COLUMNS_MOST] = {0};
    (void)piece;
    (void)member;
    atomic_fetch_add(peak->operations, (uint64_t)peak->kernels->peak(peak->rounds, sums));
}

static double peak_run(const struct cpu_device *cpu, const struct micro_kernels *kernels, size_t rounds) {
    _Atomic uint64_t operations = 0;
    struct peak peak = {kernels, rounds, &operations};
    double started = clock_seconds();
    cpu_team_run(cpu->team, CPU_TEAM_EACH, (size_t)cpu->threads, peak_of_member, &peak);
    return (double)atomic_load(&operations) / (clock_seconds() - started);
}

static int cpu_peak(struct device *device, enum dtype dtype, double *rate, struct error *err) {
    (void)err;
    const size_t rounds = 1 << 18; // some milliseconds
    const struct cpu_device *cpu = cpu_of(device);
    *rate = peak_run(cpu, cpu_path_kernels(cpu->path, dtype), rounds);
    return STATUS_OK;
}

enum { READ_PIECE = 1 << 20 };

struct reading {
    const struct micro_kernels *kernels;
    const unsigned char *data;
    size_t bytes;
};

static void read_piece(const void *job, size_t piece, size_t member) {
    const struct reading *reading = job;
    size_t at = piece * READ_PIECE;
    float seen = reading->kernels->read(reading->data + at, size_min(READ_PIECE, reading->bytes - at));
    (void)member;
    __asm__ volatile("" ::"g"(&seen) : "memory"); // the reading has a use
}

static int cpu_read_rate(struct device *device, const void *data, size_t bytes, double *rate,
                         struct error *err) {
    (void)err;
    const struct cpu_device *cpu = cpu_of(device);
    struct reading reading = {cpu->kernels, data, bytes};
    double started = clock_seconds();
    cpu_team_run(cpu->team, CPU_TEAM_SHARES, (bytes + READ_PIECE - 1) / READ_PIECE, read_piece, &reading);
    *rate = (double)bytes / (clock_seconds() - started);
    return STATUS_OK;
}

#define OPERATION(type, name, arguments) .name = cpu_##name,

// clang-format off
static const struct device_ops cpu_ops = {
    .close = cpu_close,
    .describe = cpu_describe,
    .plan_own = cpu_plan_own,
    .memory = cpu_memory_of,
    .arena = cpu_arena,
    .prepare = cpu_prepare,
    .check_resident = cpu_check_resident,
    .process_bytes = cpu_process_bytes,
    .sample = cpu_sample,
    .matrix_bytes = cpu_matrix_bytes,
    .place = cpu_place,
    .matrix_load = cpu_matrix_load,
    .vector_load = cpu_vector_load,
    .weights_copy = cpu_weights_copy,
    .weights_restore = cpu_weights_copy,
    .upload = cpu_upload,
    .download = cpu_download,
    .fence = cpu_fence,
    .wait = cpu_wait,
    .reached = cpu_reached,
    .transfer = cpu_transfer,
    .clock = cpu_clock,
    .peak = cpu_peak,
    .read_rate = cpu_read_rate,
    BACK_END_OPERATIONS(OPERATION)
};
// clang-format on

#undef OPERATION

// One a core, but no more than a control group's quota pays for: threads beyond it only stand still together.
// OMP_NUM_THREADS is taken at its word; where OpenMP binds threads, its places are.
static int standard_threads(const cpu_set_t *allowed, char *reason, size_t size) {
    int threads = omp_get_max_threads();
    size_t cores = processors_cores("/sys/devices/system/cpu", allowed);
    double quota = limits_processors("");
    if (getenv("OMP_NUM_THREADS") != NULL) {
        return threads;
    }
    if (omp_get_proc_bind() == omp_proc_bind_false && cores > 0 && cores < (size_t)threads) {
        threads = (int)cores;
        snprintf(reason, size, "; a thread a core");
    }
    if (ceil(quota) < threads) {
        threads = (int)ceil(quota);
        snprintf(reason, size, "; threads by the control group's quota of %.2f processors", quota);
    }
    return threads;
}

int cpu_device_open(struct device **out, const struct device_options *options, const char *why,
                    struct error *err) {
    *out = NULL;
    const struct cpu_path *path;
    char path_reason[200];
    struct cpu_features features = cpu_features();
    TRY(cpu_path_pick(&path, &features, options->dtype, options->cpu_path, path_reason, sizeof path_reason,
                      err));
    void *memory;
    TRY(memory_zeroed(&memory, 1, sizeof(struct cpu_device), err));
    struct cpu_device *cpu = memory;
    cpu->base.ops = &cpu_ops;
    cpu->base.dtype = options->dtype;
    cpu->base.memory_reserve = HOST_RESERVE;
    cpu->base.memory_limit = options->memory_limit;
    cpu->path = path;
    cpu->kernels = cpu_path_kernels(path, options->dtype);
    cpu_set_t allowed;
    size_t processors = 0;
    if (processors_allowed(&allowed)) {
        processors = (size_t)CPU_COUNT(&allowed);
        cpu_nodes_read(&cpu->nodes, "/sys/devices/system/node", &allowed);
    }
    long level2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    cpu->level2 = level2 > 0 ? (size_t)level2 : 0;
    cpu->far_level3 = features.far_level3;
    cpu->tile_blocks = cpu_tile_blocks_here();
    char threads_reason[96] = "";
    cpu->threads = options->threads > 0 ? options->threads
                                        : standard_threads(&allowed, threads_reason, sizeof threads_reason);
    snprintf(cpu->reason, sizeof cpu->reason, "%s; %s", why, path_reason);
    size_t used = strlen(cpu->reason);
    snprintf(cpu->reason + used, sizeof cpu->reason - used, "%s", threads_reason);
    int status = cpu_team_open(&cpu->team, (size_t)cpu->threads, &cpu->nodes, processors, err);
    if (status != STATUS_OK) {
        cpu_close(&cpu->base);
        return status;
    }
    *out = &cpu->base;
    return STATUS_OK;
}
