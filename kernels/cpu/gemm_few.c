// SPDX-License-Identifier: MIT
// Matmuls of few tokens: what they cost is reading the weights, so that is all they do. Every thread reads a
// share of the panels of its own, front to back, once; all tokens lie packed in scratch. A panel is read in
// pieces of PIECE_BYTES that stay in the second-level cache while every tile of tokens multiplies them and
// asks for the next piece.
#include "base/size.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/team.h"

enum {
    FEW_TOKENS = 24, // from here on blocks of tokens (gemm.c) are as fast
    PIECE_BYTES = 128 << 10,
    // Asked for ahead by a lone tile, which goes as fast as memory (at 128 KB: 20 % slower).
    NEAR_BYTES = 4096,
};

static size_t packed_stride(const struct gemm *matmul) {
    return panel_depth(matmul->dtype, matmul->matrix->columns) + ROW_PADDING;
}

bool gemm_is_few(const struct gemm *matmul) {
    size_t bytes;
    return matmul->tokens <= FEW_TOKENS &&
           size_mul(matmul->tokens * dtype_size(matmul->kernels->operand), packed_stride(matmul), &bytes) &&
           bytes <= cpu_matmul_scratch();
}

// All tokens times one panel. rows: packed tokens.
static void multiply_panel(const struct gemm *matmul, const void *rows, size_t feature) {
    _Alignas(64) float sums[FEW_TOKENS * TILE_COLUMNS_MOST];
    const struct micro_kernels *kernels = matmul->kernels;
    size_t width = kernels->tile_columns;
    size_t stride = packed_stride(matmul);
    size_t whole = panel_depth(matmul->dtype, matmul->matrix->columns);
    size_t piece = PIECE_BYTES / (width * dtype_size(matmul->dtype));
    size_t tiles = (matmul->tokens + kernels->tile_rows - 1) / kernels->tile_rows;
    size_t most = (matmul->tokens + tiles - 1) / tiles; // tokens of a tile: as even as can be
    const unsigned char *panel = number_of(matmul->matrix->data, feature * whole, matmul->dtype);
    for (size_t k = 0; k < whole; k += piece) {
        size_t depth = size_min(piece, whole - k);
        const unsigned char *here = panel + k * width * dtype_size(matmul->dtype);
        const unsigned char *ahead = here + (tiles > 1 ? PIECE_BYTES : NEAR_BYTES);
        for (size_t r = 0; r < matmul->tokens; r += most) {
            kernels->stream(sums + r * width, width, number_of(rows, r * stride + k, kernels->operand),
                            stride, here, size_min(most, matmul->tokens - r), depth, k > 0, ahead);
            ahead += PIECE_BYTES / 2; // what this tile asked for
        }
    }
    gemm_store(matmul, 0, matmul->tokens, feature, sums);
}

struct few {
    const struct gemm *matmul;
    size_t each; // tokens, then panels, of a piece
};

static void pack_piece(const void *job, size_t piece, size_t member) {
    const struct few *few = job;
    const struct gemm *matmul = few->matmul;
    size_t columns = matmul->matrix->columns;
    size_t stride = packed_stride(matmul);
    size_t first = piece * few->each;
    (void)member;
    matmul->kernels->pack_rows(number_in(matmul->scratch, first * stride, matmul->kernels->operand), stride,
                               number_of(matmul->x, first * columns, matmul->dtype), columns,
                               size_min(few->each, matmul->tokens - first), columns,
                               panel_depth(matmul->dtype, columns));
}

static size_t panels_of(const struct gemm *matmul) {
    size_t width = matmul->kernels->tile_columns;
    return (matmul->feature_end - gemm_first_panel(matmul) + width - 1) / width;
}

static void multiply_piece(const void *job, size_t piece, size_t member) {
    const struct few *few = job;
    const struct gemm *matmul = few->matmul;
    size_t end = size_min((piece + 1) * few->each, panels_of(matmul));
    (void)member;
    for (size_t p = piece * few->each; p < end; p++) {
        multiply_panel(matmul, matmul->scratch, p * matmul->kernels->tile_columns);
    }
}

void gemm_few_panels(const struct gemm *matmul, size_t first, size_t end, size_t member) {
    size_t columns = matmul->matrix->columns;
    void *rows = matmul->scratch + member * cpu_matmul_scratch();
    matmul->kernels->pack_rows(rows, packed_stride(matmul), matmul->x, columns, matmul->tokens, columns,
                               panel_depth(matmul->dtype, columns));
    for (size_t p = first; p < end; p++) {
        multiply_panel(matmul, rows, gemm_first_panel(matmul) + p * matmul->kernels->tile_columns);
    }
}

void gemm_few(const struct cpu_device *cpu, const struct gemm *matmul) {
    struct few few = {.matmul = matmul};
    size_t row = packed_stride(matmul) * dtype_size(matmul->kernels->operand);
    size_t panel = panel_depth(matmul->dtype, matmul->matrix->columns) * matmul->kernels->tile_columns *
                   dtype_size(matmul->dtype);
    size_t pieces = cpu_team_pieces(cpu->team, matmul->tokens, row, &few.each);
    cpu_team_run(cpu->team, CPU_TEAM_SHARES, pieces, pack_piece, &few);
    pieces = cpu_team_pieces(cpu->team, panels_of(matmul), panel, &few.each);
    cpu_team_run(cpu->team, CPU_TEAM_SHARES, pieces, multiply_piece, &few);
}
