// SPDX-License-Identifier: MIT
// The files beside a tokenizer.json that transformers reads with it: tokenizer_config.json, and where that
// has no added_tokens_decoder also special_tokens_map.json and added_tokens.json.
//
// Tokens that they add become entries of the list in tokenizer.json, as AutoTokenizer of transformers 5 adds
// them: those of added_tokens_decoder by their number (the id is the next free one whatever that number is),
// then bos_token, eos_token and the like, other *_token members, and the extra special tokens.
#ifndef STRATA_TEXT_TOKENIZER_COMPANIONS_H
#define STRATA_TEXT_TOKENIZER_COMPANIONS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/memory.h"

enum { TOKENIZER_CLASS = 64 };

// What tokenizer_config.json says beside tokens.
struct tokenizer_companions {
    char class_name[TOKENIZER_CLASS]; // tokenizer_class; "" when it says none
    int add_bos;                      // add_bos_token: -1 where it says nothing, else 0 or 1
    int add_eos;
    int legacy;                       // as the two above: LlamaTokenizer's
    int add_prefix_space;             // also
    bool splits_special;              // split_special_tokens
    bool cuts_left;                   // truncation_side
    bool cuts_right;                  // also
    bool has_code;                    // auto_map: a tokenizer of the folder's own code
    bool lacks_tokens;                // added_tokens_decoder is there and lacks a token of tokenizer.json
    bool renumbers;                   // the files number tokens otherwise than tokenizer.json
    bool fixes_mistral;               // fix_mistral_regex
    bool has_tekken;                  // tekken.json is there
    bool differs_in_qwen2;            // Qwen2Tokenizer has special tokens with other flags, or more of them
    char other_file[TOKENIZER_CLASS]; // of fast_tokenizer_files, one that is there; "" when there is none
    json_t *config;                   // tokenizer_config.json, with special_tokens_map.json where that counts
    struct buffer changes; // a line for each token that was added or whose flags changed; data may be NULL
};

// Reads the files in `folder` and changes the tokens of `root`, the document of tokenizer.json. STATUS_DATA
// with the file's name when one is broken.
int tokenizer_companions_apply(struct tokenizer_companions *out, json_t *root, const char *folder,
                               struct error *err);
void tokenizer_companions_destroy(struct tokenizer_companions *companions); // leaves zeros

#endif
