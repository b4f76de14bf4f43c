// The layout of most formats: a split is one set of arrays, in which the rows of all its problems lie one
// behind the other, with a file of JSON lines beside it.
#include <stdio.h>

#include "export/format.h"
#include "export/outputs.h"

enum { ATTRIBUTES_MOST = 32 };

static int make_store(struct export_outputs *outputs, size_t split, const char *path, struct error *err) {
    const struct export_format *format = outputs->request->format;
    const struct column_set *columns = &outputs->splits[split].columns;
    struct store_attribute attributes[ATTRIBUTES_MOST];
    struct array_set set = {.specs = columns->specs, .count = columns->count, .attributes = attributes};
    const char *key;
    json_t *value;
    json_object_foreach(outputs->plan->attributes, key, value) {
        if (set.attribute_count < ATTRIBUTES_MOST) {
            attributes[set.attribute_count++] = (struct store_attribute){key, json_string_value(value)};
        }
    }
    return format->make(&outputs->splits[split].files->store, path, &set, err);
}

static int open(struct export_outputs *outputs, size_t split, struct error *err) {
    const struct export_format *format = outputs->request->format;
    const struct export_split *counts = &outputs->plan->splits[split];
    struct output_split *target = &outputs->splits[split];
    char path[PATH_SIZE];
    char name[SPLIT_NAME + 16];
    snprintf(name, sizeof name, "%s%s", counts->name, format->ending);
    TRY(column_set_make(&target->columns, outputs->plan, counts, format->as_shard, err));
    TRY(path_join(path, sizeof path, outputs->folder, name, err));
    TRY(make_store(outputs, split, path, err));
    if (format->as_shard) { // the metadata is among the arrays
        return STATUS_OK;
    }
    snprintf(name, sizeof name, "%s.jsonl", counts->name);
    TRY(path_join(path, sizeof path, outputs->folder, name, err));
    return export_outputs_make_lines(target->files, path, counts->line_bytes, true, err);
}

static int write_problem(struct export_outputs *outputs, const struct export_problem *problem,
                         const struct shard_content *content, struct error *err) {
    const struct output_split *split = &outputs->splits[problem->split];
    return column_set_write_problem(&split->columns, split->files->store, outputs->plan, problem, content,
                                    err);
}

static int write_latents(struct export_outputs *outputs, const struct export_problem *problem, size_t layer,
                         uint64_t first, uint64_t rows, const void *latents, struct error *err) {
    return array_store_write(outputs->splits[problem->split].files->store, layer, problem->row_at + first,
                             rows, latents, err);
}

static int finish(struct export_outputs *outputs, size_t split, struct error *err) {
    const struct output_split *target = &outputs->splits[split];
    TRY(column_set_write_plan(&target->columns, target->files->store, outputs->plan, split, err));
    return export_outputs_close_files(outputs, split, err);
}

const struct export_layout export_split_arrays = {
    .open = open, .problem = write_problem, .latents = write_latents, .finish = finish};
