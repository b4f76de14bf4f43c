// Products: each matrix at full batches, and all of them at a few tokens. A device that chooses among
// algorithms has every candidate timed, and the best one that its restrictions rule out.
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/size.h"
#include "kernels/back_end.h"
#include "kernels/bench_private.h"

enum {
    FEW_TOKENS = 2048,     // the smaller of the batches that products are measured at
    CANDIDATES_MOST = 128, // algorithms of one product
};

// The rate of reading all packed weights, in bytes a second; 0 where the back end does not measure it.
int bench_read_rate(struct bench *bench, double *rate, struct error *err) {
    *rate = 0;
    if (bench->device->ops->read_rate == NULL) {
        return STATUS_OK;
    }
    size_t bytes = bench->blocks.count * bench_block_bytes(bench->device, &bench->blocks.shape);
    return bench->device->ops->read_rate(bench->device, bench->blocks.matrices[0].data, bytes, rate, err);
}

// ---- products ----

static const enum bench_step steps[MATRICES] = {STEP_QKV, STEP_OUT, STEP_GATE_UP, STEP_DOWN};

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

static void print_product(struct bench *bench, const char *product, double operations, double seconds,
                          double limit, const char *of) {
    char name[96];
    snprintf(name, sizeof name, "matmul, %s", product);
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

static int list_candidates(struct bench *bench, enum bench_matrix matrix, struct device_candidate *lines,
                           size_t *count, double *free_seconds, struct error *err) {
    const struct bench_blocks *blocks = &bench->blocks;
    struct bench_product_buffers buffers = bench_product_buffers(blocks, matrix);
    void *memory;
    int status = memory_zeroed(&memory, blocks->count, sizeof(struct device_matrix), err);
    if (status != STATUS_OK) {
        return status;
    }
    struct device_matrix *matrices = memory; // of each block the one
    for (size_t i = 0; i < blocks->count; i++) {
        matrices[i] = blocks->matrices[i * MATRICES + matrix];
    }
    status = bench->device->ops->matmul_candidates(bench->device, buffers.out, buffers.x, matrices,
                                                   blocks->count, NULL, buffers.store, lines, CANDIDATES_MOST,
                                                   count, free_seconds, err);
    free(matrices);
    return status;
}

// The product beside the best algorithm of any kind, then every candidate.
static int bench_candidates(struct bench *bench, enum bench_matrix matrix, const char *product,
                            double operations, double chosen_seconds, struct error *err) {
    void *memory = NULL;
    size_t count = 0;
    double free_seconds = 0;
    int status = memory_zeroed(&memory, CANDIDATES_MOST, sizeof(struct device_candidate), err);
    struct device_candidate *lines = memory;
    status = status == STATUS_OK ? list_candidates(bench, matrix, lines, &count, &free_seconds, err) : status;
    if (status == STATUS_OK) {
        char name[96];
        double best = fastest_of(lines, count, free_seconds, chosen_seconds);
        snprintf(name, sizeof name, "any algorithm, %s", product);
        print_product(bench, product, operations, chosen_seconds, operations / best, "best of any algorithm");
        print_candidates(bench, name, operations, best, chosen_seconds, lines, count);
    }
    free(memory);
    return status == STATUS_OK ? bench_blocks_refill(&bench->blocks, err) : status;
}

static int bench_product(struct bench *bench, size_t tokens, enum bench_matrix matrix, struct error *err) {
    struct bench_times times;
    size_t rows;
    size_t columns;
    char product[64];
    bench_matrix_size(&bench->blocks.shape, matrix, &rows, &columns);
    double operations = 2.0 * (double)tokens * (double)rows * (double)columns;
    snprintf(product, sizeof product, "%zu tokens, %zu x %zu", tokens, rows, columns);
    int status = bench_time_steps(bench, 1u << steps[matrix], &times, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (has_choice(bench)) {
        return bench_candidates(bench, matrix, product, operations, times.all, err);
    }
    print_product(bench, product, operations, times.all, times.peak, NULL);
    return STATUS_OK;
}

// A device with a choice computes whole batches, whatever their tokens: it is measured at one.
int bench_products(struct bench *bench, struct error *err) {
    size_t most = bench->options.tokens;
    for (size_t tokens = has_choice(bench) ? most : size_min(FEW_TOKENS, most);;
         tokens = size_min(4 * tokens, most)) {
        int status = bench_blocks_batch(&bench->blocks, tokens, tokens, err);
        for (int m = 0; m < MATRICES && status == STATUS_OK; m++) {
            status = bench_product(bench, tokens, (enum bench_matrix)m, err);
        }
        if (status != STATUS_OK || tokens == most) {
            return status;
        }
    }
}

// All matrices of all blocks in turn, so that weights come from memory, and the reading alone between them:
// what memory gives wanders more than anything else where machines are shared.
static int bench_few_tokens(struct bench *bench, size_t tokens, struct error *err) {
    const unsigned products = 1u << STEP_QKV | 1u << STEP_OUT | 1u << STEP_GATE_UP | 1u << STEP_DOWN;
    double bytes =
        (double)bench->blocks.count * (double)bench_block_bytes(bench->device, &bench->blocks.shape);
    double number = (double)dtype_size(device_dtype(bench->device));
    double reading = 0;
    double peak = 0;
    double best = 0;
    int status = bench_blocks_batch(&bench->blocks, tokens, tokens, err);
    for (int i = 0; i < bench->options.repeats && status == STATUS_OK; i++) {
        double rate = 0;
        double multiply = 0;
        double seconds[STEPS] = {0};
        status = bench_read_rate(bench, &rate, err);
        status = status == STATUS_OK
                     ? bench->device->ops->peak(bench->device, device_dtype(bench->device), &multiply, err)
                     : status;
        for (size_t block = 0; block < bench->blocks.count && status == STATUS_OK; block++) {
            status = bench_run_steps(&bench->blocks, block, products, seconds, err);
        }
        double all = seconds[STEP_QKV] + seconds[STEP_OUT] + seconds[STEP_GATE_UP] + seconds[STEP_DOWN];
        reading = fmax(reading, rate);
        peak = fmax(peak, multiply);
        best = fmax(best, bytes / all);
    }
    if (status == STATUS_OK) {
        char name[96];
        snprintf(name, sizeof name, "all matrices of a block, %zu token%s", tokens, tokens == 1 ? "" : "s");
        json_t *figure =
            bench_print(bench, name, best * 1e-9, "GB/s", "  %8.1f %% of %8.2f; multiplying allows %.2f",
                        100 * best / reading, reading * 1e-9, peak / (2 * (double)tokens) * number * 1e-9);
        bench_add(figure, "limit", reading * 1e-9);
    }
    return status;
}

int bench_small(struct bench *bench, struct error *err) {
    int status = STATUS_OK;
    if (has_choice(bench) || bench->device->ops->read_rate == NULL) {
        return STATUS_OK;
    }
    for (size_t tokens = 1; tokens <= 16 && status == STATUS_OK; tokens *= 2) {
        status = bench_few_tokens(bench, size_min(tokens, bench->options.tokens), err);
    }
    return status;
}
