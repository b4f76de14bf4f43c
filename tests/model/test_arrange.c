// SPDX-License-Identifier: MIT
// Tensors of packed weights into parts: against code by code, for every method's way to lay codes into words,
// sizes that fill no word or tile included; and what is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/arrange.h"

enum { WORD_BITS = 32 };

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static size_t divide_up(size_t value, size_t by) {
    return (value + by - 1) / by;
}

// ---- words, written code by code ----

static const size_t awq_rows[8] = {0, 2, 4, 6, 1, 3, 5, 7};

static size_t word_count(const struct arrangement *how) {
    size_t codes = WORD_BITS / how->bits;
    return how->packs_rows ? divide_up(how->rows, codes) * how->columns
                           : divide_up(how->columns, codes) * how->rows;
}

static size_t row_bytes(const struct arrangement *how) {
    return how->bits == 4 ? divide_up(how->columns, 2) : how->columns;
}

// The word that has the code, and the code's place in it.
static void place_of(const struct arrangement *how, size_t row, size_t column, size_t *word,
                     unsigned *shift) {
    size_t codes = WORD_BITS / how->bits;
    size_t of_row = how->packs_rows ? row / codes : row;
    size_t of_column = how->packs_rows ? column : column / codes;
    size_t rows = how->packs_rows ? divide_up(how->rows, codes) : how->rows;
    size_t columns = how->packs_rows ? how->columns : divide_up(how->columns, codes);
    size_t in_word = how->packs_rows ? row % codes : column % codes;
    size_t field = 0;
    while ((how->order == ORDER_AWQ ? awq_rows[field] : field) != in_word) {
        field++;
    }
    *word = how->is_transposed ? of_column * rows + of_row : of_row * columns + of_column;
    *shift = (unsigned)field * how->bits;
}

static void put(uint32_t *words, const struct arrangement *how, size_t row, size_t column, unsigned code) {
    size_t word;
    unsigned shift;
    place_of(how, row, column, &word, &shift);
    words[word] &= ~(((1u << how->bits) - 1) << shift);
    words[word] |= code << shift;
}

static unsigned code_at(const unsigned char *part, const struct arrangement *how, size_t row, size_t column) {
    const unsigned char *bytes = part + row * row_bytes(how);
    return how->bits == 8 ? bytes[column] : (uint32_t)bytes[column / 2] >> (4 * (column % 2)) & 15u;
}

static void check_words(const struct arrangement *how, uint32_t seed) {
    size_t words = word_count(how);
    size_t bytes = how->rows * row_bytes(how);
    uint32_t *in = malloc(words * sizeof *in);
    unsigned char *codes = malloc(how->rows * how->columns);
    unsigned char *out = malloc(bytes);
    struct error err = {0};
    for (size_t i = 0; i < words; i++) { // what fills a word is anything
        in[i] = how->is_one_less ? 0 : next_random(&seed) << 8 | next_random(&seed);
    }
    for (size_t i = 0; i < how->rows * how->columns; i++) {
        unsigned most = (1u << how->bits) - (how->is_one_less ? 1 : 0);
        codes[i] = (unsigned char)(next_random(&seed) % most);
        put(in, how, i / how->columns, i % how->columns, codes[i]);
    }
    memset(out, 0xee, bytes);
    if (arrange(out, bytes, how, (const unsigned char *)in, words * sizeof *in, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    for (size_t i = 0; i < how->rows * how->columns; i++) {
        size_t row = i / how->columns;
        unsigned wanted = codes[i] + (how->is_one_less ? 1u : 0u);
        unsigned found = code_at(out, how, row, i % how->columns);
        if (found != wanted) {
            fail_msg("[%zu, %zu]: code %zu of row %zu is %u, not %u", how->rows, how->columns,
                     i % how->columns, row, found, wanted);
        }
    }
    for (size_t row = 0; row < how->rows && how->bits == 4 && how->columns % 2 == 1; row++) {
        assert_int_equal(out[(row + 1) * row_bytes(how) - 1] >> 4, 0);
    }
    for (size_t wrong = 0; wrong < 2; wrong++) {
        int status = arrange(out, bytes - wrong, how, (const unsigned char *)in,
                             words * sizeof *in - 4 * (1 - wrong), &err);
        assert_int_equal(status, STATUS_INTERNAL);
    }
    free(in);
    free(codes);
    free(out);
}

static void codes_of_every_layout_find_their_places(void **state) {
    (void)state;
    static const size_t sizes[][2] = {{8, 8},     {8, 1},   {16, 3},    {128, 128}, {136, 130},
                                      {264, 257}, {8, 500}, {1000, 24}, {120, 136}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (unsigned way = 0; way < 32; way++) {
            struct arrangement how = {.kind = ARRANGE_WORDS, .rows = sizes[i][0], .columns = sizes[i][1]};
            how.bits = (way & 1) != 0 ? 8 : 4;
            how.packs_rows = (way & 2) != 0;
            how.is_transposed = (way & 4) != 0;
            how.is_one_less = how.packs_rows && (way & 8) != 0;
            how.order = how.packs_rows && how.bits == 4 && (way & 16) != 0 ? ORDER_AWQ : ORDER_LOW_FIRST;
            check_words(&how, way + 100 * (uint32_t)i);
        }
    }
}

static void words_need_not_be_filled(void **state) {
    (void)state;
    static const size_t sizes[][2] = {{1, 1}, {3, 5}, {131, 9}, {9, 131}, {130, 260}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (unsigned way = 0; way < 8; way++) {
            struct arrangement how = {.kind = ARRANGE_WORDS, .rows = sizes[i][0], .columns = sizes[i][1]};
            how.bits = (way & 1) != 0 ? 8 : 4;
            how.packs_rows = (way & 2) != 0;
            how.is_transposed = (way & 4) != 0;
            check_words(&how, way + 7 * (uint32_t)i);
        }
    }
}

static void a_zero_point_without_room_is_refused(void **state) {
    (void)state;
    for (unsigned bits = 4; bits <= 8; bits += 4) {
        struct arrangement how = {.kind = ARRANGE_WORDS, .rows = 32, .columns = 20, .bits = bits};
        struct error err = {0};
        how.packs_rows = true;
        how.is_transposed = true;
        how.is_one_less = true;
        uint32_t in[160] = {0};
        unsigned char out[32 * 20];
        size_t words = word_count(&how);
        size_t bytes = how.rows * row_bytes(&how);
        put(in, &how, 21, 19, (1u << bits) - 2);
        assert_int_equal(arrange(out, bytes, &how, (unsigned char *)in, words * 4, &err), STATUS_OK);
        assert_int_equal(code_at(out, &how, 21, 19), (1u << bits) - 1);
        put(in, &how, 21, 19, (1u << bits) - 1);
        assert_int_equal(arrange(out, bytes, &how, (unsigned char *)in, words * 4, &err), STATUS_DATA);
        assert_non_null(strstr(err.message, bits == 4 ? "zero point of 15" : "zero point of 255"));
    }
}

// ---- elements ----

static void elements_are_transposed(void **state) {
    (void)state;
    enum { ROWS = 131, COLUMNS = 67 };
    for (size_t width = 1; width <= 4; width *= 2) {
        struct arrangement how = {ARRANGE_TRANSPOSED, .rows = ROWS, .columns = COLUMNS, .width = width};
        static unsigned char in[ROWS * COLUMNS * 4];
        static unsigned char out[ROWS * COLUMNS * 4];
        struct error err = {0};
        uint32_t seed = 5;
        size_t bytes = ROWS * COLUMNS * width;
        for (size_t i = 0; i < bytes; i++) {
            in[i] = (unsigned char)next_random(&seed);
        }
        assert_int_equal(arrange(out, bytes, &how, in, bytes, &err), STATUS_OK);
        for (size_t i = 0; i < ROWS * COLUMNS; i++) {
            size_t at = (i % COLUMNS * ROWS + i / COLUMNS) * width;
            assert_memory_equal(out + i * width, in + at, width);
        }
        assert_int_equal(arrange(out, bytes, &how, in, bytes - width, &err), STATUS_INTERNAL);
    }
    struct arrangement three = {ARRANGE_TRANSPOSED, .rows = 1, .columns = 1, .width = 3};
    unsigned char in[3] = {0};
    unsigned char out[3];
    struct error err = {0};
    assert_int_equal(arrange(out, 3, &three, in, 3, &err), STATUS_INTERNAL);
}

static void indices_outside_the_groups_are_refused(void **state) {
    (void)state;
    struct arrangement how = {ARRANGE_INDICES, .columns = 4, .groups = 300};
    int32_t in[4] = {0, 299, 1, 256};
    unsigned char out[8];
    const unsigned char wanted[8] = {0, 0, 43, 1, 1, 0, 0, 1};
    struct error err = {0};
    assert_int_equal(arrange(out, sizeof out, &how, (unsigned char *)in, sizeof in, &err), STATUS_OK);
    assert_memory_equal(out, wanted, sizeof out);
    assert_int_equal(arrange(out, 6, &how, (unsigned char *)in, sizeof in, &err), STATUS_INTERNAL);
    in[2] = 300;
    assert_int_equal(arrange(out, sizeof out, &how, (unsigned char *)in, sizeof in, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "input 2 is of group 300, outside the 300 groups"));
    in[2] = -1;
    assert_int_equal(arrange(out, sizeof out, &how, (unsigned char *)in, sizeof in, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "group -1"));
}

// ---- numbers ----

static void numbers_must_be_finite(void **state) {
    (void)state;
    static const struct {
        enum arrangement_numbers numbers;
        size_t width;
        uint32_t good[3];
        uint32_t bad[3];
    } cases[] = {
        {NUMBERS_ANY, 4, {0xffffffffu, 0x7f800000u, 0}, {0}},
        {NUMBERS_F32, 4, {0xff7fffffu, 1, 0x7f7fffffu}, {0x7f800000u, 0xff800000u, 0x7fc00001u}},
        {NUMBERS_F16, 2, {0xfbffu, 1, 0x7bffu}, {0x7c00u, 0xfc00u, 0x7e00u}},
        {NUMBERS_BF16, 2, {0xff7fu, 1, 0x7f7fu}, {0x7f80u, 0xff80u, 0x7fc0u}},
        {NUMBERS_E8M0, 1, {0, 254, 127}, {255, 255, 255}},
        {NUMBERS_E4M3, 1, {0x7e, 0xfe, 0x80}, {0x7f, 0xff, 0x7f}},
    };
    enum { COUNT = 77 };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t width = cases[i].width;
        struct arrangement how = {ARRANGE_AS_IS, .numbers = cases[i].numbers};
        unsigned char in[COUNT * 4];
        unsigned char out[COUNT * 4];
        struct error err = {0};
        for (size_t at = 0; at < COUNT; at++) {
            memcpy(in + at * width, &cases[i].good[at % 3], width);
        }
        assert_int_equal(arrange(out, COUNT * width, &how, in, COUNT * width, &err), STATUS_OK);
        assert_memory_equal(out, in, COUNT * width);
        assert_int_equal(arrange(out, COUNT * width - 1, &how, in, COUNT * width, &err), STATUS_INTERNAL);
        for (size_t at = 0; at < COUNT && cases[i].numbers != NUMBERS_ANY; at += 19) {
            memcpy(in + at * width, &cases[i].bad[at % 3], width);
            assert_int_equal(arrange_check(&how, in, COUNT * width, &err), STATUS_DATA);
            assert_non_null(strstr(err.message, "not finite"));
            assert_int_equal(arrange(out, COUNT * width, &how, in, COUNT * width, &err), STATUS_DATA);
            memcpy(in + at * width, &cases[i].good[0], width);
        }
        assert_int_equal(arrange_check(&how, in, COUNT * width, &err), STATUS_OK);
    }
}

static void parts_of_heads_come_one_after_another(void **state) {
    (void)state;
    enum { HEADS = 3, COLUMNS = 2, ROWS = HEADS * (2 + 2 + 1 + 4) };
    struct arrangement how = {.kind = ARRANGE_HEADS,
                              .rows = ROWS,
                              .columns = COLUMNS,
                              .width = 2,
                              .heads = HEADS,
                              .parts = 4,
                              .part_rows = {2, 2, 1, 4}};
    uint16_t in[ROWS][COLUMNS];
    uint16_t out[ROWS][COLUMNS];
    struct error err = {0};
    size_t line = 0;
    for (size_t h = 0; h < HEADS; h++) {
        for (size_t part = 0; part < how.parts; part++) {
            for (size_t d = 0; d < how.part_rows[part]; d++, line++) {
                for (size_t c = 0; c < COLUMNS; c++) {
                    in[line][c] = (uint16_t)(1000 * part + 100 * h + 10 * d + c);
                }
            }
        }
    }
    assert_int_equal(arrange((void *)out, sizeof out, &how, (const void *)in, sizeof in, &err), STATUS_OK);
    line = 0;
    for (size_t part = 0; part < how.parts; part++) {
        for (size_t h = 0; h < HEADS; h++) {
            for (size_t d = 0; d < how.part_rows[part]; d++, line++) {
                for (size_t c = 0; c < COLUMNS; c++) {
                    assert_int_equal(out[line][c], 1000 * part + 100 * h + 10 * d + c);
                }
            }
        }
    }
    how.heads = 4;
    assert_int_equal(arrange((void *)out, sizeof out, &how, (const void *)in, sizeof in, &err),
                     STATUS_INTERNAL);
}

// [experts, rows, columns] of numbers that name their place in the model.
static void experts_come_one_after_another(void **state) {
    (void)state;
    enum { EXPERTS = 2, EACH = 6, COLUMNS = 5, ROWS = EXPERTS * EACH };
    for (int way = 0; way < 4; way++) {
        bool turned = (way & 1) != 0;
        bool alternates = (way & 2) != 0;
        struct arrangement how = {.kind = ARRANGE_EXPERTS,
                                  .rows = ROWS,
                                  .columns = COLUMNS,
                                  .width = 4,
                                  .experts = EXPERTS,
                                  .is_transposed = turned,
                                  .alternates = alternates};
        uint32_t in[ROWS * COLUMNS];
        uint32_t out[ROWS * COLUMNS];
        struct error err = {0};
        for (size_t row = 0; row < ROWS; row++) {
            size_t e = row / EACH;
            size_t r = row % EACH;
            size_t stored = alternates ? (r < EACH / 2 ? 2 * r : 2 * (r - EACH / 2) + 1) : r;
            for (size_t c = 0; c < COLUMNS; c++) {
                size_t at = turned ? c * EACH + stored : stored * COLUMNS + c;
                in[e * EACH * COLUMNS + at] = (uint32_t)(row * COLUMNS + c);
            }
        }
        assert_int_equal(arrange((void *)out, sizeof out, &how, (const void *)in, sizeof in, &err),
                         STATUS_OK);
        for (size_t i = 0; i < ROWS * COLUMNS; i++) {
            assert_int_equal(out[i], i);
        }
        how.experts = 5;
        assert_int_equal(arrange((void *)out, sizeof out, &how, (const void *)in, sizeof in, &err),
                         STATUS_INTERNAL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_of_every_layout_find_their_places),
        cmocka_unit_test(words_need_not_be_filled),
        cmocka_unit_test(a_zero_point_without_room_is_refused),
        cmocka_unit_test(elements_are_transposed),
        cmocka_unit_test(indices_outside_the_groups_are_refused),
        cmocka_unit_test(numbers_must_be_finite),
        cmocka_unit_test(parts_of_heads_come_one_after_another),
        cmocka_unit_test(experts_come_one_after_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
