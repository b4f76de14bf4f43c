// SPDX-License-Identifier: MIT
// The team of threads that compute: each piece is run once, in the order that was asked for, however threads
// come and go; nobody waits for a member that has nothing in hand; waiting is no work.
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include "kernels/cpu/team.h"

enum { MEMBERS = 4, PIECES = 2000 };

static struct cpu_team *open_team(size_t members, size_t processors) {
    static const struct cpu_nodes none;
    struct cpu_team *team;
    struct error err;
    assert_int_equal(cpu_team_open(&team, members, &none, processors, &err), STATUS_OK);
    assert_int_equal(cpu_team_members(team), members);
    return team;
}

// ---- each piece once

struct counts {
    atomic_int *runs;       // of each piece
    atomic_int *owners;     // who ran it last, from 1
    atomic_size_t *highest; // piece of each member, plus one
    atomic_int *disorder;
};

static void count_piece(const void *job, size_t piece, size_t member) {
    const struct counts *counts = job;
    atomic_fetch_add(&counts->runs[piece], 1);
    atomic_store(&counts->owners[piece], (int)member + 1);
    size_t before = atomic_exchange(&counts->highest[member], piece + 1);
    if (before > piece) {
        atomic_fetch_add(counts->disorder, 1);
    }
}

static void run_phase(struct cpu_team *team, enum cpu_team_order order, size_t pieces) {
    static atomic_int runs[PIECES];
    static atomic_int owners[PIECES];
    static atomic_size_t highest[MEMBERS];
    atomic_int disorder = 0;
    memset(runs, 0, sizeof runs);
    memset(highest, 0, sizeof highest);
    struct counts counts = {runs, owners, highest, &disorder};
    cpu_team_run(team, order, pieces, count_piece, &counts);
    for (size_t i = 0; i < PIECES; i++) {
        assert_int_equal(runs[i], i < pieces);
        assert_true(order != CPU_TEAM_EACH || i >= pieces || owners[i] == (int)i + 1);
    }
    assert_true(order != CPU_TEAM_QUEUE || disorder == 0);
}

// Many short phases, so that members come late to most of them.
static void test_each_piece_once(void **state) {
    (void)state;
    for (size_t members = 1; members <= MEMBERS; members++) {
        struct cpu_team *team = open_team(members, members % 2 == 0 ? members : 1);
        uint64_t random = 7 + members;
        for (int phase = 0; phase < 1500; phase++) {
            enum cpu_team_order order = (enum cpu_team_order)(phase % 3);
            size_t pieces = order == CPU_TEAM_EACH ? members : (size_t)random_below(&random, 40);
            run_phase(team, order, phase % 100 == 0 && order != CPU_TEAM_EACH ? PIECES : pieces);
        }
        cpu_team_close(team);
    }
}

static void test_no_pieces(void **state) {
    (void)state;
    struct cpu_team *team = open_team(2, 2);
    cpu_team_run(team, CPU_TEAM_SHARES, 0, count_piece, NULL);
    cpu_team_close(team);
    cpu_team_close(NULL);
}

// ---- nobody waits for who has nothing in hand

struct held {
    atomic_int *done;     // pieces
    atomic_bool *release; // the one who holds may go on
    size_t pieces;
};

// The first piece that a thread beside the caller takes holds it until all others are done: whoever runs must
// do them.
static void hold_piece(const void *job, size_t piece, size_t member) {
    const struct held *held = job;
    (void)piece;
    if (member != 0 && !atomic_exchange(held->release, true)) {
        while (atomic_load(held->done) < (int)held->pieces - 1) {
            clock_sleep(0.001);
        }
    }
    atomic_fetch_add(held->done, 1);
}

static void test_others_do_the_work(void **state) {
    (void)state;
    struct cpu_team *team = open_team(3, 3);
    for (int phase = 0; phase < 20; phase++) {
        atomic_int done = 0;
        atomic_bool release = false;
        struct held held = {&done, &release, 50};
        cpu_team_run(team, phase % 2 == 0 ? CPU_TEAM_SHARES : CPU_TEAM_QUEUE, held.pieces, hold_piece, &held);
        assert_int_equal(done, 50);
    }
    cpu_team_close(team);
}

// ---- work is what pieces take of a processor

static double own_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void work_or_sleep(const void *job, size_t piece, size_t member) {
    double each = *(const double *)job;
    (void)member;
    if (piece == 0) {
        clock_sleep(0.2); // a member that does not run: the others wait at the end
        return;
    }
    double end = own_seconds() + each;
    while (own_seconds() < end) {
    }
}

static void do_nothing(const void *job, size_t piece, size_t member) {
    (void)job;
    (void)piece;
    (void)member;
}

static void test_waiting_is_no_work(void **state) {
    (void)state;
    double each = 0.02;
    struct cpu_team *team = open_team(3, 3);
    cpu_team_run(team, CPU_TEAM_SHARES, 1, do_nothing, NULL); // the caller's clock is known from now on
    double before = cpu_team_clock(team);
    cpu_team_run(team, CPU_TEAM_EACH, 3, work_or_sleep, &each);
    double worked = cpu_team_worked(team);
    double clock = cpu_team_clock(team) - before;
    assert_true(worked >= 2 * each && worked < 2 * each + 0.02);
    assert_true(clock >= worked - 0.001);
    assert_true(clock < worked + 0.05); // nobody spun for the time that the first slept
    cpu_team_close(team);
}

// ---- sizes of pieces

static void test_sizes(void **state) {
    (void)state;
    struct cpu_team *team = open_team(2, 2);
    size_t each;
    assert_int_equal(cpu_team_pieces(team, 1024, 1 << 20, &each), 16);
    assert_int_equal(each, 64);
    assert_int_equal(cpu_team_pieces(team, 1000, 1 << 20, &each), 16); // the last is shorter
    assert_int_equal(each, 63);
    assert_int_equal(cpu_team_pieces(team, 15, 1024, &each), 1); // too little to share
    assert_int_equal(cpu_team_pieces(team, 30, 1024, &each), 3);
    assert_int_equal(each, 10); // of one size
    assert_int_equal(cpu_team_pieces(team, 1, 0, &each), 1);
    assert_int_equal(cpu_team_pieces(team, 0, 1024, &each), 0);
    cpu_team_close(team);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_piece_once),
        cmocka_unit_test(test_no_pieces),
        cmocka_unit_test(test_others_do_the_work),
        cmocka_unit_test(test_waiting_is_no_work),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
