// SPDX-License-Identifier: MIT
// The words of a model: text to id and id to text.
#ifndef STRATA_TEXT_VOCABULARY_H
#define STRATA_TEXT_VOCABULARY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    TOKEN_NONE = -1,
    TOKEN_ID_LIMIT = 1 << 24, // ids of real vocabularies stay below 2^20; a hostile one must not size a table
};

struct vocabulary_entry {
    const char *text; // in the vocabulary's own block; NULL where an id has no token
    uint32_t size;
};

struct vocabulary {
    struct vocabulary_entry *entries; // [limit], by id
    size_t limit;                     // one more than the highest id
    size_t count;                     // tokens
    int32_t *slots;                   // [slot_count], ids by hash of the text, TOKEN_NONE when free
    size_t slot_count;                // a power of two, at least twice count
    char *block;                      // all texts
    size_t block_size;
    size_t block_capacity;
};

// Room for `count` tokens of `bytes` bytes in all, ids below `limit`.
int vocabulary_create(struct vocabulary *vocabulary, size_t count, size_t bytes, size_t limit,
                      struct error *err);
void vocabulary_destroy(struct vocabulary *vocabulary); // leaves zeros

// Adds a token. STATUS_DATA when the text or the id is there already.
int vocabulary_add(struct vocabulary *vocabulary, const char *text, size_t size, int32_t id,
                   struct error *err);

// The id of a text, or TOKEN_NONE.
int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *text, size_t size);

// A hash of bytes for tables in memory (not stable across versions).
uint64_t text_hash(const char *text, size_t size);

#endif
