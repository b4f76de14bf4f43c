// SPDX-License-Identifier: MIT
// config.json: what the classes of transformers take when a key is absent, what is read, what is refused by
// name.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/config.h"
#include "model/rope.h"

static void parse(struct model_config *config, const char *text) {
    struct error err = {0};
    if (model_config_parse(config, text, strlen(text), "config.json", &err) != STATUS_OK) {
        fail_msg("%s: %s", text, err.message);
    }
}

static void absent_keys_take_the_class_defaults(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t kv_heads, head_dim, intermediate, vocabulary, positions, window;
        bool bias, qk_norm;
    } cases[] = {
        {"{\"model_type\": \"llama\"}", 32, 128, 11008, 32000, 2048, 0, false, false},
        {"{\"model_type\": \"mistral\"}", 8, 128, 14336, 32000, 131072, 4096, false, false},
        {"{\"model_type\": \"qwen2\"}", 32, 128, 22016, 151936, 32768, 0, true, false},
        {"{\"model_type\": \"qwen3\"}", 32, 128, 22016, 151936, 32768, 0, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_config config;
        parse(&config, cases[i].text);
        assert_int_equal(config.layers, 32);
        assert_int_equal(config.hidden, 4096);
        assert_int_equal(config.kv_heads, cases[i].kv_heads);
        assert_int_equal(config.head_dim, cases[i].head_dim);
        assert_int_equal(config.intermediate, cases[i].intermediate);
        assert_int_equal(config.vocabulary, cases[i].vocabulary);
        assert_int_equal(config.max_positions, cases[i].positions);
        assert_int_equal(config.window, cases[i].window);
        assert_int_equal(config.attention_bias, cases[i].bias);
        assert_int_equal(config.qk_norm, cases[i].qk_norm);
        assert_false(config.output_bias || config.mlp_bias || config.tied_embeddings);
        assert_true(config.norm_epsilon == 1e-6 && config.rope.theta == 10000);
        assert_int_equal(config.rope.kind, ROPE_PLAIN);
        assert_int_equal(config.checkpoint_dtype, DTYPE_F32);
        model_config_destroy(&config);
    }
}

static void keys_are_read_as_transformers_reads_them(void **state) {
    (void)state;
    struct model_config config;
    parse(&config, "{\"model_type\": \"qwen2\", \"hidden_size\": 64, \"num_attention_heads\": 4, "
                   "\"num_hidden_layers\": 3,"
                   "\"num_key_value_heads\": null, \"head_dim\": null, \"use_sliding_window\": true, "
                   "\"sliding_window\": 7,"
                   "\"max_window_layers\": 2, \"rms_norm_eps\": 1e-05, \"rope_theta\": 1000000, "
                   "\"torch_dtype\": \"bfloat16\"}");
    assert_int_equal(config.kv_heads, 4);
    assert_int_equal(config.head_dim, 16);
    assert_int_equal(config.window, 7);
    assert_memory_equal(config.layer_slides, "\0\0\1", 3);
    assert_true(config.norm_epsilon == 1e-5 && config.rope.theta == 1e6);
    assert_int_equal(config.checkpoint_dtype, DTYPE_BF16);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"qwen3\", \"num_hidden_layers\": 2, \"use_sliding_window\": true, "
                   "\"attention_bias\": true,"
                   "\"layer_types\": [\"sliding_attention\", \"full_attention\"], \"dtype\": \"float16\","
                   "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 5000000.0}}");
    assert_memory_equal(config.layer_slides, "\1\0", 2);
    assert_int_equal(config.window, 4096);
    assert_true(config.output_bias && config.attention_bias && config.rope.theta == 5e6);
    assert_int_equal(config.checkpoint_dtype, DTYPE_F16);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"mistral\", \"sliding_window\": null, \"num_attention_heads\": 8, "
                   "\"attention_bias\": true,"
                   "\"hidden_size\": 5120, \"head_dim\": 128.0}");
    assert_int_equal(config.window, 0);
    assert_int_equal(config.head_dim, 128);
    assert_false(config.attention_bias); // no such flag in this family
    model_config_destroy(&config);
}

static void unused_keys_may_hold_what_python_writes(void **state) {
    (void)state;
    static const char text[] =
        "{\"model_type\": \"llama\", \"hidden_size\": 128, \"loss\": NaN, \"best\": [-Infinity],"
        " \"model_max_length\": 1000000000000000019884624838656, \"hidden_size\": 64}";
    struct model_config config;
    struct error err = {0};
    if (model_config_parse(&config, text, sizeof text - 1, "config.json", &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(config.hidden, 64); // the last of two, as in Python
    model_config_destroy(&config);
}

static void how_weights_are_packed_is_read_with_the_rest(void **state) {
    (void)state;
    static const char text[] =
        "{\"model_type\": \"qwen3\", \"quantization_config\": {\"quant_method\": \"awq\","
        " \"bits\": 4, \"group_size\": 64}}";
    struct model_config config;
    struct error err = {0};
    assert_int_equal(model_config_parse(&config, text, sizeof text - 1, "config.json", &err), STATUS_OK);
    assert_int_equal(config.quantization.method, QUANTIZATION_AWQ);
    assert_int_equal(config.quantization.group, 64);
    model_config_destroy(&config);
}

static void unsupported_and_wrong_keys_are_named(void **state) {
    (void)state;
    static const struct {
        const char *members;
        const char *said;
    } cases[] = {
        {"\"model_type\": \"bert\"", "'model_type' is 'bert'"},
        {"\"hidden_size\": 64", "'model_type' is missing"},
        {"\"model_type\": \"llama\", \"hidden_act\": \"mish\"", "'hidden_act' is 'mish'"},
        {"\"model_type\": \"llama\", \"quantization_config\": {}",
         "'quantization_config': 'quant_method' is missing"},
        {"\"model_type\": \"llama\", \"is_causal\": false", "'is_causal'"},
        {"\"model_type\": \"llama\", \"partial_rotary_factor\": 0.5", "'partial_rotary_factor' is 0.5"},
        {"\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"longrope\"}",
         "'short_factor' is not a list of 64 numbers"},
        {"\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"axial\"}", "'rope_type' is 'axial'"},
        {"\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"linear\"}", "'factor' is missing"},
        {"\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}",
         "'factor' is 0"},
        {"\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"yarn\"}", "'factor' is missing"},
        {"\"model_type\": \"llama\", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}",
         "'low_freq_factor' is missing"},
        {"\"model_type\": \"llama\", \"rope_scaling\": [1]", "'rope_scaling' is not an object"},
        {"\"model_type\": \"llama\", \"num_attention_heads\": 5", "multiple"},
        {"\"model_type\": \"llama\", \"num_attention_heads\": 0", "'num_attention_heads' is 0"},
        {"\"model_type\": \"llama\", \"hidden_size\": 64.5", "'hidden_size' is not a whole number"},
        {"\"model_type\": \"llama\", \"hidden_size\": 99999999999", "'hidden_size' is 99999999999"},
        {"\"model_type\": \"llama\", \"head_dim\": 15", "'head_dim' is 15"},
        {"\"model_type\": \"llama\", \"num_key_value_heads\": 3", "'num_key_value_heads' (3)"},
        {"\"model_type\": \"llama\", \"dtype\": \"float64\"", "'dtype' is 'float64'"},
        {"\"model_type\": \"llama\", \"rms_norm_eps\": -1", "'rms_norm_eps'"},
        {"\"model_type\": \"qwen3\", \"head_dim\": null", "'head_dim' is null"},
        {"\"model_type\": \"qwen3\", \"num_hidden_layers\": 1, \"layer_types\": [\"chunked_attention\"]",
         "chunked_attention"},
        {"\"model_type\": \"qwen3\", \"num_hidden_layers\": 1, \"layer_types\": [\"sliding_attention\"]",
         "no sliding window"},
        {"\"model_type\": \"qwen3\", \"num_hidden_layers\": 2, \"layer_types\": [\"full_attention\"]",
         "list of 2"},
        {"\"model_type\": \"mistral\", \"num_hidden_layers\": 1, \"layer_types\": [\"full_attention\"]",
         "contradicts"},
        {"\"model_type\": \"llama\", \"model_type\": \"bert\"", "'model_type' is 'bert'"},
        {"\"model_type\": \"llama\", \"rope_theta\": NaN", "'rope_theta' is NaN"},
        {"\"model_type\": \"llama\", \"hidden_size\": Infinity", "'hidden_size' is Infinity"},
        {"\"model_type\": \"llama\", \"hidden_size\": 1e400", "'hidden_size' is Infinity"},
        {"\"model_type\": \"llama\", \"rope_scaling\": NaN", "'rope_scaling' is not an object"},
        {"\"model_type\": \"llama\", \"max_position_embeddings\": 36893488147419103232",
         "'max_position_embeddings' is 3.68935e+19"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_config config;
        struct error err = {0};
        char text[512];
        snprintf(text, sizeof text, "{%s}", cases[i].members);
        assert_int_equal(model_config_parse(&config, text, strlen(text), "config.json", &err), STATUS_DATA);
        if (strstr(err.message, cases[i].said) == NULL || strstr(err.message, "config.json") == NULL) {
            fail_msg("%s is answered with: %s", text, err.message);
        }
        assert_null(config.layer_slides);
    }
}

static void near(float found, double wanted) {
    if (!(fabs((double)found - wanted) <= 3e-6 * wanted)) {
        fail_msg("%.9g instead of %.9g", (double)found, wanted);
    }
}

// Numbers worked out by hand from the formulas for published models.
static void frequencies_have_the_published_values(void **state) {
    (void)state;
    struct model_config config;
    float frequencies[64];
    parse(&config, "{\"model_type\": \"llama\", \"head_dim\": 128, \"rope_theta\": 500000.0, "
                   "\"rope_scaling\": {\"rope_type\":"
                   "\"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0,"
                   "\"original_max_position_embeddings\": 8192}}");
    rope_frequencies(&config, &config.rope, 10, frequencies);
    near(frequencies[28], pow(500000, -56.0 / 128));
    near(frequencies[29], 0.00216657);
    near(frequencies[34], 1.78508e-4);
    near(frequencies[35], pow(500000, -70.0 / 128) / 8);
    model_config_destroy(&config);

    parse(&config,
          "{\"model_type\": \"qwen3\", \"rope_theta\": 1000000, \"max_position_embeddings\": 40960, "
          "\"rope_scaling\":"
          "{\"rope_type\": \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 32768}}");
    rope_frequencies(&config, &config.rope, 10, frequencies);
    near((float)config.rope.attention_factor, 1.138629);
    near(frequencies[23], pow(1e6, -46.0 / 128));
    near(frequencies[40], pow(1e6, -80.0 / 128) / 4);
    model_config_destroy(&config);
}

static void dynamic_frequencies_depend_on_the_text_alone(void **state) {
    (void)state;
    struct model_config config;
    float within[8];
    float first[8];
    float again[8];
    parse(&config,
          "{\"model_type\": \"llama\", \"head_dim\": 16, \"max_position_embeddings\": 100, \"rope_scaling\":"
          "{\"type\": \"dynamic\", \"factor\": 2.0}}");
    assert_false(rope_is_own(&config, 100));
    assert_true(rope_is_own(&config, 101));
    rope_frequencies(&config, &config.rope, 100, within);
    rope_frequencies(&config, &config.rope, 150, first);
    rope_frequencies(&config, &config.rope, 250, again);
    rope_frequencies(&config, &config.rope, 150, again);
    assert_memory_equal(first, again, sizeof first);
    near(within[3], pow(10000, -6.0 / 16));
    near(first[7], pow(10000 * pow(2.0 * 150 / 100 - 1, 16.0 / 14), -14.0 / 16));
    model_config_destroy(&config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_keys_take_the_class_defaults),
        cmocka_unit_test(keys_are_read_as_transformers_reads_them),
        cmocka_unit_test(how_weights_are_packed_is_read_with_the_rest),
        cmocka_unit_test(unsupported_and_wrong_keys_are_named),
        cmocka_unit_test(unused_keys_may_hold_what_python_writes),
        cmocka_unit_test(frequencies_have_the_published_values),
        cmocka_unit_test(dynamic_frequencies_depend_on_the_text_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
