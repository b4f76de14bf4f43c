// SPDX-License-Identifier: MIT
// The experts of a mixture: gate_up, activation and down of each token's experts, and their weighted sum.
//
// Pairs of token and expert are sorted by expert (then token), so that an expert's weights meet all of its
// tokens at once. gate_up goes by pieces of the sorted rows and leaves every row's inner activations; down
// goes by pieces of its output columns over all rows, so that a token's experts can be added up in their
// order as soon as a piece is there. Weights are read once that way, and neither a row of hidden numbers nor
// of sums is kept for every pair.
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"

enum {
    PIECE_ROWS = 4096,       // of gate_up, or more:
    PIECE_ROWS_THREAD = 256, // for each thread
    DOWN_COLUMNS = 512,      // of a piece of down, or more where rows are few:
    DOWN_NUMBERS = 4 << 20,  // all columns where no more than so many come out
    SUM_COLUMNS = 512,       // added up at a time
};

struct layout { // of scratch; offsets in bytes
    size_t pairs;
    size_t starts; // int32 [experts + 1]: an expert's first sorted row
    size_t items;  // uint32 [experts + 1]
    size_t order;  // int32 [pairs]: a sorted row's pair, token * chosen + its place among the token's experts
    size_t place;  // int32 [tokens, chosen]: the sorted row of a token's expert
    size_t inner;  // numbers [pairs, width]
    size_t piece;  // numbers: gathered [piece_rows, hidden] and gate_up of them, then down
    size_t piece_rows;
    size_t down_columns;
    size_t bytes;
};

static bool add_part(struct layout *layout, size_t *offset, size_t count, size_t size) {
    size_t bytes;
    *offset = layout->bytes;
    return size_mul(count, size, &bytes) && size_round_up(bytes, DEVICE_ALIGNMENT, &bytes) &&
           size_add(layout->bytes, bytes, &layout->bytes);
}

// Grows with tokens, so that a smaller batch fits into scratch that was planned for the largest.
static bool lay_out(const struct cpu_device *cpu, const struct device_experts *experts, size_t tokens,
                    struct layout *out) {
    size_t number = dtype_size(cpu->base.dtype);
    size_t row; // of a gathered token and its gate_up
    size_t all;
    size_t least;
    struct layout layout = {0};
    if (!size_mul(tokens, experts->chosen, &layout.pairs) || layout.pairs > INT32_MAX ||
        !size_add(device_experts_rows(experts), experts->hidden, &row)) {
        return false;
    }
    size_t least_columns = size_min(DOWN_COLUMNS, experts->hidden);
    layout.piece_rows = size_max(PIECE_ROWS, PIECE_ROWS_THREAD * (size_t)cpu->threads);
    layout.piece_rows = size_min(layout.piece_rows, layout.pairs);
    if (!size_mul(layout.piece_rows, row, &row) || !size_mul(layout.pairs, experts->hidden, &all) ||
        !size_mul(layout.pairs, least_columns, &least)) {
        return false;
    }
    size_t numbers = size_max(row, size_max(least, size_min(all, DOWN_NUMBERS)));
    layout.down_columns = numbers / size_max(layout.pairs, 1) / TILE_COLUMNS_MOST * TILE_COLUMNS_MOST;
    layout.down_columns = size_min(size_max(layout.down_columns, least_columns), experts->hidden);
    if (!size_mul(layout.pairs, experts->width, &all) ||
        !add_part(&layout, &layout.starts, experts->experts + 1, sizeof(int32_t)) ||
        !add_part(&layout, &layout.items, experts->experts + 1, sizeof(uint32_t)) ||
        !add_part(&layout, &layout.order, layout.pairs, sizeof(int32_t)) ||
        !add_part(&layout, &layout.place, layout.pairs, sizeof(int32_t)) ||
        !add_part(&layout, &layout.inner, all, number) ||
        !add_part(&layout, &layout.piece, numbers, number)) {
        return false;
    }
    *out = layout;
    return true;
}

bool cpu_experts_scratch(const struct device *device, const struct device_experts *experts, size_t tokens,
                         size_t *bytes) {
    struct layout layout;
    if (!lay_out(cpu_of_const(device), experts, tokens, &layout)) {
        return false;
    }
    *bytes = layout.bytes;
    return true;
}

struct mixture {
    struct rows rows; // of the phase that goes on: of a piece, or tokens
    const struct device_experts *experts;
    enum dtype dtype;
    enum device_store store;
    size_t tokens;
    size_t pairs;
    void *out;     // [tokens, hidden]
    const void *x; // [tokens, hidden]
    const float *weights;
    int32_t *starts;
    uint32_t *items;
    int32_t *order;
    int32_t *place;
    void *inner;
    void *piece;
    size_t first; // of sorted rows, or of columns of out: those of the piece
    size_t count;
};

// ---- sorting ----

static int count_rows(const struct mixture *mixture, const int32_t *chosen, struct error *err) {
    size_t experts = mixture->experts->experts;
    size_t each = mixture->experts->chosen;
    memset(mixture->starts, 0, (experts + 1) * sizeof *mixture->starts);
    for (size_t i = 0; i < mixture->pairs; i++) {
        if (chosen[i] < 0 || (size_t)chosen[i] >= experts || (i % each > 0 && chosen[i] <= chosen[i - 1])) {
            return error_set(err, STATUS_INTERNAL, "experts: token %zu has no ascending experts", i / each);
        }
        mixture->starts[chosen[i] + 1]++;
    }
    for (size_t e = 0; e < experts; e++) {
        mixture->starts[e + 1] += mixture->starts[e];
    }
    return STATUS_OK;
}

// An expert's rows in order of tokens.
static int sort_rows(const struct mixture *mixture, const int32_t *chosen, struct error *err) {
    TRY(count_rows(mixture, chosen, err));
    int32_t *next = (int32_t *)mixture->items; // row of each expert: not needed for items yet
    memcpy(next, mixture->starts, mixture->experts->experts * sizeof *next);
    for (size_t i = 0; i < mixture->pairs; i++) {
        int32_t row = next[chosen[i]]++;
        mixture->place[i] = row;
        mixture->order[row] = (int32_t)i;
    }
    return STATUS_OK;
}

// ---- gate_up ----

static void *gate_up_of(const struct mixture *mixture) { // after the piece's gathered rows
    return number_in(mixture->piece, mixture->count * mixture->experts->hidden, mixture->dtype);
}

static void gather_rows(const void *job, size_t piece, size_t member) {
    const struct mixture *mixture = job;
    struct share mine = rows_of(&mixture->rows, piece);
    size_t hidden = mixture->experts->hidden;
    (void)member;
    for (size_t r = mine.first; r < mine.end; r++) {
        size_t pair = (size_t)mixture->order[mixture->first + r];
        const void *from = number_of(mixture->x, pair / mixture->experts->chosen * hidden, mixture->dtype);
        void *to = number_in(mixture->piece, r * hidden, mixture->dtype);
        if (mixture->experts->scales_input) {
            mixture->rows.cpu->kernels->scaled(to, from, mixture->weights[pair], DEVICE_STORE, hidden);
        } else {
            memcpy(to, from, hidden * dtype_size(mixture->dtype));
        }
    }
}

static void activate_rows(const void *job, size_t piece, size_t member) {
    const struct mixture *mixture = job;
    const struct micro_kernels *kernels = mixture->rows.cpu->kernels;
    const struct device_experts *experts = mixture->experts;
    struct share mine = rows_of(&mixture->rows, piece);
    (void)member;
    for (size_t r = mine.first; r < mine.end; r++) {
        const void *gate = number_of(gate_up_of(mixture), r * device_experts_rows(experts), mixture->dtype);
        const void *up = experts->plain ? NULL : number_of(gate, experts->width, mixture->dtype);
        void *inner = number_in(mixture->inner, (mixture->first + r) * experts->width, mixture->dtype);
        if (experts->limit > 0) {
            kernels->activate_limited(inner, gate, up, experts->limit, experts->width);
        } else {
            kernels->activate(inner, gate, up, experts->activation, experts->width);
        }
    }
}

static void run_rows(struct mixture *mixture, size_t rows, size_t numbers, cpu_team_task *run) {
    mixture->rows.count = rows;
    rows_run(&mixture->rows, run, numbers);
}

static int multiply(const struct mixture *mixture, void *out, const void *x,
                    const struct device_matrix *matrix, const void *bias, const struct gemm_groups *groups,
                    struct error *err) {
    if (matrix->piece_count > 0) {
        return gemm_multiply_packed(mixture->rows.cpu, out, x, matrix, bias, groups, err);
    }
    gemm_multiply_groups(mixture->rows.cpu, out, x, matrix, bias, groups);
    return STATUS_OK;
}

// The inner activations of the piece's sorted rows.
static int compute_inner(struct mixture *mixture, struct error *err) {
    const struct device_experts *experts = mixture->experts;
    run_rows(mixture, mixture->count, 2 * experts->hidden, gather_rows);
    const struct gemm_groups groups = {
        .starts = mixture->starts,
        .count = experts->experts,
        .rows_each = device_experts_rows(experts),
        .end = device_experts_rows(experts),
        .row = mixture->first,
        .row_end = mixture->first + mixture->count,
        .items = mixture->items,
    };
    TRY(multiply(mixture, gate_up_of(mixture), mixture->piece, experts->gate_up, experts->gate_up_bias,
                 &groups, err));
    run_rows(mixture, mixture->count, 3 * experts->width, activate_rows);
    return STATUS_OK;
}

// ---- down ----

static void sum_tokens(const void *job, size_t piece, size_t member) {
    const struct mixture *mixture = job;
    const struct micro_kernels *kernels = mixture->rows.cpu->kernels;
    struct share mine = rows_of(&mixture->rows, piece);
    size_t chosen = mixture->experts->chosen;
    size_t hidden = mixture->experts->hidden;
    _Alignas(64) float sums[SUM_COLUMNS];
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        for (size_t c = 0; c < mixture->count; c += SUM_COLUMNS) {
            size_t columns = size_min(SUM_COLUMNS, mixture->count - c);
            memset(sums, 0, columns * sizeof *sums);
            for (size_t j = t * chosen; j < (t + 1) * chosen; j++) {
                size_t at = (size_t)mixture->place[j] * mixture->count + c;
                kernels->add_scaled(sums, number_of(mixture->piece, at, mixture->dtype),
                                    mixture->experts->scales_input ? 1.0f : mixture->weights[j], columns);
            }
            kernels->store_sums(number_in(mixture->out, t * hidden + mixture->first + c, mixture->dtype),
                                sums, NULL, columns, mixture->store);
        }
    }
}

// Columns [first, first + count) of out.
static int compute_out(struct mixture *mixture, struct error *err) {
    const struct device_experts *experts = mixture->experts;
    const struct gemm_groups groups = {
        .starts = mixture->starts,
        .count = experts->experts,
        .rows_each = experts->hidden,
        .first = mixture->first,
        .end = mixture->first + mixture->count,
        .row_end = mixture->pairs,
        .items = mixture->items,
    };
    TRY(multiply(mixture, mixture->piece, mixture->inner, experts->down, experts->down_bias, &groups, err));
    run_rows(mixture, mixture->tokens, (experts->chosen + 1) * mixture->count, sum_tokens);
    return STATUS_OK;
}

static int compute(struct mixture *mixture, const struct layout *layout, const int32_t *chosen,
                   struct error *err) {
    TRY(sort_rows(mixture, chosen, err));
    for (mixture->first = 0; mixture->first < mixture->pairs; mixture->first += mixture->count) {
        mixture->count = size_min(layout->piece_rows, mixture->pairs - mixture->first);
        TRY(compute_inner(mixture, err));
    }
    size_t hidden = mixture->experts->hidden;
    for (mixture->first = 0; mixture->first < hidden; mixture->first += mixture->count) {
        mixture->count = size_min(layout->down_columns, hidden - mixture->first);
        TRY(compute_out(mixture, err));
    }
    return STATUS_OK;
}

int cpu_experts(struct device *device, void *out, const void *x, const struct device_routes *routes,
                const struct device_experts *experts, enum device_store store, size_t tokens, void *scratch,
                struct error *err) {
    struct cpu_device *cpu = cpu_of(device);
    struct layout layout;
    if (cpu->thread_scratch == NULL || !lay_out(cpu, experts, tokens, &layout)) {
        return error_set(err, STATUS_INTERNAL, "experts: device memory was not reserved");
    }
    double started = clock_seconds();
    double before = cpu->since_fence.compute_seconds; // phases of rows count their own
    unsigned char *at = scratch;
    struct mixture mixture = {
        .rows = {.cpu = cpu},
        .experts = experts,
        .dtype = device->dtype,
        .store = store,
        .tokens = tokens,
        .pairs = layout.pairs,
        .out = out,
        .x = x,
        .weights = routes->weights,
        .starts = (int32_t *)(void *)(at + layout.starts),
        .items = (uint32_t *)(void *)(at + layout.items),
        .order = (int32_t *)(void *)(at + layout.order),
        .place = (int32_t *)(void *)(at + layout.place),
        .inner = at + layout.inner,
        .piece = at + layout.piece,
    };
    int status = compute(&mixture, &layout, routes->experts, err);
    cpu->since_fence.compute_seconds = before + clock_seconds() - started;
    return status;
}
