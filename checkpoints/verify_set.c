// SPDX-License-Identifier: MIT
#include "checkpoints/verify_set.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id_set.h"
#include "base/size.h"
#include "checkpoints/ledger.h"
#include "checkpoints/survey_file.h"

enum { TWICE_SHOWN = 10 };

struct set_check {
    const struct run_list *list;
    const struct survey_file *survey; // that of the parts; NULL: there is none to hold them against
    struct verify_listener to;
    struct verify_set_report *set;
    struct error *err;
};

// ---- which rows the parts have ----

static void describe_rows(char out[64], uint64_t first, uint64_t end) {
    if (first == end) {
        snprintf(out, 64, "no rows");
    } else {
        snprintf(out, 64, "rows %" PRIu64 " to %" PRIu64, first, end - 1);
    }
}

static void check_share(struct set_check *check, size_t index, uint64_t first, uint64_t end) {
    const struct run_list_member *member = &check->list->members[index];
    char has[64];
    char given[64];
    describe_rows(has, member->first, member->end);
    describe_rows(given, first, end);
    if (strcmp(has, given) != 0) {
        verify_say(&check->to, VERIFY_FAULT,
                   "part %zu/%" PRIu64 " has %s of the query, the survey gives it %s", index,
                   check->list->parts, has, given);
    }
}

// Without a survey: the parts that are there follow each other.
static void check_neighbours(struct set_check *check) {
    const struct run_list *list = check->list;
    struct run_list_gap gap = {0};
    while (run_list_next_gap(list, &gap)) {
        verify_say(&check->to, VERIFY_FAULT,
                   "part %zu/%" PRIu64 " has the query's rows from %" PRIu64
                   " on, and the parts before it end with row %" PRIu64,
                   gap.index, list->parts, list->members[gap.index].first, gap.before);
    }
}

static int check_rows(struct set_check *check) {
    uint64_t *begins;
    if (check->survey == NULL) {
        check_neighbours(check);
        return STATUS_OK;
    }
    TRY(survey_file_parts(check->survey, check->list->parts, &begins, check->err));
    for (size_t i = 0; i < check->list->count; i++) {
        if (check->list->members[i].begun) {
            check_share(check, i, begins[i], begins[i + 1]);
        }
    }
    free(begins);
    return STATUS_OK;
}

// ---- the problems of all parts, in the order of the query ----

struct walk {
    struct set_check *check;
    size_t part;
    uint64_t problems; // of the part at hand
    uint64_t outside;  // of them, those that are not the part's
    struct digest *ids;
    struct id_set *seen;
    uint64_t twice;
};

static int hash_id(void *context, const struct ledger_problem *problem) {
    struct walk *walk = context;
    struct set_check *check = walk->check;
    const struct run_list_member *member = &check->list->members[walk->part];
    if (problem->ordinal < member->first || problem->ordinal >= member->end) {
        walk->outside++;
    }
    walk->problems++;
    check->set->done += problem->state == PROBLEM_DONE;
    return digest_field(walk->ids, problem->id, problem->id_size, check->err);
}

static int take_id(void *context, const struct ledger_problem *problem) {
    struct walk *walk = context;
    return id_set_add(walk->seen, problem->id, problem->id_size, walk->part, walk->check->err);
}

static int tell_twice(void *context, const char *id, size_t size, uint64_t part) {
    struct walk *walk = context;
    if (++walk->twice <= TWICE_SHOWN) {
        verify_say(&walk->check->to, VERIFY_FAULT,
                   "part %" PRIu64 "/%" PRIu64 ": problem '%.*s' is in a part before it, too", part,
                   walk->check->list->parts, (int)size_min(size, 200), id);
    }
    return STATUS_OK;
}

// Calls `each` for the problems of one part.
static int walk_part(struct walk *walk, int (*each)(void *context, const struct ledger_problem *problem),
                     bool *finished) {
    struct set_check *check = walk->check;
    struct ledger *ledger = NULL;
    struct ledger_totals totals;
    int status;
    TRY_TO(done, status = ledger_open_read(&ledger, check->list->members[walk->part].folder, check->err));
    TRY_TO(done, status = ledger_totals(ledger, &totals, check->err));
    *finished = totals.finished;
    status = ledger_each_problem(ledger, NULL, each, walk, check->err);
done:
    ledger_close(ledger);
    if (status == STATUS_DATA) {
        if (walk->seen == NULL) { // the first walk of two
            verify_say(&check->to, VERIFY_FAULT, "part %zu/%" PRIu64 ": %s", walk->part, check->list->parts,
                       check->err->message);
        }
        *finished = false;
        return STATUS_OK;
    }
    return status;
}

static void check_count(struct walk *walk, bool finished) {
    struct set_check *check = walk->check;
    const struct run_list_member *member = &check->list->members[walk->part];
    uint64_t rows = member->end - member->first;
    bool whole = walk->outside == 0 && walk->problems == rows;
    if (walk->outside > 0) {
        verify_say(&check->to, VERIFY_FAULT,
                   "part %zu/%" PRIu64 ": %" PRIu64 " of its problems are of rows that are not its own",
                   walk->part, check->list->parts, walk->outside);
    } else if (finished && !whole) {
        verify_say(&check->to, VERIFY_FAULT,
                   "part %zu/%" PRIu64 " is finished, and has %" PRIu64 " problems of %" PRIu64 " rows",
                   walk->part, check->list->parts, walk->problems, rows);
    }
    check->set->recorded += walk->problems;
    check->set->finished += finished && whole;
}

static int hash_ids(struct set_check *check, char hex[DIGEST_HEX]) {
    struct walk walk = {.check = check};
    int status;
    TRY_TO(done, status = digest_create(&walk.ids, check->err));
    for (walk.part = 0; walk.part < check->list->count; walk.part++) {
        bool finished = false;
        if (check->list->members[walk.part].begun) {
            walk.problems = 0;
            walk.outside = 0;
            TRY_TO(done, status = walk_part(&walk, hash_id, &finished));
            check_count(&walk, finished);
        }
    }
    status = digest_finish(walk.ids, hex, check->err);
done:
    digest_destroy(walk.ids);
    return status;
}

static int find_twice(struct set_check *check) {
    struct id_set seen = {0};
    struct walk walk = {.check = check, .seen = &seen};
    int status;
    TRY_TO(done, status = id_set_open(&seen, check->err));
    for (walk.part = 0; walk.part < check->list->count; walk.part++) {
        bool finished;
        if (check->list->members[walk.part].begun) {
            TRY_TO(done, status = walk_part(&walk, take_id, &finished));
        }
    }
    TRY_TO(done, status = id_set_repeated(&seen, tell_twice, &walk, check->err));
    if (walk.twice > TWICE_SHOWN) {
        verify_say(&check->to, VERIFY_FAULT, "%" PRIu64 " more problems are in two parts",
                   walk.twice - TWICE_SHOWN);
    }
done:
    id_set_close(&seen);
    return status;
}

// The hash of all ids proves each of them at once. Where some are missing, or there is no survey that says
// what the hash should be, none may be there twice.
static int check_ids(struct set_check *check) {
    const struct run_list *list = check->list;
    char hex[DIGEST_HEX];
    uint64_t faults = check->to.report->faults;
    TRY(hash_ids(check, hex));
    bool all = check->set->surveyed && check->set->finished == list->count &&
               check->to.report->faults == faults && check->set->recorded == check->survey->blocks.rows;
    if (all && strcmp(hex, check->survey->ids_sha256) == 0) {
        check->set->proven = true;
        return STATUS_OK;
    }
    if (all) {
        verify_say(&check->to, VERIFY_FAULT, "the ids of the parts are not those that the survey found");
    }
    return find_twice(check);
}

// ---- the survey ----

// A damaged one is as good as none. One that is missing can be made again; what it proves is then not known.
static int read_survey(struct set_check *check, struct survey_file *survey) {
    const struct run_list *list = check->list;
    const char *of_parts = identity_get(&list->identity, IDENTITY_PART_SURVEY);
    char path[PATH_SIZE];
    bool found = false;
    TRY(path_join(path, sizeof path, list->set, RUN_SET_SURVEY, check->err));
    int status = survey_file_read(survey, path, &found, check->err);
    if (status == STATUS_DATA) {
        verify_say(&check->to, VERIFY_FAULT, "%s", check->err->message);
        return STATUS_OK;
    }
    TRY(status);
    if (!found) {
        verify_say(&check->to, VERIFY_NOTE, "%s is missing: whether all problems are there cannot be told",
                   path);
        return STATUS_OK;
    }
    if (of_parts != NULL && strcmp(of_parts, survey->sha256) != 0) {
        verify_say(&check->to, VERIFY_FAULT,
                   "%s is another survey than that of the parts (SHA-256 %.16s..., theirs %.16s...)", path,
                   survey->sha256, of_parts);
        return STATUS_OK;
    }
    check->survey = survey;
    check->set->surveyed = true;
    return STATUS_OK;
}

int verify_set(const struct run_list *list, verify_tell tell, void *context, struct verify_report *report,
               struct verify_set_report *set, struct error *err) {
    struct set_check check = {.list = list, .to = {tell, context, report}, .set = set, .err = err};
    struct survey_file survey = {0};
    int status = STATUS_OK;
    *set = (struct verify_set_report){0};
    if (list->set[0] != 0) {
        TRY_TO(done, status = read_survey(&check, &survey));
    }
    TRY_TO(done, status = check_rows(&check));
    status = check_ids(&check);
done:
    survey_file_destroy(&survey);
    return status;
}
