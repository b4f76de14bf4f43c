// SPDX-License-Identifier: MIT
// What a generating engine needs, against the figures that were published for Mistral-7B in Q4_K_M: a file of
// 4,166.1 MB with 32 layers, on a card of 8,192 MB of which others have 857, filled to 80 %.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>

#include <cmocka.h>

#include "close_to.h"
#include "model/generation.h"
#include "model_shapes.h"

#define MB 0x1p20 // as it was published

static const struct published {
    const char *cache;
    size_t context;
    double keys_values; // MB a layer
    size_t least;       // layers on the card
    size_t most;
} cases[] = {
    {"f16", 32768, 512, 8, 8},    {"f16", 16384, 256, 14, 14}, {"f16", 8192, 128, 22, 22},
    {"f16", 4096, 64, 29, 30},    {"f16", 2048, 32, 32, 32},   {"q8_0", 32768, 256, 15, 15},
    {"q4_0", 32768, 128, 22, 24},
};

static struct generation_request request_of(const struct model_config *config, const struct published *p) {
    struct generation_request request = {.config = config,
                                         .file = 4166.1 * MB,
                                         .context = p->context,
                                         .memory = 8192 * MB,
                                         .in_use = 857 * MB,
                                         .target = 0.8};
    assert_true(generation_cache_find(p->cache, &request.cache));
    return request;
}

static void published_figures_come_out_within_a_layer(void **state) {
    (void)state;
    struct model_config config;
    shape_mistral_7b(&config);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct generation_request request = request_of(&config, &cases[i]);
        struct generation found;
        generation_count(&found, &request);
        assert_close(found.published.weights / MB, 130.2, 0.05);
        assert_close(found.published.keys_values / MB, cases[i].keys_values, 1e-9);
        if (found.published.layers + 1 < cases[i].least || found.published.layers > cases[i].most + 1) {
            fail_msg("%s at %zu: %zu layers", cases[i].cache, cases[i].context, found.published.layers);
        }
    }
    model_config_destroy(&config);
}

// Eight heads of keys and values in place of thirty-two, and the scales of a quantised cache.
static void grouped_queries_need_a_quarter(void **state) {
    (void)state;
    static const double actual[] = {128, 64, 32, 16, 8, 68, 36};
    struct model_config config;
    shape_mistral_7b(&config);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct generation_request request = request_of(&config, &cases[i]);
        struct generation found;
        generation_count(&found, &request);
        assert_close(found.actual.keys_values / MB, actual[i], 1e-9);
        assert_true(found.actual.layers >= found.published.layers);
        // strata keeps those of one layer, in 16 bits.
        assert_close(found.own / MB, (double)cases[i].context * 2 * 1024 * 2 / MB, 1e-9);
    }
    model_config_destroy(&config);
}

static void layers_may_keep_less(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double cached;
    } shapes[] = {
        {"{\"model_type\": \"qwen3_5_text\", \"num_hidden_layers\": 8}", 2.0 * 4 * 256 / 4},
        {"{\"model_type\": \"deepseek_v3\"}", 512 + 64},
        {"{\"model_type\": \"qwen3\", \"num_key_value_heads\": 8, \"head_dim\": 128}", 2 * 8 * 128},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct model_config config;
        struct error err = {0};
        struct generation found;
        assert_int_equal(
            model_config_parse(&config, shapes[i].text, strlen(shapes[i].text), "config.json", &err),
            STATUS_OK);
        const struct generation_request request = request_of(&config, &cases[0]);
        generation_count(&found, &request);
        assert_close(found.cached, shapes[i].cached, 1e-9);
        assert_close(found.actual.keys_values, 2 * (double)cases[0].context * shapes[i].cached, 1e-6);
        model_config_destroy(&config);
    }
}

static void nothing_fits_where_others_have_it_all(void **state) {
    (void)state;
    struct model_config config;
    struct generation found;
    shape_mistral_7b(&config);
    struct generation_request request = request_of(&config, &cases[4]);
    request.in_use = request.memory;
    generation_count(&found, &request);
    assert_int_equal(found.published.layers, 0);
    assert_int_equal(found.actual.layers, 0);
    assert_false(generation_cache_find("q5_1", &request.cache));
    model_config_destroy(&config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_figures_come_out_within_a_layer),
        cmocka_unit_test(grouped_queries_need_a_quarter),
        cmocka_unit_test(layers_may_keep_less),
        cmocka_unit_test(nothing_fits_where_others_have_it_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
