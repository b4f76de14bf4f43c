// SPDX-License-Identifier: MIT
#include "model/quantization_schemes.h"

#include <stdio.h>
#include <string.h>

enum { LARGEST_SIDE = 1 << 24 };

static const char instead[] =
    "get a checkpoint in the format float-quantized, int-quantized or pack-quantized, or the model's own "
    "weights";

int schemes_read_block(const struct values *map, const char *key, size_t *rows, size_t *columns,
                       struct error *err) {
    struct values list = values_member(map, key);
    int64_t sides[2] = {0};
    const char *text = NULL;
    struct error ignored;
    if (!values_has(map, key)) {
        return STATUS_OK;
    }
    bool found = values_kind(map, key) == VALUE_LIST && values_count(&list) == 2 &&
                 values_integer_at(&list, 0, &sides[0]) && values_integer_at(&list, 1, &sides[1]);
    if (!found && values_text(map, key, &text, &ignored) == STATUS_OK && text != NULL) {
        unsigned long long high = 0;
        unsigned long long wide = 0;
        int used = 0;
        found = sscanf(text, "%8llux%8llu%n", &high, &wide, &used) == 2 && text[used] == 0;
        sides[0] = (int64_t)high;
        sides[1] = (int64_t)wide;
    }
    if (!found || sides[0] < 1 || sides[1] < 1 || sides[0] > LARGEST_SIDE || sides[1] > LARGEST_SIDE) {
        return error_set(err, STATUS_DATA, "'%s' is not a block of rows and columns, as [128, 128]", key);
    }
    *rows = (size_t)sides[0];
    *columns = (size_t)sides[1];
    return STATUS_OK;
}

// ---- one scheme ----

static int read_type(struct quantization_scheme *out, const struct values *weights, struct error *err) {
    int64_t bits = 8;
    const char *type = "int";
    TRY(values_integer(weights, "num_bits", 1, 64, &bits, err));
    TRY(values_text(weights, "type", &type, err));
    out->bits = (size_t)bits;
    out->is_float = strcmp(type, "float") == 0;
    if (!out->is_float && strcmp(type, "int") != 0) {
        return error_set(err, STATUS_DATA, "'type' is '%.64s'; supported are int and float", type);
    }
    if (bits > 8 || (out->is_float && bits != 8)) {
        return error_set(err, STATUS_DATA, "'num_bits' is %zu of type %s, which is not supported: %s",
                         out->bits, type, instead);
    }
    return STATUS_OK;
}

static int read_strategy(struct quantization_scheme *out, const struct values *weights, struct error *err) {
    static const char *const names[] = {[STRATEGY_TENSOR] = "tensor",
                                        [STRATEGY_CHANNEL] = "channel",
                                        [STRATEGY_GROUP] = "group",
                                        [STRATEGY_BLOCK] = "block"};
    int64_t group = 0; // what it says of the strategy where that is left out
    TRY(values_integer(weights, "group_size", -1, LARGEST_SIDE, &group, err));
    const char *name = names[group > 0 ? STRATEGY_GROUP : group < 0 ? STRATEGY_CHANNEL : STRATEGY_TENSOR];
    TRY(values_text(weights, "strategy", &name, err));
    TRY(schemes_read_block(weights, "block_structure", &out->block_rows, &out->block_columns, err));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) != 0) {
            continue;
        }
        out->strategy = (enum quantization_strategy)i;
        out->group = group > 0 ? (size_t)group : 0;
        if ((i == STRATEGY_GROUP && out->group == 0) || (i == STRATEGY_BLOCK && out->block_rows == 0)) {
            return error_set(err, STATUS_DATA, "'%s' is missing, which the strategy %s needs",
                             i == STRATEGY_GROUP ? "group_size" : "block_structure", name);
        }
        return STATUS_OK;
    }
    return error_set(err, STATUS_DATA, "'strategy' is '%.64s', which is not supported: %s", name, instead);
}

// "group" or true: columns are ordered by activations. "weight": they were, and are in order again.
static int read_order(struct quantization_scheme *out, const struct values *weights, struct error *err) {
    const char *order = NULL;
    struct error ignored;
    if (values_boolean(weights, "actorder", &out->by_order, &ignored) == STATUS_OK) {
        return STATUS_OK;
    }
    TRY(values_text(weights, "actorder", &order, err));
    out->by_order = strcmp(order, "group") == 0 || strcmp(order, "dynamic") == 0;
    return STATUS_OK;
}

static int read_scheme(struct quantization_scheme *out, const struct values *weights, struct error *err) {
    bool symmetric = true;
    *out = (struct quantization_scheme){0};
    TRY(read_type(out, weights, err));
    TRY(read_strategy(out, weights, err));
    TRY(read_order(out, weights, err));
    TRY(values_boolean(weights, "symmetric", &symmetric, err));
    out->has_zeros = !symmetric;
    return STATUS_OK;
}

// ---- all ----

static int check_format(const struct values *map, struct error *err) {
    static const char *const known[] = {"float-quantized", "int-quantized",   "naive-quantized",
                                        "pack-quantized",  "mixed-precision", "dense"};
    const char *format = "dense"; // tensors tell the layout
    TRY(values_text(map, "format", &format, err));
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(format, known[i]) == 0) {
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_DATA, "'format' is '%.64s', which is not supported: %s", format, instead);
}

// Sparsity and rotations change what the tensors mean.
static int refuse_more(const struct values *map, struct error *err) {
    const char *sparse = "dense";
    struct values sparsity = values_member(map, "sparsity_config");
    struct values transforms = values_member(map, "transform_config");
    TRY(values_text(&sparsity, "format", &sparse, err));
    if (strcmp(sparse, "dense") != 0) {
        return error_set(err, STATUS_DATA,
                         "'sparsity_config' has the format '%.64s'; sparse weights are not supported: %s",
                         sparse, instead);
    }
    return values_count(&transforms) == 0
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'transform_config' rotates weights, which is not supported: %s",
                           instead);
}

static int read_group(struct quantization *out, const struct values *groups, const char *key,
                      struct error *err) {
    struct values group = values_member(groups, key);
    struct values weights = values_member(&group, "weights");
    TRY(check_format(&group, err));
    if (values_kind(&group, "weights") != VALUE_MAP) { // activations only
        return STATUS_OK;
    }
    if (out->scheme_count == QUANTIZATION_SCHEMES) {
        return error_set(err, STATUS_DATA, "more than %d groups are not supported", QUANTIZATION_SCHEMES);
    }
    TRY(read_scheme(&out->schemes[out->scheme_count], &weights, err));
    out->scheme_count++;
    return STATUS_OK;
}

int schemes_read(struct quantization *out, const struct values *map, struct error *err) {
    struct values groups = values_member(map, "config_groups");
    TRY(check_format(map, err));
    TRY(refuse_more(map, err));
    if (values_kind(map, "config_groups") != VALUE_MAP) {
        return error_set(err, STATUS_DATA, "'config_groups' is missing or not an object");
    }
    for (const char *key = values_next_key(&groups, NULL); key != NULL; key = values_next_key(&groups, key)) {
        if (read_group(out, &groups, key, err) != STATUS_OK) {
            return error_wrap(err, "'%.64s'", key);
        }
    }
    return STATUS_OK;
}
