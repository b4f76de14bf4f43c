// The parts of a tokenizer, filled by tokenizer_load.c and used by tokenizer.c.
#ifndef STRATA_TEXT_TOKENIZER_INTERNAL_H
#define STRATA_TEXT_TOKENIZER_INTERNAL_H

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/postprocessor.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_companions.h"

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
    bool splits_as_qwen2; // normalizer and pre-tokenizer are those of transformers' Qwen2Tokenizer
    char llama_prefix[8]; // ... of its LlamaTokenizer: the rule of the prefix, else ""
};

// Fills splits_as_qwen2 and llama_prefix.
void tokenizer_note_shape(struct tokenizer *tokenizer, const json_t *root);

#endif
