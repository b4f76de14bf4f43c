// The line of JSON that stands beside a problem's rows.
#include <stdlib.h>
#include <string.h>

#include "export/export_plan.h"

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

// R-JEPA's table: the columns of the source beside cot_id and num_steps.
static bool fill_rjepa(json_t *line, const struct export_plan *plan, const struct export_request *request,
                       const struct export_problem *problem, json_t *metadata) {
    bool good =
        put(line, "num_steps", json_integer(problem->rows)) &&
        put(line, "token_count", json_integer(problem->tokens)) &&
        put(line, "truncated", json_boolean(problem->truncated)) &&
        put(line, "missing_steps",
            json_integer(plan->step_rows && problem->steps > problem->rows ? problem->steps - problem->rows
                                                                           : 0)) &&
        json_object_update_missing(line, metadata) == 0;
    if (good && request->split.kind != SPLIT_NONE) {
        good = put(line, "split", json_string(plan->splits[problem->split].name));
    }
    return good;
}

static bool fill_line(json_t *line, const struct export_plan *plan, const struct export_problem *problem,
                      const struct shard_content *content, json_t *metadata) {
    return put(line, "ordinal", json_integer((json_int_t)problem->ordinal)) &&
           put(line, "rows", json_integer(problem->rows)) &&
           put(line, "token_count", json_integer(problem->tokens)) &&
           put(line, "truncated", json_boolean(problem->truncated)) &&
           put(line, "step_count", json_integer(problem->steps)) &&
           put(line, "missing_steps", plan->step_rows ? missing_steps(content, problem) : json_array()) &&
           json_object_set(line, "metadata", metadata) == 0;
}

int export_problem_line(struct buffer *line, const struct export_plan *plan,
                        const struct export_request *request, const struct export_problem *problem,
                        const struct shard_content *content, struct error *err) {
    const struct shard_problem *stored = &content->problem[problem->index];
    bool rjepa = request->format == EXPORT_RJEPA;
    json_t *metadata = NULL;
    json_t *object = json_object();
    char *text = NULL;
    int status = json_parse(&metadata, stored->metadata, stored->metadata_size, "metadata", err);
    if (status == STATUS_OK && !json_is_object(metadata)) {
        status = error_set(err, STATUS_DATA, "problem %.*s: its metadata is not a JSON object",
                           (int)stored->id_size, stored->id);
    }
    if (status == STATUS_OK) {
        bool good = put(object, rjepa ? "cot_id" : "id", json_stringn(stored->id, stored->id_size));
        good = good && (rjepa ? fill_rjepa(object, plan, request, problem, metadata)
                              : fill_line(object, plan, problem, content, metadata));
        text = good ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
        status = text != NULL ? STATUS_OK
                              : error_set(err, STATUS_DATA,
                                          "problem %.*s cannot be written as JSON (is its id valid UTF-8?)",
                                          (int)stored->id_size, stored->id);
    }
    if (status == STATUS_OK) {
        status = buffer_append(line, text, strlen(text), err);
    }
    if (status == STATUS_OK) {
        status = buffer_append(line, "\n", 1, err);
    }
    free(text);
    json_decref(object);
    json_decref(metadata);
    return status;
}
