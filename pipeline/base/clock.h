// SPDX-License-Identifier: MIT
// Time: monotonic seconds for measuring, UTC text for records.
#ifndef STRATA_BASE_CLOCK_H
#define STRATA_BASE_CLOCK_H

#include <stdint.h>

double clock_seconds(void);         // CLOCK_MONOTONIC: never jumps with the wall clock
double clock_process_seconds(void); // of processor time that this process had
void clock_sleep(double seconds);   // goes on after signals
int64_t clock_unix(void);           // wall-clock seconds since 1970, for records only

enum { CLOCK_TEXT = 21 };
// "2026-11-21T10:15:00Z"; "" of a year that has not four digits.
void clock_text(int64_t unix_seconds, char out[CLOCK_TEXT]);

#endif
