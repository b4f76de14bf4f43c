// SPDX-License-Identifier: MIT
// Whole models against transformers' float32 hidden states (goldens), and what must not change a bit of a
// result.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden_parity.h"

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
    static const char *const names[] = {"qwen3",  "qwen3-tied",        "llama-dynamic",   "mistral-window",
                                        "llama4", "nemotron_h-latent", "granitemoehybrid"};
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
    struct model_batch batch = {.ids = golden.ids,
                                .starts = golden.starts,
                                .spans = spans,
                                .tokens = golden.tokens,
                                .texts = golden.texts,
                                .rows = 3,
                                .slot = 1};
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
    struct model_batch batch = {.ids = golden.ids,
                                .starts = golden.starts,
                                .spans = &span,
                                .tokens = golden.tokens,
                                .texts = golden.texts,
                                .rows = 1,
                                .slot = 0};
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
        cmocka_unit_test(company_threads_and_order_of_load_change_no_bit),
        cmocka_unit_test(broken_weights_are_found_where_they_are_used),
        cmocka_unit_test(spans_are_means_and_layers_are_chosen),
        cmocka_unit_test(bad_batches_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
