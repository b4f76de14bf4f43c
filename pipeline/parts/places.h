// SPDX-License-Identifier: MIT
// Where on a machine the processes of several parts run: each has cores of its own, as many as the others,
// next to its GPU where that is known, and takes its memory from the node of those cores.
#ifndef STRATA_PARTS_PLACES_H
#define STRATA_PARTS_PLACES_H

#include <sched.h>
#include <stddef.h>

enum { PLACES_NO_NODE = -1 };

struct place {
    cpu_set_t processors; // none: wherever the parent runs
    int node;             // of memory; PLACES_NO_NODE: the system's choice
};

struct processor {
    int number;
    int core; // processors of one number share a core
    int node; // PLACES_NO_NODE: not known
};

enum { PROCESSORS_MOST = CPU_SETSIZE };

// The processors that this process may use, by node, core and number; how many. 0 when the system does not
// say.
size_t places_processors(struct processor processors[PROCESSORS_MOST]);

// Shares the cores of `processors`, ordered as above, out to `count` places. nodes: the one that each place
// wants to be next to, or PLACES_NO_NODE; cores of that node come first, then those that nobody wants. Where
// there are fewer cores than places, several places share one.
void places_share(struct place *places, const int *nodes, size_t count, const struct processor *processors,
                  size_t processor_count);

// Moves the calling process there: a wish, nothing fails without it. Between fork and exec.
void places_enter(const struct place *place);

#endif
