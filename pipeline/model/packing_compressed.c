// SPDX-License-Identifier: MIT
// compressed-tensors: STEM.weight in 8 bits (float-quantized, int-quantized) or STEM.weight_packed
// (pack-quantized), with .weight_scale, .weight_zero_point, .weight_g_idx, .weight_shape. The library
// computes a number in the type of its scale, (code - zero point) * scale, so the result is rounded to that.
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "model/packing_methods.h"

enum { WORD_BITS = 32 };

struct compressed_tensors {
    const struct tensor *codes;
    const struct tensor *scale;
    const struct tensor *zeros; // may be NULL, as the next two
    const struct tensor *order;
    const struct tensor *shape;
    bool is_packed;
};

static bool has_type(const struct tensor *tensor, const char *type) {
    return strcmp(tensor->type->name, type) == 0;
}

// ---- tensors ----

// What is there of a weight without codes belongs to some all the same.
static int refuse_rest(const struct packing *p, const struct tensor *plain, struct error *err) {
    static const char *const suffixes[] = {"weight_scale", "weight_zero_point", "weight_shape",
                                           "weight_g_idx"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        const struct tensor *tensor = packing_tensor(p, suffixes[i]);
        if (tensor == NULL) {
            continue;
        }
        if (plain == NULL) {
            return error_set(err, STATUS_DATA, "tensor '%s.weight_packed' is missing, which '%s' belongs to",
                             p->stem, tensor->name);
        }
        return error_set(err, STATUS_DATA,
                         "tensor '%s' belongs to codes, but '%s' has dtype %s: save the model compressed",
                         tensor->name, plain->name, plain->type->name);
    }
    return STATUS_OK;
}

static int find_tensors(const struct packing *p, struct compressed_tensors *out, bool *found,
                        struct error *err) {
    const struct tensor *plain = packing_tensor(p, "weight");
    const struct tensor *packed = packing_tensor(p, "weight_packed");
    if (packed != NULL && plain != NULL) {
        return error_set(err, STATUS_DATA,
                         "tensors '%s' and '%s' are both there: is the weight packed or not?", plain->name,
                         packed->name);
    }
    if (packed == NULL && (plain == NULL || (!has_type(plain, "I8") && !has_type(plain, "F8_E4M3")))) {
        return refuse_rest(p, plain, err);
    }
    *found = true;
    out->is_packed = packed != NULL;
    out->codes = packed != NULL ? packed : plain;
    out->zeros = packing_tensor(p, "weight_zero_point");
    out->order = packing_tensor(p, "weight_g_idx");
    out->shape = packing_tensor(p, "weight_shape");
    return packing_require(p, "weight_scale", &out->scale, err);
}

static int64_t long_at(const unsigned char *bytes) {
    int64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static int check_stated_shape(const struct packing *p, const struct tensor *tensor, struct error *err) {
    unsigned char *bytes;
    TRY(packing_check(tensor, "I64", 1, 2, 0, err));
    TRY(packing_read(p, tensor, &bytes, err));
    int64_t rows = long_at(bytes);
    int64_t columns = long_at(bytes + sizeof rows);
    free(bytes);
    if (rows == (int64_t)p->rows && columns == (int64_t)p->columns) {
        return STATUS_OK;
    }
    return error_set(err, STATUS_DATA, "tensor '%s' says [%lld, %lld]; the weight has the shape [%zu, %zu]",
                     tensor->name, (long long)rows, (long long)columns, p->rows, p->columns);
}

// Scales of activations, and of keys and values in a cache: of no matter to weights.
static void pass_others(const struct packing *p, const struct compressed_tensors *tensors) {
    static const char *const suffixes[] = {"input_scale", "input_zero_point", "output_scale",
                                           "output_zero_point"};
    static const char projection[] = "proj"; // self_attn.k_proj has self_attn.k_scale beside it
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        packing_pass(p, packing_tensor(p, suffixes[i]));
    }
    packing_pass(p, tensors->shape);
    size_t length = strlen(p->stem);
    if (length > sizeof projection && strcmp(p->stem + length - (sizeof projection - 1), projection) == 0) {
        static const char *const cached[] = {"scale", "zero_point"};
        for (size_t i = 0; i < sizeof cached / sizeof cached[0]; i++) {
            char name[PACKING_STEM + sizeof "zero_point"];
            size_t kept = length - (sizeof projection - 1);
            memcpy(name, p->stem, kept);
            strcpy(name + kept, cached[i]);
            packing_pass(p, tensors_find(&p->checkpoint->tensors, name));
        }
    }
}

// ---- codes ----

static int add_packed(const struct packing *p, const struct quantization_scheme *scheme,
                      const struct compressed_tensors *tensors, struct error *err) {
    struct arrangement how = {.rows = p->rows, .columns = p->columns, .bits = (unsigned)scheme->bits};
    if (scheme->is_float || (scheme->bits != 4 && scheme->bits != 8)) {
        return error_set(err, STATUS_DATA,
                         "tensor '%s' has codes of %zu bits%s; supported are integers of 4 and 8",
                         tensors->codes->name, scheme->bits, scheme->is_float ? " of type float" : "");
    }
    size_t codes = WORD_BITS / scheme->bits;
    size_t words = p->columns / codes + (p->columns % codes != 0);
    TRY(packing_check(tensors->codes, "I32", 2, p->rows, words, err));
    how.kind = p->columns % codes == 0 ? ARRANGE_AS_IS : ARRANGE_WORDS; // a row's bytes are its codes
    p->out->format.groups.code = scheme->bits == 4 ? CODE_U4 : CODE_U8;
    p->out->format.groups.zero = 1 << (scheme->bits - 1);
    packing_add(p, tensors->codes, PART_CODES, how);
    return STATUS_OK;
}

static int add_bytes(const struct packing *p, const struct quantization_scheme *scheme,
                     const struct compressed_tensors *tensors, struct error *err) {
    bool is_float = has_type(tensors->codes, "F8_E4M3");
    if (is_float != scheme->is_float) {
        return error_set(
            err, STATUS_DATA, "tensor '%s' has dtype %s, but quantization_config says codes of type %s",
            tensors->codes->name, tensors->codes->type->name, scheme->is_float ? "float" : "int");
    }
    TRY(packing_check_shape(tensors->codes, 2, p->rows, p->columns, err));
    p->out->format.groups.code = is_float ? CODE_E4M3 : CODE_I8;
    packing_add(
        p, tensors->codes, PART_CODES,
        (struct arrangement){.kind = ARRANGE_AS_IS, .numbers = is_float ? NUMBERS_E4M3 : NUMBERS_ANY});
    return STATUS_OK;
}

// ---- scales ----

// What shares a scale, and how many groups the columns are.
static int set_groups(const struct packing *p, const struct quantization_scheme *scheme,
                      const struct compressed_tensors *tensors, size_t *across, struct error *err) {
    struct weight_groups *groups = &p->out->format.groups;
    *across = 1;
    switch (scheme->strategy) {
    case STRATEGY_TENSOR:
        break;
    case STRATEGY_CHANNEL:
        groups->rows = 1;
        break;
    case STRATEGY_GROUP:
        groups->rows = 1;
        groups->columns = scheme->group;
        *across = p->columns / scheme->group;
        if (p->columns % scheme->group != 0) {
            return error_set(err, STATUS_DATA,
                             "tensor '%s': %zu columns are no whole number of groups of %zu ('group_size')",
                             tensors->scale->name, p->columns, scheme->group);
        }
        break;
    case STRATEGY_BLOCK:
        groups->rows = scheme->block_rows;
        groups->columns = scheme->block_columns;
        *across = p->columns / scheme->block_columns + (p->columns % scheme->block_columns != 0);
        break;
    }
    return STATUS_OK;
}

// [down, across]; the second size may be left out where it is 1, and of one number both.
static int check_grid(const struct packing *p, const struct quantization_scheme *scheme,
                      const struct tensor *tensor, size_t across, struct error *err) {
    size_t each = p->out->format.groups.rows;
    size_t down = each == 0 ? 1 : p->rows / each + (p->rows % each != 0);
    bool single = scheme->strategy == STRATEGY_TENSOR;
    bool flat = single || scheme->strategy == STRATEGY_CHANNEL;
    size_t rank = single && tensor->rank == 0 ? 0 : flat && tensor->rank == 1 ? 1 : 2;
    return packing_check_shape(tensor, rank, down, across, err);
}

static int add_scale(const struct packing *p, const struct quantization_scheme *scheme,
                     const struct compressed_tensors *tensors, size_t across, struct error *err) {
    struct arrangement how = {.kind = ARRANGE_AS_IS};
    TRY(packing_scale(tensors->scale, &p->out->format, &how.numbers, &p->out->format.rounding, err));
    TRY(check_grid(p, scheme, tensors->scale, across, err));
    packing_add(p, tensors->scale, PART_SCALES, how);
    return STATUS_OK;
}

// ---- zero points ----

// Older files of symmetric codes have them too: all zero.
static int pass_zeros(const struct packing *p, const struct tensor *tensor, struct error *err) {
    unsigned char *bytes;
    unsigned char any = 0;
    if (tensor == NULL) {
        return STATUS_OK;
    }
    if ((tensor->end - tensor->begin) / p->columns > p->rows) {
        return error_set(err, STATUS_DATA, "tensor '%s' has %zu bytes, more than weights", tensor->name,
                         tensor->end - tensor->begin);
    }
    TRY(packing_read(p, tensor, &bytes, err));
    for (size_t i = 0; i < tensor->end - tensor->begin; i++) {
        any |= bytes[i];
    }
    free(bytes);
    if (any != 0) {
        return error_set(err, STATUS_DATA,
                         "tensor '%s' has zero points, but quantization_config says 'symmetric'",
                         tensor->name);
    }
    packing_pass(p, tensor);
    return STATUS_OK;
}

static int add_byte_zeros(const struct packing *p, const struct quantization_scheme *scheme,
                          const struct tensor *tensor, size_t across, struct error *err) {
    if (!has_type(tensor, "I8")) {
        return error_set(err, STATUS_DATA, "tensor '%s' has dtype %s; zero points of its codes are I8",
                         tensor->name, tensor->type->name);
    }
    TRY(check_grid(p, scheme, tensor, across, err));
    if (scheme->strategy != STRATEGY_TENSOR) {
        p->out->format.groups.has_zeros = true;
        packing_add(p, tensor, PART_ZEROS, (struct arrangement){.kind = ARRANGE_AS_IS});
        return STATUS_OK;
    }
    unsigned char *bytes;
    TRY(packing_read(p, tensor, &bytes, err));
    p->out->format.groups.zero = (signed char)bytes[0];
    free(bytes);
    packing_pass(p, tensor);
    return STATUS_OK;
}

static int add_packed_zeros(const struct packing *p, const struct quantization_scheme *scheme,
                            const struct tensor *tensor, size_t across, struct error *err) {
    size_t codes = WORD_BITS / scheme->bits;
    TRY(packing_check(tensor, "I32", 2, p->rows / codes + (p->rows % codes != 0), across, err));
    p->out->format.groups.has_zeros = true;
    packing_add(p, tensor, PART_ZEROS,
                (struct arrangement){.kind = ARRANGE_WORDS,
                                     .rows = p->rows,
                                     .columns = across,
                                     .bits = (unsigned)scheme->bits,
                                     .packs_rows = true});
    return STATUS_OK;
}

static int add_zeros(const struct packing *p, const struct quantization_scheme *scheme,
                     const struct compressed_tensors *tensors, size_t across, struct error *err) {
    if (!scheme->has_zeros) {
        return pass_zeros(p, tensors->zeros, err);
    }
    if (tensors->zeros == NULL) {
        return error_set(err, STATUS_DATA,
                         "tensor '%s.weight_zero_point' is missing; quantization_config does not say "
                         "'symmetric'",
                         p->stem);
    }
    bool by_rows = scheme->strategy == STRATEGY_CHANNEL || scheme->strategy == STRATEGY_GROUP;
    if (scheme->is_float || (!by_rows && (tensors->is_packed || scheme->strategy == STRATEGY_BLOCK))) {
        return error_set(err, STATUS_DATA, "tensor '%s': zero points of such codes are not supported",
                         tensors->zeros->name);
    }
    return tensors->is_packed ? add_packed_zeros(p, scheme, tensors->zeros, across, err)
                              : add_byte_zeros(p, scheme, tensors->zeros, across, err);
}

// ---- order ----

// A file may have group numbers that were never set: -1 all of them.
static int is_unset(const struct packing *p, const struct tensor *tensor, bool *out, struct error *err) {
    unsigned char *bytes;
    unsigned char all = 0xff;
    TRY(packing_read(p, tensor, &bytes, err));
    for (size_t i = 0; i < tensor->end - tensor->begin; i++) {
        all &= bytes[i];
    }
    free(bytes);
    *out = all == 0xff;
    return STATUS_OK;
}

static int add_order(const struct packing *p, const struct quantization_scheme *scheme,
                     const struct compressed_tensors *tensors, size_t across, struct error *err) {
    bool in_order = true;
    if (tensors->order == NULL) {
        return !scheme->by_order ? STATUS_OK
                                 : error_set(err, STATUS_DATA,
                                             "tensor '%s.weight_g_idx' is missing, which 'actorder' of "
                                             "quantization_config needs",
                                             p->stem);
    }
    TRY(packing_check(tensors->order, "I32", 1, p->columns, 0, err));
    TRY(is_unset(p, tensors->order, &in_order, err));
    if (!in_order) {
        TRY(packing_read_order(p, tensors->order, p->out->format.groups.columns, across, &in_order, err));
    }
    if (in_order) {
        packing_pass(p, tensors->order);
        return STATUS_OK;
    }
    p->out->format.groups.has_indices = true;
    packing_add(p, tensors->order, PART_INDICES,
                (struct arrangement){.kind = ARRANGE_INDICES, .groups = across});
    return STATUS_OK;
}

// ---- schemes ----

static int fit(const struct packing *p, const struct quantization_scheme *scheme,
               const struct compressed_tensors *tensors, struct error *err) {
    size_t across;
    *p->out = (struct weight_source){0};
    p->out->format.name = tensors->is_packed ? "pack-quantized"
                          : scheme->is_float ? "float-quantized"
                                             : "int-quantized";
    p->out->format.kind = WEIGHT_GROUPED;
    p->out->format.groups.factor = 1;
    if (tensors->is_packed) {
        TRY(add_packed(p, scheme, tensors, err));
    } else {
        TRY(add_bytes(p, scheme, tensors, err));
    }
    TRY(set_groups(p, scheme, tensors, &across, err));
    TRY(add_scale(p, scheme, tensors, across, err));
    TRY(add_zeros(p, scheme, tensors, across, err));
    TRY(add_order(p, scheme, tensors, across, err));
    if (tensors->shape != NULL) {
        TRY(check_stated_shape(p, tensors->shape, err));
    }
    pass_others(p, tensors);
    return STATUS_OK;
}

// Whether two schemes that fit the same tensors read the same numbers.
static bool same_groups(const struct weight_groups *a, const struct weight_groups *b) {
    return a->code == b->code && a->scale == b->scale && a->rows == b->rows && a->columns == b->columns &&
           a->has_zeros == b->has_zeros && a->zero == b->zero && a->has_indices == b->has_indices;
}

// A configuration of several schemes tells by patterns of names which is whose: the tensors tell it as well.
static int fit_any(const struct packing *p, const struct compressed_tensors *tensors, struct error *err) {
    const struct quantization *quantization = p->quantization;
    struct weight_source found = {0};
    int status = error_set(err, STATUS_DATA,
                           "tensor '%s' has codes, but 'config_groups' of quantization_config say nothing of "
                           "weights",
                           tensors->codes->name);
    for (size_t i = 0; i < quantization->scheme_count; i++) {
        int fits = fit(p, &quantization->schemes[i], tensors, err);
        if (fits != STATUS_OK && fits != STATUS_DATA) {
            return fits;
        }
        if (fits == STATUS_OK && status == STATUS_OK &&
            !same_groups(&found.format.groups, &p->out->format.groups)) {
            return error_set(err, STATUS_DATA,
                             "tensor '%s' fits two of 'config_groups' of quantization_config, which is not "
                             "supported",
                             tensors->codes->name);
        }
        if (fits == STATUS_OK) {
            found = *p->out;
            status = STATUS_OK;
        }
    }
    *p->out = found;
    return status == STATUS_OK || quantization->scheme_count < 2
               ? status
               : error_wrap(err, "none of %zu 'config_groups' fits, the last not because",
                            quantization->scheme_count);
}

int packing_compressed_find(struct weight_source *out, const struct checkpoint *checkpoint,
                            const struct quantization *quantization, const char *stem, size_t rows,
                            size_t columns, bool *found, struct error *err) {
    struct packing p = {out, checkpoint, quantization, stem, rows, columns};
    struct compressed_tensors tensors = {0};
    TRY(find_tensors(&p, &tensors, found, err));
    return *found ? fit_any(&p, &tensors, err) : STATUS_OK;
}
