// SPDX-License-Identifier: MIT
#include "commands/readable.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/terminal.h"

const char *readable_threads(int threads, char out[READABLE_TEXT]) {
    out[0] = 0;
    if (threads > 0) {
        snprintf(out, READABLE_TEXT, ", %d thread%s", threads, threads == 1 ? "" : "s");
    }
    return out;
}

// ---- lines ----

int readable_columns(FILE *out) {
    int descriptor = fileno(out);
    int columns;
    int rows;
    if (descriptor < 0 || isatty(descriptor) != 1) {
        return 0;
    }
    terminal_size(out, &columns, &rows);
    columns = columns > 0 ? columns : 80;
    return columns < READABLE_WIDEST ? columns : READABLE_WIDEST;
}

void readable_verdict(FILE *out, const char *word) {
    bool fails = strcmp(word, "FAIL") == 0 || strcmp(word, "FAULT") == 0;
    bool warns = strcmp(word, "WARN") == 0;
    enum terminal_colour colour = fails ? TERMINAL_FAILURE : TERMINAL_WARNING;
    fprintf(out, "%s%s%s", fails || warns ? terminal_colour(out, colour) : "", word,
            fails || warns ? terminal_colour(out, TERMINAL_PLAIN) : "");
}

// A line that is being written.
struct line {
    FILE *out;
    int columns; // 0: no limit
    int indent;  // of what follows its first one
    int at;
    bool fresh; // no word stands in it yet
};

static void put_words(struct line *line, const char *text, size_t size) {
    const char *end = text + size;
    while (text < end) {
        size_t length = strcspn(text, " ");
        length = length < (size_t)(end - text) ? length : (size_t)(end - text);
        if (!line->fresh && line->columns > 0 && line->at + 1 + (int)length > line->columns) {
            fprintf(line->out, "\n%*s", line->indent, "");
            line->at = line->indent;
            line->fresh = true;
        }
        if (!line->fresh) {
            fputc(' ', line->out);
            line->at++;
        }
        fwrite(text, 1, length, line->out);
        line->at += (int)length;
        line->fresh = false;
        text += length + 1;
    }
}

void readable_wrap(FILE *out, const char *text, int at, int indent, int columns) {
    struct line line = {.out = out, .columns = columns, .indent = indent, .at = at, .fresh = true};
    put_words(&line, text, strlen(text));
    fputc('\n', out);
}

void readable_lines(FILE *out, const char *text, int hang, size_t full, int columns) {
    struct line line = {.out = out, .columns = columns};
    bool goes_on = false;
    while (*text != 0) {
        size_t size = strcspn(text, "\n");
        size_t spaces = goes_on ? 0 : strspn(text, " ");
        if (!goes_on) {
            line.at = fprintf(out, "%*s", (int)spaces, "");
            line.indent = line.at + hang;
            line.fresh = true;
        }
        put_words(&line, text + spaces, size - spaces);
        goes_on = columns > 0 && full > 0 && size >= full;
        text += size + (text[size] == '\n');
        if (!goes_on || *text == 0) {
            fputc('\n', out);
        }
    }
}

static int out_of_memory(const struct readable_page *page, struct error *err) {
    return error_set(err, STATUS_INTERNAL, "out of memory for %s", page->what);
}

int readable_page_open(struct readable_page *page, const char *what, struct error *err) {
    *page = (struct readable_page){.what = what};
    page->out = open_memstream(&page->text, &page->size);
    return page->out == NULL ? out_of_memory(page, err) : STATUS_OK;
}

int readable_page_print(struct readable_page *page, FILE *out, int hang, size_t full, int columns,
                        struct error *err) {
    bool failed = ferror(page->out) != 0;
    failed = fclose(page->out) != 0 || failed;
    if (!failed) {
        readable_lines(out, page->text, hang, full, columns);
    }
    free(page->text);
    return failed ? out_of_memory(page, err) : STATUS_OK;
}

// The first `most` lines.
static void print_lines(FILE *out, const char *text, int most) {
    for (int line = 0; line < most && *text != 0; line++) {
        size_t size = strcspn(text, "\n");
        fprintf(out, "%s%.*s", line == 0 ? "" : "\n", (int)size, text);
        text += size + (text[size] == '\n');
    }
    fputc('\n', out);
}

int readable_page_screen(struct readable_page *page, FILE *out, int hang, struct error *err) {
    struct readable_page wrapped;
    int columns;
    int rows;
    int status = readable_page_open(&wrapped, page->what, err);
    if (status != STATUS_OK) {
        readable_page_drop(page);
        return status;
    }
    status = readable_page_print(page, wrapped.out, hang, 0, readable_columns(out), err);
    bool failed = ferror(wrapped.out) != 0;
    failed = fclose(wrapped.out) != 0 || failed;
    if (status == STATUS_OK && !failed) {
        terminal_size(out, &columns, &rows);
        fputs("\033[H\033[J", out);
        print_lines(out, wrapped.text, rows > 1 ? rows - 1 : INT_MAX); // the cursor stands in the last one
    }
    free(wrapped.text);
    return status == STATUS_OK && failed ? out_of_memory(page, err) : status;
}

void readable_page_drop(struct readable_page *page) {
    fclose(page->out);
    free(page->text);
}

// ---- while the problems are read in the foreground ----

#define SECONDS_BETWEEN_WORDS 10.0

static void say(void *context, const char *text) {
    const struct readable_waiting *waiting = context;
    fprintf(stderr, "strata %s: %s\n", waiting->command, text);
}

static void tell_rows(void *context, uint64_t rows) {
    struct readable_waiting *waiting = context;
    char count[READABLE_TEXT];
    double now = clock_seconds();
    if (now - waiting->told >= SECONDS_BETWEEN_WORDS) {
        waiting->told = now;
        fprintf(stderr, "strata %s: %s rows of the query read so far\n", waiting->command,
                readable_count(rows, count));
    }
}

struct watch readable_watch(struct readable_waiting *waiting, const char *command) {
    *waiting = (struct readable_waiting){.command = command, .told = clock_seconds()};
    return (struct watch){.say = say, .reading = tell_rows, .context = waiting};
}
