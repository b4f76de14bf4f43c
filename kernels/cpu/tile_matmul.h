// SPDX-License-Identifier: MIT
// Matmuls with weights in tiles (tile_kernels.h): what gemm.c does for panels of vectors. private to
// kernels/cpu.
#ifndef STRATA_KERNELS_CPU_TILE_MATMUL_H
#define STRATA_KERNELS_CPU_TILE_MATMUL_H

#include "kernels/cpu/gemm.h"

// The sizes of blocks for these data caches (bytes; 0: not known). They decide what is fast, never a bit.
struct tile_blocks cpu_tile_blocks(size_t level1, size_t level2);

// The same for the caches of this processor.
struct tile_blocks cpu_tile_blocks_here(void);

size_t cpu_tile_matmul_scratch(void); // bytes a thread
bool cpu_tile_matrix_bytes(size_t rows, size_t columns, size_t *bytes);
void cpu_tile_matrix_load(struct cpu_device *cpu, const struct cpu_load *from);
int cpu_tile_matmul(struct cpu_device *cpu, void *out, const void *x, const struct device_matrix *matrix,
                    const void *bias, size_t tokens, enum device_store store);

// The same of a part of a matrix, by work items: at least `enough` of them, where there are as many.
size_t cpu_tile_items(const struct cpu_device *cpu, const struct gemm *part, size_t enough);
void cpu_tile_item(const struct cpu_device *cpu, const struct gemm *part, size_t enough, size_t item,
                   size_t member);

#endif
