// SPDX-License-Identifier: MIT
#include "report/page.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/printable.h"
#include "base/readable.h"
#include "base/version.h"
#include "report/report.h"
#include "report/style.h"

void page_begin(struct page *page, struct error *err) {
    *page = (struct page){.err = err};
}

void page_free(struct page *page) {
    buffer_destroy(&page->html);
}

void page_put(struct page *page, const char *html) {
    if (page->status == STATUS_OK) {
        page->status = buffer_append(&page->html, html, strlen(html), page->err);
    }
}

void page_format(struct page *page, const char *format, ...) {
    char piece[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof piece) {
        page->status = page->status != STATUS_OK
                           ? page->status
                           : error_set(page->err, STATUS_INTERNAL, "a piece of the page is too long");
        return;
    }
    page_put(page, piece);
}

void page_text(struct page *page, const char *text) {
    char shown[PRINTABLE_TEXT];
    const char *at = text == NULL ? "" : printable(shown, sizeof shown, text);
    while (*at != 0) {
        size_t plain = strcspn(at, "&<>\"'");
        if (page->status == STATUS_OK) {
            page->status = buffer_append(&page->html, at, plain, page->err);
        }
        at += plain;
        if (*at != 0) {
            page_format(page, "&#%d;", *at++);
        }
    }
}

void page_head(struct page *page, const char *title, int refresh_seconds) {
    page_put(page, "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n" REPORT_MARK
                   "\n<meta name=viewport content=\"width=device-width, initial-scale=1\">\n"
                   "<meta name=color-scheme content=\"light dark\">\n"
                   "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src "
                   "'unsafe-inline'; img-src data:\">\n<link rel=icon href=\"data:,\">\n");
    if (refresh_seconds > 0) {
        page_format(page, "<meta http-equiv=refresh content=%d>\n", refresh_seconds);
    }
    page_put(page, "<title>");
    page_text(page, title);
    page_put(page, "</title>\n<style>\n");
    page_put(page, report_style());
    page_put(page, "</style>\n</head>\n<body>\n<main>\n");
}

void page_foot(struct page *page, int64_t now) {
    char when[CLOCK_TEXT];
    clock_text(now, when);
    page_format(page,
                "</main>\n<footer>strata " STRATA_VERSION
                ", as of <time>%s</time></footer>\n</body>\n</html>\n",
                when);
}

void page_section(struct page *page, const char *heading, int grid) {
    page_format(page, "<section>\n<h2>%s</h2>\n<div class=%s>\n", heading, grid ? "grid" : "stack");
}

void page_section_end(struct page *page) {
    page_put(page, "</div>\n</section>\n");
}

void page_table(struct page *page, const char *name, const char *headings) {
    page_format(
        page,
        "<div class=\"card scroll\" role=region aria-label=\"%s\" tabindex=0><table class=list><thead><tr>",
        name);
    while (*headings != 0) {
        int size = (int)strcspn(headings, "|");
        bool number = *headings == '#';
        page_format(page, "<th%s>%.*s</th>", number ? " class=n" : "", size - number, headings + number);
        headings += size;
        headings += *headings == '|';
    }
    page_put(page, "</tr></thead><tbody>\n");
}

void page_table_end(struct page *page, uint64_t more, const char *where) {
    char count[READABLE_TEXT];
    page_put(page, "</tbody></table>");
    if (more > 0) {
        page_format(page, "<p class=sub>and %s more%s</p>", readable_count(more, count), where);
    }
    page_put(page, "</div>\n");
}

void page_pair(struct page *page, const char *term, const char *value) {
    page_format(page, "<dt>%s</dt><dd>", term);
    page_text(page, value);
    page_put(page, "</dd>\n");
}
