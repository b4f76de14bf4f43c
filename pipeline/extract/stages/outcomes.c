// SPDX-License-Identifier: MIT
#include "stages/outcomes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/size.h"

void outcomes_destroy(struct outcomes *outcomes) {
    free(outcomes->items);
    free(outcomes->resolved);
    free(outcomes->batches);
    buffer_destroy(&outcomes->texts);
    *outcomes = (struct outcomes){0};
}

void outcomes_clear(struct outcomes *outcomes) {
    outcomes->count = 0;
    outcomes->batch_count = 0;
    buffer_clear(&outcomes->texts);
}

static int reserve(struct outcomes *outcomes, struct error *err) {
    if (outcomes->count < outcomes->capacity) {
        return STATUS_OK;
    }
    size_t capacity = size_max(outcomes->capacity * 2, 64);
    void *items = outcomes->items;
    TRY(memory_resize(&items, capacity, sizeof *outcomes->items, err));
    outcomes->items = items;
    void *resolved = outcomes->resolved;
    TRY(memory_resize(&resolved, capacity, sizeof *outcomes->resolved, err));
    outcomes->resolved = resolved;
    outcomes->capacity = capacity;
    return STATUS_OK;
}

int outcomes_add(struct outcomes *outcomes, const struct ledger_problem *problem, struct error *err) {
    TRY(reserve(outcomes, err));
    struct outcome *item = &outcomes->items[outcomes->count];
    *item = (struct outcome){.problem = *problem, .id_at = outcomes->texts.size, .reason_at = SIZE_MAX};
    TRY(buffer_append(&outcomes->texts, problem->id, problem->id_size, err));
    if (problem->reason != NULL) {
        item->reason_at = outcomes->texts.size;
        TRY(buffer_append(&outcomes->texts, problem->reason, strlen(problem->reason) + 1, err));
    }
    outcomes->count++;
    return STATUS_OK;
}

int outcomes_add_batch(struct outcomes *outcomes, const struct ledger_batch *batch, struct error *err) {
    if (outcomes->batch_count == outcomes->batch_capacity) {
        size_t capacity = size_max(outcomes->batch_capacity * 2, 16);
        void *batches = outcomes->batches;
        TRY(memory_resize(&batches, capacity, sizeof *outcomes->batches, err));
        outcomes->batches = batches;
        outcomes->batch_capacity = capacity;
    }
    outcomes->batches[outcomes->batch_count++] = *batch;
    return STATUS_OK;
}

const struct ledger_problem *outcomes_resolve(struct outcomes *outcomes) {
    for (size_t i = 0; i < outcomes->count; i++) {
        const struct outcome *item = &outcomes->items[i];
        outcomes->resolved[i] = item->problem;
        outcomes->resolved[i].id = outcomes->texts.data + item->id_at;
        outcomes->resolved[i].reason =
            item->reason_at == SIZE_MAX ? NULL : outcomes->texts.data + item->reason_at;
    }
    return outcomes->resolved;
}

// ---- the record of a partial shard ----

// One table drives writing and reading the numbers of a batch.
static const struct {
    const char *key;
    size_t offset;
    enum { FIELD_U64, FIELD_U32, FIELD_F64 } type;
} fields[] = {{"number", offsetof(struct ledger_batch, number), FIELD_U64},
              {"epoch", offsetof(struct ledger_batch, epoch), FIELD_U64},
              {"problems", offsetof(struct ledger_batch, problems), FIELD_U32},
              {"rows", offsetof(struct ledger_batch, rows), FIELD_U32},
              {"tokens", offsetof(struct ledger_batch, tokens), FIELD_U64},
              {"squared_lengths", offsetof(struct ledger_batch, squared_lengths), FIELD_F64},
              {"prepare_seconds", offsetof(struct ledger_batch, prepare_seconds), FIELD_F64},
              {"wait_seconds", offsetof(struct ledger_batch, wait_seconds), FIELD_F64},
              {"compute_seconds", offsetof(struct ledger_batch, compute_seconds), FIELD_F64},
              {"write_seconds", offsetof(struct ledger_batch, write_seconds), FIELD_F64},
              {"predicted_seconds", offsetof(struct ledger_batch, predicted_seconds), FIELD_F64},
              {"score", offsetof(struct ledger_batch, score), FIELD_F64},
              {"memory_bytes", offsetof(struct ledger_batch, memory_bytes), FIELD_U64},
              {"overflowed", offsetof(struct ledger_batch, overflowed), FIELD_U64}};

static json_t *batch_json(const struct ledger_batch *batch) {
    json_t *object = json_object();
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const void *at = (const char *)batch + fields[i].offset;
        json_t *value = fields[i].type == FIELD_F64   ? json_real(*(const double *)at)
                        : fields[i].type == FIELD_U32 ? json_integer(*(const uint32_t *)at)
                                                      : json_integer((json_int_t) * (const uint64_t *)at);
        json_object_set_new(object, fields[i].key, value);
    }
    for (int i = 0; i < LEDGER_FIGURES; i++) {
        double value;
        if (ledger_device_get(&batch->device, (enum ledger_figure)i, &value)) {
            json_object_set_new(object, ledger_figure_name((enum ledger_figure)i), json_real(value));
        }
    }
    if (batch->device_name[0] != 0) {
        json_object_set_new(object, "device", json_string(batch->device_name));
    }
    return object;
}

static void batch_from_json(struct ledger_batch *batch, const json_t *object) {
    *batch = (struct ledger_batch){0};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        void *at = (char *)batch + fields[i].offset;
        const json_t *value = json_object_get(object, fields[i].key);
        if (fields[i].type == FIELD_F64) {
            *(double *)at = json_number_value(value);
        } else if (fields[i].type == FIELD_U32) {
            *(uint32_t *)at = (uint32_t)json_integer_value(value);
        } else {
            *(uint64_t *)at = (uint64_t)json_integer_value(value);
        }
    }
    for (int i = 0; i < LEDGER_FIGURES; i++) {
        const json_t *value = json_object_get(object, ledger_figure_name((enum ledger_figure)i));
        ledger_device_set(&batch->device, (enum ledger_figure)i,
                          value == NULL ? (double)NAN : json_number_value(value));
    }
    const char *name = json_string_value(json_object_get(object, "device"));
    snprintf(batch->device_name, sizeof batch->device_name, "%s", name == NULL ? "" : name);
}

int outcomes_write_record(const struct outcomes *outcomes, struct buffer *out, struct error *err) {
    json_t *root = json_object();
    json_t *batches = json_array();
    json_t *failures = json_array();
    for (size_t i = 0; i < outcomes->batch_count; i++) {
        json_array_append_new(batches, batch_json(&outcomes->batches[i]));
    }
    for (size_t i = 0; i < outcomes->count; i++) {
        const struct outcome *item = &outcomes->items[i];
        if (item->problem.state == PROBLEM_FAILED && item->problem.batch != UINT64_MAX) {
            json_t *failure = json_object();
            json_object_set_new(failure, "ordinal", json_integer((json_int_t)item->problem.ordinal));
            json_object_set_new(failure, "reason", json_string(outcomes->texts.data + item->reason_at));
            json_array_append_new(failures, failure);
        }
    }
    json_object_set_new(root, "batches", batches);
    json_object_set_new(root, "failures", failures);
    char *text = json_dumps(root, JSON_COMPACT);
    int status = text == NULL
                     ? error_set(err, STATUS_INTERNAL, "out of memory for the record of a partial shard")
                     : buffer_append(out, text, strlen(text), err);
    free(text);
    json_decref(root);
    return status;
}

static int read_failures(const json_t *list, struct outcomes_failure **failures, size_t *failure_count,
                         struct error *err) {
    TRY(memory_zeroed(failures, json_array_size(list), sizeof **failures, err));
    *failure_count = json_array_size(list);
    for (size_t i = 0; i < *failure_count; i++) {
        struct outcomes_failure *failure = &(*failures)[i];
        const char *reason = json_string_value(json_object_get(json_array_get(list, i), "reason"));
        failure->ordinal = (uint64_t)json_integer_value(json_object_get(json_array_get(list, i), "ordinal"));
        snprintf(failure->reason, sizeof failure->reason, "%s", reason == NULL ? "" : reason);
    }
    return STATUS_OK;
}

static int read_batches(const json_t *list, struct outcomes *outcomes, struct error *err) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct ledger_batch batch;
        batch_from_json(&batch, json_array_get(list, i));
        TRY(outcomes_add_batch(outcomes, &batch, err));
    }
    return STATUS_OK;
}

int outcomes_read_record(struct outcomes *outcomes, const void *record, size_t size,
                         struct outcomes_failure **failures, size_t *failure_count, struct error *err) {
    json_t *root;
    *failures = NULL;
    *failure_count = 0;
    TRY(json_parse(&root, record, size, "the record of a partial shard", err));
    int status;
    TRY_TO(done, status = read_failures(json_object_get(root, "failures"), failures, failure_count, err));
    TRY_TO(done, status = read_batches(json_object_get(root, "batches"), outcomes, err));
done:
    json_decref(root);
    return status;
}
