// SPDX-License-Identifier: MIT
// Shapes of published models, as their config.json has them, for tests that need no weights.
#ifndef STRATA_TESTS_MODEL_SHAPES_H
#define STRATA_TESTS_MODEL_SHAPES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/config.h"

static inline void shape_of(struct model_config *config, const char *type, int layers, int hidden, int heads,
                            int kv_heads, int intermediate, int vocabulary) {
    char text[1024];
    struct error err = {0};
    int size = snprintf(text, sizeof text,
                        "{\"model_type\": \"%s\", \"num_hidden_layers\": %d, \"hidden_size\": %d, "
                        "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": 128, "
                        "\"intermediate_size\": %d, \"vocab_size\": %d, \"max_position_embeddings\": 32768, "
                        "\"rms_norm_eps\": 1e-5, \"rope_theta\": 1000000.0, \"hidden_act\": \"silu\", "
                        "\"tie_word_embeddings\": false, \"torch_dtype\": \"bfloat16\"%s}",
                        type, layers, hidden, heads, kv_heads, intermediate, vocabulary,
                        strcmp(type, "mistral") == 0 ? ", \"sliding_window\": null" : "");
    if (model_config_parse(config, text, (size_t)size, "config.json", &err) != STATUS_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
}

static inline void shape_mistral_7b(struct model_config *config) {
    shape_of(config, "mistral", 32, 4096, 32, 8, 14336, 32000);
}

static inline void shape_llama_70b(struct model_config *config) {
    shape_of(config, "llama", 80, 8192, 64, 8, 28672, 128256);
}

#endif
