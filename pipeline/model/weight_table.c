#include "model/weight_table.h"

#include <stdio.h>
#include <string.h>

#include "model/weights.h"

#define GLOBAL(member) offsetof(struct model_weights, member)
#define BLOCK(member) offsetof(struct block_weights, member)

static bool attention_bias(const struct model_config *config, size_t block) {
    (void)block;
    return config->attention_bias;
}

static bool output_bias(const struct model_config *config, size_t block) {
    (void)block;
    return config->output_bias;
}

static bool mlp_bias(const struct model_config *config, size_t block) {
    (void)block;
    return config->mlp_bias;
}

static bool qk_norm(const struct model_config *config, size_t block) {
    (void)block;
    return config->qk_norm;
}

// clang-format off
static const struct weight_row dense[] = {
    {"embed_tokens.weight",                           FORM_TABLE,  DIM_VOCABULARY,   DIM_HIDDEN,       GLOBAL(embedding),    NULL,           NULL},
    {"norm.weight",                                   FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,          GLOBAL(final_norm),   NULL,           NULL},
    {"layers.{i}.input_layernorm.weight",             FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,          BLOCK(input_norm),    NULL,           NULL},
    {"layers.{i}.self_attn.q_proj.weight",            FORM_MATRIX, DIM_Q,            DIM_HIDDEN,       BLOCK(qkv),           NULL,           NULL},
    {"layers.{i}.self_attn.k_proj.weight",            FORM_MATRIX, DIM_KV,           DIM_HIDDEN,       BLOCK(qkv),           NULL,           NULL},
    {"layers.{i}.self_attn.v_proj.weight",            FORM_MATRIX, DIM_KV,           DIM_HIDDEN,       BLOCK(qkv),           NULL,           NULL},
    {"layers.{i}.self_attn.q_proj.bias",              FORM_VECTOR, DIM_Q,            DIM_ONE,          BLOCK(qkv_bias),      attention_bias, NULL},
    {"layers.{i}.self_attn.k_proj.bias",              FORM_VECTOR, DIM_KV,           DIM_ONE,          BLOCK(qkv_bias),      attention_bias, NULL},
    {"layers.{i}.self_attn.v_proj.bias",              FORM_VECTOR, DIM_KV,           DIM_ONE,          BLOCK(qkv_bias),      attention_bias, NULL},
    {"layers.{i}.self_attn.q_norm.weight",            FORM_VECTOR, DIM_HEAD,         DIM_ONE,          BLOCK(q_norm),        qk_norm,        NULL},
    {"layers.{i}.self_attn.k_norm.weight",            FORM_VECTOR, DIM_HEAD,         DIM_ONE,          BLOCK(k_norm),        qk_norm,        NULL},
    {"layers.{i}.self_attn.o_proj.weight",            FORM_MATRIX, DIM_HIDDEN,       DIM_Q,            BLOCK(output),        NULL,           NULL},
    {"layers.{i}.self_attn.o_proj.bias",              FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,          BLOCK(output_bias),   output_bias,    NULL},
    {"layers.{i}.post_attention_layernorm.weight",    FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,          BLOCK(post_norm),     NULL,           NULL},
    {"layers.{i}.mlp.gate_proj.weight",               FORM_MATRIX, DIM_INTERMEDIATE, DIM_HIDDEN,       BLOCK(gate_up),       NULL,           NULL},
    {"layers.{i}.mlp.up_proj.weight",                 FORM_MATRIX, DIM_INTERMEDIATE, DIM_HIDDEN,       BLOCK(gate_up),       NULL,           NULL},
    {"layers.{i}.mlp.gate_proj.bias",                 FORM_VECTOR, DIM_INTERMEDIATE, DIM_ONE,          BLOCK(gate_up_bias),  mlp_bias,       NULL},
    {"layers.{i}.mlp.up_proj.bias",                   FORM_VECTOR, DIM_INTERMEDIATE, DIM_ONE,          BLOCK(gate_up_bias),  mlp_bias,       NULL},
    {"layers.{i}.mlp.down_proj.weight",               FORM_MATRIX, DIM_HIDDEN,       DIM_INTERMEDIATE, BLOCK(down),          NULL,           NULL},
    {"layers.{i}.mlp.down_proj.bias",                 FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,          BLOCK(down_bias),     mlp_bias,       NULL},
};
// clang-format on

const struct weight_table weight_table_dense = {dense, sizeof dense / sizeof dense[0]};

// Dimensions are at most 2^24, heads and head_dim at most 2^16 (config.c): matmuls of two dimensions fit.
size_t weight_dimension(const struct model_config *config, enum weight_dimension which) {
    switch (which) {
    case DIM_HIDDEN:
        return config->hidden;
    case DIM_VOCABULARY:
        return config->vocabulary;
    case DIM_Q:
        return config->heads * config->head_dim;
    case DIM_KV:
        return config->kv_heads * config->head_dim;
    case DIM_HEAD:
        return config->head_dim;
    case DIM_INTERMEDIATE:
        return config->intermediate;
    case DIM_ONE:
        break;
    }
    return 1;
}

// ---- what rows say ----

bool weight_in_block(const struct weight_row *row) {
    return strstr(row->name, "{i}") != NULL;
}

bool weight_present(const struct weight_row *row, const struct model_config *config, size_t block) {
    return row->present == NULL || row->present(config, block);
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
