// SPDX-License-Identifier: MIT
// What the files of the matmul share (private to kernels/cpu): gemm.c for many tokens, gemm_few.c for
// few, gemm_groups.c for tokens that meet different parts of a matrix. All make an output as one chain of
// additions in order of k, so its bits are the same from each.
#ifndef STRATA_KERNELS_CPU_GEMM_H
#define STRATA_KERNELS_CPU_GEMM_H

#include "kernels/cpu/cpu_device.h"

enum { ITEMS_A_THREAD = 16 }; // of work, where there are so many
enum { ROW_PADDING = 32 };    // keeps packed rows off each other's cache sets, which repeat every 4 KB

struct gemm {
    const struct micro_kernels *kernels;
    enum dtype dtype;
    void *out;           // [tokens, feature_end - feature]
    const void *x;       // [tokens, columns]
    const void *bias;    // or NULL
    size_t bias_feature; // which of it is that of `feature`
    const struct device_matrix *matrix;
    size_t feature; // rows [feature, feature_end) of the matrix are multiplied: the columns of out. A panel
                    // at either end may hold others too
    size_t feature_end;
    size_t tokens;
    enum device_store store;
    unsigned char *scratch; // of each member of the team, cpu_matmul_scratch() bytes
    size_t row_block;       // tokens of a work item (gemm.c)
    size_t group_columns;   // output features of a work item (gemm.c)
    size_t depth_block;     // numbers of a row multiplied at a time (gemm.c)
    bool asks;              // for the next panel while one is multiplied (gemm.c)
};

// The feature that the first panel begins with.
static inline size_t gemm_first_panel(const struct gemm *matmul) {
    return matmul->feature / matmul->kernels->tile_columns * matmul->kernels->tile_columns;
}

// Numbers of depth that a panel holds: halves are multiplied two depths at a time.
static inline size_t panel_depth(enum dtype dtype, size_t columns) {
    return dtype == DTYPE_F32 ? columns : round_up(columns, 2);
}

// Cuts the matmul into work items: at least `enough` of them, where it has as many.
void gemm_size(struct gemm *matmul, const struct cpu_device *cpu, size_t enough);
size_t gemm_items(const struct gemm *matmul);
void gemm_item(const struct gemm *matmul, size_t item, size_t member);

// Stores finished sums [count, tile_columns] of tokens [token, token + count) and the features of the panel
// that begins with `feature`.
void gemm_store(const struct gemm *matmul, size_t token, size_t count, size_t feature, const float *sums);

// ---- gemm_few.c ----

// Whether gemm_few is the faster way, and its packed tokens fit into scratch.
bool gemm_is_few(const struct gemm *matmul);
void gemm_few(const struct cpu_device *cpu, const struct gemm *matmul);

// The same of panels number [first, end) from the one on that holds the first feature, tokens packed into
// the member's scratch.
void gemm_few_panels(const struct gemm *matmul, size_t first, size_t end, size_t member);

// ---- gemm_groups.c ----

// Rows of x that are multiplied with one part of a matrix each: group g, rows [starts[g], starts[g + 1]) of
// all, with rows g * rows_each + [first, end) of the matrix, which become out's columns. Of all rows those in
// [row, row_end) are there: row 0 of x and out is number `row`.
struct gemm_groups {
    const int32_t *starts; // [count + 1] ascending
    size_t count;
    size_t rows_each;
    size_t first;
    size_t end;
    size_t row;
    size_t row_end;
    uint32_t *items; // [count + 1], scratch
    // Where only some groups' parts are in the matrix: whose each is, GEMM_NO_PART where rows are multiplied
    // another time. A part has part_rows rows, the first of which are rows [first, end) of the group's.
    const uint16_t *parts; // [count]; NULL: all are there
    size_t part_rows;
};

enum { GEMM_NO_PART = UINT16_MAX };

// Rows of group `group` that are there: [*first, *end), none where these are the same.
void gemm_group_rows(const struct gemm_groups *groups, size_t group, size_t *first, size_t *end);

// The bits of cpu_matmul with that part. bias [count * rows_each] or NULL.
void gemm_multiply_groups(struct cpu_device *cpu, void *out, const void *x,
                          const struct device_matrix *matrix, const void *bias,
                          const struct gemm_groups *groups);

// ---- gemm_packed.c ----

// The same of a matrix of experts that is kept in another format.
int gemm_multiply_packed(struct cpu_device *cpu, void *out, const void *x, const struct device_matrix *matrix,
                         const void *bias, const struct gemm_groups *groups, struct error *err);

#endif
