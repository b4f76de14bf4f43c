// The shards that R-JEPA trains on: safetensors files of up to a thousand problems, a tensor [num_steps,
// hidden] float32 of one layer for each, named by its id; beside each the lines of R-JEPA's table.
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/size.h"
#include "export/format.h"
#include "export/outputs.h"

enum { PROBLEMS = 1000 }; // in one shard

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
    plan->dtype = DTYPE_F32;
    return STATUS_OK;
}

static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

// The columns of the source beside cot_id and num_steps.
static bool fill_line(json_t *line, const struct line_source *source) {
    const struct export_plan *plan = source->plan;
    const struct export_problem *problem = source->problem;
    const struct shard_problem *stored = &source->content->problem[problem->index];
    uint32_t missing = plan->step_rows && problem->steps > problem->rows ? problem->steps - problem->rows : 0;
    bool good = put(line, "cot_id", json_stringn(stored->id, stored->id_size)) &&
                put(line, "num_steps", json_integer(problem->rows)) &&
                put(line, "token_count", json_integer(problem->tokens)) &&
                put(line, "truncated", json_boolean(problem->truncated)) &&
                put(line, "missing_steps", json_integer(missing)) &&
                json_object_update_missing(line, source->metadata) == 0;
    if (good && source->request->split.kind != SPLIT_NONE) {
        good = put(line, "split", json_string(plan->splits[problem->split].name));
    }
    return good;
}

// The files of a split lie in a folder of their own, where there are splits.
static int folder_of(const struct export_outputs *outputs, size_t split, char folder[PATH_SIZE],
                     struct error *err) {
    bool apart = outputs->request->split.kind != SPLIT_NONE;
    return path_join(folder, PATH_SIZE, apart ? outputs->folder : "",
                     apart ? outputs->plan->splits[split].name : outputs->folder, err);
}

// The problems of one shard, in order.
struct members {
    const struct export_problem *problem[PROBLEMS];
    size_t count;
};

static int open_shard(struct export_outputs *outputs, size_t split, size_t number, const char *folder,
                      const struct members *members, struct error *err) {
    const struct export_plan *plan = outputs->plan;
    struct output_file *file = &outputs->splits[split].files[number];
    struct array_spec specs[PROBLEMS];
    for (size_t i = 0; i < members->count; i++) {
        const struct export_problem *problem = members->problem[i];
        specs[i] = (struct array_spec){.name = plan->ids + problem->id_at,
                                       .name_size = problem->id_size,
                                       .type = ARRAY_F32,
                                       .rows = problem->rows,
                                       .columns = plan->hidden};
    }
    char name[48];
    char path[PATH_SIZE];
    snprintf(name, sizeof name, "shard-%04zu.safetensors", number);
    TRY(path_join(path, sizeof path, folder, name, err));
    TRY(safetensors_joined_store(&file->store, path, specs, members->count, err));
    snprintf(name, sizeof name, "shard-%04zu.jsonl", number);
    TRY(path_join(path, sizeof path, folder, name, err));
    const struct export_problem *last = members->problem[members->count - 1];
    file->line_base = members->problem[0]->line_at;
    file->row_base = members->problem[0]->row_at;
    return export_outputs_make_lines(file, path, last->line_at + last->line_size - file->line_base, false,
                                     err);
}

static int open(struct export_outputs *outputs, size_t split, struct error *err) {
    const struct export_plan *plan = outputs->plan;
    char folder[PATH_SIZE];
    struct members members = {.count = 0};
    size_t number = 0;
    size_t touched = 0;
    TRY(folder_of(outputs, split, folder, err));
    if (outputs->request->split.kind != SPLIT_NONE) {
        TRY(file_make_folder(folder, err));
    }
    for (size_t i = 0; i < plan->count; i++) {
        const struct export_problem *problem = &plan->problems[i];
        export_plan_touched(plan, &touched, 1);
        if (problem->split != split) {
            continue;
        }
        members.problem[members.count++] = problem;
        if (members.count == PROBLEMS || problem->position + 1 == plan->splits[split].problems) {
            TRY(open_shard(outputs, split, number++, folder, &members, err));
            members.count = 0;
        }
    }
    return STATUS_OK;
}

static int write_latents(struct export_outputs *outputs, const struct export_problem *problem, size_t layer,
                         uint64_t first, uint64_t rows, const void *latents, struct error *err) {
    (void)layer; // there is one
    const struct output_file *file = export_outputs_file(outputs, problem);
    return array_store_write(file->store, 0, problem->row_at - file->row_base + first, rows, latents, err);
}

static int finish(struct export_outputs *outputs, size_t split, struct error *err) {
    char folder[PATH_SIZE];
    TRY(export_outputs_close_files(outputs, split, err));
    TRY(folder_of(outputs, split, folder, err));
    return outputs->request->split.kind == SPLIT_NONE ? STATUS_OK : file_sync_folder(folder, err);
}

static const struct export_layout layout = {
    .problems = PROBLEMS, .open = open, .latents = write_latents, .finish = finish};

const struct export_format export_format_rjepa = {
    .name = "rjepa",
    .help = "shard-0000.safetensors, 1000 problems each: [num_steps, hidden] float32 under the id;\n"
            "shard-0000.jsonl; 'python -m strata_reader rjepa-parquet FOLDER' adds shard-0000.parquet",
    .settle = settle,
    .fill_line = fill_line,
    .layout = &layout,
};
