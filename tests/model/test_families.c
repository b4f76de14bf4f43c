// SPDX-License-Identifier: MIT
// What families' configurations come to: windows, rotation, scales and the text part of a larger model; and
// what is refused because another family has it. The numbers of published models are held against
// transformers in test_published.py.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/family.h"
#include "model/rope.h"
#include "parsed.h"

// What the class of dots.llm1 has no default for.
#define DOTS " \"n_routed_experts\": 8, \"n_shared_experts\": 2, \"num_experts_per_tok\": 3}"

static void windows_come_in_patterns(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *slides; // of the first blocks
        const char *ropes;
    } cases[] = {
        {"{\"model_type\": \"gemma2\", \"num_hidden_layers\": 4}", "\1\0\1\0", "\0\0\0\0"},
        {"{\"model_type\": \"gemma3_text\", \"num_hidden_layers\": 7}", "\1\1\1\1\1\0\1", "\1\1\1\1\1\0\1"},
        {"{\"model_type\": \"gemma3_text\", \"num_hidden_layers\": 3, \"sliding_window_pattern\": 2}",
         "\1\0\1", "\1\0\1"},
        {"{\"model_type\": \"gemma3_text\", \"num_hidden_layers\": 2, \"sliding_window_pattern\": 2,"
         " \"layer_types\": [\"full_attention\", \"sliding_attention\"]}",
         "\0\1", "\0\1"},
        {"{\"model_type\": \"olmo3\", \"num_hidden_layers\": 5}", "\1\1\1\0\1", "\1\1\1\0\1"},
        {"{\"model_type\": \"cohere2\", \"num_hidden_layers\": 4}", "\1\1\1\0", "\0\0\0\2"},
        {"{\"model_type\": \"exaone4\", \"num_hidden_layers\": 4}", "\1\1\1\0", "\0\0\0\2"},
        {"{\"model_type\": \"exaone4\", \"num_hidden_layers\": 4, \"sliding_window\": null}", "\0\0\0\0",
         "\0\0\0\0"},
        {"{\"model_type\": \"smollm3\", \"num_hidden_layers\": 4}", "\0\0\0\0", "\0\0\0\2"},
        {"{\"model_type\": \"smollm3\", \"num_hidden_layers\": 2, \"no_rope_layers\": [0, 1],"
         " \"use_sliding_window\": true, \"sliding_window\": 8}",
         "\1\0", "\2\0"},
        {"{\"model_type\": \"phi3\", \"num_hidden_layers\": 2, \"sliding_window\": 9}", "\1\1", "\0\0"},
        {"{\"model_type\": \"phi3\", \"num_hidden_layers\": 2}", "\0\0", "\0\0"},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 2}", "\0\0", "\2\2"},
        {"{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 4, \"no_rope_layers\": []}", "\1\1\1\0",
         "\0\0\0\2"},
        {"{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 2, \"no_rope_layers\": [0, 1]}", "\0\1",
         "\2\0"},
        {"{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 2, \"attention_chunk_size\": null}",
         "\0\0", "\0\0"},
        {"{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 2, \"no_rope_layer_interval\": 2,"
         " \"layer_types\": [\"full_attention\", \"chunked_attention\"]}",
         "\0\1", "\0\2"},
        {"{\"model_type\": \"cwm\", \"num_hidden_layers\": 6, \"rope_parameters\": {\"rope_theta\": 9}}",
         "\0\1\1\1\0\1", "\0\0\0\0\0\0"},
        {"{\"model_type\": \"afmoe\", \"num_hidden_layers\": 3, \"global_attn_every_n_layers\": 2}", "\1\0\1",
         "\0\2\0"},
        {"{\"model_type\": \"dots1\", \"num_hidden_layers\": 3, \"max_window_layers\": 1," DOTS, "\0\1\1",
         "\0\0\0"},
        {"{\"model_type\": \"dots1\", \"num_hidden_layers\": 3, \"max_window_layers\": 1,"
         " \"sliding_window\": null," DOTS,
         "\0\0\0", "\0\0\0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_config config;
        parse(&config, cases[i].text);
        assert_memory_equal(config.layer_slides, cases[i].slides, config.layers);
        assert_memory_equal(config.layer_ropes, cases[i].ropes, config.layers);
        model_config_destroy(&config);
    }
}

static void rotation_may_differ_by_layer_type(void **state) {
    (void)state;
    struct model_config config;
    parse(&config, "{\"model_type\": \"gemma3_text\", \"rope_scaling\": {\"rope_type\": \"linear\","
                   " \"factor\": 8.0}, \"rope_local_base_freq\": 5000}");
    assert_true(config.rope.kind == ROPE_LINEAR && config.rope.theta == 1e6 && config.rope.factor == 8);
    assert_true(config.local_rope.kind == ROPE_PLAIN && config.local_rope.theta == 5000);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"gemma3_text\", \"rope_parameters\": {"
                   "\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 4.0, \"rope_theta\": 2e6},"
                   "\"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 3e4}}}");
    assert_true(config.rope.kind == ROPE_LINEAR && config.rope.theta == 2e6 && config.rope.factor == 4);
    assert_true(config.local_rope.kind == ROPE_PLAIN && config.local_rope.theta == 3e4);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"phi3\", \"hidden_size\": 64, \"num_attention_heads\": 8,"
                   " \"max_position_embeddings\": 4096, \"original_max_position_embeddings\": 1024,"
                   " \"partial_rotary_factor\": 0.5, \"rope_scaling\": {\"type\": \"su\","
                   " \"short_factor\": [1, 1.5], \"long_factor\": [2, 4.5]}}");
    assert_int_equal(config.rope.kind, ROPE_LONG);
    assert_int_equal(config_rotated(&config), 4);
    assert_true(config.rope.divisors[1] == 1.5f && config.rope.long_divisors[1] == 4.5f);
    assert_true(fabs(config.rope.attention_factor - sqrt(1 + log(4) / log(1024))) < 1e-12);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"hunyuan_v1_dense\", \"hidden_size\": 64, \"num_attention_heads\": 8,"
                   " \"rope_scaling\": {\"type\": \"dynamic\", \"alpha\": 1000.0, \"factor\": 1.0}}");
    assert_true(config.rope.kind == ROPE_PLAIN && fabs(config.rope.theta - 1e4 * pow(1000, 8.0 / 6)) < 1e-3);
    model_config_destroy(&config);
}

static void blocks_without_a_window_may_differ_in_more(void **state) {
    (void)state;
    struct model_config config;
    parse(&config, "{\"model_type\": \"gemma4_text\", \"num_hidden_layers\": 7, \"head_dim\": 64,"
                   " \"global_head_dim\": 96, \"num_global_key_value_heads\": 2, \"attention_k_eq_v\": true,"
                   " \"num_kv_shared_layers\": 1, \"use_double_wide_mlp\": true}");
    assert_memory_equal(config.layer_slides, "\1\1\1\1\1\0\0", 7); // the last one whatever its number
    assert_int_equal(config_heads(&config, 0).head_dim, 64);
    assert_int_equal(config_heads(&config, 0).kv_heads, 4);
    assert_int_equal(config_heads(&config, 6).head_dim, 96);
    assert_int_equal(config_heads(&config, 6).kv_heads, 2);
    assert_true(config_values_are_keys(&config, 5) && !config_values_are_keys(&config, 4));
    assert_int_equal(config_keys(&config, 5), KEYS_KEPT);
    assert_int_equal(config_keys(&config, 6), KEYS_SHARED);
    assert_int_equal(config_keys(&config, 3), KEYS_OWN);
    assert_int_equal(config_shared_keys(&config, false), 2 * 2 * 96);
    assert_int_equal(config_mlp_width(&config, 6), 2 * config_mlp_width(&config, 5));
    assert_int_equal(config_layer_inputs(&config), 7 * 256);
    assert_int_equal(config_rope_rotated(&config, &config.rope), 96);
    assert_int_equal(config_rope_rotated(&config, &config.local_rope), 64);
    assert_int_equal(config.rope.still, 48 - 12);
    assert_true(config.rope.theta == 1e6 && config.local_rope.theta == 1e4 && config.score_scale == 1);
    model_config_destroy(&config);

    // As transformers writes it: the sizes of each block that differs.
    parse(&config, "{\"model_type\": \"gemma4_text\", \"num_hidden_layers\": 2, \"layer_types\":"
                   " [\"sliding_attention\", \"full_attention\"], \"hidden_size_per_layer_input\": 0,"
                   " \"use_bidirectional_attention\": \"vision\", \"per_layer_config\":"
                   " {\"1\": {\"head_dim\": 128, \"num_key_value_heads\": 1}}}");
    assert_int_equal(config_heads(&config, 1).head_dim, 128);
    assert_int_equal(config_heads(&config, 1).kv_heads, 1);
    assert_int_equal(config.layer_input, 0);
    model_config_destroy(&config);
}

static void what_differs_in_other_ways_is_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"\"enable_moe_block\": true", "'num_experts' is missing"},
        {"\"enable_moe_block\": true, \"num_experts\": 8", "'top_k_experts' is missing"},
        {"\"use_bidirectional_attention\": \"all\"", "'use_bidirectional_attention' is all"},
        {"\"global_head_dim\": 33", "heads of 33 numbers"},
        {"\"attention_k_eq_v\": true, \"num_global_key_value_heads\": 3", "not a multiple of the 3 heads"},
        {"\"attention_k_eq_v\": true, \"attention_bias\": true", "'attention_bias' is not supported"},
        {"\"num_hidden_layers\": 2, \"num_kv_shared_layers\": 1", "has no keys and values to take"},
        {"\"num_hidden_layers\": 2, \"num_kv_shared_layers\": 2", "'num_kv_shared_layers'"},
        {"\"vocab_size_per_layer_input\": 5", "'vocab_size_per_layer_input' is 5"},
        {"\"rope_parameters\": {\"sliding_attention\": {\"rope_theta\": 5}}", "'full_attention' is not an"},
        {"\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 5, \"rope_type\": \"yarn\"}}",
         "supported are default and proportional"},
        {"\"per_layer_config\": {\"0\": {\"head_dim\": 8}}", "block 0 has a window and heads of its own"},
        {"\"per_layer_config\": {\"5\": {\"head_dim\": 8}}", "differ in their heads"},
        {"\"per_layer_config\": {\"5\": {\"hidden_size\": 8}}", "'hidden_size' differs from block to block"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, "{\"model_type\": \"gemma4_text\", %s}", cases[i][0]);
        refused(text, cases[i][1]);
    }
}

static void blocks_may_see_chunks_and_temper_queries(void **state) {
    (void)state;
    struct model_config config;
    parse(&config,
          "{\"model_type\": \"llama4\", \"text_config\": {\"num_hidden_layers\": 4, \"floor_scale\": 100,"
          " \"interleave_moe_layer_step\": 2, \"intermediate_size\": 40,"
          " \"intermediate_size_mlp\": 56, \"attention_chunk_size\": 77}}");
    assert_memory_equal(config.layer_experts, "\0\1\0\1", 4);
    assert_true(config.chunk == 77 && config.window == 0 && config.head_dim == 128);
    assert_true(config_mlp_width(&config, 0) == 56 && config_mlp_width(&config, 1) == 40);
    assert_true(config.experts.width == 40 && config.experts.count == 16 && config.experts.chosen == 1);
    assert_true(config.experts.scales_input && !config.experts.normalised && config.experts.rounds_weights);
    assert_true(config.experts.scores == DEVICE_SCORES_SIGMOID && config.qk_norm == QK_NORM_TURNED);
    assert_true(rope_query_scale(&config, 98) == 1);
    assert_true(rope_query_scale(&config, 99) == (float)log1p(1) * 0.1f + 1);
    assert_true(rope_query_scale(&config, 400) == (float)log1p(4) * 0.1f + 1);
    model_config_destroy(&config);

    parse(&config,
          "{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 3, \"moe_layers\": [2, -1, 7],"
          " \"interleave_moe_layer_step\": 1, \"use_qk_norm\": false, \"attn_temperature_tuning\": false,"
          " \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 16.0, \"low_freq_factor\": 1.0,"
          " \"high_freq_factor\": 1.0, \"original_max_position_embeddings\": 8192}}");
    assert_memory_equal(config.layer_experts, "\0\0\1", 3);
    assert_true(config.query_beta == 0 && config.query_step == 0 && config.qk_norm == QK_NORM_NONE);
    float frequencies[64];
    rope_frequencies(&config, &config.rope, 1, frequencies);
    assert_true(frequencies[0] == 1); // a short wavelength stays, and the longest is stretched
    assert_true(frequencies[63] == 1.0f / (float)pow(5e5, (double)(126.0f / 128)) / 16);
    model_config_destroy(&config);

    static const char *const cases[][2] = {
        {"\"attention_chunk_size\": 0", "'attention_chunk_size' is 0"},
        {"\"attention_chunk_size\": null, \"num_hidden_layers\": 1, \"layer_types\": [\"chunked_attention\"]",
         "there is no 'attention_chunk_size'"},
        {"\"num_hidden_layers\": 1, \"layer_types\": [\"sliding_attention\"]",
         "supported are full_attention and chunked_attention"},
        {"\"no_rope_layers\": [1]", "'no_rope_layers' is not a list of 48 numbers"},
        {"\"moe_layers\": 3", "'moe_layers' is not a list"},
        {"\"moe_layers\": [\"3\"]", "'moe_layers' entry 0 is not a number"},
        {"\"interleave_moe_layer_step\": 0", "'interleave_moe_layer_step' is 0"},
        {"\"floor_scale\": 0", "'floor_scale' is 0"},
        {"\"attn_scale\": -0.5", "'attn_scale' is -0.5"},
        {"\"attn_temperature_tuning\": 4", "'attn_temperature_tuning'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, "{\"model_type\": \"llama4_text\", %s}", cases[i][0]);
        refused(text, cases[i][1]);
    }
}

static void older_families_name_heads_and_norms_otherwise(void **state) {
    (void)state;
    struct model_config config;
    parse(&config, "{\"model_type\": \"falcon\"}");
    assert_true(config.heads == 71 && config.kv_heads == 1 && config.intermediate == 4 * config.hidden);
    assert_int_equal(config.branches, BRANCHES_ONE_NORM);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"falcon\", \"hidden_size\": 64, \"num_attention_heads\": 8,"
                   " \"new_decoder_architecture\": true, \"num_kv_heads\": 2, \"ffn_hidden_size\": 40}");
    assert_true(config.kv_heads == 2 && config.intermediate == 40);
    assert_int_equal(config.branches, BRANCHES_TWO_NORMS);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"falcon\", \"multi_query\": false, \"parallel_attn\": false}");
    assert_true(config.kv_heads == 71 && config.branches == BRANCHES_SERIAL);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"mpt\", \"max_seq_len\": 64,"
                   " \"attn_config\": {\"clip_qkv\": 6, \"softmax_scale\": 0.5}}");
    assert_true(config.qkv_limit == 6 && config.score_scale == 0.5 && config.has_slopes);
    assert_int_equal(config.longest_text, 64);
    assert_string_equal(config.longest_key, "max_seq_len");
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"stablelm\", \"qk_layernorm\": true}");
    assert_int_equal(config.qk_norm, QK_NORM_EACH);
    model_config_destroy(&config);
}

static void scales_are_read_as_each_family_has_them(void **state) {
    (void)state;
    struct model_config config;
    parse(&config, "{\"model_type\": \"gemma2\", \"query_pre_attn_scalar\": 144, \"hidden_size\": 2304}");
    assert_true(config.score_scale == 1.0 / 12 && config.softcap == 50 && config.embedding_scale == 48);
    assert_true(config.embedding_rounds && config.tied_embeddings);
    assert_int_equal(config.activation, DEVICE_GELU_TANH);
    assert_int_equal(config.norm, DEVICE_NORM_RMS_PLUS_ONE);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"gemma2\", \"attn_logit_softcapping\": null}");
    assert_true(config.softcap == 0);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"granite\", \"attention_multiplier\": 0.0078125,"
                   " \"embedding_multiplier\": 12, \"residual_multiplier\": 0.22}");
    assert_true(config.score_scale == 0.0078125 && config.embedding_scale == 12);
    assert_true(config.residual_scale == 0.22 && !config.embedding_rounds);
    model_config_destroy(&config);
}

static void norms_are_where_flags_put_them(void **state) {
    (void)state;
    struct model_config config;
    parse(&config, "{\"model_type\": \"cohere\", \"use_qk_norm\": true}");
    assert_true(config.qk_norm == QK_NORM_EACH && config.norms == NORMS_BEFORE && !config.bare_norms);
    model_config_destroy(&config);
    parse(&config, "{\"model_type\": \"cohere\", \"use_qk_norm\": null}");
    assert_int_equal(config.qk_norm, QK_NORM_NONE);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"opt\", \"do_layer_norm_before\": false}");
    assert_true(config.norms == NORMS_OF_SUM && config.no_final_norm && config.norm_bias);
    model_config_destroy(&config);
    parse(&config, "{\"model_type\": \"opt\", \"_remove_final_layer_norm\": true}");
    assert_true(config.norms == NORMS_BEFORE && config.no_final_norm);
    model_config_destroy(&config);
    parse(&config, "{\"model_type\": \"opt\", \"layer_norm_elementwise_affine\": false}");
    assert_true(config.bare_norms && !config.norm_bias && !config.no_final_norm);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"olmo\", \"clip_qkv\": 8, \"rms_norm_eps\": 0.5}");
    assert_true(config.bare_norms && config.qkv_limit == 8 && config.norm_epsilon == 1e-5);
    model_config_destroy(&config);
    parse(&config, "{\"model_type\": \"olmoe\", \"clip_qkv\": null}");
    assert_true(config.qkv_limit == 0);
    model_config_destroy(&config);
}

static void the_text_part_of_a_larger_model_is_read(void **state) {
    (void)state;
    struct model_config config;
    parse(&config, "{\"model_type\": \"gemma3\", \"dtype\": \"bfloat16\", \"vision_config\": {\"a\": 1},"
                   " \"text_config\": {\"hidden_size\": 2560, \"num_hidden_layers\": 34}}");
    assert_true(config.is_nested && config.hidden == 2560 && config.layers == 34 && config.head_dim == 256);
    assert_string_equal(config.model_type, "gemma3_text");
    assert_int_equal(config.checkpoint_dtype, DTYPE_BF16);
    model_config_destroy(&config);
    parse(&config, "{\"model_type\": \"qwen2_5_vl\", \"hidden_size\": 3584, \"num_attention_heads\": 28,"
                   " \"num_key_value_heads\": 4, \"vision_config\": {\"a\": 1},"
                   " \"rope_scaling\": {\"type\": \"mrope\", \"mrope_section\": [16, 24, 24]}}");
    assert_true(config.is_nested && config.hidden == 3584 && config.attention_bias);
    model_config_destroy(&config);
    refused("{\"model_type\": \"gemma3\"}", "'text_config' of gemma3 is not an object");
    refused("{\"model_type\": \"mistral3\", \"text_config\": {\"model_type\": \"bert\"}}",
            "'model_type' is 'bert'");
    refused("{\"model_type\": \"gemma3\", \"text_config\": {\"hidden_size\": 0}}", "'text_config': ");
    refused("{\"model_type\": \"llama\", \"text_config\": {}}", "'text_config' is not supported");
}

static void what_another_family_has_is_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"\"model_type\": \"llama\", \"attn_logit_softcapping\": 30", "'attn_logit_softcapping' is 30"},
        {"\"model_type\": \"llama\", \"residual_multiplier\": 0.5", "'residual_multiplier' is 0.5"},
        {"\"model_type\": \"llama\", \"num_local_experts\": 8", "llama has no experts"},
        {"\"model_type\": \"qwen3\", \"num_experts\": 128", "qwen3 has no experts"},
        {"\"model_type\": \"qwen2\", \"no_rope_layers\": [0]", "'no_rope_layers' is not supported"},
        {"\"model_type\": \"qwen3\", \"query_pre_attn_scalar\": 64", "'query_pre_attn_scalar' is 64"},
        {"\"model_type\": \"gemma3_text\", \"use_bidirectional_attention\": true",
         "'use_bidirectional_attention' is true"},
        {"\"model_type\": \"cohere2\", \"use_qk_norm\": true", "'use_qk_norm' is true"},
        {"\"model_type\": \"llama\", \"is_causal\": null", "'is_causal' is null"},
        {"\"model_type\": \"phi\", \"qk_layernorm\": true", "'qk_layernorm' is true"},
        {"\"model_type\": \"deepseek_v3\", \"norm_topk_prob\": null", "'norm_topk_prob' is null"},
        {"\"model_type\": \"deepseek_v3\", \"rope_interleave\": null", "'rope_interleave' is null"},
        {"\"model_type\": \"qwen3_next\", \"partial_rotary_factor\": null",
         "'partial_rotary_factor' is null"},
        {"\"model_type\": \"gemma4\", \"text_config\": {\"pad_token_id\": null}", "'pad_token_id' is null"},
        {"\"model_type\": \"gpt_neox\", \"scale_attn_by_inverse_layer_idx\": true",
         "'scale_attn_by_inverse_layer_idx' is true"},
        {"\"model_type\": \"llama\", \"clip_qkv\": 8", "'clip_qkv' is 8"},
        {"\"model_type\": \"olmoe\", \"clip_qkv\": 0", "'clip_qkv' is 0"},
        {"\"model_type\": \"llama\", \"hidden_act\": \"xielu\"", "'hidden_act' is 'xielu'"},
        {"\"model_type\": \"apertus\"", "neither 'rope_scaling' nor 'rope_parameters' is there"},
        {"\"model_type\": \"gpt2\", \"do_layer_norm_before\": false", "'do_layer_norm_before' is false"},
        {"\"model_type\": \"llama\", \"rope_scaling\": {\"full_attention\": {}}", "differs by layer type"},
        {"\"model_type\": \"phi3\", \"partial_rotary_factor\": 0.01", "has no even number"},
        {"\"model_type\": \"phi3\", \"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [0]}",
         "'short_factor' is not a list of 48 numbers"},
        {"\"model_type\": \"gpt_oss\"", "neither 'rope_scaling' nor 'rope_parameters' is there"},
        {"\"model_type\": \"granite\", \"attention_multiplier\": 0", "'attention_multiplier' is 0"},
        {"\"model_type\": \"cwm\"", "neither 'rope_scaling' nor 'rope_parameters' is there"},
        {"\"model_type\": \"dots1\", \"n_shared_experts\": 1, \"num_experts_per_tok\": 1",
         "'n_routed_experts' is missing"},
        {"\"model_type\": \"dots1\", \"n_routed_experts\": 8, \"n_shared_experts\": 1",
         "'num_experts_per_tok' is missing"},
        {"\"model_type\": \"dots1\", \"n_routed_experts\": 8, \"num_experts_per_tok\": 1",
         "'n_shared_experts' is missing"},
        {"\"model_type\": \"hy_v3\", \"num_experts\": 8, \"num_local_experts\": 9",
         "'num_experts' is 8, and"},
        {"\"model_type\": \"hunyuan_v1_moe\", \"num_hidden_layers\": 2, \"num_experts\": 4, \"moe_topk\": "
         "[1, 2]",
         "'moe_topk' is not one number for all of 2 blocks"},
        {"\"model_type\": \"hunyuan_v1_moe\", \"num_experts\": 4, \"moe_topk\": 2, \"num_experts_per_tok\": "
         "1",
         "'moe_topk' is 2, and 'num_experts_per_tok' is 1"},
        {"\"model_type\": \"qwen3_vl_moe_text\", \"moe_intermediate_size\": 1024",
         "which these do not tell apart"},
        {"\"model_type\": \"lfm2_moe\"", "'layer_types' is not a list of 32 names"},
        {"\"model_type\": \"lfm2_moe\", \"use_expert_bias\": null, \"num_hidden_layers\": 1, \"layer_types\":"
         " [\"conv\"]",
         "'use_expert_bias' is null"},
        {"\"model_type\": \"falcon\", \"alibi\": true", "'alibi' is true"},
        {"\"model_type\": \"youtu\", \"pad_token_id\": 1", "'pad_token_id' is there"},
        {"\"model_type\": \"falcon\", \"multi_query\": null", "'multi_query' is null"},
        {"\"model_type\": \"falcon\", \"num_ln_in_parallel_attn\": 2", "'num_ln_in_parallel_attn' is 2"},
        {"\"model_type\": \"falcon\", \"parallel_attn\": false, \"new_decoder_architecture\": true",
         "'parallel_attn' is false"},
        {"\"model_type\": \"mpt\", \"attn_config\": {\"softmax_scale\": 0}", "'softmax_scale' is 0"},
        {"\"model_type\": \"gpt_oss\", \"swiglu_alpha\": 2, \"rope_scaling\": {\"type\": \"default\"}",
         "'swiglu_alpha' is 2"},
        {"\"model_type\": \"phi3\", \"sliding_window\": 0", "'sliding_window' is 0"},
        {"\"model_type\": \"gpt2\", \"n_head\": 12, \"num_attention_heads\": 6", "'n_head' is 12, and"},
        {"\"model_type\": \"gemma3_text\", \"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2}",
         "depends on the length of the text"},
        {"\"model_type\": \"gemma3_text\", \"rope_parameters\": {\"rope_theta\": 5}",
         "does not say what layer types it is for"},
        {"\"model_type\": \"ministral3\", \"rope_parameters\": {\"rope_type\": \"dynamic\", \"factor\": 2,"
         " \"llama_4_scaling_beta\": 0.1, \"original_max_position_embeddings\": 64}",
         "depends on the length of the text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "{%s}", cases[i][0]);
        refused(text, cases[i][1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_come_in_patterns),
        cmocka_unit_test(rotation_may_differ_by_layer_type),
        cmocka_unit_test(blocks_without_a_window_may_differ_in_more),
        cmocka_unit_test(what_differs_in_other_ways_is_refused),
        cmocka_unit_test(blocks_may_see_chunks_and_temper_queries),
        cmocka_unit_test(older_families_name_heads_and_norms_otherwise),
        cmocka_unit_test(scales_are_read_as_each_family_has_them),
        cmocka_unit_test(norms_are_where_flags_put_them),
        cmocka_unit_test(the_text_part_of_a_larger_model_is_read),
        cmocka_unit_test(what_another_family_has_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
