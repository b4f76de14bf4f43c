// SPDX-License-Identifier: MIT
// Checked arithmetic on sizes: every product or sum that becomes an allocation, an offset or a count goes
// through here.
#ifndef STRATA_BASE_SIZE_H
#define STRATA_BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// True and *out set when a * b fits; false and *out untouched otherwise.
static inline bool size_mul(size_t a, size_t b, size_t *out) {
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) {
        return false;
    }
    *out = product;
    return true;
}

static inline bool size_add(size_t a, size_t b, size_t *out) {
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return false;
    }
    *out = sum;
    return true;
}

// Rounds up to a multiple of `unit` (a power of two); false when that does not fit.
static inline bool size_round_up(size_t value, size_t unit, size_t *out) {
    size_t padded;
    if (!size_add(value, unit - 1, &padded)) {
        return false;
    }
    *out = padded & ~(unit - 1);
    return true;
}

static inline size_t size_min(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t size_max(size_t a, size_t b) {
    return a > b ? a : b;
}

#endif
