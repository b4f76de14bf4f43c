// SPDX-License-Identifier: MIT
// Operations on one row at a time: rows are spread over the threads in pieces, each with one call.
#ifndef STRATA_KERNELS_CPU_ROWS_H
#define STRATA_KERNELS_CPU_ROWS_H

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/team.h"

struct rows { // the first member of an operation's job
    struct cpu_device *cpu;
    size_t count;
    size_t each; // rows of a piece: rows_run's to fill in
};

// The rows of a piece.
struct share rows_of(const struct rows *rows, size_t piece);

// numbers: that a row's work reads and writes. run is called with the job.
void rows_run(struct rows *job, cpu_team_task *run, size_t numbers);

#endif
