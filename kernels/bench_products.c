// Products: each matrix at full batches, and all of them at a few tokens. A device that chooses among
// algorithms has every candidate timed, and the best one that its restrictions rule out.
#include <math.h>
#include <string.h>

#include "base/size.h"
#include "kernels/bench_private.h"
#include "kernels/device_ops.h"

enum {
    FEW_TOKENS = 2048,    // the smaller of the batches that products are measured at
    CANDIDATES_MOST = 64, // algorithms of one product
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

// How many groups of candidates give equal bits, and how many share those of the chosen one; timed beside the
// best algorithm of any kind.
static int print_candidates(struct bench *bench, enum bench_matrix matrix, const char *name,
                            double operations, double chosen_seconds, struct error *err) {
    struct device_candidate lines[CANDIDATES_MOST];
    size_t count = 0;
    double free_seconds = 0;
    struct bench_product_buffers buffers = bench_product_buffers(&bench->blocks, matrix);
    int status = bench->device->ops->matmul_candidates(
        bench->device, buffers.out, buffers.x, &bench->blocks.matrices[matrix], NULL, buffers.store,
        bench->blocks.workspace, BENCH_WORKSPACE, lines, CANDIDATES_MOST, &count, &free_seconds, err);
    status = status == STATUS_OK ? bench_blocks_refill(&bench->blocks, err) : status;
    if (status != STATUS_OK || free_seconds <= 0) {
        return status;
    }
    int chosen = -1;
    int groups = 0;
    size_t size = 0;
    size_t unfit = 0;
    for (size_t i = 0; i < count; i++) {
        chosen = lines[i].best ? lines[i].group : chosen;
        groups = lines[i].group >= groups ? lines[i].group + 1 : groups;
        unfit += lines[i].group < 0;
    }
    for (size_t i = 0; i < count; i++) {
        size += chosen >= 0 && lines[i].group == chosen;
    }
    json_t *figure =
        bench_print(bench, name, operations / free_seconds * 1e-9, "GFLOP/s",
                    "chosen is %.1f %% of it; %zu candidates, %d kinds of bits, %zu with those of the "
                    "chosen, %zu not fit",
                    100 * free_seconds / chosen_seconds, count, groups, size, unfit);
    bench_add(figure, "candidates", (double)count);
    bench_add(figure, "groups", groups);
    bench_add(figure, "chosen_group", chosen);
    bench_add(figure, "chosen_group_size", (double)size);
    bench_add(figure, "unfit", (double)unfit);
    bench_add(figure, "chosen_of_free", free_seconds / chosen_seconds);
    return STATUS_OK;
}

static int bench_product(struct bench *bench, size_t tokens, enum bench_matrix matrix, struct error *err) {
    struct bench_times times;
    size_t rows;
    size_t columns;
    char name[96];
    bench_matrix_size(&bench->blocks.shape, matrix, &rows, &columns);
    double operations = 2.0 * (double)tokens * (double)rows * (double)columns;
    int status = bench_time_steps(bench, 1u << steps[matrix], &times, err);
    if (status == STATUS_OK) {
        snprintf(name, sizeof name, "matmul, %zu tokens, %zu x %zu", tokens, rows, columns);
        bench_print_rate(bench, name, operations, times.all, times.peak);
    }
    if (status == STATUS_OK && has_choice(bench)) {
        snprintf(name, sizeof name, "any algorithm, %zu tokens, %zu x %zu", tokens, rows, columns);
        status = print_candidates(bench, matrix, name, operations, times.all, err);
    }
    return status;
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
