// SPDX-License-Identifier: MIT
// Which processors this process may use, and how many threads of computing are worth having on them. Of other
// rooms, only parts/ reads it, to place whole processes.
#ifndef STRATA_KERNELS_CPU_PROCESSORS_H
#define STRATA_KERNELS_CPU_PROCESSORS_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

// The process's affinity; where OpenMP binds its threads (OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY),
// which it does to the first thread before main(), the processors of its places. False when the system does
// not say.
bool processors_allowed(cpu_set_t *allowed);

// Where OpenMP has bound the calling thread: lets it run on all processors that are allowed. Threads that it
// starts itself (reading, tokenizing, writing) inherit that; they would all stand on one processor otherwise.
void processors_unbind(void);

// Where OpenMP binds threads: keeps the calling thread, number `thread` of `threads`, on its place. False
// where it does not.
bool processors_bind(size_t threads, size_t thread);

// The lowest number among the threads of a processor's core, which names the core. root:
// "/sys/devices/system/cpu". A processor of which nothing is known is a core of its own.
size_t processors_core(const char *root, size_t processor);

// Distinct cores among them: the threads of one core share its units and caches, which one thread of products
// fills.
size_t processors_cores(const char *root, const cpu_set_t *allowed);

#endif
