// SPDX-License-Identifier: MIT
#include "text/pretokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "text/bpe.h"

struct split_part {
    size_t from;
    size_t to;
    bool match;
};

// One call of pretokenizer_run: each step hands its parts to the next before it goes on, so words come in
// order.
struct run {
    const struct pretokenizer *pretokenizer;
    struct pretokenizer_scratch *scratch;
    word_sink sink;
    void *context;
};

static int run_step(const struct run *run, size_t at, const struct piece *piece, struct error *err);

static int hand_on(const struct run *run, size_t at, const struct piece *piece, size_t from, size_t to,
                   struct error *err) {
    struct piece part = piece_slice(piece, from, to);
    if (at + 1 == run->pretokenizer->count) {
        return run->sink(run->context, &part, err);
    }
    return run_step(run, at + 1, &part, err);
}

// The first character of a kind at or after `from`.
static bool find_character(bool (*is_kind)(uint32_t), const char *text, size_t size, size_t from,
                           size_t *start, size_t *end) {
    for (size_t at = from; at < size;) {
        uint32_t code = (unsigned char)text[at];
        size_t step = code < 0x80 ? 1 : utf8_decode(text + at, size - at, &code);
        if (is_kind(code)) {
            *start = at;
            *end = at + step;
            return true;
        }
        at += step == 0 ? 1 : step;
    }
    return false;
}

static int find_match(const struct run *run, const struct pretokenizer_step *step, const char *subject,
                      size_t size, size_t from, bool *found, size_t *start, size_t *end, struct error *err) {
    if (step->pattern == NULL) {
        *found = find_character(step->character, subject, size, from, start, end);
        return STATUS_OK;
    }
    return pattern_find(step->pattern, run->scratch->patterns, subject, size, from, found, start, end, err);
}

static int split_isolated(const struct run *run, size_t at, const struct piece *piece, const char *subject,
                          struct error *err) {
    const struct pretokenizer_step *step = &run->pretokenizer->steps[at];
    size_t done = 0;
    while (done < piece->size) {
        bool found = false;
        size_t start = piece->size;
        size_t end = piece->size;
        TRY(find_match(run, step, subject, piece->size, done, &found, &start, &end, err));
        if (start > done) {
            TRY(hand_on(run, at, piece, done, start, err));
        }
        if (found) {
            TRY(hand_on(run, at, piece, start, end, err));
        }
        done = end;
    }
    return STATUS_OK;
}

static int add_part(struct pretokenizer_scratch *scratch, size_t at, size_t *count, struct split_part part,
                    struct error *err) {
    if (*count == scratch->part_capacity[at]) {
        size_t wanted = size_max(64, *count + *count / 2);
        void *parts = scratch->parts[at];
        TRY(memory_resize(&parts, wanted, sizeof(part), err));
        scratch->parts[at] = parts;
        scratch->part_capacity[at] = wanted;
    }
    scratch->parts[at][(*count)++] = part;
    return STATUS_OK;
}

// Cuts the whole piece into matches and what lies between them.
static int find_parts(const struct run *run, size_t at, const struct piece *piece, const char *subject,
                      size_t *count, struct error *err) {
    const struct pretokenizer_step *step = &run->pretokenizer->steps[at];
    *count = 0;
    for (size_t done = 0; done < piece->size;) {
        bool found = false;
        size_t start = piece->size;
        size_t end = piece->size;
        TRY(find_match(run, step, subject, piece->size, done, &found, &start, &end, err));
        if (start > done) {
            TRY(add_part(run->scratch, at, count, (struct split_part){done, start, step->invert}, err));
        }
        if (found) {
            TRY(add_part(run->scratch, at, count, (struct split_part){start, end, !step->invert}, err));
        }
        done = end;
    }
    return STATUS_OK;
}

// Joins neighbours as the behaviour says; returns how many parts are left.
static size_t join_parts(enum split_behavior behavior, struct split_part *parts, size_t count) {
    size_t kept = 0;
    bool previous = false;
    for (size_t i = 0; i < count; i++) {
        struct split_part part = parts[i];
        bool join = behavior == SPLIT_CONTIGUOUS ? part.match == previous : part.match && !previous;
        previous = part.match;
        if (join && kept > 0) {
            parts[kept - 1].to = part.to;
        } else {
            parts[kept++] = part;
        }
    }
    return kept;
}

// As join_parts, from the right: a match goes with what follows it. Leaves the parts at the end of the array.
static size_t join_next(struct split_part *parts, size_t count) {
    size_t first = count;
    bool previous = false;
    for (size_t i = count; i-- > 0;) {
        struct split_part part = parts[i];
        bool join = part.match && !previous;
        previous = part.match;
        if (join && first < count) {
            parts[first].from = part.from;
        } else {
            parts[--first] = part;
        }
    }
    return first;
}

static int split_joined(const struct run *run, size_t at, const struct piece *piece, const char *subject,
                        struct error *err) {
    enum split_behavior behavior = run->pretokenizer->steps[at].behavior;
    size_t count = 0;
    TRY(find_parts(run, at, piece, subject, &count, err));
    size_t first = 0;
    if (behavior == SPLIT_MERGED_WITH_NEXT) {
        first = join_next(run->scratch->parts[at], count);
    } else if (behavior != SPLIT_REMOVED) {
        count = join_parts(behavior, run->scratch->parts[at], count);
    }
    for (size_t i = first; i < count; i++) {
        struct split_part part = run->scratch->parts[at][i];
        if (behavior != SPLIT_REMOVED || !part.match) {
            TRY(hand_on(run, at, piece, part.from, part.to, err));
        }
    }
    return STATUS_OK;
}

static int replace_spaces(const struct pretokenizer_step *step, const struct piece *piece,
                          struct aligned_text *out, struct error *err) {
    out->size = 0;
    TRY(aligned_reserve(out, piece->size, err));
    size_t copied = 0;
    while (copied < piece->size) {
        const char *space = memchr(piece->bytes + copied, ' ', piece->size - copied);
        size_t at = space == NULL ? piece->size : (size_t)(space - piece->bytes);
        TRY(aligned_copy(out, piece, copied, at, err));
        if (space != NULL) {
            TRY(aligned_append(out, step->space, step->space_size, piece_span(piece, at, at + 1), err));
        }
        copied = at + 1;
    }
    return STATUS_OK;
}

static int spell_bytes(const struct piece *piece, struct aligned_text *out, struct error *err) {
    out->size = 0;
    TRY(aligned_reserve(out, piece->size, err));
    for (size_t at = 0; at < piece->size; at++) {
        char bytes[4];
        size_t size = utf8_write(bpe_byte_character((unsigned char)piece->bytes[at]), bytes);
        TRY(aligned_append(out, bytes, size, piece_span(piece, at, at + 1), err));
    }
    return STATUS_OK;
}

static bool wants_prefix(const struct pretokenizer_step *step, const struct piece *piece) {
    if (step->prefix_rule == PREFIX_NEVER ||
        (piece->size >= step->prefix_size && memcmp(piece->bytes, step->prefix, step->prefix_size) == 0)) {
        return false;
    }
    return step->prefix_rule == PREFIX_ALWAYS || piece_span(piece, 0, 1).start == 0;
}

static int run_step(const struct run *run, size_t at, const struct piece *whole, struct error *err) {
    const struct pretokenizer_step *step = &run->pretokenizer->steps[at];
    struct pretokenizer_scratch *scratch = run->scratch;
    struct piece piece = *whole;
    if (step->spells_bytes) {
        TRY(spell_bytes(&piece, &scratch->spelled[at], err));
        piece = aligned_piece(&scratch->spelled[at]);
    }
    if (step->space != NULL) {
        TRY(replace_spaces(step, &piece, &scratch->spaced[at], err));
        piece = aligned_piece(&scratch->spaced[at]);
    }
    if (wants_prefix(step, &piece)) {
        struct aligned_text *text = &scratch->prefixed[at];
        text->size = 0;
        TRY(aligned_append(text, step->prefix, step->prefix_size, piece_span(&piece, 0, 1), err));
        TRY(aligned_copy(text, &piece, 0, piece.size, err));
        piece = aligned_piece(text);
    }
    if (step->behavior == SPLIT_NOTHING) {
        return hand_on(run, at, &piece, 0, piece.size, err);
    }
    const char *subject = piece.bytes;
    if (step->pattern != NULL) {
        TRY(pattern_subject(step->pattern, &subject, piece.bytes, piece.size, &scratch->subjects[at], err));
    }
    bool isolated = step->behavior == SPLIT_ISOLATED;
    return isolated ? split_isolated(run, at, &piece, subject, err)
                    : split_joined(run, at, &piece, subject, err);
}

int pretokenizer_run(const struct pretokenizer *pretokenizer, struct pretokenizer_scratch *scratch,
                     struct piece piece, word_sink sink, void *context, struct error *err) {
    if (pretokenizer->count == 0) {
        return sink(context, &piece, err);
    }
    struct run run = {pretokenizer, scratch, sink, context};
    return run_step(&run, 0, &piece, err);
}

void pretokenizer_scratch_destroy(struct pretokenizer_scratch *scratch) {
    for (size_t i = 0; i < PRETOKENIZER_STEPS; i++) {
        aligned_destroy(&scratch->spelled[i]);
        aligned_destroy(&scratch->spaced[i]);
        aligned_destroy(&scratch->prefixed[i]);
        buffer_destroy(&scratch->subjects[i]);
        free(scratch->parts[i]);
    }
    *scratch = (struct pretokenizer_scratch){0};
}
