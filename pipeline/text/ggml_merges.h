// SPDX-License-Identifier: MIT
// The merges of a SentencePiece-style vocabulary that has scores in place of them.
#ifndef STRATA_TEXT_GGML_MERGES_H
#define STRATA_TEXT_GGML_MERGES_H

#include "text/bpe.h"
#include "text/tokenizer_ggml.h"

// Fills the table of merges; bpe->vocabulary holds the tokens. STATUS_DATA where scores are missing, are not
// finite, or put the tokens in no order.
int ggml_derive_merges(struct bpe *bpe, const struct ggml_vocabulary *vocabulary, struct error *err);

#endif
