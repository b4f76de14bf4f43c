// SPDX-License-Identifier: MIT
// The drift detector: its limits one by one, and the slow run it was made for. Times are made up: nothing
// here is measured.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "watch/drift.h"
#include "watch/drift_share.h"

// ---- the limits

static enum drift_event feed(struct drift *drift, double factor) {
    double score;
    return drift_step(drift, factor, 1.0, &score);
}

static void feed_even(struct drift *drift, int batches) {
    for (int i = 0; i < batches; i++) {
        assert_int_equal(feed(drift, 1.0), DRIFT_STEADY);
    }
}

static void test_single(void **state) {
    (void)state;
    struct drift drift;
    drift_start(&drift);
    assert_int_equal(feed(&drift, 2.99), DRIFT_STEADY);
    drift_start(&drift);
    assert_int_equal(feed(&drift, 3.01), DRIFT_SUSPECT); // the very first batch counts
    drift_start(&drift);
    feed_even(&drift, 40);
    assert_int_equal(feed(&drift, 3.01), DRIFT_SUSPECT);
}

static void test_two_of_three(void **state) {
    (void)state;
    const double sequences[][3] = {{2.01, 2.01, 0}, {2.01, 1.0, 2.01}};
    for (size_t s = 0; s < 2; s++) {
        struct drift drift;
        drift_start(&drift);
        enum drift_event last = DRIFT_STEADY;
        for (size_t i = 0; i < 3 && sequences[s][i] > 0; i++) {
            assert_int_equal(last, DRIFT_STEADY);
            last = feed(&drift, sequences[s][i]);
        }
        assert_int_equal(last, DRIFT_SUSPECT);
    }
    struct drift drift;
    drift_start(&drift);
    const double apart[] = {2.01, 1.0, 1.0, 2.01, 1.0, 1.0, 2.01}; // never two of three
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(feed(&drift, apart[i]), DRIFT_STEADY);
    }
}

static void test_three_of_five(void **state) {
    (void)state;
    struct drift drift;
    drift_start(&drift);
    const double spread[] = {1.51, 0.8, 1.51, 0.8};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(feed(&drift, spread[i]), DRIFT_STEADY);
    }
    assert_int_equal(feed(&drift, 1.51), DRIFT_SUSPECT);
    drift_start(&drift);
    feed_even(&drift, 32);
    assert_int_equal(feed(&drift, 1.49), DRIFT_STEADY);
    assert_int_equal(feed(&drift, 1.49), DRIFT_STEADY);
    assert_int_equal(feed(&drift, 1.49), DRIFT_STEADY);
}

static void test_average(void **state) {
    (void)state;
    struct drift drift;
    drift_start(&drift);
    feed_even(&drift, 32);
    int batches = 0;
    while (feed(&drift, 1.4) != DRIFT_SUSPECT) { // under every limit of its own
        assert_true(++batches < 30);
    }
    assert_in_range(batches, 10, 20); // 1 - 0.9^n > ln 1.3 / ln 1.4 at n = 15
    drift_start(&drift);
    feed_even(&drift, 32);
    for (int i = 0; i < 1000; i++) {
        assert_int_not_equal(feed(&drift, 1.25), DRIFT_SUSPECT);
    }
}

static void test_slow_trend_warns(void **state) {
    (void)state;
    struct drift drift;
    int warnings = 0;
    drift_start(&drift);
    feed_even(&drift, 36);
    for (int i = 0; i < 90; i++) {
        warnings += feed(&drift, 1.2) == DRIFT_WARN; // ln 1.2 - 0.07 = 0.11 a block of 9: every fifth block
    }
    assert_int_equal(warnings, 2);
    for (int i = 0; i < 900; i++) {
        assert_int_equal(feed(&drift, 1.07), DRIFT_STEADY); // ln 1.07 is under the slack
    }
}

static void test_baseline(void **state) {
    (void)state;
    struct drift drift;
    drift_start(&drift);
    for (int i = 0; i < DRIFT_BASELINE; i++) {
        feed(&drift, 1.2); // the calibration was 20 % off
    }
    assert_true(fabs(drift.baseline - log(1.2)) < 1e-12);
    double score;
    drift_step(&drift, 1.2, 1.0, &score);
    assert_true(fabs(score) < 1e-12);
    for (int i = 0; i < 100; i++) {
        drift_step(&drift, 1.4, 1.0, &score); // frozen: it does not follow
    }
    assert_true(fabs(score - log(1.4 / 1.2)) < 1e-12);
    drift_start(&drift);
    for (int i = 0; i < DRIFT_BASELINE; i++) {
        feed(&drift, 2.0); // a run that is slow from the start does not become normal
    }
    assert_true(fabs(drift.baseline - 0.3) < 1e-12);
}

static void test_cleared(void **state) {
    (void)state;
    struct drift drift;
    drift_start(&drift);
    assert_int_equal(feed(&drift, 4), DRIFT_SUSPECT);
    drift_cleared(&drift);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(feed(&drift, 4), DRIFT_STEADY);
    }
    assert_int_equal(feed(&drift, 4), DRIFT_SUSPECT);
}

static void test_confirmation(void **state) {
    (void)state;
    assert_true(drift_confirmed(1.0, 1.51, 1.51));
    assert_false(drift_confirmed(1.0, 1.51, 1.49));
    assert_false(drift_confirmed(1.0, 1.49, 9));
    assert_true(drift_pause(20) == 200);
    assert_true(drift_pause(0.001) == 10); // millisecond batches: busy seconds must not confirm themselves
    assert_true(drift_pause(1000) == 300);
}

static void test_fit(void **state) {
    (void)state;
    const struct drift_cost truth = {0.25, 3e-4, 7e-9};
    struct drift_sample samples[3] = {{16, 256, 0}, {8192, 8192.0 * 64, 0}, {8192, 8192.0 * 8192, 0}};
    struct drift_cost cost;
    for (int i = 0; i < 3; i++) {
        samples[i].seconds = drift_predict(&truth, 1, samples[i].tokens, samples[i].squared_lengths);
    }
    drift_fit(&cost, samples, 0);
    assert_true(fabs(cost.fixed / truth.fixed - 1) < 1e-9);
    assert_true(fabs(cost.per_token / truth.per_token - 1) < 1e-9);
    assert_true(fabs(cost.per_square / truth.per_square - 1) < 1e-9);
    samples[2].seconds = 0.5 * samples[1].seconds; // a measurement that makes no sense
    drift_fit(&cost, samples, 0);
    assert_true(cost.fixed >= 0 && cost.per_token >= 0 && cost.per_square >= 0);
    samples[2].seconds = 1000 * samples[1].seconds; // a neighbour came while the long text ran
    drift_fit(&cost, samples, 0);
    assert_true(cost.fixed + cost.per_token > 0);
    double flat = drift_predict(&cost, 1, samples[1].tokens, samples[1].squared_lengths);
    assert_true(flat > 0.9 * samples[1].seconds && flat < 1.1 * samples[1].seconds);
    for (int i = 0; i < 3; i++) {
        samples[i] = (struct drift_sample){1, 1, 0.001}; // a job of one-token texts
    }
    drift_fit(&cost, samples, 0);
    assert_true(drift_predict(&cost, 1, 1, 1) > 0 && isfinite(drift_predict(&cost, 1, 1, 1)));
}

// A text in slices has the fixed seconds of each, when it is timed as when it is predicted.
static void test_fit_with_a_text_in_slices(void **state) {
    (void)state;
    enum { SLICES = 4, TOKENS = 8192 };
    const struct drift_cost truth = {0.25, 3e-5, 7e-10};
    double squares = (double)(SLICES * TOKENS) * (SLICES * TOKENS);
    struct drift_sample samples[3] = {
        {16, 256, 0}, {TOKENS, 64.0 * TOKENS, 0}, {SLICES * TOKENS, squares, 0}};
    struct drift_cost cost;
    for (int i = 0; i < 3; i++) {
        double parts = i == 2 ? SLICES : 1;
        samples[i].seconds = drift_predict(&truth, parts, samples[i].tokens, samples[i].squared_lengths);
    }
    assert_true(drift_tells_square(&samples[1], &samples[2], 7e-10));
    drift_fit(&cost, samples, 0);
    assert_true(fabs(cost.per_square / truth.per_square - 1) < 0.01);
    double longer = drift_predict(&cost, 32 * SLICES, 32.0 * SLICES * TOKENS, 1024 * squares);
    double wanted = drift_predict(&truth, 32 * SLICES, 32.0 * SLICES * TOKENS, 1024 * squares);
    assert_true(fabs(longer / wanted - 1) < 0.01);
}

// On processors large models are timed with short texts, which tell nothing of pairs.
static void test_fit_with_a_guess(void **state) {
    (void)state;
    const struct drift_cost truth = {0.25, 3e-4, 7e-9};
    struct drift_sample samples[3] = {{16, 256, 0}, {64, 64.0 * 64, 0}, {64, 64.0 * 64, 0}};
    struct drift_cost cost;
    for (int i = 0; i < 2; i++) { // the long text is not timed
        samples[i].seconds = drift_predict(&truth, 1, samples[i].tokens, samples[i].squared_lengths);
    }
    assert_false(drift_tells_square(&samples[1], &samples[2], 5e-9));
    drift_fit(&cost, samples, 5e-9);
    assert_true(cost.per_square == 5e-9);
    assert_true(fabs(cost.per_token / truth.per_token - 1) < 1e-3);
    samples[2] = samples[1] = (struct drift_sample){8192, 8192.0 * 64, 0};
    samples[2].squared_lengths = 8192.0 * 8192;
    for (int i = 1; i < 3; i++) {
        samples[i].seconds = drift_predict(&truth, 1, samples[i].tokens, samples[i].squared_lengths);
    }
    assert_true(drift_tells_square(&samples[1], &samples[2], 5e-9));
    drift_fit(&cost, samples, 5e-9); // the measurement counts
    assert_true(fabs(cost.per_square / truth.per_square - 1) < 1e-9);
    samples[2].seconds *= 100; // unless it is far from what operations say
    drift_fit(&cost, samples, 5e-9);
    assert_true(fabs(cost.per_square / 15e-9 - 1) < 1e-9);
}

// What a neighbour explains is not held against the run again; what comes on top is; and it is over with the
// neighbour.
static void test_excuse(void **state) {
    (void)state;
    struct drift drift;
    drift_start(&drift);
    feed_even(&drift, 40);
    feed(&drift, 2.01);
    assert_int_equal(feed(&drift, 2.01), DRIFT_SUSPECT);
    drift_excuse(&drift, 2.0);
    for (int i = 0; i < 1000; i++) {
        assert_int_not_equal(feed(&drift, 2.0), DRIFT_SUSPECT);
    }
    feed(&drift, 4.1);
    assert_int_equal(feed(&drift, 4.1), DRIFT_SUSPECT);
    drift_excuse(&drift, 2.0);
    for (int i = 0; i < 60; i++) {
        feed(&drift, 1.0);
    }
    assert_true(drift.excused == 0);
    feed(&drift, 2.01);
    assert_int_equal(feed(&drift, 2.01), DRIFT_SUSPECT);
    drift_excuse(&drift, 2.0);
    drift_excuse_ends(&drift);
    drift.quiet = 0;
    feed(&drift, 2.01);
    assert_int_equal(feed(&drift, 2.01), DRIFT_SUSPECT);
}

// ---- the share of the device

static enum drift_share_event share(struct drift_share *share, double wall, double worked) {
    return drift_share_step(share, (struct drift_time){wall, worked}, (struct drift_time){1.1, 1});
}

static void test_share(void **state) {
    (void)state;
    struct drift_share one;
    drift_share_start(&one);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(share(&one, 1.1, 1), DRIFT_SHARE_AS_EVER);
        assert_int_equal(share(&one, 4.4, 4), DRIFT_SHARE_AS_EVER); // slower work is another matter
    }
    assert_true(fabs(drift_share_now(&one) - 1 / 1.1) < 1e-9);
    int events = 0;
    for (int i = 0; i < 50; i++) {
        events += share(&one, 3.3, 1) == DRIFT_SHARE_LESS;
        events += share(&one, 2.0, 1) == DRIFT_SHARE_LESS;
    }
    assert_int_equal(events, 1); // one for as long as it lasts
    assert_true(one.lost && drift_share_now(&one) < 0.5 && drift_share_longer(&one) > 2);
    assert_true(fabs(drift_share_before(&one) - 1 / 1.1) < 1e-9);
    for (int i = 0; i < 50; i++) { // far worse: what was said of it may no longer be why
        events += share(&one, 30, 1) == DRIFT_SHARE_LESS;
    }
    assert_true(events >= 2 && events <= 5);
    events = 1;
    for (int i = 0; i < 100; i++) {
        events += share(&one, 1.1, 1) == DRIFT_SHARE_BACK;
    }
    assert_int_equal(events, 2);
    assert_false(one.lost);
    drift_share_start(&one);
    for (int i = 0; i < 3; i++) { // some busy milliseconds are no news
        assert_int_equal(
            drift_share_step(&one, (struct drift_time){0.5, 0.01}, (struct drift_time){0.01, 0.01}),
            DRIFT_SHARE_AS_EVER);
    }
    assert_int_equal(drift_share_step(&one, (struct drift_time){0.9, 0.01}, (struct drift_time){0.01, 0.01}),
                     DRIFT_SHARE_LESS);
    drift_share_start(&one); // a device that tells no time of its own
    assert_int_equal(share(&one, 100, 0), DRIFT_SHARE_AS_EVER);
}

// ---- the run this was made for

// The batch at which a run that takes `times` is stopped, 0 for never. The canary is slowed like the batch.
static size_t stopped_at(const double *times, size_t count, double reference) {
    struct drift drift;
    drift_start(&drift);
    for (size_t i = 0; i < count; i++) {
        double score;
        double slow = times[i] / reference;
        if (drift_step(&drift, times[i], reference, &score) == DRIFT_SUSPECT &&
            drift_confirmed(1, slow, slow)) {
            return i + 1;
        }
    }
    return 0;
}

static void test_fixture(void **state) {
    (void)state;
    const double times[] = {52.8, 177.8, 235.9};
    assert_int_equal(stopped_at(times, 3, 52.8), 2);
    assert_int_equal(stopped_at(times, 3, 40), 2);
    assert_int_equal(stopped_at(times, 3, 70), 3);
    assert_int_equal(stopped_at(times, 3, 15), 1); // slow from the start
    for (double reference = 10; reference <= 75; reference += 0.5) {
        size_t at = stopped_at(times, 3, reference);
        assert_in_range(at, 1, 3);
    }
    assert_int_equal(stopped_at(times, 3, 300), 0); // and a slower reference proves that the test can fail
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_two_of_three),
        cmocka_unit_test(test_three_of_five),
        cmocka_unit_test(test_average),
        cmocka_unit_test(test_slow_trend_warns),
        cmocka_unit_test(test_baseline),
        cmocka_unit_test(test_cleared),
        cmocka_unit_test(test_confirmation),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_fit_with_a_text_in_slices),
        cmocka_unit_test(test_fit_with_a_guess),
        cmocka_unit_test(test_excuse),
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_fixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
