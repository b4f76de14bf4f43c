// SPDX-License-Identifier: MIT
// The baseline of a device that settles, by itself: what a power cap explains, how far it goes, what it
// leaves out. Times are made up: nothing here is measured.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "watch/drift.h"
#include "watch/drift_cause.h"

static struct device_sample at(int32_t clock, int64_t reasons) {
    struct device_sample sample;
    device_sample_clear(&sample);
    sample.sm_clock = clock;
    sample.throttle_reasons = reasons;
    return sample;
}

static double growth_of(int32_t calibrated, int32_t clock, int64_t reasons) {
    struct device_sample before = at(calibrated, 0);
    struct device_sample now = at(clock, reasons);
    return drift_cause_power_growth(&before, &now);
}

static void test_power(void **state) {
    (void)state;
    assert_true(growth_of(1980, 1980, 0x4) == 1);
    assert_true(growth_of(1980, 1450, 0) == 1); // no reason is given
    assert_true(growth_of(1980, 1450, 0x24) == 1);
    assert_true(growth_of(1980, 1450, 0x84) == 1);
    assert_true(growth_of(1980, 900, 0x4) == 1); // that is no cap
    assert_true(growth_of(1450, 1980, 0x4) == 1);
    assert_true(fabs(growth_of(1980, 1450, 0x4) - 1980.0 / 1450) < 1e-12);
    assert_true(fabs(growth_of(1980, 1450, 0x5) - 1980.0 / 1450) < 1e-12); // idle bits say nothing
    assert_true(growth_of(1980, 1450, -1) == 0);                           // no reason is known
    assert_true(growth_of(1980, -1, 0x4) == 0);                            // nor the clock
    assert_true(growth_of(-1, 1450, 0x4) == 0);                            // nor that at calibration
}

static enum drift_event feed(struct drift *drift, double factor) {
    double score;
    return drift_step(drift, factor, 1.0, &score);
}

static void test_baseline_of_a_settled_device(void **state) {
    (void)state;
    struct drift drift;
    drift_start_cold(&drift);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(feed(&drift, 1), DRIFT_STEADY);
    }
    int batches = 20;
    while (!drift.settled) {
        assert_int_equal(feed(&drift, 1.4), DRIFT_STEADY);
        batches++;
    }
    assert_true(drift.worked >= DRIFT_SETTLING && batches < 60);
    assert_true(fabs(drift.baseline - log(1.4)) < 1e-12);
    assert_true(fabs(drift_pace(&drift) - 1.4) < 1e-12);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(feed(&drift, 1.4), DRIFT_STEADY);
    }
    drift_start_cold(&drift); // long batches: 32 of them all the same
    for (int i = 0; i < DRIFT_BASELINE - 1; i++) {
        double score;
        drift_step(&drift, 10, 10, &score);
        assert_false(drift.settled);
    }
    drift_start(&drift); // and a device that is as it was calibrated takes the first 32
    for (int i = 0; i < DRIFT_BASELINE; i++) {
        assert_false(drift.settled);
        feed(&drift, 1.2);
    }
    assert_true(drift.settled && fabs(drift.baseline - log(1.2)) < 1e-12);
    assert_true(fabs(drift.average) < 0.01);
}

static struct drift settled_at(double factor, double growth) {
    struct drift drift;
    drift_start_cold(&drift);
    drift_set_clock(&drift, growth);
    while (!drift.settled) {
        feed(&drift, factor);
    }
    return drift;
}

// How far the baseline goes: 1.35 beside what the clock explains, 1.5 where it is not known, 1.6 in all.
static void test_limits_of_the_baseline(void **state) {
    (void)state;
    struct drift drift = settled_at(2, 0);
    assert_true(fabs(drift_pace(&drift) - 1.5) < 1e-12);
    drift = settled_at(2, 1);
    assert_true(fabs(drift.baseline - 0.3) < 1e-12);
    drift = settled_at(1.5, 1.2);
    assert_true(fabs(drift_pace(&drift) - 1.5) < 1e-12);
    assert_true(drift_is_slow(&drift) && !drift_is_explained(&drift));
    drift = settled_at(2, 1.3);
    assert_true(fabs(drift_pace(&drift) - 1.6) < 1e-12);
    drift = settled_at(1.3, 1.25);
    assert_true(drift_is_slow(&drift) && drift_is_explained(&drift));
    drift = settled_at(1.1, 1);
    assert_false(drift_is_slow(&drift));
    drift = settled_at(0.5, 1);
    assert_true(drift_pace(&drift) == 1);
}

// A neighbour's growth is no pace of the device's own.
static void test_excused_while_settling(void **state) {
    (void)state;
    struct drift drift;
    drift_start_cold(&drift);
    drift_excuse(&drift, 1.8);
    while (!drift.settled) {
        assert_int_equal(feed(&drift, 1.8), DRIFT_STEADY);
    }
    assert_true(fabs(drift.baseline) < 1e-12);
    assert_true(fabs(drift.average) < 0.01);
    drift_start(&drift); // a run that ends before
    for (int i = 0; i < 10; i++) {
        feed(&drift, 1.25);
    }
    drift_settle(&drift);
    assert_true(fabs(drift.pace - log(1.25)) < 1e-12 && drift_is_slow(&drift));
}

// The run that the detector was made for, in its first seconds.
static void test_fixture(void **state) {
    (void)state;
    static const double times[] = {52.8, 177.8, 235.9};
    for (double reference = 20; reference <= 75; reference += 0.5) {
        struct drift drift;
        int at_batch = 0;
        drift_start_cold(&drift);
        for (int i = 0; i < 3 && at_batch == 0; i++) {
            double score;
            double slow = times[i] / reference;
            bool suspect = drift_step(&drift, times[i], reference, &score) == DRIFT_SUSPECT;
            at_batch = suspect && drift_confirmed(drift_pace(&drift), slow, slow) ? i + 1 : 0;
        }
        assert_in_range(at_batch, 1, 3);
    }
}

// What the canary confirms in part is not asked again every some batches, and what comes on top of it is.
static void test_accepted(void **state) {
    (void)state;
    struct drift drift;
    int suspicions = 0;
    drift_start(&drift);
    for (int i = 0; i < 40; i++) {
        feed(&drift, 1);
    }
    for (int i = 0; i < 500; i++) {
        if (feed(&drift, 1.4) == DRIFT_SUSPECT) {
            suspicions++;
            drift_accept(&drift, 1.4);
        }
    }
    assert_int_equal(suspicions, 1);
    int batches = 1;
    while (feed(&drift, 1.55) != DRIFT_SUSPECT) {
        batches++;
    }
    assert_in_range(batches, 3, 3);
    drift_accept(&drift, 1.4);
    for (int i = 0; i < 100; i++) {
        feed(&drift, 1);
    }
    assert_true(drift.accepted == 0); // it is over
    drift_accept(&drift, 9);          // only what batches show too
    assert_true(drift.accepted < 0.01);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power),
        cmocka_unit_test(test_baseline_of_a_settled_device),
        cmocka_unit_test(test_limits_of_the_baseline),
        cmocka_unit_test(test_excused_while_settling),
        cmocka_unit_test(test_fixture),
        cmocka_unit_test(test_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
