// SPDX-License-Identifier: MIT
// What of Oniguruma's syntax is understood, written as PCRE2 reads it.
#ifndef STRATA_TEXT_PATTERN_SYNTAX_H
#define STRATA_TEXT_PATTERN_SYNTAX_H

#include <stdbool.h>

#include "base/error.h"
#include "base/memory.h"

// Writes the pattern that means to PCRE2 what `regex` (valid UTF-8) means to Oniguruma. STATUS_DATA, naming
// the part and its place, when it holds anything whose meaning is not known to be kept. *substitutes: it asks
// for properties of characters, so that texts must be matched with stand-ins (unicode_tables.h).
int pattern_translate(struct buffer *out, bool *substitutes, const char *regex, struct error *err);

#endif
