// SPDX-License-Identifier: MIT
#include "export/normalization.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/layer.h"
#include "export/array_store.h"

enum { VECTORS = 2 };

static double *vector(const struct normalization *normalization, size_t layer, size_t which) {
    return normalization->constants + (layer * VECTORS + which) * normalization->plan->hidden;
}

static int find_split(struct normalization *normalization, const struct export_request *request,
                      struct error *err) {
    const struct export_plan *plan = normalization->plan;
    if (request->split.kind == SPLIT_NONE) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < plan->split_count; i++) {
        if (strcmp(plan->splits[i].name, "train") == 0) {
            normalization->split = &plan->splits[i];
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_USAGE,
                     "--normalize takes its constants from the split 'train', and there is none");
}

static int find_constants(struct normalization *normalization, const struct export_figures *figures,
                          size_t layer, struct error *err) {
    size_t hidden = normalization->plan->hidden;
    const struct statistics *set = export_figures_of(figures, normalization->split, layer);
    double *shift = vector(normalization, layer, 0);
    double *scale = vector(normalization, layer, 1);
    export_figures_spread(set, hidden, shift, scale);
    char name[LAYER_NAME];
    double norm = set->norm_sum / (double)set->rows / sqrt((double)hidden);
    for (size_t i = 0; i < hidden; i++) {
        if (normalization->kind == NORMALIZATION_EXPECTED_NORM) {
            shift[i] = 0;
            scale[i] = norm;
        }
        // The same number everywhere leaves a deviation of rounding.
        if (normalization->kind == NORMALIZATION_STANDARD && set->minimum[i] == set->maximum[i]) {
            shift[i] = set->minimum[i];
            scale[i] = 0;
        }
        if (!isfinite(shift[i]) || !isfinite(scale[i])) {
            return error_set(
                err, STATUS_DATA, "--normalize: %s has no finite constants (%llu rows to take them from)",
                layer_name(name, normalization->plan->layers[layer], normalization->plan->model_layers),
                (unsigned long long)set->rows);
        }
    }
    return STATUS_OK;
}

int normalization_create(struct normalization *normalization, const struct export_plan *plan,
                         const struct export_request *request, const struct export_figures *figures,
                         struct error *err) {
    *normalization = (struct normalization){.kind = request->normalization, .plan = plan};
    if (normalization->kind == NORMALIZATION_NONE) {
        return STATUS_OK;
    }
    TRY(find_split(normalization, request, err));
    TRY(memory_zeroed(&normalization->constants, plan->layer_count * VECTORS, plan->hidden * sizeof(double),
                      err));
    for (size_t i = 0; i < plan->layer_count; i++) {
        TRY(find_constants(normalization, figures, i, err));
    }
    return STATUS_OK;
}

void normalization_destroy(struct normalization *normalization) {
    free(normalization->constants);
    *normalization = (struct normalization){0};
}

// To float32 so that a further rounding to a half gives what one from float64 would: towards zero, and odd
// when that is not exact. Boldo and Melquiond, "When double rounding is odd", 2005.
static float round_to_odd(double value) {
    float nearest = (float)value;
    if ((double)nearest == value || isnan(value)) {
        return nearest;
    }
    uint32_t bits = f32_bits(nearest);
    bits -= fabs((double)nearest) > fabs(value) ? 1 : 0;
    return f32_from_bits(bits | 1u);
}

static double read_number(const void *in, enum dtype dtype, size_t i) {
    switch (dtype) {
    case DTYPE_F32:
        return ((const float *)in)[i];
    case DTYPE_F16:
        return f16_to_f32(((const uint16_t *)in)[i]);
    case DTYPE_BF16:
        return bf16_to_f32(((const uint16_t *)in)[i]);
    }
    return NAN;
}

static void write_number(void *out, enum dtype dtype, size_t i, double value) {
    switch (dtype) {
    case DTYPE_F32:
        ((float *)out)[i] = (float)value;
        break;
    case DTYPE_F16:
        ((uint16_t *)out)[i] = f32_to_f16(round_to_odd(value));
        break;
    case DTYPE_BF16:
        ((uint16_t *)out)[i] = f32_to_bf16(round_to_odd(value));
        break;
    }
}

void normalization_apply(const struct normalization *normalization, size_t layer, const void *in, void *out,
                         size_t rows) {
    const struct export_plan *plan = normalization->plan;
    const double *shift = vector(normalization, layer, 0);
    const double *scale = vector(normalization, layer, 1);
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < plan->hidden; i++) {
            size_t at = row * plan->hidden + i;
            double value = scale[i] == 0 ? 0 : (read_number(in, plan->stored, at) - shift[i]) / scale[i];
            write_number(out, plan->dtype, at, value);
        }
    }
}

// ---- keeping the constants ----

enum { NAME = LAYER_NAME + 8 };

int normalization_write(const struct normalization *normalization, const char *folder, struct error *err) {
    const struct export_plan *plan = normalization->plan;
    size_t count = plan->layer_count * VECTORS;
    void *specs = NULL;
    char(*names)[NAME] = NULL;
    struct array_store *store = NULL;
    char path[PATH_SIZE];
    int status;
    if (normalization->kind == NORMALIZATION_NONE) {
        return STATUS_OK;
    }
    TRY_TO(done, status = memory_zeroed(&specs, count, sizeof(struct array_spec), err));
    TRY_TO(done, status = memory_zeroed(&names, count, sizeof *names, err));
    for (size_t i = 0; i < count; i++) {
        char layer[LAYER_NAME];
        int length = snprintf(names[i], NAME, "%s.%s",
                              layer_name(layer, plan->layers[i / VECTORS], plan->model_layers),
                              i % VECTORS == 0 ? "shift" : "scale");
        ((struct array_spec *)specs)[i] = (struct array_spec){
            .name = names[i], .name_size = (size_t)length, .type = ARRAY_F64, .rows = plan->hidden};
    }
    TRY_TO(done, status = path_join(path, sizeof path, folder, "normalization.safetensors", err));
    TRY_TO(done, status = safetensors_store(&store, path, specs, count, err));
    for (size_t i = 0; i < count; i++) {
        TRY_TO(done, status = array_store_write(store, i, 0, plan->hidden,
                                                vector(normalization, i / VECTORS, i % VECTORS), err));
    }
    status = array_store_close(store, err);
done:
    array_store_destroy(store);
    free(specs);
    free(names);
    return status;
}

json_t *normalization_json(const struct normalization *normalization) {
    if (normalization->kind == NORMALIZATION_NONE) {
        return json_null();
    }
    bool standard = normalization->kind == NORMALIZATION_STANDARD;
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind", standard ? "standard" : "expected-norm", "split",
                     normalization->split == NULL ? "all" : normalization->split->name, "exported",
                     "(x - shift) / scale in float64; 0 where scale is 0", "undo", "x = y * scale + shift",
                     "constants", "normalization.safetensors");
}
