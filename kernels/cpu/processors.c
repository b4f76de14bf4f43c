// SPDX-License-Identifier: MIT
#include "kernels/cpu/processors.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_bound(void) {
    return omp_get_proc_bind() != omp_proc_bind_false && omp_get_num_places() > 0;
}

// Adds the processors of a place; how many there are. 0 without memory for their list.
static size_t add_place(cpu_set_t *set, int place) {
    int count = omp_get_place_num_procs(place);
    int *ids = calloc((size_t)count + 1, sizeof *ids);
    size_t added = 0;
    if (ids != NULL) {
        omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < count; i++) {
            if (ids[i] >= 0 && ids[i] < CPU_SETSIZE) {
                CPU_SET((size_t)ids[i], set);
                added++;
            }
        }
    }
    free(ids);
    return added;
}

bool processors_allowed(cpu_set_t *allowed) {
    size_t added = 0;
    CPU_ZERO(allowed);
    if (!is_bound()) {
        return sched_getaffinity(0, sizeof *allowed, allowed) == 0;
    }
    for (int place = 0; place < omp_get_num_places(); place++) {
        added += add_place(allowed, place);
    }
    return added > 0;
}

void processors_unbind(void) {
    cpu_set_t allowed;
    if (is_bound() && processors_allowed(&allowed)) {
        sched_setaffinity(0, sizeof allowed, &allowed); // a wish: nothing fails without it
    }
}

bool processors_bind(size_t threads, size_t thread) {
    if (!is_bound()) {
        return false;
    }
    cpu_set_t set;
    size_t places = (size_t)omp_get_num_places();
    CPU_ZERO(&set);
    if (add_place(&set, (int)(threads <= places ? thread : thread * places / threads)) > 0) {
        sched_setaffinity(0, sizeof set, &set); // a wish: nothing fails without it
    }
    return true;
}

size_t processors_core(const char *root, size_t processor) {
    char path[256];
    unsigned long first;
    snprintf(path, sizeof path, "%s/cpu%zu/topology/thread_siblings_list", root, processor);
    FILE *file = fopen(path, "re");
    bool known = file != NULL && fscanf(file, "%lu", &first) == 1;
    if (file != NULL) {
        fclose(file);
    }
    return known && first < CPU_SETSIZE ? first : processor;
}

size_t processors_cores(const char *root, const cpu_set_t *allowed) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, allowed)) {
            CPU_SET(processors_core(root, i), &cores);
        }
    }
    return (size_t)CPU_COUNT(&cores);
}
