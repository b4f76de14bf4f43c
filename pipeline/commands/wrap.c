#include "commands/wrap.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int wrap_columns(FILE *out) {
    struct winsize size = {0};
    int descriptor = fileno(out);
    if (descriptor < 0 || isatty(descriptor) != 1) {
        return 0;
    }
    bool known = ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    int columns = known ? size.ws_col : 80;
    return columns < WRAP_WIDEST ? columns : WRAP_WIDEST;
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

void wrap_text(FILE *out, const char *text, int at, int indent, int columns) {
    struct line line = {.out = out, .columns = columns, .indent = indent, .at = at, .fresh = true};
    put_words(&line, text, strlen(text));
    fputc('\n', out);
}

void wrap_lines(FILE *out, const char *text, int hang, size_t full, int columns) {
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

static int out_of_memory(const struct wrap_page *page, struct error *err) {
    return error_set(err, STATUS_INTERNAL, "out of memory for %s", page->what);
}

int wrap_page_open(struct wrap_page *page, const char *what, struct error *err) {
    *page = (struct wrap_page){.what = what};
    page->out = open_memstream(&page->text, &page->size);
    return page->out == NULL ? out_of_memory(page, err) : STATUS_OK;
}

int wrap_page_print(struct wrap_page *page, FILE *out, int hang, size_t full, int columns,
                    struct error *err) {
    bool failed = ferror(page->out) != 0;
    failed = fclose(page->out) != 0 || failed;
    if (!failed) {
        wrap_lines(out, page->text, hang, full, columns);
    }
    free(page->text);
    return failed ? out_of_memory(page, err) : STATUS_OK;
}

void wrap_page_drop(struct wrap_page *page) {
    fclose(page->out);
    free(page->text);
}
