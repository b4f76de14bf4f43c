// Whole models against transformers' float32 hidden states (goldens), and what must not change a bit of a
// result.
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
static const double family_bfloat16_cosine = 0.999;
static const double family_float16_cosine = 0.99996;
static const double half_ratio = 1.2;

// The device is the CPU, or what the environment names: STRATA_TEST_DEVICE=cuda:0 for a GPU, real or
// emulated.
static const char *test_device(void) {
    const char *name = getenv("STRATA_TEST_DEVICE");
    return name != NULL && *name != 0 ? name : "cpu";
}

static bool test_on_cpu(void) {
    return strcmp(test_device(), "cpu") == 0;
}

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

static struct model_limits limits_of(const struct golden *golden, const size_t *layers, size_t count) {
    return (struct model_limits){.layers = layers,
                                 .layer_count = count,
                                 .tokens = golden->tokens,
                                 .texts = golden->texts,
                                 .rows = golden->tokens,
                                 .longest = golden->tokens,
                                 .stored = DTYPE_F32,
                                 .slots = 2};
}

static struct model *open_on_device(const char *folder, enum dtype dtype, int threads) {
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
static void tune(struct model *model, const struct model *earlier) {
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
static void load_weights_first(struct model *model, const struct model_limits *limits,
                               const struct model_load_options *loading) {
    struct error err = {0};
    struct model_plan weights;
    struct model_plan plan;
    size_t last = limits->layers[limits->layer_count - 1];
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

static void check_resident(const struct model *model) {
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

static struct model *open_model(const char *folder, enum dtype dtype, int threads,
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
static void forward(struct model *model, const int32_t *ids, const int32_t *starts, size_t texts, size_t slot,
                    struct model_output *out) {
    struct error err = {0};
    size_t tokens = (size_t)starts[texts];
    struct device_span *spans = calloc(tokens, sizeof spans[0]);
    for (size_t t = 0; t < tokens; t++) {
        spans[t] = (struct device_span){(int32_t)t, (int32_t)t + 1};
    }
    struct model_batch batch = {ids, starts, spans, tokens, texts, tokens, slot};
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

static struct distance measure(const float *found, const float *wanted, size_t tokens, size_t hidden) {
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

static void all_layers(size_t layers[static 16], size_t last) {
    for (size_t i = 0; i <= last; i++) {
        layers[i] = i;
    }
}

static double least_cosine(enum dtype dtype, bool is_family) {
    return dtype == DTYPE_F16 ? (is_family ? family_float16_cosine : float16_cosine)
                              : (is_family ? family_bfloat16_cosine : bfloat16_cosine);
}

static void compare_golden(const char *name, enum dtype dtype, bool is_family) {
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

static void float32_matches_transformers(void **state) {
    (void)state;
    for (size_t i = 0; i < GOLDEN_COUNT; i++) {
        compare_golden(golden_names[i], DTYPE_F32, false);
    }
}

static void halves_are_as_exact_as_transformers(void **state) {
    (void)state;
    for (size_t i = 0; i < GOLDEN_COUNT; i++) {
        compare_golden(golden_names[i], DTYPE_BF16, false);
        compare_golden(golden_names[i], DTYPE_F16, false);
    }
}

static void families_match_transformers(void **state) {
    (void)state;
    for (size_t i = 0; i < GOLDEN_FAMILIES; i++) {
        compare_golden(golden_families[i], DTYPE_F32, true);
    }
}

static void families_in_halves_are_as_exact_as_transformers(void **state) {
    (void)state;
    for (size_t i = 0; i < GOLDEN_FAMILIES; i++) {
        compare_golden(golden_families[i], i % 2 == 0 ? DTYPE_BF16 : DTYPE_F16, true);
        if (test_on_cpu()) {
            compare_golden(golden_families[i], i % 2 == 0 ? DTYPE_F16 : DTYPE_BF16, true);
        }
    }
}

// A text alone, in another place of the batch, with another number of threads: the same bits in every layer.
static void compare_company(const char *name, enum dtype dtype) {
    struct golden golden;
    struct model *models[2];
    struct model_output together;
    struct model_output alone;
    size_t layers[16];
    golden_open(&golden, name);
    all_layers(layers, golden.layers);
    struct model_limits limits = limits_of(&golden, layers, golden.layers + 1);
    models[0] = open_model(golden.folder, dtype, 1, &limits, NULL);
    models[1] = open_model(golden.folder, dtype, 2, &limits, models[0]);
    forward(models[0], golden.ids, golden.starts, golden.texts, 0, &together);
    for (size_t i = 0; i < golden.texts; i++) {
        int32_t starts[2] = {0, golden.starts[i + 1] - golden.starts[i]};
        size_t bytes = (size_t)starts[1] * golden.hidden * sizeof(float);
        forward(models[i % 2], golden.ids + golden.starts[i], starts, 1, 1, &alone);
        for (size_t layer = 0; layer <= golden.layers; layer++) {
            const float *part =
                (const float *)together.rows[layer] + (size_t)golden.starts[i] * golden.hidden;
            if (memcmp(part, alone.rows[layer], bytes) != 0) {
                fail_msg("%s %s, layer %zu: text %zu has other bits alone", name, dtype_name(dtype), layer,
                         i);
            }
        }
    }
    model_close(models[0]);
    model_close(models[1]);
    golden_close(&golden);
}

static void company_threads_and_order_of_load_change_no_bit(void **state) {
    (void)state;
    static const char *const names[] = {"qwen3", "qwen3-tied", "llama-dynamic", "mistral-window"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        compare_company(names[i], DTYPE_F32);
        compare_company(names[i], DTYPE_F16);
        compare_company(names[i], DTYPE_BF16);
        print_message("%s: the same bits\n", names[i]); // a word while it works: silence means that it hangs
    }
}

// Puts a NaN into a tensor of the golden's only shard.
static void poison(const struct golden *golden, const char *tensor) {
    char path[GOLDEN_PATH + 32];
    struct buffer file = {0};
    struct error err;
    json_t *header = NULL;
    uint64_t length;
    snprintf(path, sizeof path, "%s/model.safetensors", golden->folder);
    must(file_read(&file, path, 1 << 24, &err), &err);
    memcpy(&length, file.data, sizeof length);
    must(json_parse(&header, file.data + 8, length, "header", &err), &err);
    json_t *offsets = json_object_get(json_object_get(header, tensor), "data_offsets");
    size_t at = 8 + length + (size_t)json_integer_value(json_array_get(offsets, 0)) + 20;
    float value = NAN;
    memcpy(file.data + at, &value, sizeof value);
    golden_write(golden->folder, "model.safetensors", file.data, file.size);
    json_decref(header);
    buffer_destroy(&file);
}

// Loads the golden's checkpoint for one wanted layer and returns what model_check says.
static int check_layer(const struct golden *golden, size_t layer, struct error *err) {
    struct model_load_options loading = {0};
    struct model_plan plan;
    struct model_limits limits = limits_of(golden, &layer, 1);
    struct model *model = open_on_device(golden->folder, DTYPE_F32, 1);
    must(model_plan(model, &limits, &plan, err), err);
    must(model_reserve(model, &plan, err), err);
    must(model_load(model, &limits, &loading, err), err);
    int status = model_check(model, err);
    model_close(model);
    return status;
}

static void broken_weights_are_found_where_they_are_used(void **state) {
    (void)state;
    static const struct {
        const char *tensor;
        size_t unseen; // the deepest layer that does not need the tensor
        const char *said;
    } cases[] = {{"model.layers.1.mlp.down_proj.weight", 1, "hidden_states[2]"},
                 {"model.layers.2.self_attn.v_proj.weight", 2, "hidden_states[3]"},
                 {"model.norm.weight", 2, "hidden_states[3]"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct golden golden;
        struct error err = {0};
        golden_open(&golden, "qwen3");
        poison(&golden, cases[i].tensor);
        must(check_layer(&golden, cases[i].unseen, &err), &err);
        assert_int_equal(check_layer(&golden, golden.layers, &err), STATUS_DATA);
        assert_non_null(strstr(err.message, cases[i].said));
        golden_close(&golden);
    }
}

// The wanted layers alone, spans of several tokens, two slots: the means of the all-layers rows.
static void spans_are_means_and_layers_are_chosen(void **state) {
    (void)state;
    struct golden golden;
    struct error err = {0};
    struct model_output out;
    size_t layers[] = {0, 2};
    golden_open(&golden, "qwen3");
    struct model_limits limits = limits_of(&golden, layers, 2);
    struct model *model = open_model(golden.folder, DTYPE_F32, 1, &limits, NULL);
    struct device_span spans[] = {{1, 8}, {8, 9}, {10, 49}};
    struct model_batch batch = {golden.ids, golden.starts, spans, golden.tokens, golden.texts, 3, 1};
    must(model_forward(model, &batch, &err), &err);
    must(model_wait(model, 1, NULL, &err), &err);
    model_outputs(model, 1, &out);
    for (size_t layer = 0; layer < 2; layer++) {
        float wanted[3 * 64] = {0};
        const float *states = golden.states + layers[layer] * golden.tokens * golden.hidden;
        for (size_t r = 0; r < 3; r++) {
            for (int32_t t = spans[r].start; t < spans[r].end; t++) {
                for (size_t i = 0; i < golden.hidden; i++) {
                    wanted[r * golden.hidden + i] +=
                        states[(size_t)t * golden.hidden + i] / (float)(spans[r].end - spans[r].start);
                }
            }
            assert_int_equal(out.checks[layer][r].not_finite, 0);
        }
        assert_true(measure(out.rows[layer], wanted, 3, golden.hidden).token_error <= float32_bound);
    }
    model_close(model);
    golden_close(&golden);
}

static void bad_batches_are_refused(void **state) {
    (void)state;
    struct golden golden;
    struct error err = {0};
    size_t layer = 1;
    golden_open(&golden, "qwen3");
    struct model_limits limits = limits_of(&golden, &layer, 1);
    struct model *model = open_model(golden.folder, DTYPE_F32, 1, &limits, NULL);
    struct device_span span = {0, 1};
    struct model_batch batch = {golden.ids, golden.starts, &span, golden.tokens, golden.texts, 1, 0};
    must(model_forward(model, &batch, &err), &err);
    golden.ids[3] = 96;
    assert_int_equal(model_forward(model, &batch, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "token id 96"));
    golden.ids[3] = -1;
    assert_int_equal(model_forward(model, &batch, &err), STATUS_DATA);
    golden.ids[3] = 0;
    span.end = (int32_t)golden.tokens + 1;
    assert_int_equal(model_forward(model, &batch, &err), STATUS_INTERNAL);
    span.end = 1;
    batch.slot = 2;
    assert_int_equal(model_forward(model, &batch, &err), STATUS_INTERNAL);
    model_close(model);
    golden_close(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float32_matches_transformers),
        cmocka_unit_test(halves_are_as_exact_as_transformers),
        cmocka_unit_test(families_match_transformers),
        cmocka_unit_test(families_in_halves_are_as_exact_as_transformers),
        cmocka_unit_test(company_threads_and_order_of_load_change_no_bit),
        cmocka_unit_test(broken_weights_are_found_where_they_are_used),
        cmocka_unit_test(spans_are_means_and_layers_are_chosen),
        cmocka_unit_test(bad_batches_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
