// SPDX-License-Identifier: MIT
// UTF-8 as Unicode defines it: shortest forms only, no surrogates, nothing above U+10FFFF.
#ifndef STRATA_BASE_UTF8_H
#define STRATA_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Bytes of the character at text[0..size), or 0 when it is not valid UTF-8. *code gets the code point.
size_t utf8_decode(const char *text, size_t size, uint32_t *code);

// Writes a code point (not a surrogate, at most U+10FFFF); returns 1 to 4 bytes.
// (jansson has a utf8_encode of its own, which a program with all libraries in it would meet.)
size_t utf8_write(uint32_t code, char out[4]);

// True when all of it is valid; otherwise *offset is the first bad byte.
bool utf8_valid(const char *text, size_t size, size_t *offset);

#endif
