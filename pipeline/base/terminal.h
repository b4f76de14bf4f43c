// SPDX-License-Identifier: MIT
// What a stream's terminal can do: redraw a line, and show colours. Where there is none, neither.
#ifndef STRATA_BASE_TERMINAL_H
#define STRATA_BASE_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

// True when `out` is a terminal that knows the usual escapes; TERM=dumb knows none.
bool terminal_redraws(FILE *out);

// The size, 0 where it is not known.
void terminal_size(FILE *out, int *columns, int *rows);

enum terminal_colour { TERMINAL_PLAIN, TERMINAL_WARNING, TERMINAL_FAILURE };

// The escape that begins the colour (PLAIN ends it); empty where none is to be shown: off a terminal, on a
// dumb one, and with NO_COLOR in the environment (no-color.org).
const char *terminal_colour(FILE *out, enum terminal_colour colour);

#endif
