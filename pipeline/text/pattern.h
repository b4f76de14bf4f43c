// SPDX-License-Identifier: MIT
// The patterns of tokenizer.json, written for Oniguruma, matched by PCRE2.
//
// They are translated (pattern_syntax.h); what PCRE2 may match otherwise is refused at load, by name. Where
// PCRE2's Unicode tables differ from the library's, a copy of the text is matched in which such characters
// are replaced by older ones of the same class and length (see unicode_tables.h).
#ifndef STRATA_TEXT_PATTERN_H
#define STRATA_TEXT_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/memory.h"

struct pattern;         // compiled; read-only, shared by threads
struct pattern_scratch; // match data and stack of one thread

// STATUS_DATA when the pattern is broken, can match nothing at all, or is written in a way that is not
// supported.
int pattern_compile(struct pattern **out, const char *regex, struct error *err);

// Matches exactly these bytes (not empty).
int pattern_literal(struct pattern **out, const char *text, size_t size, struct error *err);

// Whether it was compiled from this text.
bool pattern_is(const struct pattern *pattern, const char *regex);

// Whether both match by the same pattern; two NULL are the same.
bool pattern_same(const struct pattern *a, const struct pattern *b);
void pattern_destroy(struct pattern *pattern); // accepts NULL

int pattern_scratch_create(struct pattern_scratch **out, struct error *err);
void pattern_scratch_destroy(struct pattern_scratch *scratch); // accepts NULL

// The text to hand to pattern_find in place of `text`: itself, or a copy in `copy` with substituted
// characters, of the same size.
int pattern_subject(const struct pattern *pattern, const char **subject, const char *text, size_t size,
                    struct buffer *copy, struct error *err);

// The first match at or after `from`: *found, [*start, *end), never empty.
int pattern_find(const struct pattern *pattern, struct pattern_scratch *scratch, const char *subject,
                 size_t size, size_t from, bool *found, size_t *start, size_t *end, struct error *err);

#endif
