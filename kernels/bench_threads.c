// The part of the benchmark that opens devices of its own: how a block scales with threads.
#include <math.h>
#include <string.h>

#include "kernels/bench_private.h"

enum {
    SCALING_TOKENS = 2048, // of the batch that threads are compared with
    SCALING_LENGTH = 300,  // of its texts
    COUNTS = 3,            // of threads that are compared
};

static int open_blocks(const struct bench *bench, int threads, struct device **device,
                       struct bench_blocks *blocks, struct error *err) {
    struct device_options options = bench->opened;
    options.threads = threads;
    int status = device_open(device, "cpu", &options, err);
    status = status == STATUS_OK
                 ? bench_blocks_open(blocks, *device, bench->options.shape, 1, 1, SCALING_TOKENS, false, err)
                 : status;
    return status == STATUS_OK ? bench_blocks_batch(blocks, SCALING_TOKENS, SCALING_LENGTH, err) : status;
}

static int time_block(struct bench_blocks *blocks, double *best, struct error *err) {
    double seconds[STEPS] = {0};
    double all = 0;
    int status = bench_run_steps(blocks, 0, (1u << STEPS) - 1, seconds, err);
    for (int step = 0; step < STEPS; step++) {
        all += seconds[step];
    }
    *best = fmin(*best, all);
    return status;
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
    for (int i = 0; i < counts && status == STATUS_OK; i++) {
        status = open_blocks(bench, threads[i], &devices[i], &blocks[i], err);
    }
    for (int run = 0; run <= bench->options.repeats && status == STATUS_OK; run++) {
        for (int i = 0; i < counts && status == STATUS_OK; i++) {
            status = time_block(&blocks[i], &best[i], err);
        }
    }
    for (int i = 0; i < counts; i++) {
        bench_blocks_close(&blocks[i]);
        device_close(devices[i]);
    }
    for (int i = 1; i < counts && status == STATUS_OK; i++) {
        print_threads(bench, threads[i], best[0] / best[i]);
    }
    return status;
}
