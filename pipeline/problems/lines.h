// SPDX-License-Identifier: MIT
// Lines of a text file, plain or gzip, for this room only.
#ifndef STRATA_PROBLEMS_LINES_H
#define STRATA_PROBLEMS_LINES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"

struct lines;

// "-" is standard input. STATUS_DATA when it cannot be opened.
int lines_open(struct lines **out, const char *path, struct error *err);
void lines_close(struct lines *lines); // accepts NULL

// The next line in *line (cleared first, without its line feed); *found false at the end. STATUS_DATA when
// the file cannot be read, its compression is broken, cut off or followed by other bytes, or a line is longer
// than 256 MiB.
int lines_next(struct lines *lines, struct buffer *line, bool *found, struct error *err);
uint64_t lines_number(const struct lines *lines); // of the last line given, from 1

#endif
