// SPDX-License-Identifier: MIT
// Where a model's parts lie, and what else can lie where a model was meant.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/place.h"

static void parts_lie_in_the_folder(void **state) {
    (void)state;
    static const char *const expected[] = {"m/config.json", "m/tokenizer.json", "m/model.safetensors",
                                           "m/model.safetensors.index.json"};
    char path[PATH_SIZE];
    struct error err;
    for (int part = MODEL_CONFIG; part <= MODEL_WEIGHTS_INDEX; part++) {
        assert_int_equal(model_part_path(path, "m", (enum model_part)part, &err), STATUS_OK);
        assert_string_equal(path, expected[part]);
        assert_string_equal(model_part_name((enum model_part)part), expected[part] + 2);
    }
    assert_int_equal(model_file_path(path, "m", "shard", &err), STATUS_OK);
    assert_string_equal(path, "m/shard");
}

static void a_chosen_tokenizer_comes_before_the_models_own(void **state) {
    (void)state;
    char path[PATH_SIZE];
    struct error err;
    assert_int_equal(model_tokenizer_path(path, "/m", NULL, &err), STATUS_OK);
    assert_string_equal(path, "/m/tokenizer.json");
    assert_int_equal(model_tokenizer_path(path, "/m", "other/t.json", &err), STATUS_OK);
    assert_string_equal(path, "other/t.json");
}

static void paths_too_long_are_refused(void **state) {
    (void)state;
    char model[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err = {0};
    memset(model, 'm', sizeof model - 1);
    model[sizeof model - 1] = 0;
    assert_int_equal(model_part_path(path, model, MODEL_CONFIG, &err), STATUS_INTERNAL);
    assert_false(model_has_part(model, MODEL_CONFIG));
}

static void write_file(const char *path, const char *text) {
    struct error err;
    assert_int_equal(file_write_atomic(path, text, strlen(text), &err), STATUS_OK);
}

static void a_gguf_file_has_its_tokenizer_beside_it_or_in_it(void **state) {
    (void)state;
    char folder[] = "/tmp/strata-place-XXXXXX";
    char model[sizeof folder + 24];
    char tokenizer[sizeof folder + 24];
    char path[PATH_SIZE];
    struct error err;
    assert_non_null(mkdtemp(folder));
    snprintf(model, sizeof model, "%s/m.gguf", folder);
    snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer.json", folder);
    write_file(model, "GGUF");
    assert_int_equal(model_tokenizer_path(path, model, NULL, &err), STATUS_OK);
    assert_string_equal(path, model);
    write_file(tokenizer, "{}");
    assert_int_equal(model_tokenizer_path(path, model, NULL, &err), STATUS_OK);
    assert_string_equal(path, tokenizer);
    assert_int_equal(model_tokenizer_path(path, model, "other/t.json", &err), STATUS_OK);
    assert_string_equal(path, "other/t.json");
    unlink(model);
    unlink(tokenizer);
    rmdir(folder);
}

static void forms_are_told_apart(void **state) {
    (void)state;
    char folder[] = "/tmp/strata-place-XXXXXX";
    char path[sizeof folder + 16];
    enum model_form form;
    struct error err;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(model_form(folder, &form, &err), STATUS_OK);
    assert_int_equal(form, MODEL_FORM_FOLDER);
    assert_false(model_has_part(folder, MODEL_CONFIG));
    snprintf(path, sizeof path, "%s/config.json", folder);
    int descriptor = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_true(model_has_part(folder, MODEL_CONFIG));
    assert_int_equal(model_form(path, &form, &err), STATUS_OK);
    assert_int_equal(form, MODEL_FORM_FILE);
    write_file(path, "GGUF");
    assert_int_equal(model_form(path, &form, &err), STATUS_OK);
    assert_int_equal(form, MODEL_FORM_GGUF);
    write_file(path, "GGU");
    assert_int_equal(model_form(path, &form, &err), STATUS_OK);
    assert_int_equal(form, MODEL_FORM_FILE);
    unlink(path);
    assert_int_equal(model_form(path, &form, &err), STATUS_OK);
    assert_int_equal(form, MODEL_FORM_NONE);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(model_form(path, &form, &err), STATUS_OK);
    assert_int_equal(form, MODEL_FORM_OTHER);
    unlink(path);
    rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_lie_in_the_folder),
        cmocka_unit_test(a_chosen_tokenizer_comes_before_the_models_own),
        cmocka_unit_test(paths_too_long_are_refused),
        cmocka_unit_test(forms_are_told_apart),
        cmocka_unit_test(a_gguf_file_has_its_tokenizer_beside_it_or_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
