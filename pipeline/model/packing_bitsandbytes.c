// bitsandbytes. 4-bit codes (NF4, FP4): the bytes of STEM.weight, two codes in each, with a scale a run of
// the flattened matrix; its quant_state tells runs and types. LLM.int8: STEM.weight with a scale a row.
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "model/packing_methods.h"
#include "model/place.h"
#include "model/quant_state.h"
#include "model/weight_tensors.h"

#define STATE ".weight.quant_state.bitsandbytes__"

enum { TABLE = 16, NESTED_TABLE = 256 };

static const struct four_bit_type {
    const char *name; // in quant_state
    const char *state;
    const char *format;
} four_bit_types[] = {{"nf4", STATE "nf4", "NF4"}, {"fp4", STATE "fp4", "FP4"}};

enum { FOUR_BIT_TYPES = sizeof four_bit_types / sizeof four_bit_types[0] };

// ---- 4 bits ----

static int read_state(struct quant_state *out, const struct checkpoint *checkpoint,
                      const struct tensor *tensor, const char *type, size_t rows, size_t columns,
                      struct error *err) {
    char text[QUANT_STATE_BYTES];
    size_t size = tensor->end - tensor->begin;
    if (!weight_tensor_is(tensor, "U8") || size > sizeof text) {
        return error_set(err, STATUS_DATA, "tensor '%s' is not a text of at most %d bytes (dtype U8)",
                         tensor->name, QUANT_STATE_BYTES);
    }
    TRY(weight_tensor_read(text, size, checkpoint, tensor, err));
    if (quant_state_parse(out, text, size, type, err) != STATUS_OK) {
        return error_wrap(err, "tensor '%s'", tensor->name);
    }
    if (out->rows != rows || out->columns != columns) {
        return error_set(err, STATUS_DATA, "tensor '%s': 'shape' is [%zu, %zu]; %s asks for [%zu, %zu]",
                         tensor->name, out->rows, out->columns, model_part_name(MODEL_CONFIG), rows, columns);
    }
    return STATUS_OK;
}

// Bytes, whatever type they are stored as (bnb_4bit_quant_storage).
static int check_codes(const struct tensor *tensor, size_t codes, struct error *err) {
    static const char *const types[] = {"U8", "BF16", "F16", "F32"};
    bool known = false;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        known |= weight_tensor_is(tensor, types[i]);
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

struct companion { // a list of numbers beside the codes
    const char *ending;
    const char *type;
    size_t count;
    enum weight_part part;
    const char *reason;
};

static int take_companions(struct weight_source *out, const struct checkpoint *checkpoint, const char *stem,
                           size_t codes, struct error *err) {
    const struct weight_lookups *lookups = &out->format.lookups;
    bool nested = lookups->is_nested;
    size_t runs = (codes - 1) / lookups->run + 1;
    size_t groups = nested ? (runs - 1) / lookups->nested + 1 : 0;
    const struct companion companions[] = {
        {".weight.absmax", nested ? "U8" : "F32", runs, PART_SCALES, "'blocksize'"},
        {".weight.quant_map", "F32", TABLE, PART_TABLE, "a code of 4 bits"},
        {".weight.nested_absmax", "F32", groups, PART_NESTED_SCALES, "'nested_blocksize'"},
        {".weight.nested_quant_map", "F32", NESTED_TABLE, PART_NESTED_TABLE, "a code of 8 bits"},
    };
    for (size_t i = 0; i < (nested ? 4 : 2); i++) {
        const struct tensor *tensor;
        TRY(weight_tensor_need(&tensor, checkpoint, stem, companions[i].ending, err));
        TRY(weight_tensor_check(tensor, companions[i].type, 1, &companions[i].count, companions[i].reason,
                                err));
        weight_tensor_take(out, tensor, companions[i].part,
                           weight_tensor_is(tensor, "F32") ? NUMBERS_F32 : NUMBERS_ANY);
    }
    // bitsandbytes itself goes by the tensor.
    if (!nested && weight_tensor_find(checkpoint, stem, companions[2].ending) != NULL) {
        return error_set(err, STATUS_DATA,
                         "tensor '%s%s' is there, but quant_state has no 'nested_blocksize'", stem,
                         companions[2].ending);
    }
    return STATUS_OK;
}

static int find_four_bits(struct weight_source *out, const struct checkpoint *checkpoint,
                          const struct four_bit_type *type, const char *stem, size_t rows, size_t columns,
                          struct error *err) {
    const struct tensor *weight;
    const struct tensor *tensor;
    struct quant_state state;
    size_t codes = 0;
    TRY(weight_tensor_need(&weight, checkpoint, stem, ".weight", err));
    TRY(weight_tensor_need(&tensor, checkpoint, stem, type->state, err));
    TRY(read_state(&state, checkpoint, tensor, type->name, rows, columns, err));
    if (!size_mul(rows, columns, &codes)) {
        return error_set(err, STATUS_DATA, "tensor '%s' is too large", weight->name);
    }
    out->format = (struct weight_format){
        .name = type->format, .kind = WEIGHT_LOOKUP, .lookups = state.lookups, .rounding = DTYPE_F32};
    TRY(check_codes(weight, codes, err));
    weight_tensor_take(out, weight, PART_CODES, NUMBERS_ANY);
    TRY(take_companions(out, checkpoint, stem, codes, err));
    weight_tensor_pass_over(out, tensor);
    return weight_tensors_fit(out, rows, columns, err);
}

// ---- 8 bits ----

// Orders for tensor cores that versions before 0.45 could store.
static int check_order(const struct checkpoint *checkpoint, const struct tensor *tensor, struct error *err) {
    static const char *const orders[] = {"row", "col32", "col_turing", "col_ampere"};
    enum { ORDERS = sizeof orders / sizeof orders[0] };
    unsigned char order = 0;
    if (!weight_tensor_is(tensor, "U8")) {
        return error_set(err, STATUS_DATA, "tensor '%s' has dtype %s, not U8", tensor->name,
                         tensor->type->name);
    }
    TRY(weight_tensor_read(&order, 1, checkpoint, tensor, err));
    if (order != 0) {
        char number[8];
        snprintf(number, sizeof number, "%d", order);
        return error_set(
            err, STATUS_DATA,
            "tensor '%s' says %s: the weight is not in the order of its rows; save it again with "
            "bitsandbytes 0.45 or later",
            tensor->name, order < ORDERS ? orders[order] : number);
    }
    return STATUS_OK;
}

static int find_eight_bits(struct weight_source *out, const struct checkpoint *checkpoint, const char *stem,
                           size_t rows, size_t columns, struct error *err) {
    const struct tensor *weight;
    const struct tensor *scales;
    const char *reason = model_part_name(MODEL_CONFIG);
    TRY(weight_tensor_need(&weight, checkpoint, stem, ".weight", err));
    TRY(weight_tensor_need(&scales, checkpoint, stem, ".SCB", err));
    TRY(weight_tensor_check(weight, "I8", 2, (const size_t[]){rows, columns}, reason, err));
    TRY(weight_tensor_check(scales, "F32", 1, &rows, reason, err));
    // int8_vectorwise_dequant: code * SCB, then * this.
    out->format = (struct weight_format){
        .name = "LLM.int8",
        .kind = WEIGHT_GROUPED,
        .groups = {.code = CODE_I8, .scale = SCALE_F32, .rows = 1, .factor = (float)7.874015718698502e-3},
        .rounding = DTYPE_F32};
    weight_tensor_take(out, weight, PART_CODES, NUMBERS_ANY);
    weight_tensor_take(out, scales, PART_SCALES, NUMBERS_F32);
    const struct tensor *order = weight_tensor_find(checkpoint, stem, ".weight_format");
    if (order != NULL) {
        TRY(check_order(checkpoint, order, err));
        weight_tensor_pass_over(out, order);
    }
    return weight_tensors_fit(out, rows, columns, err);
}

// ---- either ----

int packing_bitsandbytes_find(struct weight_source *out, const struct checkpoint *checkpoint,
                              const struct quantization *quantization, const char *stem, size_t rows,
                              size_t columns, bool *found, struct error *err) {
    *out = (struct weight_source){0};
    *found = true;
    for (size_t i = 0; i < FOUR_BIT_TYPES; i++) {
        if (weight_tensor_find(checkpoint, stem, four_bit_types[i].state) != NULL) {
            return find_four_bits(out, checkpoint, &four_bit_types[i], stem, rows, columns, err);
        }
    }
    if (weight_tensor_find(checkpoint, stem, ".SCB") != NULL) {
        return find_eight_bits(out, checkpoint, stem, rows, columns, err);
    }
    // What is packed and lacks the tensor that says how.
    const struct tensor *weight = weight_tensor_find(checkpoint, stem, ".weight");
    const struct tensor *missing;
    bool ours = quantization->method == QUANTIZATION_BITSANDBYTES && weight != NULL;
    if (weight_tensor_find(checkpoint, stem, ".weight.absmax") != NULL ||
        (ours && weight_tensor_is(weight, "U8"))) {
        return weight_tensor_need(&missing, checkpoint, stem, four_bit_types[0].state, err);
    }
    if (ours && weight_tensor_is(weight, "I8")) {
        return weight_tensor_need(&missing, checkpoint, stem, ".SCB", err);
    }
    *found = false;
    return STATUS_OK;
}
