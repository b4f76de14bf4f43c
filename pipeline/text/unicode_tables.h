// SPDX-License-Identifier: MIT
// Unicode as the `tokenizers` library knows it, where PCRE2 and utf8proc know another version.
#ifndef STRATA_TEXT_UNICODE_TABLES_H
#define STRATA_TEXT_UNICODE_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The first character at or after `from` (a character's start) that PCRE2 classes otherwise than the library;
// `size` when none.
size_t unicode_find_substitute(const char *text, size_t size, size_t from);

// Overwrites such a character by one that PCRE2 classes as the library classes the old one; returns its
// bytes.
size_t unicode_substitute(char *text, size_t size);

// True when a range of code points holds such a character and not the one that is matched in its place, or
// the other way round.
bool unicode_range_splits(uint32_t first, uint32_t last);

// True when NFC may change this character or join it to one before it.
bool unicode_nfc_active(uint32_t code);

// True when the character has a decomposition, a combining class or a part in a composition (Hangul syllables
// aside).
bool unicode_normal_active(uint32_t code);

bool unicode_is_word(uint32_t code);    // \w of Rust's regex, beside a single_word token
bool unicode_is_numeric(uint32_t code); // char::is_numeric of Rust
bool unicode_is_space(uint32_t code);   // White_Space

// What the pre-tokenizer Punctuation takes for it: all that is in ASCII, symbols with it, and Unicode's.
bool unicode_is_punctuation(uint32_t code);

// Lower case, one or two code points; returns how many.
size_t unicode_lower(uint32_t code, uint32_t out[2]);

#endif
