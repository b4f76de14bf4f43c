// SPDX-License-Identifier: MIT
#include "base/printable.h"

#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

enum { PIECE = 16 }; // bytes of a character, or of what stands for it

static bool turns_direction(uint32_t code) {
    return (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

static bool ends_line(uint32_t code) {
    return code == 0x2028 || code == 0x2029;
}

static bool is_control(uint32_t code) {
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || turns_direction(code) || ends_line(code);
}

// The next character as it is to be shown; returns how many bytes of the text it took.
static size_t take(const char *text, size_t size, bool lines, char piece[PIECE]) {
    uint32_t code = 0;
    size_t length = utf8_decode(text, size, &code);
    if (length == 0) {
        snprintf(piece, PIECE, "\\x%02x", (unsigned)(unsigned char)text[0]);
        return 1;
    }
    if (!is_control(code) || (lines && code == '\n')) {
        memcpy(piece, text, length);
        piece[length] = 0;
    } else if (code == '\n' || code == '\r' || code == '\t') {
        snprintf(piece, PIECE, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
    } else {
        snprintf(piece, PIECE, "\\u%04x", (unsigned)code);
    }
    return length;
}

static const char *fit(char *out, size_t size, const char *text, bool lines) {
    static const char cut[] = "...";
    size_t left = strlen(text);
    size_t at = 0;
    size_t last = 0; // the longest end at which the mark of a cut still fits
    while (left > 0) {
        char piece[PIECE];
        size_t taken = take(text, left, lines, piece);
        size_t length = strlen(piece);
        if (at + length >= size) {
            snprintf(out + last, size - last, "%s", cut);
            return out;
        }
        memcpy(out + at, piece, length);
        at += length;
        last = at + sizeof cut <= size ? at : last;
        text += taken;
        left -= taken;
    }
    out[at] = 0;
    return out;
}

const char *printable(char *out, size_t size, const char *text) {
    return fit(out, size, text, false);
}

const char *printable_lines(char *out, size_t size, const char *text) {
    return fit(out, size, text, true);
}

int printable_append(struct buffer *out, const char *text, struct error *err) {
    size_t left = strlen(text);
    while (left > 0) {
        char piece[PIECE];
        size_t taken = take(text, left, false, piece);
        TRY(buffer_append(out, piece, strlen(piece), err));
        text += taken;
        left -= taken;
    }
    return STATUS_OK;
}

static void write_all(FILE *out, const char *text, size_t size, bool lines) {
    while (size > 0) {
        char piece[PIECE];
        size_t taken = take(text, size, lines, piece);
        fputs(piece, out);
        text += taken;
        size -= taken;
    }
}

void printable_write(FILE *out, const char *text) {
    write_all(out, text, strlen(text), false);
}

void printable_write_bytes(FILE *out, const char *text, size_t size) {
    write_all(out, text, size, false);
}

void printable_write_lines(FILE *out, const char *text) {
    write_all(out, text, strlen(text), true);
}
