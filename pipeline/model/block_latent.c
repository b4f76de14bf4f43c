// SPDX-License-Identifier: MIT
// Attention's kernels take rows of q | k | v whose heads are all as wide as queries: rows are put together
// from products, values with zeros behind them, and what attention makes of the zeros is left out again.
#include "model/block_latent.h"

#include "base/error.h"
#include "kernels/operations.h"

static const float norm_epsilon = 1e-6f; // the class's, whatever the configuration says

static int norm_latent(const struct block_pass *pass, void *x, const void *weight, size_t width,
                       struct error *err) {
    struct device_norm norm = {.kind = pass->config->norm, .epsilon = norm_epsilon, .weight = weight};
    return weight == NULL ? error_set(err, STATUS_INTERNAL, "a norm has no weight")
                          : device_norm(pass->device, x, x, &norm, DEVICE_STORE, pass->tokens, width, err);
}

// Queries go to their place, which frees `inner`. Of the other product [latent | rotated part of keys] the
// first is normalised, the second becomes a part of every key.
static int norm_keys(const struct block_pass *pass, const struct block_weights *weights,
                     struct device_heads heads, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    const struct model_config *config = pass->config;
    const size_t row = device_heads_width(heads);
    const size_t width = config->latent.key + config_rotated(config);
    const struct device_columns queries = {.in_stride = heads.heads * heads.head_dim,
                                           .in_apart = heads.head_dim,
                                           .stride = row,
                                           .apart = heads.head_dim,
                                           .count = heads.heads,
                                           .width = heads.head_dim};
    const struct device_columns latent = {
        .in_stride = width, .stride = config->latent.key, .count = 1, .width = config->latent.key};
    const struct device_columns turned = {.in_stride = width,
                                          .in_first = config->latent.key,
                                          .stride = row,
                                          .first = device_heads_key(heads) + config->unrotated,
                                          .apart = heads.head_dim,
                                          .count = heads.kv_heads,
                                          .width = config_rotated(config)};
    TRY(device_copy_columns(pass->device, b->wide, b->inner, &queries, pass->tokens, err));
    TRY(device_copy_columns(pass->device, b->key_latent, b->latent, &latent, pass->tokens, err));
    TRY(device_copy_columns(pass->device, b->wide, b->latent, &turned, pass->tokens, err));
    return norm_latent(pass, b->key_latent, weights->key_norm, config->latent.key, err);
}

// Keys without what turns, values, and zeros behind these.
static int place_keys(const struct block_pass *pass, struct device_heads heads, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    const struct model_config *config = pass->config;
    const size_t value = config->latent.value;
    const size_t first_value = device_heads_key(heads) + heads.kv_heads * heads.head_dim;
    struct device_columns columns = {.in_stride = heads.kv_heads * (config->unrotated + value),
                                     .in_apart = config->unrotated + value,
                                     .stride = device_heads_width(heads),
                                     .first = device_heads_key(heads),
                                     .apart = heads.head_dim,
                                     .count = heads.kv_heads,
                                     .width = config->unrotated};
    TRY(device_copy_columns(pass->device, b->wide, b->inner, &columns, pass->tokens, err));
    columns.in_first = config->unrotated;
    columns.first = first_value;
    columns.width = value;
    TRY(device_copy_columns(pass->device, b->wide, b->inner, &columns, pass->tokens, err));
    columns.first = first_value + value;
    columns.width = heads.head_dim - value;
    return columns.width == 0 ? STATUS_OK
                              : device_copy_columns(pass->device, b->wide, NULL, &columns, pass->tokens, err);
}

int block_latent_step(const struct block_pass *pass, const struct block_weights *weights,
                      struct device_heads heads, enum block_step step, struct error *err) {
    const struct latent_config *latent = &pass->config->latent;
    if (latent->key == 0) {
        return STATUS_OK;
    }
    if (step == BLOCK_QUERY_NORM) {
        return latent->query == 0
                   ? STATUS_OK
                   : norm_latent(pass, pass->buffers.latent, weights->query_norm, latent->query, err);
    }
    return step == BLOCK_KEY_NORM ? norm_keys(pass, weights, heads, err) : place_keys(pass, heads, err);
}

int block_latent_values(const struct block_pass *pass, struct device_heads heads, struct error *err) {
    const size_t value = pass->config->latent.value;
    const struct device_columns columns = {.in_stride = heads.heads * heads.head_dim,
                                           .in_apart = heads.head_dim,
                                           .stride = heads.heads * value,
                                           .apart = value,
                                           .count = heads.heads,
                                           .width = value};
    return device_copy_columns(pass->device, pass->buffers.wide, pass->buffers.inner, &columns, pass->tokens,
                               err);
}
