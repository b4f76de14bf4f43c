// SPDX-License-Identifier: MIT
// The shards that R-JEPA trains on: safetensors files of up to a thousand problems, a tensor [num_steps,
// hidden] float32 of one layer for each, named by its id; beside each the lines of R-JEPA's table.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/size.h"
#include "checkpoints/layer.h"
#include "export/format.h"
#include "export/outputs.h"

enum { PROBLEMS = 1000, SHARDS = 10000 }; // in one shard; of one split

static int settle(struct export_plan *plan, const struct export_request *request, struct error *err) {
    if (plan->layer_count != 1) {
        return error_set(err, STATUS_USAGE,
                         "rjepa holds one layer; choose one of the run's %zu with --layers",
                         plan->layer_count);
    }
    if (request->convert && request->dtype != DTYPE_F32) {
        return error_set(err, STATUS_USAGE, "rjepa is float32; --dtype %s does not fit",
                         dtype_name(request->dtype));
    }
    if (request->shuffle_rows || request->file_bytes > 0) {
        return error_set(err, STATUS_USAGE,
                         "rjepa has shards of %d problems with their rows: %s does not fit", PROBLEMS,
                         request->shuffle_rows ? "--shuffle-rows" : "--max-shard-size");
    }
    plan->dtype = DTYPE_F32;
    return STATUS_OK;
}

static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

// Spans of tokens of the steps.
static json_t *step_boundaries(const struct line_source *source) {
    const struct shard_content *content = source->content;
    size_t index = source->problem->index;
    json_t *list = json_array();
    for (uint64_t i = content->row_offset[index]; i < content->row_offset[index + 1]; i++) {
        const struct shard_row *row = &content->row[i];
        json_t *span = json_pack("[I, I]", (json_int_t)row->token_start, (json_int_t)row->token_end);
        if (json_array_append_new(list, span) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

// The source's own text under the key, or `otherwise`.
static json_t *text_of(const struct line_source *source, const char *key, const char *otherwise,
                       size_t size) {
    json_t *value = json_object_get(source->metadata, key);
    return json_is_string(value) ? json_incref(value) : json_stringn(otherwise, size);
}

// What R-JEPA's tables have of each sequence (rjepa/data/schemas.py, LatentSequence), whose loader reads
// cot_id, domain, num_steps and hidden_size, and the columns of the source beside that.
static bool fill_line(json_t *line, const struct line_source *source) {
    const struct export_plan *plan = source->plan;
    const struct export_problem *problem = source->problem;
    const struct shard_problem *stored = &source->content->problem[problem->index];
    uint32_t missing = plan->step_rows && problem->steps > problem->rows ? problem->steps - problem->rows : 0;
    json_t *model = json_object_get(plan->attributes, "model");
    char name[LAYER_NAME];
    bool good = put(line, "cot_id", json_stringn(stored->id, stored->id_size)) &&
                put(line, "problem_id", text_of(source, "problem_id", stored->id, stored->id_size)) &&
                put(line, "latent_id",
                    json_sprintf("%.*s-%s", (int)stored->id_size, stored->id,
                                 layer_name(name, plan->layers[0], plan->model_layers))) &&
                put(line, "llm_tag", json_is_string(model) ? json_incref(model) : json_string("")) &&
                put(line, "layer_idx",
                    json_integer((json_int_t)layer_block(plan->layers[0], plan->model_layers) -
                                 (json_int_t)plan->model_layers - 1)) &&
                put(line, "hidden_size", json_integer((json_int_t)plan->hidden)) &&
                put(line, "num_steps", json_integer(problem->rows)) &&
                put(line, "step_boundaries", step_boundaries(source)) &&
                put(line, "domain", text_of(source, "domain", "unknown", strlen("unknown"))) &&
                put(line, "subdomain", text_of(source, "subdomain", "", 0)) &&
                put(line, "token_count", json_integer(problem->tokens)) &&
                put(line, "truncated", json_boolean(problem->truncated)) &&
                put(line, "missing_steps", json_integer(missing)) &&
                json_object_update_missing(line, source->metadata) == 0;
    if (good && source->request->split.kind != SPLIT_NONE) {
        good = put(line, "split", json_string(plan->splits[problem->split].name));
    }
    return good;
}

// Its loader finds shards by their names in the order of text: a number of five digits would stand among
// those of four.
static uint64_t most_problems(uint64_t split_problems) {
    return split_problems <= (uint64_t)PROBLEMS * SHARDS ? PROBLEMS : (split_problems + SHARDS - 1) / SHARDS;
}

static void make_specs(const struct export_plan *plan, const struct export_piece *piece,
                       struct array_spec *specs) {
    size_t count = 0;
    for (size_t i = piece->first; i < piece->end; i++) {
        const struct export_problem *problem = &plan->problems[i];
        if (problem->split == piece->split) {
            specs[count++] = (struct array_spec){.name = plan->ids + problem->id_at,
                                                 .name_size = problem->id_size,
                                                 .type = ARRAY_F32,
                                                 .rows = problem->rows,
                                                 .columns = plan->hidden};
        }
    }
}

// The files of a split lie in a folder of their own, where there are splits.
static int open(struct export_outputs *outputs, struct output_piece *piece, struct error *err) {
    const struct export_plan *plan = outputs->plan;
    bool apart = outputs->request->split.kind != SPLIT_NONE;
    const char *split = plan->splits[piece->plan->split].name;
    char name[SPLIT_NAME + 32];
    char path[PATH_SIZE];
    void *specs = NULL;
    int status;
    TRY(path_join(path, sizeof path, outputs->folder, apart ? split : "", err));
    TRY(file_make_folder(path, err));
    TRY(memory_zeroed(&specs, piece->plan->counts.problems, sizeof(struct array_spec), err));
    make_specs(plan, piece->plan, specs);
    snprintf(name, sizeof name, "%s%sshard-%04u.safetensors", apart ? split : "", apart ? "/" : "",
             (unsigned)piece->plan->number);
    TRY_TO(done, status = export_outputs_place(outputs, name, piece->path, path, err));
    TRY_TO(done,
           status = safetensors_joined_store(&piece->store, path, specs, piece->plan->counts.problems, err));
    snprintf(name, sizeof name, "%s%sshard-%04u.jsonl", apart ? split : "", apart ? "/" : "",
             (unsigned)piece->plan->number);
    status = export_outputs_make_lines(outputs, piece, name, err);
done:
    free(specs);
    return status;
}

static int write_latents(struct export_outputs *outputs, const struct export_problem *problem, size_t layer,
                         uint64_t first, uint64_t rows, void *latents, struct error *err) {
    (void)layer; // there is one
    struct output_piece *piece = export_outputs_piece(outputs, problem->piece);
    return export_outputs_put(outputs, piece, 0, problem->row_at + first, rows, latents, err);
}

static const struct export_layout layout = {
    .most_problems = most_problems, .open = open, .latents = write_latents};

const struct export_format export_format_rjepa = {
    .name = "rjepa",
    .help = "shard-0000.safetensors, 1000 problems each: [num_steps, hidden] float32 under the id;\n"
            "shard-0000.jsonl and, by strata-export (Python), shard-0000.parquet; of splits a folder each",
    .settle = settle,
    .fill_line = fill_line,
    .layout = &layout,
    .array_overhead = 128,
    .file_overhead = 16,
};
