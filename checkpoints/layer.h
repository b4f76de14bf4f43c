// SPDX-License-Identifier: MIT
// What shards, and what is made of them, call a hidden state: its dataset's name and words.
//
// `layer` counts as transformers' hidden_states, 0 to `model_layers`, the number of the model's blocks; one
// more stands for the last block's output before the final norm, which is not in transformers' tuple
// ("pre_norm").
#ifndef STRATA_CHECKPOINTS_LAYER_H
#define STRATA_CHECKPOINTS_LAYER_H

#include <stdbool.h>
#include <stddef.h>

enum { LAYER_NAME = 40, LAYER_TEXT = 160 };

static inline bool layer_is_pre_norm(size_t layer, size_t model_layers) {
    return layer == model_layers + 1;
}

// The block whose output it is, counted from 1; 0: the embedding.
static inline size_t layer_block(size_t layer, size_t model_layers) {
    return layer < model_layers ? layer : model_layers;
}

static inline bool layer_after_final_norm(size_t layer, size_t model_layers) {
    return layer == model_layers && layer > 0;
}

// "hs_035", or "hs_036_pre_norm". Returns `out`.
const char *layer_name(char out[LAYER_NAME], size_t layer, size_t model_layers);

// "hidden_states[35] of 0..36 = output of block 35 of 36, before the final norm"
void layer_text(char out[LAYER_TEXT], size_t layer, size_t model_layers);

// What TransformerLens calls it: "blocks.34.hook_resid_post", "blocks.0.hook_resid_pre"; "": nothing.
void layer_hook(char out[LAYER_NAME], size_t layer, size_t model_layers);

#endif
