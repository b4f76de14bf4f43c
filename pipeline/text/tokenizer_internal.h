// SPDX-License-Identifier: MIT
// The parts of a tokenizer, filled by tokenizer_load.c and used by tokenizer.c.
#ifndef STRATA_TEXT_TOKENIZER_INTERNAL_H
#define STRATA_TEXT_TOKENIZER_INTERNAL_H

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/ggml_pre.h"
#include "text/normalizer.h"
#include "text/postprocessor.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_companions.h"

// The pattern by which transformers' Qwen2Tokenizer and the tokenizer.json of its models split.
#define QWEN2_PATTERN                                                                                        \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"      \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

// The same of Qwen3_5Tokenizer.
#define QWEN3_5_PATTERN                                                                                      \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+"  \
    "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

// What to do about a GGUF file whose own keys do not say enough.
#define GGML_ADVICE "put the model's tokenizer.json beside the file, or name one with model.tokenizer"

struct tokenizer {
    struct added_set raw_tokens;        // normalized:false, found in the raw text
    struct added_set normalized_tokens; // found in normalized pieces
    struct normalizer normalizer;
    struct pretokenizer pretokenizer;
    struct bpe bpe;
    struct postprocessor postprocessor;
    struct vocabulary added_texts; // id to text of added tokens that the model lacks
    size_t id_limit;
    char fingerprint[DIGEST_HEX];
    struct tokenizer_companions companions; // zeros when it was parsed from memory
    char changes_fingerprint[DIGEST_HEX];   // "" when the files beside it change nothing
    bool says_byte_level;                   // tokenizer.json has this word
    bool cuts_left;                         // and says so of its truncation
    bool from_ggml;                         // there is no tokenizer.json
    const struct ggml_pre *ggml_pre;        // from_ggml, byte-level
};

#endif
