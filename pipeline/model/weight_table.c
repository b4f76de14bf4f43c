// SPDX-License-Identifier: MIT
#include "model/weight_table.h"

#include <stdio.h>
#include <string.h>

// Dimensions are at most 2^24, heads and head_dim at most 2^16 (config.c): matmuls of two dimensions fit.
static size_t attention_dimension(const struct model_config *config, size_t block,
                                  enum weight_dimension which) {
    struct device_heads heads = config_heads(config, block);
    switch (which) {
    case DIM_KV:
        return heads.kv_heads * heads.head_dim;
    case DIM_QKV:
        return device_heads_width(heads);
    case DIM_Q_GATE:
        return device_heads_key(heads);
    case DIM_HEAD:
        return heads.head_dim;
    case DIM_HEADS:
        return heads.heads;
    case DIM_KV_HEADS:
        return heads.kv_heads;
    default:
        return heads.heads * heads.head_dim;
    }
}

static size_t latent_dimension(const struct model_config *config, enum weight_dimension which) {
    const struct latent_config *latent = &config->latent;
    switch (which) {
    case DIM_LATENT_QUERY:
        return latent->query;
    case DIM_LATENT_KEY:
        return latent->key;
    case DIM_LATENT_KEY_TURNED:
        return latent->key + config_rotated(config);
    case DIM_LATENT_KEY_VALUE:
        return config->heads * (config->unrotated + latent->value);
    default:
        return config->heads * latent->value;
    }
}

static size_t delta_net_dimension(const struct model_config *config, enum weight_dimension which) {
    const struct device_delta_net *net = &config->delta_net;
    switch (which) {
    case DIM_NET_OUT:
        return device_delta_net_out(net);
    case DIM_NET_QKVZ:
        return device_delta_net_mixed(net) + device_delta_net_out(net);
    case DIM_NET_BA:
        return 2 * net->value_heads;
    case DIM_NET_HEADS:
        return net->value_heads;
    case DIM_NET_VALUE:
        return net->value_dim;
    case DIM_NET_TAPS:
        return net->taps;
    default:
        return device_delta_net_mixed(net);
    }
}

static size_t state_space_dimension(const struct model_config *config, enum weight_dimension which) {
    const struct device_state_space *space = &config->state_space;
    switch (which) {
    case DIM_SPACE_WIDTH:
        return device_state_space_width(space);
    case DIM_SPACE_OUT:
        return device_state_space_out(space);
    case DIM_SPACE_HEADS:
        return space->heads;
    case DIM_SPACE_TAPS:
        return space->taps;
    default:
        return device_state_space_mixed(space);
    }
}

static size_t expert_dimension(const struct model_config *config, enum weight_dimension which) {
    const struct expert_config *experts = &config->experts;
    switch (which) {
    case DIM_EXPERT_WIDTH:
        return experts->width;
    case DIM_EXPERT_HIDDEN:
        return config_expert_hidden(config);
    case DIM_EXPERTS_GATE_UP:
        return experts->count * 2 * experts->width;
    case DIM_EXPERTS_UP:
        return experts->count * experts->width;
    case DIM_EXPERTS_DOWN:
        return experts->count * config_expert_hidden(config);
    default:
        return experts->count;
    }
}

size_t weight_dimension(const struct model_config *config, size_t block, enum weight_dimension which) {
    switch (which) {
    case DIM_HIDDEN:
        return config->hidden;
    case DIM_VOCABULARY:
        return config->vocabulary;
    case DIM_EMBEDDING:
        return config->embedding_width == 0 ? config->hidden : config->embedding_width;
    case DIM_Q:
    case DIM_KV:
    case DIM_QKV:
    case DIM_Q_GATE:
    case DIM_HEAD:
    case DIM_HEADS:
    case DIM_KV_HEADS:
        return attention_dimension(config, block, which);
    case DIM_INTERMEDIATE:
        return config_mlp_width(config, block);
    case DIM_GATE_UP:
        return 2 * config_mlp_width(config, block);
    case DIM_TAPS:
        return config->convolution.taps;
    case DIM_CONVOLUTION:
        return 3 * config->convolution.width;
    case DIM_POSITIONS:
        return config->position_rows;
    case DIM_EXPERTS:
    case DIM_EXPERT_WIDTH:
    case DIM_EXPERT_HIDDEN:
    case DIM_EXPERTS_GATE_UP:
    case DIM_EXPERTS_UP:
    case DIM_EXPERTS_DOWN:
        return expert_dimension(config, which);
    case DIM_LATENT_QUERY:
    case DIM_LATENT_KEY:
    case DIM_LATENT_KEY_TURNED:
    case DIM_LATENT_KEY_VALUE:
    case DIM_VALUES:
        return latent_dimension(config, which);
    case DIM_NET_MIXED:
    case DIM_NET_OUT:
    case DIM_NET_QKVZ:
    case DIM_NET_BA:
    case DIM_NET_HEADS:
    case DIM_NET_VALUE:
    case DIM_NET_TAPS:
        return delta_net_dimension(config, which);
    case DIM_SPACE_WIDTH:
    case DIM_SPACE_MIXED:
    case DIM_SPACE_OUT:
    case DIM_SPACE_HEADS:
    case DIM_SPACE_TAPS:
        return state_space_dimension(config, which);
    case DIM_LAYER_INPUT:
        return config->layer_input;
    case DIM_LAYER_INPUTS:
        return config_layer_inputs(config);
    case DIM_LAYER_VOCABULARY:
        return config->layer_vocabulary;
    case DIM_ONE:
        break;
    }
    return 1;
}

// ---- what rows say ----

bool weight_in_block(const struct weight_row *row) {
    return strstr(row->name, "{i}") != NULL;
}

bool weight_is_vector(const struct weight_row *row) {
    return row->form == FORM_VECTOR || row->form == FORM_FLOAT_VECTOR;
}

bool weight_is_float(const struct weight_row *row) {
    return row->form == FORM_FLOAT_VECTOR || row->form == FORM_FLOAT_TABLE;
}

bool weight_present(const struct weight_row *row, const struct model_config *config, size_t block) {
    return row->present == NULL || row->present(config, block);
}

bool weight_in_file(const struct weight_row *row, const struct model_config *config, size_t block) {
    return row->file != FILE_NOWHERE && weight_present(row, config, block);
}

size_t weight_copies(const struct weight_row *row, const struct model_config *config, size_t block) {
    return row->copies == NULL ? 1 : row->copies(config, block);
}

size_t weight_blocks(const struct weight_row *row, size_t blocks) {
    return weight_in_block(row) ? blocks : 1;
}

bool weight_same_place(const struct weight_row *a, const struct weight_row *b) {
    return weight_in_block(a) == weight_in_block(b) && a->place == b->place;
}

void weight_name(char out[WEIGHT_NAME], const char *prefix, const struct weight_row *row, size_t block,
                 size_t copy) {
    enum { NUMBER_SIZE = 24 };
    size_t used = (size_t)snprintf(out, WEIGHT_NAME, "%s", prefix);
    const char *at = row->name;
    while (*at != 0 && used + NUMBER_SIZE < WEIGHT_NAME) {
        if (strncmp(at, "{i}", 3) == 0 || strncmp(at, "{e}", 3) == 0) {
            used += (size_t)snprintf(out + used, WEIGHT_NAME - used, "%zu", at[1] == 'i' ? block : copy);
            at += 3;
        } else {
            out[used++] = *at++;
        }
    }
    out[used] = 0;
}
