// SPDX-License-Identifier: MIT
// Text of others on its way to a terminal.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/printable.h"

static void shows(const char *text, const char *wanted) {
    char out[256];
    char *written = NULL;
    size_t size = 0;
    struct buffer buffer = {0};
    struct error err;
    assert_string_equal(printable(out, sizeof out, text), wanted);
    FILE *stream = open_memstream(&written, &size);
    printable_write(stream, text);
    fclose(stream);
    assert_string_equal(written, wanted);
    assert_int_equal(printable_append(&buffer, text, &err), STATUS_OK);
    assert_string_equal(buffer.size == 0 ? "" : buffer.data, wanted);
    buffer_destroy(&buffer);
    free(written);
    char again[256]; // what is shown once is shown alike twice
    assert_string_equal(printable(again, sizeof again, wanted), wanted);
}

static void controls_become_visible(void **state) {
    (void)state;
    shows("", "");
    shows("plain \"text\" \\n", "plain \"text\" \\n");
    shows("gr\xc3\xb6\xc3\x9f"
          "er \xe2\x88\x91 \xf0\x9f\xa6\x89",
          "gr\xc3\xb6\xc3\x9f"
          "er \xe2\x88\x91 \xf0\x9f\xa6\x89");
    shows("a\nb\rc\td", "a\\nb\\rc\\td");
    shows("\x1b[2J\x07\x01\x7f", "\\u001b[2J\\u0007\\u0001\\u007f");
    shows("\xc2\x9b"
          "31m",
          "\\u009b31m"); // C1, which some terminals take for ESC [
    shows("\xe2\x80\xae"
          "evil\xe2\x81\xa6\xe2\x81\xa9",
          "\\u202eevil\\u2066\\u2069"); // direction
    shows("\xe2\x80\xa8", "\\u2028");
    shows("\x9b\xff\xc3", "\\x9b\\xff\\xc3"); // no UTF-8
    shows("\xed\xa0\x80", "\\xed\\xa0\\x80"); // a surrogate
}

static void every_control_is_caught(void **state) {
    (void)state;
    char out[16];
    for (int byte = 1; byte < 256; byte++) {
        const char text[2] = {(char)byte, 0};
        printable(out, sizeof out, text);
        assert_true(strlen(out) == (byte >= 0x20 && byte < 0x7f                    ? 1
                                    : byte == '\n' || byte == '\r' || byte == '\t' ? 2
                                    : byte >= 0x80                                 ? 4
                                                                                   : 6));
    }
}

static void cut_texts_say_so(void **state) {
    (void)state;
    char out[9];
    assert_string_equal(printable(out, sizeof out, "12345678"), "12345678");
    assert_string_equal(printable(out, sizeof out, "123456789"), "12345...");
    assert_string_equal(printable(out, sizeof out, "1234\x1b"), "1234...");
    assert_string_equal(printable(out, sizeof out, "1234\xc3\xb6\xc3\xb6\xc3\xb6"), "1234...");
    assert_string_equal(printable(out, 4, "abcdef"), "...");
}

static void own_line_feeds_stay(void **state) {
    (void)state;
    char out[64];
    assert_string_equal(printable_lines(out, sizeof out, "a\nb\r\x1b"), "a\nb\\r\\u001b");
    assert_string_equal(printable(out, sizeof out, "a\nb"), "a\\nb");
}

static void streams_get_bytes_and_lines(void **state) {
    (void)state;
    char *written = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&written, &size);
    printable_write_bytes(stream, "ab\n\0cd", 4); // a NUL among them
    fputs("|", stream);
    printable_write_lines(stream, "a\nb\r");
    fclose(stream);
    assert_string_equal(written, "ab\\n\\u0000|a\nb\\r");
    free(written);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controls_become_visible),
        cmocka_unit_test(every_control_is_caught),
        cmocka_unit_test(cut_texts_say_so),
        cmocka_unit_test(own_line_feeds_stay),
        cmocka_unit_test(streams_get_bytes_and_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
