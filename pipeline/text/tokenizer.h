// SPDX-License-Identifier: MIT
// A tokenizer read from tokenizer.json: byte-level BPE (GPT-2, Qwen, Llama 3, DeepSeek) and
// SentencePiece-style BPE with byte fallback (Llama 2, Gemma). Ids and offsets equal those of the
// `tokenizers` library for the parts it accepts; a component it does not know is refused by name at load
// time, never approximated. tokenizer_ggml.h makes the same from the keys of a GGUF file.
#ifndef STRATA_TEXT_TOKENIZER_H
#define STRATA_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/memory.h"

struct tokenizer;         // read-only after loading; shared by threads
struct tokenizer_scratch; // working memory and word cache of one thread

// Loads `path` (a tokenizer.json), with the tokens that tokenizer_config.json, special_tokens_map.json and
// added_tokens.json in its folder add, as transformers does. STATUS_DATA with file, place and reason when one
// is broken or unknown.
int tokenizer_load(struct tokenizer **out, const char *path, struct error *err);

// tokenizer.json alone, from memory; `name` stands for the source in messages.
int tokenizer_parse(struct tokenizer **out, const char *json, size_t size, const char *name,
                    struct error *err);
void tokenizer_destroy(struct tokenizer *tokenizer); // accepts NULL

// One more than the highest id it can produce.
size_t tokenizer_id_limit(const struct tokenizer *tokenizer);

// Versions of the libraries whose Unicode tables decide what a text becomes, for the identity.
enum { TOKENIZER_LIBRARY = 96 };
const char *tokenizer_library(char out[TOKENIZER_LIBRARY]);

// SHA-256 of the file, or of the values in a GGUF file, 64 hex digits.
const char *tokenizer_fingerprint(const struct tokenizer *tokenizer);

// What the files beside it change, a line for each token: "adds {...}", "changes {...}"; "" when nothing. And
// the SHA-256 of these lines, or "".
const char *tokenizer_changes(const struct tokenizer *tokenizer);
const char *tokenizer_changes_fingerprint(const struct tokenizer *tokenizer);

// Appends a line for all that changes, where there is any.
int tokenizer_notes(const struct tokenizer *tokenizer, struct buffer *out, struct error *err);

// Appends a line for each thing that may make the ids of transformers' AutoTokenizer others, in a model
// folder whose config.json names this model_type and tokenizer_class ("": none).
int tokenizer_warnings(const struct tokenizer *tokenizer, const char *model_type, const char *config_class,
                       struct buffer *out, struct error *err);

int tokenizer_scratch_create(struct tokenizer_scratch **out, const struct tokenizer *tokenizer,
                             struct error *err);
void tokenizer_scratch_destroy(struct tokenizer_scratch *scratch); // accepts NULL

enum { TOKEN_ADDED_BY_TEMPLATE = -1 };

// One encoded text; owned by the scratch, valid until its next use.
struct encoding {
    const int32_t *ids;
    const uint32_t *start; // byte offsets in the text as the library reports them: [start, end)
    const uint32_t *end;
    const int64_t
        *first; // exact first byte before any trimming, TOKEN_ADDED_BY_TEMPLATE for BOS and the like
    size_t count;
    size_t special_count; // tokens that the post-processor adds to any text (what truncation must leave room
                          // for)
};

// Encodes valid UTF-8 of at most UINT32_MAX bytes. special_tokens: let the post-processor add its BOS/EOS.
// STATUS_DATA when the text is not valid UTF-8 or has a character the model has no token for and no unknown
// token. Truncation is the caller's: the file's "truncation" and "padding" blocks are ignored, as
// transformers does.
int tokenizer_encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch, const char *text,
                     size_t size, bool special_tokens, struct encoding *out, struct error *err);

// As above, cut to max_tokens as transformers' truncation=True does (special tokens kept, content cut on the
// right). *truncated tells whether anything was cut. max_tokens 0: no limit.
int tokenizer_encode_truncated(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                               const char *text, size_t size, bool special_tokens, size_t max_tokens,
                               bool *truncated, struct encoding *out, struct error *err);

// Whether the text is, as a whole, an added token.
bool tokenizer_knows(const struct tokenizer *tokenizer, const char *text, size_t size);

// The vocabulary's text of an id (byte-level characters as they stand in the file), or NULL when there is
// none.
const char *tokenizer_token(const struct tokenizer *tokenizer, int32_t id, size_t *size);

#endif
