// SPDX-License-Identifier: MIT
#include "export/format.h"

#include <stdlib.h>
#include <string.h>

#define ROW(name) &export_format_##name,
static const struct export_format *const formats[] = {EXPORT_FORMATS(ROW)};
#undef ROW
enum { FORMAT_COUNT = sizeof formats / sizeof formats[0] };

const char *export_format_name(size_t index) {
    return index < FORMAT_COUNT ? formats[index]->name : NULL;
}

const char *export_format_help(size_t index) {
    return index < FORMAT_COUNT ? formats[index]->help : NULL;
}

const struct export_format *export_format_find(const char *name) {
    for (size_t i = 0; i < FORMAT_COUNT; i++) {
        if (strcmp(formats[i]->name, name) == 0) {
            return formats[i];
        }
    }
    return NULL;
}

const struct export_layout *export_layout_of(const struct export_request *request) {
    return request->shuffle_rows ? &export_shuffled_rows : request->format->layout;
}

// ---- the line of JSON beside a problem's rows ----

static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

// Steps of the text that own no row, ascending.
static json_t *missing_steps(const struct shard_content *content, const struct export_problem *problem) {
    json_t *list = json_array();
    uint64_t row = content->row_offset[problem->index];
    uint64_t end = content->row_offset[problem->index + 1];
    for (uint32_t step = 0; step < problem->steps; step++) {
        if (row < end && content->row[row].step == step) {
            row++;
        } else if (json_array_append_new(list, json_integer(step)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

bool export_format_fill_line(json_t *line, const struct line_source *source) {
    const struct export_problem *problem = source->problem;
    const struct shard_problem *stored = &source->content->problem[problem->index];
    bool steps = source->plan->step_rows;
    return put(line, "id", json_stringn(stored->id, stored->id_size)) &&
           put(line, "ordinal", json_integer((json_int_t)problem->ordinal)) &&
           put(line, "rows", json_integer(problem->rows)) &&
           put(line, "token_count", json_integer(problem->tokens)) &&
           put(line, "truncated", json_boolean(problem->truncated)) &&
           put(line, "step_count", json_integer(problem->steps)) &&
           put(line, "missing_steps", steps ? missing_steps(source->content, problem) : json_array()) &&
           json_object_set(line, "metadata", source->metadata) == 0;
}

static int print_line(struct buffer *line, const struct line_source *source, struct error *err) {
    const struct shard_problem *stored = &source->content->problem[source->problem->index];
    json_t *object = json_object();
    char *text = source->request->format->fill_line(object, source)
                     ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17))
                     : NULL;
    int status = STATUS_OK;
    if (text == NULL) {
        status =
            error_set(err, STATUS_DATA, "problem %.*s cannot be written as JSON (is its id valid UTF-8?)",
                      (int)stored->id_size, stored->id);
        goto done;
    }
    TRY_TO(done, status = buffer_append(line, text, strlen(text), err));
    status = buffer_append(line, "\n", 1, err);
done:
    free(text);
    json_decref(object);
    return status;
}

int export_format_line(struct buffer *line, const struct export_plan *plan,
                       const struct export_request *request, const struct export_problem *problem,
                       const struct shard_content *content, struct error *err) {
    const struct shard_problem *stored = &content->problem[problem->index];
    struct line_source source = {.plan = plan, .request = request, .problem = problem, .content = content};
    TRY(json_parse(&source.metadata, stored->metadata, stored->metadata_size, "metadata", err));
    int status = json_is_object(source.metadata)
                     ? print_line(line, &source, err)
                     : error_set(err, STATUS_DATA, "problem %.*s: its metadata is not a JSON object",
                                 (int)stored->id_size, stored->id);
    json_decref(source.metadata);
    return status;
}
