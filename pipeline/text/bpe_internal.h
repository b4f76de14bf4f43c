// SPDX-License-Identifier: MIT
// What bpe.c (tables) offers bpe_encode.c (merging and the word cache).
#ifndef STRATA_TEXT_BPE_INTERNAL_H
#define STRATA_TEXT_BPE_INTERNAL_H

#include "text/bpe.h"

// The merge of two neighbours, or NULL.
const struct bpe_merge *bpe_find_merge(const struct bpe *bpe, int32_t left, int32_t right);

// The token whose whole text (raw bytes in a byte-level model) is this, or TOKEN_NONE.
int32_t bpe_find_whole(const struct bpe *bpe, const char *text, size_t size);

#endif
