// SPDX-License-Identifier: MIT
#include "checkpoints/run_whole.h"

#include <string.h>

#include "checkpoints/ledger.h"
#include "checkpoints/survey_file.h"

// *found: FOLDER has the survey that the parts were made from.
static int read_survey(struct run_whole *whole, const struct run_list *list, const char *folder, bool *found,
                       struct error *err) {
    const char *wanted = identity_get(&list->identity, IDENTITY_PART_SURVEY);
    struct survey_file survey = {0};
    char path[PATH_SIZE];
    bool there = false;
    TRY(path_join(path, sizeof path, folder, RUN_SET_SURVEY, err));
    TRY(survey_file_read(&survey, path, &there, err));
    *found = there && wanted != NULL && strcmp(survey.sha256, wanted) == 0;
    int status = STATUS_OK;
    if (there && !*found && wanted != NULL) {
        status = error_set(err, STATUS_DATA, "%s is not the survey that the parts were made from", path);
    }
    if (*found) {
        whole->surveyed = true;
        whole->problems = survey.blocks.rows;
        status = identity_add(&whole->identity, IDENTITY_PROBLEMS, survey.problems_sha256, err);
    }
    survey_file_destroy(&survey);
    return status;
}

static int find_survey(struct run_whole *whole, const struct run_list *list, struct error *err) {
    bool found = false;
    if (list->set[0] != 0) {
        return read_survey(whole, list, list->set, &found, err);
    }
    for (size_t i = 0; i < list->count && !found; i++) {
        char parent[PATH_SIZE];
        struct error ignored;
        if (list->members[i].begun) {
            TRY(path_join(parent, sizeof parent, list->members[i].folder, "..", err));
            found = read_survey(whole, list, parent, &found, &ignored) == STATUS_OK && found;
        }
    }
    return STATUS_OK;
}

int run_whole_read(struct run_whole *whole, const struct run_list *list, struct error *err) {
    *whole = (struct run_whole){0};
    int status = STATUS_OK;
    for (size_t i = 0; i < list->identity.count; i++) {
        const struct identity_entry *entry = &list->identity.entries[i];
        if (strcmp(entry->key, IDENTITY_PART_SURVEY) != 0) {
            TRY_TO(done, status = identity_add(&whole->identity, entry->key, entry->value, err));
        }
    }
    status = find_survey(whole, list, err);
done:
    if (status != STATUS_OK) {
        run_whole_destroy(whole);
    }
    return status;
}

void run_whole_destroy(struct run_whole *whole) {
    identity_destroy(&whole->identity);
    *whole = (struct run_whole){0};
}
