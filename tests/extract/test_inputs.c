// SPDX-License-Identifier: MIT
// What a job names is opened in one order, and a stop that is asked for ends it between two parts.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "problems/scratch.h"
#include "start/inputs.h"

static struct error err;

static bool stop_always(void *context) {
    ++*(int *)context;
    return true;
}

static bool stop_never(void *context) {
    ++*(int *)context;
    return false;
}

// A job whose tokenizer is there, and whose database and model are not.
static void read_job(struct inputs *inputs, bool (*stopped)(void *context), int *asked) {
    static const char job[] = "problems: {database: none.db, id: id}\n"
                              "model: {path: no-model, tokenizer: tokenizer.json}\nrun: {output: o}\n";
    static const char tokenizer[] =
        "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}";
    scratch_file("job.yaml", job, sizeof job - 1);
    scratch_file("tokenizer.json", tokenizer, sizeof tokenizer - 1);
    *asked = 0;
    const struct inputs_options options = {.job_path = scratch_path("job.yaml"),
                                           .watch = {.stopped = stopped, .context = asked}};
    if (inputs_read_job(inputs, &options, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
}

static void test_order(void **state) {
    (void)state;
    static const struct {
        unsigned parts;
        const char *fails; // the first part that is not there
    } cases[] = {{INPUTS_TEMPLATE | INPUTS_MODEL | INPUTS_TOKENIZER | INPUTS_PROBLEMS, "none.db"},
                 {INPUTS_TEMPLATE | INPUTS_MODEL | INPUTS_TOKENIZER, "no-model"},
                 {INPUTS_DEVICE | INPUTS_MODEL, "no-model"}};
    struct inputs inputs;
    int asked;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        read_job(&inputs, stop_never, &asked);
        assert_int_equal(inputs_open(&inputs, cases[i].parts, NULL, &err), STATUS_DATA);
        assert_non_null(strstr(err.message, cases[i].fails));
        assert_string_equal(inputs.device.kind, "");
        inputs_close(&inputs);
    }
}

static void test_stop_between_parts(void **state) {
    (void)state;
    struct inputs inputs;
    int asked;
    read_job(&inputs, stop_always, &asked);
    assert_int_equal(inputs_open(&inputs, INPUTS_TOKENIZER | INPUTS_MODEL, NULL, &err), STATUS_STOPPED);
    assert_non_null(inputs.tokenizer);
    assert_int_equal(asked, 1);
    inputs_close(&inputs);
    // One part alone is not stopped: there is nothing between.
    read_job(&inputs, stop_always, &asked);
    assert_int_equal(inputs_open(&inputs, INPUTS_TOKENIZER, NULL, &err), STATUS_OK);
    assert_int_equal(asked, 0);
    inputs_close(&inputs);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_stop_between_parts),
    };
    return cmocka_run_group_tests_name("inputs", tests, scratch_make, scratch_remove);
}
