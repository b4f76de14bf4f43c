// SPDX-License-Identifier: MIT
// A small seeded generator (splitmix64) for canary texts, shuffles and tests: the same seed gives the same
// numbers everywhere.
#ifndef STRATA_BASE_RANDOM_H
#define STRATA_BASE_RANDOM_H

#include <stdint.h>

// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
static inline uint64_t random_next(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

// Uniform in [0, bound), bound > 0; rejection keeps it exact.
static inline uint64_t random_below(uint64_t *state, uint64_t bound) {
    uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
    uint64_t value;
    do {
        value = random_next(state);
    } while (value >= limit);
    return value % bound;
}

// Uniform in [0, 1).
static inline double random_unit(uint64_t *state) {
    return (double)(random_next(state) >> 11) * 0x1p-53;
}

#endif
