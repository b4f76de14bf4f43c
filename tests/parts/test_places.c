// SPDX-License-Identifier: MIT
// Cores shared out to places, on made-up machines: two sockets with two threads a core, GPUs on one of them,
// fewer cores than places; and a real process that goes to its place.
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "parts/places.h"

enum { CORES = 16, MOST = 32 };

// Two nodes of eight cores; core c has the processors c and c + 16.
static size_t two_sockets(struct processor processors[2 * CORES]) {
    size_t count = 0;
    for (int core = 0; core < CORES; core++) {
        processors[count++] = (struct processor){core, core, core / 8};
        processors[count++] = (struct processor){core + CORES, core, core / 8};
    }
    return count;
}

// The processors of a place as bits.
static uint32_t bits(const struct place *place) {
    uint32_t found = 0;
    for (size_t i = 0; i < 2 * CORES; i++) {
        found |= CPU_ISSET(i, &place->processors) ? UINT32_C(1) << i : 0;
    }
    return found;
}

static uint32_t cores(int first, int end) {
    uint32_t low = ((UINT32_C(1) << end) - 1) & ~((UINT32_C(1) << first) - 1);
    return low | low << CORES;
}

static void share(struct place *places, const int *nodes, size_t count) {
    struct processor processors[2 * CORES];
    places_share(places, nodes, count, processors, two_sockets(processors));
}

static void test_without_wishes(void **state) {
    (void)state;
    static const int nodes[4] = {PLACES_NO_NODE, PLACES_NO_NODE, PLACES_NO_NODE, PLACES_NO_NODE};
    struct place places[4];
    share(places, nodes, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(bits(&places[i]), cores(4 * i, 4 * i + 4));
        assert_int_equal(places[i].node, i / 2);
    }
    share(places, nodes, 3); // six cores, five and five
    assert_int_equal(bits(&places[0]), cores(0, 6));
    assert_int_equal(bits(&places[1]), cores(6, 11));
    assert_int_equal(places[1].node, 1);
    assert_int_equal(bits(&places[2]), cores(11, 16));
    share(places, nodes, 1);
    assert_int_equal(bits(&places[0]), cores(0, 16));
    assert_int_equal(places[0].node, 0);
}

static void test_next_to_their_gpus(void **state) {
    (void)state;
    static const int crossed[4] = {1, 0, 1, 0};
    struct place places[4];
    share(places, crossed, 4);
    assert_int_equal(bits(&places[0]), cores(8, 12));
    assert_int_equal(bits(&places[1]), cores(0, 4));
    assert_int_equal(bits(&places[2]), cores(12, 16));
    assert_int_equal(bits(&places[3]), cores(4, 8));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(places[i].node, crossed[i]);
    }
    static const int all_on_one[4] = {1, 1, 1, 1}; // two cores there for each, and two of the others
    share(places, all_on_one, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(bits(&places[i]), cores(8 + 2 * i, 10 + 2 * i) | cores(2 * i, 2 * i + 2));
    }
    static const int elsewhere[2] = {7, PLACES_NO_NODE}; // a node without processors
    share(places, elsewhere, 2);
    assert_int_equal(bits(&places[0]), cores(0, 8));
    assert_int_equal(bits(&places[1]), cores(8, 16));
}

static void test_more_places_than_cores(void **state) {
    (void)state;
    int nodes[MOST];
    struct place places[MOST];
    for (size_t i = 0; i < MOST; i++) {
        nodes[i] = PLACES_NO_NODE;
    }
    share(places, nodes, MOST);
    for (int i = 0; i < MOST; i++) {
        assert_int_equal(bits(&places[i]), cores(i / 2, i / 2 + 1));
    }
}

static void test_a_machine_that_says_nothing(void **state) {
    (void)state;
    static const int nodes[2] = {0, PLACES_NO_NODE};
    struct place places[2];
    places_share(places, nodes, 2, NULL, 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(CPU_COUNT(&places[i].processors), 0);
        assert_int_equal(places[i].node, PLACES_NO_NODE);
    }
}

static void test_this_machine(void **state) {
    (void)state;
    static const int nodes[2] = {PLACES_NO_NODE, PLACES_NO_NODE};
    static struct processor processors[PROCESSORS_MOST];
    cpu_set_t allowed;
    struct place places[2];
    size_t count = places_processors(processors);
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    assert_int_equal(count, CPU_COUNT(&allowed));
    for (size_t i = 0; i < count; i++) {
        assert_true(CPU_ISSET((size_t)processors[i].number, &allowed));
    }
    places_share(places, nodes, 2, processors, count);
    pid_t id = fork();
    if (id == 0) {
        cpu_set_t now;
        places_enter(&places[1]);
        _exit(sched_getaffinity(0, sizeof now, &now) == 0 && CPU_EQUAL(&now, &places[1].processors) ? 0 : 1);
    }
    int ended;
    assert_int_equal(waitpid(id, &ended, 0), id);
    assert_int_equal(ended, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_wishes),         cmocka_unit_test(test_next_to_their_gpus),
        cmocka_unit_test(test_more_places_than_cores), cmocka_unit_test(test_a_machine_that_says_nothing),
        cmocka_unit_test(test_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
