// SPDX-License-Identifier: MIT
// Downsampling and the time axis: no outlier is lost, nothing leaves the axis, gaps stay narrow.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "report/plot.h"
#include "report/series.h"
#include "report/timeline.h"

static void keeps_every_outlier(void **state) {
    (void)state;
    enum { MANY = 1000000, ODD = 777777 };
    struct series *series = calloc(1, sizeof *series);
    assert_non_null(series);
    for (int i = 0; i < MANY; i++) {
        series_add(series, (double)i / MANY, i == ODD ? 1e6 : 1, 2);
    }
    size_t bucket = series_bucket_at((double)ODD / MANY);
    assert_true(series->buckets[bucket].high == 1e6);
    assert_true(series->buckets[bucket].low == 1);
    assert_true(series->values == MANY);
    for (size_t i = 0; i < SERIES_BUCKETS; i++) {
        assert_true(i == bucket || series_bucket_mean(&series->buckets[i]) == 1);
    }
    double mean = (1e6 + MANY - 1) / MANY;
    assert_true(fabs(series_mean(series) - mean) < 1e-9);
    double low;
    double high;
    assert_true(series_range(series, true, &low, &high));
    assert_true(low == 1 && high == 1e6);
    assert_true(series_range(series, false, &low, &high));
    assert_true(high < 1e6 && high > 1);
    free(series);
}

static void passes_over_what_is_no_number(void **state) {
    (void)state;
    static struct series series;
    series_add(&series, 0.5, NAN, 1);
    series_add(&series, 0.5, INFINITY, 1);
    series_add(&series, 0.5, 1, 0);
    series_add(&series, 0.5, 1, -1);
    series_add(&series, 0.5, 1, NAN);
    double low;
    double high;
    assert_false(series_range(&series, true, &low, &high));
    assert_true(series_mean(&series) == 0);
    series_add(&series, NAN, 3, 1);
    series_add(&series, -7, 3, 1);
    series_add(&series, 1e30, 3, 1);
    assert_true(series.buckets[0].weight == 2 && series.buckets[SERIES_BUCKETS - 1].weight == 1);
}

static void weighs(void **state) {
    (void)state;
    static struct series series;
    series_add(&series, 0, 10, 3);
    series_add(&series, 0, 20, 1);
    assert_true(series_bucket_mean(&series.buckets[0]) == 12.5);
}

static void add(struct timeline *timeline, uint64_t launch, int64_t start, double seconds) {
    struct error err = {0};
    struct timeline_piece piece = {
        .launch = launch, .start = start, .end = start + (int64_t)seconds, .seconds = seconds};
    assert_int_equal(timeline_add(timeline, &piece, &err), STATUS_OK);
}

static void lays_launches_one_after_another(void **state) {
    (void)state;
    struct timeline timeline = {0};
    add(&timeline, 1, 1000, 300);
    add(&timeline, 4, 900000, 100);
    timeline_arrange(&timeline, 0);
    const struct timeline_piece *first = timeline_find(&timeline, 1);
    const struct timeline_piece *second = timeline_find(&timeline, 4);
    assert_null(timeline_find(&timeline, 2));
    assert_true(first->left == 0 && timeline.gap > 0 && timeline.gap < 0.05);
    assert_true(fabs(first->width - 3 * second->width) < 1e-12);
    assert_true(fabs(second->left - first->width - timeline.gap) < 1e-12);
    assert_true(fabs(second->left + second->width - 1) < 1e-12);
    assert_true(timeline_place(second, -5) == second->left);
    assert_true(fabs(timeline_place(second, 1e9) - 1) < 1e-12);
    assert_int_equal(timeline_piece_at(&timeline, 0.1), 0);
    assert_int_equal(timeline_piece_at(&timeline, 0.99), 1);
    timeline_arrange(&timeline, 800); // beside a run that is twice as long
    assert_true(timeline.gap == 0);
    assert_true(fabs(timeline_find(&timeline, 4)->left - 0.375) < 1e-12);
    assert_true(fabs(timeline_place(timeline_find(&timeline, 4), 100) - 0.5) < 1e-12);
    timeline_destroy(&timeline);
}

static void many_launches_leave_room(void **state) {
    (void)state;
    struct timeline timeline = {0};
    for (uint64_t i = 0; i < 500; i++) {
        add(&timeline, i, (int64_t)i * 100, 10);
    }
    timeline_arrange(&timeline, 0);
    assert_true(timeline.gap * 499 < 0.21);
    assert_true(fabs(timeline.pieces[499].left + timeline.pieces[499].width - 1) < 1e-9);
    timeline_destroy(&timeline);
    add(&timeline, 1, 5, 0); // nothing was computed
    timeline_arrange(&timeline, 0);
    assert_true(timeline.pieces[0].width == 1 && timeline_place(&timeline.pieces[0], 3) == 0);
    timeline_destroy(&timeline);
    timeline_arrange(&timeline, 0);
    assert_int_equal(timeline_piece_at(&timeline, 0.5), 0);
}

static void steps_are_round(void **state) {
    (void)state;
    assert_true(plot_step(10, 4) == 5);
    assert_true(plot_step(100, 32) == 5);
    assert_true(fabs(plot_step(0.037, 4) - 0.01) < 1e-15);
    assert_true(plot_step(0, 4) == 1 && plot_step(NAN, 4) == 1 && plot_step(INFINITY, 4) == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_every_outlier),
        cmocka_unit_test(passes_over_what_is_no_number),
        cmocka_unit_test(weighs),
        cmocka_unit_test(lays_launches_one_after_another),
        cmocka_unit_test(many_launches_leave_room),
        cmocka_unit_test(steps_are_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
