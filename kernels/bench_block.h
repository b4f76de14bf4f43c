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
    BENCH_COPY = 64 << 20, // bytes of a copy that is measured
    BENCH_SETS_MOST = 8,   // of buffers
};

struct bench_set { // of buffers that a block's steps read and write
    void *x;       // [tokens, hidden]
    void *normed;  // [tokens, hidden]
    void *wide;    // [tokens, columns of q | k | v or gate | up]
    void *mixed;   // [tokens, heads * head_dim or intermediate]
};

struct bench_blocks {
    struct device *device;
    bool queues; // calls return before the work is done
    struct bench_shape shape;
    size_t count;   // blocks
    size_t sets;    // of buffers
    size_t in_turn; // sets that steps take turns with: all, or only the first
    size_t tokens;  // most tokens of a batch
    size_t batch;   // tokens of the present batch
    size_t texts;
    struct device_attention attention;
    struct device_matrix *matrices; // [count, MATRICES], host memory
    void *norm;                     // [hidden]
    void *head_norm;                // [head_dim]
    struct bench_set set[BENCH_SETS_MOST];
    float *cosine; // [tokens, head_dim / 2]
    float *sine;
    int32_t *rows;   // [tokens]: rope rows
    int32_t *starts; // [tokens + 1]
    void *scratch;
    int32_t *staging;      // [2 * tokens + 1]: starts, rope rows
    int32_t *host_starts;  // in staging
    unsigned char *staged; // random numbers on their way
    void *copied;          // BENCH_COPY where copies are queued
    void *copies;          // as much staging
};

// out [rows, columns] of a matrix of the shape.
void bench_matrix_size(const struct bench_shape *shape, enum bench_matrix matrix, size_t *rows,
                       size_t *columns);

// Bytes of one block's matrices as the device packs them.
size_t bench_block_bytes(const struct device *device, const struct bench_shape *shape);

// Bytes of one set of buffers for so many tokens.
size_t bench_set_bytes(const struct device *device, const struct bench_shape *shape, size_t tokens);

// Reserves the device for `count` blocks and batches of at most `tokens` tokens in `sets` sets of buffers,
// and fills them. `tuned`: has the device choose how it computes their products, as a run does. The caller
// closes `blocks` in any case; the device stays the caller's.
int bench_blocks_open(struct bench_blocks *blocks, struct device *device, const struct bench_shape *shape,
                      size_t count, size_t sets, size_t tokens, bool tuned, struct error *err);
void bench_blocks_close(struct bench_blocks *blocks);

struct bench_product_buffers { // what a matrix is multiplied by in its step, of the first set
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

// One operation, queued: turn by turn of the next block, in the next set of buffers.
int bench_block_step(struct bench_blocks *blocks, size_t turn, enum bench_step step, struct error *err);

#endif
