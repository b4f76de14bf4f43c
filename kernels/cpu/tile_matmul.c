// SPDX-License-Identifier: MIT
// Matmuls on tiles.
//
// A work item is a block of tokens and up to ITEM_COLUMNS output features. Its tokens are packed into groups
// of 32 in tile order, as much depth of them as half the second-level cache holds (a chunk); then every panel
// of 32 features meets every group. Within that, depth is cut once more into blocks whose part of a panel
// stays in the first-level cache while all groups pass. Sums are kept in float32 in scratch between blocks
// and chunks, which loses nothing, and are stored one group late, when the tile stores have long left the
// store buffer.
//
// A thread works off the items whose weights it owns (gemm_load.c), then helps others with theirs.
//
// Each output is the sum over steps of 32 depths in ascending order, by one chain, whatever the blocks, the
// item or the thread: its bits depend on its row of x and its weights alone.
#include "kernels/cpu/tile_matmul.h"

#include <string.h>
#include <unistd.h>

#include "base/size.h"
#include "kernels/cpu/team.h"
#include "kernels/cpu/tile_kernels.h"

enum {
    LINE = 64,
    ITEM_COLUMNS = 2048, // features of an item: packing its tokens costs about 1 / 20 of multiplying them
    ROWS_MOST = 512,     // tokens of an item
    ROWS_DEEP = 256,     // tokens worth cutting depth into chunks for: fewer read weights too fast
    CHUNK_BYTES_MOST = 1 << 20, // of packed tokens: beyond it they spill a cache of 2 MB
    CHUNK_BYTES_LEAST = ROWS_DEEP * STEP_DEPTH * 2,
    TILE_ITEMS = 4,  // a thread
    LOAD_STEPS = 16, // steps of a panel filled at a time while loading
};
_Static_assert((LOAD_STEPS * STEP_DEPTH) % 8 == 0, "expand begins at multiples of 8");

// ---- sizes of blocks ----

// A panel's block takes a third of the first-level cache, beside the tokens and sums that pass it.
struct tile_blocks cpu_tile_blocks(size_t level1, size_t level2) {
    const size_t step_bytes = PANEL_STEP * sizeof(uint16_t);
    level1 = level1 > 0 ? level1 : (size_t)32 << 10;
    level2 = level2 > 0 ? level2 : (size_t)1 << 20;
    return (struct tile_blocks){
        .steps = size_max(level1 / 3 / step_bytes, 1),
        .chunk_bytes = size_max(size_min(level2 / 2, CHUNK_BYTES_MOST), CHUNK_BYTES_LEAST),
    };
}

struct tile_blocks cpu_tile_blocks_here(void) {
    long level1 = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    long level2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return cpu_tile_blocks(level1 > 0 ? (size_t)level1 : 0, level2 > 0 ? (size_t)level2 : 0);
}

static size_t steps_of(size_t columns) {
    return (columns + STEP_DEPTH - 1) / STEP_DEPTH;
}

// ---- weights ----

bool cpu_tile_matrix_bytes(size_t rows, size_t columns, size_t *bytes) {
    size_t padded;
    size_t depth;
    return size_round_up(rows, PANEL_COLUMNS, &padded) && size_round_up(columns, STEP_DEPTH, &depth) &&
           size_mul(padded, depth, &padded) && size_mul(padded, sizeof(uint16_t), bytes);
}

struct tile_load {
    const struct micro_kernels *kernels;
    const struct cpu_load *from;
    size_t panel; // panels [panel, panel_end) are touched
    size_t panel_end;
};

// Steps [step, step + count) of one half of a panel, features [feature, feature + 16): those that the load
// has.
static void load_half(const struct tile_load *load, uint16_t *half, size_t feature, size_t step,
                      size_t count) {
    uint16_t numbers[PANEL_COLUMNS / 2][LOAD_STEPS * STEP_DEPTH];
    const struct cpu_load *from = load->from;
    const struct weight_view *source = from->source;
    size_t columns = from->matrix->columns;
    size_t first = size_max(from->row, feature);
    size_t end = size_min(from->row + from->count, feature + PANEL_COLUMNS / 2);
    size_t length = size_min(count * STEP_DEPTH, columns - step * STEP_DEPTH);
    if (first >= end) {
        return;
    }
    uint16_t *out = half + step * PANEL_STEP;
    bool full = end - first == PANEL_COLUMNS / 2;
    if (full && length == count * STEP_DEPTH && is_plain(source, DTYPE_BF16)) {
        size_t at = (first - from->row + from->first) * columns + step * STEP_DEPTH;
        load->kernels->tiles->turn(out, number_of(source->parts[0], at, DTYPE_BF16), columns, count);
        return;
    }
    for (size_t row = first; row < end; row++) {
        uint16_t *to = numbers[row - feature];
        load->kernels->expand(to, source, row - from->row + from->first, step * STEP_DEPTH, length);
        memset(to + length, 0, (count * STEP_DEPTH - length) * sizeof *to);
    }
    if (full) {
        load->kernels->tiles->turn(out, numbers[0], LOAD_STEPS * STEP_DEPTH, count);
        return;
    }
    // Beside features of other loads. Padding as well: scratch holds what was in it.
    for (size_t row = first; row < end; row++) {
        for (size_t k = 0; k < count * STEP_DEPTH; k++) {
            out[k / STEP_DEPTH * PANEL_STEP + k % STEP_DEPTH / 2 * STEP_DEPTH + 2 * (row - feature) + k % 2] =
                numbers[row - feature][k];
        }
    }
}

static void load_share(const void *job, size_t piece, size_t member) {
    const struct tile_load *load = job;
    size_t steps = steps_of(load->from->matrix->columns);
    struct share mine = share_of(load->panel_end - load->panel, load->from->threads, piece);
    (void)member;
    for (size_t p = load->panel + mine.first; p < load->panel + mine.end; p++) {
        uint16_t *panel = (uint16_t *)load->from->matrix->data + p * steps * PANEL_STEP;
        for (size_t s = 0; s < steps; s += LOAD_STEPS) {
            size_t some = size_min(LOAD_STEPS, steps - s);
            load_half(load, panel, p * PANEL_COLUMNS, s, some);
            load_half(load, panel + PANEL_STEP / 2, p * PANEL_COLUMNS + PANEL_COLUMNS / 2, s, some);
        }
    }
}

void cpu_tile_matrix_load(struct cpu_device *cpu, const struct cpu_load *from) {
    size_t end = (from->row + from->count + PANEL_COLUMNS - 1) / PANEL_COLUMNS;
    struct tile_load load = {
        .kernels = cpu->kernels, .from = from, .panel = from->row / PANEL_COLUMNS, .panel_end = end};
    cpu_team_run(cpu->team, from->order, from->threads, load_share, &load);
}

// ---- items ----

enum { GROUP_SUMS = GROUP_ROWS * PANEL_COLUMNS };
enum { SUMS_BYTES = ROWS_DEEP * ITEM_COLUMNS * 4 };
_Static_assert(ROWS_MOST *PANEL_COLUMNS * 4 <= SUMS_BYTES, "one panel's sums fit for the tallest item");

size_t cpu_tile_matmul_scratch(void) {
    return round_up((size_t)CHUNK_BYTES_MOST + SUMS_BYTES, DEVICE_ALIGNMENT);
}

struct tile_matmul {
    const struct micro_kernels *kernels; // of the path, which say how a thread begins and ends with tiles
    const struct tile_kernels *tiles;
    unsigned char *scratch; // of each member of the team
    uint16_t *out;          // [tokens, feature_end - feature]
    const uint16_t *x;      // [tokens, columns]
    const uint16_t *bias;   // or NULL
    size_t bias_feature;    // which of it is that of `feature`
    const uint16_t *weights;
    size_t tokens;
    size_t feature; // rows [feature, feature_end) of the matrix are multiplied: the columns of out
    size_t feature_end;
    size_t columns;
    size_t steps; // of depth, in all
    enum device_store store;
    size_t row_block;    // tokens of an item
    size_t item_columns; // features of an item
    size_t chunk_steps;  // depth packed at a time
    size_t block_steps;  // depth of a panel's block
};

struct item { // tokens [token, token + count), features [feature, feature_end)
    size_t token;
    size_t count;
    size_t feature;
    size_t feature_end;
    uint16_t *rows; // packed groups of a chunk: [groups][chunk_steps][2][16][32]
    float *sums;    // [panels of the item, or one when there is one chunk][groups][32][32]
};

// The feature that the first panel begins with, which may hold others too.
static size_t first_panel(const struct tile_matmul *matmul) {
    return matmul->feature / PANEL_COLUMNS * PANEL_COLUMNS;
}

static size_t items_of(const struct tile_matmul *matmul) {
    size_t features = matmul->feature_end - first_panel(matmul);
    return (matmul->tokens + matmul->row_block - 1) / matmul->row_block *
           ((features + matmul->item_columns - 1) / matmul->item_columns);
}

// Cuts the matmul into items: enough to keep the threads evenly busy, as tall as the cache allows. In this
// order because tall items read weights seldom and wide ones pack their tokens seldom.
static void size_items(struct tile_matmul *matmul, const struct tile_blocks *blocks, size_t enough) {
    static const struct {
        size_t rows;
        size_t columns;
    } sizes[] = {{ROWS_MOST, ITEM_COLUMNS},
                 {ROWS_DEEP, ITEM_COLUMNS},
                 {ROWS_DEEP, 1024},
                 {128, 1024},
                 {128, 512},
                 {64, 512},
                 {64, 256},
                 {GROUP_ROWS, 128},
                 {GROUP_ROWS, 64},
                 {GROUP_ROWS, PANEL_COLUMNS}};
    size_t row_bytes = matmul->steps * STEP_DEPTH * sizeof(uint16_t);
    size_t whole = blocks->chunk_bytes / row_bytes / GROUP_ROWS * GROUP_ROWS; // rows with all their depth
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        matmul->row_block = size_min(sizes[i].rows, size_max(whole, ROWS_DEEP));
        matmul->row_block = size_min(matmul->row_block, round_up(matmul->tokens, GROUP_ROWS));
        matmul->item_columns = sizes[i].columns;
        if (items_of(matmul) >= enough) {
            break;
        }
    }
    size_t in_rows = (matmul->tokens + matmul->row_block - 1) / matmul->row_block;
    matmul->row_block = round_up((matmul->tokens + in_rows - 1) / in_rows, GROUP_ROWS); // of about one size
    // Chunks likewise, each of whole blocks.
    size_t most = blocks->chunk_bytes / (matmul->row_block * STEP_DEPTH * sizeof(uint16_t));
    size_t chunks = (matmul->steps + most - 1) / most;
    matmul->block_steps = blocks->steps;
    matmul->chunk_steps = (matmul->steps + chunks - 1) / chunks;
    if (chunks > 1 && round_up(matmul->chunk_steps, blocks->steps) <= most) {
        matmul->chunk_steps = round_up(matmul->chunk_steps, blocks->steps);
    }
}

static size_t group_rows(const struct item *item, size_t group) {
    return size_min(GROUP_ROWS, item->count - group * GROUP_ROWS);
}

static void pack_chunk(const struct tile_matmul *matmul, const struct item *item, size_t step, size_t steps) {
    size_t groups = (item->count + GROUP_ROWS - 1) / GROUP_ROWS;
    size_t columns = size_min(steps * STEP_DEPTH, matmul->columns - step * STEP_DEPTH);
    for (size_t g = 0; g < groups; g++) {
        const uint16_t *x = matmul->x + (item->token + g * GROUP_ROWS) * matmul->columns + step * STEP_DEPTH;
        matmul->tiles->pack_group(item->rows + g * matmul->chunk_steps * GROUP_ROWS * STEP_DEPTH, x,
                                  matmul->columns, group_rows(item, g), columns, steps);
    }
}

// Asks the second-level cache for the lines of out that store_group will write. Not the first level: rows
// that lie a multiple of 4 KB apart share one set of it.
static void prefetch_group(const struct tile_matmul *matmul, const struct item *item, size_t group,
                           size_t feature) {
    size_t stride = matmul->feature_end - matmul->feature;
    size_t first = size_max(feature, matmul->feature) - matmul->feature;
    uint16_t *out = matmul->out + (item->token + group * GROUP_ROWS) * stride + first;
    size_t rows = group_rows(item, group);
    for (size_t r = 0; r < rows; r++) {
        __builtin_prefetch(out + r * stride, 0, 2);
    }
}

static void store_group(const struct tile_matmul *matmul, const struct item *item, size_t group,
                        size_t feature, const float *sums) {
    size_t stride = matmul->feature_end - matmul->feature;
    size_t first = size_max(feature, matmul->feature);
    size_t columns = size_min(feature + PANEL_COLUMNS, matmul->feature_end) - first;
    uint16_t *out = matmul->out + (item->token + group * GROUP_ROWS) * stride + (first - matmul->feature);
    matmul->tiles->store(
        out, stride, sums + (first - feature),
        matmul->bias == NULL ? NULL : matmul->bias + (first - matmul->feature) + matmul->bias_feature,
        group_rows(item, group), columns, matmul->store);
}

struct block { // of one panel: steps [step, step + count) of the chunk [chunk, chunk_end)
    size_t feature;
    size_t step;
    size_t count;
    size_t chunk;
    size_t chunk_end;
};

static const uint16_t *panel_at(const struct tile_matmul *matmul, size_t feature, size_t step) {
    return matmul->weights + feature * matmul->steps * STEP_DEPTH + step * PANEL_STEP;
}

// The block that is multiplied after this one, or NULL: what the item does next begins with packing.
static const void *block_after(const struct tile_matmul *matmul, const struct item *item,
                               const struct block *block) {
    if (block->step + block->count < block->chunk_end) {
        return panel_at(matmul, block->feature, block->step + block->count);
    }
    return block->feature + PANEL_COLUMNS < item->feature_end
               ? panel_at(matmul, block->feature + PANEL_COLUMNS, block->chunk)
               : NULL;
}

// Group `group` from step `step` of the chunk on.
static struct tile_rows packed_rows(const struct tile_matmul *matmul, const struct item *item, size_t group,
                                    size_t step) {
    const size_t tile_bytes = GROUP_ROWS / 2 * STEP_DEPTH * sizeof(uint16_t);
    bool two = group_rows(item, group) > GROUP_ROWS / 2;
    size_t step_bytes = two ? 2 * tile_bytes : tile_bytes;
    const uint16_t *rows = item->rows + group * matmul->chunk_steps * GROUP_ROWS * STEP_DEPTH;
    return (struct tile_rows){
        .data = (const unsigned char *)rows + step * step_bytes,
        .row = STEP_DEPTH * sizeof(uint16_t),
        .half = tile_bytes,
        .step = step_bytes,
        .two = two,
    };
}

// One block of a panel against every group; asks for the panel's next block meanwhile.
static void multiply_block(const struct tile_matmul *matmul, const struct item *item,
                           const struct block *block, float *sums) {
    size_t groups = (item->count + GROUP_ROWS - 1) / GROUP_ROWS;
    bool last = block->step + block->count == matmul->steps;
    const void *panel = panel_at(matmul, block->feature, block->step);
    const unsigned char *next = block_after(matmul, item, block);
    size_t lines = next == NULL ? 0 : PANEL_STEP * sizeof(uint16_t) / LINE; // of one step
    size_t part = (lines + groups - 1) / groups;                            // of them with each group
    for (size_t g = 0; g < groups; g++) {
        struct tile_rows left = packed_rows(matmul, item, g, block->step - block->chunk);
        size_t asked = size_min(g * part, lines);
        struct tile_ahead ahead = {next, size_min(part, lines - asked)};
        if (ahead.lines > 0) {
            ahead.data = next + asked * block->count * LINE;
        }
        if (last) {
            prefetch_group(matmul, item, g, block->feature);
        }
        matmul->tiles->multiply(sums + g * GROUP_SUMS, PANEL_COLUMNS, &left, panel, block->count,
                                block->step > 0, ahead);
        if (last && g > 0) {
            store_group(matmul, item, g - 1, block->feature, sums + (g - 1) * GROUP_SUMS);
        }
    }
    if (last) {
        store_group(matmul, item, groups - 1, block->feature, sums + (groups - 1) * GROUP_SUMS);
    }
}

static void multiply_item(const struct tile_matmul *matmul, const struct item *item) {
    size_t groups = (item->count + GROUP_ROWS - 1) / GROUP_ROWS;
    for (size_t chunk = 0; chunk < matmul->steps; chunk += matmul->chunk_steps) {
        size_t chunk_end = size_min(chunk + matmul->chunk_steps, matmul->steps);
        pack_chunk(matmul, item, chunk, chunk_end - chunk);
        for (size_t feature = item->feature; feature < item->feature_end; feature += PANEL_COLUMNS) {
            size_t panel = (feature - item->feature) / PANEL_COLUMNS;
            bool one_chunk = matmul->chunk_steps >= matmul->steps;
            float *sums = item->sums + (one_chunk ? 0 : panel * groups * GROUP_SUMS);
            for (size_t step = chunk; step < chunk_end; step += matmul->block_steps) {
                struct block block = {feature, step, size_min(matmul->block_steps, chunk_end - step), chunk,
                                      chunk_end};
                multiply_block(matmul, item, &block, sums);
            }
        }
    }
}

static struct item find_item(const struct tile_matmul *matmul, size_t number, unsigned char *scratch) {
    size_t blocks = (matmul->tokens + matmul->row_block - 1) / matmul->row_block;
    size_t token = number % blocks * matmul->row_block; // items side by side share weights
    size_t feature = first_panel(matmul) + number / blocks * matmul->item_columns;
    return (struct item){
        .token = token,
        .count = size_min(matmul->row_block, matmul->tokens - token),
        .feature = feature,
        .feature_end = size_min(feature + matmul->item_columns, matmul->feature_end),
        .rows = (uint16_t *)(void *)scratch,
        .sums = (float *)(void *)(scratch + CHUNK_BYTES_MOST),
    };
}

static void run_item(const void *job, size_t number, size_t member) {
    const struct tile_matmul *matmul = job;
    struct item item = find_item(matmul, number, matmul->scratch + member * cpu_tile_matmul_scratch());
    micro_kernels_begin(matmul->kernels);
    multiply_item(matmul, &item);
    micro_kernels_end(matmul->kernels);
}

static struct tile_matmul of_part(const struct cpu_device *cpu, const struct gemm *part, size_t enough) {
    struct tile_matmul matmul = {
        .kernels = cpu->kernels,
        .tiles = cpu->kernels->tiles,
        .scratch = cpu->thread_scratch,
        .out = part->out,
        .x = part->x,
        .bias = part->bias,
        .bias_feature = part->bias_feature,
        .weights = part->matrix->data,
        .tokens = part->tokens,
        .feature = part->feature,
        .feature_end = part->feature_end,
        .columns = part->matrix->columns,
        .steps = steps_of(part->matrix->columns),
        .store = part->store,
    };
    size_items(&matmul, &cpu->tile_blocks, enough);
    return matmul;
}

size_t cpu_tile_items(const struct cpu_device *cpu, const struct gemm *part, size_t enough) {
    struct tile_matmul matmul = of_part(cpu, part, enough);
    return items_of(&matmul);
}

void cpu_tile_item(const struct cpu_device *cpu, const struct gemm *part, size_t enough, size_t item,
                   size_t member) {
    struct tile_matmul matmul = of_part(cpu, part, enough);
    run_item(&matmul, item, member);
}

int cpu_tile_matmul(struct cpu_device *cpu, void *out, const void *x, const struct device_matrix *matrix,
                    const void *bias, size_t tokens, enum device_store store) {
    const struct gemm whole = {.out = out,
                               .x = x,
                               .bias = bias,
                               .matrix = matrix,
                               .feature_end = matrix->rows,
                               .tokens = tokens,
                               .store = store};
    struct tile_matmul matmul = of_part(cpu, &whole, TILE_ITEMS * (size_t)cpu->threads);
    cpu_team_run(cpu->team, CPU_TEAM_SHARES, items_of(&matmul), run_item, &matmul);
    return STATUS_OK;
}
