// SPDX-License-Identifier: MIT
#include "base/roff.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

// Bytes at `text` that became one character.
static size_t put_character(FILE *out, const char *text, size_t size) {
    uint32_t code;
    size_t length = utf8_decode(text, size, &code);
    if (length == 0) {
        fputc('?', out);
        return 1;
    }
    switch (code) {
    case '\\':
        fputs("\\e", out);
        break;
    case '-':
        fputs("\\-", out);
        break;
    case '\'':
        fputs("\\(aq", out);
        break;
    case '"':
        fputs("\\(dq", out);
        break;
    case '^':
        fputs("\\(ha", out);
        break;
    case '~':
        fputs("\\(ti", out);
        break;
    case '.': // a line that begins with one would be a request
        fputs("\\&.", out);
        break;
    default:
        fprintf(out, code < 0x80 ? "%c" : "\\[u%04" PRIX32 "]", code);
    }
    return length;
}

static void put_text(FILE *out, const char *text, size_t size) {
    bool bold = false;
    for (size_t i = 0; i < size;) {
        if (text[i] == '`' && (bold || memchr(text + i + 1, '`', size - i - 1) != NULL)) {
            bold = !bold;
            fputs(bold ? "\\fB" : "\\fR", out);
            i++;
        } else if (text[i] == '`') {
            fputs("\\(ga", out);
            i++;
        } else {
            i += put_character(out, text + i, size - i);
        }
    }
}

void roff_text(FILE *out, const char *text) {
    put_text(out, text, strlen(text));
}

void roff_lines(FILE *out, const char *text, size_t full) {
    bool table = false;  // in lines that stay lines
    bool breaks = false; // the line before was a short one
    while (*text != 0) {
        size_t size = strcspn(text, "\n");
        bool indented = text[0] == ' ' && size > 0;
        if (table != indented && size > 0) {
            fputs(indented ? ".nf\n" : ".fi\n", out);
            table = indented;
            breaks = false;
        }
        if (size == 0) {
            fputs(table ? ".fi\n.PP\n" : ".PP\n", out);
            table = breaks = false;
        } else {
            fputs(breaks ? ".br\n" : "", out);
            fputs(indented ? "\\&" : "", out);
            put_text(out, text, size);
            fputc('\n', out);
            breaks = !indented && size < full;
        }
        text += size + (text[size] == '\n');
    }
    fputs(table ? ".fi\n" : "", out);
}
