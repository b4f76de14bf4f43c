// SPDX-License-Identifier: MIT
#include "kernels/cpu/nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Adds the processors of "0-3,8,10-11" that are allowed; returns how many.
static size_t add_list(cpu_set_t *set, const char *list, const cpu_set_t *allowed) {
    size_t added = 0;
    CPU_ZERO(set);
    for (const char *at = list; *at >= '0' && *at <= '9';) {
        char *end;
        unsigned long first = strtoul(at, &end, 10);
        unsigned long last = first;
        if (*end == '-') {
            last = strtoul(end + 1, &end, 10);
        }
        for (unsigned long i = first; i <= last && i < CPU_SETSIZE; i++) {
            if (CPU_ISSET(i, allowed)) {
                CPU_SET(i, set);
                added++;
            }
        }
        at = *end == ',' ? end + 1 : end;
    }
    return added;
}

void cpu_nodes_read(struct cpu_nodes *nodes, const char *root, const cpu_set_t *allowed) {
    nodes->count = 0;
    for (int node = 0; node < NODES_MOST; node++) { // numbers may have gaps
        char path[256];
        char list[4096];
        snprintf(path, sizeof path, "%s/node%d/cpulist", root, node);
        FILE *file = fopen(path, "re");
        if (file == NULL) {
            continue;
        }
        size_t found =
            fgets(list, sizeof list, file) == NULL ? 0 : add_list(&nodes->sets[nodes->count], list, allowed);
        fclose(file);
        if (found > 0) { // a node of memory alone has no threads
            nodes->numbers[nodes->count] = node;
            nodes->processors[nodes->count++] = found;
        }
    }
}

size_t cpu_nodes_of(const struct cpu_nodes *nodes, size_t threads, size_t thread) {
    size_t all = 0;
    for (size_t i = 0; i < nodes->count; i++) {
        all += nodes->processors[i];
    }
    size_t processor = thread * all / threads;
    size_t node = 0;
    while (processor >= nodes->processors[node]) {
        processor -= nodes->processors[node++];
    }
    return node;
}

void cpu_nodes_stay(const struct cpu_nodes *nodes, size_t threads, size_t thread) {
    if (nodes->count < 2) {
        return;
    }
    size_t node = cpu_nodes_of(nodes, threads, thread);
    sched_setaffinity(0, sizeof nodes->sets[node], &nodes->sets[node]); // a wish: nothing fails without it
}
