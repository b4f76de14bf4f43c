// SPDX-License-Identifier: MIT
// What is said of a set as a whole.
#include "checkpoints/set_testing.h"
#include "checkpoints/verify_set.h"

struct told {
    char lines[8192];
    struct verify_report report;
    struct verify_set_report set;
};

static void tell(void *context, enum verify_kind kind, const char *line) {
    struct told *told = context;
    size_t length = strlen(told->lines);
    snprintf(told->lines + length, sizeof told->lines - length, "%s %s\n",
             kind == VERIFY_FAULT ? "FAULT" : "NOTE", line);
}

static struct told verify(const char *const *folders, size_t count) {
    struct error err;
    struct run_list list;
    struct told told = {0};
    ok(run_list_look(&list, folders, count, &err), &err);
    ok(verify_set(&list, tell, &told, &told.report, &told.set, &err), &err);
    run_list_destroy(&list);
    return told;
}

static struct told verify_one(const char *folder) {
    return verify(&folder, 1);
}

static void has(const struct told *told, uint64_t faults, const char *line) {
    if (told->report.faults != faults || strstr(told->lines, line) == NULL) {
        fail_msg("%d faults and '%s' expected, told: %s", (int)faults, line, told->lines);
    }
    assert_int_equal(told->set.proven, faults == 0 && line[0] == 0);
}

static void survey_path(char path[PATH_SIZE], const char *folder) {
    struct error err;
    ok(path_join(path, PATH_SIZE, folder, RUN_SET_SURVEY, &err), &err);
}

static void a_whole_set(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    set_make(folder);
    const struct told told = verify_one(folder);
    has(&told, 0, "");
    assert_true(told.set.surveyed && told.set.finished == 3 && told.set.recorded == SET_ROWS);
    fixture_folder_remove(folder);
}

static void an_unfinished_set(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char part[PATH_SIZE];
    set_make(folder);
    part_folder(part, folder, 1, SET_PARTS);
    fixture_folder_remove(part);
    const struct told told = verify_one(folder);
    assert_int_equal(told.report.faults + told.report.notes, 0);
    assert_true(!told.set.proven && told.set.finished == 2 && told.set.recorded == 2 * PROBLEMS);
    fixture_folder_remove(folder);
}

static void parts_by_name(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char parts[SET_PARTS][PATH_SIZE];
    set_make(folder);
    for (uint64_t i = 0; i < SET_PARTS; i++) {
        part_folder(parts[i], folder, i, SET_PARTS);
    }
    const char *const folders[] = {parts[2], parts[0], parts[1]};
    const struct told told = verify(folders, SET_PARTS);
    assert_int_equal(told.report.faults + told.report.notes, 0);
    assert_true(!told.set.surveyed && !told.set.proven && told.set.finished == 3);
    fixture_folder_remove(folder);
}

static void a_survey_that_is_no_more(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    char sha256[DIGEST_HEX];
    struct error err;
    set_make(folder);
    survey_path(path, folder);
    ok(file_remove(path, &err), &err);
    struct told told = verify_one(folder);
    has(&told, 0, "NOTE");
    write_text(path, "no survey");
    told = verify_one(folder);
    has(&told, 1, "file is not a database");
    ok(file_remove(path, &err), &err);
    set_survey(sha256, folder, SET_ROWS + 1);
    told = verify_one(folder);
    has(&told, 1, "is another survey than that of the parts");
    fixture_folder_remove(folder);
}

// A part with other rows than the survey gives it, or with other problems.
static struct told verify_changed(struct made_part *made) {
    char folder[PATH_SIZE];
    char sha256[DIGEST_HEX];
    set_make(folder);
    set_survey(sha256, folder, SET_ROWS);
    made->survey = sha256;
    part_replace(folder, 1, made);
    const struct told told = verify_one(folder);
    fixture_folder_remove(folder);
    return told;
}

static void other_rows(void **state) {
    (void)state;
    struct made_part made = third(1, NULL);
    made.rows = "5 to 11";
    struct told told = verify_changed(&made);
    has(&told, 2, "part 1/3 has rows 5 to 11 of the query, the survey gives it rows 6 to 11");
    made.rows = "none";
    told = verify_changed(&made);
    has(&told, 2, "part 1/3 has no rows of the query");
    made.rows = "6 to 17";
    told = verify_changed(&made);
    has(&told, 2, "part 1/3 is finished, and has 6 problems of 12 rows");
}

static void problems_of_another_part(void **state) {
    (void)state;
    struct made_part made = third(1, NULL);
    made.first = 3;
    const struct told told = verify_changed(&made);
    // Three rows are those of the part before, and their ids too.
    has(&told, 4, "part 1/3: 3 of its problems are of rows that are not its own");
    assert_non_null(strstr(told.lines, "part 1/3: problem 'aufgabe-\xc3\xbc-4' is in a part before it, too"));
}

// Of part 1, in its ledger.
static void change_part(const char *folder, const char *sql) {
    char part[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    sqlite3 *db;
    part_folder(part, folder, 1, SET_PARTS);
    ok(path_join(path, sizeof path, part, "ledger.sqlite", &err), &err);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void other_ids(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    set_make(folder);
    change_part(folder, "UPDATE problem SET id = 'other' WHERE ordinal = 7");
    const struct told told = verify_one(folder);
    has(&told, 1, "the ids of the parts are not those that the survey found");
    fixture_folder_remove(folder);
}

// One fault, though its problems are looked for twice.
static void a_damaged_ledger_is_told_once(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    set_make(folder);
    change_part(folder, "DROP TABLE problem");
    const struct told told = verify_one(folder);
    has(&told, 1, "part 1/3: ");
    fixture_folder_remove(folder);
}

static void many_doubles_are_counted(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char sha256[DIGEST_HEX];
    set_make(folder);
    set_survey(sha256, folder, SET_ROWS);
    struct made_part made = third(2, sha256);
    made.first = 0;
    made.commits = 2;
    part_replace(folder, 2, &made);
    const struct told told = verify_one(folder);
    // Twelve rows that are not its own: one line of rows, ten of ids, and one of those that are left.
    has(&told, 12, "2 more problems are in two parts");
    fixture_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_set),
        cmocka_unit_test(an_unfinished_set),
        cmocka_unit_test(parts_by_name),
        cmocka_unit_test(a_survey_that_is_no_more),
        cmocka_unit_test(other_rows),
        cmocka_unit_test(problems_of_another_part),
        cmocka_unit_test(other_ids),
        cmocka_unit_test(a_damaged_ledger_is_told_once),
        cmocka_unit_test(many_doubles_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
