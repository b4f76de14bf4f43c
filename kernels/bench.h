// Rates of a device: what `strata bench` prints. Every figure is put beside a limit measured in the same run,
// so that ratios mean something on any machine.
#ifndef STRATA_KERNELS_BENCH_H
#define STRATA_KERNELS_BENCH_H

#include <stdio.h>

#include "kernels/device.h"

struct bench_shape { // out [tokens, rows] = x [tokens, columns] * W^T
    size_t tokens;
    size_t rows;
    size_t columns;
};

struct bench_options {
    const struct bench_shape *shapes; // products; NULL: those of Qwen3-0.6B at 2048 and 8192 tokens
    size_t shape_count;
    struct device_heads
        heads; // of the attention and rotation; heads 0: 16 query and 8 key/value heads of 128
    const size_t *text_lengths; // texts of attention, each [length] times as many as make `attention_tokens`
    size_t text_length_count;   // NULL and 0: 300, 2048, 8192
    size_t attention_tokens;    // tokens in a batch of attention; 0: 8192
    int repeats;                // the best of so many runs counts; 0: 3
};

// Measures the device (opened, not yet reserved; it is reserved and sealed here) and prints one table to
// `out`: multiply-add peaks, products in GFLOP/s and as a share of the peak of the device's dtype, attention
// in GFLOP/s of causal scores and values and as a share of that peak, and row operations in GB/s.
int bench_device(struct device *device, const struct bench_options *options, FILE *out, struct error *err);

#endif
