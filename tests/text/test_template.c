// SPDX-License-Identifier: MIT
// Templates: columns, doubled braces, the marked part, and the places of mistakes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/template.h"

// Gives "<name>"; fails for a column called "missing".
static int value(void *context, const char *name, struct template_value *out, struct error *err) {
    struct buffer *memory = context;
    if (strcmp(name, "missing") == 0) {
        return error_set(err, STATUS_DATA, "no %s", name);
    }
    if (strcmp(name, "nul") == 0) {
        *out = (struct template_value){.bytes = "a\0b", .size = 3};
        return STATUS_OK;
    }
    buffer_clear(memory);
    int status = buffer_printf(memory, err, "<%s>", name);
    *out = (struct template_value){.bytes = memory->data, .size = memory->size};
    return status;
}

static void renders(const char *text, const char *marked, const char *wanted, size_t wanted_size,
                    size_t wanted_at) {
    struct template template;
    struct error err = {0};
    struct buffer out = {0};
    struct buffer memory = {0};
    size_t at = 77;
    assert_int_equal(template_parse(&template, text, &err), STATUS_OK);
    assert_int_equal(buffer_append(&out, "before", 6, &err), STATUS_OK);
    assert_int_equal(template_render(&template, &out, marked, &at, value, &memory, &err), STATUS_OK);
    assert_int_equal(out.size, wanted_size + 6);
    assert_memory_equal(out.data, "before", 6);
    assert_memory_equal(out.data + 6, wanted, wanted_size);
    assert_int_equal(at, wanted_at == SIZE_MAX ? SIZE_MAX : wanted_at + 6);
    buffer_destroy(&out);
    buffer_destroy(&memory);
    template_destroy(&template);
    assert_null(template.parts);
}

#define RENDERS(text, marked, wanted, at) renders(text, marked, wanted, sizeof(wanted) - 1, at)

static void test_render(void **state) {
    (void)state;
    RENDERS("", "steps", "", SIZE_MAX);
    RENDERS("plain", NULL, "plain", SIZE_MAX);
    RENDERS("{statement}\n{steps}", "steps", "<statement>\n<steps>", 12);
    RENDERS("{a}{b}{a}", "a", "<a><b><a>", 0);
    RENDERS("{a}{b}{a}", "b", "<a><b><a>", 3);
    RENDERS("{{{a}}}", "a", "{<a>}", 1);
    RENDERS("{{}} }}{{ x", "a", "{} }{ x", SIZE_MAX);
    RENDERS("{{steps}}", "steps", "{steps}", SIZE_MAX);
    RENDERS("{two words}\xC3\xA4", NULL, "<two words>\xC3\xA4", SIZE_MAX);
    RENDERS("x{nul}y", "nul", "xa\0by", 1);
}

static void test_names(void **state) {
    (void)state;
    struct template template;
    struct error err = {0};
    assert_int_equal(template_parse(&template, "{a} {b} {a} {{c}}", &err), STATUS_OK);
    assert_int_equal(template_count(&template, "a"), 2);
    assert_int_equal(template_count(&template, "b"), 1);
    assert_true(template_uses(&template, "b"));
    assert_false(template_uses(&template, "c"));
    assert_false(template_uses(&template, " "));
    template_destroy(&template);
    template_destroy(&template);
}

static void refused(const char *text, const char *message) {
    struct template template;
    struct error err = {0};
    assert_int_equal(template_parse(&template, text, &err), STATUS_JOB);
    assert_string_equal(err.message, message);
    assert_null(template.parts);
}

static void test_mistakes(void **state) {
    (void)state;
    refused("a {b", "template, character 3: this brace is not closed ('{{' is a brace as text)");
    refused("\xC3\xA4{b {c}", "template, character 2: this brace is not closed ('{{' is a brace as text)");
    refused("{a} {", "template, character 5: this brace is not closed ('{{' is a brace as text)");
    refused("{{{", "template, character 3: this brace is not closed ('{{' is a brace as text)");
    refused("a } b", "template, character 3: this brace was not opened ('}}' is a brace as text)");
    refused("{a}}", "template, character 4: this brace was not opened ('}}' is a brace as text)");
    refused("a {}", "template, character 3: {} names no column");
}

static void test_failing_value(void **state) {
    (void)state;
    struct template template;
    struct error err = {0};
    struct buffer out = {0};
    struct buffer memory = {0};
    assert_int_equal(template_parse(&template, "{a}{missing}{b}", &err), STATUS_OK);
    assert_int_equal(template_render(&template, &out, NULL, NULL, value, &memory, &err), STATUS_DATA);
    assert_string_equal(err.message, "no missing");
    buffer_destroy(&out);
    buffer_destroy(&memory);
    template_destroy(&template);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_render),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_failing_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
