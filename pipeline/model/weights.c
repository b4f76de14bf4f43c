#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "model/beside.h"

enum dimension { DIM_ONE, DIM_HIDDEN, DIM_VOCABULARY, DIM_Q, DIM_KV, DIM_HEAD, DIM_INTERMEDIATE };
enum form { FORM_VECTOR, FORM_TABLE, FORM_MATRIX };

enum { ALWAYS = -1, NAME_SIZE = 128 };

// Rows that share a place are parts of one fused tensor, one below the other in the order of the table.
struct weight_row {
    const char *name;       // after "model."; of a block: after "layers.N."
    bool in_block;          // place is in struct block_weights, else in struct model_weights
    enum form form;         // TABLE: row-major numbers; MATRIX: a device_matrix
    enum dimension rows;    // of a vector: its length
    enum dimension columns; // DIM_ONE for a vector
    size_t place;           // offset of the member
    int condition;          // offset of a bool in struct model_config, or ALWAYS
};

#define GLOBAL(member) offsetof(struct model_weights, member)
#define BLOCK(member) offsetof(struct block_weights, member)
#define WHEN(member) (int)offsetof(struct model_config, member)

// clang-format off
static const struct weight_row table[] = {
    {"embed_tokens.weight",             false, FORM_TABLE,  DIM_VOCABULARY,   DIM_HIDDEN,       GLOBAL(embedding),    ALWAYS},
    {"norm.weight",                     false, FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,          GLOBAL(final_norm),   ALWAYS},
    {"input_layernorm.weight",          true,  FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,          BLOCK(input_norm),    ALWAYS},
    {"self_attn.q_proj.weight",         true,  FORM_MATRIX, DIM_Q,            DIM_HIDDEN,       BLOCK(qkv),           ALWAYS},
    {"self_attn.k_proj.weight",         true,  FORM_MATRIX, DIM_KV,           DIM_HIDDEN,       BLOCK(qkv),           ALWAYS},
    {"self_attn.v_proj.weight",         true,  FORM_MATRIX, DIM_KV,           DIM_HIDDEN,       BLOCK(qkv),           ALWAYS},
    {"self_attn.q_proj.bias",           true,  FORM_VECTOR, DIM_Q,            DIM_ONE,          BLOCK(qkv_bias),      WHEN(attention_bias)},
    {"self_attn.k_proj.bias",           true,  FORM_VECTOR, DIM_KV,           DIM_ONE,          BLOCK(qkv_bias),      WHEN(attention_bias)},
    {"self_attn.v_proj.bias",           true,  FORM_VECTOR, DIM_KV,           DIM_ONE,          BLOCK(qkv_bias),      WHEN(attention_bias)},
    {"self_attn.q_norm.weight",         true,  FORM_VECTOR, DIM_HEAD,         DIM_ONE,          BLOCK(q_norm),        WHEN(qk_norm)},
    {"self_attn.k_norm.weight",         true,  FORM_VECTOR, DIM_HEAD,         DIM_ONE,          BLOCK(k_norm),        WHEN(qk_norm)},
    {"self_attn.o_proj.weight",         true,  FORM_MATRIX, DIM_HIDDEN,       DIM_Q,            BLOCK(output),        ALWAYS},
    {"self_attn.o_proj.bias",           true,  FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,          BLOCK(output_bias),   WHEN(output_bias)},
    {"post_attention_layernorm.weight", true,  FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,          BLOCK(post_norm),     ALWAYS},
    {"mlp.gate_proj.weight",            true,  FORM_MATRIX, DIM_INTERMEDIATE, DIM_HIDDEN,       BLOCK(gate_up),       ALWAYS},
    {"mlp.up_proj.weight",              true,  FORM_MATRIX, DIM_INTERMEDIATE, DIM_HIDDEN,       BLOCK(gate_up),       ALWAYS},
    {"mlp.gate_proj.bias",              true,  FORM_VECTOR, DIM_INTERMEDIATE, DIM_ONE,          BLOCK(gate_up_bias),  WHEN(mlp_bias)},
    {"mlp.up_proj.bias",                true,  FORM_VECTOR, DIM_INTERMEDIATE, DIM_ONE,          BLOCK(gate_up_bias),  WHEN(mlp_bias)},
    {"mlp.down_proj.weight",            true,  FORM_MATRIX, DIM_HIDDEN,       DIM_INTERMEDIATE, BLOCK(down),          ALWAYS},
    {"mlp.down_proj.bias",              true,  FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,          BLOCK(down_bias),     WHEN(mlp_bias)},
};
// clang-format on

enum { TABLE_ROWS = sizeof table / sizeof table[0] };

// Dimensions are at most 2^24, heads and head_dim at most 2^16 (config.c): products of two dimensions fit.
static size_t dimension(const struct model_config *config, enum dimension which) {
    switch (which) {
    case DIM_HIDDEN:
        return config->hidden;
    case DIM_VOCABULARY:
        return config->vocabulary;
    case DIM_Q:
        return config->heads * config->head_dim;
    case DIM_KV:
        return config->kv_heads * config->head_dim;
    case DIM_HEAD:
        return config->head_dim;
    case DIM_INTERMEDIATE:
        return config->intermediate;
    case DIM_ONE:
        break;
    }
    return 1;
}

static bool present(const struct weight_row *row, const struct model_config *config) {
    return row->condition == ALWAYS || *(const bool *)((const char *)config + row->condition);
}

static bool same_place(const struct weight_row *a, const struct weight_row *b) {
    return a->in_block == b->in_block && a->place == b->place;
}

// Rows of the fused tensor above this part, or in all parts.
static size_t rows_above(const struct model_config *config, int row) {
    size_t rows = 0;
    for (int i = 0; i < row; i++) {
        rows += same_place(&table[i], &table[row]) ? dimension(config, table[i].rows) : 0;
    }
    return rows;
}

static size_t rows_together(const struct model_config *config, int row) {
    size_t rows = rows_above(config, row);
    for (int i = row; i < TABLE_ROWS; i++) {
        rows += same_place(&table[i], &table[row]) ? dimension(config, table[i].rows) : 0;
    }
    return rows;
}

static void write_name(char out[NAME_SIZE], const char *prefix, const struct weight_row *row, size_t block) {
    if (row->in_block) {
        snprintf(out, NAME_SIZE, "%slayers.%zu.%s", prefix, block, row->name);
    } else {
        snprintf(out, NAME_SIZE, "%s%s", prefix, row->name);
    }
}

static int check_tensor(const struct safetensor *tensor, const struct weight_row *row,
                        const struct model_config *config, struct error *err) {
    size_t wanted[2] = {dimension(config, row->rows), dimension(config, row->columns)};
    size_t rank = row->form == FORM_VECTOR ? 1 : 2;
    if (tensor->rank != rank || memcmp(tensor->shape, wanted, rank * sizeof wanted[0]) != 0) {
        char found_text[SAFETENSORS_SHAPE_TEXT];
        char wanted_text[SAFETENSORS_SHAPE_TEXT];
        safetensors_shape_text(tensor->shape, tensor->rank, found_text);
        safetensors_shape_text(wanted, rank, wanted_text);
        return error_set(err, STATUS_DATA, "tensor '%s' has shape %s; config.json asks for %s", tensor->name,
                         found_text, wanted_text);
    }
    if (!tensor->type->is_weight) {
        return error_set(err, STATUS_DATA, "tensor '%s' has dtype %s; supported are F32, F16 and BF16",
                         tensor->name, tensor->type->name);
    }
    return STATUS_OK;
}

static int match_row(struct weight_use *uses, const char *prefix, int row, size_t block,
                     const struct model_config *config, const struct checkpoint *checkpoint,
                     struct error *err) {
    char name[NAME_SIZE];
    size_t index;
    write_name(name, prefix, &table[row], block);
    if (!checkpoint_find(checkpoint, name, &index)) {
        return error_set(err, STATUS_DATA, "tensor '%s' is missing", name);
    }
    uses[index] = (struct weight_use){.row = row, .block = block};
    return check_tensor(checkpoint->entries[index].tensor, &table[row], config, err);
}

static int match_all(struct weight_use *uses, const struct model_config *config,
                     const struct checkpoint *checkpoint, struct error *err) {
    // A checkpoint of the bare model (without its head) has the same names less the prefix.
    size_t unused;
    const char *prefix = checkpoint_find(checkpoint, "embed_tokens.weight", &unused) ? "" : "model.";
    for (size_t block = 0; block < config->layers; block++) {
        for (int row = 0; row < TABLE_ROWS; row++) {
            if (!present(&table[row], config) || (!table[row].in_block && block > 0)) {
                continue;
            }
            int status = match_row(uses, prefix, row, block, config, checkpoint, err);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    for (size_t i = 0; i < checkpoint->entry_count; i++) {
        const char *name = checkpoint->entries[i].tensor->name;
        if (uses[i].row == WEIGHT_IGNORED && !beside_tensor(name, config)) {
            return error_set(
                err, STATUS_DATA, "tensor '%.200s' of %s has no place in a %s model of %zu layers", name,
                checkpoint->files[checkpoint->entries[i].file].name, config->model_type, config->layers);
        }
    }
    return STATUS_OK;
}

int weights_match(struct weight_use **out, const struct model_config *config,
                  const struct checkpoint *checkpoint, struct error *err) {
    void *block;
    *out = NULL;
    int status = memory_zeroed(&block, size_max(checkpoint->entry_count, 1), sizeof **out, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct weight_use *uses = block;
    for (size_t i = 0; i < checkpoint->entry_count; i++) {
        uses[i].row = WEIGHT_IGNORED;
    }
    status = match_all(uses, config, checkpoint, err);
    if (status != STATUS_OK) {
        free(uses);
        return status;
    }
    *out = uses;
    return STATUS_OK;
}

uint64_t weights_count(const struct model_config *config, bool with_head) {
    uint64_t numbers = with_head ? (uint64_t)config->vocabulary * config->hidden : 0;
    for (int i = 0; i < TABLE_ROWS; i++) {
        if (present(&table[i], config)) {
            uint64_t once = (uint64_t)dimension(config, table[i].rows) * dimension(config, table[i].columns);
            numbers += table[i].in_block ? once * config->layers : once;
        }
    }
    return numbers;
}

bool weights_shape(const struct model_config *config, size_t block, size_t place, size_t *rows,
                   size_t *columns) {
    (void)block; // what the table asks for is the same in every block
    for (int i = 0; i < TABLE_ROWS; i++) {
        if (table[i].in_block && table[i].place == place && present(&table[i], config)) {
            *rows = rows_together(config, i);
            *columns = dimension(config, table[i].columns);
            return true;
        }
    }
    return false;
}

static void *place_of(struct model_weights *weights, int row, size_t block) {
    char *base = table[row].in_block ? (char *)&weights->blocks[block] : (char *)weights;
    return base + table[row].place;
}

static int lay_out_row(struct layout *layout, struct model_weights *weights,
                       const struct model_config *config, int row, size_t block, struct error *err) {
    void *place = place_of(weights, row, block);
    size_t rows = rows_together(config, row);
    size_t columns = dimension(config, table[row].columns);
    if (table[row].form == FORM_MATRIX) {
        return layout_matrix(layout, place, rows, columns, err);
    }
    return layout_take(layout, DEVICE_WEIGHTS, rows, columns, dtype_size(device_dtype(layout->shapes_for)),
                       place, err);
}

int weights_lay_out(struct layout *layout, struct model_weights *weights, const struct model_config *config,
                    struct error *err) {
    for (int row = 0; row < TABLE_ROWS; row++) {
        if (!present(&table[row], config) || rows_above(config, row) > 0) {
            continue; // a later part of a fused tensor lies in the first one's memory
        }
        size_t blocks = table[row].in_block ? weights->block_count : 1;
        for (size_t block = 0; block < blocks; block++) {
            if (weights_left_out(weights, (struct weight_use){row, block})) {
                continue;
            }
            int status = lay_out_row(layout, weights, config, row, block, err);
            if (status != STATUS_OK) {
                return error_wrap(err, "memory of '%s'", table[row].name);
            }
        }
    }
    return STATUS_OK;
}

bool weights_left_out(const struct model_weights *weights, struct weight_use use) {
    if (use.row == WEIGHT_IGNORED) {
        return true;
    }
    if (table[use.row].in_block) {
        return use.block >= weights->block_count;
    }
    return table[use.row].place == GLOBAL(final_norm) && !weights->has_final_norm;
}

void weights_rows(const struct model_config *config, struct weight_use use, size_t *rows, size_t *columns) {
    *rows = dimension(config, table[use.row].rows);
    *columns = dimension(config, table[use.row].columns);
}

int weights_put(struct device *device, struct model_weights *weights, const struct model_config *config,
                struct weight_use use, size_t row, size_t count, const void *source, enum dtype source_dtype,
                struct error *err) {
    void *place = place_of(weights, use.row, use.block);
    size_t columns = dimension(config, table[use.row].columns);
    size_t first = rows_above(config, use.row) + row;
    if (table[use.row].form == FORM_MATRIX) {
        return device_matrix_load(device, place, first, count, source, source_dtype, err);
    }
    return device_vector_load(device, *(void **)place, first * columns, count * columns, source, source_dtype,
                              err);
}
