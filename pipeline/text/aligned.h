// SPDX-License-Identifier: MIT
// Text that remembers where it came from: what normalizers and pre-tokenizers hand on to one another.
//
// Each byte of a changed text carries the bytes of the original text that it stands for, as the `tokenizers`
// library keeps them: all bytes of a character share one span, and a token's span runs from its first byte's
// start to its last byte's end. An unchanged stretch of the original needs no spans: they are read off its
// characters.
#ifndef STRATA_TEXT_ALIGNED_H
#define STRATA_TEXT_ALIGNED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

// Bytes [start, end) of the original text.
struct source_span {
    uint32_t start;
    uint32_t end;
};

// A stretch of text (not owned), always whole UTF-8 characters.
struct piece {
    const char *bytes;
    size_t size;
    const struct source_span *source; // [size], or NULL: byte i is byte origin + i of the original
    size_t origin;
};

// Growable text with its spans; owned by a scratch and reused.
struct aligned_text {
    char *bytes;                // [capacity]
    struct source_span *source; // [capacity]
    size_t size;
    size_t capacity;
};

static inline bool utf8_is_continuation(char byte) {
    return ((unsigned char)byte & 0xC0U) == 0x80U;
}

// Bytes of the character that starts with `lead` (the text is valid UTF-8).
static inline size_t utf8_lead_size(char lead) {
    unsigned char byte = (unsigned char)lead;
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The original's span of bytes [from, to) of a piece, from < to <= size.
static inline struct source_span piece_span(const struct piece *piece, size_t from, size_t to) {
    if (piece->source != NULL) {
        return (struct source_span){piece->source[from].start, piece->source[to - 1].end};
    }
    while (from > 0 && utf8_is_continuation(piece->bytes[from])) {
        from--;
    }
    while (to < piece->size && utf8_is_continuation(piece->bytes[to])) {
        to++;
    }
    return (struct source_span){(uint32_t)(piece->origin + from), (uint32_t)(piece->origin + to)};
}

static inline struct piece piece_slice(const struct piece *piece, size_t from, size_t to) {
    return (struct piece){piece->bytes + from, to - from, piece->source == NULL ? NULL : piece->source + from,
                          piece->origin + from};
}

int aligned_reserve(struct aligned_text *text, size_t capacity, struct error *err); // keeps the content
void aligned_destroy(struct aligned_text *text);                                    // leaves zeros

// Appends bytes that all stand for one span.
int aligned_append(struct aligned_text *text, const char *bytes, size_t size, struct source_span span,
                   struct error *err);

// Appends bytes [from, to) of a piece with their own spans.
int aligned_copy(struct aligned_text *text, const struct piece *piece, size_t from, size_t to,
                 struct error *err);

// The text as a piece; valid until the text changes.
struct piece aligned_piece(const struct aligned_text *text);

#endif
