// SPDX-License-Identifier: MIT
#include "model/quantise.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "kernels/nf4_tables.h"
#include "kernels/quantise.h"
#include "model/load_weight.h"

// ---- what becomes of them ----

struct weight_format quantise_format(enum model_quantize how) {
    if (how == MODEL_QUANTIZE_INT8) {
        return (struct weight_format){
            .name = "int8",
            .kind = WEIGHT_GROUPED,
            .groups = {.code = CODE_I8, .scale = SCALE_F32, .rows = 1, .factor = 1.0f / 127}};
    }
    bool twice = how == MODEL_QUANTIZE_NF4_DOUBLE;
    return (struct weight_format){
        .name = twice ? "nf4, double" : "nf4",
        .kind = WEIGHT_LOOKUP,
        .lookups = {.run = QUANTISE_BLOCK, .is_nested = twice, .nested = QUANTISE_ABSMAX_BLOCK}};
}

int quantise_matrices(struct weight_match *match, enum model_quantize how, bool is_packed,
                      struct error *err) {
    if (how == MODEL_QUANTIZE_NONE) {
        return STATUS_OK;
    }
    if (is_packed) {
        return error_set(err, STATUS_JOB,
                         "model.quantize is for checkpoints of numbers, and this one is packed already: "
                         "leave the key out");
    }
    for (size_t i = 0; i < match->count; i++) {
        struct weight_bound *bound = &match->bound[i];
        const struct weight_row *row = bound->use.row;
        if (row->form == FORM_MATRIX && row->file != FILE_ROWS) {
            char name[WEIGHT_NAME];
            weight_name(name, "", row, bound->use.block, bound->use.copy);
            return error_set(err, STATUS_JOB,
                             "model.quantize cannot quantise '%s' as this family has it: leave the key out",
                             name);
        }
        if (weight_in_block(bound->use.row) && bound->use.row->form == FORM_MATRIX) {
            bound->source.format = quantise_format(how);
            bound->is_quantised = true;
        }
    }
    match->quantize = how;
    return STATUS_OK;
}

// ---- loading ----

struct quantising {
    const struct item *item;
    float *numbers; // of a piece
    float *absmax;  // of all blocks or rows
    unsigned char *codes;
};

// The numbers of rows [row, row + count).
static int read_numbers(const struct quantising *q, size_t row, size_t count, struct error *err) {
    const struct item *item = q->item;
    const unsigned char *source;
    struct weight_view view;
    TRY(load_read_rows(item, row, count, &source, err));
    if (!weight_view_of(item->tensor->format, count, item->columns, source, &view)) {
        return error_set(err, STATUS_INTERNAL, "too large");
    }
    for (size_t i = 0; i < count; i++) {
        weight_expand(q->numbers + i * item->columns, &view, i, 0, item->columns);
    }
    return load_named(item, load_merge(item, q->numbers, row, count, err), err);
}

static int put_codes(const struct quantising *q, size_t offset, size_t bytes, struct error *err) {
    return load_part(q->item, PART_CODES, offset, q->codes, bytes, err);
}

static int quantise_rows(const struct quantising *q, size_t row, size_t count, struct error *err) {
    const struct item *item = q->item;
    size_t first = row * item->columns;
    size_t numbers = count * item->columns;
    TRY(read_numbers(q, row, count, err));
    if (item->loader->model->match.quantize == MODEL_QUANTIZE_INT8) {
        int status = quantise_int8_rows((signed char *)q->codes, q->absmax + row, q->numbers, row, count,
                                        item->columns, err);
        TRY(load_named(item, status, err));
        return put_codes(q, first, numbers, err);
    }
    int status = quantise_nf4(q->codes, q->absmax + first / QUANTISE_BLOCK, q->numbers, first, numbers,
                              QUANTISE_BLOCK, err);
    TRY(load_named(item, status, err));
    return put_codes(q, first / 2, numbers / 2 + numbers % 2, err);
}

// What is beside the codes: scales, or codes of the scales with scales of their own, and the tables.
static int put_scales(const struct quantising *q, size_t blocks, struct error *err) {
    const struct item *item = q->item;
    struct weight_lookups *lookups = &item->loader->model->match.bound[item->use.bound].source.format.lookups;
    float map[NF4_MAP];
    TRY(load_part(item, PART_TABLE, 0, nf4_values, sizeof nf4_values, err));
    if (!lookups->is_nested) {
        return load_part(item, PART_SCALES, 0, q->absmax, blocks * sizeof q->absmax[0], err);
    }
    void *block;
    size_t nested_count = quantise_blocks(blocks, QUANTISE_ABSMAX_BLOCK);
    int status;
    TRY(memory_zeroed(&block, nested_count * sizeof(float) + blocks, 1, err));
    float *nested = block;
    unsigned char *codes = (unsigned char *)(nested + nested_count);
    quantise_absmax(codes, nested, &lookups->offset, q->absmax, blocks);
    nf4_dynamic_map(map);
    TRY_TO(done, status = load_part(item, PART_SCALES, 0, codes, blocks, err));
    TRY_TO(done, status = load_part(item, PART_NESTED_SCALES, 0, nested, nested_count * sizeof(float), err));
    status = load_part(item, PART_NESTED_TABLE, 0, map, sizeof map, err);
done:
    free(block);
    return status;
}

// Rows at a time: whole blocks of numbers, and whole heads where a head's rows are interleaved.
static size_t rows_at_once(const struct item *item) {
    enum { SOME = 1 << 20 }; // numbers
    size_t unit = size_max(item->tensor->head_rows, 1);
    while (unit * item->columns % QUANTISE_BLOCK != 0) { // blocks are powers of two
        unit *= 2;
    }
    return size_min(size_max(SOME / item->columns / unit, 1) * unit, item->rows);
}

static int quantise_all(struct quantising *q, struct error *err) {
    const struct item *item = q->item;
    void *block;
    bool by_rows = item->loader->model->match.quantize == MODEL_QUANTIZE_INT8;
    size_t step = rows_at_once(item);
    size_t blocks = quantise_blocks(item->rows * item->columns, QUANTISE_BLOCK); // dimensions are bounded
    TRY(memory_zeroed(&block, step * item->columns, sizeof q->numbers[0], err));
    q->numbers = block;
    TRY(memory_zeroed(&block, by_rows ? item->rows : blocks, sizeof q->absmax[0], err));
    q->absmax = block;
    TRY(memory_zeroed(&block, step * item->columns, 1, err));
    q->codes = block;
    for (size_t row = 0; row < item->rows; row += step) {
        TRY(quantise_rows(q, row, size_min(step, item->rows - row), err));
    }
    return by_rows ? load_part(item, PART_SCALES, 0, q->absmax, item->rows * sizeof q->absmax[0], err)
                   : put_scales(q, blocks, err);
}

int load_quantised(const struct item *item, struct error *err) {
    struct quantising q = {.item = item};
    int status = quantise_all(&q, err);
    free(q.numbers);
    free(q.absmax);
    free(q.codes);
    return status != STATUS_OK || item->is_kept ? status : load_gathered(item, err);
}
