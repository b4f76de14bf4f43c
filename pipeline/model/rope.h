// Rotary position embedding: the frequencies and their cosines and sines, computed as transformers 5.23 does,
// in float32; divided by what a GGUF file has for that, as llama.cpp does.
#ifndef STRATA_MODEL_ROPE_H
#define STRATA_MODEL_ROPE_H

#include <stdbool.h>
#include <stddef.h>

#include "model/config.h"

// Frequencies of a text of `length` tokens: out[head_dim / 2]. Only dynamic scaling looks at the length, and
// only when it is above max_positions: each text is computed as a fresh call would be (transformers' own
// state between calls is not followed).
void rope_frequencies(const struct model_config *config, size_t length, float *out);

// True when a text of this length has its own frequencies instead of the common ones.
bool rope_is_own(const struct model_config *config, size_t length);

// Rows of positions first .. first + count: cosine and sine are [count, head_dim / 2], times the attention
// factor.
void rope_rows(const struct model_config *config, const float *frequencies, size_t first, size_t count,
               float *cosine, float *sine);

#endif
