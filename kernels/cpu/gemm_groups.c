// SPDX-License-Identifier: MIT
// Matmuls of rows that meet different parts of one matrix, as the tokens of each expert do. All groups are
// one phase of the team: a group's work items follow the previous group's, so that a thread works off the
// weights it owns and helps others then, and small groups keep no thread waiting.
#include "base/size.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/team.h"
#include "kernels/cpu/tile_matmul.h"

enum { FEW_BYTES = 512 << 10 }; // of weights, of an item with few rows: packing these costs little beside it

struct job {
    const struct cpu_device *cpu;
    const struct gemm_groups *groups;
    struct gemm whole; // of all groups
    size_t enough;     // items of a group
};

void gemm_group_rows(const struct gemm_groups *groups, size_t group, size_t *first, size_t *end) {
    *first = size_max((size_t)groups->starts[group], groups->row);
    *end = size_max(size_min((size_t)groups->starts[group + 1], groups->row_end), *first);
}

// A group's own matmul, not yet cut into items. No tokens: none of the group's rows are there.
static struct gemm group_of(const struct job *job, size_t group) {
    const struct gemm_groups *groups = job->groups;
    bool all = groups->parts == NULL;
    size_t first;
    size_t end;
    struct gemm matmul = job->whole;
    gemm_group_rows(groups, group, &first, &end);
    matmul.tokens = all || groups->parts[group] != GEMM_NO_PART ? end - first : 0;
    if (matmul.tokens > 0) {
        size_t row = first - groups->row;
        matmul.x = number_of(matmul.x, row * matmul.matrix->columns, matmul.dtype);
        matmul.out = number_in(matmul.out, row * (groups->end - groups->first), matmul.dtype);
    }
    matmul.bias_feature = group * groups->rows_each + groups->first;
    matmul.feature = all ? matmul.bias_feature : groups->parts[group] * groups->part_rows;
    matmul.feature_end = matmul.feature + groups->end - groups->first;
    return matmul;
}

struct few { // how panels are shared among a group's items
    size_t panels;
    size_t each;
};

static struct few few_of(const struct job *job, const struct gemm *matmul) {
    size_t width = matmul->kernels->tile_columns;
    size_t panel = width * panel_depth(matmul->dtype, matmul->matrix->columns) * dtype_size(matmul->dtype);
    size_t panels = (matmul->feature_end - gemm_first_panel(matmul) + width - 1) / width;
    size_t each = size_min(FEW_BYTES / panel, panels / job->enough);
    return (struct few){panels, size_max(each, 1)};
}

// Blocks of about one size: a short last one would read all weights for a few rows.
static void size_group(const struct job *job, struct gemm *matmul) {
    gemm_size(matmul, job->cpu, job->enough);
    size_t blocks = (matmul->tokens + matmul->row_block - 1) / matmul->row_block;
    matmul->row_block = round_up((matmul->tokens + blocks - 1) / blocks, matmul->kernels->tile_rows);
}

static size_t items_of(const struct job *job, size_t group) {
    struct gemm matmul = group_of(job, group);
    if (matmul.tokens == 0) {
        return 0;
    }
    if (matmul.kernels->tiles != NULL) {
        return cpu_tile_items(job->cpu, &matmul, job->enough);
    }
    if (gemm_is_few(&matmul)) {
        struct few few = few_of(job, &matmul);
        return (few.panels + few.each - 1) / few.each;
    }
    size_group(job, &matmul);
    return gemm_items(&matmul);
}

// The group that has item number `item`: the last one whose first item is not after it.
static size_t find_group(const struct gemm_groups *groups, size_t item) {
    size_t low = 0;
    size_t high = groups->count; // items[high] is after it
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (groups->items[middle] <= item) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static void run_item(const void *data, size_t number, size_t member) {
    const struct job *job = data;
    size_t group = find_group(job->groups, number);
    size_t item = number - job->groups->items[group];
    struct gemm matmul = group_of(job, group);
    if (matmul.kernels->tiles != NULL) {
        cpu_tile_item(job->cpu, &matmul, job->enough, item, member);
        return;
    }
    if (gemm_is_few(&matmul)) {
        struct few few = few_of(job, &matmul);
        gemm_few_panels(&matmul, item * few.each, size_min((item + 1) * few.each, few.panels), member);
        return;
    }
    size_group(job, &matmul);
    gemm_item(&matmul, item, member);
}

void gemm_multiply_groups(struct cpu_device *cpu, void *out, const void *x,
                          const struct device_matrix *matrix, const void *bias,
                          const struct gemm_groups *groups) {
    struct job job = {
        .cpu = cpu,
        .groups = groups,
        .whole = {.kernels = cpu->kernels,
                  .dtype = cpu->base.dtype,
                  .out = out,
                  .x = x,
                  .bias = bias,
                  .matrix = matrix,
                  .store = DEVICE_STORE,
                  .scratch = cpu->thread_scratch},
    };
    size_t active = 0;
    for (size_t g = 0; g < groups->count; g++) {
        active += group_of(&job, g).tokens > 0;
    }
    job.enough = ITEMS_A_THREAD * (size_t)cpu->threads / size_max(active, 1);
    job.enough = size_max(job.enough, 1);
    groups->items[0] = 0;
    for (size_t g = 0; g < groups->count; g++) {
        groups->items[g + 1] = groups->items[g] + (uint32_t)items_of(&job, g);
    }
    cpu_team_run(cpu->team, CPU_TEAM_SHARES, groups->items[groups->count], run_item, &job);
}
