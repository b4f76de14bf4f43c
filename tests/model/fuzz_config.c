// SPDX-License-Identifier: MIT
// Fuzz target: config.json. What is accepted must be a shape that the rest may rely on, with finite
// frequencies.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/config.h"
#include "model/rope.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
size_t fuzz_accepted; // inputs that were not refused: see fuzz_replay.c

static void demand(int holds) {
    if (!holds) {
        abort();
    }
}

static void try_rope(const struct model_config *config, const struct rope_config *rope) {
    size_t half = config_rope_rotated(config, rope) / 2;
    float *frequencies = malloc(half * sizeof(float));
    demand(half > 0 && frequencies != NULL);
    for (int is_long = 0; is_long < 2; is_long++) {
        rope_frequencies(config, rope, is_long ? config->max_positions + 1 : 1, frequencies);
        for (size_t i = 0; i < half; i++) {
            demand(isfinite(frequencies[i]));
            demand(rope->turns_back ? frequencies[i] <= 0 : frequencies[i] >= 0);
        }
    }
    free(frequencies);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    struct error err = {0};
    struct model_config config;
    if (model_config_parse(&config, (const char *)data, size, "fuzz", &err) != STATUS_OK) {
        demand(err.status == STATUS_DATA && config.layer_slides == NULL);
        return 0;
    }
    fuzz_accepted++;
    demand(config.layers > 0 && config.hidden > 0 && config.intermediate > 0 && config.vocabulary > 0);
    demand(config.heads > 0 && config.kv_heads > 0 && config.heads % config.kv_heads == 0);
    demand(config.head_dim > 0 && config.head_dim % 2 == 0 && config.max_positions > 0);
    for (size_t i = 0; i < config.layers; i++) {
        demand(!config.layer_slides[i] || config.window > 0 || config.chunk > 0);
    }
    demand(config.unrotated < config.head_dim && config.experts.chosen <= config.experts.count);
    try_rope(&config, &config.rope);
    if (config.has_local_rope) {
        try_rope(&config, &config.local_rope);
    }
    model_config_destroy(&config);
    return 0;
}
