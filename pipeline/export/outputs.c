#include "export/outputs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "export/placed_file.h"

// ---- making the files ----

static int group_members(struct export_outputs *outputs, struct error *err) {
    const struct export_plan *plan = outputs->plan;
    void *members = NULL;
    void *splits = NULL;
    int status = memory_zeroed(&members, plan->count, sizeof *outputs->members, err);
    if (status == STATUS_OK) {
        status = memory_zeroed(&splits, plan->split_count, sizeof *outputs->splits, err);
    }
    outputs->members = members;
    outputs->splits = splits;
    if (status != STATUS_OK) {
        return status;
    }
    size_t first[SPLIT_MAXIMUM];
    size_t next = 0;
    for (size_t i = 0; i < plan->split_count; i++) {
        first[i] = next;
        outputs->splits[i].members = outputs->members + next;
        next += plan->splits[i].problems;
    }
    for (size_t i = 0; i < plan->count; i++) {
        outputs->members[first[plan->problems[i].split] + plan->problems[i].position] = i;
    }
    return STATUS_OK;
}

static int check_room(const struct export_outputs *outputs, struct error *err) {
    const struct export_plan *plan = outputs->plan;
    uint64_t needed = 1 << 20; // headers, export.json
    uint64_t room = 0;
    int status = STATUS_OK;
    for (size_t i = 0; i < plan->split_count && status == STATUS_OK; i++) {
        struct column_set set;
        uint64_t bytes = 0;
        status = column_set_make(&set, plan, &plan->splits[i], outputs->request->format == EXPORT_HDF5, err);
        if (status == STATUS_OK) {
            status = array_specs_bytes(set.specs, set.count, &bytes, err);
        }
        column_set_destroy(&set);
        needed += bytes + plan->splits[i].line_bytes;
    }
    if (status == STATUS_OK) {
        status = file_space(outputs->folder, &room, err);
    }
    if (status == STATUS_OK && room < needed) {
        status =
            error_set(err, STATUS_WRITE, "the export needs %" PRIu64 " bytes and %s has room for %" PRIu64,
                      needed, outputs->folder, room);
    }
    return status;
}

static int make_lines(struct output_file *file, const char *path, uint64_t size, bool keep_open,
                      struct error *err) {
    int status = memory_text(&file->lines_path, path, err);
    if (status == STATUS_OK) {
        status = placed_file_create(&file->lines, path, size, err);
    }
    if (!keep_open) {
        placed_file_abandon(&file->lines);
    }
    return status;
}

static int open_arrays(struct export_outputs *outputs, size_t split, struct error *err) {
    const struct export_plan *plan = outputs->plan;
    const char *name = plan->splits[split].name;
    enum export_format format = outputs->request->format;
    struct output_file *file = outputs->splits[split].files;
    struct store_attribute attributes[32];
    size_t attribute_count = 0;
    const char *key;
    json_t *value;
    json_object_foreach(plan->attributes, key, value) {
        if (attribute_count < sizeof attributes / sizeof attributes[0]) {
            attributes[attribute_count++] = (struct store_attribute){key, json_string_value(value)};
        }
    }
    struct column_set *set = &outputs->splits[split].columns;
    char path[PATH_SIZE];
    char file_name[SPLIT_NAME + 16];
    const char *ending = format == EXPORT_SAFETENSORS ? ".safetensors" : format == EXPORT_HDF5 ? ".h5" : "";
    snprintf(file_name, sizeof file_name, "%s%s", name, ending);
    int status = column_set_make(set, plan, &plan->splits[split], format == EXPORT_HDF5, err);
    if (status == STATUS_OK) {
        status = path_join(path, sizeof path, outputs->folder, file_name, err);
    }
    if (status == STATUS_OK) {
        status = format == EXPORT_SAFETENSORS
                     ? safetensors_store(&file->store, path, set->specs, set->count, true, err)
                 : format == EXPORT_NPY ? npy_store(&file->store, path, set->specs, set->count, err)
                                        : hdf5_store(&file->store, path, set->specs, set->count, attributes,
                                                     attribute_count, err);
    }
    snprintf(file_name, sizeof file_name, "%s.jsonl", name);
    if (status == STATUS_OK && format != EXPORT_HDF5) {
        status = path_join(path, sizeof path, outputs->folder, file_name, err);
        if (status == STATUS_OK) {
            status = make_lines(file, path, plan->splits[split].line_bytes, true, err);
        }
    }
    return status;
}

// One of R-JEPA's shards: a tensor [num_steps, hidden] for each of up to 1000 problems, named by its id.
static int open_rjepa_shard(struct export_outputs *outputs, size_t split, size_t number, const char *folder,
                            struct error *err) {
    const struct export_plan *plan = outputs->plan;
    const struct export_split *figures = &plan->splits[split];
    const size_t *members = outputs->splits[split].members + number * RJEPA_PROBLEMS;
    size_t count = size_min(RJEPA_PROBLEMS, figures->problems - number * RJEPA_PROBLEMS);
    struct output_file *file = &outputs->splits[split].files[number];
    struct array_spec specs[RJEPA_PROBLEMS];
    for (size_t i = 0; i < count; i++) {
        const struct export_problem *problem = &plan->problems[members[i]];
        specs[i] = (struct array_spec){.name = plan->ids.data + problem->id_at,
                                       .name_size = problem->id_size,
                                       .type = ARRAY_F32,
                                       .rows = problem->rows,
                                       .columns = plan->hidden};
    }
    char name[48];
    char path[PATH_SIZE];
    snprintf(name, sizeof name, "shard-%04zu.safetensors", number);
    int status = path_join(path, sizeof path, folder, name, err);
    if (status == STATUS_OK) {
        status = safetensors_store(&file->store, path, specs, count, false, err);
    }
    snprintf(name, sizeof name, "shard-%04zu.jsonl", number);
    if (status == STATUS_OK) {
        status = path_join(path, sizeof path, folder, name, err);
    }
    if (status == STATUS_OK) {
        const struct export_problem *last = &plan->problems[members[count - 1]];
        file->line_base = plan->problems[members[0]].line_at;
        status = make_lines(file, path, last->line_at + last->line_size - file->line_base, false, err);
    }
    return status;
}

static int open_rjepa(struct export_outputs *outputs, size_t split, struct error *err) {
    char folder[PATH_SIZE];
    bool apart = outputs->request->split.kind != SPLIT_NONE;
    int status = path_join(folder, sizeof folder, outputs->folder, outputs->plan->splits[split].name, err);
    if (status == STATUS_OK && apart) {
        status = file_make_folder(folder, err);
    }
    for (size_t i = 0; i < outputs->splits[split].file_count && status == STATUS_OK; i++) {
        status = open_rjepa_shard(outputs, split, i, apart ? folder : outputs->folder, err);
    }
    return status;
}

int export_outputs_open(struct export_outputs *outputs, const struct export_plan *plan,
                        const struct export_request *request, const char *folder, struct error *err) {
    *outputs = (struct export_outputs){.plan = plan, .request = request};
    int status = path_join(outputs->folder, sizeof outputs->folder, "", folder, err);
    if (status == STATUS_OK) {
        status = group_members(outputs, err);
    }
    if (status == STATUS_OK) {
        status = check_room(outputs, err);
    }
    bool rjepa = request->format == EXPORT_RJEPA;
    for (size_t i = 0; i < plan->split_count && status == STATUS_OK; i++) {
        struct output_split *split = &outputs->splits[i];
        size_t count = rjepa ? (plan->splits[i].problems + RJEPA_PROBLEMS - 1) / RJEPA_PROBLEMS : 1;
        void *files = NULL;
        status = memory_zeroed(&files, count, sizeof *split->files, err);
        split->files = files;
        split->file_count = status == STATUS_OK ? count : 0;
        for (size_t k = 0; k < split->file_count; k++) {
            split->files[k].lines = -1;
        }
        if (status == STATUS_OK) {
            status = rjepa ? open_rjepa(outputs, i, err) : open_arrays(outputs, i, err);
        }
    }
    return status;
}

// ---- writing ----

static struct output_file *file_of(const struct export_outputs *outputs,
                                   const struct export_problem *problem) {
    const struct output_split *split = &outputs->splits[problem->split];
    return &split->files[outputs->request->format == EXPORT_RJEPA ? problem->position / RJEPA_PROBLEMS : 0];
}

int export_outputs_latents(struct export_outputs *outputs, const struct export_problem *problem, size_t layer,
                           uint64_t first, uint64_t rows, const void *latents, struct error *err) {
    struct output_file *file = file_of(outputs, problem);
    if (outputs->request->format == EXPORT_RJEPA) {
        return array_store_write(file->store, problem->position % RJEPA_PROBLEMS, first, rows, latents, err);
    }
    return array_store_write(file->store, layer, problem->row_at + first, rows, latents, err);
}

static int write_line(struct export_outputs *outputs, const struct export_problem *problem,
                      const struct shard_content *content, struct error *err) {
    struct output_file *file = file_of(outputs, problem);
    bool opened = file->lines < 0;
    buffer_clear(&outputs->line);
    int status = export_problem_line(&outputs->line, outputs->plan, outputs->request, problem, content, err);
    if (status == STATUS_OK && outputs->line.size != problem->line_size) {
        status = error_set(err, STATUS_DATA, "the metadata of problem %.*s changed while it was exported",
                           (int)problem->id_size, outputs->plan->ids.data + problem->id_at);
    }
    if (status == STATUS_OK && opened) {
        status = placed_file_open(&file->lines, file->lines_path, err);
    }
    if (status == STATUS_OK) {
        status = placed_file_write(file->lines, file->lines_path, problem->line_at - file->line_base,
                                   outputs->line.data, outputs->line.size, err);
    }
    if (opened) {
        placed_file_abandon(&file->lines);
    }
    return status;
}

static int64_t row_value(const struct shard_row *row, enum export_column column) {
    switch (column) {
    case COLUMN_STEP:
        return row->step;
    case COLUMN_TOKEN_START:
        return row->token_start;
    case COLUMN_TOKEN_END:
        return row->token_end;
    case COLUMN_BYTE_START:
        return row->byte_start;
    default:
        return row->byte_end;
    }
}

static int write_spans(struct array_store *store, const struct column_set *set,
                       const struct export_problem *problem, const struct shard_row *rows,
                       struct error *err) {
    enum { BLOCK = 512 };
    int64_t values[BLOCK];
    int status = STATUS_OK;
    for (enum export_column column = COLUMN_STEP; column <= COLUMN_BYTE_END; column++) {
        for (size_t first = 0; first < problem->rows && status == STATUS_OK; first += BLOCK) {
            size_t count = size_min(BLOCK, problem->rows - first);
            for (size_t i = 0; i < count; i++) {
                values[i] = row_value(&rows[first + i], column);
            }
            status = array_store_write(store, (size_t)set->number[column], problem->row_at + first, count,
                                       values, err);
        }
    }
    return status;
}

static int write_bytes(struct array_store *store, const struct column_set *set, enum export_column column,
                       uint64_t at, const void *bytes, size_t count, struct error *err) {
    return set->number[column] == COLUMN_ABSENT
               ? STATUS_OK
               : array_store_write(store, (size_t)set->number[column], at, count, bytes, err);
}

int export_outputs_problem(struct export_outputs *outputs, const struct export_problem *problem,
                           const struct shard_content *content, struct error *err) {
    struct output_file *file = file_of(outputs, problem);
    const struct shard_problem *stored = &content->problem[problem->index];
    int status = file->lines_path == NULL ? STATUS_OK : write_line(outputs, problem, content, err);
    if (status != STATUS_OK || outputs->request->format == EXPORT_RJEPA) {
        return status;
    }
    const struct column_set *set = &outputs->splits[problem->split].columns;
    status = write_spans(file->store, set, problem, content->row + content->row_offset[problem->index], err);
    if (status == STATUS_OK) {
        status =
            write_bytes(file->store, set, COLUMN_ID, problem->id_out_at, stored->id, stored->id_size, err);
    }
    if (status == STATUS_OK) {
        status = write_bytes(file->store, set, COLUMN_METADATA, problem->metadata_at, stored->metadata,
                             stored->metadata_size, err);
    }
    if (status == STATUS_OK && outputs->plan->has_tokens) {
        status = stored->tokens == NULL
                     ? error_set(err, STATUS_DATA, "problem %.*s has no tokens in its shard",
                                 (int)stored->id_size, stored->id)
                     : write_bytes(file->store, set, COLUMN_TOKEN_IDS, problem->token_at, stored->tokens,
                                   stored->token_count, err);
    }
    return status;
}

// ---- closing ----

static int write_problem_columns(struct export_outputs *outputs, size_t split, struct error *err) {
    const struct export_plan *plan = outputs->plan;
    static const enum export_column from_plan[] = {
        COLUMN_ROW_OFFSET, COLUMN_ORDINAL,      COLUMN_TOKEN_COUNT, COLUMN_TRUNCATED,
        COLUMN_STEP_COUNT, COLUMN_TOKEN_OFFSET, COLUMN_ID_OFFSET,   COLUMN_METADATA_OFFSET};
    int status = STATUS_OK;
    for (size_t i = 0; i < sizeof from_plan / sizeof from_plan[0] && status == STATUS_OK; i++) {
        status = column_write_problems(&outputs->splits[split].columns, from_plan[i],
                                       outputs->splits[split].files[0].store, plan,
                                       outputs->splits[split].members, plan->splits[split].problems, err);
    }
    return status;
}

static int close_file(struct output_file *file, struct error *err) {
    int status = array_store_close(file->store, err);
    if (status == STATUS_OK && file->lines_path != NULL && file->lines < 0) {
        status = placed_file_open(&file->lines, file->lines_path, err);
    }
    if (status == STATUS_OK && file->lines_path != NULL) {
        status = placed_file_finish(&file->lines, file->lines_path, err);
    }
    array_store_destroy(file->store);
    file->store = NULL;
    return status;
}

int export_outputs_finish(struct export_outputs *outputs, struct error *err) {
    bool rjepa = outputs->request->format == EXPORT_RJEPA;
    int status = STATUS_OK;
    for (size_t i = 0; i < outputs->plan->split_count && status == STATUS_OK; i++) {
        struct output_split *split = &outputs->splits[i];
        if (!rjepa) {
            status = write_problem_columns(outputs, i, err);
        }
        for (size_t k = 0; k < split->file_count && status == STATUS_OK; k++) {
            status = close_file(&split->files[k], err);
        }
        if (status == STATUS_OK && rjepa && outputs->request->split.kind != SPLIT_NONE) {
            char folder[PATH_SIZE];
            status = path_join(folder, sizeof folder, outputs->folder, outputs->plan->splits[i].name, err);
            if (status == STATUS_OK) {
                status = file_sync_folder(folder, err);
            }
        }
    }
    return status;
}

void export_outputs_destroy(struct export_outputs *outputs) {
    for (size_t i = 0; outputs->splits != NULL && i < outputs->plan->split_count; i++) {
        struct output_split *split = &outputs->splits[i];
        for (size_t k = 0; k < split->file_count; k++) {
            array_store_destroy(split->files[k].store);
            placed_file_abandon(&split->files[k].lines);
            free(split->files[k].lines_path);
        }
        free(split->files);
        column_set_destroy(&split->columns);
    }
    free(outputs->splits);
    free(outputs->members);
    buffer_destroy(&outputs->line);
    *outputs = (struct export_outputs){0};
}
