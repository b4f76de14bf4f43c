// SPDX-License-Identifier: MIT
#include "text/normal_form.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "base/size.h"
#include "base/utf8.h"
#include "text/unicode_tables.h"

enum {
    DECOMPOSED_LIMIT = 32, // code points from one; the longest in Unicode is 18
    SHORT_RUN = 24,        // marks; longer runs are ordered by counting, so that hostile ones stay linear
    HANGUL_FIRST = 0xAC00,
    HANGUL_LAST = 0xD7A3,
};

struct normal_mark {
    uint32_t code;
    uint8_t class; // canonical combining class
    int32_t
        change; // 0: stands for one input character; 1: more of the one before; -n: stands for n more as well
};

void normal_scratch_destroy(struct normal_scratch *scratch) {
    free(scratch->marks);
    free(scratch->sorted);
    *scratch = (struct normal_scratch){0};
}

static int grow_marks(struct normal_mark **marks, size_t *capacity, size_t count, struct error *err) {
    if (count <= *capacity) {
        return STATUS_OK;
    }
    size_t wanted = size_max(count, *capacity + *capacity / 2);
    void *block = *marks;
    TRY(memory_resize(&block, wanted, sizeof(**marks), err));
    *marks = block;
    *capacity = wanted;
    return STATUS_OK;
}

static bool is_hangul(uint32_t code) {
    return code >= HANGUL_FIRST && code <= HANGUL_LAST;
}

static uint8_t combining_class(uint32_t code) {
    return unicode_normal_active(code)
               ? (uint8_t)utf8proc_get_property((utf8proc_int32_t)code)->combining_class
               : 0;
}

// Whether the piece could differ from its normal form at all.
static bool may_change(enum normal_form form, const struct piece *piece) {
    for (size_t at = 0; at < piece->size;) {
        if ((unsigned char)piece->bytes[at] < 0x80) {
            at++;
            continue;
        }
        uint32_t code = 0;
        size_t step = utf8_decode(piece->bytes + at, piece->size - at, &code);
        bool active =
            form == NORMAL_FORM_C ? unicode_nfc_active(code) : unicode_normal_active(code) || is_hangul(code);
        if (active) {
            return true;
        }
        at += step == 0 ? 1 : step;
    }
    return false;
}

static int decompose(enum normal_form form, struct normal_scratch *scratch, const struct piece *piece,
                     size_t *count, struct error *err) {
    bool compatible = form == NORMAL_FORM_KC || form == NORMAL_FORM_KD;
    utf8proc_option_t options = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE | (compatible ? UTF8PROC_COMPAT : 0);
    *count = 0;
    for (size_t at = 0; at < piece->size;) {
        uint32_t code = 0;
        at += utf8_decode(piece->bytes + at, piece->size - at, &code);
        int status = grow_marks(&scratch->marks, &scratch->capacity, *count + DECOMPOSED_LIMIT, err);
        if (status != STATUS_OK) {
            return status;
        }
        utf8proc_int32_t parts[DECOMPOSED_LIMIT] = {(utf8proc_int32_t)code};
        utf8proc_ssize_t part_count = 1;
        if (is_hangul(code) || unicode_normal_active(code)) {
            int boundary = 0;
            part_count =
                utf8proc_decompose_char((utf8proc_int32_t)code, parts, DECOMPOSED_LIMIT, options, &boundary);
            if (part_count < 1 || part_count > DECOMPOSED_LIMIT) {
                return error_set(err, STATUS_INTERNAL, "cannot decompose U+%04X", (unsigned)code);
            }
        }
        for (utf8proc_ssize_t i = 0; i < part_count; i++) {
            uint32_t part = (uint32_t)parts[i];
            scratch->marks[(*count)++] = (struct normal_mark){part, combining_class(part), i > 0};
        }
    }
    return STATUS_OK;
}

static void order_short(struct normal_mark *marks, size_t count) {
    for (size_t i = 1; i < count; i++) {
        struct normal_mark mark = marks[i];
        size_t to = i;
        for (; to > 0 && marks[to - 1].class > mark.class; to--) {
            marks[to] = marks[to - 1];
        }
        marks[to] = mark;
    }
}

static void order_long(struct normal_mark *marks, size_t count, struct normal_mark *sorted) {
    size_t first[257] = {0};
    for (size_t i = 0; i < count; i++) {
        first[marks[i].class + 1]++;
    }
    for (size_t class = 1; class < 257; class ++) {
        first[class] += first[class - 1];
    }
    for (size_t i = 0; i < count; i++) {
        sorted[first[marks[i].class]++] = marks[i];
    }
    memcpy(marks, sorted, count * sizeof(*marks));
}

// Canonical ordering: each run of marks by class, stable.
static int order_marks(struct normal_scratch *scratch, size_t count, struct error *err) {
    struct normal_mark *marks = scratch->marks;
    for (size_t at = 0; at < count;) {
        size_t end = at;
        while (end < count && marks[end].class != 0) {
            end++;
        }
        if (end - at > SHORT_RUN) {
            int status = grow_marks(&scratch->sorted, &scratch->sorted_capacity, end - at, err);
            if (status != STATUS_OK) {
                return status;
            }
            order_long(marks + at, end - at, scratch->sorted);
        } else {
            order_short(marks + at, end - at);
        }
        at = end + 1;
    }
    return STATUS_OK;
}

// The composition of two code points, or 0.
static uint32_t compose_pair(uint32_t first, uint32_t second) {
    if (!unicode_normal_active(second)) {
        return 0;
    }
    utf8proc_int32_t pair[3] = {(utf8proc_int32_t)first, (utf8proc_int32_t)second, 0};
    utf8proc_option_t options = UTF8PROC_COMPOSE | UTF8PROC_STABLE;
    if (utf8proc_normalize_utf32(pair, 2, options) != 1) {
        return 0;
    }
    uint32_t composed = (uint32_t)pair[0];
    return is_hangul(composed) || unicode_normal_active(composed) ? composed : 0;
}

// Composes in place; returns the marks that are left.
static size_t compose(struct normal_mark *marks, size_t count) {
    size_t kept = 0;
    struct normal_mark *starter = NULL;
    int last_class = -1; // of the marks kept since the starter; -1: none
    for (size_t i = 0; i < count; i++) {
        struct normal_mark mark = marks[i];
        bool blocked = last_class >= (int)mark.class;
        uint32_t composed = starter == NULL || blocked ? 0 : compose_pair(starter->code, mark.code);
        if (composed != 0) {
            starter->code = composed;
            starter->change += mark.change - 1;
            continue;
        }
        marks[kept] = mark;
        if (mark.class == 0) {
            starter = &marks[kept];
            last_class = -1;
        } else if (starter != NULL) {
            last_class = mark.class;
        }
        kept++;
    }
    return kept;
}

static int write_marks(const struct normal_mark *marks, size_t count, const struct piece *piece,
                       struct aligned_text *out, struct error *err) {
    struct source_span last = {0, 0}; // of the last input character read
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        struct source_span span = last;
        if (marks[i].change <= 0) {
            // The library gives a joined character the first one's span only.
            span = piece_span(piece, at, at + 1);
            for (int32_t read = marks[i].change; read <= 0 && at < piece->size; read++) {
                last = piece_span(piece, at, at + 1);
                at += utf8_lead_size(piece->bytes[at]);
            }
        }
        char bytes[4];
        size_t size = utf8_write(marks[i].code, bytes);
        int status = aligned_append(out, bytes, size, span, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

int normal_form_apply(enum normal_form form, struct normal_scratch *scratch, const struct piece *piece,
                      struct aligned_text *out, bool *changed, struct error *err) {
    *changed = may_change(form, piece);
    if (!*changed) {
        return STATUS_OK;
    }
    size_t count = 0;
    TRY(decompose(form, scratch, piece, &count, err));
    TRY(order_marks(scratch, count, err));
    if (form == NORMAL_FORM_C || form == NORMAL_FORM_KC) {
        count = compose(scratch->marks, count);
    }
    return write_marks(scratch->marks, count, piece, out, err);
}
