// SPDX-License-Identifier: MIT
// How a model's weights are held, beside what its checkpoint says: options of a job, and the answers to what
// it comes to.
#include <string.h>

#include "base/names.h"
#include "base/size.h"
#include "kernels/weight_format.h"
#include "model/adapter.h"
#include "model/quantise.h"
#include "model/stage.h"

static bool is_packed(const struct weight_bound *bound) {
    return !weight_format_plain(&bound->source.format);
}

static bool in_block_matrix(const struct weight_bound *bound) {
    return weight_in_block(bound->use.row) && bound->use.row->form == FORM_MATRIX;
}

bool model_is_packed(const struct model *model) {
    for (size_t i = 0; i < model->match.count; i++) {
        if (in_block_matrix(&model->match.bound[i]) && is_packed(&model->match.bound[i])) {
            return true;
        }
    }
    return false;
}

// ---- options ----

static int round_all(struct model *model, struct error *err) {
    enum quantization_method method = model->config.quantization.method;
    if (method != QUANTIZATION_AWQ && method != QUANTIZATION_GPTQ) {
        return error_set(
            err, STATUS_JOB,
            "model.weights_rounding is for packed weights of AWQ and GPTQ, which gptqmodel rounds; "
            "this checkpoint has none: leave the key out");
    }
    for (size_t i = 0; i < model->match.count; i++) {
        if (is_packed(&model->match.bound[i])) {
            model->match.bound[i].source.format.rounding = DTYPE_F16;
        }
    }
    return STATUS_OK;
}

int model_set_weight_options(struct model *model, const struct model_weight_options *options,
                             struct error *err) {
    model->match.expands = options->expands_at_load;
    if (options->rounds_to_float16) {
        TRY(round_all(model, err));
    }
    TRY(quantise_matrices(&model->match, options->quantize, model_is_packed(model), err));
    return model->adapter == NULL ? STATUS_OK
                                  : adapter_check_held(model->adapter, &model->config, &model->match, err);
}

// ---- what it comes to ----

int model_weight_formats(const struct model *model, struct buffer *out, struct error *err) {
    enum { MOST = 16, TEXT = 512 };
    const char *names[MOST];
    char text[TEXT] = "";
    size_t count = 0;
    for (size_t i = 0; i < model->match.count; i++) {
        const struct weight_bound *bound = &model->match.bound[i];
        const char *name = bound->source.format.name;
        size_t k = 0;
        while (k < count && strcmp(names[k], name) != 0) {
            k++;
        }
        if (in_block_matrix(bound) && k == count && count < MOST) {
            names[count++] = name;
        }
    }
    for (size_t i = 0; i < count; i++) {
        names_append(text, sizeof text, names[i], i, count);
    }
    return buffer_printf(out, err, "%s", text);
}

// What the row takes in a block, as it is held.
static void add_weight(const struct model *model, const struct weight_row *row, size_t block,
                       enum dtype dtype, struct model_weight_bytes *out) {
    const struct model_config *config = &model->config;
    size_t rows = weight_dimension(config, block, row->rows);
    size_t columns = weight_dimension(config, block, row->columns);
    size_t width = weight_is_float(row) ? sizeof(float) : dtype_size(dtype);
    // Dimensions are bounded (config.c).
    uint64_t computed = (uint64_t)rows * columns * width * weight_copies(row, config, block);
    struct weight_layout layout;
    size_t all;
    size_t across;
    if (!weight_in_file(row, config, block) || !weights_keep(&model->match, config, row, block) ||
        !weight_layout(&weights_source(&model->match, row, block, 0)->format, rows, columns, &layout)) {
        out->computed += computed;
        return;
    }
    out->packed += layout.bytes * weight_copies(row, config, block);
    out->expanded += computed;
    if (weights_shape(config, block, row->place, &all, &across)) {
        uint64_t fused = weights_at_once(config, row, block, all, across * dtype_size(dtype));
        out->largest = fused > out->largest ? fused : out->largest;
    }
}

void model_weight_bytes(const struct model *model, size_t last, enum dtype dtype,
                        struct model_weight_bytes *out) {
    const struct weight_table *table = model->config.weights;
    *out = (struct model_weight_bytes){0};
    for (size_t i = 0; i < table->count; i++) {
        const struct weight_row *row = &table->rows[i];
        size_t blocks = weight_in_block(row) ? last : 1;
        for (size_t block = 0; block < blocks; block++) {
            if (weight_present(row, &model->config, block)) {
                add_weight(model, row, block, dtype, out);
            }
        }
    }
}
