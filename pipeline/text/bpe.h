// SPDX-License-Identifier: MIT
// Byte-pair encoding: a piece of text to ids by merging neighbours, lowest rank first, leftmost on ties.
//
// Byte-level models (GPT-2, Qwen, Llama 3) start from bytes; their vocabulary writes each byte as one
// printable character, and the table of bytes is made once at load, so that pieces stay raw text. Others
// (Llama 2, Mistral v0.1) start from characters; one without a token becomes its bytes <0xNN> where
// byte_fallback is set, else the unknown token.
#ifndef STRATA_TEXT_BPE_H
#define STRATA_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "text/vocabulary.h"

// A merge: (left, right) -> merged. Lower ranks go first.
struct bpe_merge {
    uint64_t pair; // left << 32 | right; BPE_NO_PAIR when free
    uint32_t rank;
    int32_t merged;
};

struct bpe {
    struct vocabulary vocabulary; // texts as they stand in the file
    struct vocabulary raw;        // byte-level with ignore_merges only: the same tokens as raw bytes
    struct bpe_merge *merges;     // [merge_slots], by hash of the pair
    size_t merge_slots;           // a power of two
    bool byte_level;
    bool byte_fallback;
    bool fuse_unknown;
    bool ignore_merges;
    int32_t unknown;        // id of the unknown token or TOKEN_NONE
    int32_t byte_ids[256];  // byte_level: the token of each byte, or TOKEN_NONE
    int32_t fallback[256];  // byte_fallback: the token <0xNN>, or TOKEN_NONE
    int32_t ascii_ids[128]; // not byte_level: the tokens of ASCII characters, or TOKEN_NONE
};

// One token of an encoded piece: its id and how many bytes of the piece it covers.
struct bpe_token {
    int32_t id;
    uint32_t size;
};

struct bpe_scratch; // symbols, heap and word cache of one thread

// Makes the merge table for `count` merges, all free.
int bpe_create_merges(struct bpe *bpe, size_t count, struct error *err);

// Adds a merge; a pair that is there already takes the new rank, as the library's map does.
void bpe_add_merge(struct bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t merged);

// Fills the tables of bytes and characters once the vocabulary and the flags are set.
int bpe_finish(struct bpe *bpe, struct error *err);

// Whether every byte has a token: byte-level, its character; else <0xNN>. Then no character is unknown.
bool bpe_covers_bytes(const struct bpe *bpe);
void bpe_destroy(struct bpe *bpe); // leaves zeros

int bpe_scratch_create(struct bpe_scratch **out, struct error *err);
void bpe_scratch_destroy(struct bpe_scratch *scratch); // accepts NULL

// Encodes a piece (valid UTF-8, not empty). *tokens lives until the scratch is used again.
// STATUS_DATA when a character has no token and there is no unknown token.
int bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const char *text, size_t size,
               const struct bpe_token **tokens, size_t *count, struct error *err);

// The printable character that stands for a byte in a byte-level vocabulary.
uint32_t bpe_byte_character(unsigned char byte);

#endif
