// SPDX-License-Identifier: MIT
// Blocks as the model room runs them (model/block.h), of a made-up configuration with random weights, and a
// batch of texts of one length: what the benchmarks run (private to this room). Everything is device memory,
// so any back end can be measured.
#ifndef STRATA_BENCH_BLOCKS_H
#define STRATA_BENCH_BLOCKS_H

#include "bench/benchmark.h"
#include "model/block.h"

enum {
    BENCH_COPY = 64 << 20, // bytes of a copy that is measured
    BENCH_SETS_MOST = 8,   // of buffers
};

struct bench_blocks {
    struct device *device;
    bool queues;                // calls return before the work is done
    struct model_config config; // of as many layers as there are blocks
    struct model_weights weights;
    struct block_matmul matmuls[BLOCK_MATMULS_MOST]; // of each block
    size_t matmul_count;
    size_t count;   // blocks
    size_t sets;    // of buffers
    size_t in_turn; // sets that steps take turns with: all, or only the first
    size_t tokens;  // most tokens of a batch
    size_t batch;   // tokens of the present batch
    struct device_texts texts;
    struct block_buffers set[BENCH_SETS_MOST];
    void *scratch;
    void *cosine;    // float [tokens, head_dim / 2]
    void *sine;      // as cosine
    void *rope_rows; // int32_t [tokens]
    void *starts;    // int32_t [tokens + 1]
    void *staging;   // int32_t [2 * tokens + 1]: starts, rows of the rotary tables
    void *staged;    // float [2, tokens, head_dim / 2]: cosines and sines on their way
    void *copied;    // BENCH_COPY where copies are queued
    void *copies;    // as much staging
};

// Bytes of one block's matrices as the device packs them.
size_t bench_block_bytes(const struct device *device, const struct model_config *config);

// Bytes of one set of buffers for so many tokens.
int bench_set_bytes(const struct device *device, const struct model_config *config, size_t tokens,
                    size_t *bytes, struct error *err);

// Reserves the device for `count` blocks and batches of at most `tokens` tokens in `sets` sets of buffers,
// and fills them. `tuned`: has the device choose how it computes their matmuls, as a run does. The caller
// closes `blocks` in any case; the device stays the caller's.
int bench_blocks_open(struct bench_blocks *blocks, struct device *device, const struct model_config *config,
                      size_t count, size_t sets, size_t tokens, bool tuned, struct error *err);
// The same of one block, which takes the configuration of one layer over (model_config_block).
int bench_block_open(struct bench_blocks *blocks, struct device *device, struct model_config *config,
                     size_t tokens, bool tuned, struct error *err);
void bench_blocks_close(struct bench_blocks *blocks); // accepts zeros

// The device memory from the first to the last matrix of all blocks; between them lie only vectors.
const void *bench_matrices(const struct bench_blocks *blocks, size_t *bytes);

// The matmuls among a block's steps, as bits 1 << block_step.
unsigned bench_matmul_steps(const struct bench_blocks *blocks);

// Operations of a token in a block's matmuls.
double bench_matmul_operations(const struct bench_blocks *blocks);

// Puts the residual stream's numbers back, which tuning loses.
int bench_blocks_refill(struct bench_blocks *blocks, struct error *err);

// From now on a batch is `tokens` tokens: texts of `length`, the last one shorter where that does not divide.
int bench_blocks_batch(struct bench_blocks *blocks, size_t tokens, size_t length, struct error *err);

// One operation, queued: turn by turn of the next block, in the next set of buffers.
int bench_block_step(struct bench_blocks *blocks, size_t turn, enum block_step step, struct error *err);

#endif
