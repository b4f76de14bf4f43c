// What the files of the benchmark share (private to kernels/).
#ifndef STRATA_KERNELS_BENCH_PRIVATE_H
#define STRATA_KERNELS_BENCH_PRIVATE_H

#include "kernels/bench_block.h"

struct bench {
    struct device *device;
    struct device_options opened;
    struct bench_options options; // defaults filled in
    FILE *out;
    struct bench_blocks blocks;
};

struct bench_times {
    double seconds[STEPS]; // of each step's fastest run
    double all;            // their sum
    double peak;           // the greatest, in operations a second, of the peaks measured between the runs
};

// Runs these steps (1 << bench_step) of one block once, each to its end, and adds up what each took.
int bench_run_steps(struct bench_blocks *blocks, size_t block, unsigned steps, double seconds[STEPS],
                    struct error *err);

// ---- bench_devices.c ----

int bench_load(struct bench *bench, struct error *err);
int bench_threads(struct bench *bench, struct error *err);

#endif
