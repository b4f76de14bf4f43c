// SPDX-License-Identifier: MIT
// The part of an export's plan that the ledgers give.
#include "export/export_plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "checkpoints/device_trail.h"
#include "checkpoints/run_whole.h"

// The callbacks of ledger_each_* see this.
struct collector {
    struct export_plan *plan;
    struct error *err;
    size_t shard_capacity;
    size_t touched;
    size_t member;      // whose ledger it is
    size_t first_shard; // of it in plan->shards
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

static int keep_id(struct export_plan *plan, const struct ledger_problem *problem, struct error *err) {
    TRY(paged_file_reserve(&plan->id_file, plan->id_bytes + problem->id_size, 1, err));
    plan->ids = plan->id_file.data;
    if (problem->id_size > 0) {
        memcpy((char *)plan->id_file.data + plan->id_bytes, problem->id, problem->id_size);
    }
    plan->id_bytes += problem->id_size;
    return STATUS_OK;
}

static int keep_problem(struct collector *collector, const struct ledger_problem *problem) {
    struct export_plan *plan = collector->plan;
    TRY(paged_file_reserve(&plan->record_file, plan->count + 1, sizeof *plan->problems, collector->err));
    plan->problems = plan->record_file.data;
    struct export_problem *entry = &plan->problems[plan->count++];
    *entry = (struct export_problem){.ordinal = problem->ordinal,
                                     .id_at = plan->id_bytes,
                                     .id_size = (uint32_t)problem->id_size,
                                     .shard = (uint32_t)(collector->first_shard + problem->shard),
                                     .index = problem->index,
                                     .rows = problem->rows,
                                     .tokens = problem->tokens,
                                     .steps = problem->steps,
                                     .truncated = problem->truncated};
    export_plan_touched(plan, &collector->touched, 1);
    return keep_id(plan, problem, collector->err);
}

static int collect_problem(void *context, const struct ledger_problem *problem) {
    struct collector *collector = context;
    struct export_plan *plan = collector->plan;
    const struct run_list_member *member = &plan->list.members[collector->member];
    if (plan->list.parts > 0 && (problem->ordinal < member->first || problem->ordinal >= member->end)) {
        return error_set(collector->err, STATUS_DATA,
                         "%s: problem %" PRIu64 " of the ledger is of another part's rows", member->folder,
                         problem->ordinal);
    }
    if (problem->state != PROBLEM_DONE) {
        return leave_out(plan, problem, collector->err);
    }
    // Sealed since the shards were listed: the run goes on, this export is older.
    if (problem->shard >= plan->shard_count - collector->first_shard) {
        return STATUS_OK;
    }
    if (problem->id_size > UINT32_MAX || plan->shard_count > UINT32_MAX || plan->count >= UINT32_MAX) {
        return error_set(collector->err, STATUS_DATA,
                         "problem %" PRIu64 " of the ledger: numbers out of bounds", problem->ordinal);
    }
    return keep_problem(collector, problem);
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
        (struct export_shard){.member = collector->member, .number = shard->number, .sealed = shard->sealed};
    return STATUS_OK;
}

static int missing_shard(const struct export_plan *plan, const struct export_problem *problem,
                         struct error *err) {
    return error_set(err, STATUS_DATA,
                     "the ledger has problem %.*s in shard %" PRIu64 ", place %u, where it cannot be",
                     (int)problem->id_size, plan->ids + problem->id_at, plan->shards[problem->shard].number,
                     problem->index);
}

static int count_problems(struct export_plan *plan, struct error *err) {
    size_t touched = 0;
    TRY(paged_file_reserve(&plan->place_file, plan->count, sizeof *plan->by_place, err));
    plan->by_place = plan->place_file.data;
    for (size_t i = 0; i < plan->count; i++) {
        plan->by_place[i] = SIZE_MAX;
        plan->shards[plan->problems[i].shard].problems++;
        export_plan_touched(plan, &touched, 1);
    }
    size_t first = 0;
    for (size_t i = 0; i < plan->shard_count; i++) {
        plan->shards[i].first = first;
        first += plan->shards[i].problems;
    }
    return STATUS_OK;
}

// Fills by_place.
static int place_problems(struct export_plan *plan, struct error *err) {
    size_t touched = 0;
    TRY(count_problems(plan, err));
    for (size_t i = 0; i < plan->count; i++) {
        const struct export_problem *problem = &plan->problems[i];
        const struct export_shard *shard = &plan->shards[problem->shard];
        if (problem->index >= shard->problems || plan->by_place[shard->first + problem->index] != SIZE_MAX) {
            return missing_shard(plan, problem, err);
        }
        plan->by_place[shard->first + problem->index] = i;
        export_plan_touched(plan, &touched, 1);
    }
    return STATUS_OK;
}

static int put_identity(struct export_plan *plan, const struct identity *identity, struct error *err) {
    for (size_t i = 0; i < identity->count; i++) {
        TRY(set_new(plan->identity, identity->entries[i].key, json_string(identity->entries[i].value), err));
    }
    return STATUS_OK;
}

// Of a run by itself.
static int read_identity(struct export_plan *plan, struct ledger *ledger, struct error *err) {
    struct identity identity = {0};
    bool found = false;
    int status;
    TRY_TO(done, status = ledger_identity(ledger, &identity, &found, err));
    status = put_identity(plan, &identity, err);
done:
    identity_destroy(&identity);
    return status;
}

static int put_whole(struct export_plan *plan, const struct run_whole *whole, struct error *err) {
    char hash[DIGEST_HEX];
    TRY(put_identity(plan, &whole->identity, err));
    if (!whole->surveyed) {
        return STATUS_OK;
    }
    const char *problems = identity_get(&whole->identity, IDENTITY_PROBLEMS);
    TRY(set_new(plan->whole, "problems_sha256", json_string(problems), err));
    TRY(identity_hash(&whole->identity, hash, err));
    return set_new(plan->whole, "identity", json_string(hash), err);
}

// Beside the identity, of a run that went on with another CPU path.
static int read_changes(struct export_plan *plan, struct ledger *ledger, struct error *err) {
    struct device_trail trail;
    struct buffer paths = {0};
    int status;
    TRY_TO(done, status = device_trail_read(&trail, ledger, err));
    if (device_trail_changed(&trail)) {
        const char *before = json_string_value(json_object_get(plan->identity, "device.paths"));
        if (before != NULL) { // of another part
            TRY_TO(done, status = buffer_printf(&paths, err, "%s; ", before));
        }
        TRY_TO(done, status = device_trail_describe(&trail, &paths, err));
        status = set_new(plan->identity, "device.paths", json_string(paths.data), err);
    }
done:
    buffer_destroy(&paths);
    device_trail_destroy(&trail);
    return status;
}

// Shards name the model by its folder alone; the whole path is a note of the launch. The first part's is
// kept.
static int read_model_path(struct export_plan *plan, struct ledger *ledger, struct error *err) {
    struct buffer path = {0};
    bool found = false;
    int status;
    TRY_TO(done, status = ledger_note(ledger, "model.path", &path, &found, err));
    if (found && json_object_get(plan->attributes, "model_path") == NULL) {
        status = set_new(plan->attributes, "model_path", json_string(path.data), err);
    }
done:
    buffer_destroy(&path);
    return status;
}

// The run may go on meanwhile. Whether it has ended is asked first, then the shards are listed; a problem of
// one of them is in the ledger since its shard is.
static int read_open_ledger(struct collector *collector, struct ledger *ledger) {
    struct export_plan *plan = collector->plan;
    struct error *err = collector->err;
    struct ledger_totals totals;
    struct ledger_survey survey;
    bool surveyed = false;
    uint64_t before = plan->count + plan->failed + plan->skipped;
    TRY(ledger_survey(ledger, &survey, &surveyed, err));
    TRY(ledger_totals(ledger, &totals, err));
    plan->complete[collector->member] = totals.finished;
    TRY(plan->list.parts == 0 ? read_identity(plan, ledger, err) : STATUS_OK);
    TRY(read_changes(plan, ledger, err));
    TRY(read_model_path(plan, ledger, err));
    collector->first_shard = plan->shard_count;
    TRY(ledger_each_shard(ledger, collect_shard, collector, err));
    TRY(ledger_each_problem(ledger, NULL, collect_problem, collector, err));
    uint64_t seen = plan->count + plan->failed + plan->skipped - before;
    plan->remaining += surveyed && survey.problems > seen ? survey.problems - seen : 0;
    return STATUS_OK;
}

static int read_ledger(struct collector *collector) {
    struct ledger *ledger = NULL;
    int status;
    TRY_TO(done, status = ledger_open_read(&ledger, collector->plan->list.members[collector->member].folder,
                                           collector->err));
    status = read_open_ledger(collector, ledger);
done:
    ledger_close(ledger);
    return status;
}

// Rows of parts that have not begun.
static void count_missing(struct export_plan *plan, const struct run_whole *whole) {
    uint64_t end = 0;
    for (size_t i = 0; i < plan->list.count; i++) {
        const struct run_list_member *member = &plan->list.members[i];
        if (member->begun && member->first < member->end) {
            plan->remaining += member->first - end;
            end = member->end;
        }
    }
    plan->remaining += whole->problems > end ? whole->problems - end : 0;
    plan->at_least = !whole->surveyed && !plan->list.members[plan->list.count - 1].begun;
}

static int read_whole(struct export_plan *plan, struct error *err) {
    struct run_whole whole;
    TRY(run_whole_read(&whole, &plan->list, err));
    count_missing(plan, &whole);
    int status = put_whole(plan, &whole, err);
    run_whole_destroy(&whole);
    return status;
}

int export_plan_read_ledgers(struct export_plan *plan, struct error *err) {
    struct collector collector = {.plan = plan, .err = err};
    TRY(memory_zeroed(&plan->complete, plan->list.count, sizeof *plan->complete, err));
    TRY(plan->list.parts > 0 ? read_whole(plan, err) : STATUS_OK);
    plan->finished = true;
    for (; collector.member < plan->list.count; collector.member++) {
        // A run by itself may not have begun either: its ledger says so.
        if (plan->list.members[collector.member].begun || plan->list.parts == 0) {
            TRY(read_ledger(&collector));
        }
        plan->finished = plan->finished && plan->complete[collector.member];
    }
    return place_problems(plan, err);
}
