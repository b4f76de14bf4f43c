// SPDX-License-Identifier: MIT
// The list of added tokens of a tokenizer.json, and what the members of the files beside it make of it:
// tokens that they add, flags that they change (tokenizer_companions.h says in which order).
#ifndef STRATA_TEXT_COMPANION_TOKENS_H
#define STRATA_TEXT_COMPANION_TOKENS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/memory.h"

// The list of tokens under work.
struct companion_tokens {
    json_t *list;  // of tokenizer.json's added_tokens
    json_t *index; // content -> place in the list
    size_t known;  // tokens that were there before the special ones
    bool flagged;  // a special token has a flag
    bool moved;    // the files number tokens otherwise than in the order of the list
    struct buffer *changes;
};

// Makes the index of the list; the caller's to release (json_decref), also after a failure.
int companion_tokens_index(struct companion_tokens *tokens, struct error *err);

// Takes members of a configuration away that transformers does not look at.
void companion_tokens_drop_replaced(json_t *config);

// Of added_tokens_decoder; *lacks: it lacks a token of tokenizer.json.
int companion_tokens_put_decoder(struct companion_tokens *tokens, const json_t *decoder, bool *lacks,
                                 struct error *err);

// Of added_tokens.json.
int companion_tokens_put_added(struct companion_tokens *tokens, const json_t *added, const json_t *config,
                               struct error *err);

// bos_token and the like, other *_token members, and the extra special tokens.
int companion_tokens_put_specials(struct companion_tokens *tokens, const json_t *config, struct error *err);

// Whether Qwen2Tokenizer has special tokens with other flags, or more of them. Asked last.
bool companion_tokens_differ_in_qwen2(const struct companion_tokens *tokens, const json_t *config);

#endif
