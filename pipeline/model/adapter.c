// SPDX-License-Identifier: MIT
#include "model/adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/size.h"
#include "kernels/weight_format.h"
#include "model/adapter_config.h"
#include "model/adapter_find.h"
#include "model/beside.h"
#include "model/safetensors.h"

enum { NAME = 2 * WEIGHT_NAME, PIECE = 1 << 20 }; // bytes read at a time

static const char wrapper[] = "base_model.model."; // peft's own, around every name

struct opening {
    struct adapter *out;
    const struct model_config *config;
    const struct weight_match *match;
    const char *path; // of the weights
    int descriptor;   // -1: not open
    size_t size;
    struct adapter_config settings;
    struct tensors tensors;
    float **places;    // [tensors] where its numbers go; NULL: nowhere
    const char *outer; // of module names: "model.", or "" where the adapter is for the bare model
};

// ---- which tensor is what ----

// Below `wrapper`; NULL where the name is not.
static const char *inner_name(const struct tensor *tensor) {
    size_t length = sizeof wrapper - 1;
    return strncmp(tensor->name, wrapper, length) == 0 ? tensor->name + length : NULL;
}

// As peft names the module: with what its base model is called, without ".weight".
static void module_name(char out[NAME], const struct opening *o, const struct weight_use *use) {
    static const char ending[] = ".weight";
    char name[WEIGHT_NAME];
    weight_name(name, "", use->row, use->block, use->copy);
    size_t length = strlen(name);
    size_t cut = sizeof ending - 1;
    bool ends = length > cut && strcmp(name + length - cut, ending) == 0;
    snprintf(out, NAME, "%s%.*s", o->outer, (int)(ends ? length - cut : length), name);
}

static bool is_matrix(const struct weight_bound *bound) {
    return weight_in_block(bound->use.row) && bound->use.row->form == FORM_MATRIX;
}

static void find_outer(struct opening *o) {
    o->outer = "";
    for (size_t i = 0; i < o->tensors.count; i++) {
        const char *inner = inner_name(&o->tensors.entries[i]);
        if (inner != NULL && strncmp(inner, "model.", 6) == 0) {
            o->outer = "model.";
        }
    }
}

// ---- matrices ----

static const struct tensor *find_part(const struct opening *o, const char *module, const char *part) {
    char name[sizeof wrapper + NAME + 16];
    snprintf(name, sizeof name, "%s%s.%s.weight", wrapper, module, part);
    return tensors_find(&o->tensors, name);
}

static int check_part(const struct tensor *tensor, size_t rows, size_t columns, struct error *err) {
    const size_t wanted[2] = {rows, columns};
    if (tensor->format == NULL || !weight_format_plain(tensor->format)) {
        return error_set(err, STATUS_DATA, "tensor '%.200s' has dtype %s; an adapter's are F32, F16 and BF16",
                         tensor->name, tensor->type->name);
    }
    if (tensor->rank == 2 && memcmp(tensor->shape, wanted, sizeof wanted) == 0) {
        return STATUS_OK;
    }
    char found_text[TENSOR_SHAPE_TEXT];
    char wanted_text[TENSOR_SHAPE_TEXT];
    tensor_shape_text(tensor->shape, tensor->rank, found_text);
    tensor_shape_text(wanted, 2, wanted_text);
    return error_set(err, STATUS_DATA,
                     "tensor '%.200s' has shape %s; the model and the adapter's rank ask for %s",
                     tensor->name, found_text, wanted_text);
}

// Memory for its numbers, which read_tensors fills.
static int take_part(struct opening *o, const struct tensor *tensor, const float **out, struct error *err) {
    void *numbers;
    TRY(memory_zeroed(&numbers, tensor->shape[0] * tensor->shape[1], sizeof(float), err));
    o->places[tensor - o->tensors.entries] = numbers;
    *out = numbers;
    return STATUS_OK;
}

static int take_delta(struct opening *o, size_t index, const char *module, const struct tensor *a,
                      const struct tensor *b, struct error *err) {
    const struct weight_row *row = o->match->bound[index].use.row;
    size_t block = o->match->bound[index].use.block;
    struct adapter *out = o->out;
    struct low_rank *delta = &out->deltas[index];
    size_t rank;
    delta->columns = weight_dimension(o->config, block, row->columns);
    if (adapter_config_scale(&o->settings, module, &rank, &delta->scale, err) != STATUS_OK) {
        return error_wrap(err, "'%s' by " ADAPTER_CONFIG, module);
    }
    TRY(check_part(a, rank, delta->columns, err));
    TRY(check_part(b, weight_dimension(o->config, block, row->rows), rank, err));
    TRY(take_part(o, a, &delta->a, err));
    TRY(take_part(o, b, &delta->b, err));
    delta->rank = rank;
    out->lowest = out->changed == 0 ? rank : size_min(out->lowest, rank);
    out->highest = size_max(out->highest, rank);
    out->changed++;
    return STATUS_OK;
}

// What the configuration says of a matrix and what the file has of it must be one.
static int match_matrix(struct opening *o, size_t index, struct error *err) {
    char module[NAME];
    const struct weight_use *use = &o->match->bound[index].use;
    module_name(module, o, use);
    const struct tensor *a = find_part(o, module, "lora_A");
    const struct tensor *b = find_part(o, module, "lora_B");
    enum adapter_target target = adapter_config_target(&o->settings, module, use->block);
    if (a == NULL && b == NULL) {
        return target != ADAPTER_YES ? STATUS_OK
                                     : error_set(err, STATUS_DATA,
                                                 "there is no tensor of '%s', which 'target_modules' of its "
                                                 "configuration names",
                                                 module);
    }
    if (a == NULL || b == NULL) {
        return error_set(err, STATUS_DATA, "'%s' has lora_%s and no lora_%s", module, a == NULL ? "B" : "A",
                         a == NULL ? "A" : "B");
    }
    if (target == ADAPTER_NO) {
        return error_set(err, STATUS_DATA,
                         "there are tensors of '%s', which its configuration leaves out: peft would not use "
                         "them",
                         module);
    }
    if (use->row->file != FILE_ROWS && use->row->file != FILE_TRANSPOSED) {
        return error_set(
            err, STATUS_DATA,
            "'%s' has rows in an order that an adapter cannot be added in: merge it into the model "
            "first",
            module);
    }
    return take_delta(o, index, module, a, b, err);
}

// ---- everything else ----

// "lm_head" and other heads, by the first part of a name.
static bool is_head(const struct opening *o, const char *name) {
    char first[64];
    size_t length = strcspn(name, ".");
    if (length >= sizeof first) {
        return false;
    }
    snprintf(first, sizeof first, "%.*s", (int)length, name);
    return beside_tensor(first, o->config);
}

static int refuse_tensor(const struct opening *o, const struct tensor *tensor, struct error *err) {
    static const struct {
        const char *part;
        const char *why;
    } known[] = {
        {".lora_embedding_", "an adapter of the embedding, which is not supported"},
        {".embed_tokens.", "the embedding itself, which the adapter replaces: that is not supported"},
        {".lora_magnitude_vector", "of DoRA, which is not supported"},
        {".bias", "a bias, which is not supported"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strstr(tensor->name, known[i].part) != NULL) {
            return error_set(err, STATUS_DATA, "tensor '%.200s' is %s", tensor->name, known[i].why);
        }
    }
    return error_set(err, STATUS_DATA, "tensor '%.200s' has no place in a %s model of %zu layers",
                     tensor->name, o->config->model_type, o->config->layers);
}

// No hidden state needs a head's. Merged into one that is tied it would change the embedding, which applying
// the adapter does not.
static int pass_over(const struct opening *o, const struct tensor *tensor, size_t *count, struct error *err) {
    const char *inner = inner_name(tensor);
    if (inner == NULL || !is_head(o, inner)) {
        return refuse_tensor(o, tensor, err);
    }
    if (o->config->tied_embeddings && strstr(inner, ".lora_") != NULL) {
        return error_set(err, STATUS_DATA,
                         "tensor '%.200s' is for a head that is tied to the embedding, which is not "
                         "supported: peft's merge changes both, and peft's forward pass the head alone",
                         tensor->name);
    }
    if ((*count)++ > 0) {
        return STATUS_OK;
    }
    return buffer_printf(&o->out->notes, err,
                         "the adapter's tensors of the head are not loaded, which no hidden state needs "
                         "(%.200s)\n",
                         tensor->name);
}

static bool names_a_matrix(const struct opening *o, const char *name) {
    for (size_t i = 0; i < o->match->count; i++) {
        char module[NAME];
        module_name(module, o, &o->match->bound[i].use);
        if (is_matrix(&o->match->bound[i]) && adapter_config_names(name, module)) {
            return true;
        }
    }
    return false;
}

static int check_names(const struct opening *o, struct error *err) {
    const char *name;
    for (size_t i = 0; (name = adapter_config_saved_name(&o->settings, i)) != NULL; i++) {
        if (!is_head(o, name)) {
            return error_set(err, STATUS_DATA,
                             "'modules_to_save' of its configuration has '%.64s', a module that the adapter "
                             "replaces: that is not supported",
                             name);
        }
    }
    for (size_t i = 0; (name = adapter_config_target_name(&o->settings, i)) != NULL; i++) {
        if (!is_head(o, name) && !names_a_matrix(o, name)) {
            return error_set(err, STATUS_DATA,
                             "'target_modules' of its configuration has '%.64s', which is no matrix of a "
                             "block of this model",
                             name);
        }
    }
    return STATUS_OK;
}

static int match_tensors(struct opening *o, struct error *err) {
    size_t passed = 0;
    find_outer(o);
    for (size_t i = 0; i < o->match->count; i++) {
        if (is_matrix(&o->match->bound[i])) {
            TRY(match_matrix(o, i, err));
        }
    }
    for (size_t i = 0; i < o->tensors.count; i++) {
        if (o->places[i] == NULL) {
            TRY(pass_over(o, &o->tensors.entries[i], &passed, err));
        }
    }
    TRY(check_names(o, err));
    return o->out->changed > 0 ? STATUS_OK
                               : error_set(err, STATUS_DATA, "it adds to no weight of the model's blocks");
}

// ---- reading ----

static int take_numbers(const struct tensor *tensor, float *out, size_t first, const void *bytes,
                        size_t count, struct error *err) {
    struct weight_view view;
    if (!weight_view_of(tensor->format, 1, count, bytes, &view)) {
        return error_set(err, STATUS_INTERNAL, "too large");
    }
    weight_expand(out + first, &view, 0, 0, count);
    for (size_t i = first; i < first + count; i++) {
        if (!isfinite(out[i])) {
            return error_set(err, STATUS_DATA, "tensor '%.200s' holds %s at [%zu, %zu]", tensor->name,
                             isnan(out[i]) ? "a NaN" : "an infinity", i / tensor->shape[1],
                             i % tensor->shape[1]);
        }
    }
    return STATUS_OK;
}

// Hashes bytes [begin, end) of the file, and puts the numbers among them into `out` where that is not NULL.
static int read_range(const struct opening *o, struct digest *digest, void *piece,
                      const struct tensor *tensor, float *out, size_t begin, size_t end, struct error *err) {
    for (size_t at = begin; at < end; at += PIECE) {
        size_t bytes = size_min(PIECE, end - at);
        TRY(file_read_at(o->descriptor, piece, bytes, at, o->path, err));
        TRY(digest_update(digest, piece, bytes, err));
        if (out != NULL) {
            size_t width = tensor->format->bytes;
            TRY(take_numbers(tensor, out, (at - begin) / width, piece, bytes / width, err));
        }
    }
    return STATUS_OK;
}

// From the first byte of the file to the last: tensors lie one behind another, without a gap.
static int read_bytes(const struct opening *o, struct digest *digest, void *piece, struct error *err) {
    size_t at = 0;
    for (size_t i = 0; i < o->tensors.count; i++) {
        const struct tensor *tensor = o->tensors.in_files[i];
        if (i == 0) {
            TRY(read_range(o, digest, piece, NULL, NULL, 0, tensor->begin, err));
        }
        TRY(read_range(o, digest, piece, tensor, o->places[tensor - o->tensors.entries], tensor->begin,
                       tensor->end, err));
        at = tensor->end;
    }
    return read_range(o, digest, piece, NULL, NULL, at, o->size, err);
}

static int read_tensors(const struct opening *o, struct error *err) {
    static const char kind[] = "strata adapter";
    const struct buffer *text = &o->settings.text;
    struct digest *digest = NULL;
    void *piece = NULL;
    int status;
    TRY_TO(done, status = memory_zeroed(&piece, PIECE, 1, err));
    TRY_TO(done, status = digest_create(&digest, err));
    TRY_TO(done, status = digest_field(digest, kind, sizeof kind - 1, err));
    TRY_TO(done, status = digest_field(digest, text->data, text->size, err));
    TRY_TO(done, status = digest_number(digest, o->size, err));
    TRY_TO(done, status = read_bytes(o, digest, piece, err));
    status = digest_finish(digest, o->out->fingerprint, err);
done:
    digest_destroy(digest);
    free(piece);
    return status;
}

// ---- opening ----

static int read_header(struct opening *o, struct error *err) {
    const struct tensor *twice;
    void *places;
    TRY(file_open(&o->descriptor, &o->size, o->path, err));
    TRY(safetensors_read(&o->tensors, 0, o->descriptor, o->size, o->path, err));
    TRY(tensors_order(&o->tensors, &twice, err));
    if (twice != NULL) {
        return error_set(err, STATUS_DATA, "tensor '%.200s' is there twice", twice->name);
    }
    TRY(memory_zeroed(&places, size_max(o->tensors.count, 1), sizeof o->places[0], err));
    o->places = places;
    return STATUS_OK;
}

static int read_all(struct opening *o, const char *folder, struct error *err) {
    char config[PATH_SIZE];
    char weights[PATH_SIZE];
    void *deltas;
    int status;
    TRY(adapter_find(config, weights, folder, err));
    o->path = weights;
    TRY(adapter_config_read(&o->settings, config, err));
    TRY(read_header(o, err));
    TRY(memory_zeroed(&deltas, size_max(o->match->count, 1), sizeof o->out->deltas[0], err));
    o->out->deltas = deltas;
    o->out->count = o->match->count;
    TRY_TO(named, status = match_tensors(o, err));
    status = read_tensors(o, err);
named:
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "%s", weights);
}

int adapter_open(struct adapter **out, const char *folder, const struct model_config *config,
                 const struct weight_match *match, struct error *err) {
    void *block;
    *out = NULL;
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct opening o = {.out = block, .config = config, .match = match, .descriptor = -1};
    int status = read_all(&o, folder, err);
    if (o.descriptor >= 0) {
        close(o.descriptor);
    }
    free(o.places);
    tensors_destroy(&o.tensors);
    adapter_config_destroy(&o.settings);
    if (status != STATUS_OK) {
        adapter_close(block);
        return error_wrap(err, "model.adapter");
    }
    *out = block;
    return STATUS_OK;
}

void adapter_release(struct adapter *adapter) {
    for (size_t i = 0; adapter != NULL && i < adapter->count; i++) {
        struct low_rank *delta = &adapter->deltas[i];
        free((void *)(uintptr_t)delta->a);
        free((void *)(uintptr_t)delta->b);
        delta->a = NULL;
        delta->b = NULL;
    }
}

void adapter_close(struct adapter *adapter) {
    if (adapter == NULL) {
        return;
    }
    adapter_release(adapter);
    free(adapter->deltas);
    buffer_destroy(&adapter->notes);
    free(adapter);
}

// ---- a model's ----

int adapter_check_held(const struct adapter *adapter, const struct model_config *config,
                       const struct weight_match *match, struct error *err) {
    for (size_t i = 0; i < match->count; i++) {
        const struct weight_bound *bound = &match->bound[i];
        if (adapter->deltas[i].rank == 0 || bound->is_quantised ||
            !weights_keep(match, config, bound->use.row, bound->use.block)) {
            continue;
        }
        char name[WEIGHT_NAME];
        weight_name(name, "", bound->use.row, bound->use.block, bound->use.copy);
        return error_set(err, STATUS_JOB,
                         "model.adapter adds to '%s', which lies beside or in packed weights (%s): nothing "
                         "can be added to these codes. model.expand: load makes numbers of them first",
                         name, bound->source.format.name);
    }
    return STATUS_OK;
}

int adapter_describe(const struct adapter *adapter, struct buffer *out, struct error *err) {
    char ranks[64];
    snprintf(ranks, sizeof ranks, adapter->lowest == adapter->highest ? "rank %zu" : "ranks %zu to %zu",
             adapter->lowest, adapter->highest);
    return buffer_printf(out, err, "LoRA of %s on %zu matrices", ranks, adapter->changed);
}
