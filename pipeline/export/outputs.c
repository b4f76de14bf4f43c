// SPDX-License-Identifier: MIT
#include "export/outputs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "export/format.h"
#include "export/pieces.h"
#include "export/target.h"

enum {
    WAVE_PIECES = 16,       // of problems; what a kill makes worthless
    WAVE_DESCRIPTORS = 512, // about, half of what a process may usually have open
    ATTRIBUTES_MOST = 32,
};
static const uint64_t wave_bytes = UINT64_C(4) << 30; // small pieces are more of a wave

static const struct export_layout *layout_of(const struct export_outputs *outputs) {
    return export_layout_of(outputs->request);
}

static int check_room(const struct export_outputs *outputs, struct error *err) {
    const struct export_plan *plan = outputs->plan;
    uint64_t needed = 1 << 20; // export.json
    uint64_t room = 0;
    for (size_t i = 0; i < plan->piece_count; i++) {
        const struct export_piece *piece = &plan->pieces[i];
        if (!outputs->progress->finished[i]) {
            needed += piece->kind == PIECE_LINES
                          ? 0
                          : column_set_bytes(plan, piece->kind, &piece->counts, outputs->request->format);
            needed += outputs->request->format->as_shard ? 0 : piece->counts.line_bytes;
        }
    }
    TRY(file_space(outputs->folder, &room, err));
    return room >= needed ? STATUS_OK
                          : error_set(err, STATUS_WRITE,
                                      "the export needs %" PRIu64 " bytes and %s has room for %" PRIu64,
                                      needed, outputs->folder, room);
}

// Rows from everywhere go to all pieces at once, so that each wave reads everything.
static size_t wave_most(const struct export_plan *plan, const struct export_format *format) {
    size_t descriptors = 2 + format->open_an_array * (plan->layer_count + COLUMN_COUNT);
    return size_min(plan->piece_count, size_max(1, WAVE_DESCRIPTORS / descriptors));
}

static bool wave_is_full(const struct export_outputs *outputs, uint64_t bytes) {
    return outputs->wave_count == outputs->wave_most ||
           (!outputs->plan->by_rows && outputs->wave_count >= WAVE_PIECES && bytes >= wave_bytes);
}

int export_outputs_open(struct export_outputs *outputs, const struct export_plan *plan,
                        const struct export_request *request, struct export_progress *progress,
                        const char *folder, struct error *err) {
    *outputs = (struct export_outputs){.plan = plan,
                                       .request = request,
                                       .progress = progress,
                                       .wave_most = wave_most(plan, request->format)};
    outputs->saturates = plan->dtype == DTYPE_F16 &&
                         (plan->stored != DTYPE_F16 || request->normalization != NORMALIZATION_NONE);
    TRY(path_join(outputs->folder, sizeof outputs->folder, "", folder, err));
    TRY(memory_zeroed(&outputs->slots, plan->piece_count, sizeof *outputs->slots, err));
    TRY(memory_zeroed(&outputs->wave, outputs->wave_most, sizeof *outputs->wave, err));
    return check_room(outputs, err);
}

// ---- making the files ----

int export_outputs_place(const struct export_outputs *outputs, const char *name, char below[PATH_SIZE],
                         char path[PATH_SIZE], struct error *err) {
    TRY(path_join(below, PATH_SIZE, "", name, err));
    return path_join(path, PATH_SIZE, outputs->folder, name, err);
}

int export_outputs_make_lines(const struct export_outputs *outputs, struct output_piece *piece,
                              const char *name, struct error *err) {
    char path[PATH_SIZE];
    TRY(export_outputs_place(outputs, name, piece->lines_path, path, err));
    return placed_file_create(&piece->lines, path, piece->plan->counts.line_bytes, err);
}

int export_outputs_make_arrays(const struct export_outputs *outputs, struct output_piece *piece,
                               struct error *err) {
    const struct export_format *format = outputs->request->format;
    struct store_attribute attributes[ATTRIBUTES_MOST];
    struct array_set set = {.attributes = attributes};
    char path[PATH_SIZE];
    char name[PIECE_NAME];
    char file[PIECE_NAME + 16];
    TRY(column_set_make(&piece->columns, outputs->plan, piece->plan, format, err));
    set.specs = piece->columns.specs;
    set.count = piece->columns.count;
    const char *key;
    json_t *value;
    json_object_foreach(outputs->plan->attributes, key, value) {
        if (set.attribute_count < ATTRIBUTES_MOST) {
            attributes[set.attribute_count++] = (struct store_attribute){key, json_string_value(value)};
        }
    }
    export_piece_name(outputs->plan, piece->plan, name);
    snprintf(file, sizeof file, "%s%s", name, format->ending);
    TRY(export_outputs_place(outputs, file, piece->path, path, err));
    return format->make(&piece->store, path, &set, err);
}

static int open_piece(struct export_outputs *outputs, size_t number, struct error *err) {
    struct output_piece *piece = &outputs->wave[outputs->wave_count++];
    *piece = (struct output_piece){.plan = &outputs->plan->pieces[number], .number = number, .lines = -1};
    piece->left = piece->plan->counts.problems;
    outputs->slots[number] = (uint16_t)outputs->wave_count;
    outputs->open[piece->plan->split]++;
    return layout_of(outputs)->open(outputs, piece, err);
}

int export_outputs_begin_wave(struct export_outputs *outputs, struct error *err) {
    const struct export_plan *plan = outputs->plan;
    uint64_t bytes = 0;
    outputs->wave_count = 0;
    while (outputs->next < plan->piece_count && !wave_is_full(outputs, bytes)) {
        size_t number = outputs->next++;
        if (!outputs->progress->finished[number]) {
            TRY(open_piece(outputs, number, err));
            bytes +=
                column_set_bytes(plan, PIECE_ROWS, &plan->pieces[number].counts, outputs->request->format);
        }
    }
    return STATUS_OK;
}

// ---- writing ----

struct output_piece *export_outputs_piece(const struct export_outputs *outputs, size_t number) {
    size_t slot = outputs->slots[number];
    return slot == 0 ? NULL : &outputs->wave[slot - 1];
}

bool export_outputs_want_shard(const struct export_outputs *outputs, const struct export_shard *shard) {
    // Numbers of a wave ascend.
    return outputs->plan->by_rows || (outputs->wave[0].number <= shard->highest_piece &&
                                      outputs->wave[outputs->wave_count - 1].number >= shard->lowest_piece);
}

bool export_outputs_want(const struct export_outputs *outputs, const struct export_problem *problem) {
    return outputs->plan->by_rows ? outputs->open[problem->split] > 0 : outputs->slots[problem->piece] != 0;
}

// Numbers beyond float16's range become its largest instead of infinity, as when a shard is written.
static uint64_t saturate_f16(uint16_t *numbers, size_t count) {
    uint64_t saturated = 0;
    for (size_t i = 0; i < count; i++) {
        if ((numbers[i] & 0x7fffu) == 0x7c00u) {
            numbers[i] = (uint16_t)((numbers[i] & 0x8000u) | 0x7bffu);
            saturated++;
        }
    }
    return saturated;
}

int export_outputs_put(const struct export_outputs *outputs, struct output_piece *piece, size_t array,
                       uint64_t first, uint64_t rows, void *latents, struct error *err) {
    if (outputs->saturates) {
        piece->saturated += saturate_f16(latents, rows * outputs->plan->hidden);
    }
    return array_store_write(piece->store, array, first, rows, latents, err);
}

int export_outputs_latents(struct export_outputs *outputs, const struct export_problem *problem, size_t layer,
                           uint64_t first, uint64_t rows, void *latents, struct error *err) {
    return layout_of(outputs)->latents(outputs, problem, layer, first, rows, latents, err);
}

static int write_line(struct export_outputs *outputs, const struct output_piece *piece,
                      const struct export_problem *problem, const struct shard_content *content,
                      struct error *err) {
    buffer_clear(&outputs->line);
    TRY(export_format_line(&outputs->line, outputs->plan, outputs->request, problem, content, err));
    if (outputs->line.size != problem->line_size) {
        return error_set(err, STATUS_DATA, "the metadata of problem %.*s changed while it was exported",
                         (int)problem->id_size, outputs->plan->ids + problem->id_at);
    }
    return placed_file_write(piece->lines, piece->lines_path, problem->line_at, outputs->line.data,
                             outputs->line.size, err);
}

int export_outputs_problem(struct export_outputs *outputs, const struct export_problem *problem,
                           const struct shard_content *content, struct error *err) {
    const struct export_layout *layout = layout_of(outputs);
    const struct output_piece *piece = export_outputs_piece(outputs, problem->piece);
    if (piece != NULL && piece->lines >= 0) {
        TRY(write_line(outputs, piece, problem, content, err));
    }
    return layout->problem == NULL ? STATUS_OK : layout->problem(outputs, problem, content, err);
}

// ---- closing ----

static int close_piece(struct output_piece *piece, struct error *err) {
    if (piece->store != NULL) {
        TRY(array_store_close(piece->store, err));
    }
    return piece->lines < 0 ? STATUS_OK : placed_file_finish(&piece->lines, piece->lines_path, err);
}

static void forget_piece(struct export_outputs *outputs, struct output_piece *piece) {
    array_store_destroy(piece->store);
    piece->store = NULL;
    placed_file_abandon(&piece->lines);
    column_set_destroy(&piece->columns);
    outputs->slots[piece->number] = 0;
    outputs->open[piece->plan->split]--;
}

static int finish_piece(struct export_outputs *outputs, struct output_piece *piece, struct error *err) {
    const struct export_layout *layout = layout_of(outputs);
    const char *const paths[] = {piece->path, piece->lines_path};
    TRY(layout->finish == NULL ? STATUS_OK : layout->finish(outputs, piece, err));
    TRY(close_piece(piece, err));
    TRY(export_progress_add(outputs->progress, piece->number, piece->saturated, paths, err));
    forget_piece(outputs, piece);
    return STATUS_OK;
}

int export_outputs_done(struct export_outputs *outputs, const struct export_problem *problem,
                        struct error *err) {
    struct output_piece *piece = export_outputs_piece(outputs, problem->piece);
    if (piece != NULL && --piece->left == 0) {
        return finish_piece(outputs, piece, err);
    }
    return STATUS_OK;
}

int export_outputs_end_wave(struct export_outputs *outputs, struct error *err) {
    for (size_t i = 0; i < outputs->wave_count; i++) {
        struct output_piece *piece = &outputs->wave[i];
        if (outputs->slots[piece->number] == 0) {
            continue;
        }
        if (piece->left > 0) {
            return error_set(err, STATUS_INTERNAL, "%" PRIu64 " problems of %s were not written", piece->left,
                             piece->path);
        }
        TRY(finish_piece(outputs, piece, err));
    }
    outputs->wave_count = 0;
    return STATUS_OK;
}

// ---- the index of a split in several files ----

// As model.safetensors.index.json is one of a model's files: their names in order, and what each holds.
static json_t *describe_split(const struct export_plan *plan, const struct export_format *format,
                              size_t split) {
    json_t *files = json_array();
    uint64_t rows = 0;
    uint64_t problems = 0;
    for (size_t i = 0; i < plan->piece_count; i++) {
        const struct export_piece *piece = &plan->pieces[i];
        char name[PIECE_NAME];
        if (piece->split != split || piece->kind == PIECE_LINES) {
            continue;
        }
        export_piece_name(plan, piece, name);
        json_t *entry = json_pack("{s:s+, s:o, s:o}", "file", name, format->ending, "first_row",
                                  json_count(rows), "rows", json_count(piece->counts.rows));
        if (entry != NULL && piece->kind == PIECE_PROBLEMS) {
            json_object_set_new(entry, "first_problem", json_count(problems));
            json_object_set_new(entry, "problems", json_count(piece->counts.problems));
        }
        rows += piece->counts.rows;
        problems += piece->counts.problems;
        if (json_array_append_new(files, entry) != 0) {
            json_decref(files);
            return NULL;
        }
    }
    return json_pack("{s:{s:o, s:o}, s:o}", "metadata", "rows", json_count(rows), "problems",
                     json_count(plan->splits[split].counts.problems), "files", files);
}

static int write_index(const struct export_outputs *outputs, size_t split, struct error *err) {
    const struct export_format *format = outputs->request->format;
    char name[SPLIT_NAME + 32];
    char path[PATH_SIZE];
    snprintf(name, sizeof name, "%s%s.index.json", outputs->plan->splits[split].name, format->ending);
    TRY(path_join(path, sizeof path, outputs->folder, name, err));
    json_t *document = describe_split(outputs->plan, format, split);
    char *text = document == NULL ? NULL : json_dumps(document, JSON_INDENT(1));
    json_decref(document);
    if (text == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory: the index of a split");
    }
    int status = file_write_atomic(path, text, strlen(text), err);
    free(text);
    return status;
}

int export_outputs_finish(const struct export_outputs *outputs, struct error *err) {
    for (size_t i = 0; layout_of(outputs)->indexed && i < outputs->plan->split_count; i++) {
        if (outputs->plan->splits[i].files > 1) {
            TRY(write_index(outputs, i, err));
        }
    }
    return STATUS_OK;
}

void export_outputs_destroy(struct export_outputs *outputs) {
    struct error ignored;
    char path[PATH_SIZE];
    for (size_t i = 0; i < outputs->wave_count; i++) {
        struct output_piece *piece = &outputs->wave[i];
        if (outputs->slots[piece->number] == 0) {
            continue;
        }
        forget_piece(outputs, piece);
        const char *const names[] = {piece->path, piece->lines_path};
        for (size_t k = 0; k < 2; k++) {
            if (names[k][0] != 0 &&
                path_join(path, sizeof path, outputs->folder, names[k], &ignored) == STATUS_OK) {
                target_clear(path, &ignored);
            }
        }
    }
    free(outputs->slots);
    free(outputs->wave);
    buffer_destroy(&outputs->line);
    *outputs = (struct export_outputs){0};
}
