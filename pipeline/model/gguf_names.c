// SPDX-License-Identifier: MIT
#include "model/gguf_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { NAME_SIZE = 128 };

struct name {
    const char *file;  // without .weight or .bias
    const char *model; // as transformers has it
};

static const struct name names[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
};

static const struct name block_names[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

static const char *find(const struct name *list, size_t count, const char *name, size_t length) {
    for (size_t i = 0; i < count; i++) {
        if (strlen(list[i].file) == length && memcmp(list[i].file, name, length) == 0) {
            return list[i].model;
        }
    }
    return NULL;
}

// The block's number as it is written, of `digits` digits, and what follows its dot; NULL where the name is
// none of a block.
static const char *behind_block(const char *name, int *digits) {
    static const char start[] = "blk.";
    const char *number = name + sizeof start - 1;
    if (strncmp(name, start, sizeof start - 1) != 0) {
        return NULL;
    }
    size_t length = strspn(number, "0123456789");
    bool canonical = length > 0 && length < 8 && (number[0] != '0' || length == 1);
    *digits = (int)length;
    return canonical && number[length] == '.' ? number + length + 1 : NULL;
}

// The name in transformers, or false.
static bool translate(const char *name, char out[NAME_SIZE]) {
    const char *end = strrchr(name, '.');
    int digits = 0;
    if (end == NULL || (strcmp(end, ".weight") != 0 && strcmp(end, ".bias") != 0)) {
        return false;
    }
    const char *inner = behind_block(name, &digits);
    if (inner == NULL) {
        const char *plain = find(names, sizeof names / sizeof names[0], name, (size_t)(end - name));
        snprintf(out, NAME_SIZE, "%s%s", plain == NULL ? "" : plain, end);
        return plain != NULL;
    }
    if (inner > end) {
        return false;
    }
    const char *block =
        find(block_names, sizeof block_names / sizeof block_names[0], inner, (size_t)(end - inner));
    snprintf(out, NAME_SIZE, "model.layers.%.*s.%s%s", digits, inner - 1 - digits, block == NULL ? "" : block,
             end);
    return block != NULL;
}

int gguf_names_translate(struct tensors *tensors, size_t first, struct error *err) {
    for (size_t i = first; i < tensors->count; i++) {
        struct tensor *tensor = &tensors->entries[i];
        char name[NAME_SIZE];
        char *copy;
        if (translate(tensor->name, name)) {
            TRY(memory_text(&copy, name, err));
            free(tensor->name);
            tensor->name = copy;
        }
    }
    return STATUS_OK;
}

static bool is_query_or_key(const char *name) {
    return strncmp(name, "model.layers.", 13) == 0 &&
           (strstr(name, ".self_attn.q_proj.") != NULL || strstr(name, ".self_attn.k_proj.") != NULL);
}

void gguf_names_interleave(struct tensors *tensors, const struct model_config *config) {
    if (strcmp(config->model_type, "llama") != 0 && strcmp(config->model_type, "mistral") != 0) {
        return;
    }
    for (size_t i = 0; i < tensors->count; i++) {
        if (is_query_or_key(tensors->entries[i].name)) {
            tensors->entries[i].head_rows = config->head_dim;
        }
    }
}
