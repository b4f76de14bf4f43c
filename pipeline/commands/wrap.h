// Lines for people that fit their terminal: broken at spaces, what follows indented. Off a terminal lines
// stay whole, for programs that read them.
#ifndef STRATA_COMMANDS_WRAP_H
#define STRATA_COMMANDS_WRAP_H

#include <stddef.h>
#include <stdio.h>

#include "base/error.h"

enum { WRAP_WIDEST = 110 };

// Columns of the terminal that `out` is, WRAP_WIDEST at most; 0: it is none.
int wrap_columns(FILE *out);

// Prints a text without line feeds, which begins in column `at`, and ends the line; the lines after the first
// begin in column `indent`. columns 0: one line.
void wrap_text(FILE *out, const char *text, int at, int indent, int columns);

// The same for a text of lines, each indented as it is, and `hang` more from its second line on. A line of at
// least `full` characters goes on in the next one (0: none does).
void wrap_lines(FILE *out, const char *text, int hang, size_t full, int columns);

// Lines that are printed into memory first: to page.out, from open to print or drop.
struct wrap_page {
    const char *what; // for the message when memory is out: "the plan"
    FILE *out;
    char *text;
    size_t size;
};

int wrap_page_open(struct wrap_page *page, const char *what, struct error *err);
int wrap_page_print(struct wrap_page *page, FILE *out, int hang, size_t full, int columns, struct error *err);
void wrap_page_drop(struct wrap_page *page);

#endif
