// SPDX-License-Identifier: MIT
// See benchmark.h. The parts share one device with random blocks (blocks.h); BENCH_THREADS,
// BENCH_EXPANSION and BENCH_FAMILIES need devices of their own.
#include "bench/benchmark.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "bench/parts.h"
#include "kernels/back_end.h"
#include "model/weight_table.h"

// As config.json says it, of one layer.
#define SHAPE(MODEL, HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM)                                        \
    {                                                                                                        \
        .name = (MODEL), .config = {                                                                         \
            .weights = &weight_table_dense,                                                                  \
            .layers = 1,                                                                                     \
            .hidden = (HIDDEN),                                                                              \
            .intermediate = (INTERMEDIATE),                                                                  \
            .heads = (HEADS),                                                                                \
            .kv_heads = (KV_HEADS),                                                                          \
            .head_dim = (HEAD_DIM),                                                                          \
            .norm_epsilon = 1e-6,                                                                            \
            .qk_norm = QK_NORM_HEADS,                                                                        \
            .rope = {.kind = ROPE_PLAIN, .theta = 1e6, .attention_factor = 1},                               \
        }                                                                                                    \
    }

static const struct bench_shape shapes[] = {
    SHAPE("qwen3-0.6b", 1024, 3072, 16, 8, 128), //
    SHAPE("qwen3-8b", 4096, 12288, 32, 8, 128),
    SHAPE("tiny", 64, 192, 4, 2, 16), // for tests: it runs anywhere and says nothing
};

static const struct {
    const char *name;
    unsigned parts;
} part_names[] = {
    {"peaks", BENCH_PEAKS},         {"products", BENCH_MATMULS},  {"small", BENCH_SMALL},
    {"attention", BENCH_ATTENTION}, {"block", BENCH_BLOCK},       {"rows", BENCH_ROWS},
    {"copies", BENCH_COPIES},       {"threads", BENCH_THREADS},   {"sustained", BENCH_SUSTAINED},
    {"expansion", BENCH_EXPANSION}, {"families", BENCH_FAMILIES}, {"all", BENCH_FAMILIES - 1},
};

enum {
    ROW_PARTS = BENCH_ROWS | BENCH_BLOCK | BENCH_ATTENTION,
    COPIES_SHARE = 8,        // of the free memory, for more blocks or sets of buffers
    BLOCKS_MOST = 32,        // where those are more for the caches' sake
    CACHE_BYTES = 256 << 20, // more than most processors' caches hold: weights come from memory
    QUEUED_MOST = 32,        // runs of an operation that are timed together
};

static const double queued_enough = 2e-3; // seconds of an operation together, where operations are queued
static const double long_enough = 5;      // seconds after which a measurement is not repeated

const struct bench_shape *bench_shape_find(const char *name) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (strcmp(shapes[i].name, name) == 0) {
            return &shapes[i];
        }
    }
    return NULL;
}

static unsigned find_part(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof part_names / sizeof part_names[0]; i++) {
        if (strncmp(part_names[i].name, name, length) == 0 && part_names[i].name[length] == 0) {
            return part_names[i].parts;
        }
    }
    return 0;
}

unsigned bench_parts_find(const char *names) {
    unsigned found = 0;
    for (;; names++) {
        size_t length = strcspn(names, ",");
        unsigned part = find_part(names, length);
        if (part == 0) {
            return 0;
        }
        found |= part;
        names += length;
        if (*names == 0) {
            return found;
        }
    }
}

// ---- measuring ----

int bench_run_step(struct bench_blocks *blocks, size_t turn, enum block_step step, int runs, double *seconds,
                   struct error *err) {
    struct device *device = blocks->device;
    struct device_fence fence;
    struct device_times times = {0};
    double started = clock_seconds();
    if (blocks->queues) {
        TRY(device_fence(device, &fence, err));
    }
    for (int i = 0; i < runs; i++) {
        TRY(bench_block_step(blocks, turn + (size_t)i, step, err));
    }
    TRY(device_fence(device, &fence, err));
    TRY(device_wait(device, fence, &times, err));
    *seconds = (blocks->queues ? times.compute_seconds : clock_seconds() - started) / runs;
    return STATUS_OK;
}

int bench_run_steps(struct bench_blocks *blocks, size_t turn, unsigned steps, double seconds[BLOCK_STEPS],
                    struct error *err) {
    for (int step = 0; step < BLOCK_STEPS; step++) {
        double took;
        if ((steps & 1u << step) != 0) {
            TRY(bench_run_step(blocks, turn, (enum block_step)step, 1, &took, err));
            seconds[step] += took;
        }
    }
    return STATUS_OK;
}

int bench_run_in_each(struct bench_blocks *blocks, unsigned steps, double seconds[BLOCK_STEPS],
                      struct error *err) {
    for (size_t turn = 0; turn < blocks->in_turn; turn++) {
        // The last ones count: the first may load kernels.
        memset(seconds, 0, BLOCK_STEPS * sizeof seconds[0]);
        TRY(bench_run_steps(blocks, turn, steps, seconds, err));
    }
    return STATUS_OK;
}

// These steps, each often enough for a queue's fences to weigh nothing: `seconds` says how long each took
// before.
static int run_repeatedly(struct bench *bench, unsigned steps, double seconds[BLOCK_STEPS],
                          struct error *err) {
    for (int step = 0; step < BLOCK_STEPS; step++) {
        double fitting = bench->blocks.queues && seconds[step] > 0 ? queued_enough / seconds[step] : 1;
        int runs = (int)fmax(fmin(fitting, QUEUED_MOST), 1);
        if ((steps & 1u << step) != 0) {
            TRY(bench_run_step(&bench->blocks, bench->turn, (enum block_step)step, runs, &seconds[step],
                               err));
            bench->turn += (size_t)runs;
        }
    }
    return STATUS_OK;
}

// Runs of these steps that are not counted, one a set of buffers, then runs and peaks in turn: on a machine
// whose speed wanders (shared cores, clocks) the two still belong together.
int bench_time_steps(struct bench *bench, unsigned steps, struct bench_times *out, struct error *err) {
    *out = (struct bench_times){0};
    double seconds[BLOCK_STEPS] = {0};
    double started = clock_seconds();
    TRY(bench_report_save(bench, err));
    TRY(bench_run_in_each(&bench->blocks, steps, seconds, err));
    for (int i = 0; i < bench->options.repeats; i++) {
        double peak;
        TRY(bench->device->ops->peak(bench->device, device_dtype(bench->device), &peak, err));
        TRY(run_repeatedly(bench, steps, seconds, err));
        out->peak = fmax(out->peak, peak);
        for (int step = 0; step < BLOCK_STEPS; step++) {
            out->seconds[step] = i == 0 ? seconds[step] : fmin(out->seconds[step], seconds[step]);
        }
        if (clock_seconds() - started > long_enough) {
            break;
        }
    }
    for (int step = 0; step < BLOCK_STEPS; step++) {
        out->all += out->seconds[step];
    }
    return STATUS_OK;
}

// ---- limits ----

static int bench_peaks(struct bench *bench, struct error *err) {
    double f32 = 0;
    double own = 0;
    char name[64];
    const char *peak = bench_peak_name(bench, name, sizeof name);
    for (int i = 0; i < 4 * bench->options.repeats; i++) {
        double rate;
        TRY(bench->device->ops->peak(bench->device, DTYPE_F32, &rate, err));
        f32 = fmax(f32, rate);
        TRY(bench->device->ops->peak(bench->device, device_dtype(bench->device), &rate, err));
        own = fmax(own, rate);
    }
    bench_print(bench, "peak of float32 multiply-adds", f32 * 1e-9, "GFLOP/s", "%s", "");
    bench_print(bench, peak != NULL ? peak : "peak of this device's dtype", own * 1e-9, "GFLOP/s",
                "%8.2f x float32", own / f32);
    return STATUS_OK;
}

static int bench_reading(struct bench *bench, struct error *err) {
    double best = 0;
    if (bench->device->ops->read_rate == NULL) {
        return STATUS_OK;
    }
    for (int i = 0; i < 2 * bench->options.repeats; i++) {
        double rate;
        TRY(bench_read_rate(bench, &rate, err));
        best = fmax(best, rate);
    }
    bench_print(bench, "reading from memory", best * 1e-9, "GB/s", "%s", "");
    return STATUS_OK;
}

// ---- the table ----

static int measure(struct bench *bench, struct error *err) {
    static const struct {
        unsigned part;
        const char *name;
        int (*run)(struct bench *bench, struct error *err);
    } parts[] = {
        {BENCH_PEAKS, "peaks", bench_peaks},
        {BENCH_PEAKS, "peaks", bench_reading},
        {BENCH_MATMULS, "products", bench_matmuls},
        {BENCH_SMALL, "small", bench_small},
        {BENCH_ATTENTION, "attention", bench_attention},
        {BENCH_BLOCK, "block", bench_block},
        {BENCH_ROWS, "rows", bench_rows},
        {BENCH_COPIES, "copies", bench_copies},
        {BENCH_THREADS, "threads", bench_threads},
        {BENCH_SUSTAINED, "sustained", bench_sustained},
        {BENCH_EXPANSION, "expansion", bench_expansion},
        {BENCH_FAMILIES, "families", bench_families},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if ((bench->options.parts & parts[i].part) != 0) {
            bool turns = bench->blocks.queues || parts[i].part == BENCH_ROWS;
            bench->blocks.in_turn = turns ? bench->blocks.sets : 1; // on a CPU the others take long enough
            bench->part = parts[i].name;
            TRY(parts[i].run(bench, err));
            TRY(bench_report_save(bench, err));
        }
    }
    return STATUS_OK;
}

// ---- data beyond the caches ----

// How many of `bytes` it takes to be more than twice what the last cache holds, so that hardly anything of
// one is there when its turn comes again. The copies have a share of the memory that is free.
static size_t count_copies(const struct device_description *about, size_t bytes, size_t whole, size_t most) {
    size_t wanted = 2 * (size_t)about->cache / size_max(bytes, 1) + 1;
    size_t fitting = (size_t)about->memory_free / COPIES_SHARE / size_max(whole, 1);
    return size_max(size_min(size_min(wanted, fitting), most), 1);
}

// So many blocks that weights come from memory: all of them together where reading them is measured, each
// matrix by itself where matmuls of a device that queues are, which are short enough for it to matter.
static size_t count_blocks(const struct bench *bench, const struct device_description *about) {
    const struct model_config *config = &bench->options.shape->config;
    unsigned parts = bench->options.parts;
    size_t one = size_max(bench_block_bytes(bench->device, config), 1);
    if (bench->device->ops->read_rate != NULL && (parts & (BENCH_PEAKS | BENCH_SMALL)) != 0) {
        size_t fitting = (size_t)about->memory_free / COPIES_SHARE;
        size_t beyond = size_max(CACHE_BYTES, size_min(2 * (size_t)about->cache, fitting));
        return (beyond + one - 1) / one;
    }
    size_t smallest = one;
    struct block_matmul matmuls[BLOCK_MATMULS_MOST];
    size_t count = block_matmuls(config, 0, matmuls);
    for (size_t i = 0; i < count; i++) {
        size_t numbers = matmuls[i].rows * matmuls[i].columns;
        smallest = size_min(smallest, numbers * dtype_size(device_dtype(bench->device)));
    }
    bool timed = about->queues && (parts & (BENCH_MATMULS | BENCH_BLOCK)) != 0;
    return timed ? count_copies(about, smallest, one, BLOCKS_MOST) : 1;
}

// So many sets of buffers that what the smallest of the row kernels reads and writes comes from memory.
static int count_sets(const struct bench *bench, const struct device_description *about, size_t *sets,
                      struct error *err) {
    const struct model_config *config = &bench->options.shape->config;
    size_t tokens = bench->options.tokens;
    size_t rotated = (config->heads + config->kv_heads) * config->head_dim; // in place
    size_t columns = size_min(size_min(2 * config->hidden, rotated), 3 * config->intermediate);
    size_t smallest = tokens * columns * dtype_size(device_dtype(bench->device));
    size_t whole;
    TRY(bench_set_bytes(bench->device, config, tokens, &whole, err));
    bool timed = (bench->options.parts & ROW_PARTS) != 0;
    *sets = timed ? count_copies(about, smallest, whole, BENCH_SETS_MOST) : 1;
    return STATUS_OK;
}

static int open_and_measure(struct bench *bench, struct error *err) {
    bool tuned = (bench->options.parts & (BENCH_MATMULS | BENCH_BLOCK | BENCH_SUSTAINED)) != 0;
    struct device_description about;
    device_describe(bench->device, &about);
    size_t blocks = count_blocks(bench, &about);
    size_t sets;
    TRY(count_sets(bench, &about, &sets, err));
    TRY(bench_report_open(bench, blocks, sets, err));
    TRY(bench_blocks_open(&bench->blocks, bench->device, &bench->options.shape->config, blocks, sets,
                          bench->options.tokens, tuned, err));
    device_seal(bench->device);
    TRY(measure(bench, err));
    return bench_report_finish(bench, err);
}

int bench_device(struct device *device, const char *name, const struct device_options *opened,
                 const struct bench_options *options, FILE *out, struct error *err) {
    struct bench bench = {.device = device, .name = name, .opened = *opened, .options = *options, .out = out};
    bench.options.shape = options->shape != NULL ? options->shape : &shapes[0];
    bench.options.parts = options->parts != 0 ? options->parts : bench_parts_find("all");
    bench.options.tokens = options->tokens > 0 ? options->tokens : 8192;
    bench.options.repeats = options->repeats > 0 ? options->repeats : 5;
    bench.options.seconds = options->seconds > 0 ? options->seconds : 5;
    int status = open_and_measure(&bench, err);
    if (status != STATUS_OK) {
        struct error ignored; // the first one counts
        (void)bench_report_save(&bench, &ignored);
    }
    bench_report_close(&bench);
    bench_blocks_close(&bench.blocks);
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "benchmark");
}
