#include "export/outputs.h"

#include <inttypes.h>
#include <stdlib.h>

#include "export/format.h"
#include "export/target.h"

static const struct export_layout *layout_of(const struct export_outputs *outputs) {
    return outputs->request->format->layout;
}

// ---- making the files ----

// Adds the bytes of a split, as a set of arrays: another layout takes no more.
static int add_bytes(const struct export_outputs *outputs, size_t split, uint64_t *needed,
                     struct error *err) {
    const struct export_split *counts = &outputs->plan->splits[split];
    struct column_set set;
    uint64_t bytes = 0;
    TRY(column_set_make(&set, outputs->plan, counts, outputs->request->format->as_shard, err));
    int status = array_specs_bytes(set.specs, set.count, &bytes, err);
    column_set_destroy(&set);
    *needed += bytes + counts->line_bytes;
    return status;
}

static int check_room(const struct export_outputs *outputs, struct error *err) {
    uint64_t needed = 1 << 20; // headers, export.json
    uint64_t room = 0;
    for (size_t i = 0; i < outputs->plan->split_count; i++) {
        TRY(add_bytes(outputs, i, &needed, err));
    }
    TRY(file_space(outputs->folder, &room, err));
    return room >= needed ? STATUS_OK
                          : error_set(err, STATUS_WRITE,
                                      "the export needs %" PRIu64 " bytes and %s has room for %" PRIu64,
                                      needed, outputs->folder, room);
}

int export_outputs_make_lines(struct output_file *file, const char *path, uint64_t size, bool keep_open,
                              struct error *err) {
    TRY(memory_text(&file->lines_path, path, err));
    int status = placed_file_create(&file->lines, path, size, err);
    if (!keep_open) {
        placed_file_abandon(&file->lines);
    }
    return status;
}

static int open_split(struct export_outputs *outputs, size_t number, struct error *err) {
    const struct export_layout *layout = layout_of(outputs);
    struct output_split *split = &outputs->splits[number];
    size_t problems = outputs->plan->splits[number].problems;
    size_t count = layout->problems == 0 ? 1 : (problems + layout->problems - 1) / layout->problems;
    void *files;
    TRY(memory_zeroed(&files, count, sizeof *split->files, err));
    split->files = files;
    split->file_count = count;
    for (size_t i = 0; i < count; i++) {
        split->files[i].lines = -1;
    }
    return layout->open(outputs, number, err);
}

int export_outputs_open(struct export_outputs *outputs, const struct export_plan *plan,
                        const struct export_request *request, const char *folder, struct error *err) {
    *outputs = (struct export_outputs){.plan = plan, .request = request};
    TRY(path_join(outputs->folder, sizeof outputs->folder, "", folder, err));
    TRY(memory_zeroed(&outputs->splits, plan->split_count, sizeof *outputs->splits, err));
    TRY(check_room(outputs, err));
    for (size_t i = 0; i < plan->split_count; i++) {
        TRY(open_split(outputs, i, err));
    }
    return STATUS_OK;
}

// ---- writing ----

struct output_file *export_outputs_file(const struct export_outputs *outputs,
                                        const struct export_problem *problem) {
    size_t problems = layout_of(outputs)->problems;
    return &outputs->splits[problem->split].files[problems == 0 ? 0 : problem->position / problems];
}

int export_outputs_latents(struct export_outputs *outputs, const struct export_problem *problem, size_t layer,
                           uint64_t first, uint64_t rows, const void *latents, struct error *err) {
    return layout_of(outputs)->latents(outputs, problem, layer, first, rows, latents, err);
}

static int write_line(struct export_outputs *outputs, const struct export_problem *problem,
                      const struct shard_content *content, struct error *err) {
    struct output_file *file = export_outputs_file(outputs, problem);
    bool opened = file->lines < 0;
    buffer_clear(&outputs->line);
    TRY(export_format_line(&outputs->line, outputs->plan, outputs->request, problem, content, err));
    if (outputs->line.size != problem->line_size) {
        return error_set(err, STATUS_DATA, "the metadata of problem %.*s changed while it was exported",
                         (int)problem->id_size, outputs->plan->ids + problem->id_at);
    }
    if (opened) {
        TRY(placed_file_open(&file->lines, file->lines_path, err));
    }
    int status = placed_file_write(file->lines, file->lines_path, problem->line_at - file->line_base,
                                   outputs->line.data, outputs->line.size, err);
    if (opened) {
        placed_file_abandon(&file->lines);
    }
    return status;
}

int export_outputs_problem(struct export_outputs *outputs, const struct export_problem *problem,
                           const struct shard_content *content, struct error *err) {
    const struct export_layout *layout = layout_of(outputs);
    if (export_outputs_file(outputs, problem)->lines_path != NULL) {
        TRY(write_line(outputs, problem, content, err));
    }
    return layout->problem == NULL ? STATUS_OK : layout->problem(outputs, problem, content, err);
}

// ---- closing ----

static int finish_lines(struct output_file *file, struct error *err) {
    if (file->lines_path == NULL) {
        return STATUS_OK;
    }
    if (file->lines < 0) {
        TRY(placed_file_open(&file->lines, file->lines_path, err));
    }
    return placed_file_finish(&file->lines, file->lines_path, err);
}

int export_outputs_close_files(struct export_outputs *outputs, size_t split, struct error *err) {
    for (size_t i = 0; i < outputs->splits[split].file_count; i++) {
        struct output_file *file = &outputs->splits[split].files[i];
        TRY(array_store_close(file->store, err));
        TRY(finish_lines(file, err));
        array_store_destroy(file->store);
        file->store = NULL;
    }
    return STATUS_OK;
}

int export_outputs_finish(struct export_outputs *outputs, struct error *err) {
    for (size_t i = 0; i < outputs->plan->split_count; i++) {
        TRY(layout_of(outputs)->finish(outputs, i, err));
    }
    return STATUS_OK;
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
    buffer_destroy(&outputs->line);
    *outputs = (struct export_outputs){0};
}
