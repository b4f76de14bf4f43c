// SPDX-License-Identifier: MIT
// The drift detector on a simulated machine: a million healthy batches and a million on machines that others
// use must not stop a run while real slow-downs must. Times are made up: nothing here is measured.
//
// What is shared by batches and canaries wanders, neighbours come and go, single batches stall; and the
// processors are shared in ways of each kind.
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
#include "watch/drift_share.h"

enum { TEXTS = 8 };

enum kind { QUIET, LOADED, BURSTS, QUOTA, STOLEN, STOPPED, KINDS };

struct world {
    uint64_t random;
    enum kind kind;
    double wander;
    int busy; // batches that the neighbour stays
    double neighbour;
    double bias; // how far the calibration was off (natural log)
    int batches;
    int slow_from; // batch from which the machine is `slow` times slower
    double slow;
    int crowded;    // batches that the load stays
    double stretch; // wall time over the work's
    double shared;  // how much longer the work takes for sharing cores, caches, bandwidth
    struct drift_moment host;
};

static double gauss(struct world *world, double deviation) {
    double u = 1 - random_unit(&world->random);
    return deviation * sqrt(-2 * log(u)) * cos(6.283185307179586 * random_unit(&world->random));
}

static double between(struct world *world, double low, double high) {
    return low + (high - low) * random_unit(&world->random);
}

static bool one_in(struct world *world, double many) {
    return random_unit(&world->random) < 1 / many;
}

static void share_nothing(struct world *world) {
    world->stretch = 1;
    world->shared = 1;
    drift_moment_clear(&world->host);
    world->host.on_host = true;
    world->host.processors = 2;
    world->host.others = 0.05;
    world->host.stolen = 0;
    world->host.quota_share = 0;
    world->host.host.cpu = 3;
}

// `load` tasks that want each processor.
static void share_with(struct world *world, double load) {
    share_nothing(world);
    world->stretch = (1 + load) * exp(gauss(world, 0.1));
    world->shared = fmin(exp(fabs(gauss(world, 0.35))), 2.2);
    world->host.others = fmin(2 * load / (1 + load) * exp(gauss(world, 0.1)), 2);
    world->host.host.cpu = fmin(100, 100 * load / (1 + load) + fabs(gauss(world, 10)));
}

// The load of the next batches.
static void share_anew(struct world *world) {
    static const double loads[] = {0.5, 1, 2, 4, 8};
    share_nothing(world);
    switch (world->kind) {
    case QUIET:
        break;
    case LOADED: // most of the time
        if (!one_in(world, 4)) {
            share_with(world, loads[random_below(&world->random, 5)]);
        }
        break;
    case BURSTS:
        if (one_in(world, 2)) {
            share_with(world, between(world, 1, 20));
        }
        break;
    case QUOTA:
        world->stretch = between(world, 1, 10);
        world->host.quota_share = fmax(2 * (1 - 1 / world->stretch) + gauss(world, 0.05), 0);
        break;
    case STOLEN: // processor time goes on while another virtual machine has the processor
        world->stretch = between(world, 1, 3);
        world->shared = between(world, 1, 2.2);
        world->host.stolen = 2 * (1 - 1 / world->shared / world->stretch);
        break;
    case STOPPED: // stopped and continued, suspended: nothing shows
        world->stretch = one_in(world, 3) ? between(world, 10, 10000) : 1;
        break;
    default:
        break;
    }
    int longest = world->kind == BURSTS ? 20 : world->kind == STOPPED ? 2 : 3000;
    world->crowded = 1 + (int)random_below(&world->random, (uint64_t)longest);
}

static void pass_time(struct world *world) {
    world->wander = 0.995 * world->wander + gauss(world, 0.02 * sqrt(1 - 0.995 * 0.995));
    if (world->crowded-- <= 0) {
        share_anew(world);
    }
    if (world->busy > 0) {
        world->busy--;
        return;
    }
    world->neighbour = 1;
    if (one_in(world, 300)) {
        world->busy = 1 + (int)(-3 * log(1 - random_unit(&world->random)));
        world->neighbour = between(world, 1.1, 1.4);
    }
}

static double machine(const struct world *world) {
    double slow = world->batches >= world->slow_from ? world->slow : 1;
    return exp(world->wander + world->bias) * world->neighbour * world->shared * slow;
}

static struct drift_time batch(struct world *world, double *predicted) {
    *predicted = 0.3;
    for (int i = 0; i < TEXTS; i++) {
        double tokens = fmin(4000, fmax(8, exp(6 + gauss(world, 0.6))));
        *predicted += 0.01 * tokens + 2e-7 * tokens * tokens;
    }
    pass_time(world);
    double seconds =
        *predicted * machine(world) * exp(gauss(world, 0.02) + gauss(world, 0.03)); // noise and misfit
    if (one_in(world, 200)) {
        seconds *= between(world, 1.2, 3.0);
    }
    if (world->batches == 0) {
        seconds *= 1.15; // warm-up
    }
    world->batches++;
    return (struct drift_time){seconds * world->stretch, seconds};
}

// The fastest of three, over its time at calibration.
static double canary(struct world *world) {
    double fastest = INFINITY;
    for (int i = 0; i < 3; i++) {
        double once = machine(world) * exp(gauss(world, 0.01));
        once *= one_in(world, 200) ? between(world, 1.2, 3.0) : 1;
        fastest = fmin(fastest, once);
    }
    return fastest * exp(-world->bias);
}

struct verdict {
    int warnings;
    int canaries;
    int excused;
    int shares; // times that the run's share was less
    int stops;
    int stopped; // batch of the first stop, from 1; 0: none
};

enum ruling { CLEARED, EXCUSED, STOP };

static bool passes(const struct world *world, double growth) {
    struct drift_moment calibrated;
    struct drift_moment present = world->host;
    struct drift_finding finding;
    drift_moment_clear(&calibrated);
    calibrated.wall_seconds = calibrated.own_seconds = 1;
    calibrated.host.cpu = 3;
    calibrated.stolen = calibrated.quota_share = 0;
    present.own_seconds = growth;
    present.wall_seconds = growth * world->stretch;
    drift_cause_find(&calibrated, &present, 0, &finding);
    return finding.passes;
}

// As drift_watch.c follows a suspicion: once, and after ten batch times again unless a neighbour explains it.
static enum ruling confirm(struct world *world, double *growth) {
    *growth = canary(world);
    if (*growth <= DRIFT_CONFIRM) {
        return CLEARED;
    }
    if (passes(world, *growth)) {
        return EXCUSED;
    }
    for (int i = 0; i < 10; i++) {
        pass_time(world);
    }
    double first = *growth;
    *growth = canary(world);
    return !drift_confirmed(1, first, *growth) ? CLEARED : passes(world, *growth) ? EXCUSED : STOP;
}

static struct verdict simulate(struct world world, int batches, bool ends_at_stop) {
    struct verdict verdict = {0};
    struct drift drift;
    struct drift_share share;
    drift_start(&drift);
    drift_share_start(&share);
    for (int i = 0; i < batches; i++) {
        double predicted;
        double score;
        double growth;
        struct drift_time time = batch(&world, &predicted);
        enum drift_event event = drift_step(&drift, time.worked, predicted, &score);
        struct drift_time usual = {1.05 * predicted, predicted};
        verdict.shares += drift_share_step(&share, time, usual) == DRIFT_SHARE_LESS;
        verdict.warnings += event == DRIFT_WARN;
        if (event != DRIFT_SUSPECT) {
            continue;
        }
        verdict.canaries++;
        enum ruling ruling = confirm(&world, &growth);
        if (ruling == STOP) {
            verdict.stops++;
            verdict.stopped = verdict.stopped == 0 ? i + 1 : verdict.stopped;
            if (ends_at_stop) {
                break;
            }
        }
        if (ruling == EXCUSED) {
            verdict.excused++;
            drift_excuse(&drift, growth);
        } else if (ruling == CLEARED) {
            drift_accept(&drift, growth);
        } else {
            drift_cleared(&drift);
        }
    }
    return verdict;
}

static struct world healthy(uint64_t seed, enum kind kind) {
    struct world world = {.random = seed, .kind = kind, .neighbour = 1, .slow = 1};
    share_nothing(&world);
    return world;
}

static void test_million_healthy_batches(void **state) {
    (void)state;
    struct verdict all = {0};
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct verdict one = simulate(healthy(seed, QUIET), 250000, false);
        all.warnings += one.warnings;
        all.canaries += one.canaries;
        all.stops += one.stops;
        all.shares += one.shares;
    }
    printf("1,000,000 healthy batches: %d stops, %d canary runs, %d warnings\n", all.stops, all.canaries,
           all.warnings);
    assert_int_equal(all.stops, 0);
    assert_int_equal(all.shares, 0);
    assert_in_range(all.canaries, 20, 600); // some: a detector that is never suspicious would pass otherwise
    assert_true(all.warnings < 60);
}

// A million batches on busy machines, under quotas, in machines that others have or that are stopped.
static void test_million_shared_batches(void **state) {
    (void)state;
    static const char *const names[] = {"quiet",  "0.5 to 8 tasks a processor", "bursts",
                                        "quotas", "a busy hypervisor",          "stopped, suspended"};
    for (int kind = LOADED; kind < KINDS; kind++) {
        struct verdict one = simulate(healthy(77, (enum kind)kind), 200000, false);
        printf("200,000 batches, %s: %d stops, %d times less share, %d canary runs, %d excused\n",
               names[kind], one.stops, one.shares, one.canaries, one.excused);
        assert_int_equal(one.stops, 0);
        assert_in_range(one.shares, 3, 40000); // it is said, and not of every batch
        assert_true(kind == QUOTA || kind == STOPPED || one.excused > 0);
    }
}

static int ascending(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

enum { WORLDS = 300 };

// Batches from the slow-down to the stop, over many worlds; those never stopped count as `horizon`.
static void measure(const char *what, enum kind kind, int slow_from, double slow, double bias, int horizon,
                    int *median, int *late) {
    static int taken[WORLDS];
    int missed = 0;
    for (int w = 0; w < WORLDS; w++) {
        struct world world = healthy(1000 + (uint64_t)w, kind);
        world.slow = slow;
        world.slow_from = slow_from;
        world.bias = gauss(&world, bias);
        struct verdict verdict = simulate(world, slow_from + horizon, true);
        bool in_time = verdict.stopped > slow_from;
        taken[w] = in_time ? verdict.stopped - slow_from : horizon;
        missed += !in_time;
    }
    qsort(taken, WORLDS, sizeof taken[0], ascending);
    *median = taken[WORLDS / 2];
    *late = taken[WORLDS * 95 / 100];
    printf("%s: stopped after %d batches (median), %d (95 %%); %d of %d not within %d\n", what, *median,
           *late, missed, WORLDS, horizon);
}

static void test_slow_downs(void **state) {
    (void)state;
    int median;
    int late;
    measure("twice as slow", QUIET, 500, 2.0, 0, 200, &median, &late);
    assert_in_range(median, 1, 3);
    assert_in_range(late, 1, 5);
    measure("3.4 times as slow", QUIET, 500, 3.4, 0, 200, &median, &late);
    assert_int_equal(median, 1);
    assert_in_range(late, 1, 2);
    measure("1.7 times as slow", QUIET, 500, 1.7, 0, 200, &median, &late);
    assert_in_range(median, 1, 6);
    measure("a start 4.5 times as slow, calibration known", QUIET, 0, 4.5, 0.03, 200, &median, &late);
    assert_int_equal(median, 1);
    assert_int_equal(late, 1);
    measure("a start 3 times as slow, calibration known", QUIET, 0, 3.0, 0.03, 200, &median, &late);
    assert_in_range(late, 1, 3);
    // Load hides nothing that is more than load explains.
    measure("3.4 times as slow under a quota", QUOTA, 500, 3.4, 0, 200, &median, &late);
    assert_int_equal(median, 1);
    assert_in_range(late, 1, 2);
    measure("3.4 times as slow on a loaded machine", LOADED, 500, 3.4, 0, 200, &median, &late);
    assert_int_equal(median, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_million_healthy_batches),
        cmocka_unit_test(test_million_shared_batches),
        cmocka_unit_test(test_slow_downs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
