// SPDX-License-Identifier: MIT
// The order of shuffled rows, as a function of the seed: a permutation whatever the buckets are, every order
// of a few rows as likely as any other, and no trace of where a row was.
#include <stdlib.h>
#include <string.h>

#include "checkpoints/ledger_testing.h"
#include "export/export.h"
#include "export/format.h"
#include "export/row_shuffle.h"

struct shuffled {
    struct export_plan plan;
    struct export_request request;
};

static void begin(struct shuffled *made) {
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    *made = (struct shuffled){
        .plan = {.hidden = 4, .dtype = DTYPE_F32, .layer_count = 1, .by_rows = true, .split_count = 1},
        .request = {.shuffle_rows = true, .format = export_format_find("npy")}};
    fixture_folder(folder);
    ok(path_join(path, sizeof path, folder, ".plan", &err), &err);
    ok(paged_file_open(&made->plan.row_file, path, &err), &err);
}

static void make(struct shuffled *made, uint64_t rows, uint64_t seed, uint64_t file_bytes) {
    struct error err;
    made->plan.splits[0] = (struct export_split){.counts = {.rows = rows}};
    made->plan.pieces = NULL;
    made->plan.piece_count = 0;
    made->request.row_seed = seed;
    made->request.file_bytes = file_bytes;
    ok(row_shuffle_plan(&made->plan, &made->request, &err), &err);
}

static void discard(struct shuffled *made) {
    free(made->plan.splits[0].bucket_start);
    free(made->plan.pieces);
}

// order[i]: the row that comes to stand at place i, as the two passes put it there.
static void order_of(const struct shuffled *made, uint32_t *order, uint64_t rows) {
    const struct export_split *split = &made->plan.splits[0];
    for (uint64_t row = 0; row < rows; row++) {
        assert_true(made->plan.row_places[row] < rows);
        order[made->plan.row_places[row]] = (uint32_t)row;
    }
    for (size_t i = 0; i < split->buckets; i++) {
        uint64_t first = split->bucket_start[i];
        row_shuffle_bucket_rows(made->request.row_seed, 0, i, order + first,
                                split->bucket_start[i + 1] - first, sizeof *order);
    }
}

static void assert_permutation(const uint32_t *order, uint64_t rows) {
    unsigned char *seen = calloc(rows, 1);
    for (uint64_t i = 0; i < rows; i++) {
        assert_true(order[i] < rows && !seen[order[i]]);
        seen[order[i]] = 1;
    }
    free(seen);
}

enum { FIXED = 7 * 128, ROW = 4 * 4 + 6 * 8 }; // bytes of a file, and of a row in it

static void it_is_a_permutation_in_whole_buckets(void **state) {
    (void)state;
    static const uint64_t sizes[] = {0, 1, FIXED + 16 * ROW, FIXED + 1000 * ROW};
    static const uint64_t counts[] = {1, 2, 7, 4096, 20000};
    struct shuffled made;
    begin(&made);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            uint64_t rows = counts[c];
            uint32_t *order = calloc(rows, sizeof *order);
            make(&made, rows, 11, sizes[s]);
            order_of(&made, order, rows);
            assert_permutation(order, rows);
            uint64_t at = 0;
            for (size_t i = 0; i < made.plan.piece_count; i++) {
                const struct export_piece *piece = &made.plan.pieces[i];
                assert_int_equal(piece->row_at, at);
                assert_int_equal(piece->number, i);
                if (at < rows && piece->counts.rows > 0) {
                    assert_int_equal(row_shuffle_piece(&made.plan, &made.plan.splits[0], at), i);
                }
                size_t bucket = row_shuffle_bucket(&made.plan.splits[0], at);
                assert_int_equal(made.plan.splits[0].bucket_start[bucket], at);
                assert_true(sizes[s] != FIXED + 1000 * ROW || piece->counts.rows <= 1000);
                at += piece->counts.rows;
            }
            assert_int_equal(at, rows);
            assert_int_equal(made.plan.splits[0].files, made.plan.piece_count);
            discard(&made);
            free(order);
        }
    }
    paged_file_close(&made.plan.row_file);
}

enum { FEW = 4, ORDERS = 24, SEEDS = 12000 };

static size_t number_of(const uint32_t order[FEW]) {
    size_t number = 0;
    for (size_t i = 0; i < FEW; i++) {
        size_t smaller = 0;
        for (size_t k = i + 1; k < FEW; k++) {
            smaller += order[k] < order[i];
        }
        number = number * (FEW - i) + smaller;
    }
    return number;
}

// Chi-squared with 23 degrees of freedom: above 58 once in 10,000. Seeds are fixed: it is passed always or
// never.
static void every_order_is_as_likely(uint64_t file_bytes) {
    double counts[ORDERS] = {0};
    struct shuffled made;
    begin(&made);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        uint32_t order[FEW];
        make(&made, FEW, seed, file_bytes);
        order_of(&made, order, FEW);
        counts[number_of(order)]++;
        discard(&made);
    }
    double expected = (double)SEEDS / ORDERS;
    double sum = 0;
    for (size_t i = 0; i < ORDERS; i++) {
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    assert_true(sum < 58);
    paged_file_close(&made.plan.row_file);
}

static void every_order_is_as_likely_in_one_bucket(void **state) {
    (void)state;
    every_order_is_as_likely(0);
}

static void every_order_is_as_likely_in_several_buckets(void **state) {
    (void)state;
    every_order_is_as_likely(FIXED + 16 * ROW); // a row in a bucket
}

// Rows come from all over: of 65,536 places in 64 stretches each has rows of every 64th of the source alike.
// 3,969 degrees of freedom have a deviation of 89.
static void no_place_knows_where_its_row_was(void **state) {
    (void)state;
    enum { ROWS = 65536, STRETCHES = 64, LENGTH = ROWS / STRETCHES };
    static double counts[STRETCHES][STRETCHES];
    struct shuffled made;
    uint32_t *order = calloc(ROWS, sizeof *order);
    memset(counts, 0, sizeof counts);
    begin(&made);
    make(&made, ROWS, 5, FIXED + 4096 * ROW);
    assert_true(made.plan.splits[0].buckets >= STRETCHES);
    order_of(&made, order, ROWS);
    for (size_t i = 0; i < ROWS; i++) {
        counts[i / LENGTH][order[i] / LENGTH]++;
    }
    double expected = (double)LENGTH / STRETCHES;
    double sum = 0;
    for (size_t i = 0; i < STRETCHES * STRETCHES; i++) {
        double off = counts[i / STRETCHES][i % STRETCHES] - expected;
        sum += off * off / expected;
    }
    assert_true(sum > 3969 - 5 * 89 && sum < 3969 + 5 * 89);
    discard(&made);
    paged_file_close(&made.plan.row_file);
    free(order);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_a_permutation_in_whole_buckets),
        cmocka_unit_test(every_order_is_as_likely_in_one_bucket),
        cmocka_unit_test(every_order_is_as_likely_in_several_buckets),
        cmocka_unit_test(no_place_knows_where_its_row_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
