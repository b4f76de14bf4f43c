// SPDX-License-Identifier: MIT
// The "pre_tokenizer" of tokenizer.json: steps that cut a normalized piece into the words that BPE sees one
// by one.
#ifndef STRATA_TEXT_PRETOKENIZER_H
#define STRATA_TEXT_PRETOKENIZER_H

#include <jansson.h>

#include "base/memory.h"
#include "text/aligned.h"
#include "text/pattern.h"

enum { PRETOKENIZER_STEPS = 16 };

// What happens to the matches of a split.
enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS,
    SPLIT_NOTHING, // the piece stays whole
};

enum prefix_rule {
    PREFIX_NEVER,
    PREFIX_FIRST, // only the piece that starts the text
    PREFIX_ALWAYS,
};

// Every kind of step is these things in this order: spell bytes, replace spaces, put a prefix before, split.
struct pretokenizer_step {
    bool spells_bytes; // it follows ByteLevel: what is handed to it becomes one character for each byte
    char *space;       // what a space becomes (Metaspace), or NULL
    size_t space_size;
    enum prefix_rule prefix_rule;
    char *prefix; // put before a piece that does not start with it
    size_t prefix_size;
    enum split_behavior behavior;
    bool invert;                 // what does not match is the match
    struct pattern *pattern;     // of a match, or NULL:
    bool (*character)(uint32_t); // a match is one of these characters
};

struct pretokenizer {
    struct pretokenizer_step steps[PRETOKENIZER_STEPS];
    size_t count;
    bool byte_level; // the last step is ByteLevel: words are raw bytes to a byte-level model, not spelled
};

struct split_part; // a stretch of a piece, matched or not

struct pretokenizer_scratch {
    struct aligned_text spelled[PRETOKENIZER_STEPS];
    struct aligned_text spaced[PRETOKENIZER_STEPS];
    struct aligned_text prefixed[PRETOKENIZER_STEPS];
    struct buffer subjects[PRETOKENIZER_STEPS];
    struct split_part *parts[PRETOKENIZER_STEPS];
    size_t part_capacity[PRETOKENIZER_STEPS];
    struct pattern_scratch *patterns; // borrowed
};

// Receives the words in order; `word` is valid during the call.
typedef int (*word_sink)(void *context, const struct piece *word, struct error *err);

// Reads the file's block (NULL: no pre-tokenizer). STATUS_DATA names what is unknown or wrong.
int pretokenizer_load(struct pretokenizer *pretokenizer, const json_t *json, struct error *err);

// Whether both cut texts by the same steps.
bool pretokenizer_same(const struct pretokenizer *a, const struct pretokenizer *b);
void pretokenizer_destroy(struct pretokenizer *pretokenizer); // leaves zeros

// Cuts a piece that is not empty into words and hands each to `sink`.
int pretokenizer_run(const struct pretokenizer *pretokenizer, struct pretokenizer_scratch *scratch,
                     struct piece piece, word_sink sink, void *context, struct error *err);
void pretokenizer_scratch_destroy(struct pretokenizer_scratch *scratch); // leaves zeros

#endif
