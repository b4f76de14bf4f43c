// SPDX-License-Identifier: MIT
// Bytes for people, in the units of the job file's keys (10^9 bytes are a GB) or smaller ones.
#ifndef STRATA_BASE_AMOUNT_H
#define STRATA_BASE_AMOUNT_H

enum { AMOUNT_TEXT = 40 };

// "512 B", "20.48 kB", "1.50 MB", "12.00 GB", "1000000.00 GB". Returns `out`.
const char *amount_text(double bytes, char out[AMOUNT_TEXT]);

#endif
