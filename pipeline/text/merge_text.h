// SPDX-License-Identifier: MIT
// A merge as files write it: two texts, or one text with exactly one space between its two sides.
#ifndef STRATA_TEXT_MERGE_TEXT_H
#define STRATA_TEXT_MERGE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "text/bpe.h"

struct merge_text {
    const char *left;
    size_t left_size;
    const char *right;
    size_t right_size;
};

// False unless the text has exactly one space, and something on both sides of it.
bool merge_text_split(struct merge_text *out, const char *text, size_t size);

// Adds the merge to the table; `joined` is working memory. STATUS_DATA when the vocabulary lacks a side or
// what they make.
int merge_text_add(struct bpe *bpe, const struct merge_text *merge, uint32_t rank, struct buffer *joined,
                   struct error *err);

#endif
