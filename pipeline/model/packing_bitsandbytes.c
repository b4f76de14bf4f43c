// SPDX-License-Identifier: MIT
// bitsandbytes. 4-bit codes (NF4, FP4): the bytes of STEM.weight, two codes in each, with a scale a run of
// the flattened matrix; its quant_state tells runs and types. LLM.int8: STEM.weight with a scale a row.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "model/packing_methods.h"
#include "model/place.h"
#include "model/quant_state.h"

#define STATE "weight.quant_state.bitsandbytes__"

enum { TABLE = 16, NESTED_TABLE = 256 };

static const struct four_bit_type {
    const char *name; // in quant_state
    const char *state;
    const char *format;
} four_bit_types[] = {{"nf4", STATE "nf4", "NF4"}, {"fp4", STATE "fp4", "FP4"}};

enum { FOUR_BIT_TYPES = sizeof four_bit_types / sizeof four_bit_types[0] };

// ---- 4 bits ----

static bool has_type(const struct tensor *tensor, const char *type) {
    return strcmp(tensor->type->name, type) == 0;
}

static int read_state(const struct packing *p, struct quant_state *out, const struct tensor *tensor,
                      const char *type, struct error *err) {
    unsigned char *text;
    size_t size = tensor->end - tensor->begin;
    if (!has_type(tensor, "U8") || size > QUANT_STATE_BYTES) {
        return error_set(err, STATUS_DATA, "tensor '%s' is not a text of at most %d bytes (dtype U8)",
                         tensor->name, QUANT_STATE_BYTES);
    }
    TRY(packing_read(p, tensor, &text, err));
    int status = quant_state_parse(out, (const char *)text, size, type, err);
    free(text);
    if (status != STATUS_OK) {
        return error_wrap(err, "tensor '%s'", tensor->name);
    }
    if (out->rows != p->rows || out->columns != p->columns) {
        return error_set(err, STATUS_DATA, "tensor '%s': 'shape' is [%zu, %zu]; %s asks for [%zu, %zu]",
                         tensor->name, out->rows, out->columns, model_part_name(MODEL_CONFIG), p->rows,
                         p->columns);
    }
    return STATUS_OK;
}

// Bytes, whatever type they are stored as (bnb_4bit_quant_storage).
static int check_codes(const struct tensor *tensor, size_t codes, struct error *err) {
    static const char *const types[] = {"U8", "BF16", "F16", "F32"};
    bool known = false;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        known |= has_type(tensor, types[i]);
    }
    if (!known) {
        return error_set(err, STATUS_DATA,
                         "tensor '%s' has dtype %s; codes of 4 bits lie in U8, BF16, F16 or F32",
                         tensor->name, tensor->type->name);
    }
    size_t wanted = codes / 2 + codes % 2;
    if (tensor->rank != 2 || tensor->shape[1] != 1 || tensor->end - tensor->begin != wanted) {
        char shape[TENSOR_SHAPE_TEXT];
        tensor_shape_text(tensor->shape, tensor->rank, shape);
        return error_set(err, STATUS_DATA,
                         "tensor '%s' has shape %s of %s; %zu codes of 4 bits take [%zu, 1] of U8",
                         tensor->name, shape, tensor->type->name, codes, wanted);
    }
    return STATUS_OK;
}

// Lists of numbers beside the codes.
static int take_companions(const struct packing *p, size_t codes, struct error *err) {
    const struct weight_lookups *lookups = &p->out->format.lookups;
    bool nested = lookups->is_nested;
    size_t runs = (codes - 1) / lookups->run + 1;
    size_t groups = nested ? (runs - 1) / lookups->nested + 1 : 0;
    const struct {
        const char *suffix;
        const char *type;
        size_t count;
        enum weight_part part;
    } companions[] = {
        {"weight.absmax", nested ? "U8" : "F32", runs, PART_SCALES},
        {"weight.quant_map", "F32", TABLE, PART_TABLE},
        {"weight.nested_absmax", "F32", groups, PART_NESTED_SCALES},
        {"weight.nested_quant_map", "F32", NESTED_TABLE, PART_NESTED_TABLE},
    };
    for (size_t i = 0; i < (nested ? 4 : 2); i++) {
        const struct tensor *tensor;
        TRY(packing_require(p, companions[i].suffix, &tensor, err));
        TRY(packing_check(tensor, companions[i].type, 1, companions[i].count, 0, err));
        enum arrangement_numbers numbers = has_type(tensor, "F32") ? NUMBERS_F32 : NUMBERS_ANY;
        packing_add(p, tensor, companions[i].part, (struct arrangement){.numbers = numbers});
    }
    // bitsandbytes itself goes by the tensor.
    if (!nested && packing_tensor(p, companions[2].suffix) != NULL) {
        return error_set(err, STATUS_DATA,
                         "tensor '%s.%s' is there, but quant_state has no 'nested_blocksize'", p->stem,
                         companions[2].suffix);
    }
    return STATUS_OK;
}

static int find_four_bits(const struct packing *p, const struct four_bit_type *type, struct error *err) {
    const struct tensor *weight;
    const struct tensor *tensor;
    struct quant_state state;
    size_t codes = 0;
    TRY(packing_require(p, "weight", &weight, err));
    TRY(packing_require(p, type->state, &tensor, err));
    TRY(read_state(p, &state, tensor, type->name, err));
    if (!size_mul(p->rows, p->columns, &codes)) {
        return error_set(err, STATUS_DATA, "tensor '%s' is too large", weight->name);
    }
    p->out->format = (struct weight_format){
        .name = type->format, .kind = WEIGHT_LOOKUP, .lookups = state.lookups, .rounding = DTYPE_F32};
    TRY(check_codes(weight, codes, err));
    packing_add(p, weight, PART_CODES, (struct arrangement){.kind = ARRANGE_AS_IS});
    TRY(take_companions(p, codes, err));
    packing_pass(p, tensor);
    return STATUS_OK;
}

// ---- 8 bits ----

// Orders for tensor cores that older versions could store.
static int check_order(const struct packing *p, const struct tensor *tensor, struct error *err) {
    static const char *const orders[] = {"row", "col32", "col_turing", "col_ampere"};
    enum { ORDERS = sizeof orders / sizeof orders[0] };
    unsigned char *bytes;
    if (!has_type(tensor, "U8") || tensor->end - tensor->begin != 1) {
        return error_set(err, STATUS_DATA, "tensor '%s' is not one number (dtype U8)", tensor->name);
    }
    TRY(packing_read(p, tensor, &bytes, err));
    unsigned char order = bytes[0];
    free(bytes);
    if (order != 0) {
        char number[8];
        snprintf(number, sizeof number, "%d", order);
        return error_set(
            err, STATUS_DATA,
            "tensor '%s' says %s: the weight is not in the order of its rows; save it again with "
            "a current bitsandbytes",
            tensor->name, order < ORDERS ? orders[order] : number);
    }
    return STATUS_OK;
}

static int find_eight_bits(const struct packing *p, struct error *err) {
    const struct tensor *weight;
    const struct tensor *scales;
    TRY(packing_require(p, "weight", &weight, err));
    TRY(packing_require(p, "SCB", &scales, err));
    TRY(packing_check(weight, "I8", 2, p->rows, p->columns, err));
    TRY(packing_check(scales, "F32", 1, p->rows, 0, err));
    // int8_vectorwise_dequant: code * SCB, then * this.
    p->out->format = (struct weight_format){
        .name = "LLM.int8",
        .kind = WEIGHT_GROUPED,
        .groups = {.code = CODE_I8, .scale = SCALE_F32, .rows = 1, .factor = (float)7.874015718698502e-3},
        .rounding = DTYPE_F32};
    packing_add(p, weight, PART_CODES, (struct arrangement){.kind = ARRANGE_AS_IS});
    packing_add(p, scales, PART_SCALES, (struct arrangement){.numbers = NUMBERS_F32});
    const struct tensor *order = packing_tensor(p, "weight_format");
    if (order != NULL) {
        TRY(check_order(p, order, err));
        packing_pass(p, order);
    }
    return STATUS_OK;
}

// ---- either ----

static int check_bits(const struct packing *p, size_t bits, struct error *err) {
    return p->quantization->bits == bits
               ? STATUS_OK
               : error_set(err, STATUS_DATA,
                           "weight '%s' is packed in %zu bits, and quantization_config says 'load_in_%zubit'",
                           p->stem, bits, p->quantization->bits);
}

int packing_bitsandbytes_find(struct weight_source *out, const struct checkpoint *checkpoint,
                              const struct quantization *quantization, const char *stem, size_t rows,
                              size_t columns, bool *found, struct error *err) {
    struct packing p = {out, checkpoint, quantization, stem, rows, columns};
    *out = (struct weight_source){0};
    *found = true;
    for (size_t i = 0; i < FOUR_BIT_TYPES; i++) {
        if (packing_tensor(&p, four_bit_types[i].state) != NULL) {
            TRY(check_bits(&p, 4, err));
            return find_four_bits(&p, &four_bit_types[i], err);
        }
    }
    if (packing_tensor(&p, "SCB") != NULL) {
        TRY(check_bits(&p, 8, err));
        return find_eight_bits(&p, err);
    }
    // What is packed and lacks the tensor that says how.
    const struct tensor *weight = packing_tensor(&p, "weight");
    const struct tensor *missing;
    if (packing_tensor(&p, "weight.absmax") != NULL || (weight != NULL && has_type(weight, "U8"))) {
        return packing_require(&p, four_bit_types[0].state, &missing, err);
    }
    if (weight != NULL && has_type(weight, "I8")) {
        return packing_require(&p, "SCB", &missing, err);
    }
    *found = false;
    return STATUS_OK;
}
