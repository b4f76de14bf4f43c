// SPDX-License-Identifier: MIT
// Which class AutoTokenizer of transformers 5 takes for a model folder, and what such a class makes of the
// vocabulary: some build their own normalizer and pre-tokenizer around it and follow tokenizer.json in its
// words and merges only.
#ifndef STRATA_TEXT_AUTO_CLASS_H
#define STRATA_TEXT_AUTO_CLASS_H

#include <stdbool.h>

#include "text/tokenizer_internal.h"

// The class (without "Fast") where it builds its own parts; NULL: tokenizer.json is followed. `named` is
// what tokenizer_config.json, or else config.json, calls the class ("": neither). says_byte_level:
// tokenizer.json has the word "ByteLevel".
const char *auto_class(const char *model_type, const char *named, bool says_byte_level);

// Whether a folder of this model type is read by mistral-common, where that is installed, if it has a
// tekken.json.
bool auto_class_reads_tekken(const char *model_type);

// A special token that a class has where no file names one for this key.
struct auto_token {
    const char *key;
    const char *text;
};

// The tokens that a class has by itself, ended by a key NULL; NULL where the class is not known well enough.
const struct auto_token *auto_class_tokens(const char *name);

// *same: the parts that the class builds are those of the tokenizer.
int auto_class_compare(bool *same, const struct tokenizer *tokenizer, const char *name, struct error *err);

#endif
