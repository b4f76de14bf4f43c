// SPDX-License-Identifier: MIT
// What a block needs of memory: its buffers, scratch, and what a text's slices leave.
#include "model/block.h"

#include "base/size.h"
#include "kernels/operations.h"

#define BUFFER(member) offsetof(struct block_buffers, member)

struct device_attention block_attention(const struct model_config *config, size_t block, size_t longest) {
    struct device_heads heads = config_heads(config, block);
    double scale =
        config->score_scale == 0 ? 1 / __builtin_sqrt((double)heads.head_dim) : config->score_scale;
    return (struct device_attention){
        .heads = heads,
        .scale = (float)(config->scale_falls ? scale / (double)(block + 1) : scale),
        .window = config->layer_slides[block] ? config->window : 0,
        .chunk = config->layer_slides[block] ? config->chunk : 0,
        .softcap = (float)config->softcap,
        .longest = longest,
    };
}

struct device_experts block_experts(const struct model_config *config) {
    return (struct device_experts){.experts = config->experts.count,
                                   .chosen = config->experts.chosen,
                                   .hidden = config_expert_hidden(config),
                                   .width = config->experts.width,
                                   .activation = config->activation,
                                   .limit = config->experts.limit,
                                   .plain = config->experts.plain,
                                   .scales_input = config->experts.scales_input};
}

size_t block_route_bytes(const struct model_config *config) {
    return config->experts.count == 0 ? 0 : config->experts.chosen * (sizeof(int32_t) + sizeof(float));
}

// Numbers of a token that some matmul writes to the buffer at this offset, or reads there. Rows of q | k | v
// that come from latents are put together.
static size_t buffer_columns(const struct model_config *config, size_t buffer) {
    // The final norm's too, and rows of the embedding before they are projected.
    size_t columns = buffer == BUFFER(normed) ? size_max(config->hidden, config->embedding_width) : 0;
    if (buffer == BUFFER(wide) && config->latent.key > 0) {
        columns = device_heads_width(config_heads(config, 0));
    }
    if (buffer == BUFFER(wide) && config->experts.beside_mlp) { // what experts come to
        columns = config->hidden;
    }
    for (size_t block = 0; block < config->layers; block++) {
        struct block_matmul list[BLOCK_MATMULS_MOST];
        size_t count = block_matmuls(config, block, list);
        for (size_t i = 0; i < count; i++) {
            columns = list[i].out == buffer ? size_max(columns, list[i].rows) : columns;
            columns = list[i].in == buffer ? size_max(columns, list[i].columns) : columns;
        }
    }
    return columns;
}

size_t block_buffer_numbers(const struct model_config *config) {
    return size_max(buffer_columns(config, BUFFER(x)), config->hidden) +
           buffer_columns(config, BUFFER(normed)) + buffer_columns(config, BUFFER(wide)) +
           buffer_columns(config, BUFFER(inner)) + buffer_columns(config, BUFFER(latent)) +
           buffer_columns(config, BUFFER(key_latent)) + buffer_columns(config, BUFFER(branch));
}

static int lay_out_routes(struct layout *layout, struct device_routes *routes,
                          const struct model_config *config, size_t tokens, struct error *err) {
    if (config->experts.count == 0) {
        return STATUS_OK;
    }
    TRY(layout_take(layout, DEVICE_ACTIVATIONS, tokens, config->experts.chosen, sizeof(int32_t),
                    &routes->experts, err));
    return layout_take(layout, DEVICE_ACTIVATIONS, tokens, config->experts.chosen, sizeof(float),
                       &routes->weights, err);
}

int block_lay_out_buffers(struct layout *layout, struct block_buffers *buffers,
                          const struct model_config *config, size_t tokens, size_t streams,
                          struct error *err) {
    size_t all; // tokens of the residual streams
    const struct {
        size_t offset;
        void **out;
    } pieces[] = {{BUFFER(normed), &buffers->normed},         {BUFFER(wide), &buffers->wide},
                  {BUFFER(inner), &buffers->inner},           {BUFFER(latent), &buffers->latent},
                  {BUFFER(key_latent), &buffers->key_latent}, {BUFFER(branch), &buffers->branch}};
    size_t width = dtype_size(device_dtype(layout->shapes_for));
    if (!size_mul(tokens, streams, &all)) {
        return error_set(err, STATUS_INTERNAL, "%zu residual streams of %zu tokens are too many", streams,
                         tokens);
    }
    TRY(layout_take(layout, DEVICE_ACTIVATIONS, all, config->hidden, width, &buffers->x, err));
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        size_t columns = buffer_columns(config, pieces[i].offset);
        if (columns > 0) {
            TRY(layout_take(layout, DEVICE_ACTIVATIONS, tokens, columns, width, pieces[i].out, err));
        }
    }
    return lay_out_routes(layout, &buffers->routes, config, tokens, err);
}

static bool kept_bytes(const struct model_config *config, size_t block, size_t longest, size_t number_size,
                       size_t *bytes) {
    struct device_heads heads = config_heads(config, block);
    if (config_mixer(config, block) == MIXER_DELTA_NET) {
        *bytes = device_delta_net_state(&config->delta_net, number_size);
        return true;
    }
    if (config_mixer(config, block) == MIXER_CONVOLUTION) {
        *bytes = device_short_convolution_state(&config->convolution, number_size);
        return true;
    }
    if (config_mixer(config, block) == MIXER_STATE_SPACE) {
        *bytes = device_state_space_state(&config->state_space, number_size);
        return true;
    }
    if (config_mixer(config, block) == MIXER_NONE) {
        *bytes = 0;
        return true;
    }
    return size_mul(longest, 2 * heads.kv_heads * heads.head_dim * number_size, bytes);
}

bool block_head_bytes(const struct model_config *config, size_t block, size_t tokens,
                      enum device_keeping keeping, size_t number_size, size_t *bytes) {
    if (config_mixer(config, block) == MIXER_ATTENTION) {
        return size_mul(tokens, device_kept_bytes(config_heads(config, block), keeping, number_size), bytes);
    }
    return kept_bytes(config, block, tokens, number_size, bytes);
}

bool block_kept_bytes(const struct model_config *config, size_t longest, size_t number_size, size_t *bytes) {
    *bytes = 0;
    for (size_t block = 0; block < config->layers; block++) {
        size_t own;
        if (!kept_bytes(config, block, longest, number_size, &own)) {
            return false;
        }
        *bytes = size_max(*bytes, own);
    }
    return true;
}

static bool mixer_scratch(const struct device *device, const struct model_config *config, size_t block,
                          size_t tokens, size_t longest, size_t *bytes) {
    struct device_attention shape = block_attention(config, block, longest);
    switch (config_mixer(config, block)) {
    case MIXER_ATTENTION:
        return device_attention_scratch(device, &shape, bytes);
    case MIXER_DELTA_NET:
        return device_delta_net_scratch(device, &config->delta_net, tokens, bytes);
    case MIXER_STATE_SPACE:
        return device_state_space_scratch(device, &config->state_space, tokens, bytes);
    case MIXER_CONVOLUTION:
    case MIXER_NONE:
        break;
    }
    return true;
}

static bool scratch_bytes(const struct device *device, const struct model_config *config, size_t block,
                          size_t tokens, size_t longest, size_t *bytes) {
    struct device_experts experts = block_experts(config);
    size_t of_experts = 0;
    *bytes = 0;
    bool fits =
        mixer_scratch(device, config, block, tokens, longest, bytes) &&
        (!config_has_experts(config, block) || device_experts_scratch(device, &experts, tokens, &of_experts));
    *bytes = size_max(*bytes, of_experts);
    return fits;
}

int block_lay_out_scratch(struct layout *layout, void **scratch, const struct model_config *config,
                          size_t first, size_t count, size_t tokens, size_t longest, struct error *err) {
    size_t largest = 0;
    for (size_t block = first; block < first + count; block++) {
        size_t bytes;
        if (!scratch_bytes(layout->shapes_for, config, block, tokens, longest, &bytes)) {
            return error_set(err, STATUS_INTERNAL,
                             "attention over %zu tokens, or experts over %zu, need too much memory", longest,
                             tokens);
        }
        largest = size_max(largest, bytes);
    }
    return layout_take(layout, DEVICE_SCRATCH, largest, 1, 1, scratch, err);
}
