// SPDX-License-Identifier: MIT
// A product of two thin matrices added to a third: against float64, and the same bits however it is cut.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "kernels/low_rank.h"

enum { ROWS = 9, MOST = 1100 };

struct made {
    float a[40 * MOST];
    float b[ROWS * 40];
    float base[ROWS * MOST];
    float out[ROWS * MOST];
};

static void fill(float *numbers, size_t count, uint64_t *random) {
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (float)((double)(random_next(random) >> 11) * 0x1p-52 - 1.0);
    }
}

static struct low_rank make(struct made *made, size_t rank, size_t columns) {
    uint64_t random = 7 + rank * 1000 + columns;
    fill(made->a, rank * columns, &random);
    fill(made->b, ROWS * rank, &random);
    fill(made->base, ROWS * columns, &random);
    memcpy(made->out, made->base, sizeof made->out);
    return (struct low_rank){made->a, made->b, rank, columns, 0.375f};
}

// Of float32, a sum of `rank` products is off by rank * 2^-24 of the sum of their sizes at most.
static void check_row(const struct made *made, const struct low_rank *delta, size_t row) {
    for (size_t i = 0; i < delta->columns; i++) {
        double sum = 0;
        double sizes = 0;
        for (size_t k = 0; k < delta->rank; k++) {
            double product = (double)made->b[row * delta->rank + k] * (double)made->a[k * delta->columns + i];
            sum += product;
            sizes += fabs(product);
        }
        double wanted = (double)made->base[row * delta->columns + i] + (double)delta->scale * sum;
        double room = 0x1p-24 * ((double)(delta->rank + 2) * (double)delta->scale * sizes + fabs(wanted));
        double off = fabs((double)made->out[row * delta->columns + i] - wanted);
        assert_true(off <= room);
    }
}

static void sums_are_those_of_float64(void **state) {
    static const size_t ranks[] = {1, 2, 3, 4, 5, 8, 17, 40};
    static const size_t columns[] = {1, 7, 32, 511, 512, 513, MOST};
    struct made *made = *state;
    for (size_t r = 0; r < sizeof ranks / sizeof ranks[0]; r++) {
        for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++) {
            struct low_rank delta = make(made, ranks[r], columns[c]);
            assert_true(low_rank_add(made->out, &delta, 0, ROWS, 1));
            for (size_t row = 0; row < ROWS; row++) {
                check_row(made, &delta, row);
            }
        }
    }
}

static void cuts_and_threads_change_no_bit(void **state) {
    struct made *made = *state;
    struct low_rank delta = make(made, 17, MOST);
    assert_true(low_rank_add(made->out, &delta, 0, ROWS, 1));
    float *whole = malloc(sizeof made->out);
    memcpy(whole, made->out, sizeof made->out);
    for (int threads = 1; threads <= 3; threads++) {
        memcpy(made->out, made->base, sizeof made->out);
        for (size_t row = 0, count = 1; row < ROWS; row += count, count = 2) {
            assert_true(low_rank_add(made->out + row * MOST, &delta, row, count, threads));
        }
        assert_memory_equal(made->out, whole, ROWS * MOST * sizeof(float));
    }
    free(whole);
}

static void what_is_not_finite_is_told(void **state) {
    struct made *made = *state;
    struct low_rank delta = make(made, 5, MOST);
    made->a[2 * MOST + MOST - 1] = 3e38f;
    made->b[4 * 5 + 2] = 100;
    assert_true(low_rank_add(made->out, &delta, 0, 4, 2));
    assert_false(low_rank_add(made->out, &delta, 4, 1, 1));
    assert_false(low_rank_add(made->out, &delta, 0, ROWS, 3));
}

static int set_up(void **state) {
    *state = malloc(sizeof(struct made));
    return *state == NULL;
}

static int tear_down(void **state) {
    free(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sums_are_those_of_float64, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cuts_and_threads_change_no_bit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_finite_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
