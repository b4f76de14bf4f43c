// SPDX-License-Identifier: MIT
// The walk over a pattern that pattern_syntax.c (groups, quantifiers) and pattern_class.c (characters and
// classes of them) share.
#ifndef STRATA_TEXT_PATTERN_WALK_H
#define STRATA_TEXT_PATTERN_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

struct pattern_walk {
    const char *regex;
    size_t at;       // the next byte of regex
    bool properties; // it asks for classes that PCRE2 may know otherwise
    bool spaces;     // it asks for white space, in which PCRE2 counts U+180E
    bool spell;      // write white space as its code points
    bool splits;     // it tells a character from the one that is matched in its place then
    size_t split_at; // before this byte
    struct error *err;
};

static inline int pattern_refuse(const struct pattern_walk *walk, const char *what) {
    return error_set(walk->err, STATUS_DATA, "%s at byte %zu is not supported", what, walk->at);
}

static inline bool pattern_at(const struct pattern_walk *walk, const char *text) {
    return strncmp(walk->regex + walk->at, text, strlen(text)) == 0;
}

// Each appends to `out` what matches one character: at a backslash; at any other character that stands for
// itself; at a bracket.
int pattern_escape(struct pattern_walk *walk, struct buffer *out);
int pattern_character(struct pattern_walk *walk, struct buffer *out);
int pattern_class(struct pattern_walk *walk, struct buffer *out);

// At \b or \B: appends what matches there between two characters.
int pattern_boundary(struct pattern_walk *walk, struct buffer *out);

#endif
