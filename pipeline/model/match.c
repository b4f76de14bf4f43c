// SPDX-License-Identifier: MIT
#include "model/match.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/size.h"
#include "kernels/device.h"
#include "model/beside.h"
#include "model/family.h"
#include "model/weights.h"

struct matching {
    struct weight_match *out;
    const struct model_config *config;
    const struct checkpoint *checkpoint;
    const char *prefix; // of the checkpoint's names
};

// ---- a weight of one tensor ----

enum { SHAPE_MOST = 3 };

static bool is_of_experts(enum weight_file file) {
    return file == FILE_EXPERTS || file == FILE_EXPERTS_TRANSPOSED || file == FILE_EXPERTS_ALTERNATING;
}

// The shape that the row's tensor has: its rank.
static size_t shape_of(const struct model_config *config, const struct weight_row *row, size_t block,
                       size_t shape[SHAPE_MOST]) {
    size_t rows = weight_dimension(config, block, row->rows);
    size_t columns = weight_dimension(config, block, row->columns);
    size_t experts = config->experts.count;
    bool is_vector = weight_is_vector(row);
    switch (row->file) {
    case FILE_EXPERTS:
    case FILE_EXPERTS_TRANSPOSED:
    case FILE_EXPERTS_ALTERNATING:
        shape[0] = experts;
        shape[1] = row->file == FILE_EXPERTS || is_vector ? rows / experts : columns;
        shape[2] = row->file == FILE_EXPERTS ? columns : rows / experts;
        return is_vector ? 2 : 3;
    case FILE_TRANSPOSED:
        shape[0] = columns;
        shape[1] = rows;
        return 2;
    case FILE_SCALAR:
        return 0;
    case FILE_CONVOLUTION:
        shape[0] = rows;
        shape[1] = 1;
        shape[2] = columns;
        return 3;
    case FILE_ROWS:
    case FILE_HEADS:
    case FILE_NET_QKVZ:
    case FILE_NET_BA:
    case FILE_NOWHERE:
        break;
    }
    shape[0] = rows;
    shape[1] = columns;
    return is_vector ? 1 : 2;
}

static int check_tensor(const struct tensor *tensor, const struct model_config *config,
                        const struct weight_row *row, size_t block, struct error *err) {
    size_t wanted[2] = {weight_dimension(config, block, row->rows),
                        weight_dimension(config, block, row->columns)};
    size_t stored[SHAPE_MOST];
    size_t rank = shape_of(config, row, block, stored);
    struct weight_layout layout;
    if (tensor->rank != rank || memcmp(tensor->shape, stored, rank * sizeof stored[0]) != 0) {
        char found_text[TENSOR_SHAPE_TEXT];
        char wanted_text[TENSOR_SHAPE_TEXT];
        tensor_shape_text(tensor->shape, tensor->rank, found_text);
        tensor_shape_text(stored, rank, wanted_text);
        return error_set(err, STATUS_DATA, "tensor '%s' has shape %s; %s asks for %s", tensor->name,
                         found_text, model_config_holder(config), wanted_text);
    }
    bool plain = weight_is_vector(row);
    if (tensor->format == NULL || (plain && !weight_format_plain(tensor->format))) {
        char names[WEIGHT_FORMAT_NAMES];
        if (!plain && tensor->format == NULL && is_of_experts(row->file)) {
            return error_set(err, STATUS_DATA,
                             "tensor '%s' has dtype %s; all experts of a block are one tensor here, which is "
                             "read only of numbers and of MXFP4",
                             tensor->name, tensor->type->name);
        }
        return error_set(err, STATUS_DATA, "tensor '%s' has dtype %s; supported are %s", tensor->name,
                         tensor->type->name, weight_format_names(plain, names));
    }
    if (!plain && !weight_layout(tensor->format, wanted[0], wanted[1], &layout)) {
        return error_set(err, STATUS_DATA, "tensor '%s' in %s cannot have rows of %zu numbers", tensor->name,
                         tensor->format->name, wanted[1]);
    }
    return STATUS_OK;
}

// Rows that a file has head by head: what it has of each.
static void deal_of(struct arrangement *how, const struct model_config *config, const struct weight_row *row,
                    size_t block) {
    const struct device_delta_net *net = &config->delta_net;
    size_t head = config_heads(config, block).head_dim;
    size_t shared = net->key_heads == 0 ? 0 : net->value_heads / net->key_heads; // value heads of a key head
    how->heads = config_heads(config, block).heads;
    switch (row->file) {
    case FILE_HEADS:
        how->heads = config_heads(config, block).kv_heads;
        how->parts = 3;
        how->part_rows[0] = config_heads(config, block).heads / how->heads * head;
        how->part_rows[1] = how->part_rows[2] = head;
        break;
    case FILE_NET_QKVZ:
        how->heads = net->key_heads;
        how->parts = 4;
        how->part_rows[0] = how->part_rows[1] = net->key_dim;
        how->part_rows[2] = how->part_rows[3] = shared * net->value_dim;
        break;
    case FILE_NET_BA:
        how->heads = net->key_heads;
        how->parts = 2;
        how->part_rows[0] = how->part_rows[1] = shared;
        break;
    default:
        break;
    }
}

// How the file's order becomes the model's.
static struct arrangement arrangement_of(const struct model_config *config, const struct weight_row *row,
                                         size_t block, const struct weight_format *format) {
    static const enum arrangement_kind kinds[] = {[FILE_ROWS] = ARRANGE_AS_IS,
                                                  [FILE_SCALAR] = ARRANGE_AS_IS,
                                                  [FILE_CONVOLUTION] = ARRANGE_AS_IS,
                                                  [FILE_TRANSPOSED] = ARRANGE_TRANSPOSED,
                                                  [FILE_HEADS] = ARRANGE_HEADS,
                                                  [FILE_NET_QKVZ] = ARRANGE_HEADS,
                                                  [FILE_NET_BA] = ARRANGE_HEADS,
                                                  [FILE_EXPERTS] = ARRANGE_AS_IS,
                                                  [FILE_EXPERTS_TRANSPOSED] = ARRANGE_EXPERTS,
                                                  [FILE_EXPERTS_ALTERNATING] = ARRANGE_EXPERTS};
    struct arrangement how = {.kind = kinds[row->file],
                              .rows = weight_dimension(config, block, row->rows),
                              .columns = weight_dimension(config, block, row->columns),
                              .width = format->bytes,
                              .experts = config->experts.count,
                              .is_transposed = row->form == FORM_MATRIX,
                              .alternates = row->file == FILE_EXPERTS_ALTERNATING};
    deal_of(&how, config, row, block);
    return how;
}

static int find_one(const struct matching *m, const char *name, const struct weight_row *row, size_t block,
                    struct weight_source *out, struct error *err) {
    const struct tensor *tensor = tensors_find(&m->checkpoint->tensors, name);
    if (tensor == NULL) {
        return error_set(err, STATUS_DATA, "tensor '%s' is missing", name);
    }
    TRY(check_tensor(tensor, m->config, row, block, err));
    if (row->file != FILE_ROWS && !weight_format_plain(tensor->format)) {
        return error_set(err, STATUS_DATA,
                         "tensor '%s' in %s has rows in an order that only numbers may have", name,
                         tensor->format->name);
    }
    *out = (struct weight_source){
        .format = *tensor->format, .components = {{.tensor = tensor, .is_read = true}}, .component_count = 1};
    out->components[0].how = arrangement_of(m->config, row, block, tensor->format);
    return STATUS_OK;
}

// ---- any weight ----

// Tied, the embedding may lie in the file under the head's name alone: transformers takes it from there.
static bool is_tied_embedding(const struct matching *m, const struct weight_row *row, const char *name) {
    const struct tensors *tensors = &m->checkpoint->tensors;
    return m->config->tied_embeddings && !weight_in_block(row) &&
           row->place == offsetof(struct model_weights, embedding) && tensors_find(tensors, name) == NULL &&
           tensors_find(tensors, MATCH_HEAD) != NULL;
}

// The stem of the other names that a packed weight has: what is before ".weight", or the whole name of all
// experts together. False: it cannot be packed.
static bool stem_of(const struct weight_row *row, const char *name, char stem[WEIGHT_NAME]) {
    static const char ending[] = ".weight";
    size_t length = strlen(name);
    size_t kept = length - (sizeof ending - 1);
    strcpy(stem, name);
    if (length >= sizeof ending && strcmp(name + kept, ending) == 0) {
        stem[kept] = 0;
        return !weight_is_vector(row) && row->file == FILE_ROWS;
    }
    return row->form == FORM_MATRIX && is_of_experts(row->file);
}

// Packed, experts have their rows as the matrix has them, gates and ups in turn where numbers have.
static void arrange_packed(struct weight_source *source, const struct model_config *config,
                           const struct weight_row *row, size_t rows) {
    for (size_t i = 0; i < source->component_count && row->file == FILE_EXPERTS_ALTERNATING; i++) {
        struct weight_component *component = &source->components[i];
        struct arrangement *how = &component->how;
        how->kind = ARRANGE_EXPERTS;
        how->rows = rows;
        how->columns = (component->tensor->end - component->tensor->begin) / rows;
        how->width = 1;
        how->experts = config->experts.count;
        how->alternates = true;
    }
}

// Matrices and tables may be packed, in tensors of other names.
static int find_source(const struct matching *m, const char *name, const struct weight_row *row, size_t block,
                       struct weight_source *out, struct error *err) {
    char stem[WEIGHT_NAME];
    bool found = false;
    if (stem_of(row, name, stem)) {
        size_t rows = weight_dimension(m->config, block, row->rows);
        TRY(packing_find(out, m->checkpoint, &m->config->quantization, stem, rows,
                         weight_dimension(m->config, block, row->columns), &found, err));
        if (is_of_experts(row->file) && found &&
            out->components[0].tensor->shape[0] != m->config->experts.count) {
            return error_set(err, STATUS_DATA, "tensor '%s' is of %zu experts; %s asks for %zu",
                             out->components[0].tensor->name, out->components[0].tensor->shape[0],
                             model_config_holder(m->config), m->config->experts.count);
        }
        arrange_packed(out, m->config, row, rows);
    }
    return found ? STATUS_OK : find_one(m, name, row, block, out, err);
}

static int match_weight(struct matching *m, const struct weight_row *row, size_t block, size_t copy,
                        struct error *err) {
    char name[WEIGHT_NAME];
    const struct tensors *tensors = &m->checkpoint->tensors;
    struct weight_bound *bound = &m->out->bound[m->out->count];
    weight_name(name, m->prefix, row, block, copy);
    if (is_tied_embedding(m, row, name)) {
        strcpy(name, MATCH_HEAD);
    }
    bound->use = (struct weight_use){row, block, copy, .bound = m->out->count};
    TRY(find_source(m, name, row, block, &bound->source, err));
    for (size_t i = 0; i < bound->source.component_count; i++) {
        size_t number = (size_t)(bound->source.components[i].tensor - tensors->entries);
        m->out->uses[number] = bound->use;
        m->out->uses[number].component = i;
    }
    m->out->count++;
    return STATUS_OK;
}

static size_t weights_in_block(const struct model_config *config, size_t block) {
    size_t count = 0;
    for (size_t i = 0; i < config->weights->count; i++) {
        const struct weight_row *row = &config->weights->rows[i];
        if (block < weight_blocks(row, config->layers) && weight_in_file(row, config, block)) {
            count += weight_copies(row, config, block);
        }
    }
    return count;
}

static int match_block(struct matching *m, size_t block, struct error *err) {
    const struct weight_table *table = m->config->weights;
    for (size_t i = 0; i < table->count; i++) {
        const struct weight_row *row = &table->rows[i];
        if (block >= weight_blocks(row, m->config->layers) || !weight_in_file(row, m->config, block)) {
            continue;
        }
        for (size_t copy = 0; copy < weight_copies(row, m->config, block); copy++) {
            TRY(match_weight(m, row, block, copy, err));
        }
    }
    return STATUS_OK;
}

// Some packers give every matrix a bias, also where the model has none: zeros, which change nothing.
static int is_empty_bias(const struct matching *m, const struct tensor *tensor, bool *out,
                         struct error *err) {
    enum { LARGEST = 1 << 24 };
    static const char ending[] = ".bias";
    size_t length = strlen(tensor->name);
    size_t bytes = tensor->end - tensor->begin;
    const struct checkpoint_file *file = &m->checkpoint->files[tensor->file];
    void *numbers;
    if (m->config->quantization.method != QUANTIZATION_GPTQ || tensor->rank != 1 || bytes > LARGEST ||
        length < sizeof ending || strcmp(tensor->name + length - (sizeof ending - 1), ending) != 0) {
        return STATUS_OK;
    }
    TRY(memory_zeroed(&numbers, size_max(bytes, 1), 1, err));
    int status = file_read_at(file->descriptor, numbers, bytes, tensor->begin, file->path, err);
    *out = status == STATUS_OK;
    for (size_t i = 0; *out && i < bytes; i++) {
        *out = ((const unsigned char *)numbers)[i] == 0;
    }
    free(numbers);
    return status;
}

static int match_all(struct matching *m, struct error *err) {
    const struct checkpoint *checkpoint = m->checkpoint;
    for (size_t block = 0; block < m->config->layers; block++) {
        TRY(match_block(m, block, err));
    }
    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        const struct tensor *tensor = &checkpoint->tensors.entries[i];
        if (m->out->uses[i].row == NULL && !beside_tensor(tensor->name, m->config)) {
            bool adds_nothing = false;
            TRY(is_empty_bias(m, tensor, &adds_nothing, err));
            if (adds_nothing) {
                continue;
            }
            return error_set(err, STATUS_DATA,
                             "tensor '%.200s' of %s has no place in a %s model of %zu layers", tensor->name,
                             checkpoint->files[tensor->file].name, m->config->model_type, m->config->layers);
        }
    }
    return STATUS_OK;
}

// The prefix of the family under which the checkpoint has the first weight of the table, the embedding; the
// usual one where it has none. A checkpoint of the bare model (without its head) has the same names less the
// prefix.
static const char *find_prefix(const struct model_config *config, const struct checkpoint *checkpoint) {
    const char *const *prefixes = family_prefixes(config->family);
    for (size_t i = 0; prefixes[i] != NULL; i++) {
        char name[WEIGHT_NAME];
        weight_name(name, prefixes[i], &config->weights->rows[0], 0, 0);
        if (tensors_find(&checkpoint->tensors, name) != NULL) {
            return prefixes[i];
        }
    }
    return prefixes[0];
}

// Whether the checkpoint has the tensor of a row, and in its shape where that tells it from the same tensor
// of another table.
static bool has_row(const struct model_config *config, const struct checkpoint *checkpoint,
                    const struct weight_row *row, size_t block) {
    char name[WEIGHT_NAME];
    size_t shape[SHAPE_MOST];
    weight_name(name, find_prefix(config, checkpoint), row, block, 0);
    const struct tensor *tensor = tensors_find(&checkpoint->tensors, name);
    size_t rank = shape_of(config, row, block, shape);
    return tensor != NULL &&
           (!config->family->experts->has_columns ||
            (tensor->rank == rank && memcmp(tensor->shape, shape, rank * sizeof shape[0]) == 0));
}

const struct weight_table *weights_table_of(const struct model_config *config,
                                            const struct checkpoint *checkpoint) {
    const struct weight_table *other = config->family == NULL ? NULL : config->family->other_weights;
    for (size_t i = 0; other != NULL && i < other->count; i++) {
        const struct weight_row *row = &other->rows[i];
        for (size_t block = 0; row->file == FILE_EXPERTS && block < config->layers; block++) {
            if (weight_present(row, config, block) && has_row(config, checkpoint, row, block)) {
                return other;
            }
        }
    }
    return config->weights;
}

int weights_match(struct weight_match *out, const struct model_config *config,
                  const struct checkpoint *checkpoint, struct error *err) {
    void *uses;
    void *bound;
    size_t count = 0;
    *out = (struct weight_match){0};
    for (size_t block = 0; block < config->layers; block++) {
        count += weights_in_block(config, block);
    }
    TRY(memory_zeroed(&uses, size_max(checkpoint->tensors.count, 1), sizeof out->uses[0], err));
    out->uses = uses;
    int status = memory_zeroed(&bound, count, sizeof out->bound[0], err);
    if (status == STATUS_OK) {
        out->bound = bound;
        struct matching m = {out, config, checkpoint, find_prefix(config, checkpoint)};
        status = match_all(&m, err);
    }
    if (status != STATUS_OK) {
        weights_match_destroy(out);
    }
    return status;
}

void weights_match_destroy(struct weight_match *match) {
    free(match->uses);
    free(match->bound);
    *match = (struct weight_match){0};
}

// ---- sources ----

static int compare_numbers(size_t a, size_t b) {
    return a < b ? -1 : a > b;
}

static int compare_bound(const void *left, const void *right) {
    const struct weight_use *a = &((const struct weight_bound *)left)->use;
    const struct weight_use *b = &((const struct weight_bound *)right)->use;
    int order = compare_numbers(a->block, b->block);
    order = order != 0 ? order : compare_numbers((uintptr_t)a->row, (uintptr_t)b->row);
    return order != 0 ? order : compare_numbers(a->copy, b->copy);
}

struct weight_source *weights_source(const struct weight_match *match, const struct weight_row *row,
                                     size_t block, size_t copy) {
    const struct weight_bound key = {.use = {.row = row, .block = block, .copy = copy}};
    struct weight_bound *found =
        bsearch(&key, match->bound, match->count, sizeof match->bound[0], compare_bound);
    return &found->source;
}

// Whether all experts have the row in formats that are alike. Copies lie side by side (compare_bound).
static bool copies_alike(const struct weight_source *first, size_t copies) {
    for (size_t copy = 1; copy < copies; copy++) {
        const char *at = (const char *)first + copy * WEIGHTS_SOURCE_APART;
        const struct weight_source *other = (const struct weight_source *)(const void *)at;
        if (!weight_formats_alike(&first->format, &other->format)) {
            return false;
        }
    }
    return true;
}

bool weights_keep(const struct weight_match *match, const struct model_config *config,
                  const struct weight_row *row, size_t block) {
    size_t parts = 0;
    bool packed = false;
    bool alike = true;
    bool of_all = false; // a part has all experts one below the other, so that it is the only one
    if (row->form != FORM_MATRIX || match->expands) {
        return false;
    }
    for (size_t i = 0; i < config->weights->count; i++) {
        const struct weight_row *part = &config->weights->rows[i];
        if (weight_same_place(part, row) && weight_in_file(part, config, block)) {
            const struct weight_source *source = weights_source(match, part, block, 0);
            parts++;
            of_all = of_all || is_of_experts(part->file);
            packed = packed || !weight_format_plain(&source->format);
            alike = alike && copies_alike(source, weight_copies(part, config, block));
        }
    }
    return packed && alike && parts <= (of_all ? 1 : DEVICE_PIECES);
}

size_t weights_at_once(const struct model_config *config, const struct weight_row *row, size_t block,
                       size_t rows, size_t row_bytes) {
    size_t experts = weights_experts(config, row, block);
    if (experts == 0) {
        return rows * row_bytes;
    }
    size_t one = device_part_rows(is_of_experts(row->file) ? rows / experts : rows) * row_bytes;
    return one * device_parts_at_once(one, experts);
}

size_t weights_experts(const struct model_config *config, const struct weight_row *row, size_t block) {
    if (row->form != FORM_MATRIX || !weight_in_block(row)) {
        return 0;
    }
    return is_of_experts(row->file) ? config->experts.count
           : row->copies != NULL    ? weight_copies(row, config, block)
                                    : 0;
}
