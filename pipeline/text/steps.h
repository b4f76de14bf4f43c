// SPDX-License-Identifier: MIT
// Reasoning steps as byte spans of the rendered text, and as token spans.
#ifndef STRATA_TEXT_STEPS_H
#define STRATA_TEXT_STEPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "text/tokenizer.h"

struct byte_span { // [start, end) of the rendered text
    uint32_t start;
    uint32_t end;
};

struct span_list {
    struct byte_span *spans;
    size_t count;
    size_t capacity;
};

void span_list_destroy(struct span_list *list); // accepts zeros; leaves zeros

// Parses a JSON array of strings and appends the strings joined by `separator` to `joined`; spans (relative
// to where `joined` began) get one step each, without the separator. STATUS_DATA when it is not such an
// array.
int steps_from_array(const char *json, size_t size, const char *separator, struct buffer *joined,
                     struct span_list *spans, struct error *err);

// Appends the spans of a JSON array, each {"role": ..., "start": ..., "end": ...} or [start, end] in bytes of
// `text` (valid UTF-8): ascending, disjoint, within it, between characters; STATUS_DATA says which is not.
// With `roles` only spans of these [role_count] are kept, and one without a role is STATUS_DATA; NULL: all.
// `names` gets the role of each span kept, ended by a 0 ("" without one).
int steps_from_spans(const char *json, size_t size, const char *text, size_t text_size, char *const *roles,
                     size_t role_count, struct span_list *spans, struct buffer *names, struct error *err);

int span_list_add(struct span_list *list, size_t start, size_t end, struct error *err);

struct step_pattern; // a compiled pattern

int step_pattern_compile(struct step_pattern **out, const char *pattern,
                         struct error *err); // STATUS_JOB with the place
void step_pattern_destroy(struct step_pattern *pattern);

// A step begins at each match and ends where the next begins (the last at the end of the text). Text before
// the first match belongs to no step; no match: the whole text is one step.
int steps_from_pattern(const struct step_pattern *pattern, const char *text, size_t size,
                       struct span_list *spans, struct error *err);

// Tokens [start, end) owned by each step: those whose first byte lies in the step's span. A step that owns
// none (cut off by truncation, or empty) has start == end. Steps are ascending and disjoint; tokens are in
// text order except those added by the template (first < 0), which no step owns.
struct token_span {
    uint32_t start;
    uint32_t end;
};

void steps_own_tokens(const struct byte_span *steps, size_t step_count, const int64_t *first,
                      size_t token_count, struct token_span *out);

#endif
