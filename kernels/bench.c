// See bench.h. The parts share one device with random blocks (bench_block.h); BENCH_THREADS needs
// devices of its own (bench_threads.c).
#include "kernels/bench.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/back_end.h"
#include "kernels/bench_private.h"

static const struct bench_shape shapes[] = {
    {"qwen3-0.6b", 1024, 3072, {16, 8, 128}},
    {"qwen3-8b", 4096, 12288, {32, 8, 128}},
    {"tiny", 64, 192, {4, 2, 16}}, // for tests: it runs anywhere and says nothing
};

static const struct {
    const char *name;
    unsigned parts;
} part_names[] = {
    {"peaks", BENCH_PEAKS},         {"products", BENCH_PRODUCTS}, {"small", BENCH_SMALL},
    {"attention", BENCH_ATTENTION}, {"block", BENCH_BLOCK},       {"rows", BENCH_ROWS},
    {"copies", BENCH_COPIES},       {"threads", BENCH_THREADS},   {"sustained", BENCH_SUSTAINED},
    {"all", (1 << 9) - 1},
};

static const size_t text_lengths[] = {300, 2048, 8192};
enum { TEXT_LENGTHS = sizeof text_lengths / sizeof text_lengths[0] };

enum {
    ROW_PARTS = BENCH_ROWS | BENCH_BLOCK | BENCH_ATTENTION,
    COPIES_SHARE = 8,            // of the free memory, for more blocks or sets of buffers
    BLOCKS_MOST = 32,            // where those are more for the caches' sake
    CACHE_BYTES = 256 << 20,     // more than most processors' caches hold: weights come from memory
    LENGTH_IN_BLOCK_MOST = 2048, // of texts in whole blocks
    QUEUED_MOST = 32,            // runs of an operation that are timed together
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

int bench_run_step(struct bench_blocks *blocks, size_t turn, enum bench_step step, int runs, double *seconds,
                   struct error *err) {
    struct device *device = blocks->device;
    struct device_mark mark;
    struct device_times times = {0};
    double started = clock_seconds();
    int status = blocks->queues ? device_mark(device, &mark, err) : STATUS_OK;
    for (int i = 0; i < runs && status == STATUS_OK; i++) {
        status = bench_block_step(blocks, turn + (size_t)i, step, err);
    }
    status = status == STATUS_OK ? device_mark(device, &mark, err) : status;
    status = status == STATUS_OK ? device_wait(device, mark, &times, err) : status;
    *seconds = (blocks->queues ? times.compute_seconds : clock_seconds() - started) / runs;
    return status;
}

int bench_run_steps(struct bench_blocks *blocks, size_t turn, unsigned steps, double seconds[STEPS],
                    struct error *err) {
    int status = STATUS_OK;
    for (int step = 0; step < STEPS && status == STATUS_OK; step++) {
        double took;
        if ((steps & 1u << step) != 0) {
            status = bench_run_step(blocks, turn, (enum bench_step)step, 1, &took, err);
            seconds[step] += status == STATUS_OK ? took : 0;
        }
    }
    return status;
}

int bench_run_in_each(struct bench_blocks *blocks, unsigned steps, double seconds[STEPS], struct error *err) {
    int status = STATUS_OK;
    for (size_t turn = 0; turn < blocks->in_turn && status == STATUS_OK; turn++) {
        memset(seconds, 0, STEPS * sizeof seconds[0]); // the last ones count: the first may load kernels
        status = bench_run_steps(blocks, turn, steps, seconds, err);
    }
    return status;
}

// These steps, each often enough for a queue's marks to weigh nothing: `seconds` says how
// long each took before.
static int run_repeatedly(struct bench *bench, unsigned steps, double seconds[STEPS], struct error *err) {
    int status = STATUS_OK;
    for (int step = 0; step < STEPS && status == STATUS_OK; step++) {
        double fitting = bench->blocks.queues && seconds[step] > 0 ? queued_enough / seconds[step] : 1;
        int runs = (int)fmax(fmin(fitting, QUEUED_MOST), 1);
        if ((steps & 1u << step) != 0) {
            status =
                bench_run_step(&bench->blocks, bench->turn, (enum bench_step)step, runs, &seconds[step], err);
            bench->turn += (size_t)runs;
        }
    }
    return status;
}

// Runs of these steps that are not counted, one a set of buffers, then runs and peaks in turn: on a machine
// whose speed wanders (shared cores, clocks) the two still belong together.
int bench_time_steps(struct bench *bench, unsigned steps, struct bench_times *out, struct error *err) {
    *out = (struct bench_times){0};
    double seconds[STEPS] = {0};
    double started = clock_seconds();
    int status = bench_report_save(bench, err);
    status = status == STATUS_OK ? bench_run_in_each(&bench->blocks, steps, seconds, err) : status;
    for (int i = 0; i < bench->options.repeats && status == STATUS_OK; i++) {
        double peak = 0;
        status = bench->device->ops->peak(bench->device, device_dtype(bench->device), &peak, err);
        status = status == STATUS_OK ? run_repeatedly(bench, steps, seconds, err) : status;
        out->peak = fmax(out->peak, peak);
        for (int step = 0; step < STEPS; step++) {
            out->seconds[step] = i == 0 ? seconds[step] : fmin(out->seconds[step], seconds[step]);
        }
        if (clock_seconds() - started > long_enough) {
            break;
        }
    }
    for (int step = 0; step < STEPS; step++) {
        out->all += out->seconds[step];
    }
    return status;
}

// ---- limits ----

static int bench_peaks(struct bench *bench, struct error *err) {
    double f32 = 0;
    double own = 0;
    char name[64];
    const char *peak = bench_peak_name(bench, name, sizeof name);
    for (int i = 0; i < 4 * bench->options.repeats; i++) {
        double rate;
        int status = bench->device->ops->peak(bench->device, DTYPE_F32, &rate, err);
        f32 = fmax(f32, rate);
        status = status == STATUS_OK
                     ? bench->device->ops->peak(bench->device, device_dtype(bench->device), &rate, err)
                     : status;
        if (status != STATUS_OK) {
            return status;
        }
        own = fmax(own, rate);
    }
    bench_print(bench, "peak of float32 multiply-adds", f32 * 1e-9, "GFLOP/s", "%s", "");
    bench_print(bench, peak != NULL ? peak : "peak of this device's dtype", own * 1e-9, "GFLOP/s",
                "%8.2f x float32", own / f32);
    return STATUS_OK;
}

// ---- attention and whole blocks ----

// One batch of texts of a length; `kernel`: what the line says beside that, or NULL.
static int time_attention(struct bench *bench, size_t length, const char *kernel, struct error *err) {
    struct device_heads heads = bench->blocks.shape.heads;
    struct bench_times times;
    double ignored[STEPS];
    size_t texts = bench->options.tokens / length;
    int status = bench_blocks_batch(&bench->blocks, texts * length, length, err);
    status = status == STATUS_OK
                 ? bench_run_in_each(&bench->blocks, 1u << STEP_NORM | 1u << STEP_QKV | 1u << STEP_ROPE,
                                     ignored, err)
                 : status;
    status = status == STATUS_OK ? bench_time_steps(bench, 1u << STEP_ATTENTION, &times, err) : status;
    if (status != STATUS_OK) {
        return status;
    }
    double pairs = (double)texts * (double)length * ((double)length + 1) / 2; // a query, a key it sees
    char name[96];
    char of[64];
    snprintf(name, sizeof name, "attention, %zu of %zu tokens%s%s", texts, length, kernel == NULL ? "" : ", ",
             kernel == NULL ? "" : kernel);
    bench_print_rate(bench, name, 4.0 * pairs * (double)heads.heads * (double)heads.head_dim, times.all,
                     times.peak, bench_peak_name(bench, of, sizeof of));
    return STATUS_OK;
}

// By the kernel that is taken, and by the other one where there is a choice.
static int bench_attention(struct bench *bench, struct error *err) {
    struct device *device = bench->device;
    const struct device_attention *shape = &bench->blocks.attention;
    int status = STATUS_OK;
    for (int i = 0; i < TEXT_LENGTHS && status == STATUS_OK; i++) {
        size_t length = text_lengths[i];
        if (length > bench->options.tokens) {
            continue;
        }
        status = time_attention(bench, length, NULL, err);
        const char *other =
            device->ops->attention_turn == NULL ? NULL : device->ops->attention_turn(device, shape);
        if (other != NULL) {
            status = status == STATUS_OK ? time_attention(bench, length, other, err) : status;
            device->ops->attention_turn(device, shape);
        }
    }
    return status;
}

static void print_block(struct bench *bench, size_t length, const struct bench_times *times) {
    const double *seconds = times->seconds;
    double norms = seconds[STEP_NORM] + seconds[STEP_MLP_NORM];
    double rest = norms + seconds[STEP_ROPE] + seconds[STEP_ATTENTION] + seconds[STEP_SWIGLU];
    char name[96];
    snprintf(name, sizeof name, "block of %s, texts of %zu", bench->blocks.shape.name, length);
    bench_print(bench, name, (double)bench->blocks.batch / times->all, "tokens/s",
                " attention %.1f %%, norms %.1f %%, rotation %.1f %%, SwiGLU %.1f %%, together %.1f %%",
                100 * seconds[STEP_ATTENTION] / times->all, 100 * norms / times->all,
                100 * seconds[STEP_ROPE] / times->all, 100 * seconds[STEP_SWIGLU] / times->all,
                100 * rest / times->all);
}

static int bench_block(struct bench *bench, struct error *err) {
    for (int i = 0; i < TEXT_LENGTHS && text_lengths[i] <= LENGTH_IN_BLOCK_MOST; i++) {
        struct bench_times times;
        int status = bench_blocks_batch(&bench->blocks, bench->options.tokens, text_lengths[i], err);
        status = status == STATUS_OK ? bench_time_steps(bench, (1u << STEPS) - 1, &times, err) : status;
        if (status != STATUS_OK) {
            return status;
        }
        print_block(bench, text_lengths[i], &times);
    }
    return STATUS_OK;
}

// ---- the table ----

static int bench_reading(struct bench *bench, struct error *err) {
    double best = 0;
    if (bench->device->ops->read_rate == NULL) {
        return STATUS_OK;
    }
    for (int i = 0; i < 2 * bench->options.repeats; i++) {
        double rate;
        int status = bench_read_rate(bench, &rate, err);
        if (status != STATUS_OK) {
            return status;
        }
        best = fmax(best, rate);
    }
    bench_print(bench, "reading from memory", best * 1e-9, "GB/s", "%s", "");
    return STATUS_OK;
}

static int measure(struct bench *bench, struct error *err) {
    static const struct {
        unsigned part;
        const char *name;
        int (*run)(struct bench *bench, struct error *err);
    } parts[] = {
        {BENCH_PEAKS, "peaks", bench_peaks},
        {BENCH_PEAKS, "peaks", bench_reading},
        {BENCH_PRODUCTS, "products", bench_products},
        {BENCH_SMALL, "small", bench_small},
        {BENCH_ATTENTION, "attention", bench_attention},
        {BENCH_BLOCK, "block", bench_block},
        {BENCH_ROWS, "rows", bench_rows},
        {BENCH_COPIES, "copies", bench_copies},
        {BENCH_THREADS, "threads", bench_threads},
        {BENCH_SUSTAINED, "sustained", bench_sustained},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        bench->part = parts[i].name;
        int status = STATUS_OK;
        if ((bench->options.parts & parts[i].part) != 0) {
            bool turns = bench->blocks.queues || parts[i].part == BENCH_ROWS;
            bench->blocks.in_turn = turns ? bench->blocks.sets : 1; // on a CPU the others take long enough
            status = parts[i].run(bench, err);
            status = status == STATUS_OK ? bench_report_save(bench, err) : status;
        }
        if (status != STATUS_OK) {
            return status;
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
// matrix by itself where products of a device that queues are, which are short enough for it to matter.
static size_t count_blocks(const struct bench *bench, const struct device_description *about) {
    const struct bench_shape *shape = bench->options.shape;
    unsigned parts = bench->options.parts;
    size_t one = size_max(bench_block_bytes(bench->device, shape), 1);
    if (bench->device->ops->read_rate != NULL && (parts & (BENCH_PEAKS | BENCH_SMALL)) != 0) {
        size_t fitting = (size_t)about->memory_free / COPIES_SHARE;
        size_t beyond = size_max(CACHE_BYTES, size_min(2 * (size_t)about->cache, fitting));
        return (beyond + one - 1) / one;
    }
    size_t smallest = one;
    for (int m = 0; m < MATRICES; m++) {
        size_t rows;
        size_t columns;
        bench_matrix_size(shape, (enum bench_matrix)m, &rows, &columns);
        smallest = size_min(smallest, rows * columns * dtype_size(device_dtype(bench->device)));
    }
    bool timed = about->queues && (parts & (BENCH_PRODUCTS | BENCH_BLOCK)) != 0;
    return timed ? count_copies(about, smallest, one, BLOCKS_MOST) : 1;
}

// So many sets of buffers that what the smallest of the row kernels reads and writes comes from memory.
static size_t count_sets(const struct bench *bench, const struct device_description *about) {
    const struct bench_shape *shape = bench->options.shape;
    size_t tokens = bench->options.tokens;
    size_t rotated = (shape->heads.heads + shape->heads.kv_heads) * shape->heads.head_dim; // in place
    size_t columns = size_min(size_min(2 * shape->hidden, rotated), 3 * shape->intermediate);
    bool timed = (bench->options.parts & ROW_PARTS) != 0;
    return timed ? count_copies(about, tokens * columns * dtype_size(device_dtype(bench->device)),
                                bench_set_bytes(bench->device, shape, tokens), BENCH_SETS_MOST)
                 : 1;
}

int bench_device(struct device *device, const struct device_options *opened,
                 const struct bench_options *options, FILE *out, struct error *err) {
    struct bench bench = {.device = device, .opened = *opened, .options = *options, .out = out};
    bench.options.shape = options->shape != NULL ? options->shape : &shapes[0];
    bench.options.parts = options->parts != 0 ? options->parts : bench_parts_find("all");
    bench.options.tokens = options->tokens > 0 ? options->tokens : 8192;
    bench.options.repeats = options->repeats > 0 ? options->repeats : 5;
    bench.options.seconds = options->seconds > 0 ? options->seconds : 5;
    bool tuned = (bench.options.parts & (BENCH_PRODUCTS | BENCH_BLOCK | BENCH_SUSTAINED)) != 0;
    struct device_description about;
    device_describe(device, &about);
    size_t blocks = count_blocks(&bench, &about);
    size_t sets = count_sets(&bench, &about);
    int status = bench_report_open(&bench, blocks, sets, err);
    status = status == STATUS_OK ? bench_blocks_open(&bench.blocks, device, bench.options.shape, blocks, sets,
                                                     bench.options.tokens, tuned, err)
                                 : status;
    device_seal(device);
    status = status == STATUS_OK ? measure(&bench, err) : status;
    status = status == STATUS_OK ? bench_report_finish(&bench, err) : status;
    if (status != STATUS_OK) {
        struct error ignored; // the first one counts
        (void)bench_report_save(&bench, &ignored);
    }
    bench_report_close(&bench);
    bench_blocks_close(&bench.blocks);
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "benchmark");
}
