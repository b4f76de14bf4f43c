// SPDX-License-Identifier: MIT
// The "post_processor" of tokenizer.json: tokens put before and after a text, and offsets trimmed of spaces.
#ifndef STRATA_TEXT_POSTPROCESSOR_H
#define STRATA_TEXT_POSTPROCESSOR_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { TEMPLATE_TOKENS = 64 };

struct postprocessor {
    bool trim_offsets;     // ByteLevel
    bool add_prefix_space; // the trimming spares a first space that ByteLevel put there
    bool has_template;
    int32_t before[TEMPLATE_TOKENS];
    size_t before_count;
    int32_t after[TEMPLATE_TOKENS];
    size_t after_count;
};

// Reads the file's block (NULL: none). Templates of pairs are ignored. STATUS_DATA names what is unknown or
// wrong.
int postprocessor_load(struct postprocessor *postprocessor, const json_t *json, struct error *err);

// Shrinks a token's span [*start, *end) of `text` by the spaces its own text starts and ends with. `first`
// when it is the text's first token. Counts in characters, as the library's Python offsets do.
void postprocessor_trim(const struct postprocessor *postprocessor, const char *text, const char *token,
                        size_t token_size, bool first, uint32_t *start, uint32_t *end);

#endif
