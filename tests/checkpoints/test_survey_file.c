// SPDX-License-Identifier: MIT
// survey.sqlite: what it holds comes back, whatever is damaged is seen, and it divides any query.
#include "checkpoints/set_testing.h"

static void comes_back(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    struct survey_file written;
    struct survey_file read;
    bool found = true;
    fixture_folder(folder);
    ok(path_join(path, sizeof path, folder, RUN_SET_SURVEY, &err), &err);
    ok(survey_file_read(&read, path, &found, &err), &err);
    assert_false(found);
    survey_make(&written, 11, &err);
    written.blocks.enters = true;
    written.blocks.blocks[3].rowid = INT64_MIN;
    ok(survey_file_write(&written, path, &err), &err);
    ok(survey_file_read(&read, path, &found, &err), &err);
    assert_true(found && read.blocks.enters && read.blocks.count == 11);
    assert_true(read.blocks.blocks[3].rowid == INT64_MIN);
    assert_string_equal(read.sha256, written.sha256);
    assert_string_equal(read.problems_sha256, "abc");
    assert_string_equal(read.ids_sha256, written.ids_sha256);
    assert_string_equal(identity_get(&read.identity, "model.dtype"), "float32");
    survey_file_destroy(&written);
    survey_file_destroy(&read);
    fixture_folder_remove(folder);
}

static void change(const char *path, const char *sql) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void is_refused(const char *path) {
    struct error err;
    struct survey_file read;
    bool found;
    assert_int_equal(survey_file_read(&read, path, &found, &err), STATUS_DATA);
    assert_null(read.blocks.blocks);
}

static void every_change_is_seen(void **state) {
    (void)state;
    static const char *const changes[] = {"UPDATE survey SET problems = 12",
                                          "UPDATE survey SET problems = -1",
                                          "UPDATE survey SET problems_sha256 = 'abd'",
                                          "UPDATE survey SET ids_sha256 = 'x'",
                                          "UPDATE survey SET ids_sha256 = NULL",
                                          "UPDATE survey SET enters = 1",
                                          "UPDATE survey SET rows_per_block = 0",
                                          "UPDATE survey SET rows_per_block = 2",
                                          "UPDATE survey SET rows_per_block = -1",
                                          "UPDATE survey SET blocks = 4294967295, problems = 4294967295",
                                          "UPDATE survey SET blocks = 'many'",
                                          "UPDATE survey SET sha256 = ''",
                                          "DELETE FROM survey",
                                          "UPDATE identity SET value = 'float16'",
                                          "INSERT INTO identity VALUES (7, 'a', 'b')",
                                          "INSERT INTO identity VALUES (7, NULL, NULL)",
                                          "DELETE FROM identity",
                                          "UPDATE block SET bytes = 8 WHERE number = 2",
                                          "UPDATE block SET rowid_of_first = 8 WHERE number = 2",
                                          "DELETE FROM block WHERE number = 10",
                                          "INSERT INTO block VALUES (11, 0, 7, '')",
                                          "DROP TABLE block",
                                          "ALTER TABLE survey RENAME COLUMN problems TO texts",
                                          "PRAGMA user_version = 2",
                                          "PRAGMA application_id = 1"};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char folder[PATH_SIZE];
        char path[PATH_SIZE];
        char sha256[DIGEST_HEX];
        struct error err;
        fixture_folder(folder);
        set_survey(sha256, folder, 11);
        ok(path_join(path, sizeof path, folder, RUN_SET_SURVEY, &err), &err);
        change(path, changes[i]);
        is_refused(path);
        fixture_folder_remove(folder);
    }
}

static void other_files(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    char sha256[DIGEST_HEX];
    struct error err;
    uint64_t size;
    fixture_folder(folder);
    ok(path_join(path, sizeof path, folder, RUN_SET_SURVEY, &err), &err);
    write_text(path, "");
    is_refused(path);
    write_text(path, "no survey");
    is_refused(path);
    ok(file_remove(path, &err), &err);
    set_survey(sha256, folder, 300);
    ok(file_size(path, &size, &err), &err);
    assert_int_equal(truncate(path, (off_t)size / 2), 0);
    is_refused(path);
    ok(file_remove(path, &err), &err);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    is_refused(path);
    fixture_folder_remove(folder);
}

static void nothing_is_left_of_one_that_cannot_be_written(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    struct survey_file survey;
    fixture_folder(folder);
    survey_make(&survey, 11, &err);
    ok(path_join(path, sizeof path, folder, "missing/survey.sqlite", &err), &err);
    assert_int_equal(survey_file_write(&survey, path, &err), STATUS_WRITE);
    survey_file_destroy(&survey);
    fixture_folder_remove(folder);
}

static struct survey_file random_survey(uint64_t *seed) {
    struct error err;
    struct survey_file survey = {0};
    struct row_blocks *blocks = &survey.blocks;
    blocks->rows = random_below(seed, 400);
    blocks->per_block = 1 + random_below(seed, 5);
    blocks->count = (size_t)((blocks->rows + blocks->per_block - 1) / blocks->per_block);
    ok(memory_zeroed(&blocks->blocks, blocks->count, sizeof *blocks->blocks, &err), &err);
    uint64_t most = 1 + random_below(seed, 3) * random_below(seed, 100000);
    for (size_t i = 0; i < blocks->count; i++) { // some are a hundred times as heavy, some have no text
        uint64_t heavy = random_below(seed, 20) == 0 ? 100 : 1;
        blocks->blocks[i].bytes = random_below(seed, 4) == 0 ? 0 : heavy * random_below(seed, most);
    }
    return survey;
}

static double weight(const struct survey_file *survey, uint64_t first, uint64_t end, double *heaviest) {
    const struct row_blocks *blocks = &survey->blocks;
    double sum = 0;
    for (uint64_t row = first; row < end; row += blocks->per_block) {
        uint64_t rows = end - row < blocks->per_block ? end - row : blocks->per_block;
        double of_block = (double)blocks->blocks[row / blocks->per_block].bytes + (double)rows;
        *heaviest = of_block > *heaviest ? of_block : *heaviest;
        sum += of_block;
    }
    return sum;
}

// Of any survey and number: in order, without a gap, whole blocks, none more than its share and a block.
static void parts_divide_the_query(void **state) {
    (void)state;
    uint64_t seed = 5;
    for (int i = 0; i < 400; i++) {
        struct survey_file survey = random_survey(&seed);
        uint64_t count = 1 + random_below(&seed, random_below(&seed, 2) == 0 ? 8 : 600);
        double heaviest = 0;
        double all = weight(&survey, 0, survey.blocks.rows, &heaviest);
        uint64_t next = 0;
        uint64_t *begins;
        struct error err;
        ok(survey_file_parts(&survey, count, &begins, &err), &err);
        for (uint64_t part = 0; part < count; part++) {
            uint64_t first;
            uint64_t end;
            double ignored = 0;
            survey_file_part(&survey, part, count, &first, &end);
            assert_int_equal(first, next);
            assert_true(begins[part] == first && begins[part + 1] == end);
            assert_true(end >= first &&
                        (first % survey.blocks.per_block == 0 || first == survey.blocks.rows));
            assert_true(weight(&survey, first, end, &ignored) <= all / (double)count + heaviest + 1e-6);
            next = end;
        }
        assert_int_equal(next, survey.blocks.rows);
        free(begins);
        survey_file_destroy(&survey);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),
        cmocka_unit_test(every_change_is_seen),
        cmocka_unit_test(other_files),
        cmocka_unit_test(nothing_is_left_of_one_that_cannot_be_written),
        cmocka_unit_test(parts_divide_the_query),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
