// SPDX-License-Identifier: MIT
// GGUF headers: what is well formed is read, everything else is refused with the key or tensor and the
// reason.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gguf_built.h"
#include "kernels/weight_format.h"
#include "model/gguf.h"

#define HEAD(tensors, keys) "=GGUF u3 q" tensors " q" keys " "

// Parses a copy that is exactly as long as the window, for the address sanitizer; the metadata points into
// it.
static int parse(struct gguf_metadata *metadata, struct tensors *tensors, const struct buffer *file,
                 size_t size, size_t file_size, unsigned char **copy, size_t *wanted, struct error *err) {
    *copy = malloc(size == 0 ? 1 : size);
    if (size > 0) {
        memcpy(*copy, file->data, size);
    }
    struct gguf_window window = {*copy, size, file_size, "m.gguf", 0};
    int status = gguf_parse(metadata, tensors, 0, &window, err);
    *wanted = window.wanted;
    return status;
}

static void every_type_is_read(void **state) {
    (void)state;
    struct buffer file = {0};
    struct gguf_metadata metadata;
    struct tensors tensors = {0};
    struct error err = {0};
    unsigned char *copy;
    size_t wanted;
    built(&file, "=GGUF u3 q3 q14 sz.u8 u0 b200 sz.i8 u1 b0xFD sz.u16 u2 h60000 sz.i16 u3 h0xFFFE "
                 "sz.u32 u4 u4000000000 sz.i32 u5 i-7 sz.f32 u6 f0.5 sz.bool u7 b1 sa.text u8 sna\xC3\xAFve "
                 "sz.u64 u10 q0xFFFFFFFFFFFFFFFF sz.i64 u11 q0xFFFFFFFFFFFFFFF0 sz.f64 u12 d0.25 "
                 "sa.list u9 u8 q3 sone s sthree sb.list u9 u5 q2 i-1 i2 "
                 "slate u2 q8 q2 u0 q32 sblocks u3 q64 q3 q2 u2 q96 searly u1 q5 u1 q0 p32 z10 p32 z64 z216");
    assert_int_equal(parse(&metadata, &tensors, &file, file.size, file.size, &copy, &wanted, &err),
                     STATUS_OK);
    assert_int_equal(metadata.count, 14);
    static const struct {
        const char *key;
        double number;
    } numbers[] = {{"z.u8", 200},  {"z.i8", -3},   {"z.u16", 60000}, {"z.i16", -2},
                   {"z.u32", 4e9}, {"z.i32", -7},  {"z.f32", 0.5},   {"z.u64", 18446744073709551615.0},
                   {"z.i64", -16}, {"z.f64", 0.25}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct gguf_value *value = gguf_metadata_find(&metadata, numbers[i].key);
        double number = NAN;
        int64_t whole = 0;
        assert_non_null(value);
        assert_true(gguf_value_number(value, 0, &number) && number == numbers[i].number);
        assert_false(gguf_value_number(value, 1, &number));
        bool fits = floor(number) == number && number < 1e19;
        assert_int_equal(gguf_value_integer(value, 0, &whole), fits && value->type != GGUF_FLOAT32);
        assert_true(!fits || value->type == GGUF_FLOAT32 || (double)whole == number);
    }
    const struct gguf_value *list = gguf_metadata_find(&metadata, "a.list");
    const char *text;
    size_t length;
    char type[GGUF_TYPE_TEXT];
    assert_true(list->list && list->count == 3);
    assert_true(gguf_value_text(list, 2, &text, &length) && length == 5 && memcmp(text, "three", 5) == 0);
    assert_true(gguf_value_text(list, 1, &text, &length) && length == 0);
    assert_false(gguf_value_text(list, 3, &text, &length));
    assert_string_equal(gguf_value_type(list, type), "an array of string");
    list = gguf_metadata_find(&metadata, "b.list");
    int64_t whole = 0;
    assert_true(gguf_value_integer(list, 0, &whole) && whole == -1);
    assert_false(gguf_value_text(list, 0, &text, &length));
    assert_true(gguf_value_text(gguf_metadata_find(&metadata, "a.text"), 0, &text, &length) && length == 6);
    assert_true(gguf_value_integer(gguf_metadata_find(&metadata, "z.bool"), 0, &whole) && whole == 1);
    assert_null(gguf_metadata_find(&metadata, "z."));
    assert_null(gguf_metadata_find(&metadata, "z.u8x"));

    assert_int_equal(tensors.count, 3);
    assert_string_equal(tensors.entries[0].name, "early");
    assert_string_equal(tensors.entries[1].name, "late");
    assert_string_equal(tensors.entries[2].name, "blocks");
    assert_ptr_equal(tensors.entries[0].format, weight_format_of(DTYPE_F16));
    const struct tensor *blocks = &tensors.entries[2];
    assert_string_equal(blocks->type->name, "Q4_0");
    assert_true(blocks->rank == 3 && blocks->shape[0] == 2 && blocks->shape[1] == 3 &&
                blocks->shape[2] == 64);
    assert_int_equal(blocks->end, file.size);
    assert_int_equal(blocks->end - blocks->begin, 2 * 3 * 2 * 18);
    assert_int_equal(tensors.entries[0].begin % 32, 0);
    gguf_metadata_destroy(&metadata);
    tensors_destroy(&tensors);
    buffer_destroy(&file);
    free(copy);
}

static void bytes_of_every_supported_type(void **state) {
    (void)state;
    static const struct {
        unsigned number, row, bytes;
        const char *name;
    } types[] = {
        {0, 1, 4, "F32"},       {1, 1, 2, "F16"},         {2, 32, 18, "Q4_0"},    {3, 32, 20, "Q4_1"},
        {6, 32, 22, "Q5_0"},    {7, 32, 24, "Q5_1"},      {8, 32, 34, "Q8_0"},    {10, 256, 84, "Q2_K"},
        {11, 256, 110, "Q3_K"}, {12, 256, 144, "Q4_K"},   {13, 256, 176, "Q5_K"}, {14, 256, 210, "Q6_K"},
        {20, 32, 18, "IQ4_NL"}, {23, 256, 136, "IQ4_XS"}, {30, 1, 2, "BF16"},     {39, 32, 17, "MXFP4"}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct buffer file = {0};
        struct gguf_metadata metadata;
        struct tensors tensors = {0};
        struct error err = {0};
        unsigned char *copy;
        size_t wanted;
        char words[128];
        snprintf(words, sizeof words, HEAD("1", "0") "sw u2 q%u q3 u%u q0 p32 z%u", 2 * types[i].row,
                 types[i].number, 6 * types[i].bytes);
        built(&file, words);
        assert_int_equal(parse(&metadata, &tensors, &file, file.size, file.size, &copy, &wanted, &err), 0);
        assert_string_equal(tensors.entries[0].type->name, types[i].name);
        assert_int_equal(tensors.entries[0].end, file.size);
        gguf_metadata_destroy(&metadata);
        tensors_destroy(&tensors);
        buffer_destroy(&file);
        free(copy);
    }
}

static const struct {
    const char *words;
    const char *said;
} hostile_files[] = {
    {"", "the magic at byte 0"},
    {"=GGU", "the magic at byte 0"},
    {"=GGML u3 q0 q0", "does not start with GGUF"},
    {"=GGUF u1 q0 q0", "version 1 is not supported, only 2 and 3: convert"},
    {"=GGUF u0 q0 q0", "version 0 is not supported"},
    {"=GGUF u4 q0 q0", "version 4 is not supported"},
    {"=GGUF u0x03000000 q0 q0", "big-endian"},
    // counts
    {HEAD("262145", "0"), "262145 tensors are more than the limit"},
    {HEAD("0xFFFFFFFFFFFFFFFF", "0"), "tensors are more than the limit"},
    {HEAD("0", "65537"), "65537 keys are more than the limit"},
    {HEAD("0", "0xFFFFFFFFFFFFFFFF"), "keys are more than the limit"},
    {HEAD("0", "5") "z20", "5 keys do not fit"},
    {HEAD("5", "0") "z100", "5 tensors do not fit"},
    // keys
    {HEAD("0", "1") "q0 u0 b1 z1", "key number 0 is empty"},
    {HEAD("0", "1") "q0xFFFFFFFFFFFFFFFF =abc z8", "a key at byte 32 has"},
    {HEAD("0", "1") "q65536 z70000", "at most 65535 are read"},
    {HEAD("0", "1") "q60 =abcdefgh", "a key at byte 32 needs 60 bytes"},
    {HEAD("0", "1") "q3 =a xC328 u0 b1", "a key is not valid UTF-8 at byte 33"},
    {HEAD("0", "1") "q3 =a x0062 u0 b1", "a key at byte 32 holds a NUL"},
    {HEAD("0", "2") "sk u0 b1 sk u0 b1 z9", "key 'k' is there twice"},
    {HEAD("0", "1") "sk u13 q0 z8", "key 'k': type 13 is unknown"},
    {HEAD("0", "1") "sk u0xFFFFFFFF z8", "key 'k': type 4294967295 is unknown"},
    {HEAD("0", "1") "sk u7 b2", "key 'k': 2 is neither true nor false"},
    {HEAD("0", "1") "sk u9 u7 q2 b1 b7", "key 'k': 7 is neither true nor false"},
    {HEAD("0", "1") "sk u8 q100 =abc", "key 'k': a text at byte 45 needs 100 bytes"},
    {HEAD("0", "1") "sk u8 q0xFFFFFFFFFFFFFFF8 =abc", "key 'k': a text at byte 45 has"},
    {HEAD("0", "1") "sk u8 q1 xFF", "key 'k': a text is not valid UTF-8 at byte 45"},
    {HEAD("0", "1") "sk u8 q2 x6100", "key 'k': a text at byte 45 holds a NUL"},
    {HEAD("0", "1") "sk u10 u1", "key 'k': a value at byte 37 needs 8 bytes"},
    // arrays
    {HEAD("0", "1") "sk u9 u9 q1 u4 q1 u1", "key 'k': an array of arrays"},
    {HEAD("0", "1") "sk u9 u14 q1 u1", "key 'k': type 14 is unknown"},
    {HEAD("0", "1") "sk u9 u4 q3 u1 u2", "key 'k': 3 elements do not fit"},
    {HEAD("0", "1") "sk u9 u4 q0x4000000000000001 u1", "elements do not fit"},
    {HEAD("0", "1") "sk u9 u8 q0x2000000000000001 sabc", "elements do not fit"},
    {HEAD("0", "1") "sk u9 u8 q2 sabc", "key 'k': 2 elements do not fit"},
    {HEAD("0", "1") "sk u9 u8 q2 sabc q9", "key 'k': element 1: a text at byte 68 needs 9 bytes"},
    {HEAD("0", "1") "sk u9 u8 q2 sabc q1 xFF", "key 'k': element 1: a text is not valid UTF-8"},
    // alignment
    {HEAD("0", "1") "sgeneral.alignment u4 u0", "'general.alignment' is 0"},
    {HEAD("0", "1") "sgeneral.alignment u4 u4", "'general.alignment' is 4"},
    {HEAD("0", "1") "sgeneral.alignment u4 u24", "'general.alignment' is 24, not a power of two"},
    {HEAD("0", "1") "sgeneral.alignment u4 u0x80000000", "'general.alignment' is 2147483648"},
    {HEAD("0", "1") "sgeneral.alignment u10 q32", "'general.alignment' is uint64, not uint32"},
    {HEAD("0", "1") "sgeneral.alignment u9 u4 q1 u32", "'general.alignment' is an array of uint32"},
    // tensors
    {HEAD("1", "0") "q0 u1 q4 u0 q0 z40", "a tensor's name at byte 32 is empty"},
    {HEAD("1", "0") "q256 z400", "a tensor's name at byte 32 has 256 bytes"},
    {HEAD("1", "0") "q2 xC328 u1 q4 u0 q0 p32 z16", "a tensor's name is not valid UTF-8"},
    {HEAD("1", "0") "q2 x6100 u1 q4 u0 q0 p32 z16", "a tensor's name at byte 32 holds a NUL"},
    {HEAD("1", "0") "sa u0 u0 q0 p32 z32", "tensor 'a': 0 dimensions are not 1 to 4"},
    {HEAD("1", "0") "sa u5 q1 q1 q1 q1 q1 u0 q0 p32 z32", "tensor 'a': 5 dimensions"},
    {HEAD("1", "0") "sa u0xFFFFFFFF z64", "4294967295 dimensions"},
    {HEAD("1", "0") "sa u2 q4 q0 u0 q0 p32 z32", "tensor 'a': size 1 is 0: the shape is empty"},
    {HEAD("1", "0") "sa u1 q0x8000000000000000 u0 q0 p32 z32", "the shape is too large"},
    {HEAD("1", "0") "sa u2 q0x100000000 q0x100000000 u0 q0 p32 z32", "the shape is too large"},
    {HEAD("1", "0") "sa u4 q0x10000 q0x10000 q0x10000 q0x10000 u0 q0 p32 z32", "the shape is too large"},
    {HEAD("1", "0") "sa u1 q0x4000000000000001 u0 q0 p32 z32", "tensor 'a': the shape is too large"},
    {HEAD("1", "0") "sa u1 q48 u2 q0 p32 z27", "rows of 48 numbers are no multiple of the 32 that Q4_0"},
    {HEAD("1", "0") "sa u2 q8 q32 u12 q0 p32 z144", "rows of 8 numbers are no multiple of the 256"},
    {HEAD("1", "0") "sa u1 q4 u0 q16 p32 z48", "its offset 16 is no multiple of the alignment 32"},
    {HEAD("1", "0") "sa u1 q4 u0 q0xFFFFFFFFFFFFFFE0 p32 z16", "tensor 'a' leaves a hole"},
    {HEAD("1", "0") "sa u1 q16 u0 q0xFFFFFFFFFFFFFFE0 p32 z16", "its offset 18446744073709551584 is too"},
    {HEAD("1", "0") "sa u1 q4 u0 q32 p32 z48", "tensor 'a' leaves a hole"},
    {HEAD("1", "0") "sa u1 q4 u0 q0 p32 z15", "tensor 'a' ends at byte 16 of the data, which has 15"},
    {HEAD("1", "0") "sa u1 q4 u0 q0", "tensor 'a' ends at byte 16 of the data, which has 0"},
    {HEAD("2", "0") "sa u1 q4 u0 q0 sa u1 q4 u0 q32 p32 z64", "tensor 'a' is there twice"},
    {HEAD("2", "0") "sa u1 q4 u0 q0 sb u1 q4 u0 q0 p32 z64", "tensor 'b' overlaps"},
    {HEAD("2", "0") "sa u1 q16 u0 q0 sb u1 q4 u0 q32 p32 z64", "tensor 'b' overlaps"},
    {HEAD("2", "0") "sa u1 q4 u0 q0 sb u1 q4 u0 q64 p32 z96", "tensor 'b' leaves a hole"},
    {HEAD("1", "0") "sa u1 q4 u0 q0 p32 z33", "1 bytes after the last tensor"},
    {HEAD("0", "0") "z50", "42 bytes after the last tensor"},
    // types
    {HEAD("1", "0") "sa u1 q256 u16 q0 p32 z66",
     "tensor 'a': type IQ2_XXS is not supported: it needs tables"},
    {HEAD("1", "0") "sa u1 q256 u29 q0 p32 z56", "type IQ1_M is not supported"},
    {HEAD("1", "0") "sa u1 q256 u21 q0 p32 z110", "type IQ3_S is not supported"},
    {HEAD("1", "0") "sa u1 q256 u34 q0 p32 z54", "type TQ1_0 is not supported: its weights are ternary"},
    {HEAD("1", "0") "sa u1 q64 u40 q0 p32 z36", "type NVFP4 is not supported: get the model as MXFP4"},
    {HEAD("1", "0") "sa u1 q128 u41 q0 p32 z18", "type Q1_0 is not supported"},
    {HEAD("1", "0") "sa u1 q256 u15 q0 p32 z292", "type Q8_K is not supported"},
    {HEAD("1", "0") "sa u1 q32 u9 q0 p32 z36", "type Q8_1 is not supported"},
    {HEAD("1", "0") "sa u1 q8 u26 q0 p32 z32", "type I32 is not supported: weights are not kept so"},
    {HEAD("1", "0") "sa u1 q8 u28 q0 p32 z64", "type F64 is not supported"},
    {HEAD("1", "0") "sa u1 q32 u31 q0 p32 z18", "type number 31 is unknown: get the model as one of F32"},
    {HEAD("1", "0") "sa u1 q32 u4 q0 p32 z18", "type number 4 is unknown"},
    {HEAD("1", "0") "sa u1 q32 u0xFFFFFFFF q0 p32 z18", "type number 4294967295 is unknown"},
};

static void hostile_files_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof hostile_files / sizeof hostile_files[0]; i++) {
        struct buffer file = {0};
        struct gguf_metadata metadata;
        struct tensors tensors = {0};
        struct error err = {0};
        unsigned char *copy;
        size_t wanted;
        built(&file, hostile_files[i].words);
        assert_int_equal(parse(&metadata, &tensors, &file, file.size, file.size, &copy, &wanted, &err),
                         STATUS_DATA);
        if (strstr(err.message, hostile_files[i].said) == NULL || strncmp(err.message, "m.gguf: ", 8) != 0) {
            fail_msg("%s is answered with: %s", hostile_files[i].words, err.message);
        }
        assert_int_equal(wanted, 0);
        assert_int_equal(tensors.count, 0);
        assert_int_equal(metadata.count, 0);
        tensors_destroy(&tensors);
        buffer_destroy(&file);
        free(copy);
    }
}

// Cut anywhere a file is refused; where only the window ends, more of it is asked for, never more than there
// is.
static void every_cut_is_noticed(void **state) {
    (void)state;
    static const char words[] =
        "=GGUF u2 q2 q4 sa u8 stext sb u9 u8 q3 sone s sthree sc u9 u3 q2 h1 h2 sgeneral.alignment u4 u64 "
        "sx u2 q8 q2 u1 q0 sy u1 q3 u0 q64 p64 z64 z12";
    struct buffer file = {0};
    struct gguf_metadata metadata;
    struct tensors tensors = {0};
    struct error err = {0};
    unsigned char *copy;
    size_t wanted;
    built(&file, words);
    size_t header = 0;
    for (size_t size = 0; size < file.size; size++) {
        assert_int_equal(parse(&metadata, &tensors, &file, size, size, &copy, &wanted, &err), STATUS_DATA);
        assert_int_equal(wanted, 0);
        free(copy);
        int status = parse(&metadata, &tensors, &file, size, file.size, &copy, &wanted, &err);
        assert_true(status == STATUS_OK || (wanted > size && wanted <= file.size));
        header = status == STATUS_OK ? header : size + 1;
        gguf_metadata_destroy(&metadata);
        tensors_truncate(&tensors, 0);
        free(copy);
    }
    assert_true(header < file.size - 64 && header > file.size - 64 - 64 - 12);
    tensors_destroy(&tensors);
    buffer_destroy(&file);
}

// A list of texts takes memory only when the file has bytes for it.
static void memory_follows_the_file(void **state) {
    (void)state;
    struct buffer file = {0};
    struct gguf_metadata metadata;
    struct tensors tensors = {0};
    struct error err = {0};
    unsigned char *copy;
    size_t wanted;
    built(&file, HEAD("0", "1") "sk u9 u8 q30000000 sone");
    assert_int_equal(parse(&metadata, &tensors, &file, file.size, (size_t)1 << 40, &copy, &wanted, &err),
                     STATUS_DATA);
    assert_true(wanted > 30000000 * 8);
    free(copy);
    file.size = 0;
    built(&file, HEAD("0", "1") "sk u9 u8 q3000000000 sone");
    assert_int_equal(parse(&metadata, &tensors, &file, file.size, (size_t)1 << 40, &copy, &wanted, &err),
                     STATUS_DATA);
    assert_non_null(strstr(err.message, "the header is longer than the limit"));
    assert_int_equal(wanted, 0);
    free(copy);
    tensors_destroy(&tensors);
    buffer_destroy(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),        cmocka_unit_test(bytes_of_every_supported_type),
        cmocka_unit_test(hostile_files_are_refused), cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(memory_follows_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
