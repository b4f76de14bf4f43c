// SPDX-License-Identifier: MIT
// What commands print for people: numbers that are easy to read, lines that fit the terminal, and a word on
// standard error about what takes long.
#ifndef STRATA_COMMANDS_READABLE_H
#define STRATA_COMMANDS_READABLE_H

#include <stddef.h>
#include <stdio.h>

#include "base/error.h"
#include "base/readable.h"
#include "problems/watch.h"

// ---- numbers: base/readable.h, and ----

// ", 2 threads"; empty when every core was left to the run
const char *readable_threads(int threads, char out[READABLE_TEXT]);

// ---- lines: broken at spaces, what follows indented. Off a terminal they stay whole, for programs ----

enum { READABLE_WIDEST = 110 };

// Columns of the terminal that `out` is, READABLE_WIDEST at most; 0: it is none.
int readable_columns(FILE *out);

// A word that heads a line, such as PASS: in colour on a terminal if it is FAIL, FAULT or WARN.
void readable_verdict(FILE *out, const char *word);

// Prints a text without line feeds, which begins in column `at`, and ends the line; the lines after the first
// begin in column `indent`. columns 0: one line.
void readable_wrap(FILE *out, const char *text, int at, int indent, int columns);

// The same for a text of lines, each indented as it is, and `hang` more from its second line on. A line of at
// least `full` characters goes on in the next one (0: none does).
void readable_lines(FILE *out, const char *text, int hang, size_t full, int columns);

// Lines that are printed into memory first: to page.out, from open to print or drop.
struct readable_page {
    const char *what; // for the message when memory is out: "the plan"
    FILE *out;
    char *text;
    size_t size;
};

int readable_page_open(struct readable_page *page, const char *what, struct error *err);
int readable_page_print(struct readable_page *page, FILE *out, int hang, size_t full, int columns,
                        struct error *err);
// The same in place of all that the terminal `out` shows; what it has no rows for is left out at the end.
int readable_page_screen(struct readable_page *page, FILE *out, int hang, struct error *err);
void readable_page_drop(struct readable_page *page);

// ---- while the problems are read in the foreground ----

struct readable_waiting {
    const char *command; // "check"
    double told;         // when rows were last told
};

// `waiting` outlives the watch.
struct watch readable_watch(struct readable_waiting *waiting, const char *command);

#endif
