// See bench.h. The parts share one device with random blocks (bench_block.h); BENCH_LOAD and BENCH_THREADS
// need devices of their own (bench_devices.c).
#include "kernels/bench.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/bench_private.h"
#include "kernels/device_ops.h"

static const struct bench_shape shapes[] = {
    {"qwen3-0.6b", 1024, 3072, {16, 8, 128}},
    {"qwen3-8b", 4096, 12288, {32, 8, 128}},
};

static const struct {
    const char *name;
    unsigned parts;
} part_names[] = {
    {"peaks", BENCH_PEAKS},         {"products", BENCH_PRODUCTS}, {"small", BENCH_SMALL},
    {"attention", BENCH_ATTENTION}, {"block", BENCH_BLOCK},       {"load", BENCH_LOAD},
    {"threads", BENCH_THREADS},     {"all", (1 << 7) - 1},
};

static const size_t text_lengths[] = {300, 2048, 8192};
enum { TEXT_LENGTHS = sizeof text_lengths / sizeof text_lengths[0] };

enum {
    FEW_TOKENS = 2048,           // the smaller of the batches that products are measured at
    CACHE_BYTES = 256 << 20,     // more than the caches of a processor hold: weights come from memory
    LENGTH_IN_BLOCK_MOST = 2048, // of texts in whole blocks
};

static const double long_enough = 5; // seconds after which a measurement is not repeated

const struct bench_shape *bench_shape_find(const char *name) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (strcmp(shapes[i].name, name) == 0) {
            return &shapes[i];
        }
    }
    return NULL;
}

unsigned bench_part_find(const char *name) {
    for (size_t i = 0; i < sizeof part_names / sizeof part_names[0]; i++) {
        if (strcmp(part_names[i].name, name) == 0) {
            return part_names[i].parts;
        }
    }
    return 0;
}

// ---- measuring ----

int bench_run_steps(struct bench_blocks *blocks, size_t block, unsigned steps, double seconds[STEPS],
                    struct error *err) {
    for (int step = 0; step < STEPS; step++) {
        if ((steps & 1u << step) == 0) {
            continue;
        }
        struct device_mark mark;
        double started = clock_seconds();
        int status = bench_block_step(blocks, block, (enum bench_step)step, err);
        status = status == STATUS_OK ? device_mark(blocks->device, &mark, err) : status;
        status = status == STATUS_OK ? device_wait(blocks->device, mark, NULL, err) : status;
        if (status != STATUS_OK) {
            return status;
        }
        seconds[step] += clock_seconds() - started;
    }
    return STATUS_OK;
}

// One run of these steps of a block that is not counted, then runs and peaks in turn: on a
// machine whose speed wanders (shared cores, clocks) the two still belong together.
static int time_steps(struct bench *bench, unsigned steps, struct bench_times *out, struct error *err) {
    *out = (struct bench_times){0};
    double started = clock_seconds();
    for (int i = -1; i < bench->options.repeats; i++) {
        double seconds[STEPS] = {0};
        double peak = 0;
        int status = STATUS_OK;
        if (i >= 0) {
            status = bench->device->ops->peak(bench->device, device_dtype(bench->device), &peak, err);
        }
        status = status == STATUS_OK ? bench_run_steps(&bench->blocks, 0, steps, seconds, err) : status;
        if (status != STATUS_OK) {
            return status;
        }
        if (i < 0) {
            continue;
        }
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
    return STATUS_OK;
}

static void print_rate(struct bench *bench, const char *name, double operations, double seconds,
                       double peak) {
    double rate = operations / seconds;
    fprintf(bench->out, "%-44s %10.1f GFLOP/s %8.1f %% of %8.1f\n", name, rate * 1e-9, 100 * rate / peak,
            peak * 1e-9);
}

// ---- limits ----

static int bench_peaks(struct bench *bench, struct error *err) {
    double f32 = 0;
    double own = 0;
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
    fprintf(bench->out, "%-44s %10.1f GFLOP/s\n", "peak of float32 multiply-adds", f32 * 1e-9);
    fprintf(bench->out, "%-44s %10.1f GFLOP/s %8.2f x float32\n", "peak of this device's dtype", own * 1e-9,
            own / f32);
    return STATUS_OK;
}

// The rate of reading all packed weights, in bytes a second; 0 where the back end does not measure it.
static int read_rate(struct bench *bench, double *rate, struct error *err) {
    *rate = 0;
    if (bench->device->ops->read_rate == NULL) {
        return STATUS_OK;
    }
    size_t bytes = bench->blocks.count * bench_block_bytes(bench->device, &bench->blocks.shape);
    return bench->device->ops->read_rate(bench->device, bench->blocks.matrices[0].data, bytes, rate, err);
}

// ---- products ----

static int bench_product(struct bench *bench, size_t tokens, enum bench_matrix matrix, enum bench_step step,
                         struct error *err) {
    struct bench_times times;
    size_t rows;
    size_t columns;
    bench_matrix_size(&bench->blocks.shape, matrix, &rows, &columns);
    int status = time_steps(bench, 1u << step, &times, err);
    if (status == STATUS_OK) {
        char name[96];
        snprintf(name, sizeof name, "matmul, %zu tokens, %zu x %zu", tokens, rows, columns);
        print_rate(bench, name, 2.0 * (double)tokens * (double)rows * (double)columns, times.all, times.peak);
    }
    return status;
}

static int bench_products(struct bench *bench, struct error *err) {
    static const enum bench_step steps[MATRICES] = {STEP_QKV, STEP_OUT, STEP_GATE_UP, STEP_DOWN};
    for (size_t tokens = size_min(FEW_TOKENS, bench->options.tokens);;
         tokens = size_min(4 * tokens, bench->options.tokens)) {
        int status = bench_blocks_batch(&bench->blocks, tokens, tokens, err);
        for (int m = 0; m < MATRICES && status == STATUS_OK; m++) {
            status = bench_product(bench, tokens, (enum bench_matrix)m, steps[m], err);
        }
        if (status != STATUS_OK || tokens == bench->options.tokens) {
            return status;
        }
    }
}

// All matrices of all blocks in turn, so that weights come from memory, and the reading alone between them:
// what memory gives wanders more than anything else where machines are shared.
static int bench_few_tokens(struct bench *bench, size_t tokens, struct error *err) {
    const unsigned products = 1u << STEP_QKV | 1u << STEP_OUT | 1u << STEP_GATE_UP | 1u << STEP_DOWN;
    double bytes =
        (double)bench->blocks.count * (double)bench_block_bytes(bench->device, &bench->blocks.shape);
    double number = (double)dtype_size(device_dtype(bench->device));
    double reading = 0;
    double peak = 0;
    double best = 0;
    int status = bench_blocks_batch(&bench->blocks, tokens, tokens, err);
    for (int i = 0; i < bench->options.repeats && status == STATUS_OK; i++) {
        double rate = 0;
        double multiply = 0;
        double seconds[STEPS] = {0};
        status = read_rate(bench, &rate, err);
        status = status == STATUS_OK
                     ? bench->device->ops->peak(bench->device, device_dtype(bench->device), &multiply, err)
                     : status;
        for (size_t block = 0; block < bench->blocks.count && status == STATUS_OK; block++) {
            status = bench_run_steps(&bench->blocks, block, products, seconds, err);
        }
        double all = seconds[STEP_QKV] + seconds[STEP_OUT] + seconds[STEP_GATE_UP] + seconds[STEP_DOWN];
        reading = fmax(reading, rate);
        peak = fmax(peak, multiply);
        best = fmax(best, bytes / all);
    }
    if (status == STATUS_OK) {
        char name[96];
        snprintf(name, sizeof name, "all matrices of a block, %zu token%s", tokens, tokens == 1 ? "" : "s");
        fprintf(bench->out, "%-44s %10.2f GB/s    %8.1f %% of %8.2f; multiplying allows %.2f\n", name,
                best * 1e-9, reading > 0 ? 100 * best / reading : NAN, reading * 1e-9,
                peak / (2 * (double)tokens) * number * 1e-9);
    }
    return status;
}

static int bench_small(struct bench *bench, struct error *err) {
    int status = STATUS_OK;
    for (size_t tokens = 1; tokens <= 16 && status == STATUS_OK; tokens *= 2) {
        status = bench_few_tokens(bench, size_min(tokens, bench->options.tokens), err);
    }
    return status;
}

// ---- attention and whole blocks ----

static int bench_attention(struct bench *bench, struct error *err) {
    struct device_heads heads = bench->blocks.shape.heads;
    for (int i = 0; i < TEXT_LENGTHS; i++) {
        size_t length = text_lengths[i];
        size_t texts = bench->options.tokens / length;
        if (texts == 0) {
            continue;
        }
        struct bench_times times;
        double ignored[STEPS];
        int status = bench_blocks_batch(&bench->blocks, texts * length, length, err);
        status = status == STATUS_OK
                     ? bench_run_steps(&bench->blocks, 0, 1u << STEP_NORM | 1u << STEP_QKV | 1u << STEP_ROPE,
                                       ignored, err)
                     : status;
        status = status == STATUS_OK ? time_steps(bench, 1u << STEP_ATTENTION, &times, err) : status;
        if (status != STATUS_OK) {
            return status;
        }
        double pairs = (double)texts * (double)length * ((double)length + 1) / 2; // a query, a key it sees
        char name[96];
        snprintf(name, sizeof name, "attention, %zu of %zu tokens", texts, length);
        print_rate(bench, name, 4.0 * pairs * (double)heads.heads * (double)heads.head_dim, times.all,
                   times.peak);
    }
    return STATUS_OK;
}

static void print_block(struct bench *bench, size_t length, const struct bench_times *times) {
    const double *seconds = times->seconds;
    double norms = seconds[STEP_NORM] + seconds[STEP_MLP_NORM];
    double rest = norms + seconds[STEP_ROPE] + seconds[STEP_ATTENTION] + seconds[STEP_SWIGLU];
    char name[96];
    snprintf(name, sizeof name, "block of %s, texts of %zu", bench->blocks.shape.name, length);
    fprintf(bench->out,
            "%-44s %10.0f tokens/s  attention %.1f %%, norms %.1f %%, rotation %.1f %%, SwiGLU %.1f %%, "
            "together %.1f %%\n",
            name, (double)bench->blocks.batch / times->all, 100 * seconds[STEP_ATTENTION] / times->all,
            100 * norms / times->all, 100 * seconds[STEP_ROPE] / times->all,
            100 * seconds[STEP_SWIGLU] / times->all, 100 * rest / times->all);
}

static int bench_block(struct bench *bench, struct error *err) {
    for (int i = 0; i < TEXT_LENGTHS && text_lengths[i] <= LENGTH_IN_BLOCK_MOST; i++) {
        struct bench_times times;
        int status = bench_blocks_batch(&bench->blocks, bench->options.tokens, text_lengths[i], err);
        status = status == STATUS_OK ? time_steps(bench, (1u << STEPS) - 1, &times, err) : status;
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
    for (int i = 0; i < 2 * bench->options.repeats; i++) {
        double rate;
        int status = read_rate(bench, &rate, err);
        if (status != STATUS_OK) {
            return status;
        }
        best = fmax(best, rate);
    }
    fprintf(bench->out, "%-44s %10.2f GB/s\n", "reading from memory", best * 1e-9);
    return STATUS_OK;
}

static int measure(struct bench *bench, struct error *err) {
    static const struct {
        unsigned part;
        int (*run)(struct bench *bench, struct error *err);
    } parts[] = {
        {BENCH_PEAKS, bench_peaks}, {BENCH_PEAKS, bench_reading},       {BENCH_PRODUCTS, bench_products},
        {BENCH_SMALL, bench_small}, {BENCH_ATTENTION, bench_attention}, {BENCH_BLOCK, bench_block},
        {BENCH_LOAD, bench_load},   {BENCH_THREADS, bench_threads},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        int status = (bench->options.parts & parts[i].part) != 0 ? parts[i].run(bench, err) : STATUS_OK;
        if (status != STATUS_OK) {
            return status;
        }
        fflush(bench->out);
    }
    return STATUS_OK;
}

int bench_device(struct device *device, const struct device_options *opened,
                 const struct bench_options *options, FILE *out, struct error *err) {
    struct bench bench = {.device = device, .opened = *opened, .options = *options, .out = out};
    bench.options.shape = options->shape != NULL ? options->shape : &shapes[0];
    bench.options.parts = options->parts != 0 ? options->parts : bench_part_find("all");
    bench.options.tokens = options->tokens > 0 ? options->tokens : 8192;
    bench.options.repeats = options->repeats > 0 ? options->repeats : 5;
    struct device_description about;
    device_describe(device, &about);
    fprintf(out, "%s, path %s, %d threads, %s, %s\n", about.name, about.path, about.threads,
            dtype_name(device_dtype(device)), bench.options.shape->name);
    size_t one = size_max(bench_block_bytes(device, bench.options.shape), 1);
    size_t count =
        (bench.options.parts & (BENCH_PEAKS | BENCH_SMALL)) != 0 ? (CACHE_BYTES + one - 1) / one : 1;
    int status =
        bench_blocks_open(&bench.blocks, device, bench.options.shape, count, bench.options.tokens, err);
    device_seal(device);
    status = status == STATUS_OK ? measure(&bench, err) : status;
    bench_blocks_close(&bench.blocks);
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "benchmark");
}
