// SPDX-License-Identifier: MIT
// Which processors may be used: cores from made-up trees, and threads that OpenMP's settings would crowd on
// one processor.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cpu/processors.h"

// ---- cores

enum { PROCESSORS = 8 };

static void paths_of(char out[3][128], const char *root, int processor) {
    snprintf(out[0], 128, "%s/cpu%d", root, processor);
    snprintf(out[1], 128, "%s/cpu%d/topology", root, processor);
    snprintf(out[2], 128, "%s/cpu%d/topology/thread_siblings_list", root, processor);
}

static void put_siblings(const char *root, int processor, const char *list) {
    char paths[3][128];
    paths_of(paths, root, processor);
    assert_int_equal(mkdir(paths[0], 0700), 0);
    assert_int_equal(mkdir(paths[1], 0700), 0);
    FILE *file = fopen(paths[2], "w");
    assert_non_null(file);
    fputs(list, file);
    assert_int_equal(fclose(file), 0);
}

static void take_tree(const char *root) {
    for (int i = 0; i < PROCESSORS; i++) {
        char paths[3][128];
        paths_of(paths, root, i);
        unlink(paths[2]);
        rmdir(paths[1]);
        rmdir(paths[0]);
    }
    assert_int_equal(rmdir(root), 0);
}

static size_t cores_of(const char *root, unsigned processors) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    for (size_t i = 0; i < PROCESSORS; i++) {
        if ((processors >> i & 1) != 0) {
            CPU_SET(i, &allowed);
        }
    }
    return processors_cores(root, &allowed);
}

static void test_cores(void **state) {
    (void)state;
    static const char *const lists[PROCESSORS] = {"0,4\n", "1,5\n", "2-3\n", "2-3\n",
                                                  "0,4\n", "1,5\n", "",      NULL};
    char root[] = "strata-processors-XXXXXX";
    assert_non_null(mkdtemp(root));
    for (int i = 0; i < PROCESSORS; i++) {
        if (lists[i] != NULL) {
            put_siblings(root, i, lists[i]);
        }
    }
    size_t all = cores_of(root, 0xff);
    size_t siblings = cores_of(root, 0x11);
    size_t half = cores_of(root, 0x30); // the other threads of two cores
    size_t unknown = cores_of(root, 0xc0);
    size_t none = cores_of(root, 0);
    take_tree(root);
    assert_int_equal(all, 5);
    assert_int_equal(siblings, 1);
    assert_int_equal(half, 2);
    assert_int_equal(unknown, 2); // an empty list, and none
    assert_int_equal(none, 0);
}

// ---- OpenMP that binds

static void *count_own(void *out) {
    cpu_set_t set;
    *(int *)out = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : -1;
    return NULL;
}

static int count_of_new_thread(void) {
    pthread_t thread;
    int count = -1;
    assert_int_equal(pthread_create(&thread, NULL, count_own, &count), 0);
    pthread_join(thread, NULL);
    return count;
}

// Bound as one of so many members of a team: how many processors it may use, and the first of them.
static void *bind_own(void *out) {
    int *found = out; // [member, members, count, first]
    cpu_set_t set;
    processors_bind((size_t)found[1], (size_t)found[0]);
    sched_getaffinity(0, sizeof set, &set);
    found[2] = CPU_COUNT(&set);
    for (found[3] = 0; !CPU_ISSET((size_t)found[3], &set);) {
        found[3]++;
    }
    return NULL;
}

static void place_member(int found[4]) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, bind_own, found), 0);
    pthread_join(thread, NULL);
}

// Run anew, under OpenMP's settings: prints what a new thread may use before and after, how much two members
// of a team of two may use, and whether they stand apart.
static int child(void) {
    cpu_set_t allowed;
    int before = count_of_new_thread();
    int members[2][4] = {{0, 2, 0, 0}, {1, 2, 0, 0}};
    processors_unbind();
    place_member(members[0]);
    place_member(members[1]);
    printf("%d %d %d %d %d %d\n", before, count_of_new_thread(),
           processors_allowed(&allowed) ? CPU_COUNT(&allowed) : -1, members[0][2], members[1][2],
           members[0][3] != members[1][3]);
    return 0;
}

static void test_threads_are_not_crowded(void **state) {
    (void)state;
    static const char *const settings[] = {"OMP_PROC_BIND=true OMP_PLACES=threads",
                                           "OMP_PROC_BIND=close OMP_PLACES=threads", "OMP_PLACES=threads",
                                           "OMP_PROC_BIND=false", "OMP_NUM_THREADS=1"};
    char self[512];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = 0;
    int mine = 0;
    count_own(&mine);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        char command[640];
        int before;
        int after;
        int allowed;
        int members[2];
        int apart;
        snprintf(command, sizeof command, "%s '%s' child", settings[i], self);
        FILE *output = popen(command, "r");
        assert_non_null(output);
        assert_int_equal(
            fscanf(output, "%d %d %d %d %d %d", &before, &after, &allowed, &members[0], &members[1], &apart),
            6);
        assert_int_equal(pclose(output), 0);
        assert_int_equal(before, i < 3 ? 1 : mine); // or the settings do not do what this is about
        assert_int_equal(after, mine);
        assert_int_equal(allowed, mine);
        for (int m = 0; m < 2; m++) { // the computing threads stay where OpenMP's would
            assert_int_equal(members[m], i < 3 ? 1 : mine);
        }
        assert_int_equal(apart, i < 3 && mine > 1);
    }
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "child") == 0) {
        return child();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cores),
        cmocka_unit_test(test_threads_are_not_crowded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
