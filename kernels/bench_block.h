// Blocks of a transformer with random weights and a batch of texts of one length: what the benchmarks run
// (private to kernels/). Everything is device memory, so any back end can be measured.
#ifndef STRATA_KERNELS_BENCH_BLOCK_H
#define STRATA_KERNELS_BENCH_BLOCK_H

#include "kernels/bench.h"

enum bench_step { // of a block, in order
    STEP_NORM,
    STEP_QKV,
    STEP_ROPE,
    STEP_ATTENTION,
    STEP_OUT,
    STEP_MLP_NORM,
    STEP_GATE_UP,
    STEP_SWIGLU,
    STEP_DOWN,
    STEPS
};

enum bench_matrix { MATRIX_QKV, MATRIX_OUT, MATRIX_GATE_UP, MATRIX_DOWN, MATRICES };

enum {
    BENCH_WORKSPACE = 32 << 20, // bytes that any algorithm of a product may use
    BENCH_COPY = 64 << 20,      // bytes of a copy that is measured
};

struct bench_blocks {
    struct device *device;
    bool queues; // calls return before the work is done
    struct bench_shape shape;
    size_t count;  // blocks
    size_t tokens; // most tokens of a batch
    size_t batch;  // tokens of the present batch
    size_t texts;
    struct device_attention attention;
    struct device_matrix *matrices; // [count, MATRICES], host memory
    void *norm;                     // [hidden]
    void *head_norm;                // [head_dim]
    void *x;                        // [tokens, hidden]
    void *normed;                   // [tokens, hidden]
    void *wide;                     // [tokens, columns of q | k | v or gate | up]
    void *mixed;                    // [tokens, heads * head_dim or intermediate]
    float *cosine;                  // [tokens, head_dim / 2]
    float *sine;
    int32_t *rows;   // [tokens]: rope rows
    int32_t *starts; // [tokens + 1]
    void *scratch;
    int32_t *staging;      // [2 * tokens + 1]: starts, rope rows
    int32_t *host_starts;  // in staging
    unsigned char *staged; // random numbers on their way
    void *workspace;       // BENCH_WORKSPACE where products have a choice of algorithms
    void *copied;          // BENCH_COPY where copies are queued
    void *copies;          // as much staging
};

// out [rows, columns] of a matrix of the shape.
void bench_matrix_size(const struct bench_shape *shape, enum bench_matrix matrix, size_t *rows,
                       size_t *columns);

// Bytes of one block's matrices as the device packs them.
size_t bench_block_bytes(const struct device *device, const struct bench_shape *shape);

// Reserves the device for `count` blocks and batches of at most `tokens` tokens, and fills them. `tuned`: has
// the device choose how it computes their products, as a run does. The caller closes `blocks` in any case;
// the device stays the caller's.
int bench_blocks_open(struct bench_blocks *blocks, struct device *device, const struct bench_shape *shape,
                      size_t count, size_t tokens, bool tuned, struct error *err);
void bench_blocks_close(struct bench_blocks *blocks);

struct bench_product_buffers { // what a matrix is multiplied by in its step
    void *out;
    void *x;
    enum device_store store;
};

struct bench_product_buffers bench_product_buffers(const struct bench_blocks *blocks,
                                                   enum bench_matrix matrix);

// Puts the residual stream's numbers back, which tuning loses.
int bench_blocks_refill(struct bench_blocks *blocks, struct error *err);

// From now on a batch is `tokens` tokens: texts of `length`, the last one shorter where that does not divide.
int bench_blocks_batch(struct bench_blocks *blocks, size_t tokens, size_t length, struct error *err);

// One operation of block number `block`, queued.
int bench_block_step(struct bench_blocks *blocks, size_t block, enum bench_step step, struct error *err);

#endif
