// SPDX-License-Identifier: MIT
// What the files of the benchmark share (private to this room).
#ifndef STRATA_BENCH_PARTS_H
#define STRATA_BENCH_PARTS_H

#include "base/json.h"
#include "bench/blocks.h"

struct bench {
    struct device *device;
    const char *name; // and options, as the device was opened
    struct device_options opened;
    struct bench_options options; // defaults filled in
    FILE *out;
    struct bench_blocks blocks;
    size_t turn;      // of the next run that is timed
    const char *part; // that runs now
    json_t *report;
    bool report_failed;
    bool report_replaces; // options.json names a file, or nothing yet: it is written aside and renamed
};

struct bench_times {
    double seconds[BLOCK_STEPS]; // of each step's fastest run
    double all;                  // their sum
    double peak; // the greatest, in operations a second, of the peaks measured between the runs
};

// The seconds of one step, of `runs` one after another from this turn on (bench_block_step): by the device's
// clock where it queues.
int bench_run_step(struct bench_blocks *blocks, size_t turn, enum block_step step, int runs, double *seconds,
                   struct error *err);

// Runs these steps (1 << block_step) once, each to its end, and adds up what each took.
int bench_run_steps(struct bench_blocks *blocks, size_t turn, unsigned steps, double seconds[BLOCK_STEPS],
                    struct error *err);

// Runs these steps once in every set of buffers that has its turn: what is measured later finds numbers
// there.
int bench_run_in_each(struct bench_blocks *blocks, unsigned steps, double seconds[BLOCK_STEPS],
                      struct error *err);

// The fastest of options.repeats runs of these steps, in turn.
int bench_time_steps(struct bench *bench, unsigned steps, struct bench_times *out, struct error *err);

// ---- report.c ----

// Prints the device. How many blocks and sets of buffers take turns.
int bench_report_open(struct bench *bench, size_t blocks, size_t sets, struct error *err);
// Writes what is known into the file, when that is one that can be replaced; otherwise only the end is
// written, by bench_report_finish.
int bench_report_save(struct bench *bench, struct error *err);
int bench_report_finish(struct bench *bench, struct error *err);
void bench_report_close(struct bench *bench);

// One line of the table, "what value unit rest", kept for the report. The report owns what is returned; NULL
// when it could not be kept, which bench_report_save says.
__attribute__((format(printf, 5, 6))) json_t *bench_print(struct bench *bench, const char *what, double value,
                                                          const char *unit, const char *format, ...);
void bench_add(json_t *figure, const char *key, double value); // one more number, if it is finite
void bench_add_text(struct bench *bench, const char *key, const char *value); // beside the figures
// As a share of `limit` operations a second. of: what the limit is; NULL: the peak that the table begins
// with.
void bench_print_rate(struct bench *bench, const char *name, double operations, double seconds, double limit,
                      const char *of);
// "peak of mma.sync" where this dtype's peak is that of one instruction among faster ones, otherwise NULL.
const char *bench_peak_name(const struct bench *bench, char *out, size_t size);

// ---- matmuls.c ----

int bench_read_rate(struct bench *bench, double *rate, struct error *err);
int bench_matmuls(struct bench *bench, struct error *err);
int bench_small(struct bench *bench, struct error *err);

// ---- steps.c ----

int bench_attention(struct bench *bench, struct error *err);
int bench_block(struct bench *bench, struct error *err);
int bench_threads(struct bench *bench, struct error *err);
int bench_rows(struct bench *bench, struct error *err);
int bench_copies(struct bench *bench, struct error *err);

// ---- sustained.c ----

int bench_sustained(struct bench *bench, struct error *err);

// ---- families.c ----

int bench_families(struct bench *bench, struct error *err);

// ---- expansion.c ----

int bench_expansion(struct bench *bench, struct error *err);

#endif
