// SPDX-License-Identifier: MIT
// Text in the language of manual pages, man(7): what groff and mandoc would read otherwise is escaped.
#ifndef STRATA_BASE_ROFF_H
#define STRATA_BASE_ROFF_H

#include <stddef.h>
#include <stdio.h>

// A piece of a line: hyphens as those of options, quotes as they are typed, other scripts by their code
// points (bytes that are no UTF-8 as "?"). What stands between two backquotes is bold.
void roff_text(FILE *out, const char *text);

// Paragraphs of lines, a line feed behind each: empty lines part them; an indented line stays a line of its
// own, as a table's; of the others one of at least `full` characters goes on in the next.
void roff_lines(FILE *out, const char *text, size_t full);

#endif
