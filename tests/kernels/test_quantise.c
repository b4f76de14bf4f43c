// SPDX-License-Identifier: MIT
// Quantisers against goldens of bitsandbytes (tools/make_quantise_goldens.py), byte for byte.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/size.h"
#include "device_testing.h"
#include "kernels/nf4_tables.h"
#include "kernels/quantise.h"

enum { NF4, NESTED, INT8, MOST = 16384, FIGURES = 2 * NF4_VALUES + NF4_MAP };

static void take(FILE *file, void *out, size_t bytes) {
    assert_int_equal(fread(out, 1, bytes, file), bytes);
}

static void expect(FILE *file, const void *found, size_t bytes) {
    static unsigned char stored[MOST * sizeof(float)];
    assert_true(bytes <= sizeof stored);
    take(file, stored, bytes);
    assert_memory_equal(found, stored, bytes);
}

static float numbers[MOST];

// In pieces of `piece` blocks.
static void check_nf4(FILE *file, size_t count, size_t block, size_t piece, bool nested) {
    static unsigned char codes[MOST];
    static float absmax[MOST];
    struct error err;
    for (size_t at = 0; at < count; at += piece * block) {
        assert_int_equal(quantise_nf4(codes + at / 2, absmax + at / block, numbers + at, at,
                                      size_min(piece * block, count - at), block, &err),
                         STATUS_OK);
    }
    size_t blocks = quantise_blocks(count, block);
    expect(file, codes, (count + 1) / 2);
    if (!nested) {
        expect(file, absmax, blocks * sizeof(float));
        return;
    }
    float nests[MOST / QUANTISE_ABSMAX_BLOCK], offset;
    quantise_absmax(codes, nests, &offset, absmax, blocks);
    expect(file, codes, blocks);
    expect(file, nests, quantise_blocks(blocks, QUANTISE_ABSMAX_BLOCK) * sizeof(float));
    expect(file, &offset, sizeof offset);
}

static void check_int8(FILE *file, size_t rows, size_t columns) {
    static signed char codes[MOST];
    static float absmax[MOST];
    struct error err;
    assert_int_equal(quantise_int8_rows(codes, absmax, numbers, 0, rows, columns, &err), STATUS_OK);
    expect(file, codes, rows * columns);
    expect(file, absmax, rows * sizeof(float));
}

static void test_goldens(void **state) {
    (void)state;
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/kernels/goldens/quantise.bin", getenv("STRATA_SOURCE"));
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    long end = ftell(file) - FIGURES * (long)sizeof(float);
    rewind(file);
    size_t cases = 0;
    for (; ftell(file) < end; cases++) {
        uint32_t head[4]; // kind, rows, columns, block
        take(file, head, sizeof head);
        size_t count = (size_t)head[1] * head[2];
        assert_true(count <= MOST);
        take(file, numbers, count * sizeof(float));
        if (head[0] == INT8) {
            check_int8(file, head[1], head[2]);
            continue;
        }
        long outputs = ftell(file);
        for (size_t piece = 1; piece <= 4; piece++) { // 4: several rows, or the whole matrix
            fseek(file, outputs, SEEK_SET);
            check_nf4(file, count, head[3], piece, head[0] == NESTED);
        }
    }
    assert_int_equal(cases, 23);
    float map[NF4_MAP];
    nf4_dynamic_map(map);
    expect(file, map, sizeof map);
    expect(file, nf4_values, sizeof nf4_values);
    expect(file, fp4_values, sizeof fp4_values);
    fclose(file);
}

static void test_what_is_not_finite(void **state) {
    (void)state;
    const float wrong[] = {NAN, -NAN, INFINITY, -INFINITY};
    unsigned char codes[64];
    signed char bytes[100];
    float absmax[4];
    struct error err;
    for (size_t i = 0; i < 4; i++) {
        for (size_t at = 0; at < 100; at++) {
            char named[64];
            float matrix[100] = {0};
            matrix[at] = wrong[i];
            assert_int_equal(quantise_nf4(codes, absmax, matrix, 640, 100, 64, &err), STATUS_DATA);
            snprintf(named, sizeof named, "number %zu is %s", 640 + at, i < 2 ? "NaN" : "infinite");
            assert_non_null(strstr(err.message, named));
            assert_int_equal(quantise_int8_rows(bytes, absmax, matrix, 7, 4, 25, &err), STATUS_DATA);
            snprintf(named, sizeof named, "row %zu, column %zu: ", 7 + at / 25, at % 25);
            assert_non_null(strstr(err.message, named));
        }
    }
    const float large[] = {65519, -65520}; // the first rounds to what float16 holds
    assert_int_equal(quantise_int8_rows(bytes, absmax, large, 0, 1, 1, &err), STATUS_OK);
    assert_true(absmax[0] == 65504 && bytes[0] == 127);
    assert_int_equal(quantise_int8_rows(bytes, absmax, large, 0, 1, 2, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "row 0, column 1: -65520 is beyond float16"));
}

static void test_ties_have_the_lower_code(void **state) {
    (void)state;
    float block[32] = {1};
    unsigned char codes[16];
    float absmax;
    struct error err;
    for (size_t k = 0; k < NF4_VALUES - 1; k++) {
        block[2 * k + 1] = (nf4_values[k] + nf4_values[k + 1]) / 2;
        block[2 * k + 2] = nextafterf(block[2 * k + 1], 2);
    }
    assert_int_equal(quantise_nf4(codes, &absmax, block, 0, 32, 32, &err), STATUS_OK);
    for (size_t k = 0; k < NF4_VALUES - 1; k++) {
        assert_int_equal(codes[k] & 15, k);
        assert_int_equal(codes[k + 1] >> 4, k + 1);
    }
}

// Nothing is written past the ends, and nothing of nothing.
static void test_ends(void **state) {
    (void)state;
    struct error err;
    for (size_t count = 0; count <= 130; count++) {
        float weights[130], absmax[4] = {-1, -1, -1, -1};
        unsigned char codes[66];
        memset(codes, 0xee, sizeof codes);
        for (size_t i = 0; i < 130; i++) {
            weights[i] = i < count ? (float)i + 1 : NAN;
        }
        assert_int_equal(quantise_nf4(codes, absmax, weights, 0, count, 64, &err), STATUS_OK);
        assert_int_equal(codes[(count + 1) / 2], 0xee);
        assert_true(absmax[quantise_blocks(count, 64)] == -1);
        if (count % 2 == 1) {
            assert_int_equal(codes[count / 2] & 15, 7);
        }
    }
    float offset = 1;
    quantise_absmax(NULL, NULL, &offset, NULL, 0);
    assert_true(offset == 0);
}

// An absmax whose reciprocal is infinite gives numbers all the same.
static void test_smallest_absmax(void **state) {
    (void)state;
    const float absmax[2] = {0, 4e-45f};
    unsigned char codes[2];
    float nested, offset;
    quantise_absmax(codes, &nested, &offset, absmax, 2);
    assert_true(offset > 0 && nested == offset);
    assert_true(codes[0] < 127 && codes[1] > 127);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),
        cmocka_unit_test(test_what_is_not_finite),
        cmocka_unit_test(test_ties_have_the_lower_code),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_smallest_absmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
