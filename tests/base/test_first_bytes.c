// SPDX-License-Identifier: MIT
// First bytes: each kind is named where it is not wanted, and what is wanted passes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/first_bytes.h"

static struct error err;

static int check(const char *bytes, size_t size, enum first_bytes_use use) {
    err = (struct error){0};
    return first_bytes_check(bytes, size, size, "FILE", use, &err);
}

static void test_kinds(void **state) {
    (void)state;
    char tar[FIRST_BYTES_SIZE] = "problems.jsonl";
    static const struct {
        const char *bytes;
        size_t size;
        const char *word;
    } kinds[] = {
#define KIND(text, word) {text, sizeof text - 1, word}
        KIND("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer"),
        KIND("PAR1\x15\x04", "Parquet"),
        KIND("ARROW1\0\0", "Arrow"),
        KIND("\x28\xB5\x2F\xFD\x04", "zstd"),
        KIND("\x50\x2A\x4D\x18\4\0\0\0", "zstd"),
        KIND("\x78\x9C\xAB\x56", "zlib"),
        KIND("\x78\x01\xAB\x56", "zlib"),
        KIND("\x78\x5E\xAB\x56\x02", "zlib"),
        KIND("\x78\xDA\xAB\x56", "zlib"),
        KIND("\x5D\0\0\x80\0\xFF", "lzma"),
        KIND("BZh91AY", "bzip2"),
        KIND("\xFD\x37\x7A\x58\x5A\x00\x00", "xz"),
        KIND("PK\x03\x04\x14", "ZIP"),
        KIND("PK\x03\x04\x14\0\6\0\b\0\0\0!\0\0\0\0\0\0\0\0\0\0\0\0\0\x13\0\0\0[Content_Types].xml",
             "office"),
        KIND("\x1F\x8B\x08\x00", "gzip"),
        KIND("GGUF\x03\0\0\0", "GGUF"),
        KIND("\x80\x02\x8A\x0Al\xFC\x9C", "pickle"),
        KIND("\x93NUMPY\x01", "NumPy"),
        KIND("\n <!DOCTYPE html><html>", "HTML"),
        KIND("\xEF\xBB\xBF<HTML lang=en>", "HTML"),
        KIND("<?xml version=\"1.0\"?><Error/>", "XML"),
        KIND("<head><title>", "HTML"),
        KIND("<!-- a page -->", "HTML"),
        KIND("<Error><Code>AccessDenied</Code>", "XML"),
        KIND("\xFF\xFE{\0", "UTF-16"),
        KIND("\xFE\xFF\0{", "UTF-16"),
        KIND("\xFF\xFE\0\0{\0\0\0", "UTF-32"),
        KIND("{\0\"\0a\0", "UTF-16"),
        KIND("\0{\0\"\0a", "UTF-16"),
        KIND("Entry not found", "no such file"),
        KIND("\0\0\0\0\0\0\0\0\0\0", "zeros"),
#undef KIND
    };
    memcpy(tar + 257, "ustar", 5);
    assert_int_equal(check(tar, sizeof tar, FIRST_BYTES_LINES), STATUS_DATA);
    assert_non_null(strstr(err.message, "tar archive"));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (int use = FIRST_BYTES_JSON; use <= FIRST_BYTES_DATABASE; use++) {
            int status = check(kinds[i].bytes, kinds[i].size, use);
            if (status != STATUS_DATA || strstr(err.message, kinds[i].word) == NULL ||
                strncmp(err.message, "FILE is ", 8) != 0) {
                fail_msg("kind %zu, use %d: status %d, '%s'", i, use, status, err.message);
            }
        }
    }
}

static void test_what_is_wanted_passes(void **state) {
    (void)state;
    static const char json[] = "\xEF\xBB\xBF {\"a\": 1}";
    assert_int_equal(check(json, sizeof json - 1, FIRST_BYTES_JSON), STATUS_OK);
    assert_int_equal(check(json, sizeof json - 1, FIRST_BYTES_LINES), STATUS_OK);
    assert_int_equal(check("problems:\n", 10, FIRST_BYTES_YAML), STATUS_OK);
    assert_int_equal(check("SQLite format 3\0\x10", 17, FIRST_BYTES_DATABASE), STATUS_OK);
    assert_int_equal(check("\x9C\x01\x7F\x02 noise", 10, FIRST_BYTES_DATABASE),
                     STATUS_OK); // SQLite's own words
    assert_int_equal(check("{", 1, FIRST_BYTES_JSON), STATUS_OK);
    assert_int_equal(check("P", 1, FIRST_BYTES_JSON), STATUS_OK);
    static const char header[] = "\x80\2\0\0\0\0\0\0{\"a\": {}}"; // whatever its length looks like
    assert_int_equal(check(header, sizeof header - 1, FIRST_BYTES_SAFETENSORS), STATUS_OK);
    assert_int_equal(check(header, sizeof header - 1, FIRST_BYTES_JSON), STATUS_DATA);
    assert_non_null(strstr(err.message, "FILE is a safetensors file"));
}

static void test_empty_and_other_forms_of_problems(void **state) {
    (void)state;
    for (int use = FIRST_BYTES_JSON; use <= FIRST_BYTES_DATABASE; use++) {
        assert_int_equal(check(NULL, 0, use), STATUS_DATA);
        assert_string_equal(err.message, "FILE is empty");
    }
    assert_int_equal(check("{\"id\": 1}\n", 10, FIRST_BYTES_DATABASE), STATUS_DATA);
    assert_non_null(strstr(err.message, "strata import"));
    assert_int_equal(check("id,statement\n1,a\n", 17, FIRST_BYTES_DATABASE), STATUS_DATA);
    assert_non_null(strstr(err.message, "--csv"));
    assert_int_equal(check("SQLite format 3\0\x10", 17, FIRST_BYTES_LINES), STATUS_DATA);
    assert_non_null(strstr(err.message, "problems.database"));
}

static void test_text_in_place_of_weights(void **state) {
    (void)state;
    static const char *const texts[] = {"404: Not Found",
                                        "{\"error\":\"Repository not found\"}",
                                        "../blobs/abc",
                                        "Internal Server Error\n",
                                        "oid sha256:4d7a\nsize 5\n",
                                        "404"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(check(texts[i], strlen(texts[i]), FIRST_BYTES_SAFETENSORS), STATUS_DATA);
        assert_non_null(strstr(err.message, "FILE is text, not safetensors"));
    }
    assert_int_equal(check("\4\0\0\0\0\0\0\0abc", 11, FIRST_BYTES_SAFETENSORS), STATUS_OK);
    assert_int_equal(check("a story", 7, FIRST_BYTES_PATH), STATUS_OK);
}

static void test_what_another_reads(void **state) {
    (void)state;
    assert_string_equal(first_bytes_wanted("PAR1\x15\x04", 6, FIRST_BYTES_COLUMNS), "a Parquet table");
    assert_string_equal(first_bytes_wanted("\x28\xB5\x2F\xFD\x04", 5, FIRST_BYTES_COLUMNS),
                        "compressed with zstd");
    assert_null(first_bytes_wanted("PK\x03\x04", 4, FIRST_BYTES_COLUMNS));
    assert_null(first_bytes_wanted("{\"a\": 1}", 8, FIRST_BYTES_COLUMNS));
}

// A file that is not there is its reader's to name.
static void test_absent_file(void **state) {
    (void)state;
    assert_int_equal(first_bytes_check_file("/nonexistent/file", FIRST_BYTES_JSON, &err), STATUS_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_what_is_wanted_passes),
        cmocka_unit_test(test_empty_and_other_forms_of_problems),
        cmocka_unit_test(test_text_in_place_of_weights),
        cmocka_unit_test(test_absent_file),
        cmocka_unit_test(test_what_another_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
