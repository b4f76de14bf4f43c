// SPDX-License-Identifier: MIT
#include "checkpoints/layer.h"

#include <stdio.h>

const char *layer_name(char out[LAYER_NAME], size_t layer, size_t model_layers) {
    snprintf(out, LAYER_NAME, "hs_%03zu%s", layer_block(layer, model_layers),
             layer_is_pre_norm(layer, model_layers) ? "_pre_norm" : "");
    return out;
}

void layer_text(char out[LAYER_TEXT], size_t layer, size_t model_layers) {
    if (layer_is_pre_norm(layer, model_layers)) {
        snprintf(out, LAYER_TEXT,
                 "pre_norm = output of block %zu of %zu, before the final norm; not in transformers' "
                 "hidden_states tuple",
                 model_layers, model_layers);
    } else if (layer == 0) {
        snprintf(out, LAYER_TEXT, "hidden_states[0] of 0..%zu = embedding output", model_layers);
    } else {
        snprintf(out, LAYER_TEXT,
                 "hidden_states[%zu] of 0..%zu = output of block %zu of %zu, %s the final norm", layer,
                 model_layers, layer, model_layers, layer == model_layers ? "after" : "before");
    }
}

void layer_hook(char out[LAYER_NAME], size_t layer, size_t model_layers) {
    out[0] = 0;
    if (layer == 0) {
        snprintf(out, LAYER_NAME, "blocks.0.hook_resid_pre");
    } else if (!layer_after_final_norm(layer, model_layers)) {
        snprintf(out, LAYER_NAME, "blocks.%zu.hook_resid_post", layer_block(layer, model_layers) - 1);
    }
}
