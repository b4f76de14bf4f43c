// SPDX-License-Identifier: MIT
// safetensors headers: what is well formed is read, everything else is refused with the tensor and the
// reason.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/weight_format.h"
#include "model/safetensors.h"

// A file of this header and `data` zero bytes; the block is exactly as long as the file, for the address
// sanitizer.
static int parse(struct tensors *out, const char *header, size_t data, struct error *err) {
    uint64_t length = strlen(header);
    size_t size = 8 + length + data;
    unsigned char *bytes = calloc(size, 1);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    int status = safetensors_parse(out, 0, bytes, size, "model.safetensors", err);
    free(bytes);
    return status;
}

static void good_headers_are_read_in_file_order(void **state) {
    (void)state;
    struct tensors file = {0};
    struct error err = {0};
    const char *header = "{\"__metadata__\": {\"format\": \"pt\"},"
                         "\"late\": {\"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": [10, 34]},"
                         "\"none\": {\"dtype\": \"BF16\", \"shape\": [4, 0], \"data_offsets\": [10, 10]},"
                         "\"early\": {\"dtype\": \"F16\", \"shape\": [5], \"data_offsets\": [0, 10]},"
                         "\"scalar\": {\"dtype\": \"I64\", \"shape\": [], \"data_offsets\": [34, 42]}}   ";
    assert_int_equal(parse(&file, header, 42, &err), STATUS_OK);
    assert_int_equal(file.count, 4);
    assert_string_equal(file.entries[0].name, "early");
    assert_string_equal(file.entries[1].name, "none");
    assert_string_equal(file.entries[2].name, "late");
    assert_int_equal(file.entries[2].begin, 8 + strlen(header) + 10);
    assert_int_equal(file.entries[2].end, 8 + strlen(header) + 34);
    assert_int_equal(file.entries[2].shape[1], 3);
    assert_ptr_equal(file.entries[2].format, weight_format_of(DTYPE_F32));
    assert_ptr_equal(file.entries[1].format, weight_format_of(DTYPE_BF16));
    assert_ptr_equal(file.entries[0].format, weight_format_of(DTYPE_F16));
    assert_null(file.entries[3].format);
    assert_string_equal(file.entries[3].type->name, "I64");
    tensors_destroy(&file);
    assert_int_equal(parse(&file, "{}", 0, &err), STATUS_OK);
    tensors_destroy(&file);
}

static void a_refused_file_leaves_the_others_as_they_were(void **state) {
    (void)state;
    struct tensors file = {0};
    struct error err = {0};
    const char *good = "{\"one\": {\"dtype\": \"U8\", \"shape\": [3], \"data_offsets\": [0, 3]}}";
    const char *bad = "{\"two\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [0, 2]},"
                      "\"three\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [1, 3]}}";
    assert_int_equal(parse(&file, good, 3, &err), STATUS_OK);
    assert_int_equal(parse(&file, bad, 3, &err), STATUS_DATA);
    assert_int_equal(file.count, 1);
    assert_string_equal(file.entries[0].name, "one");
    tensors_destroy(&file);
}

#define ENTRY(dtype, shape, begin, end)                                                                      \
    "{\"dtype\": " dtype ", \"shape\": " shape ", \"data_offsets\": [" begin ", " end "]}"

static void bad_headers_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *said;
    } cases[] = {
        {"", 0, "does not start with '{'"},
        {" {}", 0, "does not start with '{'"},
        {"[]", 0, "does not start with '{'"},
        {"{\"a\": ", 0, "line 1"},
        {"{} {}", 0, "end of file expected"},
        {"{\"\xff\": 1}", 0, "UTF-8"},
        {"{\"a\": [[[[[[1]]]]]]}", 0, "nested"},
        {"{\"a\": 1}", 0, "'a': entry is not an object"},
        {"{\"a\\u0000b\": " ENTRY("\"F32\"", "[1]", "0", "4") "}", 4, "NUL"},
        {"{\"a\": " ENTRY("\"F32\"", "[1]", "0", "4") ", \"a\": " ENTRY("\"F32\"", "[1]", "0", "4") "}", 4,
         "duplicate"},
        {"{\"a\": " ENTRY("\"F99\"", "[1]", "0", "4") "}", 4, "dtype 'F99' is unknown"},
        {"{\"a\": " ENTRY("7", "[1]", "0", "4") "}", 4, "'dtype'"},
        {"{\"a\": {\"shape\": [1], \"data_offsets\": [0, 4]}}", 4, "'dtype' is missing"},
        {"{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 4]}}", 4, "'shape'"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1]}}", 4, "'data_offsets'"},
        {"{\"a\": " ENTRY("\"F32\"", "[-1]", "0", "4") "}", 4, "a size in 'shape'"},
        {"{\"a\": " ENTRY("\"F32\"", "[1.0]", "0", "4") "}", 4, "a size in 'shape'"},
        {"{\"a\": " ENTRY("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "at most 8 sizes"},
        {"{\"a\": " ENTRY("\"F32\"", "[4294967296, 4294967296]", "0", "0") "}", 0, "too large"},
        {"{\"a\": " ENTRY("\"F32\"", "[4611686018427387904]", "0", "0") "}", 0, "too large"},
        {"{\"a\": " ENTRY("\"F4\"", "[3]", "0", "1") "}", 1, "whole bytes"},
        {"{\"a\": " ENTRY("\"F32\"", "[2]", "0", "4") "}", 4, "do not span"},
        {"{\"a\": " ENTRY("\"F32\"", "[1]", "4", "0") "}", 4, "do not span"},
        {"{\"a\": " ENTRY("\"F32\"", "[1]", "-4", "0") "}", 4, "the start in"},
        {"{\"a\": " ENTRY("\"F32\"", "[1]", "0", "99999999999999999999") "}", 4, "too big"},
        {"{\"a\": " ENTRY("\"F32\"", "[2]", "0", "8") "}", 4,
         "'a': data ends at byte 8 of 4: the file is truncated"},
        {"{\"a\": " ENTRY("\"F32\"", "[1]", "4", "8") "}", 8, "'a' leaves a hole"},
        {"{\"a\": " ENTRY("\"F32\"", "[2]", "0", "8") ", \"b\": " ENTRY("\"F32\"", "[2]", "4", "12") "}", 12,
         "'b' overlaps"},
        {"{\"a\": " ENTRY("\"F32\"", "[1]", "0", "4") "}", 9, "5 bytes after the last tensor"},
        {"{\"__metadata__\": {\"a\": 1}}", 0, "'__metadata__' entry 'a'"},
        {"{\"__metadata__\": []}", 0, "'__metadata__' is not an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tensors file = {0};
        struct error err = {0};
        assert_int_equal(parse(&file, cases[i].header, cases[i].data, &err), STATUS_DATA);
        if (strstr(err.message, cases[i].said) == NULL || strstr(err.message, "model.safetensors") == NULL) {
            fail_msg("%s is answered with: %s", cases[i].header, err.message);
        }
        assert_int_equal(file.count, 0);
        tensors_destroy(&file);
    }
}

static void lengths_that_lie_are_refused(void **state) {
    (void)state;
    static const uint64_t lengths[] = {3, 1000, 100000001, UINT64_MAX, UINT64_MAX - 7, (uint64_t)INT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct tensors file = {0};
        struct error err = {0};
        unsigned char bytes[10] = {0};
        memcpy(bytes, &lengths[i], 8);
        memcpy(bytes + 8, "{}", 2);
        assert_int_equal(safetensors_parse(&file, 0, bytes, sizeof bytes, "x", &err), STATUS_DATA);
    }
    struct tensors file = {0};
    struct error err = {0};
    for (size_t size = 0; size < 8; size++) {
        assert_int_equal(
            safetensors_parse(&file, 0, (const unsigned char *)"\2\0\0\0\0\0\0", size, "x", &err),
            STATUS_DATA);
    }
    assert_non_null(strstr(err.message, "too short"));
}

static void a_header_of_too_many_values_is_refused_before_it_is_parsed(void **state) {
    (void)state;
    size_t size = (size_t)SAFETENSORS_TENSORS * 64;
    unsigned char *bytes = malloc(size);
    memset(bytes, ',', size);
    uint64_t length = size - 8;
    memcpy(bytes, &length, 8);
    bytes[8] = '{';
    struct tensors file = {0};
    struct error err = {0};
    assert_int_equal(safetensors_parse(&file, 0, bytes, size, "x", &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "too many values"));
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_headers_are_read_in_file_order),
        cmocka_unit_test(a_refused_file_leaves_the_others_as_they_were),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(lengths_that_lie_are_refused),
        cmocka_unit_test(a_header_of_too_many_values_is_refused_before_it_is_parsed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
