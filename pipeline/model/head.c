// SPDX-License-Identifier: MIT
#include "model/head.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/size.h"
#include "model/block.h"
#include "model/rope.h"

// ---- what can go on from what ----

size_t model_shares_up_to(const struct model *model) {
    return rope_common_positions(model_config_of(model));
}

bool model_shares_in_batches(const struct model *model) {
    const struct model_config *config = model_config_of(model);
    for (size_t block = 0; block < config->layers; block++) {
        enum block_mixer mixer = config_mixer(config, block);
        if (mixer != MIXER_ATTENTION && mixer != MIXER_NONE) {
            return false;
        }
    }
    return true;
}

int head_check_limits(const struct model_config *config, const struct model_limits *limits,
                      struct error *err) {
    if (limits->head >= limits->longest || limits->head > model_longest_own(limits) ||
        limits->longest_own == 0 || rope_is_own(config, limits->head)) {
        return error_set(
            err, STATUS_INTERNAL,
            "a head of %zu tokens is outside the limits of %zu tokens in a text and %zu of its own",
            limits->head, limits->longest, limits->longest_own);
    }
    for (size_t block = 0; limits->keeping != DEVICE_KEEP_COMPUTED && block < config->layers; block++) {
        if (config_mixer(config, block) == MIXER_ATTENTION &&
            config_heads(config, block).head_dim % DEVICE_KEEP_BLOCK != 0) {
            return error_set(
                err, STATUS_JOB,
                "keys and values are kept in blocks of %d numbers, and heads of block %zu have %zu",
                DEVICE_KEEP_BLOCK, block, config_heads(config, block).head_dim);
        }
    }
    return STATUS_OK;
}

// ---- what it takes ----

// Sums of the figures below may be asked for before anything bounds them.
static uint64_t plus(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

uint64_t model_head_token_bytes(const struct model *model, size_t last, enum dtype dtype,
                                enum device_keeping keeping) {
    const struct model_config *config = model_config_of(model);
    uint64_t sum = 0;
    for (size_t block = 0; block < config_blocks_for(config, last); block++) {
        if (config_mixer(config, block) == MIXER_ATTENTION && config_keys(config, block) != KEYS_SHARED) {
            sum = plus(sum, device_kept_bytes(config_heads(config, block), keeping, dtype_size(dtype)));
        }
    }
    return sum;
}

uint64_t model_head_state_bytes(const struct model *model, size_t last, enum dtype dtype) {
    const struct model_config *config = model_config_of(model);
    uint64_t sum = 0;
    for (size_t block = 0; block < config_blocks_for(config, last); block++) {
        size_t bytes = 0;
        if (config_mixer(config, block) != MIXER_ATTENTION) {
            (void)block_head_bytes(config, block, 0, DEVICE_KEEP_COMPUTED, dtype_size(dtype), &bytes);
        }
        sum = plus(sum, bytes);
    }
    return sum;
}

size_t head_giver_bytes(const struct model_config *config, const struct model_limits *limits, bool slides,
                        size_t number_size) {
    size_t giver = config_key_giver(config, slides);
    return giver >= config->layers
               ? 0
               : limits->head * device_kept_bytes(config_heads(config, giver), limits->keeping, number_size);
}

// ---- where it lies ----

size_t head_own_members(const struct model_weights *weights, const struct model_limits *limits) {
    return limits->head > 0 && weights->streamed > 0 ? model_batch_members(limits, limits->head) : 0;
}

int head_prepare(struct head_store *store, const struct model_weights *weights,
                 const struct model_limits *limits, struct error *err) {
    void *block;
    store->block_count = weights->block_count;
    store->layer_count = limits->layer_count;
    TRY(memory_zeroed(&block, size_max(store->block_count, 1), sizeof store->kept[0], err));
    store->kept = block;
    TRY(memory_zeroed(&block, store->layer_count, sizeof store->rows[0], err));
    store->rows = block;
    return STATUS_OK;
}

void head_destroy(struct head_store *store) {
    free(store->kept);
    free(store->rows);
    *store = (struct head_store){0};
}

static int too_large(const struct model_limits *limits, struct error *err) {
    return error_set(err, STATUS_INTERNAL, "what blocks keep of a head of %zu tokens is too much",
                     limits->head);
}

// Of the blocks that others take keys and values from, whether they are this stage's or one's before it.
static int lay_out_givers(struct layout *layout, struct head_store *store,
                          const struct model_weights *weights, const struct model_config *config,
                          const struct model_limits *limits, struct error *err) {
    size_t end = weights->first_block + weights->block_count;
    for (int slides = 0; slides < 2; slides++) {
        size_t giver = config_key_giver(config, slides);
        size_t bytes = head_giver_bytes(config, limits, slides, dtype_size(device_dtype(layout->shapes_for)));
        if (giver < end) {
            TRY(layout_take(layout, DEVICE_ACTIVATIONS, bytes, 1, 1, &store->givers[slides], err));
        }
    }
    return STATUS_OK;
}

// Of the others: a piece each, or where weights stream one for all.
static int lay_out_blocks(struct layout *layout, struct head_store *store,
                          const struct model_weights *weights, const struct model_config *config,
                          const struct model_limits *limits, struct error *err) {
    size_t width = dtype_size(device_dtype(layout->shapes_for));
    size_t largest = 0;
    for (size_t i = 0; i < weights->block_count; i++) {
        size_t block = weights->first_block + i;
        size_t bytes;
        if (config_mixer(config, block) == MIXER_ATTENTION && config_keys(config, block) != KEYS_OWN) {
            continue;
        }
        if (!block_head_bytes(config, block, limits->head, limits->keeping, width, &bytes)) {
            return too_large(limits, err);
        }
        largest = size_max(largest, bytes);
        if (weights->streamed == 0 && bytes > 0) {
            TRY(layout_take(layout, DEVICE_ACTIVATIONS, bytes, 1, 1, &store->kept[i], err));
        }
    }
    return weights->streamed > 0 && largest > 0
               ? layout_take(layout, DEVICE_ACTIVATIONS, largest, 1, 1, &store->common, err)
               : STATUS_OK;
}

// Whether hidden state `layer` comes out on a stage with these weights.
static bool is_taken(const struct model_weights *weights, const struct model_config *config, size_t layer) {
    size_t end = weights->first_block + weights->block_count;
    if (layer == 0) {
        return weights->has_embedding;
    }
    return config_blocks_for(config, layer) > weights->first_block && config_blocks_for(config, layer) <= end;
}

int head_lay_out(struct layout *layout, struct head_store *store, const struct model_weights *weights,
                 const struct model_config *config, const struct model_limits *limits, struct error *err) {
    size_t width = dtype_size(device_dtype(layout->shapes_for));
    TRY(lay_out_givers(layout, store, weights, config, limits, err));
    TRY(lay_out_blocks(layout, store, weights, config, limits, err));
    for (size_t i = 0; limits->head_rows && i < limits->layer_count; i++) {
        if (is_taken(weights, config, limits->layers[i])) {
            TRY(layout_take(layout, DEVICE_ACTIVATIONS, limits->head, config->hidden, width, &store->rows[i],
                            err));
        }
    }
    return limits->keeping == DEVICE_KEEP_COMPUTED
               ? STATUS_OK
               : layout_take(layout, DEVICE_ACTIVATIONS, limits->head, config_keys_values(config), width,
                             &store->expanded, err);
}

void *head_of_block(const struct head_store *store, const struct model_weights *weights,
                    const struct model_config *config, size_t block) {
    if (store->kept == NULL) {
        return NULL;
    }
    if (config_mixer(config, block) == MIXER_ATTENTION && config_keys(config, block) != KEYS_OWN) {
        return store->givers[config->layer_slides[block] != 0];
    }
    return store->common != NULL ? store->common : store->kept[block - weights->first_block];
}
