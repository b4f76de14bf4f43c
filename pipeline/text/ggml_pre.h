// SPDX-License-Identifier: MIT
// What the name in tokenizer.ggml.pre stands for: how the tokenizer.json of the models that carry it cuts
// texts into words, and the settings of theirs that a GGUF file leaves out.
#ifndef STRATA_TEXT_GGML_PRE_H
#define STRATA_TEXT_GGML_PRE_H

#include <stdbool.h>

#include "text/pretokenizer.h"

enum { GGML_PRE_PATTERNS = 5 };

struct ggml_pre {
    const char *name;
    const char *patterns[GGML_PRE_PATTERNS]; // each cuts what the one before left; NULL ends them
    bool digits;                             // then every digit is a word
    bool byte_pattern;                       // then ByteLevel cuts by a pattern of its own, GPT-2's
    bool ignore_merges;                      // a word that is a token is taken whole
    bool add_bos;                            // where the file does not say
    bool prefix_space;                       // and puts a space before each piece
    bool composes;                           // tokenizer.json has the normalizer NFC
};

// NULL: no such name is known.
const struct ggml_pre *ggml_pre_find(const char *name);

int ggml_pre_load(struct pretokenizer *pretokenizer, const struct ggml_pre *pre, struct error *err);

#endif
