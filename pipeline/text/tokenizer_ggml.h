// SPDX-License-Identifier: MIT
// A tokenizer from the vocabulary that a GGUF file carries in its own keys, tokenizer.ggml.*: byte-level BPE
// (model "gpt2", split as the name in `pre` says) and SentencePiece-style BPE (model "llama").
//
// Ids are those of the tokenizer.json of the models that such files are made from, as far as the keys tell:
// - Tokens of the types control, user defined and unknown are added tokens, found in the raw text. Flags of
//   theirs (lstrip, rstrip, single_word) are not in the file.
// - A file does not say whether texts are normalised: they are not, and tokenizer_warnings says so where the
//   models' tokenizer.json composes characters (NFC).
// - SentencePiece-style files have scores in place of merges; where one has both, merges count. Merges are
//   derived as transformers derives them: any two normal tokens whose texts together are a third, best score
//   first. On equal scores the longer left side goes first, where SentencePiece takes the pair that is
//   leftmost in the text.
// - The space before a text goes before its first piece only, as transformers' LlamaTokenizer puts it.
#ifndef STRATA_TEXT_TOKENIZER_GGML_H
#define STRATA_TEXT_TOKENIZER_GGML_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "text/tokenizer.h"

struct ggml_text { // need not end with a NUL
    const char *bytes;
    size_t size;
};

enum ggml_token_type { // of tokenizer.ggml.token_type
    GGML_TOKEN_NORMAL = 1,
    GGML_TOKEN_UNKNOWN = 2,
    GGML_TOKEN_CONTROL = 3,
    GGML_TOKEN_USER_DEFINED = 4,
    GGML_TOKEN_UNUSED = 5,
    GGML_TOKEN_BYTE = 6,
};

enum { GGML_ABSENT = -1 };

// The values of the keys, each named as its key; nothing in them was checked. An array that the file lacks is
// NULL with the count 0, a text NULL, a number or flag GGML_ABSENT.
struct ggml_vocabulary {
    const char *model;
    const char *pre;
    const struct ggml_text *tokens; // by id
    size_t token_count;
    const int32_t *token_types;
    size_t token_type_count;
    const float *scores;
    size_t score_count;
    const struct ggml_text *merges;
    size_t merge_count;
    int64_t bos_token_id;
    int64_t eos_token_id;
    int64_t unknown_token_id;
    int add_bos_token; // flags: 0 or 1
    int add_eos_token;
    int add_space_prefix;
};

// Nothing of it is kept. `name` stands for the file in messages. STATUS_DATA with key, place and reason when
// a value is missing, broken or not supported.
//
// tokenizer_fingerprint of it is SHA-256 over the values in the order of the struct: texts as base/digest.h
// writes a field, numbers and flags as 8 bytes of their two's complement, an array as its count and its
// values one after another (types and scores: the 4 bytes of each, little-endian); what is absent is the
// number -1.
int tokenizer_from_ggml(struct tokenizer **out, const struct ggml_vocabulary *vocabulary, const char *name,
                        struct error *err);

#endif
