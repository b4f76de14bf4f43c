// SPDX-License-Identifier: MIT
// Rates of a device in running a model's blocks: what `strata bench` prints. Every figure is put beside a
// limit measured in the same run, so that ratios mean something on any machine.
#ifndef STRATA_BENCH_BENCHMARK_H
#define STRATA_BENCH_BENCHMARK_H

#include <stdio.h>

#include "kernels/device.h"
#include "kernels/shapes.h"
#include "model/config.h"

struct bench_shape { // of a model's blocks
    const char *name;
    struct model_config config; // of one layer
};

// "qwen3-0.6b", "qwen3-8b" or "tiny" (for tests); NULL when there is no such shape.
const struct bench_shape *bench_shape_find(const char *name);

enum bench_part {
    BENCH_PEAKS = 1 << 0,     // multiply-adds from registers, reading from memory
    BENCH_MATMULS = 1 << 1,   // each matrix at 2,048 and 8,192 tokens, as a share of the peak; GPU: at 8,192,
                              // as a share of the best algorithm of any kind
    BENCH_SMALL = 1 << 2,     // CPU: all matrices at 1 to 16 tokens, as a share of the bandwidth
    BENCH_ATTENTION = 1 << 3, // texts of 300, 2,048 and 8,192, as a share of the peak (GPU: of mma.sync)
    BENCH_BLOCK = 1 << 4,     // a whole block: what each operation takes of its time
    BENCH_THREADS = 1 << 5,   // CPU: a block with one thread, with two and with all
    BENCH_ROWS = 1 << 6,      // norms, rotation and SwiGLU, in bytes a second
    BENCH_COPIES = 1 << 7,    // GPU: between pinned host memory and the device
    BENCH_SUSTAINED = 1 << 8, // a block's matmuls in turn without a pause: what clocks and power allow for
                              // long
    BENCH_EXPANSION = 1 << 9, // packed weights, a format a line: expanding a block's largest matrix, as a
                              // share of its matmul
    BENCH_FAMILIES = 1 << 10, // a block of each kind of published models, as a share of the peak; experts, as
                              // a share of a dense block's rate; what a delta net takes of its block
};

// The bench_parts of names with commas between them ("products,rows"); "all": every part that is about one
// shape, so all but BENCH_FAMILIES. 0 when there is no such name among them.
unsigned bench_parts_find(const char *names);

struct bench_options {
    const struct bench_shape *shape; // NULL: qwen3-0.6b
    unsigned parts;                  // of bench_part; 0: all
    size_t tokens;                   // of the largest batch; 0: 8,192
    int repeats;      // the best of at most so many runs counts (long ones run less often); 0: 5
    double seconds;   // of BENCH_SUSTAINED; 0: 5
    const char *json; // a file that gets the same figures as one JSON object; NULL: nothing does
};

// Measures the device (opened, not yet reserved; it is reserved and sealed here) and prints one table to
// `out`, each line as soon as it is known. The JSON file is whole at any moment: it holds what was known
// before the measurement that goes on now ("complete": false), so that a run that is cut off leaves what it
// had. `name` and `opened`: as the device was opened, for those parts that open another.
int bench_device(struct device *device, const char *name, const struct device_options *opened,
                 const struct bench_options *options, FILE *out, struct error *err);

#endif
