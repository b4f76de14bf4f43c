// SPDX-License-Identifier: MIT
// A block's operations by themselves and together: attention, whole blocks and how they scale with threads,
// in shares of a peak or of a block's time; and what moves bytes, operations on rows and copies.
#include <math.h>
#include <string.h>

#include "base/size.h"
#include "bench/parts.h"
#include "kernels/back_end.h"

enum {
    LENGTH_IN_BLOCK_MOST = 2048, // of texts in whole blocks
    SCALING_TOKENS = 2048,       // of the batch that threads are compared with
    SCALING_LENGTH = 300,        // of its texts
    COUNTS = 3,                  // of threads that are compared
};

static const size_t text_lengths[] = {300, 2048, 8192};
enum { TEXT_LENGTHS = sizeof text_lengths / sizeof text_lengths[0] };

static const unsigned all_steps = (1u << BLOCK_STEPS) - 1;
static const unsigned steps_before_attention = (1u << BLOCK_ATTENTION) - 1;

// ---- attention ----

// One batch of texts of a length; `kernel`: what the line says beside that, or NULL.
static int time_attention(struct bench *bench, size_t length, const char *kernel, struct error *err) {
    struct device_heads heads = block_attention(&bench->blocks.config, 0, length).heads;
    struct bench_times times;
    double ignored[BLOCK_STEPS];
    size_t texts = bench->options.tokens / length;
    TRY(bench_blocks_batch(&bench->blocks, texts * length, length, err));
    TRY(bench_run_in_each(&bench->blocks, steps_before_attention, ignored, err));
    TRY(bench_time_steps(bench, 1u << BLOCK_ATTENTION, &times, err));
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
int bench_attention(struct bench *bench, struct error *err) {
    struct device *device = bench->device;
    const struct device_attention shape = block_attention(&bench->blocks.config, 0, bench->blocks.tokens);
    for (int i = 0; i < TEXT_LENGTHS; i++) {
        size_t length = text_lengths[i];
        if (length > bench->options.tokens) {
            continue;
        }
        TRY(time_attention(bench, length, NULL, err));
        const char *other =
            device->ops->attention_turn == NULL ? NULL : device->ops->attention_turn(device, &shape);
        if (other != NULL) {
            TRY(time_attention(bench, length, other, err));
            device->ops->attention_turn(device, &shape);
        }
    }
    return STATUS_OK;
}

// ---- whole blocks ----

static void print_block(struct bench *bench, size_t length, const struct bench_times *times) {
    const double *seconds = times->seconds;
    double norms = 0;
    double rest = 0; // all that is no matmul
    for (int step = 0; step < BLOCK_STEPS; step++) {
        enum block_kind kind = block_step_kind((enum block_step)step);
        norms += kind == BLOCK_KIND_NORM ? seconds[step] : 0;
        rest += kind == BLOCK_KIND_MATMUL ? 0 : seconds[step];
    }
    char name[96];
    snprintf(name, sizeof name, "block of %s, texts of %zu", bench->options.shape->name, length);
    bench_print(bench, name, (double)bench->blocks.batch / times->all, "tokens/s",
                " attention %.1f %%, norms %.1f %%, rotation %.1f %%, SwiGLU %.1f %%, together %.1f %%",
                100 * seconds[BLOCK_ATTENTION] / times->all, 100 * norms / times->all,
                100 * seconds[BLOCK_ROPE] / times->all, 100 * seconds[BLOCK_ACTIVATION] / times->all,
                100 * rest / times->all);
}

int bench_block(struct bench *bench, struct error *err) {
    for (int i = 0; i < TEXT_LENGTHS && text_lengths[i] <= LENGTH_IN_BLOCK_MOST; i++) {
        struct bench_times times;
        TRY(bench_blocks_batch(&bench->blocks, bench->options.tokens, text_lengths[i], err));
        TRY(bench_time_steps(bench, all_steps, &times, err));
        print_block(bench, text_lengths[i], &times);
    }
    return STATUS_OK;
}

// ---- threads, on devices of their own ----

static int open_blocks(const struct bench *bench, int threads, struct device **device,
                       struct bench_blocks *blocks, struct error *err) {
    struct device_options options = bench->opened;
    options.threads = threads;
    TRY(device_open(device, "cpu", &options, err));
    TRY(bench_blocks_open(blocks, *device, &bench->options.shape->config, 1, 1, SCALING_TOKENS, false, err));
    return bench_blocks_batch(blocks, SCALING_TOKENS, SCALING_LENGTH, err);
}

static int time_block(struct bench_blocks *blocks, double *best, struct error *err) {
    double seconds[BLOCK_STEPS] = {0};
    double all = 0;
    TRY(bench_run_steps(blocks, 0, all_steps, seconds, err));
    for (int step = 0; step < BLOCK_STEPS; step++) {
        all += seconds[step];
    }
    *best = fmin(*best, all);
    return STATUS_OK;
}

static void print_threads(struct bench *bench, int threads, double faster) {
    char name[96];
    snprintf(name, sizeof name, "a block with %d threads against 1", threads);
    bench_print(bench, name, faster, "x", "%8.1f %% of linear", 100 * faster / threads);
}

// A block with one thread, with two and with all, in turn.
int bench_threads(struct bench *bench, struct error *err) {
    struct device_description about;
    device_describe(bench->device, &about);
    if (strcmp(about.kind, "cpu") != 0) {
        return STATUS_OK;
    }
    const int threads[COUNTS] = {1, 2, about.threads};
    int counts = about.threads > 2 ? COUNTS : COUNTS - 1;
    struct device *devices[COUNTS] = {NULL};
    struct bench_blocks blocks[COUNTS] = {{0}};
    double best[COUNTS] = {INFINITY, INFINITY, INFINITY};
    int status = STATUS_OK;
    for (int i = 0; i < counts; i++) {
        TRY_TO(done, status = open_blocks(bench, threads[i], &devices[i], &blocks[i], err));
    }
    for (int run = 0; run <= bench->options.repeats; run++) {
        for (int i = 0; i < counts; i++) {
            TRY_TO(done, status = time_block(&blocks[i], &best[i], err));
        }
    }
    for (int i = 1; i < counts; i++) {
        print_threads(bench, threads[i], best[0] / best[i]);
    }
done:
    for (int i = 0; i < counts; i++) {
        bench_blocks_close(&blocks[i]);
        device_close(devices[i]);
    }
    return status;
}

// ---- rows ----

static int print_step(struct bench *bench, enum block_step step, const char *name, size_t numbers,
                      struct error *err) {
    struct bench_times times;
    TRY(bench_time_steps(bench, 1u << step, &times, err));
    double bytes = (double)(numbers * bench->blocks.batch) * (double)dtype_size(device_dtype(bench->device));
    bench_print(bench, name, bytes / times.all * 1e-9, "GB/s", "%s", "");
    return STATUS_OK;
}

// Bytes that must be read and written, weights and tables of angles left out.
int bench_rows(struct bench *bench, struct error *err) {
    const struct model_config *config = &bench->blocks.config;
    size_t rotated = (config->heads + config->kv_heads) * config->head_dim;
    TRY(bench_blocks_batch(&bench->blocks, bench->options.tokens, bench->options.tokens, err));
    TRY(print_step(bench, BLOCK_ATTENTION_NORM, "RMSNorm", 2 * config->hidden, err));
    TRY(print_step(bench, BLOCK_ROPE, "norm and rotation of heads", 2 * rotated, err));
    return print_step(bench, BLOCK_ACTIVATION, "SwiGLU", 3 * config->intermediate, err);
}

// ---- copies between host and device ----

static int copy(struct bench_blocks *blocks, bool up, double *seconds, struct error *err) {
    struct device *device = blocks->device;
    struct device_fence fence;
    struct device_times times;
    TRY(device_fence(device, &fence, err));
    if (up) {
        TRY(device_upload(device, blocks->copied, blocks->copies, BENCH_COPY, err));
    } else {
        TRY(device_download(device, blocks->copies, blocks->copied, BENCH_COPY, err));
    }
    TRY(device_fence(device, &fence, err));
    TRY(device_wait(device, fence, &times, err));
    *seconds = up ? times.upload_seconds : times.download_seconds;
    return STATUS_OK;
}

// Staging is the device's own memory where nothing is queued: there is nothing to measure.
int bench_copies(struct bench *bench, struct error *err) {
    static const char *const names[] = {"copies, device -> host", "copies, host -> device"};
    for (int up = 1; up >= 0 && bench->blocks.queues; up--) {
        double best = INFINITY;
        for (int i = 0; i <= bench->options.repeats; i++) {
            double seconds;
            TRY(copy(&bench->blocks, up != 0, &seconds, err));
            best = fmin(best, seconds > 0 ? seconds : INFINITY);
        }
        bench_print(bench, names[up], BENCH_COPY / best * 1e-9, "GB/s", "%s", "");
    }
    return STATUS_OK;
}
