// SPDX-License-Identifier: MIT
// What a process may use, from made-up trees of /proc and /sys/fs/cgroup: both versions, groups above the
// own one, quotas and limits that are none.
#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cpu/limits.h"

enum { ROOT = 64 };

static void make_root(char out[ROOT]) {
    snprintf(out, ROOT, "strata-limits-XXXXXX");
    assert_non_null(mkdtemp(out));
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where) {
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

static void remove_root(const char *root) {
    assert_int_equal(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

// Writes root/path and makes the folders on the way.
static void put(const char *root, const char *path, const char *text) {
    char whole[512];
    snprintf(whole, sizeof whole, "%s/%s", root, path);
    for (char *slash = strchr(whole + strlen(root) + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(whole, 0700);
        *slash = '/';
    }
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void put_meminfo(const char *root) {
    put(root, "proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    800 kB\n");
}

static void require_memory(const char *root, uint64_t total, uint64_t available) {
    uint64_t all;
    uint64_t left;
    limits_memory(root, &all, &left);
    assert_int_equal(all, total);
    assert_int_equal(left, available);
}

static void require_processors(const char *root, double processors) {
    double found = limits_processors(root);
    assert_true(found == found); // no NaN
    assert_true(found == processors);
}

static void test_nothing_known(void **state) {
    (void)state;
    char root[ROOT];
    make_root(root);
    require_memory(root, UINT64_MAX, UINT64_MAX);
    require_processors(root, INFINITY);
    remove_root(root);
}

// What is free can be unknown where what there is is not.
static void test_only_the_total(void **state) {
    (void)state;
    char root[ROOT];
    make_root(root);
    put(root, "proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\n");
    require_memory(root, 1024000, 1024000);
    put(root, "proc/self/cgroup", "0::/user/job\n");
    put(root, "sys/fs/cgroup/user/job/memory.max", "500000\n");
    require_memory(root, 500000, 500000); // nor how much of a limit is used
    put(root, "sys/fs/cgroup/user/job/memory.current", "300000\n");
    require_memory(root, 500000, 200000);
    remove_root(root);
}

static void test_machine_without_limits(void **state) {
    (void)state;
    char root[ROOT];
    make_root(root);
    put_meminfo(root);
    put(root, "proc/self/cgroup", "0::/user/job\n");
    put(root, "sys/fs/cgroup/user/job/memory.max", "max\n");
    put(root, "sys/fs/cgroup/user/job/memory.current", "5\n");
    put(root, "sys/fs/cgroup/user/job/cpu.max", "max 100000\n");
    require_memory(root, 1024000, 819200);
    require_processors(root, INFINITY);
    remove_root(root);
}

// The tightest of own and outer groups counts, each figure by itself.
static void test_version_2(void **state) {
    (void)state;
    char root[ROOT];
    make_root(root);
    put_meminfo(root);
    put(root, "proc/self/cgroup", "0::/user/job\n");
    put(root, "sys/fs/cgroup/user/job/memory.max", "500000\n");
    put(root, "sys/fs/cgroup/user/job/memory.current", "300000\n");
    put(root, "sys/fs/cgroup/user/job/memory.stat", "anon 5\ninactive_file 100000\nactive_file 50000\n");
    put(root, "sys/fs/cgroup/user/memory.max", "600000\n");
    put(root, "sys/fs/cgroup/user/memory.current", "590000\n");
    put(root, "sys/fs/cgroup/user/job/cpu.max", "400000 100000\n");
    put(root, "sys/fs/cgroup/user/cpu.max", "150000 100000\n");
    require_memory(root, 500000, 10000);
    require_processors(root, 1.5);
    remove_root(root);
}

// /proc is hidden, as some containers have it.
static void test_without_proc(void **state) {
    (void)state;
    char root[ROOT];
    make_root(root);
    put(root, "sys/fs/cgroup/memory.max", "8000\n");
    put(root, "sys/fs/cgroup/memory.current", "3000\n");
    put(root, "sys/fs/cgroup/cpu.max", "150000 100000\n");
    require_memory(root, 8000, 5000);
    require_processors(root, 1.5);
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n");
    require_memory(root, 7000, 5000);
    remove_root(root);
}

// Inside a container the own group is the topmost.
static void test_container(void **state) {
    (void)state;
    char root[ROOT];
    make_root(root);
    put(root, "proc/self/cgroup", "0::/\n");
    put(root, "sys/fs/cgroup/cpu.max", "200000 100000\n");
    require_processors(root, 2);
    remove_root(root);
}

static void test_version_1(void **state) {
    (void)state;
    char root[ROOT];
    make_root(root);
    put(root, "proc/self/cgroup",
        "12:cpuset:/elsewhere\n4:cpuacct,cpu:/docker/abc\n3:memory:/docker/abc\n1:name=systemd:/x\n");
    put(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n"); // the mount is the container's own group
    put(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n");
    put(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "4000\n");
    put(root, "sys/fs/cgroup/memory/memory.stat", "inactive_file 9\ntotal_inactive_file 1000\n");
    put(root, "sys/fs/cgroup/cpuset/elsewhere/cpu.cfs_quota_us", "1\n");
    require_processors(root, 2.5);
    require_memory(root, 7000, 4000);
    put(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    require_processors(root, INFINITY);
    remove_root(root);
}

static void test_odd_files(void **state) {
    (void)state;
    static const char *const texts[] = {"", "0 100000\n", "100000 0\n", "words\n", "100000\n", "-1 -1\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char root[ROOT];
        make_root(root);
        put(root, "proc/self/cgroup", "no colons\n0::/a\n");
        put(root, "sys/fs/cgroup/a/cpu.max", texts[i]);
        require_processors(root, INFINITY);
        remove_root(root);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_known), cmocka_unit_test(test_only_the_total),
        cmocka_unit_test(test_without_proc),  cmocka_unit_test(test_machine_without_limits),
        cmocka_unit_test(test_version_2),     cmocka_unit_test(test_container),
        cmocka_unit_test(test_version_1),     cmocka_unit_test(test_odd_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
