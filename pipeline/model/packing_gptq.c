// SPDX-License-Identifier: MIT
// AWQ (version gemm) and GPTQ: STEM.qweight, .qzeros, .scales and .g_idx. The tensors are those of the
// transposed matrix, codes packed into int32: along the rows of the matrix (outputs) in AWQ, along its
// columns in GPTQ; zero points along the rows in both.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/size.h"
#include "model/packing_methods.h"

enum { WORD_BITS = 32 };

struct gptq_tensors {
    const struct tensor *codes;
    const struct tensor *zeros;
    const struct tensor *scales;
    const struct tensor *order; // may be NULL
};

static bool is_awq(const struct packing *p) {
    return p->quantization->method == QUANTIZATION_AWQ;
}

// False where the weight has no such tensors.
static int find_tensors(const struct packing *p, struct gptq_tensors *out, bool *found, struct error *err) {
    static const char *const suffixes[] = {"qweight", "qzeros", "scales", "g_idx"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        *found = *found || packing_tensor(p, suffixes[i]) != NULL;
    }
    if (!*found) {
        return STATUS_OK;
    }
    const struct tensor *plain = packing_tensor(p, "weight");
    TRY(packing_require(p, "qweight", &out->codes, err));
    TRY(packing_require(p, "qzeros", &out->zeros, err));
    TRY(packing_require(p, "scales", &out->scales, err));
    out->order = packing_tensor(p, "g_idx");
    return plain == NULL ? STATUS_OK
                         : error_set(err, STATUS_DATA,
                                     "tensors '%s' and '%s' are both there: is the weight packed or not?",
                                     plain->name, out->codes->name);
}

// Codes fill their words, and groups the columns.
static int check_sizes(const struct packing *p, const struct gptq_tensors *tensors, struct error *err) {
    size_t codes = WORD_BITS / p->quantization->bits;
    size_t group = p->quantization->group;
    if (p->rows % codes != 0 || (!is_awq(p) && p->columns % codes != 0)) {
        return error_set(err, STATUS_DATA,
                         "tensor '%s': a weight of [%zu, %zu] does not fill words of %zu codes of %zu bits",
                         tensors->codes->name, p->rows, p->columns, codes, p->quantization->bits);
    }
    if (group != 0 && p->columns % group != 0 && (is_awq(p) || tensors->order == NULL)) {
        return error_set(err, STATUS_DATA,
                         "tensor '%s': %zu columns are no whole number of groups of %zu ('group_size')",
                         tensors->scales->name, p->columns, group);
    }
    return STATUS_OK;
}

static int check_shapes(const struct packing *p, const struct gptq_tensors *tensors, size_t groups,
                        struct error *err) {
    size_t codes = WORD_BITS / p->quantization->bits;
    if (is_awq(p)) {
        TRY(packing_check(tensors->codes, "I32", 2, p->columns, p->rows / codes, err));
    } else {
        TRY(packing_check(tensors->codes, "I32", 2, p->columns / codes, p->rows, err));
    }
    TRY(packing_check(tensors->zeros, "I32", 2, groups, p->rows / codes, err));
    return packing_check_shape(tensors->scales, 2, groups, p->rows, err);
}

static void add_codes(const struct packing *p, const struct gptq_tensors *tensors) {
    packing_add(p, tensors->codes, PART_CODES,
                (struct arrangement){.kind = ARRANGE_WORDS,
                                     .rows = p->rows,
                                     .columns = p->columns,
                                     .bits = (unsigned)p->quantization->bits,
                                     .packs_rows = is_awq(p),
                                     .is_transposed = true,
                                     .order = is_awq(p) ? ORDER_AWQ : ORDER_LOW_FIRST});
}

static int add_scales(const struct packing *p, const struct gptq_tensors *tensors, size_t groups,
                      struct error *err) {
    struct arrangement how = {.kind = ARRANGE_TRANSPOSED, .rows = p->rows, .columns = groups};
    enum dtype dtype;
    TRY(packing_scale(tensors->scales, &p->out->format, &how.numbers, &dtype, err));
    how.width = dtype_size(dtype);
    packing_add(p, tensors->scales, PART_SCALES, how);
    return STATUS_OK;
}

static void add_zeros(const struct packing *p, const struct gptq_tensors *tensors, size_t groups) {
    const struct quantization *quantization = p->quantization;
    if (!is_awq(p) && quantization->zeros_in_middle) {
        p->out->format.groups.zero = 1 << (quantization->bits - 1);
        packing_pass(p, tensors->zeros);
        return;
    }
    p->out->format.groups.has_zeros = true;
    packing_add(p, tensors->zeros, PART_ZEROS,
                (struct arrangement){.kind = ARRANGE_WORDS,
                                     .rows = p->rows,
                                     .columns = groups,
                                     .bits = (unsigned)quantization->bits,
                                     .packs_rows = true,
                                     .is_transposed = true,
                                     .is_one_less = !is_awq(p) && !quantization->gptq_v2,
                                     .order = is_awq(p) ? ORDER_AWQ : ORDER_LOW_FIRST});
}

// Files say that columns are of any group where they are in order, and the other way round: the numbers
// decide.
static int add_order(const struct packing *p, const struct gptq_tensors *tensors, size_t groups,
                     struct error *err) {
    bool in_order = true;
    if (tensors->order == NULL) {
        return !p->quantization->gptq_by_order
                   ? STATUS_OK
                   : error_set(err, STATUS_DATA,
                               "tensor '%s.g_idx' is missing, which 'desc_act' of quantization_config needs",
                               p->stem);
    }
    TRY(packing_read_order(p, tensors->order, p->quantization->group, groups, &in_order, err));
    if (in_order) {
        packing_pass(p, tensors->order);
        return STATUS_OK;
    }
    p->out->format.groups.has_indices = true;
    packing_add(p, tensors->order, PART_INDICES,
                (struct arrangement){.kind = ARRANGE_INDICES, .groups = groups});
    return STATUS_OK;
}

static int add_all(const struct packing *p, const struct gptq_tensors *tensors, struct error *err) {
    const struct quantization *quantization = p->quantization;
    size_t group = quantization->group;
    size_t groups = group == 0 ? 1 : p->columns / group + (p->columns % group != 0);
    p->out->format = (struct weight_format){
        .name = is_awq(p) ? "awq" : "gptq", .kind = WEIGHT_GROUPED, .rounding = DTYPE_F32};
    p->out->format.groups = (struct weight_groups){
        .code = quantization->bits == 4 ? CODE_U4 : CODE_U8, .rows = 1, .columns = group, .factor = 1};
    TRY(check_sizes(p, tensors, err));
    TRY(check_shapes(p, tensors, groups, err));
    add_codes(p, tensors);
    TRY(add_scales(p, tensors, groups, err));
    add_zeros(p, tensors, groups);
    return is_awq(p) ? STATUS_OK : add_order(p, tensors, groups, err);
}

// ---- settings of single modules ----

static bool has_shape(const struct tensor *tensor, size_t rows, size_t columns) {
    return tensor->rank == 2 && tensor->shape[0] == rows && tensor->shape[1] == columns;
}

static bool has_shapes(const struct packing *p, const struct gptq_tensors *tensors,
                       const struct quantization_setting *setting) {
    size_t codes = WORD_BITS / setting->bits;
    size_t group = setting->group == 0 ? p->columns : setting->group;
    size_t groups = p->columns / group + (p->columns % group != 0);
    return has_shape(tensors->codes, p->columns / codes, p->rows) &&
           has_shape(tensors->zeros, groups, p->rows / codes) && has_shape(tensors->scales, groups, p->rows);
}

static bool fits(const struct packing *p, const struct gptq_tensors *tensors,
                 const struct quantization_setting *setting) {
    size_t group = setting->group == 0 ? p->columns : setting->group;
    bool in_order = p->columns % group == 0 && !setting->by_order;
    return (tensors->order != NULL || in_order) && has_shapes(p, tensors, setting);
}

// Those of `dynamic` that the tensors of the weight have where those of all do not fit. Patterns are not
// looked at: shapes leave no choice, or one between settings of the same numbers. False: the tensors have the
// shapes of no setting.
static bool settle_overrides(const struct packing *p, const struct gptq_tensors *tensors,
                             struct quantization *own) {
    const struct quantization_setting all = {own->bits, own->group, own->gptq_by_order};
    bool any = has_shapes(p, tensors, &all);
    if (fits(p, tensors, &all)) {
        return true;
    }
    for (size_t i = 0; i < own->gptq_setting_count; i++) {
        const struct quantization_setting *setting = &own->gptq_settings[i];
        any = any || has_shapes(p, tensors, setting);
        if (fits(p, tensors, setting)) {
            own->bits = setting->bits;
            own->group = setting->group;
            own->gptq_by_order = setting->by_order;
            return true;
        }
    }
    return any;
}

int packing_gptq_find(struct weight_source *out, const struct checkpoint *checkpoint,
                      const struct quantization *quantization, const char *stem, size_t rows, size_t columns,
                      bool *found, struct error *err) {
    struct quantization own = *quantization;
    struct packing p = {out, checkpoint, &own, stem, rows, columns};
    struct gptq_tensors tensors = {0};
    TRY(find_tensors(&p, &tensors, found, err));
    if (!*found) {
        return STATUS_OK;
    }
    bool any = settle_overrides(&p, &tensors, &own);
    int status = add_all(&p, &tensors, err);
    if (status == STATUS_DATA && quantization->gptq_overrides && !any) {
        return error_wrap(err,
                          "no settings fit, nor do those for single modules ('dynamic'): get a checkpoint "
                          "with 4 or 8 bits in every module, in the groups that it says");
    }
    return status;
}

// ---- what the numbers tell of all weights ----

struct zero_points { // whether every one is
    bool middle;     // 8 (8 bits: 128)
    bool one_less;   // 7 (127)
};

static int look_at(struct zero_points *all, unsigned char middle, unsigned char one_less,
                   const struct checkpoint_file *file, const struct tensor *tensor, struct error *err) {
    unsigned char bytes[1 << 14];
    for (size_t at = tensor->begin; at < tensor->end && (all->middle || all->one_less); at += sizeof bytes) {
        size_t size = size_min(sizeof bytes, tensor->end - at);
        TRY(file_read_at(file->descriptor, bytes, size, at, file->path, err));
        for (size_t i = 0; i < size; i++) {
            all->middle = all->middle && bytes[i] == middle;
            all->one_less = all->one_less && bytes[i] == one_less;
        }
    }
    return STATUS_OK;
}

static bool holds_zeros(const struct tensor *tensor) {
    static const char ending[] = ".qzeros";
    size_t length = strlen(tensor->name);
    return length >= sizeof ending && strcmp(tensor->name + length - (sizeof ending - 1), ending) == 0;
}

// Of the zero points of a weight, as the scales beside them tell: a row of either is a row of the weights.
static size_t bits_of(const struct checkpoint *checkpoint, const struct tensor *zeros, size_t of_all) {
    char name[PACKING_STEM + sizeof ".scales"];
    size_t stem = strlen(zeros->name) - (sizeof ".qzeros" - 1);
    if (stem >= PACKING_STEM) {
        return of_all;
    }
    snprintf(name, sizeof name, "%.*s.scales", (int)stem, zeros->name);
    const struct tensor *scales = tensors_find(&checkpoint->tensors, name);
    if (scales == NULL || scales->rank != 2 || zeros->rank != 2) {
        return of_all;
    }
    size_t rows = scales->shape[1];
    return zeros->shape[1] == rows / 8 ? 4 : zeros->shape[1] == rows / 4 ? 8 : of_all;
}

// Symmetric codes have one zero point. Where it is the middle everywhere it is stored as it is, whatever the
// configuration calls the format, and where it is one less everywhere it is not.
int packing_gptq_settle(struct quantization *quantization, const struct checkpoint *checkpoint,
                        struct error *err) {
    struct zero_points all = {true, true};
    size_t count = 0;
    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        const struct tensor *tensor = checkpoint->tensors.in_files[i];
        if (holds_zeros(tensor)) {
            const struct checkpoint_file *file = &checkpoint->files[tensor->file];
            bool is_4 = bits_of(checkpoint, tensor, quantization->bits) == 4;
            TRY(look_at(&all, is_4 ? 0x88 : 0x80, is_4 ? 0x77 : 0x7f, file, tensor, err));
            count += tensor->end > tensor->begin;
        }
    }
    if (count > 0 && all.middle != all.one_less) {
        quantization->zeros_in_middle = true;
        quantization->gptq_v2 = all.middle;
    }
    return STATUS_OK;
}
