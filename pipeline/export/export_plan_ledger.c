// The part of an export's plan that the ledger gives.
#include "export/export_plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "checkpoints/device_trail.h"

// The callbacks of ledger_each_* see this.
struct collector {
    struct export_plan *plan;
    struct error *err;
    size_t shard_capacity;
};

static int set_new(json_t *object, const char *key, json_t *value, struct error *err) {
    return json_object_set_new(object, key, value) == 0
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "cannot put '%s' into JSON: it is not valid UTF-8", key);
}

static int leave_out(struct export_plan *plan, const struct ledger_problem *problem, struct error *err) {
    *(problem->state == PROBLEM_FAILED ? &plan->failed : &plan->skipped) += 1;
    json_t *entry = json_object();
    if (entry == NULL || json_array_append_new(plan->left_out, entry) != 0) {
        return error_set(err, STATUS_INTERNAL, "out of memory: the list of failed problems");
    }
    // An id that is not UTF-8 is shown with its bad bytes replaced: it is one reason to be here.
    json_t *id = json_stringn(problem->id, problem->id_size);
    TRY(set_new(entry, "id", id != NULL ? id : json_string("(not valid UTF-8)"), err));
    TRY(set_new(entry, "ordinal", json_integer((json_int_t)problem->ordinal), err));
    TRY(set_new(entry, "state", json_string(problem_state_name(problem->state)), err));
    json_t *reason = json_string(problem->reason == NULL ? "" : problem->reason);
    return set_new(entry, "reason", reason != NULL ? reason : json_string("(not valid UTF-8)"), err);
}

static int grow_problems(struct export_plan *plan, struct error *err) {
    if (plan->count < plan->capacity) {
        return STATUS_OK;
    }
    size_t wanted = plan->capacity == 0 ? 1024 : plan->capacity * 2;
    void *block = plan->problems;
    TRY(memory_resize(&block, wanted, sizeof *plan->problems, err));
    plan->problems = block;
    plan->capacity = wanted;
    return STATUS_OK;
}

static int collect_problem(void *context, const struct ledger_problem *problem) {
    struct collector *collector = context;
    struct export_plan *plan = collector->plan;
    if (problem->state != PROBLEM_DONE) {
        return leave_out(plan, problem, collector->err);
    }
    // Sealed since the shards were listed: the run goes on, this export is older.
    if (problem->shard >= plan->shard_count) {
        return STATUS_OK;
    }
    if (problem->id_size > UINT32_MAX || problem->shard > UINT32_MAX || plan->count >= UINT32_MAX) {
        return error_set(collector->err, STATUS_DATA,
                         "problem %" PRIu64 " of the ledger: numbers out of bounds", problem->ordinal);
    }
    TRY(grow_problems(plan, collector->err));
    struct export_problem *entry = &plan->problems[plan->count++];
    *entry = (struct export_problem){.ordinal = problem->ordinal,
                                     .id_at = plan->ids.size,
                                     .id_size = (uint32_t)problem->id_size,
                                     .shard = (uint32_t)problem->shard, // its number, until shards are placed
                                     .index = problem->index,
                                     .rows = problem->rows,
                                     .tokens = problem->tokens,
                                     .steps = problem->steps,
                                     .truncated = problem->truncated};
    return buffer_append(&plan->ids, problem->id, problem->id_size, collector->err);
}

static int collect_shard(void *context, const struct ledger_shard *shard) {
    struct collector *collector = context;
    struct export_plan *plan = collector->plan;
    if (plan->shard_count == collector->shard_capacity) {
        size_t wanted = size_max(64, collector->shard_capacity * 2);
        void *block = plan->shards;
        TRY(memory_resize(&block, wanted, sizeof *plan->shards, collector->err));
        plan->shards = block;
        collector->shard_capacity = wanted;
    }
    plan->shards[plan->shard_count++] =
        (struct export_shard){.number = shard->number, .sealed = shard->sealed};
    return STATUS_OK;
}

static int missing_shard(const struct export_plan *plan, const struct export_problem *problem,
                         struct error *err) {
    return error_set(err, STATUS_DATA,
                     "the ledger has problem %.*s in shard %u, place %u, where it cannot be",
                     (int)problem->id_size, plan->ids.data + problem->id_at, problem->shard, problem->index);
}

// From shard numbers to places in plan->shards.
static int place_problems(struct export_plan *plan, struct error *err) {
    void *block;
    TRY(memory_zeroed(&block, plan->count, sizeof *plan->by_place, err));
    plan->by_place = block;
    for (size_t i = 0; i < plan->count; i++) {
        plan->by_place[i] = SIZE_MAX;
        // Shards are numbered from 0 without gaps.
        size_t shard = plan->problems[i].shard;
        if (shard >= plan->shard_count || plan->shards[shard].number != shard) {
            return missing_shard(plan, &plan->problems[i], err);
        }
        plan->shards[shard].problems++;
    }
    size_t first = 0;
    for (size_t i = 0; i < plan->shard_count; i++) {
        plan->shards[i].first = first;
        first += plan->shards[i].problems;
    }
    for (size_t i = 0; i < plan->count; i++) {
        const struct export_problem *problem = &plan->problems[i];
        const struct export_shard *shard = &plan->shards[problem->shard];
        if (problem->index >= shard->problems || plan->by_place[shard->first + problem->index] != SIZE_MAX) {
            return missing_shard(plan, problem, err);
        }
        plan->by_place[shard->first + problem->index] = i;
    }
    return STATUS_OK;
}

static int read_identity(struct export_plan *plan, struct ledger *ledger, struct error *err) {
    struct identity identity = {0};
    bool found = false;
    int status;
    TRY_TO(done, status = ledger_identity(ledger, &identity, &found, err));
    for (size_t i = 0; i < identity.count; i++) {
        TRY_TO(done, status = set_new(plan->identity, identity.entries[i].key,
                                      json_string(identity.entries[i].value), err));
    }
done:
    identity_destroy(&identity);
    return status;
}

// Beside the identity, of a run that went on with another CPU path.
static int read_changes(struct export_plan *plan, struct ledger *ledger, struct error *err) {
    struct device_trail trail;
    struct buffer paths = {0};
    int status;
    TRY_TO(done, status = device_trail_read(&trail, ledger, err));
    if (device_trail_changed(&trail)) {
        TRY_TO(done, status = device_trail_describe(&trail, &paths, err));
        status = set_new(plan->identity, "device.paths", json_string(paths.data), err);
    }
done:
    buffer_destroy(&paths);
    device_trail_destroy(&trail);
    return status;
}

// Shards name the model by its folder alone; the whole path is a note of the launch.
static int read_model_path(struct export_plan *plan, struct ledger *ledger, struct error *err) {
    struct buffer path = {0};
    bool found = false;
    int status;
    TRY_TO(done, status = ledger_note(ledger, "model.path", &path, &found, err));
    if (found) {
        status = set_new(plan->attributes, "model_path", json_string(path.data), err);
    }
done:
    buffer_destroy(&path);
    return status;
}

static int read_open_ledger(struct export_plan *plan, struct ledger *ledger, struct error *err) {
    struct collector collector = {.plan = plan, .err = err};
    struct ledger_totals totals;
    TRY(ledger_survey(ledger, &plan->survey, &plan->has_survey, err));
    // The run may go on meanwhile. Whether it has ended is asked first, then the shards are listed; a problem
    // of one of them is in the ledger since its shard is.
    TRY(ledger_totals(ledger, &totals, err));
    plan->finished = totals.finished;
    TRY(read_identity(plan, ledger, err));
    TRY(read_changes(plan, ledger, err));
    TRY(read_model_path(plan, ledger, err));
    TRY(ledger_each_shard(ledger, collect_shard, &collector, err));
    return ledger_each_problem(ledger, NULL, collect_problem, &collector, err);
}

int export_plan_read_ledger(struct export_plan *plan, const struct export_request *request,
                            struct error *err) {
    struct ledger *ledger = NULL;
    int status;
    TRY_TO(done, status = ledger_open_read(&ledger, request->run, err));
    status = read_open_ledger(plan, ledger, err);
done:
    ledger_close(ledger);
    TRY(status);
    return place_problems(plan, err);
}
