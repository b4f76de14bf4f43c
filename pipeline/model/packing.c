// SPDX-License-Identifier: MIT
#include "model/packing.h"

#include <string.h>

#include "model/packing_methods.h"
#include "model/place.h"

enum { MARKS = 4 };

static const struct packing_method {
    enum quantization_method method;
    packing_finder *find;
    const char *marks[MARKS]; // suffixes of tensors that no other method has
    const char *marked;       // whose they are, for messages
} methods[] = {
    {QUANTIZATION_AWQ, packing_gptq_find, {"qweight", "qzeros", "g_idx"}, "awq or gptq"},
    {QUANTIZATION_GPTQ, packing_gptq_find, {"qweight", "qzeros", "g_idx"}, "awq or gptq"},
    {QUANTIZATION_COMPRESSED_TENSORS,
     packing_compressed_find,
     {"weight_packed", "weight_shape", "weight_zero_point", "weight_g_idx"},
     "compressed-tensors"},
    {QUANTIZATION_BITSANDBYTES,
     packing_bitsandbytes_find,
     {"SCB", "weight_format", "weight.absmax"},
     "bitsandbytes"},
    {QUANTIZATION_FP8, packing_fp8_find, {"weight_scale_inv", "qscale_weight", "activation_scale"}, "fp8"},
    {QUANTIZATION_MXFP4, packing_mxfp4_find, {NULL}, "mxfp4"},
};

enum { METHODS = sizeof methods / sizeof methods[0] };

static int refuse_mark(const struct tensor *tensor, const char *marked,
                       const struct quantization *quantization, struct error *err) {
    if (quantization->method == QUANTIZATION_NONE) {
        return error_set(err, STATUS_DATA,
                         "tensor '%s' is packed as %s does it, but %s has no 'quantization_config', which "
                         "tells how: copy it there, with its 'quant_method', from where the weights are from "
                         "(a quantize_config.json or quant_config.json)",
                         tensor->name, marked, model_part_name(MODEL_CONFIG));
    }
    return error_set(err, STATUS_DATA, "tensor '%s' is packed as %s does it, but the method of %s is %s",
                     tensor->name, marked, model_part_name(MODEL_CONFIG), quantization->name);
}

// No tensor of the weight is of another method than `find` knows.
static int refuse_others(const struct packing *p, packing_finder *find, struct error *err) {
    for (size_t i = 0; i < METHODS; i++) {
        for (size_t j = 0; methods[i].find != find && j < MARKS && methods[i].marks[j] != NULL; j++) {
            const struct tensor *tensor = packing_tensor(p, methods[i].marks[j]);
            if (tensor != NULL) {
                return refuse_mark(tensor, methods[i].marked, p->quantization, err);
            }
        }
    }
    return STATUS_OK;
}

// What goes as it is fills its part exactly; arrange.h says it of the others.
static int check_parts(const struct packing *p, struct error *err) {
    struct weight_layout layout;
    if (!weight_layout(&p->out->format, p->rows, p->columns, &layout)) {
        return error_set(err, STATUS_DATA, "weight '%s' of [%zu, %zu] cannot be packed with its groups",
                         p->stem, p->rows, p->columns);
    }
    for (size_t i = 0; i < p->out->component_count; i++) {
        const struct weight_component *component = &p->out->components[i];
        const struct tensor *tensor = component->tensor;
        size_t bytes = layout.parts[component->part].bytes;
        if (component->is_read && component->how.kind == ARRANGE_AS_IS &&
            tensor->end - tensor->begin != bytes) {
            return error_set(err, STATUS_DATA, "tensor '%s' has %zu bytes; its place takes %zu", tensor->name,
                             tensor->end - tensor->begin, bytes);
        }
    }
    return STATUS_OK;
}

int packing_find(struct weight_source *out, const struct checkpoint *checkpoint,
                 const struct quantization *quantization, const char *stem, size_t rows, size_t columns,
                 bool *found, struct error *err) {
    struct packing p = {out, checkpoint, quantization, stem, rows, columns};
    packing_finder *find = NULL;
    *out = (struct weight_source){0};
    *found = false;
    if (strlen(stem) >= PACKING_STEM) {
        return error_set(err, STATUS_INTERNAL, "the name of weight '%.200s' is too long", stem);
    }
    for (size_t i = 0; i < METHODS; i++) {
        find = methods[i].method == quantization->method ? methods[i].find : find;
    }
    TRY(refuse_others(&p, find, err));
    if (find == NULL) {
        return STATUS_OK;
    }
    int status = find(out, checkpoint, quantization, stem, rows, columns, found, err);
    status = status == STATUS_OK && *found ? check_parts(&p, err) : status;
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "weights packed as %s", quantization->name);
}

int packing_settle(struct quantization *quantization, const struct checkpoint *checkpoint,
                   struct error *err) {
    return quantization->method == QUANTIZATION_GPTQ ? packing_gptq_settle(quantization, checkpoint, err)
                                                     : STATUS_OK;
}
