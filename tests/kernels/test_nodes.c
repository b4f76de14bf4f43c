// SPDX-License-Identifier: MIT
// Memory nodes as the system shows them, from a made-up tree: lists of processors, gaps, nodes without
// processors, and how threads spread over them.
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cpu/nodes.h"

static void put_node(const char *root, int node, const char *list) {
    char path[256];
    snprintf(path, sizeof path, "%s/node%d", root, node);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/node%d/cpulist", root, node);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(list, file);
    assert_int_equal(fclose(file), 0);
}

static void take_node(const char *root, int node) {
    char path[256];
    snprintf(path, sizeof path, "%s/node%d/cpulist", root, node);
    unlink(path);
    snprintf(path, sizeof path, "%s/node%d", root, node);
    rmdir(path);
}

static void test_tree(void **state) {
    (void)state;
    char root[] = "strata-nodes-XXXXXX";
    assert_non_null(mkdtemp(root));
    put_node(root, 0, "0-3,8\n");
    put_node(root, 2, "\n"); // memory alone
    put_node(root, 3, "4-7,9-11,5000\n");
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    for (size_t i = 1; i < 11; i++) { // neither 0 nor 11
        CPU_SET(i, &allowed);
    }
    struct cpu_nodes nodes;
    cpu_nodes_read(&nodes, root, &allowed);
    take_node(root, 0);
    take_node(root, 2);
    take_node(root, 3);
    rmdir(root);

    assert_int_equal(nodes.count, 2);
    assert_int_equal(nodes.processors[0], 4);
    assert_int_equal(nodes.processors[1], 6);
    assert_int_equal(nodes.numbers[0], 0);
    assert_int_equal(nodes.numbers[1], 3);
    for (size_t i = 0; i < 12; i++) {
        bool first = (i >= 1 && i <= 3) || i == 8;
        bool second = (i >= 4 && i <= 7) || i == 9 || i == 10;
        assert_int_equal(CPU_ISSET(i, &nodes.sets[0]) != 0, first);
        assert_int_equal(CPU_ISSET(i, &nodes.sets[1]) != 0, second);
    }
    for (size_t t = 0; t < 10; t++) { // one thread a processor
        assert_int_equal(cpu_nodes_of(&nodes, 10, t), t >= 4);
    }
    for (size_t t = 0; t < 5; t++) { // one for two
        assert_int_equal(cpu_nodes_of(&nodes, 5, t), t >= 2);
    }
    for (size_t t = 0; t < 20; t++) { // two for one
        assert_int_equal(cpu_nodes_of(&nodes, 20, t), t >= 8);
    }
    assert_int_equal(cpu_nodes_of(&nodes, 1, 0), 0);
}

static void test_no_tree(void **state) {
    (void)state;
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    CPU_SET(0, &allowed);
    struct cpu_nodes nodes;
    cpu_nodes_read(&nodes, "/nowhere/at/all", &allowed);
    assert_int_equal(nodes.count, 0);
    cpu_nodes_stay(&nodes, 2, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_no_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
