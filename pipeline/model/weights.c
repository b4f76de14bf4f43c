#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "kernels/weight_format.h"
#include "model/beside.h"

enum { NAME_SIZE = 128, NUMBER_SIZE = 24 };

// ---- rows ----

static bool in_block(const struct weight_row *row) {
    return strstr(row->name, "{i}") != NULL;
}

static bool present(const struct weight_row *row, const struct model_config *config, size_t block) {
    return row->present == NULL || row->present(config, block);
}

static size_t copies(const struct weight_row *row, const struct model_config *config, size_t block) {
    return row->copies == NULL ? 1 : row->copies(config, block);
}

// Blocks that may have the row; what lies beside them is there once.
static size_t blocks_of(const struct weight_row *row, size_t blocks) {
    return in_block(row) ? blocks : 1;
}

static bool same_place(const struct weight_row *a, const struct weight_row *b) {
    return in_block(a) == in_block(b) && a->place == b->place;
}

// Numbers of one copy.
static uint64_t numbers_of(const struct weight_row *row, const struct model_config *config) {
    return (uint64_t)weight_dimension(config, row->rows) * weight_dimension(config, row->columns);
}

// Rows of one copy of the fused tensor: those of the parts from `first` to before `end`.
static size_t rows_between(const struct weight_row *first, const struct weight_row *end,
                           const struct weight_row *part, const struct model_config *config, size_t block) {
    size_t rows = 0;
    for (const struct weight_row *row = first; row < end; row++) {
        if (same_place(row, part) && present(row, config, block)) {
            rows += weight_dimension(config, row->rows);
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

static void write_name(char out[NAME_SIZE], const char *prefix, struct weight_use use) {
    size_t used = (size_t)snprintf(out, NAME_SIZE, "%s", prefix);
    const char *at = use.row->name;
    while (*at != 0 && used + NUMBER_SIZE < NAME_SIZE) {
        if (strncmp(at, "{i}", 3) == 0 || strncmp(at, "{e}", 3) == 0) {
            used +=
                (size_t)snprintf(out + used, NAME_SIZE - used, "%zu", at[1] == 'i' ? use.block : use.copy);
            at += 3;
        } else {
            out[used++] = *at++;
        }
    }
    out[used] = 0;
}

// ---- a checkpoint's tensors ----

static int check_tensor(const struct tensor *tensor, const struct weight_row *row,
                        const struct model_config *config, struct error *err) {
    size_t wanted[2] = {weight_dimension(config, row->rows), weight_dimension(config, row->columns)};
    size_t rank = row->form == FORM_VECTOR ? 1 : 2;
    if (tensor->rank != rank || memcmp(tensor->shape, wanted, rank * sizeof wanted[0]) != 0) {
        char found_text[TENSOR_SHAPE_TEXT];
        char wanted_text[TENSOR_SHAPE_TEXT];
        tensor_shape_text(tensor->shape, tensor->rank, found_text);
        tensor_shape_text(wanted, rank, wanted_text);
        return error_set(err, STATUS_DATA, "tensor '%s' has shape %s; %s asks for %s", tensor->name,
                         found_text, model_config_holder(config), wanted_text);
    }
    // A device keeps matrices in any format, vectors and tables in plain ones.
    bool plain = row->form != FORM_MATRIX;
    if (tensor->format == NULL || (plain && !tensor->format->plain)) {
        char names[WEIGHT_FORMAT_NAMES];
        return error_set(err, STATUS_DATA, "tensor '%s' has dtype %s; supported are %s", tensor->name,
                         tensor->type->name, weight_format_names(plain, names));
    }
    return STATUS_OK;
}

static int match_use(struct weight_use *uses, const char *prefix, struct weight_use use,
                     const struct model_config *config, const struct tensors *tensors, struct error *err) {
    char name[NAME_SIZE];
    write_name(name, prefix, use);
    const struct tensor *tensor = tensors_find(tensors, name);
    if (tensor == NULL) {
        return error_set(err, STATUS_DATA, "tensor '%s' is missing", name);
    }
    uses[tensor - tensors->entries] = use;
    return check_tensor(tensor, use.row, config, err);
}

static int match_block(struct weight_use *uses, const char *prefix, size_t block,
                       const struct model_config *config, const struct tensors *tensors, struct error *err) {
    const struct weight_table *table = config->weights;
    for (size_t i = 0; i < table->count; i++) {
        struct weight_use use = {.row = &table->rows[i], .block = block};
        if (block >= blocks_of(use.row, config->layers) || !present(use.row, config, block)) {
            continue;
        }
        for (; use.copy < copies(use.row, config, block); use.copy++) {
            TRY(match_use(uses, prefix, use, config, tensors, err));
        }
    }
    return STATUS_OK;
}

static int match_all(struct weight_use *uses, const struct model_config *config,
                     const struct checkpoint *checkpoint, struct error *err) {
    const struct tensors *tensors = &checkpoint->tensors;
    // A checkpoint of the bare model (without its head) has the same names less the prefix.
    const char *prefix = tensors_find(tensors, "embed_tokens.weight") != NULL ? "" : "model.";
    for (size_t block = 0; block < config->layers; block++) {
        TRY(match_block(uses, prefix, block, config, tensors, err));
    }
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = &tensors->entries[i];
        if (uses[i].row == NULL && !beside_tensor(tensor->name, config)) {
            return error_set(err, STATUS_DATA,
                             "tensor '%.200s' of %s has no place in a %s model of %zu layers", tensor->name,
                             checkpoint->files[tensor->file].name, config->model_type, config->layers);
        }
    }
    return STATUS_OK;
}

int weights_match(struct weight_use **out, const struct model_config *config,
                  const struct checkpoint *checkpoint, struct error *err) {
    void *uses;
    *out = NULL;
    TRY(memory_zeroed(&uses, size_max(checkpoint->tensors.count, 1), sizeof **out, err));
    int status = match_all(uses, config, checkpoint, err);
    if (status != STATUS_OK) {
        free(uses);
        return status;
    }
    *out = uses;
    return STATUS_OK;
}

// ---- counting ----

// Numbers of the row in a block, of all copies.
static uint64_t numbers_in_block(const struct weight_row *row, const struct model_config *config,
                                 size_t block) {
    return row->role == ROLE_WEIGHT && present(row, config, block)
               ? copies(row, config, block) * numbers_of(row, config)
               : 0;
}

uint64_t weights_count(const struct model_config *config, bool with_head) {
    const struct weight_table *table = config->weights;
    uint64_t numbers = with_head ? (uint64_t)config->vocabulary * config->hidden : 0;
    for (const struct weight_row *row = table->rows; row < table->rows + table->count; row++) {
        for (size_t block = 0; block < blocks_of(row, config->layers); block++) {
            numbers += numbers_in_block(row, config, block);
        }
    }
    return numbers;
}

bool weights_shape(const struct model_config *config, size_t block, size_t place, size_t *rows,
                   size_t *columns) {
    const struct weight_table *table = config->weights;
    for (const struct weight_row *row = table->rows; row < table->rows + table->count; row++) {
        if (in_block(row) && row->place == place && present(row, config, block)) {
            *rows = rows_together(row, config, block);
            *columns = weight_dimension(config, row->columns);
            return true;
        }
    }
    return false;
}

// ---- on a device ----

static void *place_of(struct model_weights *weights, struct weight_use use) {
    char *base =
        in_block(use.row) ? (char *)&weights->blocks[use.block - weights->first_block] : (char *)weights;
    return base + use.row->place;
}

static int lay_out_row(struct layout *layout, struct model_weights *weights,
                       const struct model_config *config, struct weight_use use, struct error *err) {
    void *place = place_of(weights, use);
    size_t columns = weight_dimension(config, use.row->columns);
    size_t rows;
    if (!size_mul(rows_together(use.row, config, use.block), copies(use.row, config, use.block), &rows)) {
        return error_set(err, STATUS_INTERNAL, "too many copies");
    }
    if (use.row->form == FORM_MATRIX) {
        return layout_matrix(layout, place, rows, columns, err);
    }
    return layout_take(layout, DEVICE_WEIGHTS, rows, columns, dtype_size(device_dtype(layout->shapes_for)),
                       place, err);
}

int weights_lay_out(struct layout *layout, struct model_weights *weights, const struct model_config *config,
                    struct error *err) {
    const struct weight_table *table = config->weights;
    for (const struct weight_row *row = table->rows; row < table->rows + table->count; row++) {
        size_t first = in_block(row) ? weights->first_block : 0;
        for (size_t block = first; block < first + blocks_of(row, weights->block_count); block++) {
            struct weight_use use = {.row = row, .block = block};
            // A later part of a fused tensor lies in the first one's memory.
            if (weights_left_out(weights, use) || !present(row, config, block) ||
                rows_above(row, config, block) > 0) {
                continue;
            }
            if (lay_out_row(layout, weights, config, use, err) != STATUS_OK) {
                char name[NAME_SIZE];
                write_name(name, "", use);
                return error_wrap(err, "memory of '%s'", name);
            }
        }
    }
    return STATUS_OK;
}

bool weights_left_out(const struct model_weights *weights, struct weight_use use) {
    if (use.row == NULL) {
        return true;
    }
    if (in_block(use.row)) {
        return use.block < weights->first_block || use.block - weights->first_block >= weights->block_count;
    }
    return use.row->place == offsetof(struct model_weights, final_norm) ? !weights->has_final_norm
                                                                        : !weights->has_embedding;
}

void weights_rows(const struct model_config *config, struct weight_use use, size_t *rows, size_t *columns) {
    *rows = weight_dimension(config, use.row->rows);
    *columns = weight_dimension(config, use.row->columns);
}

int weights_put(struct device *device, struct model_weights *weights, const struct model_config *config,
                struct weight_use use, size_t row, size_t count, const void *source,
                const struct weight_format *format, struct error *err) {
    void *place = place_of(weights, use);
    size_t columns = weight_dimension(config, use.row->columns);
    size_t first =
        use.copy * rows_together(use.row, config, use.block) + rows_above(use.row, config, use.block) + row;
    if (use.row->form == FORM_MATRIX) {
        return device_matrix_load(device, place, first, count, source, format, err);
    }
    void *vector;
    memcpy(&vector, place, sizeof vector);
    return device_vector_load(device, vector, first * columns, count * columns, source, format, err);
}
