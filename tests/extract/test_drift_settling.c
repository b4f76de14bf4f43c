// SPDX-License-Identifier: MIT
// A GPU that is calibrated cold and works hot: simulated launches in which a power cap takes the clock down
// after some seconds must not be suspected, while slow-downs of other kinds are stopped as fast as ever, or
// told of where they are less than a stop needs; processors beside it.
// Times are made up: nothing here is measured.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "watch/drift.h"
#include "watch/drift_cause.h"

enum { CLOCK = 1980, WORLDS = 200 };

#define BATCH_SECONDS 0.17 // of the device, as 8192 tokens of a model of eight billion numbers may take
#define RAMP_SECONDS 2.0   // of the cap
#define STALE_SECONDS 1.0  // of the monitoring

struct gpu {
    uint64_t random;
    double time; // seconds of work
    double wander;
    double cap_at; // seconds of work; the cap makes work take `cap` times as long
    double cap;
    bool tells;      // its monitoring is there
    int64_t reasons; // that it gives while capped
    double slow_at;  // and another slow-down, of which nothing tells
    double slow;
    double dip_at; // seconds of work at which one reading of the clock is far too low
    bool on_host;  // no GPU at all
    double sampled_at;
    struct device_sample sample;
};

static double gauss(struct gpu *gpu, double deviation) {
    double u = 1 - random_unit(&gpu->random);
    return deviation * sqrt(-2 * log(u)) * cos(6.283185307179586 * random_unit(&gpu->random));
}

static double capped(const struct gpu *gpu) {
    double share = fmin(fmax((gpu->time - gpu->cap_at) / RAMP_SECONDS, 0), 1);
    return 1 + (gpu->cap - 1) * share;
}

static double machine(const struct gpu *gpu) {
    return exp(gpu->wander) * capped(gpu) * (gpu->time >= gpu->slow_at ? gpu->slow : 1);
}

static void watch_clock(struct gpu *gpu) {
    if (gpu->time - gpu->sampled_at < STALE_SECONDS) {
        return;
    }
    gpu->sampled_at = gpu->time;
    device_sample_clear(&gpu->sample);
    if (gpu->tells) {
        gpu->sample.sm_clock = (int32_t)(CLOCK / capped(gpu));
        gpu->sample.throttle_reasons = capped(gpu) > 1 ? gpu->reasons : 0;
        if (gpu->time >= gpu->dip_at) {
            gpu->sample.sm_clock = (int32_t)(CLOCK / 1.59);
            gpu->dip_at = INFINITY;
        }
    }
}

static double batch(struct gpu *gpu) {
    gpu->wander = 0.99 * gpu->wander + gauss(gpu, 0.01 * sqrt(1 - 0.99 * 0.99));
    double seconds = BATCH_SECONDS * machine(gpu) * exp(gauss(gpu, 0.015));
    if (random_unit(&gpu->random) < 1.0 / 2000) { // by its own clock: the host's stalls are not in it
        seconds *= 1.2 + 0.8 * random_unit(&gpu->random);
    }
    gpu->time += seconds;
    watch_clock(gpu);
    return seconds;
}

// The fastest of three.
static double canary(struct gpu *gpu) {
    double fastest = INFINITY;
    for (int i = 0; i < 3; i++) {
        fastest = fmin(fastest, machine(gpu) * exp(gauss(gpu, 0.01)));
    }
    return fastest;
}

enum told { NOTHING, EXPLAINED, SLOW };

struct verdict {
    int batches;
    int warnings;
    int canaries;
    enum told told; // when it had settled
    double factor;  // of that
    int stops;
    int stopped; // batch of the first stop, from 1; 0: none
};

// What drift_watch.c says when the baseline is there.
static void tell(const struct drift *drift, struct verdict *verdict) {
    assert_int_equal(verdict->told, NOTHING);
    verdict->factor = exp(drift->pace);
    verdict->told = !drift_is_slow(drift) ? NOTHING : drift_is_explained(drift) ? EXPLAINED : SLOW;
}

// As drift_watch.c judges batches and follows a suspicion.
static struct verdict simulate(struct gpu *gpu, double seconds) {
    struct verdict verdict = {0};
    struct drift drift;
    struct device_sample calibrated;
    device_sample_clear(&calibrated);
    calibrated.sm_clock = gpu->tells ? CLOCK : -1;
    gpu->sampled_at = -STALE_SECONDS;
    watch_clock(gpu);
    if (gpu->on_host) {
        drift_start(&drift);
    } else {
        drift_start_cold(&drift);
    }
    while (gpu->time < seconds && verdict.stops == 0) {
        double score;
        double time = batch(gpu);
        bool was_settled = drift.settled;
        if (!was_settled) {
            drift_set_clock(&drift, drift_cause_power_growth(&calibrated, &gpu->sample));
        }
        enum drift_event event = drift_step(&drift, time, BATCH_SECONDS, &score);
        if (!was_settled && drift.settled) {
            tell(&drift, &verdict);
        }
        verdict.batches++;
        verdict.warnings += event == DRIFT_WARN;
        if (event != DRIFT_SUSPECT) {
            continue;
        }
        verdict.canaries++;
        double usual = gpu->on_host ? 1 : drift_pace(&drift);
        assert_in_range(1000 * usual, 1000, 1601);
        double first = canary(gpu);
        gpu->time += first > DRIFT_CONFIRM * usual ? drift_pause(time) : 0;
        double second = canary(gpu);
        if (drift_confirmed(usual, first, second)) {
            verdict.stops++;
            verdict.stopped = verdict.batches;
        }
        drift_accept(&drift, second / usual);
    }
    return verdict;
}

static struct gpu cold(uint64_t seed) {
    return (struct gpu){.random = seed,
                        .cap_at = INFINITY,
                        .cap = 1,
                        .slow_at = INFINITY,
                        .slow = 1,
                        .dip_at = INFINITY,
                        .reasons = DEVICE_THROTTLE_POWER};
}

struct sum {
    int suspected; // launches
    int canaries;
    int warned;
    int told[SLOW + 1];
    int stopped;
    int silent; // nothing said of them, and not stopped
};

static struct sum launches(struct gpu like, double seconds) {
    struct sum sum = {0};
    for (uint64_t w = 0; w < WORLDS; w++) {
        struct gpu gpu = like;
        gpu.random = 5000 + w;
        struct verdict one = simulate(&gpu, seconds);
        sum.suspected += one.canaries > 0;
        sum.canaries += one.canaries;
        sum.warned += one.warnings > 0;
        sum.stopped += one.stops > 0;
        sum.told[one.told]++;
        sum.silent += one.told == NOTHING && one.warnings + one.canaries + one.stops == 0;
    }
    printf(
        "%s, a cap after %.0f s, %.2f times as long, slow after %.0f s, %.2f times: of %d launches of %.0f s "
        "%d are suspected (%d canaries), %d warned, %d told as slow, %d as explained, %d stopped\n",
        like.on_host ? "processors"
        : like.tells ? "telemetry"
                     : "no telemetry",
        like.cap_at, like.cap, like.slow_at, like.slow, WORLDS, seconds, sum.suspected, sum.canaries,
        sum.warned, sum.told[SLOW], sum.told[EXPLAINED], sum.stopped);
    return sum;
}

static void test_power_cap(void **state) {
    (void)state;
    static const double after[] = {0, 1, 5, 10, 20, 30};
    static const double times[] = {1.2, 1.37};
    for (size_t a = 0; a < sizeof after / sizeof after[0]; a++) {
        for (size_t t = 0; t < sizeof times / sizeof times[0]; t++) {
            for (int tells = 0; tells < 2; tells++) {
                struct gpu gpu = cold(0);
                gpu.cap_at = after[a];
                gpu.cap = times[t];
                gpu.tells = tells == 1;
                struct sum sum = launches(gpu, 300);
                assert_int_equal(sum.stopped, 0);
                assert_int_equal(sum.warned, 0);
                assert_true(sum.suspected <= WORLDS / 50); // by a stall on top of it, as in any run
                assert_int_equal(sum.told[tells ? EXPLAINED : SLOW], WORLDS);
            }
        }
    }
}

// By 1.5 a stop is called for, unless the device says that it is the cap.
static void test_deep_cap(void **state) {
    (void)state;
    static const double after[] = {1, 5, 30};
    for (size_t a = 0; a < sizeof after / sizeof after[0]; a++) {
        struct gpu gpu = cold(0);
        gpu.cap_at = after[a];
        gpu.cap = 1.5;
        gpu.tells = true;
        struct sum sum = launches(gpu, 300);
        assert_int_equal(sum.stopped, 0);
        assert_int_equal(sum.warned, 0);
        gpu.cap = 1.6;
        gpu.tells = false;
        sum = launches(gpu, 300);
        assert_int_equal(sum.stopped, WORLDS);
        gpu.tells = true;
        gpu.reasons = DEVICE_THROTTLE_POWER | DEVICE_THROTTLE_THERMAL; // heat is no cap
        sum = launches(gpu, 300);
        assert_int_equal(sum.stopped, WORLDS);
    }
}

// Later than the device should have settled: a canary or two, and no stop.
static void test_late_cap(void **state) {
    (void)state;
    for (int tells = 0; tells < 2; tells++) {
        struct gpu gpu = cold(0);
        gpu.tells = tells == 1;
        gpu.cap_at = 60;
        gpu.cap = 1.37;
        struct sum sum = launches(gpu, 600);
        assert_int_equal(sum.stopped, 0);
        assert_in_range(sum.canaries, WORLDS, 2 * WORLDS);
        assert_int_equal(sum.silent, 0);
    }
}

// The launch before left a calibration, made cold; this one is hot from its first batch on.
static void test_resumed(void **state) {
    (void)state;
    for (int tells = 0; tells < 2; tells++) {
        struct gpu gpu = cold(0);
        gpu.tells = tells == 1;
        gpu.cap = 1.37;
        gpu.cap_at = -10;
        struct sum sum = launches(gpu, 300);
        assert_int_equal(sum.stopped + sum.warned, 0);
        assert_true(sum.suspected <= WORLDS / 50);
        assert_int_equal(sum.told[tells ? EXPLAINED : SLOW], WORLDS);
    }
}

// Nothing to tell of: no cap, no slow-down.
static void test_as_calibrated(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct gpu gpu = cold(0);
        gpu.tells = kind == 1;
        gpu.on_host = kind == 2;
        struct sum sum = launches(gpu, 300);
        assert_int_equal(sum.told[NOTHING], WORLDS);
        assert_int_equal(sum.stopped + sum.warned, 0);
    }
}

// Every lasting slow-down is told of or ends the run.
static void test_no_slow_down_is_silent(void **state) {
    (void)state;
    static const double slow[] = {1.15, 1.25, 1.31, 1.44, 1.49, 1.54, 1.6, 2.0, 2.3};
    static const double from[] = {0, 3};
    for (size_t s = 0; s < sizeof slow / sizeof slow[0]; s++) {
        for (size_t f = 0; f < sizeof from / sizeof from[0]; f++) {
            for (int kind = 0; kind < 3; kind++) { // a GPU without telemetry and with it, processors
                struct gpu gpu = cold(0);
                gpu.tells = kind == 1;
                gpu.on_host = kind == 2;
                gpu.slow_at = from[f];
                gpu.slow = slow[s];
                struct sum sum = launches(gpu, 300);
                assert_int_equal(sum.silent, 0);
                if (slow[s] < 1.4) {
                    assert_int_equal(sum.stopped, 0);
                }
                if (slow[s] > 1.55) {
                    assert_int_equal(sum.stopped, WORLDS);
                } else if (!gpu.on_host || from[f] == 0) { // all but those that the canary saw before
                    assert_true(sum.told[SLOW] + sum.stopped >= WORLDS - WORLDS / 50);
                }
            }
            struct gpu gpu = cold(0); // the cap takes the clock down as far
            gpu.tells = true;
            gpu.cap_at = from[f];
            gpu.cap = slow[s];
            struct sum sum = launches(gpu, 300);
            assert_int_equal(sum.silent, 0);
            assert_int_equal(sum.told[SLOW], 0);
            assert_int_equal(sum.stopped, slow[s] < 1.6 ? 0 : WORLDS);
        }
    }
}

// What the cap explains and what comes on top of it have one allowance.
static void test_cap_and_slow_down(void **state) {
    (void)state;
    struct gpu gpu = cold(0);
    gpu.tells = true;
    gpu.cap_at = -10;
    gpu.cap = 1.59;
    gpu.slow_at = 0;
    gpu.slow = 1.2;
    struct sum sum = launches(gpu, 300);
    assert_int_equal(sum.told[SLOW], WORLDS);
    gpu.slow = 1.45;
    sum = launches(gpu, 300);
    assert_true(sum.told[SLOW] + sum.stopped >= WORLDS); // one may be both
    assert_true(sum.suspected == WORLDS);
    gpu.slow = 1.6; // 2.54 in all
    sum = launches(gpu, 300);
    assert_int_equal(sum.stopped, WORLDS);
    gpu = cold(0); // as much as a clock that is not known may take, and more of it later
    gpu.cap_at = 0;
    gpu.cap = 1.4;
    gpu.slow_at = 100;
    gpu.slow = 1.65;
    sum = launches(gpu, 300);
    assert_int_equal(sum.stopped, WORLDS);
}

// One reading of a clock that is far too low allows for nothing.
static void test_dip(void **state) {
    (void)state;
    struct gpu gpu = cold(0);
    gpu.tells = true;
    gpu.dip_at = 44;
    gpu.reasons = DEVICE_THROTTLE_POWER;
    gpu.cap_at = 5;
    gpu.cap = 1.2;
    struct sum sum = launches(gpu, 300);
    assert_int_equal(sum.told[EXPLAINED], WORLDS);
    assert_int_equal(sum.stopped + sum.warned, 0);
    gpu.slow_at = 60;
    gpu.slow = 1.3;
    sum = launches(gpu, 300);
    assert_true(sum.warned + sum.suspected >= WORLDS);
}

static int ascending(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

// Batches from the slow-down to the stop: the median, or the horizon's when most are never stopped.
static int until_stop(struct gpu like, double slow_at, double slow) {
    static int taken[WORLDS];
    int missed = 0;
    for (uint64_t w = 0; w < WORLDS; w++) {
        struct gpu gpu = like;
        gpu.random = 9000 + w;
        gpu.slow_at = slow_at;
        gpu.slow = slow;
        struct gpu before = gpu;
        before.slow_at = INFINITY;
        int ahead = simulate(&before, slow_at).batches;
        struct verdict one = simulate(&gpu, slow_at + 200 * BATCH_SECONDS * slow);
        missed += one.stopped == 0;
        taken[w] = one.stopped == 0 ? 1000 : one.stopped - ahead;
    }
    qsort(taken, WORLDS, sizeof taken[0], ascending);
    printf("%.2f times as slow after %.0f s, cap %.2f after %.0f s%s: stopped after %d batches (median), %d "
           "(95 %%); %d of %d missed\n",
           slow, slow_at, like.cap, like.cap_at, like.tells ? ", telemetry" : "", taken[WORLDS / 2],
           taken[WORLDS * 95 / 100], missed, WORLDS);
    return taken[WORLDS * 95 / 100];
}

static void test_slow_downs(void **state) {
    (void)state;
    static const double moments[] = {0, 3, 20, 100};
    for (size_t m = 0; m < sizeof moments / sizeof moments[0]; m++) {
        for (int tells = 0; tells < 2; tells++) {
            struct gpu gpu = cold(0);
            gpu.tells = tells == 1;
            assert_in_range(until_stop(gpu, moments[m], 1.55), 1, 20);
            assert_in_range(until_stop(gpu, moments[m], 1.7), 1, 4);
            assert_in_range(until_stop(gpu, moments[m], 2.0), 1, 3);
            assert_in_range(until_stop(gpu, moments[m], 3.4), 1, 2);
            gpu.cap_at = 5; // on top of a cap, of which the device has settled
            gpu.cap = 1.37;
            if (moments[m] > DRIFT_SETTLING * 2) {
                assert_in_range(until_stop(gpu, moments[m], 1.6), 1, 8);
                assert_in_range(until_stop(gpu, moments[m], 2.0), 1, 3);
                assert_in_range(until_stop(gpu, moments[m], 3.4), 1, 2);
            }
        }
    }
}

static void test_million_batches(void **state) {
    (void)state;
    int canaries = 0;
    for (int i = 0; i < 4;
         i++) { // launches of 250,000 batches: cold ones, capped ones, with and without words
        struct gpu gpu = cold(300 + (uint64_t)i);
        gpu.tells = i % 2 == 1;
        gpu.cap_at = i < 2 ? INFINITY : 5;
        gpu.cap = i < 2 ? 1 : 1.37;
        struct verdict one = simulate(&gpu, 250000 * BATCH_SECONDS * gpu.cap);
        assert_true(one.batches > 240000);
        assert_int_equal(one.stops, 0);
        canaries += one.canaries;
    }
    printf("1,000,000 healthy batches of a GPU: 0 stops, %d canary runs\n", canaries);
    assert_true(canaries < 600);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_calibrated),     cmocka_unit_test(test_power_cap),
        cmocka_unit_test(test_deep_cap),          cmocka_unit_test(test_late_cap),
        cmocka_unit_test(test_resumed),           cmocka_unit_test(test_no_slow_down_is_silent),
        cmocka_unit_test(test_cap_and_slow_down), cmocka_unit_test(test_dip),
        cmocka_unit_test(test_slow_downs),        cmocka_unit_test(test_million_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
