// Numbers for people: counts with separators, bytes with units, durations, ages.
#ifndef STRATA_COMMANDS_FORMAT_H
#define STRATA_COMMANDS_FORMAT_H

#include <stddef.h>
#include <stdint.h>

enum { FORMAT_TEXT = 32 }; // bytes each of these needs at most

// Each returns `out`.
const char *format_count(uint64_t count, char out[FORMAT_TEXT]);   // "21,456"
const char *format_bytes(uint64_t bytes, char out[FORMAT_TEXT]);   // "512 B", "1.5 MiB", "12.0 GiB"
const char *format_rate(double per_second, char out[FORMAT_TEXT]); // "123.4" below 1000, "27,123" above
const char *format_duration(double seconds,
                            char out[FORMAT_TEXT]); // "0.5 s", "42 s", "3 min 20 s", "2 h 05 min", "3 d 04 h"
const char *format_share(uint64_t part, uint64_t whole,
                         char out[FORMAT_TEXT]); // "12.3 %"; 100.0 only when it is all

const char *format_threads(int threads,
                           char out[FORMAT_TEXT]); // ", 2 threads"; empty when every core was left to the run

#endif
