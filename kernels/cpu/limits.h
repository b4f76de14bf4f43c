// SPDX-License-Identifier: MIT
// How much of the machine this process may use: the machine's figures and those of every control group above
// the process, version 1 or 2. Private to kernels/.
//
// `root` comes before every path that is read: "" for the machine itself, a made-up tree in tests.
#ifndef STRATA_KERNELS_CPU_LIMITS_H
#define STRATA_KERNELS_CPU_LIMITS_H

#include <stdint.h>

// RAM that this process can have at most, and what of it is free now: the smallest of the figures. Page cache
// counts as free; where it is not known how much is free, all is. UINT64_MAX where nothing is known.
void limits_memory(const char *root, uint64_t *total, uint64_t *available);

// Processors' worth of time that the tightest quota leaves this process (cpu.max; 1.5: three halves of one
// processor's time); INFINITY without a quota.
double limits_processors(const char *root);

#endif
