// SPDX-License-Identifier: MIT
// Texts longer than a batch run in slices: every number of every layer is that of a batch which holds the
// text whole, for every family, dtype and way of pooling, beside other batches, and where blocks stream.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "algorithms.h"
#include "base/size.h"
#include "golden.h"
#include "kernels/device.h"
#include "kernels/shapes.h"
#include "model/model.h"

enum { MOST_LAYERS = 8, MOST_BATCHES = 4, MEANS = 5 };

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

static const size_t all_layers[MOST_LAYERS] = {0, 1, 2, 3, 4, 5, 6, 7};

// All layers of a model and pre_norm, for texts of up to `longest` tokens in batches of `tokens`.
static struct model_limits limits_of(const struct golden *golden, size_t tokens, size_t longest) {
    return (struct model_limits){.layers = all_layers,
                                 .layer_count = golden->layers + 2,
                                 .tokens = tokens,
                                 .texts = 3,
                                 .rows = longest,
                                 .longest = longest,
                                 .stored = DTYPE_F32,
                                 .slots = MOST_BATCHES};
}

static struct model *open_model(const struct golden *golden, enum dtype dtype,
                                const struct model_placement *placement, const struct model_limits *limits,
                                const struct model *other, size_t other_tokens) {
    struct error err = {0};
    struct device_options options = {.dtype = dtype, .threads = 2};
    struct model_load_options loading = {.timeout_seconds = 60};
    struct device *device;
    struct model *model;
    struct model_plan plan;
    struct model_resident pieces;
    must(device_open(&device, test_device(), &options, &err), &err);
    must(model_open(&model, golden->folder, &err), &err);
    must(model_add_device(model, device, test_device(), &err), &err);
    if (placement != NULL) {
        model_set_placement(model, placement);
    }
    must(model_plan(model, limits, &plan, &err), &err);
    must(model_reserve(model, &plan, &err), &err);
    must(model_load(model, limits, &loading, &err), &err);
    must(model_check_resident(model, &pieces, &err), &err);
    must(model_check(model, &err), &err);
    if (other != NULL) {
        must(take_algorithms(model, limits->tokens, other, other_tokens, &err), &err);
    }
    must(model_tune(model, NULL, NULL, &err), &err);
    model_seal(model);
    return model;
}

// ---- texts ----

struct text {
    int32_t *ids;
    int32_t starts[2];
    struct device_span *spans;
    struct model_batch batch;
};

// Random ids; a row a token, or means of the whole text, of its halves and of a few tokens at either end.
static void make_text(struct text *text, const struct golden *golden, size_t tokens, bool means,
                      size_t slot) {
    json_t *config = json_object_get(golden->json, "config");
    json_t *nested = json_object_get(config, "text_config");
    size_t vocabulary =
        (size_t)json_integer_value(json_object_get(nested == NULL ? config : nested, "vocab_size"));
    int32_t end = (int32_t)tokens;
    uint64_t seed = tokens;
    text->ids = calloc(tokens, sizeof text->ids[0]);
    text->spans = calloc(size_max(tokens, MEANS), sizeof text->spans[0]);
    for (size_t t = 0; t < tokens; t++) {
        text->ids[t] = (int32_t)random_below(&seed, vocabulary);
        text->spans[t] = (struct device_span){(int32_t)t, (int32_t)t + 1};
    }
    const struct device_span wide[MEANS] = {{0, end}, {0, end / 2}, {end / 2, end}, {0, 1}, {end - 3, end}};
    for (size_t i = 0; means && i < MEANS; i++) {
        text->spans[i] = wide[i];
    }
    text->starts[0] = 0;
    text->starts[1] = end;
    text->batch = (struct model_batch){.ids = text->ids,
                                       .starts = text->starts,
                                       .spans = text->spans,
                                       .tokens = tokens,
                                       .texts = 1,
                                       .rows = means ? MEANS : tokens,
                                       .slot = slot};
}

static void free_text(struct text *text) {
    free(text->ids);
    free(text->spans);
}

// The slot of `whole` and that of `sliced` hold the same.
static void same_rows(const struct golden *golden, const struct model *whole, size_t whole_slot,
                      const struct model *sliced, const struct model_batch *batch, const char *what) {
    struct model_output wanted;
    struct model_output found;
    model_outputs(whole, whole_slot, &wanted);
    model_outputs(sliced, batch->slot, &found);
    for (size_t layer = 0; layer <= golden->layers + 1; layer++) {
        for (size_t r = 0; r < batch->rows; r++) {
            size_t at = r * golden->hidden;
            if (memcmp((const float *)found.rows[layer] + at, (const float *)wanted.rows[layer] + at,
                       golden->hidden * sizeof(float)) != 0) {
                fail_msg("%s, layer %zu: row %zu of %zu differs, in a text of %zu tokens", what, layer, r,
                         batch->rows, batch->tokens);
            }
        }
        assert_memory_equal(found.checks[layer], wanted.checks[layer],
                            batch->rows * sizeof found.checks[layer][0]);
    }
}

static void forward(struct model *model, const struct model_batch *batch) {
    struct error err = {0};
    must(model_forward(model, batch, &err), &err);
    must(model_wait(model, batch->slot, NULL, &err), &err);
}

// ---- one text ----

static void try_text(const char *name, enum dtype dtype, size_t tokens, size_t batch_tokens) {
    struct golden golden;
    struct text text;
    char what[64];
    golden_open(&golden, name);
    struct model_limits whole_limits = limits_of(&golden, tokens, tokens);
    struct model_limits limits = limits_of(&golden, batch_tokens, tokens);
    assert_true(model_limits_slice(&limits));
    snprintf(what, sizeof what, "%s, %s, slices of %zu", name, dtype_name(dtype), limits.tokens);
    struct model *whole = open_model(&golden, dtype, NULL, &whole_limits, NULL, 0);
    struct model *sliced = open_model(&golden, dtype, NULL, &limits, whole, tokens);
    for (int means = 0; means < 2; means++) {
        make_text(&text, &golden, tokens, means == 1, 1);
        forward(whole, &text.batch);
        forward(sliced, &text.batch);
        same_rows(&golden, whole, 1, sliced, &text.batch, what);
        free_text(&text);
    }
    model_close(sliced);
    model_close(whole);
    golden_close(&golden);
}

// Of 1, 2, 3 and 7 slices, whole ones and ends of every kind. A GPU, which may be emulated, takes the shorter
// ones.
static void slices_have_the_bits_of_the_whole(void **state) {
    (void)state;
    static const size_t tokens[] = {193, 384, 500, 250, 1343, 191, 385, 576, 1025, 577};
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    for (size_t i = 0; i < 2 * GOLDEN_COUNT; i++) {
        size_t length = tokens[i % (sizeof tokens / sizeof tokens[0])];
        if (test_on_cpu() || (length <= 250 && i < GOLDEN_COUNT)) {
            try_text(golden_names[i % GOLDEN_COUNT], dtypes[i % 3], length, 200 + i % 5 / 4 * 200);
        }
        print_message("%s: the same bits\n", golden_names[i % GOLDEN_COUNT]);
    }
}

// What rotates by two tables, by the text's length or not at all, scales queries by their place, sees its own
// chunk of the text, adds places
// to scores, learns them, has experts or latents, or a state in place of keys and values.
static void families_have_the_bits_of_the_whole(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum dtype dtype;
    } cases[] = {{"gemma3", DTYPE_BF16},
                 {"phi3-longrope", DTYPE_F32},
                 {"bloom", DTYPE_BF16},
                 {"ministral3", DTYPE_F16},
                 {"gpt_oss", DTYPE_BF16},
                 {"deepseek_v3", DTYPE_F16},
                 {"qwen3_5-text", DTYPE_F32},
                 {"nemotron_h", DTYPE_BF16},
                 {"qwen3_next", DTYPE_BF16},
                 {"qwen3_moe", DTYPE_F32},
                 {"gemma2", DTYPE_F16},
                 {"cohere2", DTYPE_BF16},
                 {"olmo3", DTYPE_F32},
                 {"granitemoe", DTYPE_BF16},
                 {"mixtral", DTYPE_F16},
                 {"gemma4-shared", DTYPE_BF16},
                 {"gemma4-takers", DTYPE_F32},
                 {"gemma4-experts", DTYPE_BF16},
                 {"mistral4", DTYPE_F16},
                 {"phimoe", DTYPE_F32},
                 {"llama4", DTYPE_BF16},
                 {"llama4-dense", DTYPE_F32},
                 {"nemotron_h-latent", DTYPE_F16},
                 {"granitemoehybrid-dense", DTYPE_F32}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (test_on_cpu() || i < 8) {
            try_text(cases[i].name, cases[i].dtype, test_on_cpu() ? 500 : 193, 200);
        }
        print_message("%s: the same bits\n", cases[i].name);
    }
}

// ---- beside others ----

// A sweep of short and long texts in the order of their numbers has what each alone has in the whole model.
static void sweep_texts(const struct golden *golden, struct model *whole, struct model *sliced,
                        const size_t lengths[], size_t count) {
    struct error err = {0};
    struct text texts[MOST_BATCHES];
    const struct model_batch *batches[MOST_BATCHES] = {0};
    for (size_t i = 0; i < count; i++) {
        make_text(&texts[i], golden, lengths[i], i % 2 == 1, i);
        batches[i] = &texts[i].batch;
    }
    must(model_sweep(sliced, 0, batches, count, &err), &err);
    for (size_t i = 0; i < count; i++) {
        must(model_wait(sliced, i, NULL, &err), &err);
        forward(whole, batches[i]);
        same_rows(golden, whole, i, sliced, batches[i], "in a sweep");
        free_text(&texts[i]);
    }
}

static void long_texts_share_sweeps_and_stream(void **state) {
    (void)state;
    static const struct {
        const char *name;
        struct model_placement placement;
        enum dtype dtype;
    } cases[] = {{"qwen3", {MODEL_WEIGHTS_RESIDENT, 0}, DTYPE_BF16},
                 {"llama-dynamic", {MODEL_WEIGHTS_DISK, 1}, DTYPE_F32},
                 {"qwen3-bias-window", {MODEL_WEIGHTS_HOST, 0}, DTYPE_F16},
                 {"gemma4-inputs", {MODEL_WEIGHTS_DISK, 1}, DTYPE_BF16}};
    const size_t longest = test_on_cpu() ? 470 : 200;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct golden golden;
        golden_open(&golden, cases[i].name);
        struct model_limits whole_limits = limits_of(&golden, longest, longest);
        struct model_limits limits = limits_of(&golden, DEVICE_SLICE, longest);
        limits.group = 2;
        limits.members = 6;
        assert_true(model_limits_slice(&limits));
        assert_int_equal(limits.members, 6);
        struct model *whole = open_model(&golden, cases[i].dtype, NULL, &whole_limits, NULL, 0);
        struct model *sliced =
            open_model(&golden, cases[i].dtype, &cases[i].placement, &limits, whole, longest);
        sweep_texts(&golden, whole, sliced, (const size_t[]){30, longest, 192, 17}, 4);
        sweep_texts(&golden, whole, sliced, (const size_t[]){longest, 196}, 2);
        sweep_texts(&golden, whole, sliced, (const size_t[]){20}, 1);
        model_close(sliced);
        model_close(whole);
        golden_close(&golden);
    }
}

// ---- limits ----

static void members_are_counted(void **state) {
    (void)state;
    struct model_limits limits = {.tokens = 1000, .texts = 990, .rows = 10, .longest = 1000, .group = 3};
    assert_true(model_limits_slice(&limits)); // nothing to do
    assert_int_equal(limits.tokens, 1000);
    assert_int_equal(limits.members, 0);
    limits.longest = 5000;
    assert_true(model_limits_slice(&limits));
    assert_int_equal(limits.tokens, 960);
    assert_int_equal(limits.texts, 960);
    assert_int_equal(limits.members, 6);
    assert_int_equal(model_batch_members(&limits, 1), 1);
    assert_int_equal(model_batch_members(&limits, 960), 1);
    assert_int_equal(model_batch_members(&limits, 961), 2);
    assert_int_equal(model_batch_members(&limits, 1920), 2);
    assert_int_equal(model_batch_members(&limits, 5000), 6);
    limits.tokens = DEVICE_SLICE - 1;
    assert_false(model_limits_slice(&limits));
}

static void plan_refused(struct model *model, const struct model_limits *limits, const char *why) {
    struct model_plan plan;
    struct error err = {0};
    assert_int_equal(model_plan(model, limits, &plan, &err), STATUS_INTERNAL);
    assert_non_null(strstr(err.message, why));
}

static void sweep_refused(struct model *model, const struct model_batch *const batches[], size_t count,
                          const char *why) {
    struct error err = {0};
    assert_int_equal(model_sweep(model, 0, batches, count, &err), STATUS_INTERNAL);
    assert_non_null(strstr(err.message, why));
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    struct golden golden;
    struct text text;
    golden_open(&golden, "qwen3");
    struct model_limits limits = limits_of(&golden, DEVICE_SLICE, 3 * DEVICE_SLICE);
    assert_true(model_limits_slice(&limits));
    struct model *model = open_model(&golden, DTYPE_F32, NULL, &limits, NULL, 0);
    struct model_limits wrong = limits;
    wrong.tokens += 8;
    plan_refused(model, &wrong, "run in slices of a multiple of 192 tokens, not of 200");
    wrong = limits;
    wrong.members = 2;
    plan_refused(model, &wrong, "run in 3 slices, for which 2 residual streams do not do");
    wrong = limits;
    wrong.rows = limits.longest + 1;
    plan_refused(model, &wrong, "do not fit together");
    wrong = limits;
    wrong.group = 4;
    plan_refused(model, &wrong, "do not fit together");

    make_text(&text, &golden, limits.longest, false, 0);
    const struct model_batch *two[2] = {&text.batch, &text.batch};
    sweep_refused(model, two, 2, "a sweep of 2 batches is outside the limit of 3 members");
    sweep_refused(model, two, 0, "a sweep of no batch");
    int32_t starts[3] = {0, 5, (int32_t)limits.longest};
    text.batch.texts = 2;
    text.batch.starts = starts;
    sweep_refused(model, two, 1, "is outside the limits"); // more than a batch in several texts
    free_text(&text);
    make_text(&text, &golden, limits.longest + 1, true, 0);
    two[0] = &text.batch;
    sweep_refused(model, two, 1, "outside the limit");
    free_text(&text);
    model_close(model);
    golden_close(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_have_the_bits_of_the_whole),
        cmocka_unit_test(families_have_the_bits_of_the_whole),
        cmocka_unit_test(long_texts_share_sweeps_and_stream),
        cmocka_unit_test(members_are_counted),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
