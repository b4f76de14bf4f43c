// SPDX-License-Identifier: MIT
// An HTML page that is being put together in memory. The first failure sticks: what follows it does nothing,
// and page.status tells it in the end. Nothing that is not the program's own gets into a page but through
// page_text.
#ifndef STRATA_REPORT_PAGE_H
#define STRATA_REPORT_PAGE_H

#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"

struct page {
    struct buffer html;
    struct error *err; // the caller's, filled where status is not STATUS_OK
    int status;
};

void page_begin(struct page *page, struct error *err);
void page_free(struct page *page);

void page_put(struct page *page, const char *html);
void page_format(struct page *page, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Text of others, in an element or a quoted attribute: controls made visible, &, <, > and quotes escaped, cut
// to PRINTABLE_TEXT bytes. NULL: nothing.
void page_text(struct page *page, const char *text);

// The styles and everything before <main>; `title` is text. refresh_seconds 0: the page stays as it is.
void page_head(struct page *page, const char *title, int refresh_seconds);
void page_foot(struct page *page, int64_t now); // with the program's version and the time

// <section> with a heading, laid out as a grid of cards if `grid`.
void page_section(struct page *page, const char *heading, int grid);
void page_section_end(struct page *page);

// A table in a card that scrolls by itself, down to its rows; `name` is the program's own, and so are the
// headings, separated by "|": "#Launch" is a column of numbers.
void page_table(struct page *page, const char *name, const char *headings);

// Ends the table; more > 0: a line that so many rows are not shown, and where they are.
void page_table_end(struct page *page, uint64_t more, const char *where);

// A row of a two-column table, <dl>: `term` the program's own, the value text.
void page_pair(struct page *page, const char *term, const char *value);

#endif
