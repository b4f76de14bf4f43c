// SPDX-License-Identifier: MIT
// MXFP4 as gpt-oss has it: all experts of a matrix in STEM_blocks, U8 [experts, rows, columns / 32, 16] with
// two codes in a byte, the first in the low half, and STEM_scales, U8 [experts, rows, columns / 32] of
// exponents. The rows are those of the matrix, not of its transpose, which the tensor of numbers has.
#include <stdio.h>
#include <string.h>

#include "model/packing_methods.h"

enum { BLOCK = 32, BLOCK_BYTES = BLOCK / 2 };

static const struct tensor *tensor_of(const struct packing *p, const char *ending) {
    char name[PACKING_STEM + 16];
    snprintf(name, sizeof name, "%s%s", p->stem, ending);
    return tensors_find(&p->checkpoint->tensors, name);
}

// STATUS_DATA unless it is U8 [experts, rows of an expert, columns / 32], or [.., last] too.
static int check(const struct packing *p, const struct tensor *tensor, size_t last, struct error *err) {
    char shape[TENSOR_SHAPE_TEXT];
    size_t rank = last > 0 ? 4 : 3;
    bool fits = strcmp(tensor->type->name, "U8") == 0 && tensor->rank == rank && tensor->shape[0] > 0 &&
                p->rows % tensor->shape[0] == 0 && tensor->shape[1] == p->rows / tensor->shape[0] &&
                p->columns % BLOCK == 0 && tensor->shape[2] == p->columns / BLOCK &&
                (last == 0 || tensor->shape[3] == last);
    tensor_shape_text(tensor->shape, tensor->rank, shape);
    return fits ? STATUS_OK
                : error_set(err, STATUS_DATA,
                            "tensor '%s' has shape %s in %s; a matrix of [%zu, %zu] asks for U8 of [experts, "
                            "their rows, %zu%s]",
                            tensor->name, shape, tensor->type->name, p->rows, p->columns, p->columns / BLOCK,
                            last > 0 ? ", 16" : "");
}

int packing_mxfp4_find(struct weight_source *out, const struct checkpoint *checkpoint,
                       const struct quantization *quantization, const char *stem, size_t rows, size_t columns,
                       bool *found, struct error *err) {
    struct packing p = {out, checkpoint, quantization, stem, rows, columns};
    const struct tensor *blocks = tensor_of(&p, "_blocks");
    const struct tensor *scales = tensor_of(&p, "_scales");
    *out = (struct weight_source){0};
    *found = blocks != NULL || scales != NULL;
    if (!*found) {
        return STATUS_OK;
    }
    if (blocks == NULL || scales == NULL) {
        return error_set(err, STATUS_DATA, "tensor '%s%s' is missing", stem,
                         blocks == NULL ? "_blocks" : "_scales");
    }
    TRY(check(&p, blocks, BLOCK_BYTES, err));
    TRY(check(&p, scales, 0, err));
    out->format = (struct weight_format){.name = "MXFP4",
                                         .kind = WEIGHT_GROUPED,
                                         .groups = {.code = CODE_E2M1,
                                                    .scale = SCALE_E8M0,
                                                    .rows = 1,
                                                    .columns = columns > BLOCK ? BLOCK : 0,
                                                    .factor = 1},
                                         .rounding = DTYPE_F32};
    packing_add(&p, blocks, PART_CODES, (struct arrangement){0});
    packing_add(&p, scales, PART_SCALES, (struct arrangement){.numbers = NUMBERS_E8M0});
    return STATUS_OK;
}
