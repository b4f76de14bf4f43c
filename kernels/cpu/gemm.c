// SPDX-License-Identifier: MIT
// Matmuls with packed weights.
//
// Weights lie in panels of tile_columns output features (micro_kernels.h): a panel is read once, front to
// back, for each block of tokens. A block of at most ROW_BLOCK tokens is packed into scratch, so many numbers
// of a row at a time that it stays in the second-level cache beside a panel's part; tiles of tile_rows x
// tile_columns sums then run down the block for each panel. The first of them widens the panel where operands
// are wider than numbers; those after it ask the memory for the next panel, where the cache has room for it.
// Sums live in float32 in scratch between depth blocks, so that where depth is cut changes no bit.
//
// A thread works off the items whose weights it owns (gemm_load.c), then helps others with theirs.
//
// Each output is the sum over k in ascending order by one chain of float32 additions whatever the tokens, the
// tile it falls into or the thread: its bits depend on its row of x and its weights alone.
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/team.h"
#include "kernels/cpu/tile_matmul.h"

enum {
    ROW_BLOCK = 192,     // tokens; a multiple of every tile_rows
    GROUP_COLUMNS = 512, // output features of one work item; a multiple of every tile_columns
    GROUP_SUMS = 1024,   // where a large second-level cache has room for their sums
    GROUP_MOST = 2048,   // where sums need not be kept from one depth to the next
    LARGE_LEVEL2 = 2 << 20,
    DEPTH_BYTES = 4096,       // of a row packed at a time, at most: 786 KB a block
    LEVEL2_GUESS = 512 << 10, // bytes, where the system does not know
};

enum { SUMS_BYTES = ROW_BLOCK * GROUP_SUMS * 4 };
enum { WIDE_BYTES = DEPTH_BYTES * TILE_COLUMNS_MOST };
enum { ROWS_BYTES = ROW_BLOCK * (DEPTH_BYTES + 4 * ROW_PADDING) };

size_t cpu_matmul_scratch(void) {
    return round_up(SUMS_BYTES + WIDE_BYTES + ROWS_BYTES, DEVICE_ALIGNMENT);
}

// Numbers of depth that are multiplied at a time: a block of packed tokens and a panel's part fill the
// second-level cache. As even as can be over the whole depth.
static size_t depth_block(const struct gemm *matmul, size_t level2) {
    enum { UNIT = 64, LEAST = 256 };
    const struct micro_kernels *kernels = matmul->kernels;
    size_t operand = dtype_size(kernels->operand);
    size_t most = (level2 > 0 ? level2 : LEVEL2_GUESS) / ((ROW_BLOCK + kernels->tile_columns) * operand);
    most = size_max(size_min(most, DEPTH_BYTES / operand) / UNIT * UNIT, LEAST);
    size_t whole = panel_depth(matmul->dtype, matmul->matrix->columns);
    size_t blocks = (whole + most - 1) / most;
    return round_up((whole + blocks - 1) / blocks, UNIT);
}

// Then all tiles use the same few sums, which stay in the cache.
static bool one_depth(const struct gemm *matmul) {
    return panel_depth(matmul->dtype, matmul->matrix->columns) <= matmul->depth_block;
}

// Whether the second-level cache holds a block of packed tokens, a panel's part and the part after it. Asking
// for that is worth 5 % in float32 and 1 % in bfloat16 (Xeon, Emerald Rapids).
static bool next_panel_stays(const struct gemm *matmul, size_t level2) {
    const struct micro_kernels *kernels = matmul->kernels;
    size_t rows = (matmul->row_block + kernels->tile_columns) * dtype_size(kernels->operand);
    size_t next = kernels->tile_columns * dtype_size(matmul->dtype);
    return matmul->depth_block * (rows + next) <= level2;
}

// ---- blocks ----

struct block { // one work item: tokens [token, token + count) and output features [feature, feature_end)
    size_t token;
    size_t count;
    size_t feature;
    size_t feature_end;
    float *sums; // [panels of the group][ROW_BLOCK][tile_columns]
    float *wide; // a panel widened, [depth_block][tile_columns]
    void *rows;  // tokens packed, [ROW_BLOCK][depth_block + ROW_PADDING]
};

// Asks for the lines that store_tile will write while the tile is still computed: worth 5 % where outputs
// come from memory (Zen 4).
static void prefetch_tile(const struct gemm *matmul, const struct block *block, size_t row, size_t feature) {
    enum { LINE = 64 };
    size_t number = dtype_size(matmul->dtype);
    size_t first = size_max(feature, matmul->feature);
    size_t end = size_min(feature + matmul->kernels->tile_columns, matmul->feature_end);
    size_t stride = (matmul->feature_end - matmul->feature) * number;
    size_t bytes = (end - first) * number;
    size_t count = size_min(matmul->kernels->tile_rows, block->count - row);
    const unsigned char *out = matmul->out;
    out += (block->token + row) * stride + (first - matmul->feature) * number;
    for (size_t r = 0; r < count; r++, out += stride) {
        for (size_t i = 0; i < bytes; i += LINE) {
            __builtin_prefetch(out + i, 1);
        }
    }
}

struct pass { // of a block's tokens over depth [k, k + depth) of one panel
    size_t feature;
    size_t k;
    size_t depth;
    bool first;                // sums begin here
    bool last;                 // and are stored here
    const void *panel;         // as it lies in the matrix
    const unsigned char *next; // that the block multiplies next: asked for meanwhile; NULL: it would not stay
    size_t next_bytes;
};

static struct pass pass_over(const struct gemm *matmul, const struct block *block, size_t feature, size_t k,
                             size_t depth) {
    size_t width = matmul->kernels->tile_columns;
    size_t whole = panel_depth(matmul->dtype, matmul->matrix->columns);
    struct pass pass = {
        .feature = feature,
        .k = k,
        .depth = depth,
        .first = k == 0,
        .last = k + depth == whole,
        .panel = number_of(matmul->matrix->data, feature * whole + k * width, matmul->dtype),
        .next_bytes = depth * width * dtype_size(matmul->dtype),
    };
    size_t next_k = k;
    size_t next_feature = feature + width;
    if (next_feature >= block->feature_end) { // the next depth, or the next tokens: items side by side
        next_feature = block->feature;
        next_k = pass.last ? 0 : k + depth;
    }
    if (matmul->asks) {
        pass.next = number_of(matmul->matrix->data, next_feature * whole + next_k * width, matmul->dtype);
    }
    return pass;
}

// Adds a pass to the sums of the tile of tokens that begins with the block's r-th.
static void multiply_tile(const struct gemm *matmul, const struct block *block, const struct pass *pass,
                          size_t r, float *sums) {
    const struct micro_kernels *kernels = matmul->kernels;
    size_t width = kernels->tile_columns;
    size_t stride = matmul->depth_block + ROW_PADDING;
    size_t rows = size_min(kernels->tile_rows, block->count - r);
    size_t tiles = (block->count + kernels->tile_rows - 1) / kernels->tile_rows;
    const void *x = number_of(block->rows, r * stride, kernels->operand);
    bool widens = kernels->tile_widening != NULL;
    if (widens && r == 0) {
        kernels->tile_widening(sums, width, x, stride, pass->panel, block->wide, rows, pass->depth,
                               !pass->first);
        return;
    }
    const void *panel = widens ? block->wide : pass->panel;
    if (pass->next == NULL) {
        kernels->tile(sums, width, x, stride, panel, rows, pass->depth, !pass->first);
        return;
    }
    size_t asking = tiles - widens; // tiles share what is asked for
    size_t share = (pass->next_bytes + asking - 1) / asking;
    kernels->tile_asking(sums, width, x, stride, panel, rows, pass->depth, !pass->first,
                         pass->next + (r / kernels->tile_rows - widens) * share,
                         (share + pass->depth - 1) / pass->depth);
}

// Adds a pass to the sums of its panel; stores them where it was the last.
static void multiply_panel(const struct gemm *matmul, const struct block *block, const struct pass *pass) {
    size_t width = matmul->kernels->tile_columns;
    for (size_t r = 0; r < block->count; r += matmul->kernels->tile_rows) {
        float *sums =
            block->sums + (one_depth(matmul) ? 0 : (pass->feature - block->feature) * ROW_BLOCK + r * width);
        if (pass->last) {
            prefetch_tile(matmul, block, r, pass->feature);
        }
        multiply_tile(matmul, block, pass, r, sums);
        if (pass->last) {
            gemm_store(matmul, block->token + r, size_min(matmul->kernels->tile_rows, block->count - r),
                       pass->feature, sums);
        }
    }
}

void gemm_store(const struct gemm *matmul, size_t token, size_t count, size_t feature, const float *sums) {
    size_t width = matmul->kernels->tile_columns;
    size_t first = size_max(feature, matmul->feature);
    size_t columns = size_min(feature + width, matmul->feature_end) - first;
    size_t whole = matmul->feature_end - matmul->feature;
    const void *bias =
        matmul->bias == NULL
            ? NULL
            : number_of(matmul->bias, first - matmul->feature + matmul->bias_feature, matmul->dtype);
    size_t stride = whole * dtype_size(matmul->dtype);
    unsigned char *out = number_in(matmul->out, token * whole + first - matmul->feature, matmul->dtype);
    sums += first - feature;
    for (size_t r = 0; r < count; r++, out += stride) {
        matmul->kernels->store_sums(out, sums + r * width, bias, columns, matmul->store);
    }
}

static void multiply_block(const struct gemm *matmul, const struct block *block) {
    const struct micro_kernels *kernels = matmul->kernels;
    size_t columns = matmul->matrix->columns;
    size_t whole = panel_depth(matmul->dtype, columns);
    size_t most = matmul->depth_block;
    for (size_t k = 0; k < whole; k += most) {
        size_t depth = size_min(most, whole - k);
        const void *x = number_of(matmul->x, block->token * columns + k, matmul->dtype);
        kernels->pack_rows(block->rows, most + ROW_PADDING, x, columns, block->count,
                           size_min(depth, columns - k), depth);
        for (size_t feature = block->feature; feature < block->feature_end;
             feature += kernels->tile_columns) {
            struct pass pass = pass_over(matmul, block, feature, k, depth);
            multiply_panel(matmul, block, &pass);
        }
    }
}

// ---- work items ----

// Packing is shared by the features of an item: more of them are worth 2 % with 2 MB of second-level cache
// (Xeon, Emerald Rapids). Before a slow third level half the tokens are: always in float32, where nothing is
// widened for all of them (there 2-4 %, the same processor), and with a smaller second level, which then has
// room for the next panel (computed, not measured). Smaller items where there would be too few to keep the
// threads evenly busy.
void gemm_size(struct gemm *matmul, const struct cpu_device *cpu, size_t enough) {
    size_t width = matmul->kernels->tile_columns;
    matmul->depth_block = depth_block(matmul, cpu->level2);
    bool large = cpu->level2 >= LARGE_LEVEL2;
    bool half = cpu->far_level3 && (!large || matmul->dtype == DTYPE_F32);
    matmul->row_block = half ? ROW_BLOCK / 2 : ROW_BLOCK;
    matmul->group_columns = GROUP_COLUMNS;
    if (large) {
        matmul->group_columns = one_depth(matmul) ? GROUP_MOST : GROUP_SUMS;
    }
    while (gemm_items(matmul) < enough) {
        if (matmul->group_columns > GROUP_COLUMNS) {
            matmul->group_columns /= 2;
        } else if (matmul->tokens > matmul->row_block / 2 && matmul->row_block > ROW_BLOCK / 4) {
            matmul->row_block /= 2;
        } else if (matmul->group_columns > width) {
            matmul->group_columns /= 2;
        } else {
            break;
        }
    }
    matmul->asks = next_panel_stays(matmul, cpu->level2);
}

size_t gemm_items(const struct gemm *matmul) {
    size_t blocks = (matmul->tokens + matmul->row_block - 1) / matmul->row_block;
    size_t features = matmul->feature_end - gemm_first_panel(matmul);
    return blocks * ((features + matmul->group_columns - 1) / matmul->group_columns);
}

void gemm_item(const struct gemm *matmul, size_t item, size_t member) {
    unsigned char *scratch = matmul->scratch + member * cpu_matmul_scratch();
    size_t blocks = (matmul->tokens + matmul->row_block - 1) / matmul->row_block;
    size_t token = item % blocks * matmul->row_block; // items side by side share weights
    size_t feature = gemm_first_panel(matmul) + item / blocks * matmul->group_columns;
    struct block block = {
        .token = token,
        .count = size_min(matmul->row_block, matmul->tokens - token),
        .feature = feature,
        .feature_end = size_min(feature + matmul->group_columns, matmul->feature_end),
        .sums = (float *)(void *)scratch,
        .wide = (float *)(void *)(scratch + SUMS_BYTES),
        .rows = scratch + SUMS_BYTES + WIDE_BYTES,
    };
    multiply_block(matmul, &block);
}

static void run_item(const void *job, size_t item, size_t member) {
    gemm_item(job, item, member);
}

int cpu_matmul(struct device *device, void *out, const void *x, const struct device_matrix *matrix,
               const void *bias, size_t tokens, enum device_store store, struct error *err) {
    struct cpu_device *cpu = cpu_of(device);
    if (cpu->thread_scratch == NULL) {
        return error_set(err, STATUS_INTERNAL, "matmul: device memory was not reserved");
    }
    double started = clock_seconds();
    if (cpu->kernels->tiles != NULL) {
        int status = cpu_tile_matmul(cpu, out, x, matrix, bias, tokens, store);
        cpu->since_fence.compute_seconds += clock_seconds() - started;
        return status;
    }
    struct gemm matmul = {
        .kernels = cpu->kernels,
        .dtype = device->dtype,
        .out = out,
        .x = x,
        .bias = bias,
        .matrix = matrix,
        .feature_end = matrix->rows,
        .tokens = tokens,
        .store = store,
        .scratch = cpu->thread_scratch,
    };
    if (gemm_is_few(&matmul)) {
        gemm_few(cpu, &matmul);
        cpu->since_fence.compute_seconds += clock_seconds() - started;
        return STATUS_OK;
    }
    gemm_size(&matmul, cpu, ITEMS_A_THREAD * (size_t)cpu->threads);
    cpu_team_run(cpu->team, CPU_TEAM_SHARES, gemm_items(&matmul), run_item, &matmul);
    cpu->since_fence.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}
