// SPDX-License-Identifier: MIT
// Rotary position embedding: the frequencies and their cosines and sines, computed as transformers 5.23 does,
// in float32; divided by what a GGUF file has for that, as llama.cpp does.
#ifndef STRATA_MODEL_ROPE_H
#define STRATA_MODEL_ROPE_H

#include <stdbool.h>
#include <stddef.h>

#include "model/config.h"

// Frequencies of a text of `length` tokens: out[rotated / 2]. Only dynamic scaling and longrope look at the
// length, and only when it is above rope_common_positions: each text is computed as a fresh call would be
// (transformers' own state between calls is not followed).
void rope_frequencies(const struct model_config *config, const struct rope_config *rope, size_t length,
                      float *out);

// Texts of up to so many tokens share their frequencies.
size_t rope_common_positions(const struct model_config *config);

// True when a text of this length has its own frequencies instead of the common ones.
bool rope_is_own(const struct model_config *config, size_t length);

// What a query at this place in its text is multiplied with (Llama 4, Ministral 3).
float rope_query_scale(const struct model_config *config, size_t position);

// The slope of a head (Press and others 2022): powers of 2^(-8/n) for the largest power n of two within
// `heads`, and between them for the rest.
float rope_slope(size_t heads, size_t head);

// Rows of positions first .. first + count: cosine and sine are [count, rotated / 2], times the attention
// factor.
void rope_rows(const struct model_config *config, const struct rope_config *rope, const float *frequencies,
               size_t first, size_t count, float *cosine, float *sine);

#endif
