// Matrix products with packed weights.
//
// Weights lie in panels of tile_columns output features (micro_kernels.h): a panel is read once, front to
// back, for each block of tokens. A block of at most ROW_BLOCK tokens is packed into scratch, so many numbers
// of a row at a time that it stays in the second-level cache beside a panel's part; tiles of tile_rows x
// tile_columns sums then run down the block for each panel. Sums live in float32 in scratch between depth
// blocks, so that where depth is cut changes no bit.
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
    ROW_BLOCK = 192,          // tokens; a multiple of every tile_rows
    GROUP_COLUMNS = 512,      // output features of one work item; a multiple of every tile_columns
    DEPTH_BYTES = 4096,       // of a row packed at a time, at most: 786 KB a block
    LEVEL2_GUESS = 512 << 10, // bytes, where the system does not know
    ITEMS_A_THREAD = 16,
};

enum { SUMS_BYTES = ROW_BLOCK * GROUP_COLUMNS * 4 };
enum { WIDE_BYTES = DEPTH_BYTES * TILE_COLUMNS_MOST };
enum { ROWS_BYTES = ROW_BLOCK * (DEPTH_BYTES + 4 * ROW_PADDING) };

size_t cpu_matmul_scratch(void) {
    return round_up(SUMS_BYTES + WIDE_BYTES + ROWS_BYTES, DEVICE_ALIGNMENT);
}

// Numbers of depth that are multiplied at a time: a block of packed tokens and a panel's part fill the
// second-level cache. As even as can be over the whole depth.
static size_t depth_block(const struct product *product, size_t level2) {
    enum { UNIT = 64, LEAST = 256 };
    const struct micro_kernels *kernels = product->kernels;
    size_t operand = dtype_size(kernels->operand);
    size_t most = (level2 > 0 ? level2 : LEVEL2_GUESS) / ((ROW_BLOCK + kernels->tile_columns) * operand);
    most = size_max(size_min(most, DEPTH_BYTES / operand) / UNIT * UNIT, LEAST);
    size_t whole = panel_depth(product->dtype, product->matrix->columns);
    size_t blocks = (whole + most - 1) / most;
    return round_up((whole + blocks - 1) / blocks, UNIT);
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
static void prefetch_tile(const struct product *product, const struct block *block, size_t row,
                          size_t feature) {
    enum { LINE = 64 };
    size_t columns = size_min(product->kernels->tile_columns, product->matrix->rows - feature);
    size_t count = size_min(product->kernels->tile_rows, block->count - row);
    for (size_t r = 0; r < count; r++) {
        size_t at = (block->token + row + r) * product->matrix->rows + feature;
        const unsigned char *out = number_of(product->out, at, product->dtype);
        for (size_t i = 0; i < columns * dtype_size(product->dtype); i += LINE) {
            __builtin_prefetch(out + i, 1);
        }
    }
}

// Adds depth [k, k + depth) to the sums of one panel; stores them where that was the last.
static void multiply_panel(const struct product *product, const struct block *block, size_t feature, size_t k,
                           size_t depth) {
    const struct micro_kernels *kernels = product->kernels;
    size_t width = kernels->tile_columns;
    size_t stride = product->depth_block + ROW_PADDING;
    size_t whole = panel_depth(product->dtype, product->matrix->columns);
    bool one_depth =
        whole <= product->depth_block; // then all tiles use the same few sums, which stay in the cache
    const void *panel = number_of(product->matrix->data, feature * whole + k * width, product->dtype);
    if (kernels->widen_panel != NULL) {
        kernels->widen_panel(block->wide, panel, depth);
        panel = block->wide;
    }
    for (size_t r = 0; r < block->count; r += kernels->tile_rows) {
        float *sums = block->sums + (one_depth ? 0 : (feature - block->feature) * ROW_BLOCK + r * width);
        if (k + depth == whole) {
            prefetch_tile(product, block, r, feature);
        }
        kernels->tile(sums, width, number_of(block->rows, r * stride, kernels->operand), stride, panel,
                      size_min(kernels->tile_rows, block->count - r), depth, k > 0);
        if (k + depth == whole) {
            gemm_store(product, block->token + r, size_min(kernels->tile_rows, block->count - r), feature,
                       sums);
        }
    }
}

void gemm_store(const struct product *product, size_t token, size_t count, size_t feature,
                const float *sums) {
    size_t width = product->kernels->tile_columns;
    size_t columns = size_min(width, product->matrix->rows - feature);
    const void *bias = product->bias == NULL ? NULL : number_of(product->bias, feature, product->dtype);
    for (size_t r = 0; r < count; r++) {
        void *out = number_in(product->out, (token + r) * product->matrix->rows + feature, product->dtype);
        product->kernels->store_sums(out, sums + r * width, bias, columns, product->store);
    }
}

static void multiply_block(const struct product *product, const struct block *block) {
    const struct micro_kernels *kernels = product->kernels;
    size_t columns = product->matrix->columns;
    size_t whole = panel_depth(product->dtype, columns);
    size_t most = product->depth_block;
    for (size_t k = 0; k < whole; k += most) {
        size_t depth = size_min(most, whole - k);
        const void *x = number_of(product->x, block->token * columns + k, product->dtype);
        kernels->pack_rows(block->rows, most + ROW_PADDING, x, columns, block->count,
                           size_min(depth, columns - k), depth);
        for (size_t feature = block->feature; feature < block->feature_end;
             feature += kernels->tile_columns) {
            multiply_panel(product, block, feature, k, depth);
        }
    }
}

// ---- work items ----

// Smaller ones where there would be too few to keep the threads evenly busy.
static void size_items(struct product *product, size_t threads) {
    size_t width = product->kernels->tile_columns;
    product->row_block = ROW_BLOCK;
    product->group_columns = GROUP_COLUMNS;
    for (;;) {
        size_t blocks = (product->tokens + product->row_block - 1) / product->row_block;
        size_t groups = (product->matrix->rows + product->group_columns - 1) / product->group_columns;
        if (blocks * groups >= ITEMS_A_THREAD * threads) {
            return;
        }
        if (product->tokens > product->row_block / 2 && product->row_block > ROW_BLOCK / 4) {
            product->row_block /= 2;
        } else if (product->group_columns > width) {
            product->group_columns /= 2;
        } else {
            return;
        }
    }
}

static size_t items_of(const struct product *product) {
    size_t blocks = (product->tokens + product->row_block - 1) / product->row_block;
    return blocks * ((product->matrix->rows + product->group_columns - 1) / product->group_columns);
}

static void multiply_item(const void *job, size_t item, size_t member) {
    const struct product *product = job;
    unsigned char *scratch = product->scratch + member * cpu_matmul_scratch();
    size_t blocks = (product->tokens + product->row_block - 1) / product->row_block;
    size_t token = item % blocks * product->row_block; // items side by side share weights
    size_t feature = item / blocks * product->group_columns;
    struct block block = {
        .token = token,
        .count = size_min(product->row_block, product->tokens - token),
        .feature = feature,
        .feature_end = size_min(feature + product->group_columns, product->matrix->rows),
        .sums = (float *)(void *)scratch,
        .wide = (float *)(void *)(scratch + SUMS_BYTES),
        .rows = scratch + SUMS_BYTES + WIDE_BYTES,
    };
    multiply_block(product, &block);
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
        cpu->since_mark.compute_seconds += clock_seconds() - started;
        return status;
    }
    struct product product = {
        .kernels = cpu->kernels,
        .dtype = device->dtype,
        .out = out,
        .x = x,
        .bias = bias,
        .matrix = matrix,
        .tokens = tokens,
        .store = store,
        .scratch = cpu->thread_scratch,
    };
    if (gemm_is_few(&product)) {
        gemm_few(cpu, &product);
        cpu->since_mark.compute_seconds += clock_seconds() - started;
        return STATUS_OK;
    }
    size_items(&product, (size_t)cpu->threads);
    product.depth_block = depth_block(&product, cpu->level2);
    cpu_team_run(cpu->team, CPU_TEAM_SHARES, items_of(&product), multiply_item, &product);
    cpu->since_mark.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}
