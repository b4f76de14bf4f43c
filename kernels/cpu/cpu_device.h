// SPDX-License-Identifier: MIT
// The CPU as a device: its threads, its path, its arenas. device.h documents the operations.
#ifndef STRATA_KERNELS_CPU_CPU_DEVICE_H
#define STRATA_KERNELS_CPU_CPU_DEVICE_H

#include "base/memory.h"
#include "kernels/back_end.h"
#include "kernels/cpu/micro_kernels.h"
#include "kernels/cpu/nodes.h"
#include "kernels/cpu/team.h"
#include "kernels/weight_format.h"

// Part of a run's identity: raise it with every change that may change a bit of a result on any path.
enum { CPU_KERNELS_VERSION = 1 };

enum { CPU_FENCES = 64 }; // fences that can be waited for at a time

struct tile_blocks {    // tile_matmul.c
    size_t steps;       // of 32 depths: a panel's part that stays in the first-level cache
    size_t chunk_bytes; // of packed tokens that stay in the second-level cache
};

struct cpu_device {
    struct device base;
    const struct cpu_path *path;
    const struct micro_kernels *kernels; // of the path, for the computation dtype
    int threads;
    struct cpu_team *team; // of so many
    size_t level2;         // bytes of the second-level cache; 0: not known
    bool far_level3;       // cpu_features
    struct cpu_nodes nodes;
    struct tile_blocks tile_blocks; // where kernels->tiles are
    char reason[256];
    struct arena arenas[DEVICE_PURPOSES];
    unsigned char *thread_scratch; // [threads, cpu_thread_scratch]
    struct device_times since_fence;
    double worked; // at the last fence, of all threads
    uint64_t fences;
    struct {
        uint64_t number;
        struct device_times times;
    } ring[CPU_FENCES];
};

// `why` is what the description's reason begins with.
int cpu_device_open(struct device **out, const struct device_options *options, const char *why,
                    struct error *err);

// ---- features.c ----

struct cpu_features { // what computing paths need, each with the state that the system saves for it
    bool avx2;        // and FMA, F16C
    bool avx512;      // F, BW, DQ, VL
    bool avx512bf16;
    bool slow_bf16;    // and its vdpbf16ps is slower than float32 multiply-adds
    bool far_level3;   // its third-level cache is far slower than the second: Intel's
    bool amx_bf16;     // the processor has AMX-TILE and AMX-BF16
    bool tiles_saved;  // and the system saves tiles
    int tiles_refused; // errno of the kernel's refusal to let this process use them; 0: it may
};

// Whether vdpbf16ps runs at half the rate of float32 multiply-adds: Intel's cores from Sapphire Rapids on,
// also where a virtual machine hides their AMX. signature: leaf 1's EAX.
bool cpu_kind_has_slow_bf16(const char vendor[12], unsigned signature);

// Of this processor. Asks the kernel for the use of tiles where there are any.
struct cpu_features cpu_features(void);

// ---- paths.c ----

// The path for a dtype: the forced one, or the preferred one among those that a processor with these features
// has: a pure function. STATUS_DEVICE when the forced one is unknown or missing. why: filled with the reason.
int cpu_path_pick(const struct cpu_path **out, const struct cpu_features *features, enum dtype dtype,
                  const char *forced, char *why, size_t why_size, struct error *err);

// ---- gemm_load.c ----

bool cpu_matrix_bytes(const struct device *device, size_t rows, size_t columns, size_t *bytes);
void cpu_place(struct device *device, void *data, size_t bytes);
int cpu_matrix_load(struct device *device, struct device_matrix *matrix, size_t row,
                    const struct weight_view *view, struct error *err);
int cpu_weights_copy(struct device *device, void *out, const void *source, size_t bytes, struct error *err);

struct cpu_load { // rows [row, row + count) of a matrix
    struct device_matrix *matrix;
    size_t row;
    size_t count;
    const struct weight_view *source;
    size_t first;              // its row that is row `row` of the matrix
    size_t threads;            // that pack
    enum cpu_team_order order; // in which they share panels
};

// ---- gemm.c ----

size_t cpu_matmul_scratch(void); // bytes a thread

// ---- route.c ----

size_t cpu_route_scratch(void); // bytes a thread

// ---- cpu_device.c ----

size_t cpu_thread_scratch(const struct cpu_device *cpu); // bytes a thread has, for the largest of these

// ---- the operations: gemm_load.c, gemm.c, attention.c, keep.c; of rows: rows.c, norms.c, pool.c ----

#define DECLARATION(type, name, arguments) type cpu_##name arguments;
BACK_END_OPERATIONS(DECLARATION)
#undef DECLARATION

// ---- shared ----

static inline struct cpu_device *cpu_of(struct device *device) {
    return (struct cpu_device *)device;
}

static inline const struct cpu_device *cpu_of_const(const struct device *device) {
    return (const struct cpu_device *)device;
}

static inline bool is_plain(const struct weight_view *view, enum dtype dtype) {
    return weight_format_plain(&view->format) && view->format.dtype == dtype;
}

// Threads that pack weights: reading and hashing them takes the others.
static inline int cpu_load_threads(const struct cpu_device *cpu) {
    return (cpu->threads + 3) / 4;
}

// The address of number `i`, and the same for reading.
static inline void *number_in(void *numbers, size_t i, enum dtype dtype) {
    return (unsigned char *)numbers + i * dtype_size(dtype);
}

static inline const void *number_of(const void *numbers, size_t i, enum dtype dtype) {
    return (const unsigned char *)numbers + i * dtype_size(dtype);
}

// Of `count` things the part [first, end) that thread number `thread` of `threads` owns.
struct share {
    size_t first;
    size_t end;
};

static inline struct share share_of(size_t count, size_t threads, size_t thread) {
    size_t each = count / threads;
    size_t more = count % threads; // the first so many have one more
    size_t first = thread * each + (thread < more ? thread : more);
    return (struct share){first, first + each + (thread < more)};
}

static inline size_t round_up(size_t value, size_t unit) {
    return (value + unit - 1) / unit * unit;
}

#endif
