// SPDX-License-Identifier: MIT
// UTF-8: every code point there and back, and what is none.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/utf8.h"

static void every_code_point_goes_there_and_back(void **state) {
    (void)state;
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        char bytes[4];
        uint32_t found = ~code;
        if (code >= 0xD800 && code <= 0xDFFF) {
            continue;
        }
        size_t length = utf8_write(code, bytes);
        if (length != (code < 0x80      ? 1u
                       : code < 0x800   ? 2u
                       : code < 0x10000 ? 3u
                                        : 4u) ||
            utf8_decode(bytes, length, &found) != length || found != code ||
            utf8_decode(bytes, length - 1, &found) != 0) {
            fail_msg("U+%04X in %zu bytes", code, length);
        }
    }
}

static void is_valid_up_to(const char *text, size_t size, size_t good) {
    size_t offset = SIZE_MAX;
    bool valid = utf8_valid(text, size, &offset);
    assert_int_equal(valid, good == size);
    assert_true(offset == (valid ? SIZE_MAX : good));
}

// The bad bytes at every place of a word of eight and of the next, which letters alone are skipped by.
static void bad_bytes_are_found_where_they_are(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\x80",             // a continuation alone
        "\xC0\x80",         // NUL, longer than it is
        "\xC1\xBF",         // DEL, longer than it is
        "\xE0\x9F\xBF",     // U+07FF, longer than it is
        "\xF0\x8F\xBF\xBF", // U+FFFF, longer than it is
        "\xED\xA0\x80",     // surrogates, the first
        "\xED\xBF\xBF",     // and the last
        "\xF4\x90\x80\x80", // U+110000
        "\xF5\x80\x80\x80", // beyond
        "\xFF",             // never
        "\xC3",             // cut
        "\xE2\x88",         //
        "\xF0\x9F\xA6",     //
        "\xE2\x28\xA1",     // a letter in its midst
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (size_t at = 0; at < 20; at++) {
            char text[64];
            size_t length = strlen(bad[i]);
            memset(text, 'a', sizeof text);
            memcpy(text + at, bad[i], length);
            is_valid_up_to(text, at + length, at);
            is_valid_up_to(text, sizeof text, at);
        }
    }
}

static void good_texts_are_good(void **state) {
    (void)state;
    static const char text[] =
        "na\xC3\xAFve \xE2\x88\x91 \xF0\x9F\xA6\x89 \xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF";
    is_valid_up_to("", 0, 0);
    is_valid_up_to(text, sizeof text - 1, sizeof text - 1);
    is_valid_up_to("a\0b", 3, 3); // NUL is a character
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_goes_there_and_back),
        cmocka_unit_test(bad_bytes_are_found_where_they_are),
        cmocka_unit_test(good_texts_are_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
