// SPDX-License-Identifier: MIT
// Added tokens: texts that are cut out of the input before the model sees it.
//
// The library keeps two sets: tokens with normalized:false are looked for in the raw text, the others, in
// their normalized form, in each normalized piece that is left. Matches are leftmost, then longest, and do
// not overlap.
#ifndef STRATA_TEXT_ADDED_TOKENS_H
#define STRATA_TEXT_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "text/aligned.h"

struct added_token {
    int32_t id;
    bool single_word; // not beside a word character
    bool left_strip;  // takes the white space before it
    bool right_strip; // and after it
};

struct token_node; // of a tree of bytes

struct added_set {
    struct added_token *tokens;
    size_t count;
    size_t token_capacity;
    struct token_node *nodes;
    size_t node_count;
    size_t node_capacity;
    uint32_t roots[256]; // node of the first byte, 0 when no token starts with it
    int only_first;      // the first byte of every token when they share one, else -1
};

// Adds a token with the text to look for. STATUS_DATA when it is empty or there already.
int added_set_add(struct added_set *set, const char *text, size_t size, struct added_token token,
                  struct error *err);
void added_set_destroy(struct added_set *set); // leaves zeros

// A part of a text: a token, or what lies between tokens (token NULL).
struct added_part {
    size_t from;
    size_t to;
    const struct added_token *token;
};

// A walk over a text; start with zeros but for text and size.
struct added_walk {
    const char *text;
    size_t size;
    size_t searched; // where the next match may start
    size_t done;     // up to here parts were handed out
    struct added_part pending;
};

// The next part, never empty; false at the end.
bool added_set_next(const struct added_set *set, struct added_walk *walk, struct added_part *part);

#endif
