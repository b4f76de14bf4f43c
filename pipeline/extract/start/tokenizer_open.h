// SPDX-License-Identifier: MIT
// The tokenizer that a model goes with: a tokenizer.json, or the vocabulary that a GGUF file carries.
#ifndef STRATA_START_TOKENIZER_OPEN_H
#define STRATA_START_TOKENIZER_OPEN_H

#include "text/tokenizer.h"

// Of a GGUF file its own keys, of any other file tokenizer_load. STATUS_DATA with the file and the reason.
int tokenizer_open(struct tokenizer **out, const char *path, struct error *err);

#endif
