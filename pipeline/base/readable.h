// SPDX-License-Identifier: MIT
// Numbers for people: counts with separators, bytes with units, rates, durations, shares.
#ifndef STRATA_BASE_READABLE_H
#define STRATA_BASE_READABLE_H

#include <stdint.h>

enum { READABLE_TEXT = 32 }; // bytes each of these needs at most

// Each returns `out`.
const char *readable_count(uint64_t count, char out[READABLE_TEXT]);   // "21,456"
const char *readable_bytes(uint64_t bytes, char out[READABLE_TEXT]);   // "512 B", "1.5 MiB", "12.0 GiB"
const char *readable_rate(double per_second, char out[READABLE_TEXT]); // "123.4" below 1000, "27,123" above
// "0.5 s", "42 s", "3 min 20 s", "2 h 05 min", "3 d 04 h"
const char *readable_duration(double seconds, char out[READABLE_TEXT]);
// "12.3 %"; 100.0 only when it is all
const char *readable_share(uint64_t part, uint64_t whole, char out[READABLE_TEXT]);

#endif
