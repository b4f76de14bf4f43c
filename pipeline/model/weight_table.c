#include "model/weight_table.h"

#include <stdio.h>
#include <string.h>

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
    case DIM_QKV:
        return (config->heads + 2 * config->kv_heads) * config->head_dim;
    case DIM_HEAD:
        return config->head_dim;
    case DIM_HEADS:
        return config->heads;
    case DIM_INTERMEDIATE:
        return config->intermediate;
    case DIM_GATE_UP:
        return 2 * config->intermediate;
    case DIM_POSITIONS:
        return config->position_rows;
    case DIM_EXPERTS:
        return config->experts.count;
    case DIM_EXPERT_WIDTH:
        return config->experts.width;
    case DIM_EXPERTS_GATE_UP:
        return config->experts.count * 2 * config->experts.width;
    case DIM_EXPERTS_DOWN:
        return config->experts.count * config->hidden;
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
