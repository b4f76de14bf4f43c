// SPDX-License-Identifier: MIT
// A whole model on a device, and its hidden states against a golden's: what the tests of parity share.
#ifndef STRATA_TESTS_MODEL_GOLDEN_PARITY_H
#define STRATA_TESTS_MODEL_GOLDEN_PARITY_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden.h"
#include "kernels/device.h"
#include "model/model.h"

// Sums in another order than torch's move a float32 state by about 1e-6.
static const double float32_bound = 1e-5;
// What halves may lose: of the worst token's cosine, and beside transformers' own error in the same dtype.
static const double bfloat16_cosine = 0.9995;
static const double float16_cosine = 0.99998;
// Of families whose golden has a token that transformers' own halves bring further away.
static const double family_bfloat16_cosine = 0.9993;
static const double family_float16_cosine = 0.99998;
static const double half_ratio = 1.2;

// The device is the CPU, or what the environment names: STRATA_TEST_DEVICE=cuda:0 for a GPU, real or
// emulated.
static const char *test_device(void) {
    const char *name = getenv("STRATA_TEST_DEVICE");
    return name != NULL && *name != 0 ? name : "cpu";
}

static inline bool test_on_cpu(void) {
    return strcmp(test_device(), "cpu") == 0;
}

static inline void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

static inline struct model_limits limits_of(const struct golden *golden, const size_t *layers, size_t count) {
    return (struct model_limits){.layers = layers,
                                 .layer_count = count,
                                 .tokens = golden->tokens,
                                 .texts = golden->texts,
                                 .rows = golden->tokens,
                                 .longest = golden->tokens,
                                 .stored = DTYPE_F32,
                                 .slots = 2};
}

static inline struct model *open_on_device(const char *folder, enum dtype dtype, int threads) {
    struct error err = {0};
    struct device_options options = {.dtype = dtype, .threads = threads};
    struct device *device;
    struct model *model;
    must(device_open(&device, test_device(), &options, &err), &err);
    must(model_open(&model, folder, &err), &err);
    must(model_add_device(model, device, test_device(), &err), &err);
    return model;
}

// Products as an earlier run computed them (NULL: none), and, on a device that has a choice, chosen for good.
static inline void tune(struct model *model, const struct model *earlier) {
    struct buffer text = {0};
    struct error err = {0};
    if (earlier != NULL) {
        must(model_algorithms(earlier, &text, &err), &err);
        if (text.size > 0) {
            must(model_set_algorithms(model, (const char *)text.data, true, &err), &err);
        }
        buffer_destroy(&text);
    }
    must(model_tune(model, NULL, NULL, &err), &err);
}

// As where the weights are loaded before the largest batch is known.
static inline void load_weights_first(struct model *model, const struct model_limits *limits,
                                      const struct model_load_options *loading) {
    struct error err = {0};
    struct model_plan weights;
    struct model_plan plan;
    size_t last = model_blocks_wanted(model_config_of(model), limits);
    must(model_plan_weights(model, last, &weights, &err), &err);
    must(model_reserve_weights(model, &weights, &err), &err);
    assert_int_equal(model_set_limits(model, limits, &err), STATUS_INTERNAL); // there are no weights
    must(model_load_weights(model, last, loading, &err), &err);
    assert_int_equal(model_load_weights(model, last, loading, &err), STATUS_INTERNAL);
    must(model_plan(model, limits, &plan, &err), &err);
    assert_int_equal(model_plan_bytes(&plan, DEVICE_WEIGHTS), model_plan_bytes(&weights, DEVICE_WEIGHTS));
    must(model_reserve(model, &plan, &err), &err);
    if (last > 0) {
        size_t other = last - 1;
        struct model_limits fewer = *limits;
        fewer.layers = &other;
        fewer.layer_count = 1;
        assert_int_equal(model_set_limits(model, &fewer, &err), STATUS_INTERNAL);
    }
    must(model_set_limits(model, limits, &err), &err);
    assert_int_equal(model_set_limits(model, limits, &err), STATUS_INTERNAL);
}

static inline void check_resident(const struct model *model) {
    struct error err = {0};
    struct model_resident resident;
    struct device_residency report;
    must(model_check_resident(model, &resident, &err), &err);
    model_residency(model, 0, &report);
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        assert_int_equal(report.planned[p], report.taken[p]);
    }
    assert_true(resident.pieces > 10);
}

static inline struct model *open_model(const char *folder, enum dtype dtype, int threads,
                                       const struct model_limits *limits, const struct model *earlier) {
    struct error err = {0};
    struct model_load_options loading = {.timeout_seconds = 60};
    struct model_plan plan;
    struct model *model = open_on_device(folder, dtype, threads);
    if (earlier != NULL) {
        load_weights_first(model, limits, &loading);
    } else {
        must(model_plan(model, limits, &plan, &err), &err);
        must(model_reserve(model, &plan, &err), &err);
        must(model_load(model, limits, &loading, &err), &err);
    }
    check_resident(model);
    must(model_check(model, &err), &err);
    tune(model, earlier);
    model_seal(model);
    return model;
}

// One batch of one-token spans; the rows of all wanted layers stay in the slot.
static inline void forward(struct model *model, const int32_t *ids, const int32_t *starts, size_t texts,
                           size_t slot, struct model_output *out) {
    struct error err = {0};
    size_t tokens = (size_t)starts[texts];
    struct device_span *spans = calloc(tokens, sizeof spans[0]);
    for (size_t t = 0; t < tokens; t++) {
        spans[t] = (struct device_span){(int32_t)t, (int32_t)t + 1};
    }
    struct model_batch batch = {.ids = ids,
                                .starts = starts,
                                .spans = spans,
                                .tokens = tokens,
                                .texts = texts,
                                .rows = tokens,
                                .slot = slot};
    must(model_forward(model, &batch, &err), &err);
    must(model_wait(model, slot, NULL, &err), &err);
    model_outputs(model, slot, out);
    free(spans);
}

struct distance {
    double token_error; // the worst token's relative error
    double layer_error; // over all tokens
    double cosine;      // the worst token's
};

static inline struct distance measure(const float *found, const float *wanted, size_t tokens, size_t hidden) {
    struct distance worst = {0, 0, 1};
    double all_difference = 0;
    double all_norm = 0;
    for (size_t t = 0; t < tokens; t++) {
        double difference = 0;
        double norm = 0;
        double found_norm = 0;
        double product = 0;
        for (size_t i = 0; i < hidden; i++) {
            double a = (double)found[t * hidden + i];
            double b = (double)wanted[t * hidden + i];
            if (!isfinite(a) || !isfinite(b)) { // fmax and fmin pass over NaN
                fail_msg("token %zu, number %zu is not finite", t, i);
            }
            difference += (a - b) * (a - b);
            norm += b * b;
            found_norm += a * a;
            product += a * b;
        }
        assert_true(norm > 0 && found_norm > 0);
        worst.token_error = fmax(worst.token_error, sqrt(difference / norm));
        worst.cosine = fmin(worst.cosine, product / sqrt(norm * found_norm));
        all_difference += difference;
        all_norm += norm;
    }
    worst.layer_error = sqrt(all_difference / all_norm);
    return worst;
}

static inline void all_layers(size_t layers[static 16], size_t last) {
    for (size_t i = 0; i <= last; i++) {
        layers[i] = i;
    }
}

static inline double least_cosine(enum dtype dtype, bool is_family) {
    return dtype == DTYPE_F16 ? (is_family ? family_float16_cosine : float16_cosine)
                              : (is_family ? family_bfloat16_cosine : bfloat16_cosine);
}

static inline void compare_golden(const char *name, enum dtype dtype, bool is_family) {
    struct golden golden;
    struct model_output out;
    size_t layers[16];
    golden_open(&golden, name);
    all_layers(layers, golden.layers);
    struct model_limits limits = limits_of(&golden, layers, golden.layers + 1);
    struct model *model = open_model(golden.folder, dtype, 1, &limits, NULL);
    forward(model, golden.ids, golden.starts, golden.texts, 0, &out);
    double worst = 0;
    for (size_t layer = 0; layer <= golden.layers; layer++) {
        const float *wanted = golden.states + layer * golden.tokens * golden.hidden;
        struct distance distance = measure(out.rows[layer], wanted, golden.tokens, golden.hidden);
        json_t *errors = json_object_get(golden.json, dtype == DTYPE_F16 ? "f16_errors" : "bf16_errors");
        double own = json_real_value(json_array_get(errors, layer));
        double least = least_cosine(dtype, is_family);
        if (dtype == DTYPE_F32 && !(distance.token_error <= float32_bound)) {
            fail_msg("%s, layer %zu: float32 error %.2e", name, layer, distance.token_error);
        }
        if (dtype != DTYPE_F32 && !(distance.cosine >= least && distance.layer_error <= half_ratio * own)) {
            fail_msg("%s, layer %zu: %s cosine %.7f, error %.3e, transformers' own %.3e", name, layer,
                     dtype_name(dtype), distance.cosine, distance.layer_error, own);
        }
        worst = fmax(worst, dtype == DTYPE_F32 ? distance.token_error
                            : own > 0          ? distance.layer_error / own
                                               : 0);
    }
    print_message("%-18s %s: worst %s %.3g\n", name, dtype_name(dtype),
                  dtype == DTYPE_F32 ? "relative error" : "ratio to transformers' own error", worst);
    model_close(model);
    golden_close(&golden);
}

#endif
