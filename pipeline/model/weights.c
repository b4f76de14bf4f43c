// SPDX-License-Identifier: MIT
#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "kernels/weight_format.h"

// ---- rows ----

// Numbers of one copy.
static uint64_t numbers_of(const struct weight_row *row, const struct model_config *config, size_t block) {
    return (uint64_t)weight_dimension(config, block, row->rows) *
           weight_dimension(config, block, row->columns);
}

// Rows of one copy of the fused tensor: those of the parts from `first` to before `end`.
static size_t rows_between(const struct weight_row *first, const struct weight_row *end,
                           const struct weight_row *part, const struct model_config *config, size_t block) {
    size_t rows = 0;
    for (const struct weight_row *row = first; row < end; row++) {
        if (weight_same_place(row, part) && weight_present(row, config, block)) {
            rows += weight_dimension(config, block, row->rows);
        }
    }
    return rows;
}

static size_t rows_above(const struct weight_row *part, const struct model_config *config, size_t block) {
    return rows_between(config->weights->rows, part, part, config, block);
}

static size_t rows_together(const struct weight_row *part, const struct model_config *config, size_t block) {
    const struct weight_table *table = config->weights;
    return rows_between(table->rows, table->rows + table->count, part, config, block);
}

// ---- counting ----

// Numbers of the row in a block, of all copies.
static uint64_t numbers_in_block(const struct weight_row *row, const struct model_config *config,
                                 size_t block) {
    return weight_in_file(row, config, block)
               ? weight_copies(row, config, block) * numbers_of(row, config, block)
               : 0;
}

uint64_t weights_count(const struct model_config *config, bool with_head) {
    const struct weight_table *table = config->weights;
    uint64_t numbers = (uint64_t)config->embedding_width * config->hidden; // of project_out, which has no row
    numbers += with_head ? (uint64_t)config->vocabulary * weight_dimension(config, 0, DIM_EMBEDDING) : 0;
    for (const struct weight_row *row = table->rows; row < table->rows + table->count; row++) {
        for (size_t block = 0; block < weight_blocks(row, config->layers); block++) {
            numbers += numbers_in_block(row, config, block);
        }
    }
    return numbers;
}

bool weights_shape(const struct model_config *config, size_t block, size_t place, size_t *rows,
                   size_t *columns) {
    const struct weight_table *table = config->weights;
    for (const struct weight_row *row = table->rows; row < table->rows + table->count; row++) {
        if (weight_in_block(row) && row->place == place && weight_present(row, config, block)) {
            *rows = rows_together(row, config, block);
            *columns = weight_dimension(config, block, row->columns);
            return true;
        }
    }
    return false;
}

// ---- on a device ----

static void *place_of(struct model_weights *weights, struct weight_use use) {
    char *base = weight_in_block(use.row) ? (char *)&weights->blocks[use.block - weights->first_block]
                                          : (char *)weights;
    return base + use.row->place;
}

// The pieces of a matrix that is kept as the checkpoint has it: its parts.
static void list_pieces(struct device_matrix *matrix, const struct weight_match *match,
                        const struct model_config *config, struct weight_use use) {
    const struct weight_table *table = config->weights;
    if (match == NULL || !weights_keep(match, config, use.row, use.block)) {
        return;
    }
    matrix->copies = weight_copies(use.row, config, use.block);
    matrix->format_apart = WEIGHTS_SOURCE_APART;
    for (const struct weight_row *row = table->rows; row < table->rows + table->count; row++) {
        size_t rows = weight_dimension(config, use.block, row->rows);
        if (!weight_same_place(row, use.row) || !weight_present(row, config, use.block)) {
            continue;
        }
        if (weight_in_file(row, config, use.block)) {
            matrix->pieces[matrix->piece_count++] = (struct device_piece){
                .format = &weights_source(match, row, use.block, 0)->format, .rows = rows};
        } else {
            matrix->loose_rows += rows; // its rows are the table's last
        }
    }
}

static int lay_out_row(struct layout *layout, struct model_weights *weights,
                       const struct model_config *config, struct weight_use use, struct error *err) {
    void *place = place_of(weights, use);
    size_t columns = weight_dimension(config, use.block, use.row->columns);
    size_t rows;
    if (!size_mul(rows_together(use.row, config, use.block), weight_copies(use.row, config, use.block),
                  &rows)) {
        return error_set(err, STATUS_INTERNAL, "too many copies");
    }
    if (use.row->form == FORM_MATRIX) {
        struct device_matrix *matrix = place;
        if (!layout->checking) {
            size_t experts = weights_experts(config, use.row, use.block);
            *matrix = (struct device_matrix){.rows = rows, .columns = columns, .parts = experts};
            list_pieces(matrix, weights->match, config, use);
        }
        return layout_matrix(layout, matrix, err);
    }
    enum dtype dtype = weight_is_float(use.row) ? DTYPE_F32 : device_dtype(layout->shapes_for);
    return layout_take(layout, DEVICE_WEIGHTS, rows, columns, dtype_size(dtype), place, err);
}

// The row in one block, or beside all blocks.
static int lay_out_once(struct layout *layout, struct model_weights *weights,
                        const struct model_config *config, struct weight_use use, struct error *err) {
    // A later part of a fused tensor lies in the first one's memory.
    if (weights_left_out(weights, use) || !weight_present(use.row, config, use.block) ||
        rows_above(use.row, config, use.block) > 0) {
        return STATUS_OK;
    }
    if (lay_out_row(layout, weights, config, use, err) != STATUS_OK) {
        char name[WEIGHT_NAME];
        weight_name(name, "", use.row, use.block, 0);
        return error_wrap(err, "memory of '%s'", name);
    }
    return STATUS_OK;
}

// ---- blocks that come into slots ----

size_t weights_first_streamed(const struct model_weights *weights) {
    return weights->first_block + weights->block_count - weights->streamed;
}

bool weights_is_streamed(const struct model_weights *weights, size_t block) {
    return block >= weights_first_streamed(weights);
}

struct weight_slot *weights_slot(struct model_weights *weights, size_t block) {
    return &weights->slots[(block - weights_first_streamed(weights)) % weights->slot_count];
}

static int lay_out_block(struct layout *layout, struct model_weights *weights,
                         const struct model_config *config, size_t block, struct error *err) {
    const struct weight_table *table = config->weights;
    for (const struct weight_row *row = table->rows; row < table->rows + table->count; row++) {
        if (weight_in_block(row)) {
            TRY(lay_out_once(layout, weights, config, (struct weight_use){.row = row, .block = block}, err));
        }
    }
    return STATUS_OK;
}

static int plan_block(const struct model_weights *weights, const struct model_config *config,
                      const struct device *device, size_t block, struct device_plan *plan,
                      struct error *err) {
    struct block_weights planned; // the weights' own keep what was taken
    struct model_weights one = {.blocks = &planned, .first_block = block, .block_count = 1};
    struct layout layout = layout_planning(device, plan);
    one.match = weights->match;
    return lay_out_block(&layout, &one, config, block, err);
}

int weights_block_bytes(const struct model_weights *weights, const struct model_config *config,
                        const struct device *device, size_t block, size_t *bytes, struct error *err) {
    struct device_plan plan = {0};
    TRY(plan_block(weights, config, device, block, &plan, err));
    *bytes = plan.bytes[DEVICE_WEIGHTS];
    return STATUS_OK;
}

// A slot has room for the largest of the blocks. What expanding one takes is part of a plan like any other.
static int size_slots(const struct layout *layout, const struct model_weights *weights,
                      const struct model_config *config, size_t *bytes, struct error *err) {
    size_t end = weights->first_block + weights->block_count;
    *bytes = 0;
    for (size_t block = weights_first_streamed(weights); block < end; block++) {
        struct device_plan plan = {0};
        TRY(plan_block(weights, config, layout->shapes_for, block, &plan, err));
        *bytes = size_max(*bytes, plan.bytes[DEVICE_WEIGHTS]);
        if (layout->plan != NULL) {
            layout->plan->expansion = size_max(layout->plan->expansion, plan.expansion);
        }
    }
    return STATUS_OK;
}

// Every streamed block has its weights in its slot, one block at a time.
static int lay_out_slots(struct layout *layout, struct model_weights *weights,
                         const struct model_config *config, struct error *err) {
    size_t end = weights->first_block + weights->block_count;
    size_t bytes;
    TRY(size_slots(layout, weights, config, &bytes, err));
    for (size_t i = 0; i < weights->slot_count; i++) {
        TRY(layout_take(layout, DEVICE_WEIGHTS, bytes, 1, 1, &weights->slots[i].data, err));
        if (layout->device != NULL && !layout->checking) {
            TRY(device_load_slot(layout->device, weights->slots[i].data, bytes, err));
        }
    }
    for (size_t block = weights_first_streamed(weights); block < end; block++) {
        struct layout_room room = {.data = weights_slot(weights, block)->data, .bytes = bytes};
        struct layout within = *layout;
        within.room = &room;
        if (layout->device != NULL && !layout->checking) {
            TRY(lay_out_block(&within, weights, config, block, err));
        }
    }
    return STATUS_OK;
}

int weights_lay_out(struct layout *layout, struct model_weights *weights, const struct model_config *config,
                    struct error *err) {
    const struct weight_table *table = config->weights;
    size_t resident = weights->block_count - weights->streamed;
    for (const struct weight_row *row = table->rows; row < table->rows + table->count; row++) {
        size_t first = weight_in_block(row) ? weights->first_block : 0;
        for (size_t block = first; block < first + weight_blocks(row, resident); block++) {
            TRY(lay_out_once(layout, weights, config, (struct weight_use){.row = row, .block = block}, err));
        }
    }
    return weights->streamed > 0 ? lay_out_slots(layout, weights, config, err) : STATUS_OK;
}

bool weights_left_out(const struct model_weights *weights, struct weight_use use) {
    if (use.row == NULL) {
        return true;
    }
    if (weight_in_block(use.row)) {
        return use.block < weights->first_block || use.block - weights->first_block >= weights->block_count;
    }
    bool is_final = use.row->place == offsetof(struct model_weights, final_norm) ||
                    use.row->place == offsetof(struct model_weights, final_norm_bias);
    return is_final ? !weights->has_final_norm : !weights->has_embedding;
}

void weights_rows(const struct model_config *config, struct weight_use use, size_t *rows, size_t *columns) {
    *rows = weight_dimension(config, use.block, use.row->rows);
    *columns = weight_dimension(config, use.block, use.row->columns);
}

// The first of its rows in its place.
static size_t first_row(const struct model_config *config, struct weight_use use) {
    return use.copy * rows_together(use.row, config, use.block) + rows_above(use.row, config, use.block);
}

// Numbers of rows that are no matrix: computed with as they are, or in float32.
static int put_numbers(struct device *device, void *place, bool is_float, const struct weight_view *view,
                       size_t first, struct error *err) {
    enum { SOME = 1 << 16 };
    void *out;
    void *block;
    int status = STATUS_OK;
    memcpy(&out, place, sizeof out);
    size_t step = size_max(1, SOME / view->columns);
    TRY(memory_zeroed(&block, size_min(step, view->rows) * view->columns, sizeof(float), err));
    float *numbers = block;
    for (size_t row = 0; row < view->rows; row += step) {
        size_t count = size_min(step, view->rows - row);
        for (size_t i = 0; i < count; i++) {
            weight_expand(numbers + i * view->columns, view, row + i, 0, view->columns);
        }
        size_t at = (first + row) * view->columns;
        TRY_TO(done, status = is_float
                                  ? device_floats_load(device, out, at, count * view->columns, numbers, err)
                                  : device_vector_load(device, out, at, count * view->columns, numbers,
                                                       weight_format_of(DTYPE_F32), err));
    }
done:
    free(block);
    return status;
}

static int put_rows(struct device *device, struct model_weights *weights, struct weight_use use, size_t first,
                    const struct weight_view *view, struct error *err) {
    void *place = place_of(weights, use);
    void *vector;
    if (use.row->form == FORM_MATRIX) {
        return device_matrix_load_view(device, place, first, view, err);
    }
    if (weight_is_float(use.row) || !weight_format_plain(&view->format)) {
        return put_numbers(device, place, weight_is_float(use.row), view, first, err);
    }
    memcpy(&vector, place, sizeof vector);
    return device_vector_load(device, vector, first * view->columns, view->rows * view->columns,
                              view->parts[0], weight_format_of(view->format.dtype), err);
}

int weights_put(struct device *device, struct model_weights *weights, const struct model_config *config,
                struct weight_use use, size_t row, size_t count, const void *source,
                const struct weight_format *format, struct error *err) {
    struct weight_view view;
    if (!weight_view_of(format, count, weight_dimension(config, use.block, use.row->columns), source,
                        &view)) {
        return error_set(err, STATUS_INTERNAL, "%zu rows do not come in %s", count, format->name);
    }
    return put_rows(device, weights, use, first_row(config, use) + row, &view, err);
}

int weights_put_view(struct device *device, struct model_weights *weights, const struct model_config *config,
                     struct weight_use use, const struct weight_view *view, struct error *err) {
    return put_rows(device, weights, use, first_row(config, use), view, err);
}

bool weights_are_kept(const struct model_weights *weights, const struct model_config *config,
                      struct weight_use use) {
    return weights->match != NULL && weights_keep(weights->match, config, use.row, use.block);
}

int weights_put_part(struct device *device, struct model_weights *weights, const struct model_config *config,
                     struct weight_use use, enum weight_part part, size_t offset, const void *source,
                     size_t bytes, struct error *err) {
    const struct device_matrix *matrix = place_of(weights, use);
    size_t piece = use.copy * matrix->piece_count;
    for (const struct weight_row *row = config->weights->rows; row < use.row; row++) {
        piece += weight_same_place(row, use.row) && weight_present(row, config, use.block);
    }
    return device_piece_load(device, place_of(weights, use), piece, part, offset, source, bytes, err);
}
