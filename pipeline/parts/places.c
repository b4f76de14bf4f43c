// SPDX-License-Identifier: MIT
#include "parts/places.h"

#include <linux/mempolicy.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/size.h"
#include "kernels/cpu/nodes.h"
#include "kernels/cpu/processors.h"

// ---- the machine ----

static int node_of(const struct cpu_nodes *nodes, size_t processor) {
    for (size_t i = 0; i < nodes->count; i++) {
        if (CPU_ISSET(processor, &nodes->sets[i])) {
            return nodes->numbers[i];
        }
    }
    return PLACES_NO_NODE;
}

static int by_place(const void *a, const void *b) {
    const struct processor *x = a;
    const struct processor *y = b;
    int order = x->node != y->node ? x->node - y->node : x->core - y->core;
    return order != 0 ? order : x->number - y->number;
}

size_t places_processors(struct processor processors[PROCESSORS_MOST]) {
    struct cpu_nodes nodes;
    cpu_set_t allowed;
    size_t count = 0;
    if (!processors_allowed(&allowed)) {
        return 0;
    }
    cpu_nodes_read(&nodes, "/sys/devices/system/node", &allowed);
    for (size_t i = 0; i < PROCESSORS_MOST; i++) {
        if (CPU_ISSET(i, &allowed)) {
            size_t core = processors_core("/sys/devices/system/cpu", i);
            processors[count++] =
                (struct processor){.number = (int)i, .core = (int)core, .node = node_of(&nodes, i)};
        }
    }
    qsort(processors, count, sizeof *processors, by_place);
    return count;
}

// ---- sharing ----

struct sharing {
    struct place *places;
    const struct processor *processors;
    size_t count;
    size_t first[PROCESSORS_MOST + 1]; // processor of each core, and the end behind them
    bool taken[PROCESSORS_MOST];       // of each core
    size_t cores;
};

static void find_cores(struct sharing *sharing) {
    for (size_t i = 0; i < sharing->count; i++) {
        if (i == 0 || sharing->processors[i].core != sharing->processors[i - 1].core) {
            sharing->first[sharing->cores++] = i;
        }
    }
    sharing->first[sharing->cores] = sharing->count;
}

static void take_core(struct sharing *sharing, size_t place, size_t core) {
    sharing->taken[core] = true;
    for (size_t i = sharing->first[core]; i < sharing->first[core + 1]; i++) {
        CPU_SET((size_t)sharing->processors[i].number, &sharing->places[place].processors);
    }
}

static int node_of_core(const struct sharing *sharing, size_t core) {
    return sharing->processors[sharing->first[core]].node;
}

// Up to `most` free cores, of this node alone or of any (PLACES_NO_NODE); returns how many there were.
static size_t take_free(struct sharing *sharing, size_t place, int node, size_t most) {
    size_t found = 0;
    for (size_t core = 0; core < sharing->cores && found < most; core++) {
        bool fits = node == PLACES_NO_NODE || node_of_core(sharing, core) == node;
        if (fits && !sharing->taken[core]) {
            take_core(sharing, place, core);
            found++;
        }
    }
    return found;
}

static size_t cores_of_node(const struct sharing *sharing, int node) {
    size_t cores = 0;
    for (size_t core = 0; core < sharing->cores; core++) {
        cores += node_of_core(sharing, core) == node;
    }
    return cores;
}

// Number `at` of `count` that share `all` gets this many.
static size_t share_of(size_t all, size_t count, size_t at) {
    return all / count + (at < all % count);
}

// Cores of the node that the place wants, shared with the others that want the same.
static size_t take_near(struct sharing *sharing, const int *nodes, size_t count, size_t place, size_t most) {
    size_t rivals = 0;
    size_t before = 0;
    for (size_t i = 0; i < count; i++) {
        rivals += nodes[i] == nodes[place];
        before += nodes[i] == nodes[place] && i < place;
    }
    size_t share = share_of(cores_of_node(sharing, nodes[place]), rivals, before);
    return take_free(sharing, place, nodes[place], size_min(share, most));
}

// The node of most of a place's processors, the first of several; none on a machine of one node, where it
// would say nothing.
static void settle_node(const struct sharing *sharing, struct place *place) {
    bool several = false;
    size_t best = 0;
    place->node = PLACES_NO_NODE;
    for (size_t i = 0; i < sharing->count; i++) {
        int node = sharing->processors[i].node;
        size_t here = 0;
        several = several || node != sharing->processors[0].node;
        for (size_t k = 0; k < sharing->count; k++) {
            here += sharing->processors[k].node == node &&
                    CPU_ISSET((size_t)sharing->processors[k].number, &place->processors);
        }
        if (here > best) {
            best = here;
            place->node = node;
        }
    }
    place->node = several ? place->node : PLACES_NO_NODE;
}

void places_share(struct place *places, const int *nodes, size_t count, const struct processor *processors,
                  size_t processor_count) {
    struct sharing sharing = {.places = places, .processors = processors, .count = processor_count};
    find_cores(&sharing);
    for (size_t i = 0; i < count; i++) {
        size_t most = share_of(sharing.cores, count, i);
        CPU_ZERO(&places[i].processors);
        if (nodes[i] != PLACES_NO_NODE) {
            take_near(&sharing, nodes, count, i, most);
        }
    }
    for (size_t i = 0; i < count; i++) {
        size_t has = 0;
        // Cores, not processors: of each core the place has all or none.
        for (size_t core = 0; core < sharing.cores; core++) {
            has += CPU_ISSET((size_t)processors[sharing.first[core]].number, &places[i].processors) != 0;
        }
        take_free(&sharing, i, PLACES_NO_NODE, share_of(sharing.cores, count, i) - has);
        if (sharing.cores > 0 && sharing.cores < count) {
            CPU_ZERO(&places[i].processors);
            take_core(&sharing, i, i * sharing.cores / count);
        }
        settle_node(&sharing, &places[i]);
    }
}

// ---- going there ----

void places_enter(const struct place *place) {
    unsigned long mask[NODES_MOST / (8 * sizeof(unsigned long)) + 1] = {0};
    size_t bits = 8 * sizeof mask[0];
    if (CPU_COUNT(&place->processors) > 0) {
        sched_setaffinity(0, sizeof place->processors, &place->processors);
    }
    if (place->node >= 0 && (size_t)place->node < 8 * sizeof mask) {
        mask[(size_t)place->node / bits] |= 1UL << ((size_t)place->node % bits);
        syscall(SYS_set_mempolicy, MPOL_PREFERRED, mask, 8 * sizeof mask);
    }
}
