// SPDX-License-Identifier: MIT
// FP8: STEM.weight in float8 E4M3 with scales of blocks of the matrix, of its rows, or one of all; the number
// is their product. Scales of activations are not read: activations keep their type.
#include <string.h>

#include "model/packing_methods.h"
#include "model/place.h"

// The first one that is there. They multiply, in spite of the name; transformers renames the two others.
static const char *const scale_endings[] = {"weight_scale_inv", "scale", "qscale_weight"};
// Files that vLLM's tools made call them so; of compressed-tensors' the products are rounded.
#define VLLM_ENDING "weight_scale"

static const char *const activation_endings[] = {"activation_scale", "input_scale"};

static const struct tensor *find_scales(const struct packing *p) {
    for (size_t i = 0; i < sizeof scale_endings / sizeof scale_endings[0]; i++) {
        const struct tensor *tensor = packing_tensor(p, scale_endings[i]);
        if (tensor != NULL) {
            return tensor;
        }
    }
    return p->quantization->method == QUANTIZATION_FP8 ? packing_tensor(p, VLLM_ENDING) : NULL;
}

static int find_type(const struct tensor *tensor, enum weight_scale *out, enum arrangement_numbers *numbers,
                     struct error *err) {
    static const struct {
        const char *name;
        enum weight_scale scale;
        enum arrangement_numbers numbers;
    } types[] = {{"F32", SCALE_F32, NUMBERS_F32},
                 {"F16", SCALE_F16, NUMBERS_F16},
                 {"BF16", SCALE_BF16, NUMBERS_BF16},
                 {"F8_E8M0", SCALE_E8M0, NUMBERS_E8M0},
                 {"U8", SCALE_E8M0, NUMBERS_E8M0}}; // bytes of E8M0 (scale_fmt ue8m0)
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(tensor->type->name, types[i].name) == 0) {
            *out = types[i].scale;
            *numbers = types[i].numbers;
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_DATA,
                     "tensor '%s' has dtype %s; scales are read in F32, F16, BF16, F8_E8M0 and U8",
                     tensor->name, tensor->type->name);
}

// ---- which numbers share a scale ----

static size_t blocks_of(size_t count, size_t block) {
    return (count - 1) / block + 1;
}

// In the terms of weight_groups: 0 is all, and no group is larger than the matrix.
static void set_groups(const struct packing *p, size_t block_rows, size_t block_columns) {
    p->out->format.groups.rows = block_rows >= p->rows ? 0 : block_rows;
    p->out->format.groups.columns = block_columns >= p->columns ? 0 : block_columns;
}

// False where the shape of the scales fits nothing. Blocks that config.json names may end beyond the matrix;
// others must divide it, as transformers has it.
static bool find_groups(const struct packing *p, const struct tensor *scales) {
    bool is_list = scales->rank == 1 || (scales->rank == 2 && scales->shape[1] == 1);
    size_t block_rows = p->quantization->block_rows;
    size_t block_columns = p->quantization->block_columns;
    bool is_named = block_rows > 0 && block_columns > 0;
    if (scales->rank == 2 && is_named && scales->shape[0] == blocks_of(p->rows, block_rows) &&
        scales->shape[1] == blocks_of(p->columns, block_columns)) {
        set_groups(p, block_rows, block_columns);
        return true;
    }
    if (scales->rank == 0 || (is_list && scales->shape[0] == 1)) {
        set_groups(p, p->rows, p->columns);
        return true;
    }
    if (is_list && scales->shape[0] == p->rows) {
        set_groups(p, 1, p->columns);
        return true;
    }
    if (scales->rank == 2 && !is_named && scales->shape[0] > 0 && scales->shape[1] > 0 &&
        p->rows % scales->shape[0] == 0 && p->columns % scales->shape[1] == 0) {
        set_groups(p, p->rows / scales->shape[0], p->columns / scales->shape[1]);
        return true;
    }
    return false;
}

static int refuse_groups(const struct packing *p, const struct tensor *scales, struct error *err) {
    const struct quantization *quantization = p->quantization;
    char shape[TENSOR_SHAPE_TEXT];
    tensor_shape_text(scales->shape, scales->rank, shape);
    if (quantization->block_rows == 0 || quantization->block_columns == 0) {
        return error_set(err, STATUS_DATA,
                         "tensor '%s' has shape %s, which does not divide the weight's [%zu, %zu]",
                         scales->name, shape, p->rows, p->columns);
    }
    return error_set(err, STATUS_DATA,
                     "tensor '%s' has shape %s; 'weight_block_size' [%zu, %zu] of %s asks for [%zu, %zu]",
                     scales->name, shape, quantization->block_rows, quantization->block_columns,
                     model_part_name(MODEL_CONFIG), blocks_of(p->rows, quantization->block_rows),
                     blocks_of(p->columns, quantization->block_columns));
}

// ---- finding ----

// Not E5M2, nor the types of other hardware.
static int check_weight(const struct packing *p, const struct tensor *weight, struct error *err) {
    if (strcmp(weight->type->name, "F8_E4M3") != 0) {
        return error_set(err, STATUS_DATA, "tensor '%s' has dtype %s; of float8 weights F8_E4M3 is supported",
                         weight->name, weight->type->name);
    }
    return packing_check_shape(weight, 2, p->rows, p->columns, err);
}

static int find(const struct packing *p, const struct tensor *weight, struct error *err) {
    enum arrangement_numbers numbers = NUMBERS_ANY;
    TRY(check_weight(p, weight, err));
    const struct tensor *scales = find_scales(p);
    if (scales == NULL) {
        TRY(packing_require(p, scale_endings[0], &scales, err));
    }
    p->out->format = (struct weight_format){.name = "F8_E4M3",
                                            .kind = WEIGHT_GROUPED,
                                            .groups = {.code = CODE_E4M3, .factor = 1},
                                            .rounding = DTYPE_F32};
    TRY(find_type(scales, &p->out->format.groups.scale, &numbers, err));
    if (!find_groups(p, scales)) {
        return refuse_groups(p, scales, err);
    }
    packing_add(p, weight, PART_CODES, (struct arrangement){.numbers = NUMBERS_E4M3});
    packing_add(p, scales, PART_SCALES, (struct arrangement){.numbers = numbers});
    for (size_t i = 0; i < sizeof activation_endings / sizeof activation_endings[0]; i++) {
        packing_pass(p, packing_tensor(p, activation_endings[i]));
    }
    return STATUS_OK;
}

int packing_fp8_find(struct weight_source *out, const struct checkpoint *checkpoint,
                     const struct quantization *quantization, const char *stem, size_t rows, size_t columns,
                     bool *found, struct error *err) {
    struct packing p = {out, checkpoint, quantization, stem, rows, columns};
    const struct tensor *weight = packing_tensor(&p, "weight");
    *out = (struct weight_source){0};
    *found = weight != NULL && strncmp(weight->type->name, "F8_", 3) == 0 &&
             quantization->method != QUANTIZATION_COMPRESSED_TENSORS;
    return *found ? find(&p, weight, err) : STATUS_OK;
}
