// SPDX-License-Identifier: MIT
// Text of others (ids, reasons, names, paths, what a file holds) on its way to people. A terminal obeys
// control characters: nothing that is not the program's own reaches one but through here. C0 and C1 controls,
// DEL, the characters that turn the direction of what follows and those that end a line become \n, \r, \t or
// \u001b; bytes that are not UTF-8 become \xNN. A JSON text stays JSON with the same values.
#ifndef STRATA_BASE_PRINTABLE_H
#define STRATA_BASE_PRINTABLE_H

#include <stddef.h>
#include <stdio.h>

#include "base/error.h"
#include "base/memory.h"

enum { PRINTABLE_TEXT = 4096 }; // bytes that hold most paths and messages

// The text in one line, cut to what fits with "..." at its end; returns `out`.
const char *printable(char *out, size_t size, const char *text);

// As printable; line feeds are the program's own and stay.
const char *printable_lines(char *out, size_t size, const char *text);

int printable_append(struct buffer *out, const char *text, struct error *err); // in one line, whole

// To a stream with a buffer, whole: in one line, or with the line feeds that are the program's own.
void printable_write(FILE *out, const char *text);
void printable_write_bytes(FILE *out, const char *text, size_t size);
void printable_write_lines(FILE *out, const char *text);

#endif
