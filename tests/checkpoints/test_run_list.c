// SPDX-License-Identifier: MIT
// Run directories taken as one result, and what is refused or told.
#include "checkpoints/set_testing.h"

static const struct run_list_member *member(const struct run_list *list, size_t index) {
    return &list->members[index];
}

static void is_refused(const char *const *folders, size_t count, const char *why) {
    struct error err;
    struct run_list list;
    assert_int_equal(run_list_open(&list, folders, count, &err), STATUS_DATA);
    if (strstr(err.message, why) == NULL) {
        fail_msg("'%s' is not in: %s", why, err.message);
    }
    assert_null(list.members);
}

static void open_whole(struct run_list *list, const char *folder) {
    struct error err;
    ok(run_list_open(list, &folder, 1, &err), &err);
}

static void a_whole_set(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct run_list list;
    struct buffer command = {0};
    set_make(folder);
    open_whole(&list, folder);
    assert_true(list.parts == 3 && list.count == 3);
    assert_string_equal(list.set, folder);
    assert_true(member(&list, 1)->begun && member(&list, 1)->first == 6 && member(&list, 1)->end == 12);
    assert_string_equal(identity_get(&list.identity, "model.dtype"), "float32");
    assert_null(identity_get(&list.identity, IDENTITY_PART));
    ok(run_list_command(&list, 1, &command, &err), &err);
    assert_string_equal(command.data, "strata run /data/job.yaml --part 1/3");
    buffer_destroy(&command);
    run_list_destroy(&list);
    fixture_folder_remove(folder);
}

static void parts_that_are_not_there(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char part[PATH_SIZE];
    struct run_list list;
    set_make(folder);
    char path[PATH_SIZE];
    struct error err;
    part_folder(part, folder, 0, SET_PARTS);
    fixture_folder_remove(part);
    ok(file_make_folder(part, &err), &err);
    ok(path_join(path, sizeof path, part, "ledger.sqlite", &err), &err);
    write_text(path, ""); // about to begin
    part_folder(part, folder, 2, SET_PARTS);
    fixture_folder_remove(part);
    ok(file_make_folder(part, &err), &err);
    ledger_close(open_at(part)); // killed before it began
    open_whole(&list, folder);
    assert_false(member(&list, 0)->there || member(&list, 0)->begun);
    assert_true(member(&list, 1)->begun);
    assert_true(member(&list, 2)->there && !member(&list, 2)->begun);
    run_list_destroy(&list);
    fixture_folder_remove(folder);
}

static void a_run_by_itself(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char part[PATH_SIZE];
    struct run_list list;
    struct error err;
    bool is_set = true;
    set_make(folder);
    part_folder(part, folder, 1, SET_PARTS);
    const char *const folders[] = {part};
    ok(run_list_is_set(folders, 1, &is_set, &err), &err);
    assert_false(is_set);
    open_whole(&list, part);
    assert_true(list.parts == 0 && list.count == 1 && member(&list, 0)->part.count == 0);
    run_list_destroy(&list);
    fixture_folder_remove(folder);
}

static void parts_that_were_named(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char first[PATH_SIZE];
    char last[PATH_SIZE];
    char whole[PATH_SIZE];
    struct error err;
    struct run_list list;
    struct buffer command = {0};
    set_make(folder);
    part_folder(first, folder, 0, SET_PARTS);
    part_folder(last, folder, 2, SET_PARTS);
    const char *const reversed[] = {last, first};
    ok(run_list_open(&list, reversed, 2, &err), &err);
    assert_true(list.count == 3 && list.set[0] == 0);
    assert_string_equal(member(&list, 0)->folder, first);
    assert_true(member(&list, 1)->folder[0] == 0 && !member(&list, 1)->begun);
    ok(run_list_command(&list, 1, &command, &err), &err);
    assert_string_equal(command.data, "strata run /data/job.yaml --part 1/3");
    buffer_destroy(&command);
    run_list_destroy(&list);
    const char *const twice[] = {first, last, first};
    is_refused(twice, 3, "are the same part");
    fixture_folder(whole);
    ledger_close(begin_at(whole, 6));
    const char *const unlike[] = {first, whole};
    is_refused(unlike, 2, "has another identity");
    const char *const unrelated[] = {whole, whole};
    is_refused(unrelated, 2, "is no part of a set");
    const char *const sets[] = {folder, folder};
    is_refused(sets, 2, "no ledger");
    fixture_folder_remove(whole);
    fixture_folder_remove(folder);
}

// What is wrong with one part: refused by those who take all parts as one, told of that part by those who
// look.
static void is_a_fault(const char *folder, size_t index, const char *why) {
    struct error err;
    struct run_list list;
    is_refused(&folder, 1, why);
    ok(run_list_look(&list, &folder, 1, &err), &err);
    for (size_t i = 0; i < list.count; i++) {
        assert_int_equal(member(&list, i)->fault != NULL, i == index);
        assert_int_equal(member(&list, i)->begun, i != index);
        assert_true(member(&list, i)->there && member(&list, i)->part.index == i);
    }
    assert_non_null(strstr(member(&list, index)->fault, why));
    run_list_destroy(&list);
    fixture_folder_remove(folder);
}

static void another_identity(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    set_make(folder);
    struct made_part made = third(2, "x");
    made.dtype = "float16";
    part_replace(folder, 2, &made);
    is_a_fault(folder, 2, "model.dtype: stored 'float32', now 'float16'");
}

static void a_part_in_another_place(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char from[PATH_SIZE];
    char to[PATH_SIZE];
    char command[2 * PATH_SIZE + 16];
    set_make(folder);
    part_folder(from, folder, 1, SET_PARTS);
    part_folder(to, folder, 2, SET_PARTS);
    fixture_folder_remove(to);
    snprintf(command, sizeof command, "cp -r '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
    is_a_fault(folder, 2, "holds part 1/3, not part 2/3");
}

static void a_damaged_ledger(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char part[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    set_make(folder);
    part_folder(part, folder, 1, SET_PARTS);
    ok(path_join(path, sizeof path, part, "ledger.sqlite", &err), &err);
    write_text(path, "no database");
    is_a_fault(folder, 1, "not a database");
}

static void a_lost_ledger(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char part[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    struct run_list list;
    set_make(folder);
    part_folder(part, folder, 1, SET_PARTS);
    ok(path_join(path, sizeof path, part, "ledger.sqlite", &err), &err);
    ok(file_remove(path, &err), &err);
    ok(path_join(path, sizeof path, part, "shards", &err), &err);
    ok(file_make_folder(path, &err), &err);
    ok(path_join(path, sizeof path, part, "shards/part-000000.h5", &err), &err);
    write_text(path, "a shard");
    const char *const folders[] = {folder};
    is_refused(folders, 1, "has shards/part-000000.h5 and no ledger");
    ok(run_list_look(&list, folders, 1, &err), &err);
    assert_non_null(member(&list, 1)->fault);
    assert_false(member(&list, 1)->there);
    run_list_destroy(&list);
    fixture_folder_remove(folder);
}

static void a_part_that_is_none(void **state) {
    (void)state;
    static const char *const wrong[][2] = {{"3/3", "12 to 17"},
                                           {"2", "12 to 17"},
                                           {"2/3", "12"},
                                           {"2/3", "17 to 12"},
                                           {"2/3", "-1 to 17"},
                                           {"2/3", ""},
                                           {"2/3", "12 to 18446744073709551615"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char folder[PATH_SIZE];
        set_make(folder);
        struct made_part made = third(2, "x");
        made.part = wrong[i][0];
        made.rows = wrong[i][1];
        part_replace(folder, 2, &made);
        is_a_fault(folder, 2, "does not say which part it is");
    }
}

static void rows_that_overlap(void **state) {
    (void)state;
    static const char *const wrong[] = {"5 to 11", "7 to 11", "0 to 5"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char folder[PATH_SIZE];
        char sha256[DIGEST_HEX];
        set_make(folder);
        set_survey(sha256, folder, SET_ROWS);
        struct made_part made = third(1, sha256);
        made.rows = wrong[i];
        part_replace(folder, 1, &made);
        const char *const folders[] = {folder};
        is_refused(folders, 1, "and the parts before it end with row");
        fixture_folder_remove(folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_set),         cmocka_unit_test(parts_that_are_not_there),
        cmocka_unit_test(a_run_by_itself),     cmocka_unit_test(parts_that_were_named),
        cmocka_unit_test(another_identity),    cmocka_unit_test(a_part_in_another_place),
        cmocka_unit_test(a_damaged_ledger),    cmocka_unit_test(a_lost_ledger),
        cmocka_unit_test(a_part_that_is_none), cmocka_unit_test(rows_that_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
