// SPDX-License-Identifier: MIT
// Sets made by hand for the tests of what reads them: parts with ledgers and no shards' files, and a survey.
#ifndef STRATA_TESTS_CHECKPOINTS_SET_TESTING_H
#define STRATA_TESTS_CHECKPOINTS_SET_TESTING_H

#include "checkpoints/ledger_testing.h"
#include "checkpoints/run_list.h"
#include "checkpoints/survey_file.h"

enum { SET_PARTS = 3, SET_ROWS = 3 * PROBLEMS };

struct made_part {
    const char *part; // "1/3"
    const char *rows; // "6 to 11"
    const char *dtype;
    const char *survey;
    uint64_t first; // of its problems, PROBLEMS each commit
    uint64_t commits;
    bool finished;
};

// Row after row, a block each, all of one weight: every part gets as many rows.
static inline void survey_make(struct survey_file *survey, uint64_t rows, struct error *err) {
    struct digest *ids;
    *survey = (struct survey_file){.problems_sha256 = "abc"};
    survey->blocks = (struct row_blocks){.rows = rows, .per_block = 1, .count = rows};
    ok(memory_zeroed(&survey->blocks.blocks, rows, sizeof *survey->blocks.blocks, err), err);
    ok(digest_create(&ids, err), err);
    for (uint64_t i = 0; i < rows; i++) {
        struct shard_problem problem = {0};
        char text[FIXTURE_ID + FIXTURE_METADATA];
        int32_t tokens[FIXTURE_TOKENS_MOST];
        fixture_problem(&problem, i, FIXTURE_STEPS, text, tokens);
        ok(digest_field(ids, problem.id, problem.id_size, err), err);
        survey->blocks.blocks[i].bytes = 7;
    }
    ok(digest_finish(ids, survey->ids_sha256, err), err);
    digest_destroy(ids);
    ok(identity_add(&survey->identity, "model.dtype", "float32", err), err);
}

// FOLDER/survey.sqlite; its hash.
static inline void set_survey(char sha256[DIGEST_HEX], const char *folder, uint64_t rows) {
    struct error err;
    struct survey_file survey;
    char path[PATH_SIZE];
    survey_make(&survey, rows, &err);
    ok(path_join(path, sizeof path, folder, RUN_SET_SURVEY, &err), &err);
    ok(survey_file_write(&survey, path, &err), &err);
    snprintf(sha256, DIGEST_HEX, "%s", survey.sha256);
    survey_file_destroy(&survey);
}

static inline void part_folder(char out[PATH_SIZE], const char *folder, uint64_t index, uint64_t count) {
    struct error err;
    char name[RUN_SET_NAME];
    run_set_part_name(name, &(struct run_part){index, count});
    ok(path_join(out, PATH_SIZE, folder, name, &err), &err);
}

static inline void part_make(const char *folder, const struct made_part *made) {
    struct error err;
    struct identity identity = {0};
    struct ledger_survey survey = {.problems = made->commits * PROBLEMS, .problems_sha256 = "abc"};
    uint64_t epoch;
    ok(file_make_folder(folder, &err), &err);
    struct ledger *ledger = open_at(folder);
    ok(identity_add(&identity, "model.dtype", made->dtype, &err), &err);
    ok(identity_add(&identity, IDENTITY_PROBLEMS, made->part, &err), &err);
    ok(identity_add(&identity, IDENTITY_PART, made->part, &err), &err);
    ok(identity_add(&identity, IDENTITY_PART_ROWS, made->rows, &err), &err);
    ok(identity_add(&identity, IDENTITY_PART_SURVEY, made->survey, &err), &err);
    ok(ledger_begin(ledger, &identity, &survey, &err), &err);
    ok(ledger_launch(ledger, 2, &epoch, &err), &err);
    for (uint64_t i = 0; i < made->commits; i++) {
        bool last = made->finished && i + 1 == made->commits;
        ok(commit(ledger, i, made->first + i * PROBLEMS, last, &err), &err);
    }
    ok(ledger_launch_end(ledger, 0, "", &err), &err);
    ledger_close(ledger);
    identity_destroy(&identity);
}

static inline struct made_part third(uint64_t index, const char *survey) {
    static const char *const names[] = {"0/3", "1/3", "2/3"};
    static const char *const rows[] = {"0 to 5", "6 to 11", "12 to 17"};
    return (struct made_part){.part = names[index],
                              .rows = rows[index],
                              .dtype = "float32",
                              .survey = survey,
                              .first = index * PROBLEMS,
                              .commits = 1,
                              .finished = true};
}

// A set whose three parts are finished.
static inline void set_make(char folder[PATH_SIZE]) {
    struct error err;
    char sha256[DIGEST_HEX];
    fixture_folder(folder);
    ok(run_set_begin(folder, SET_PARTS, "strata run /data/job.yaml --part", &err), &err);
    set_survey(sha256, folder, SET_ROWS);
    for (uint64_t i = 0; i < SET_PARTS; i++) {
        char part[PATH_SIZE];
        const struct made_part made = third(i, sha256);
        part_folder(part, folder, i, SET_PARTS);
        part_make(part, &made);
    }
}

// In the place of what is there.
static inline void part_replace(const char *folder, uint64_t index, const struct made_part *made) {
    char part[PATH_SIZE];
    part_folder(part, folder, index, SET_PARTS);
    fixture_folder_remove(part);
    part_make(part, made);
}

static inline void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

#endif
