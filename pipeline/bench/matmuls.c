// SPDX-License-Identifier: MIT
// Matmuls: each matrix at full batches, and all of them at a few tokens. A device that chooses among
// algorithms has every candidate timed, and the best one that its restrictions rule out.
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/size.h"
#include "bench/parts.h"
#include "kernels/back_end.h"

enum {
    FEW_TOKENS = 2048,     // the smaller of the batches that matmuls are measured at
    CANDIDATES_MOST = 128, // algorithms of one matmul
};

// The rate of reading all packed weights, in bytes a second; 0 where the back end does not measure it.
int bench_read_rate(struct bench *bench, double *rate, struct error *err) {
    *rate = 0;
    if (bench->device->ops->read_rate == NULL) {
        return STATUS_OK;
    }
    size_t bytes;
    const void *data = bench_matrices(&bench->blocks, &bytes);
    return bench->device->ops->read_rate(bench->device, data, bytes, rate, err);
}

// ---- full batches ----

static bool has_choice(const struct bench *bench) {
    return bench->device->ops->matmul_candidates != NULL;
}

struct tally {      // of candidates
    int groups;     // that give other bits than one another
    int chosen;     // the chosen one's group; -1: none was chosen
    size_t sharing; // its bits
    size_t unfit;
};

static struct tally count_groups(const struct device_candidate *lines, size_t count) {
    struct tally tally = {.chosen = -1};
    for (size_t i = 0; i < count; i++) {
        tally.chosen = lines[i].chosen ? lines[i].group : tally.chosen;
        tally.groups = lines[i].group >= tally.groups ? lines[i].group + 1 : tally.groups;
        tally.unfit += lines[i].group < 0;
    }
    for (size_t i = 0; i < count; i++) {
        tally.sharing += tally.chosen >= 0 && lines[i].group == tally.chosen;
    }
    return tally;
}

// Every candidate by name: which give equal bits is nowhere else to be read.
static void add_algorithms(struct bench *bench, json_t *figure, const struct device_candidate *lines,
                           size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *line = json_pack("{s:s, s:f, s:i, s:b}", "name", lines[i].name, "seconds", lines[i].seconds,
                                 "group", lines[i].group, "chosen", lines[i].chosen);
        bench->report_failed = json_array_append_new(list, line) != 0 || bench->report_failed;
    }
    bench->report_failed = json_object_set_new(figure, "algorithms", list) != 0 || bench->report_failed;
}

// Of all that were timed, free of restrictions (0: none) or not, the chosen one too.
static double fastest_of(const struct device_candidate *lines, size_t count, double free_seconds,
                         double chosen_seconds) {
    double best = free_seconds > 0 ? fmin(free_seconds, chosen_seconds) : chosen_seconds;
    for (size_t i = 0; i < count; i++) {
        best = lines[i].seconds > 0 ? fmin(lines[i].seconds, best) : best;
    }
    return best;
}

static void print_matmul(struct bench *bench, const char *what, double operations, double seconds,
                         double limit, const char *of) {
    char name[96];
    snprintf(name, sizeof name, "matmul, %s", what);
    bench_print_rate(bench, name, operations, seconds, limit, of);
}

static void print_candidates(struct bench *bench, const char *name, double operations, double free_seconds,
                             double chosen_seconds, const struct device_candidate *lines, size_t count) {
    struct tally tally = count_groups(lines, count);
    json_t *figure =
        bench_print(bench, name, operations / free_seconds * 1e-9, "GFLOP/s",
                    "chosen is %.1f %% of it; %zu candidates, %d kinds of bits, %zu with those of the "
                    "chosen, %zu not fit",
                    100 * free_seconds / chosen_seconds, count, tally.groups, tally.sharing, tally.unfit);
    bench_add(figure, "candidates", (double)count);
    bench_add(figure, "groups", tally.groups);
    bench_add(figure, "chosen_group", tally.chosen);
    bench_add(figure, "chosen_group_size", (double)tally.sharing);
    bench_add(figure, "unfit", (double)tally.unfit);
    bench_add(figure, "chosen_of_free", free_seconds / chosen_seconds);
    add_algorithms(bench, figure, lines, count);
}

static int list_candidates(struct bench *bench, const struct block_matmul *matmul,
                           struct device_candidate *lines, size_t *count, double *free_seconds,
                           struct error *err) {
    const struct bench_blocks *blocks = &bench->blocks;
    struct block_operands o = block_operands(matmul, &blocks->set[0], &blocks->weights.blocks[0]);
    void *memory;
    TRY(memory_zeroed(&memory, blocks->count, sizeof(struct device_matrix), err));
    struct device_matrix *matrices = memory; // of each block the one
    for (size_t i = 0; i < blocks->count; i++) {
        matrices[i] = *block_operands(matmul, &blocks->set[0], &blocks->weights.blocks[i]).matrix;
    }
    int status = bench->device->ops->matmul_candidates(bench->device, o.out, o.in, matrices, blocks->count,
                                                       o.bias, matmul->store, lines, CANDIDATES_MOST, count,
                                                       free_seconds, err);
    free(matrices);
    return status;
}

// The matmul beside the best algorithm of any kind, then every candidate.
static int bench_candidates(struct bench *bench, const struct block_matmul *matmul, const char *what,
                            double operations, double chosen_seconds, struct error *err) {
    void *memory;
    size_t count = 0;
    double free_seconds = 0;
    char name[96];
    TRY(memory_zeroed(&memory, CANDIDATES_MOST, sizeof(struct device_candidate), err));
    struct device_candidate *lines = memory;
    int status = list_candidates(bench, matmul, lines, &count, &free_seconds, err);
    if (status == STATUS_OK) {
        double best = fastest_of(lines, count, free_seconds, chosen_seconds);
        snprintf(name, sizeof name, "any algorithm, %s", what);
        print_matmul(bench, what, operations, chosen_seconds, operations / best, "best of any algorithm");
        print_candidates(bench, name, operations, best, chosen_seconds, lines, count);
        status = bench_blocks_refill(&bench->blocks, err);
    }
    free(lines);
    return status;
}

static int bench_matmul(struct bench *bench, size_t tokens, const struct block_matmul *matmul,
                        struct error *err) {
    struct bench_times times;
    char what[64];
    double operations = 2.0 * (double)tokens * (double)matmul->rows * (double)matmul->columns;
    snprintf(what, sizeof what, "%zu tokens, %zu x %zu", tokens, matmul->rows, matmul->columns);
    TRY(bench_time_steps(bench, 1u << matmul->step, &times, err));
    if (has_choice(bench)) {
        return bench_candidates(bench, matmul, what, operations, times.all, err);
    }
    print_matmul(bench, what, operations, times.all, times.peak, NULL);
    return STATUS_OK;
}

// A device with a choice computes whole batches, whatever their tokens: it is measured at one.
int bench_matmuls(struct bench *bench, struct error *err) {
    size_t most = bench->options.tokens;
    for (size_t tokens = has_choice(bench) ? most : size_min(FEW_TOKENS, most);;
         tokens = size_min(4 * tokens, most)) {
        TRY(bench_blocks_batch(&bench->blocks, tokens, tokens, err));
        for (size_t i = 0; i < bench->blocks.matmul_count; i++) {
            TRY(bench_matmul(bench, tokens, &bench->blocks.matmuls[i], err));
        }
        if (tokens == most) {
            return STATUS_OK;
        }
    }
}

// ---- a few tokens ----

// All matrices of all blocks in turn, so that weights come from memory, and the reading alone between them:
// what memory gives wanders more than anything else where machines are shared.
static int bench_few_tokens(struct bench *bench, size_t tokens, struct error *err) {
    struct bench_blocks *blocks = &bench->blocks;
    enum dtype dtype = device_dtype(bench->device);
    double bytes = (double)blocks->count * (double)bench_block_bytes(bench->device, &blocks->config);
    double reading = 0;
    double peak = 0;
    double best = 0;
    TRY(bench_blocks_batch(blocks, tokens, tokens, err));
    for (int i = 0; i < bench->options.repeats; i++) {
        double rate;
        double multiply;
        double all = 0;
        double seconds[BLOCK_STEPS] = {0};
        TRY(bench_read_rate(bench, &rate, err));
        TRY(bench->device->ops->peak(bench->device, dtype, &multiply, err));
        for (size_t block = 0; block < blocks->count; block++) {
            TRY(bench_run_steps(blocks, block, bench_matmul_steps(blocks), seconds, err));
        }
        for (int step = 0; step < BLOCK_STEPS; step++) {
            all += seconds[step];
        }
        reading = fmax(reading, rate);
        peak = fmax(peak, multiply);
        best = fmax(best, bytes / all);
    }
    char name[96];
    snprintf(name, sizeof name, "all matrices of a block, %zu token%s", tokens, tokens == 1 ? "" : "s");
    json_t *figure = bench_print(
        bench, name, best * 1e-9, "GB/s", "  %8.1f %% of %8.2f; multiplying allows %.2f",
        100 * best / reading, reading * 1e-9, peak / (2 * (double)tokens) * (double)dtype_size(dtype) * 1e-9);
    bench_add(figure, "limit", reading * 1e-9);
    return STATUS_OK;
}

int bench_small(struct bench *bench, struct error *err) {
    if (has_choice(bench) || bench->device->ops->read_rate == NULL) {
        return STATUS_OK;
    }
    for (size_t tokens = 1; tokens <= 16; tokens *= 2) {
        TRY(bench_few_tokens(bench, size_min(tokens, bench->options.tokens), err));
    }
    return STATUS_OK;
}
