// SPDX-License-Identifier: MIT
// Memory nodes (NUMA), as /sys/devices/system/node shows them: which threads stay on which, so that what a
// thread touched first stays near to it. Of other rooms, only parts/ reads it, to place whole processes.
#ifndef STRATA_KERNELS_CPU_NODES_H
#define STRATA_KERNELS_CPU_NODES_H

#include <sched.h>
#include <stddef.h>

enum { NODES_MOST = 64 };

struct cpu_nodes {
    size_t count;                  // nodes with processors that this process may use
    size_t processors[NODES_MOST]; // of each
    int numbers[NODES_MOST];       // the system's
    cpu_set_t sets[NODES_MOST];
};

// root: "/sys/devices/system/node". allowed: processors that may be used. No nodes where the system shows
// none.
void cpu_nodes_read(struct cpu_nodes *nodes, const char *root, const cpu_set_t *allowed);

// The node of thread number `thread` of `threads`: neighbours in number share one, in proportion to
// processors. There must be a node.
size_t cpu_nodes_of(const struct cpu_nodes *nodes, size_t threads, size_t thread);

// Keeps the calling thread, number `thread` of `threads`, on its node, where there are several. Not for the
// first thread of a team: threads that it starts later would stay there too.
void cpu_nodes_stay(const struct cpu_nodes *nodes, size_t threads, size_t thread);

#endif
