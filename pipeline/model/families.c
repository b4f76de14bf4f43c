// SPDX-License-Identifier: MIT
#include "model/family.h"

#include <string.h>

#include "base/names.h"
#include "model/family_rows.h"

static const char *const plain_prefixes[] = {"model.", "", NULL};
const char *const family_text_prefixes[] = {
    "model.language_model.", "language_model.model.", "language_model.", "model.", "", NULL};

// clang-format off
static const struct family_nest nests[] = {
    {"gemma3", false, "gemma3_text", false},
    {"mistral3", false, "mistral", false},
    {"qwen2_5_vl", true, "qwen2_5_vl_text", false},
    {"qwen3_vl", false, "qwen3_vl_text", false},
    {"qwen3_vl_moe", false, "qwen3_vl_moe_text", false},
    {"gemma4", false, "gemma4_text", true},
    {"gemma4_unified", false, "gemma4_unified_text", true},
    {"qwen3_5", false, "qwen3_5_text", false},
    {"qwen3_5_moe", false, "qwen3_5_moe_text", false},
    {"llama4", false, "llama4_text", false},
};
// clang-format on

enum { NESTS = sizeof nests / sizeof nests[0] };

static const struct family_list *const lists[] = {&family_list_dense, &family_list_mixtures,
                                                  &family_list_latent, &family_list_hybrids};

enum { LISTS = sizeof lists / sizeof lists[0] };

const struct family_row *family_find(const char *model_type) {
    for (size_t list = 0; list < LISTS; list++) {
        for (size_t i = 0; i < lists[list]->count; i++) {
            if (strcmp(lists[list]->rows[i].model_type, model_type) == 0) {
                return &lists[list]->rows[i];
            }
        }
    }
    return NULL;
}

const struct family_nest *family_nest_find(const char *model_type) {
    for (size_t i = 0; i < NESTS; i++) {
        if (strcmp(nests[i].model_type, model_type) == 0) {
            return &nests[i];
        }
    }
    return NULL;
}

const struct weight_table *family_weights(const struct family_row *row) {
    return row->weights == NULL ? &weight_table_dense : row->weights;
}

const char *const *family_prefixes(const struct family_row *row) {
    return row == NULL || row->prefixes == NULL ? plain_prefixes : row->prefixes;
}

void family_names(char *out, size_t size) {
    size_t count = NESTS;
    size_t done = 0;
    for (size_t list = 0; list < LISTS; list++) {
        count += lists[list]->count;
    }
    for (size_t list = 0; list < LISTS; list++) {
        for (size_t i = 0; i < lists[list]->count; i++) {
            names_append(out, size, lists[list]->rows[i].model_type, done++, count);
        }
    }
    for (size_t i = 0; i < NESTS; i++) {
        names_append(out, size, nests[i].model_type, done++, count);
    }
}
