// What the files of the matmul share (private to kernels/cpu): gemm.c for many tokens, gemm_few.c for
// few. Both make an output as one chain of additions in order of k, so its bits are the same from either.
#ifndef STRATA_KERNELS_CPU_GEMM_H
#define STRATA_KERNELS_CPU_GEMM_H

#include "kernels/cpu/cpu_device.h"

enum { ROW_PADDING = 32 }; // keeps packed rows off each other's cache sets, which repeat every 4 KB

struct gemm {
    const struct micro_kernels *kernels;
    enum dtype dtype;
    void *out;        // [tokens, rows]
    const void *x;    // [tokens, columns]
    const void *bias; // [rows] or NULL
    const struct device_matrix *matrix;
    size_t tokens;
    enum device_store store;
    unsigned char *scratch; // of each member of the team, cpu_matmul_scratch() bytes
    size_t row_block;       // tokens of a work item (gemm.c)
    size_t group_columns;   // output features of a work item (gemm.c)
    size_t depth_block;     // numbers of a row multiplied at a time (gemm.c)
    bool asks;              // for the next panel while one is multiplied (gemm.c)
};

// Numbers of depth that a panel holds: halves are multiplied two depths at a time.
static inline size_t panel_depth(enum dtype dtype, size_t columns) {
    return dtype == DTYPE_F32 ? columns : round_up(columns, 2);
}

// Stores finished sums [count, tile_columns] of tokens [token, token + count) and the panel's features from
// `feature` on.
void gemm_store(const struct gemm *matmul, size_t token, size_t count, size_t feature, const float *sums);

// ---- gemm_few.c ----

// Whether gemm_few is the faster way, and its packed tokens fit into scratch.
bool gemm_is_few(const struct gemm *matmul);
void gemm_few(const struct cpu_device *cpu, const struct gemm *matmul);

#endif
