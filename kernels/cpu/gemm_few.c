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
    NEAR_BYTES =
        4096, // asked for ahead by a lone tile, which goes as fast as memory (at 128 KB: 20 % slower)
};

static size_t packed_stride(const struct product *product) {
    return panel_depth(product->dtype, product->matrix->columns) + ROW_PADDING;
}

bool gemm_is_few(const struct product *product) {
    size_t bytes;
    return product->tokens <= FEW_TOKENS &&
           size_mul(product->tokens * dtype_size(product->kernels->operand), packed_stride(product),
                    &bytes) &&
           bytes <= cpu_matmul_scratch();
}

// All tokens times one panel. rows: packed tokens.
static void multiply_panel(const struct product *product, const void *rows, size_t feature) {
    _Alignas(64) float sums[FEW_TOKENS * TILE_COLUMNS_MOST];
    const struct micro_kernels *kernels = product->kernels;
    size_t width = kernels->tile_columns;
    size_t stride = packed_stride(product);
    size_t whole = panel_depth(product->dtype, product->matrix->columns);
    size_t piece = PIECE_BYTES / (width * dtype_size(product->dtype));
    size_t tiles = (product->tokens + kernels->tile_rows - 1) / kernels->tile_rows;
    size_t most = (product->tokens + tiles - 1) / tiles; // tokens of a tile: as even as can be
    const unsigned char *panel = number_of(product->matrix->data, feature * whole, product->dtype);
    for (size_t k = 0; k < whole; k += piece) {
        size_t depth = size_min(piece, whole - k);
        const unsigned char *here = panel + k * width * dtype_size(product->dtype);
        const unsigned char *ahead = here + (tiles > 1 ? PIECE_BYTES : NEAR_BYTES);
        for (size_t r = 0; r < product->tokens; r += most) {
            kernels->stream(sums + r * width, width, number_of(rows, r * stride + k, kernels->operand),
                            stride, here, size_min(most, product->tokens - r), depth, k > 0, ahead);
            ahead += PIECE_BYTES / 2; // what this tile asked for
        }
    }
    gemm_store(product, 0, product->tokens, feature, sums);
}

struct few {
    const struct product *product;
    size_t each; // tokens, then panels, of a piece
};

static void pack_piece(const void *job, size_t piece, size_t member) {
    const struct few *few = job;
    const struct product *product = few->product;
    size_t columns = product->matrix->columns;
    size_t stride = packed_stride(product);
    size_t first = piece * few->each;
    (void)member;
    product->kernels->pack_rows(number_in(product->scratch, first * stride, product->kernels->operand),
                                stride, number_of(product->x, first * columns, product->dtype), columns,
                                size_min(few->each, product->tokens - first), columns,
                                panel_depth(product->dtype, columns));
}

static size_t panels_of(const struct product *product) {
    size_t width = product->kernels->tile_columns;
    return (product->matrix->rows + width - 1) / width;
}

static void multiply_piece(const void *job, size_t piece, size_t member) {
    const struct few *few = job;
    const struct product *product = few->product;
    size_t end = size_min((piece + 1) * few->each, panels_of(product));
    (void)member;
    for (size_t p = piece * few->each; p < end; p++) {
        multiply_panel(product, product->scratch, p * product->kernels->tile_columns);
    }
}

void gemm_few(const struct cpu_device *cpu, const struct product *product) {
    struct few few = {.product = product};
    size_t row = packed_stride(product) * dtype_size(product->kernels->operand);
    size_t panel = panel_depth(product->dtype, product->matrix->columns) * product->kernels->tile_columns *
                   dtype_size(product->dtype);
    size_t pieces = cpu_team_pieces(cpu->team, product->tokens, row, &few.each);
    cpu_team_run(cpu->team, CPU_TEAM_SHARES, pieces, pack_piece, &few);
    pieces = cpu_team_pieces(cpu->team, panels_of(product), panel, &few.each);
    cpu_team_run(cpu->team, CPU_TEAM_SHARES, pieces, multiply_piece, &few);
}
