// SPDX-License-Identifier: MIT
#include "text/aligned.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"

int aligned_reserve(struct aligned_text *text, size_t capacity, struct error *err) {
    if (capacity <= text->capacity) {
        return STATUS_OK;
    }
    size_t doubled = size_max(capacity, 256);
    if (text->capacity <= SIZE_MAX / 2) {
        doubled = size_max(doubled, text->capacity * 2);
    }
    void *bytes = text->bytes;
    TRY(memory_resize(&bytes, doubled, 1, err));
    text->bytes = bytes;
    void *source = text->source;
    TRY(memory_resize(&source, doubled, sizeof(*text->source), err));
    text->source = source;
    text->capacity = doubled;
    return STATUS_OK;
}

void aligned_destroy(struct aligned_text *text) {
    free(text->bytes);
    free(text->source);
    *text = (struct aligned_text){0};
}

static int aligned_make_room(struct aligned_text *text, size_t extra, struct error *err) {
    size_t total;
    if (!size_add(text->size, extra, &total)) {
        return error_set(err, STATUS_INTERNAL, "a normalized text is too long");
    }
    return aligned_reserve(text, total, err);
}

int aligned_append(struct aligned_text *text, const char *bytes, size_t size, struct source_span span,
                   struct error *err) {
    TRY(aligned_make_room(text, size, err));
    for (size_t i = 0; i < size; i++) {
        text->bytes[text->size + i] = bytes[i];
        text->source[text->size + i] = span;
    }
    text->size += size;
    return STATUS_OK;
}

int aligned_copy(struct aligned_text *text, const struct piece *piece, size_t from, size_t to,
                 struct error *err) {
    if (from == to) {
        return STATUS_OK;
    }
    TRY(aligned_make_room(text, to - from, err));
    memcpy(text->bytes + text->size, piece->bytes + from, to - from);
    struct source_span *out = text->source + text->size;
    if (piece->source != NULL) {
        memcpy(out, piece->source + from, (to - from) * sizeof(*out));
    } else {
        for (size_t at = from; at < to;) {
            size_t next = at + utf8_lead_size(piece->bytes[at]);
            struct source_span span = {(uint32_t)(piece->origin + at), (uint32_t)(piece->origin + next)};
            for (; at < next; at++) {
                out[at - from] = span;
            }
        }
    }
    text->size += to - from;
    return STATUS_OK;
}

struct piece aligned_piece(const struct aligned_text *text) {
    return (struct piece){text->bytes, text->size, text->source, 0};
}
