// SPDX-License-Identifier: MIT
#include "model/generation.h"

#include <string.h>

static const struct {
    const char *name;
    double nominal; // bytes of a number, as published: without the scales of blocks
    double actual;  // blocks of 32 numbers with a scale in float16
} caches[] = {
    [GENERATION_F16] = {"f16", 2, 2},
    [GENERATION_Q8_0] = {"q8_0", 1, 34.0 / 32},
    [GENERATION_Q4_0] = {"q4_0", 0.5, 18.0 / 32},
};

bool generation_cache_find(const char *name, enum generation_cache *out) {
    for (size_t i = 0; i < sizeof caches / sizeof caches[0]; i++) {
        if (strcmp(name, caches[i].name) == 0) {
            *out = (enum generation_cache)i;
            return true;
        }
    }
    return false;
}

static size_t layers_that_fit(const struct generation_request *request,
                              const struct generation_account *account) {
    double room = request->target * request->memory - request->in_use;
    double layers = room > 0 ? room / (account->weights + account->keys_values) : 0;
    return layers < (double)request->config->layers ? (size_t)layers : request->config->layers;
}

// Numbers of a token that an engine caches for a block: keys and values, or what both are made from. What
// takes the place of attention has a state, which does not grow with the context.
static double cached_numbers(const struct model_config *config, size_t block) {
    struct device_heads heads = config_heads(config, block);
    if (config_mixer(config, block) != MIXER_ATTENTION || config_keys(config, block) == KEYS_SHARED) {
        return 0;
    }
    return config->latent.key > 0 ? (double)(config->latent.key + config_rotated(config))
                                  : 2 * (double)heads.kv_heads * (double)heads.head_dim;
}

void generation_count(struct generation *out, const struct generation_request *request) {
    const struct model_config *config = request->config;
    double positions = 2 * (double)request->context; // keys and values
    double cached = 0;
    for (size_t block = 0; block < config->layers; block++) {
        cached += cached_numbers(config, block) / (double)config->layers;
    }
    *out = (struct generation){.cached = cached};
    out->published.weights = request->file / (double)config->layers;
    out->published.keys_values = positions * (double)config->hidden * caches[request->cache].nominal;
    out->published.layers = layers_that_fit(request, &out->published);
    out->actual.weights = out->published.weights;
    out->actual.keys_values = (double)request->context * cached * caches[request->cache].actual;
    out->actual.layers = layers_that_fit(request, &out->actual);
    out->own = (double)request->context * (double)config_keys_values(config) * 2;
    out->own_residual = (double)request->context * (double)config->hidden * 2;
}
