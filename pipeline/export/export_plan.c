// SPDX-License-Identifier: MIT
#include "export/export_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/random.h"
#include "base/size.h"
#include "checkpoints/layer.h"
#include "checkpoints/run_folder.h"
#include "export/figures.h"
#include "export/format.h"
#include "export/pieces.h"

void export_layer_text(size_t layer, size_t model_layers, char *out, size_t size) {
    if (layer_is_pre_norm(layer, model_layers)) {
        char text[LAYER_TEXT];
        layer_text(text, layer, model_layers);
        snprintf(out, size, "%s", text);
        return;
    }
    int length = snprintf(out, size, "-%zu = hidden_states[%zu] of 0..%zu = ", model_layers + 1 - layer,
                          layer, model_layers);
    if (length < 0 || (size_t)length >= size) {
        return;
    }
    out += length;
    size -= (size_t)length;
    if (layer == 0) {
        snprintf(out, size, "token embeddings, input of block 1 of %zu", model_layers);
    } else {
        snprintf(out, size, "output of block %zu of %zu, %s the final norm", layer, model_layers,
                 layer == model_layers ? "after" : "before");
    }
}

void export_plan_touched(const struct export_plan *plan, size_t *touched, size_t problems) {
    enum { PROBLEMS = 100000 }; // at about 130 bytes each
    *touched += problems;
    if (*touched >= PROBLEMS) {
        paged_file_release(&plan->record_file);
        paged_file_release(&plan->id_file);
        paged_file_release(&plan->place_file);
        paged_file_release(&plan->row_file);
        *touched = 0;
    }
}

// One export's plan as it is made.
struct survey {
    struct export_plan *plan;
    const struct export_request *request;
    struct export_figures *figures;
    struct buffer line;
    void *block; // [block_rows, hidden] as stored
    size_t block_rows;
};

enum { BLOCK_BYTES = 4 << 20 };

static int path_of(const struct export_plan *plan, const struct export_shard *shard, char path[PATH_SIZE],
                   struct error *err) {
    char name[PATH_SIZE];
    TRY(path_join(name, sizeof name, "shards", shard->sealed.name, err));
    return run_folder_file(path, plan->list.members[shard->member].folder, name, err);
}

int export_plan_open_shard(const struct export_plan *plan, size_t shard, struct shard_reader **reader,
                           struct error *err) {
    char path[PATH_SIZE];
    *reader = NULL;
    TRY(path_of(plan, &plan->shards[shard], path, err));
    TRY(shard_reader_open(reader, path, err));
    const struct shard_content *content = shard_reader_content(*reader);
    if (content->number != plan->shards[shard].number || content->problems != plan->shards[shard].problems) {
        shard_reader_close(*reader);
        *reader = NULL;
        return error_set(err, STATUS_DATA, "%s is not the shard the ledger knows: run 'strata verify'", path);
    }
    return STATUS_OK;
}

// ---- what the first shard says about all ----

static const char *const attributes[] = {"model",
                                         "model_type",
                                         "model_fingerprint",
                                         "adapter",
                                         "adapter_fingerprint",
                                         "tokenizer_fingerprint",
                                         "problems_sha256",
                                         "template",
                                         "steps",
                                         "steps_kind",
                                         "pooling",
                                         "dtype",
                                         "compute_dtype",
                                         "warnings",
                                         "identity"};
enum { ATTRIBUTES = sizeof attributes / sizeof attributes[0] };

// What is each part's own, or the place's and the program's that it ran with.
static bool may_differ(const char *attribute) {
    return strcmp(attribute, "model") == 0 || strcmp(attribute, "problems_sha256") == 0 ||
           strcmp(attribute, "warnings") == 0 || strcmp(attribute, "identity") == 0;
}

static const char *attribute_of(const struct export_plan *plan, const struct shard_reader *reader,
                                const char *name) {
    bool own = strcmp(name, "problems_sha256") == 0 || strcmp(name, "identity") == 0;
    return own && plan->list.parts > 0 ? json_string_value(json_object_get(plan->whole, name))
                                       : shard_reader_attribute(reader, name);
}

static int keep_attributes(struct export_plan *plan, const struct shard_reader *reader, struct error *err) {
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        const char *value = attribute_of(plan, reader, attributes[i]);
        if (value != NULL && json_object_set_new(plan->attributes, attributes[i], json_string(value)) != 0) {
            return error_set(err, STATUS_DATA, "the shards' attribute '%s' is not valid UTF-8",
                             attributes[i]);
        }
    }
    const char *pooling = shard_reader_attribute(reader, "pooling");
    plan->step_rows =
        pooling != NULL && (strcmp(pooling, "step_mean") == 0 || strcmp(pooling, "last_of_step") == 0);
    plan->token_rows = pooling != NULL && strcmp(pooling, "tokens") == 0;
    plan->model_layers = shard_reader_content(reader)->model_layers;
    return STATUS_OK;
}

// Shards of one run have what its ledger's identity says; those of different parts are compared.
static int compare_attributes(const struct export_plan *plan, size_t shard, const struct shard_reader *reader,
                              struct error *err) {
    const char *folder = plan->list.members[plan->shards[shard].member].folder;
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        const char *value = shard_reader_attribute(reader, attributes[i]);
        const char *first = json_string_value(json_object_get(plan->attributes, attributes[i]));
        if (!may_differ(attributes[i]) &&
            strcmp(value == NULL ? "" : value, first == NULL ? "" : first) != 0) {
            return error_set(err, STATUS_DATA, "%s: the shards' %s is '%s', and '%s' in the parts before it",
                             folder, attributes[i], value == NULL ? "" : value, first == NULL ? "" : first);
        }
    }
    return STATUS_OK;
}

static int unknown_layer(const struct shard_content *content, const struct export_layer *wanted, size_t layer,
                         struct error *err) {
    char list[1024] = "";
    size_t length = 0;
    for (size_t i = 0; i < content->layer_count && length < sizeof list; i++) {
        const char *comma = i == 0 ? "" : ", ";
        length +=
            layer_is_pre_norm(content->layers[i], content->model_layers)
                ? (size_t)snprintf(list + length, sizeof list - length, "%spre_norm", comma)
                : (size_t)snprintf(list + length, sizeof list - length, "%s%zu", comma, content->layers[i]);
    }
    if (layer == SIZE_MAX && wanted->kind != EXPORT_LAYER_INDEX) {
        return error_set(err, STATUS_USAGE,
                         "--layers: there is no block %" PRId64
                         ": the model has %zu, counted from 0; this run has the layers %s",
                         wanted->number, content->model_layers, list);
    }
    if (layer_is_pre_norm(layer, content->model_layers)) {
        return error_set(err, STATUS_USAGE, "--layers: pre_norm is not in this run; it has %s", list);
    }
    return error_set(err, STATUS_USAGE, "--layers: hidden_states[%" PRId64 "] is not in this run; it has %s",
                     layer == SIZE_MAX ? wanted->number : (int64_t)layer, list);
}

// The number in the shards of a layer as it was asked for; SIZE_MAX: there is none.
static size_t stored_number(const struct export_plan *plan, const struct export_layer *wanted) {
    int64_t blocks = (int64_t)plan->model_layers;
    int64_t number = wanted->number;
    bool in_blocks = number >= 0 && number < blocks;
    switch (wanted->kind) {
    case EXPORT_LAYER_PRE_NORM:
        return plan->model_layers + 1;
    case EXPORT_LAYER_BEFORE_BLOCK:
        return in_blocks ? (size_t)number : SIZE_MAX;
    case EXPORT_LAYER_BEHIND_BLOCK:
        return !in_blocks ? SIZE_MAX : (size_t)(number + 1 < blocks ? number + 1 : blocks + 1);
    case EXPORT_LAYER_INDEX:
        break;
    }
    return number < -blocks - 1 || number > blocks ? SIZE_MAX
                                                   : (size_t)(number < 0 ? number + blocks + 1 : number);
}

static int choose_layers(struct export_plan *plan, const struct export_request *request,
                         const struct shard_content *content, struct error *err) {
    size_t count = request->layer_count == 0 ? content->layer_count : request->layer_count;
    void *block;
    TRY(memory_zeroed(&block, count * 2, sizeof *plan->layers, err));
    plan->layers = block;
    plan->layer_places = plan->layers + count;
    plan->layer_count = count;
    for (size_t i = 0; i < count; i++) {
        size_t layer =
            request->layer_count == 0 ? content->layers[i] : stored_number(plan, &request->layers[i]);
        size_t place = 0;
        while (place < content->layer_count && content->layers[place] != layer) {
            place++;
        }
        if (place == content->layer_count) {
            return unknown_layer(content, &request->layers[i], layer, err);
        }
        for (size_t k = 0; k < i; k++) {
            if (plan->layers[k] == layer) {
                return layer_is_pre_norm(layer, plan->model_layers)
                           ? error_set(err, STATUS_USAGE, "--layers: pre_norm is named twice")
                           : error_set(err, STATUS_USAGE, "--layers: hidden_states[%zu] is named twice",
                                       layer);
            }
        }
        plan->layers[i] = layer;
        plan->layer_places[i] = place;
    }
    return STATUS_OK;
}

static int choose_dtype(struct export_plan *plan, const struct export_request *request, struct error *err) {
    plan->dtype = request->convert ? request->dtype : plan->stored;
    return request->format->settle == NULL ? STATUS_OK : request->format->settle(plan, request, err);
}

static int learn_model(struct export_plan *plan, const struct export_request *request,
                       const struct shard_reader *reader, struct error *err) {
    const struct shard_content *content = shard_reader_content(reader);
    plan->hidden = content->hidden;
    plan->stored = content->dtype;
    plan->has_tokens = content->problems > 0 && content->problem[0].tokens != NULL;
    plan->has_mask = content->problems > 0 && content->problem[0].loss_mask != NULL;
    plan->stored_layer_count = content->layer_count;
    TRY(memory_zeroed(&plan->stored_layers, content->layer_count, sizeof *plan->stored_layers, err));
    memcpy(plan->stored_layers, content->layers, content->layer_count * sizeof *plan->stored_layers);
    TRY(keep_attributes(plan, reader, err));
    TRY(choose_layers(plan, request, content, err));
    return choose_dtype(plan, request, err);
}

// ---- one pass over the shards ----

static int find_split(struct survey *survey, const char *name, uint16_t *split, struct error *err) {
    struct export_plan *plan = survey->plan;
    for (size_t i = 0; i < plan->split_count; i++) {
        if (strcmp(plan->splits[i].name, name) == 0) {
            *split = (uint16_t)i;
            return STATUS_OK;
        }
    }
    if (plan->split_count == SPLIT_MAXIMUM) {
        return error_set(err, STATUS_DATA,
                         "more than %d splits, '%s' among them: is the column the right one?", SPLIT_MAXIMUM,
                         name);
    }
    struct export_split *found = &plan->splits[plan->split_count];
    strcpy(found->name, name);
    found->figures = plan->split_count;
    export_figures_begin_split(survey->figures, found);
    *split = (uint16_t)plan->split_count++;
    return STATUS_OK;
}

static int check_problem(const struct export_plan *plan, const struct export_problem *problem,
                         const struct shard_problem *stored, struct error *err) {
    if (stored->id_size != problem->id_size || stored->rows != problem->rows ||
        stored->ordinal != problem->ordinal || stored->token_count != problem->tokens ||
        memcmp(stored->id, plan->ids + problem->id_at, problem->id_size) != 0) {
        return error_set(err, STATUS_DATA,
                         "problem %.*s is not in its shard as the ledger says: run 'strata verify'",
                         (int)problem->id_size, plan->ids + problem->id_at);
    }
    return stored->metadata_size <= UINT32_MAX
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "problem %.*s has too much metadata", (int)stored->id_size,
                           stored->id);
}

static int choose_split(const struct split_rule *rule, const struct shard_problem *stored,
                        char split[SPLIT_NAME], struct error *err) {
    json_t *metadata = NULL;
    TRY(json_parse(&metadata, stored->metadata, stored->metadata_size, "metadata", err));
    int status = split_choose(rule, stored->id, stored->id_size, metadata, split, err);
    json_decref(metadata);
    return status;
}

static int survey_problem(struct survey *survey, struct export_problem *problem,
                          const struct shard_content *content, struct error *err) {
    const struct shard_problem *stored = &content->problem[problem->index];
    struct buffer *line = &survey->line;
    char split[SPLIT_NAME];
    TRY(check_problem(survey->plan, problem, stored, err));
    TRY(choose_split(&survey->request->split, stored, split, err));
    TRY(find_split(survey, split, &problem->split, err));
    buffer_clear(line);
    TRY(export_format_line(line, survey->plan, survey->request, problem, content, err));
    if (line->size > UINT32_MAX) {
        return error_set(err, STATUS_DATA, "problem %.*s has too much metadata", (int)stored->id_size,
                         stored->id);
    }
    problem->line_size = (uint32_t)line->size;
    problem->metadata_size = (uint32_t)stored->metadata_size;
    return STATUS_OK;
}

static int check_hash(const struct export_plan *plan, const struct export_shard *shard, struct error *err) {
    char path[PATH_SIZE];
    char hex[DIGEST_HEX];
    TRY(path_of(plan, shard, path, err));
    TRY(digest_file(path, hex, err));
    return strcmp(hex, shard->sealed.sha256) == 0
               ? STATUS_OK
               : error_set(err, STATUS_DATA,
                           "%s has changed since it was sealed (SHA-256): run 'strata verify'", path);
}

static bool same_shape(const struct export_plan *plan, const struct shard_content *content) {
    return content->hidden == plan->hidden && content->dtype == plan->stored &&
           content->model_layers == plan->model_layers && content->layer_count == plan->stored_layer_count &&
           memcmp(content->layers, plan->stored_layers,
                  plan->stored_layer_count * sizeof *plan->stored_layers) == 0;
}

// Rows [first, first + rows) of the shard lie in the block.
static void survey_block(struct survey *survey, size_t shard, const struct shard_content *content,
                         size_t layer, size_t first, size_t rows, size_t *problem) {
    const struct export_plan *plan = survey->plan;
    size_t row_bytes = plan->hidden * dtype_size(plan->stored);
    for (uint64_t row = first; row < first + rows;) {
        while (content->row_offset[*problem + 1] <= row) {
            ++*problem;
        }
        uint64_t end = content->row_offset[*problem + 1];
        size_t count = (size_t)((end < first + rows ? end : first + rows) - row);
        export_figures_add_rows(survey->figures,
                                &plan->problems[plan->by_place[plan->shards[shard].first + *problem]], layer,
                                (const char *)survey->block + (row - first) * row_bytes, count);
        row += count;
    }
}

// Right after the shard was read for its hash, so that its latents are in memory still.
static int survey_latents(struct survey *survey, size_t shard, struct shard_reader *reader,
                          struct error *err) {
    const struct export_plan *plan = survey->plan;
    const struct shard_content *content = shard_reader_content(reader);
    for (size_t i = 0; i < plan->layer_count; i++) {
        size_t problem = 0;
        for (size_t first = 0; first < content->rows; first += survey->block_rows) {
            size_t rows = size_min(survey->block_rows, content->rows - first);
            TRY(shard_reader_latents(reader, plan->layer_places[i], first, rows, survey->block, err));
            survey_block(survey, shard, content, i, first, rows, &problem);
        }
    }
    return STATUS_OK;
}

static int survey_first(struct survey *survey, const struct shard_reader *reader, struct error *err) {
    TRY(learn_model(survey->plan, survey->request, reader, err));
    size_t splits = survey->request->split.kind == SPLIT_NONE ? 1 : SPLIT_MAXIMUM;
    TRY(export_figures_create(survey->figures, survey->plan, splits, err));
    size_t row_bytes = survey->plan->hidden * dtype_size(survey->plan->stored);
    survey->block_rows = size_max(1, BLOCK_BYTES / row_bytes);
    return memory_zeroed(&survey->block, survey->block_rows, row_bytes, err);
}

static int survey_problems(struct survey *survey, size_t shard, struct shard_reader *reader,
                           struct error *err) {
    struct export_plan *plan = survey->plan;
    const struct shard_content *content = shard_reader_content(reader);
    if (plan->layers == NULL) {
        TRY(survey_first(survey, reader, err));
    } else if (plan->shards[shard].member != plan->shards[shard - 1].member) {
        TRY(compare_attributes(plan, shard, reader, err));
    }
    if (!same_shape(plan, content)) {
        return error_set(err, STATUS_DATA, "%s: shard %" PRIu64 " differs in shape from the first",
                         plan->list.members[plan->shards[shard].member].folder, content->number);
    }
    for (size_t i = 0; i < content->problems; i++) {
        size_t problem = plan->by_place[plan->shards[shard].first + i];
        TRY(survey_problem(survey, &plan->problems[problem], content, err));
    }
    if (content->problems == 0) { // its problems were all tried again since
        return STATUS_OK;
    }
    TRY(export_figures_add_shard(survey->figures, reader, err));
    return survey->request->split.kind == SPLIT_NONE ? STATUS_OK : survey_latents(survey, shard, reader, err);
}

static int survey_shard(struct survey *survey, size_t shard, struct error *err) {
    struct shard_reader *reader = NULL;
    TRY(check_hash(survey->plan, &survey->plan->shards[shard], err));
    TRY(export_plan_open_shard(survey->plan, shard, &reader, err));
    int status = survey_problems(survey, shard, reader, err);
    shard_reader_close(reader);
    return status;
}

static int survey_shards(struct export_plan *plan, const struct export_request *request,
                         struct export_figures *figures, struct error *err) {
    struct survey survey = {.plan = plan, .request = request, .figures = figures};
    size_t touched = 0;
    int status = STATUS_OK;
    for (size_t i = 0; i < plan->shard_count; i++) {
        TRY_TO(done, status = survey_shard(&survey, i, err));
        export_plan_touched(plan, &touched, plan->shards[i].problems);
    }
done:
    buffer_destroy(&survey.line);
    free(survey.block);
    return status;
}

// ---- order and places ----

// Fisher and Yates; the same seed and run give the same order anywhere.
static int shuffle(struct export_plan *plan, uint64_t seed, struct error *err) {
    uint64_t state = seed;
    size_t *moved = plan->by_place; // rebuilt below from shard and index
    for (size_t i = plan->count; i > 1; i--) {
        size_t other = (size_t)random_below(&state, i);
        struct export_problem kept = plan->problems[i - 1];
        plan->problems[i - 1] = plan->problems[other];
        plan->problems[other] = kept;
    }
    for (size_t i = 0; i < plan->count; i++) {
        const struct export_problem *problem = &plan->problems[i];
        size_t place = plan->shards[problem->shard].first + problem->index;
        if (place >= plan->count) {
            return error_set(err, STATUS_INTERNAL, "a shuffled problem lost its place");
        }
        moved[place] = i;
    }
    return STATUS_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct export_split *)a)->name, ((const struct export_split *)b)->name);
}

// Splits in the order of their names, whatever problem came first.
static void sort_splits(struct export_plan *plan) {
    struct export_split before[SPLIT_MAXIMUM];
    uint16_t now[SPLIT_MAXIMUM];
    memcpy(before, plan->splits, sizeof before);
    qsort(plan->splits, plan->split_count, sizeof plan->splits[0], by_name);
    for (size_t i = 0; i < plan->split_count; i++) {
        for (size_t k = 0; k < plan->split_count; k++) {
            now[i] = strcmp(before[i].name, plan->splits[k].name) == 0 ? (uint16_t)k : now[i];
        }
    }
    size_t touched = 0;
    for (size_t i = 0; i < plan->count; i++) {
        plan->problems[i].split = now[plan->problems[i].split];
        export_plan_touched(plan, &touched, 1);
    }
}

static int open_files(struct export_plan *plan, const char *folder, struct error *err) {
    char path[PATH_SIZE];
    TRY(path_join(path, sizeof path, folder, ".plan", err));
    TRY(file_remove(path, err)); // of an export killed at the next line
    TRY(paged_file_open(&plan->record_file, path, err));
    TRY(paged_file_open(&plan->id_file, path, err));
    TRY(paged_file_open(&plan->row_file, path, err));
    return paged_file_open(&plan->place_file, path, err);
}

int export_plan_begin(struct export_plan *plan, const struct export_request *request, const char *folder,
                      struct error *err) {
    *plan = (struct export_plan){.by_rows = request->shuffle_rows,
                                 .left_out = json_array(),
                                 .identity = json_object(),
                                 .attributes = json_object(),
                                 .whole = json_object()};
    if (plan->left_out == NULL || plan->identity == NULL || plan->attributes == NULL || plan->whole == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory: JSON");
    }
    TRY(open_files(plan, folder, err));
    TRY(run_list_open(&plan->list, request->runs, request->run_count, err));
    TRY(export_plan_read_ledgers(plan, err));
    TRY(request->require_complete ? export_plan_require_complete(plan, err) : STATUS_OK);
    if (plan->count == 0) {
        return error_set(err, STATUS_DATA, "%s has no finished problem to export yet", plan->list.name);
    }
    return STATUS_OK;
}

int export_plan_make(struct export_plan *plan, const struct export_request *request,
                     struct export_figures *figures, struct error *err) {
    TRY(survey_shards(plan, request, figures, err));
    if (request->shuffle) {
        TRY(shuffle(plan, request->shuffle_seed, err));
    }
    sort_splits(plan);
    return export_pieces_make(plan, request, err);
}

void export_plan_destroy(struct export_plan *plan) {
    paged_file_close(&plan->record_file);
    paged_file_close(&plan->id_file);
    paged_file_close(&plan->place_file);
    paged_file_close(&plan->row_file);
    for (size_t i = 0; i < plan->split_count; i++) {
        free(plan->splits[i].bucket_start);
    }
    free(plan->pieces);
    run_list_destroy(&plan->list);
    free(plan->complete);
    free(plan->shards);
    free(plan->layers);
    free(plan->stored_layers);
    json_decref(plan->left_out);
    json_decref(plan->identity);
    json_decref(plan->attributes);
    json_decref(plan->whole);
    *plan = (struct export_plan){0};
}
