// What families' configurations come to: windows, rotation, experts, scales and the text part of a larger
// model; and what is refused because another family has it. The numbers of published models are held against
// transformers in test_published.py.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/config.h"
#include "model/family.h"
#include "model/rope.h"

static void parse(struct model_config *config, const char *text) {
    struct error err = {0};
    if (model_config_parse(config, text, strlen(text), "config.json", &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
}

static void refused(const char *text, const char *said) {
    struct model_config config;
    struct error err = {0};
    assert_int_equal(model_config_parse(&config, text, strlen(text), "config.json", &err), STATUS_DATA);
    if (strstr(err.message, said) == NULL) {
        fail_msg("%s is answered with: %s", text, err.message);
    }
    assert_null(config.layer_slides);
    assert_null(config.layer_ropes);
    assert_null(config.layer_experts);
}

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

static void experts_are_counted(void **state) {
    (void)state;
    struct model_config config;
    parse(&config, "{\"model_type\": \"qwen3_moe\", \"num_hidden_layers\": 6, \"decoder_sparse_step\": 2,"
                   " \"mlp_only_layers\": [3], \"num_experts\": 16, \"num_experts_per_tok\": 3,"
                   " \"moe_intermediate_size\": 40, \"norm_topk_prob\": true}");
    assert_memory_equal(config.layer_experts, "\0\1\0\0\0\1", 6);
    assert_true(config.experts.count == 16 && config.experts.chosen == 3 && config.experts.width == 40);
    assert_true(config.experts.normalised && config.experts.rounds_weights);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 2, \"intermediate_size\": 72}");
    assert_memory_equal(config.layer_experts, "\1\1", 2);
    assert_true(config.experts.count == 8 && config.experts.chosen == 2 && config.experts.width == 72);
    assert_true(config.experts.normalised && !config.experts.rounds_weights);
    model_config_destroy(&config);
    refused("{\"model_type\": \"mixtral\", \"num_experts_per_tok\": 9}", "'num_experts_per_tok' is 9 of 8");
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

static void some_blocks_have_a_delta_net(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *mixers; // of each block, as enum block_mixer
    } cases[] = {
        {"{\"model_type\": \"qwen3_next\", \"num_hidden_layers\": 5}", "\1\1\1\0\1"},
        {"{\"model_type\": \"qwen3_5_text\", \"num_hidden_layers\": 3, \"full_attention_interval\": 2}",
         "\1\0\1"},
        {"{\"model_type\": \"qwen3_5_text\", \"num_hidden_layers\": 2, \"full_attention_interval\": 1,"
         " \"layer_types\": [\"full_attention\", \"linear_attention\"]}",
         "\0\1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_config config;
        parse(&config, cases[i].text);
        assert_memory_equal(config.layer_mixers, cases[i].mixers, config.layers);
        model_config_destroy(&config);
    }
    struct model_config config;
    parse(&config,
          "{\"model_type\": \"qwen3_5_moe\", \"text_config\": {\"num_hidden_layers\": 1, \"head_dim\": 64,"
          " \"linear_key_head_dim\": 24, \"linear_num_value_heads\": 48,"
          " \"shared_expert_intermediate_size\": 72}}");
    assert_true(config.delta_net.key_dim == 24 && config.delta_net.value_heads == 48);
    assert_int_equal(config_mlp_width(&config, 0), 72);
    assert_int_equal(config_heads(&config, 0).gap, 64);
    assert_int_equal(config_rotated(&config), 16);
    model_config_destroy(&config);
    refused("{\"model_type\": \"qwen3_5_text\", \"hidden_act\": \"gelu\"}",
            "'hidden_act' of qwen3_5_text is not silu");
    refused("{\"model_type\": \"qwen3_next\", \"linear_num_value_heads\": 24}",
            "'linear_num_value_heads' (24) is not a multiple");
    refused("{\"model_type\": \"qwen3_next\", \"num_hidden_layers\": 1, \"layer_types\": "
            "[\"sliding_attention\"]}",
            "supported are full_attention and linear_attention");
    refused("{\"model_type\": \"qwen3_next\", \"layer_types\": [\"full_attention\"]}",
            "not a list of 48 names");
    refused("{\"model_type\": \"qwen3_next\", \"linear_value_head_dim\": 65536, \"linear_num_value_heads\": "
            "65536}",
            "more than 16777216");
}

static void attention_may_have_latents(void **state) {
    (void)state;
    struct model_config config;
    parse(&config,
          "{\"model_type\": \"deepseek_v3\", \"head_dim\": 7, \"num_key_value_heads\": 5, \"rope_scaling\":"
          " {\"type\": \"yarn\", \"factor\": 40, \"mscale\": 1.0, \"mscale_all_dim\": 1.0,"
          " \"original_max_position_embeddings\": 4096}}");
    double mscale = 0.1 * log(40) + 1;
    assert_true(config.head_dim == 192 && config_rotated(&config) == 64 && config.kv_heads == 128);
    assert_true(config.latent.query == 1536 && config.latent.key == 512 && config.latent.value == 128);
    assert_true(fabs(config.score_scale - mscale * mscale / sqrt(192)) < 1e-12);
    assert_true(config.rope.attention_factor == 1 && config.pairing == DEVICE_PAIR_NEIGHBOURS);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"deepseek_v2\", \"q_lora_rank\": null, \"v_head_dim\": 192}");
    assert_true(config.latent.query == 0 && config.score_scale == 0 && config.experts.groups == 0);
    assert_true(!config.experts.normalised && !config.experts.has_correction);
    model_config_destroy(&config);

    parse(&config,
          "{\"model_type\": \"glm4_moe_lite\", \"num_hidden_layers\": 3, \"rope_interleave\": false,"
          " \"mlp_layer_types\": [\"sparse\", \"dense\", \"sparse\"], \"first_k_dense_replace\": 3}");
    assert_memory_equal(config.layer_experts, "\1\0\1", 3);
    assert_int_equal(config.pairing, DEVICE_PAIR_HALVES);
    model_config_destroy(&config);
    refused("{\"model_type\": \"deepseek_v2\", \"qk_rope_head_dim\": 63}", "'qk_rope_head_dim' is 63");
    refused("{\"model_type\": \"deepseek_v3\", \"v_head_dim\": 256}", "'v_head_dim' is 256");
    refused("{\"model_type\": \"deepseek_v2\", \"topk_method\": \"noaux_tc\"}",
            "'topk_method' is 'noaux_tc'");
    refused("{\"model_type\": \"glm4_moe_lite\", \"mlp_layer_types\": [\"sparse\"]}",
            "not a list of 47 names");
    refused("{\"model_type\": \"glm4_moe_lite\", \"num_hidden_layers\": 1, \"mlp_layer_types\": [\"moe\"]}",
            "supported are dense and sparse");

    parse(&config, "{\"model_type\": \"deepseek_v32\", \"num_hidden_layers\": 2, \"index_topk\": 64,"
                   " \"first_k_dense_replace\": 1, \"rope_interleave\": false,"
                   " \"layer_types\": [\"indexed_attention\", \"indexed_attention\"]}");
    assert_int_equal(config.longest_text, 64);
    assert_int_equal(config.pairing, DEVICE_PAIR_NEIGHBOURS); // whatever the key says
    assert_memory_equal(config.layer_experts, "\0\1", 2);
    model_config_destroy(&config);
    refused("{\"model_type\": \"deepseek_v32\", \"q_lora_rank\": null}", "'q_lora_rank' is null");
    refused("{\"model_type\": \"glm_moe_dsa\", \"index_topk\": 0}", "'index_topk' is 0");
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

static void experts_are_chosen_in_groups(void **state) {
    (void)state;
    struct model_config config;
    parse(&config,
          "{\"model_type\": \"glm4_moe\", \"num_hidden_layers\": 4, \"head_dim\": 128,"
          " \"first_k_dense_replace\": 2, \"n_group\": 4, \"topk_group\": 2, \"n_shared_experts\": 3,"
          " \"routed_scaling_factor\": 2.5, \"use_qk_norm\": true}");
    assert_memory_equal(config.layer_experts, "\0\0\1\1", 4);
    assert_true(config.experts.groups == 4 && config.experts.chosen_groups == 2 &&
                config.experts.group_pairs);
    assert_true(config.experts.shared_width == 3 * 1408 && config.experts.scaling == 2.5);
    assert_true(config.experts.wide_router && config.experts.has_correction && config.experts.normalised);
    assert_int_equal(config.qk_norm, QK_NORM_HEADS);
    assert_int_equal(config_rotated(&config), 64);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"glm4_moe\", \"head_dim\": 128, \"norm_topk_prob\": false}");
    assert_true(config.experts.count == 128 && !config.experts.normalised && config.qk_norm == QK_NORM_NONE);
    model_config_destroy(&config);
    refused("{\"model_type\": \"glm4_moe\", \"head_dim\": 8, \"n_group\": 3}", "'n_group' is 3");
    refused("{\"model_type\": \"glm4_moe\", \"head_dim\": 8, \"topk_group\": 2}", "'topk_group' 2");
    refused("{\"model_type\": \"glm4_moe\", \"head_dim\": 8, \"n_group\": 64}", "'n_group' is 64");
    refused("{\"model_type\": \"glm4_moe\", \"head_dim\": 8, \"n_group\": 32, \"topk_group\": 1}",
            "'num_experts_per_tok' is 8 of 4 experts");
    refused("{\"model_type\": \"glm4_moe\", \"head_dim\": 8, \"routed_scaling_factor\": 0}",
            "'routed_scaling_factor' is 0");
}

static void some_blocks_have_a_short_convolution(void **state) {
    (void)state;
    struct model_config config;
    parse(&config,
          "{\"model_type\": \"lfm2\", \"num_hidden_layers\": 4, \"full_attn_idxs\": [1, 3, 9, -2],"
          " \"hidden_size\": 64, \"block_ff_dim\": 1000, \"intermediate_size\": 7, \"conv_bias\": true}");
    assert_memory_equal(config.layer_mixers, "\2\0\2\0", 4);
    assert_true(config.convolution.taps == 3 && config.convolution.width == 64 && config.convolution_bias);
    assert_int_equal(config.intermediate, 768); // 666 and up to a multiple of 256
    model_config_destroy(&config);
    parse(&config, "{\"model_type\": \"lfm2\", \"num_hidden_layers\": 2, \"full_attn_idxs\": [0, 1],"
                   " \"layer_types\": [\"conv\", \"full_attention\"], \"block_ffn_dim_multiplier\": null,"
                   " \"intermediate_size\": 100}");
    assert_memory_equal(config.layer_mixers, "\2\0", 2);
    assert_int_equal(config.intermediate, 66);
    model_config_destroy(&config);
    parse(&config, "{\"model_type\": \"lfm2\", \"num_hidden_layers\": 2, \"tie_embedding\": false,"
                   " \"block_auto_adjust_ff_dim\": false, \"intermediate_size\": 100}");
    assert_memory_equal(config.layer_mixers, "\0\0", 2);
    assert_true(config.intermediate == 100 && !config.tied_embeddings);
    model_config_destroy(&config);
    refused("{\"model_type\": \"lfm2\", \"conv_L_cache\": 17}", "'conv_L_cache' is 17");
    refused("{\"model_type\": \"lfm2\", \"num_hidden_layers\": 1, \"layer_types\": [\"linear_attention\"]}",
            "supported are full_attention and conv");
    refused("{\"model_type\": \"lfm2\", \"block_ffn_dim_multiplier\": 0}", "'block_ffn_dim_multiplier' is 0");
}

static void blocks_of_nemotron_h_are_one_branch(void **state) {
    (void)state;
    struct model_config config;
    parse(&config,
          "{\"model_type\": \"nemotron_h\", \"hybrid_override_pattern\": \"M-*EM\","
          " \"num_hidden_layers\": 2, \"moe_latent_size\": 96, \"mamba_n_groups\": 4, \"n_groups\": 3,"
          " \"mamba_dt_min\": 0.5, \"time_step_limit\": [0.0, 1.0], \"attention_bias\": true,"
          " \"tie_word_embeddings\": true}");
    assert_int_equal(config.layers, 5);
    assert_memory_equal(config.layer_mixers, "\3\4\0\4\3", 5);
    assert_memory_equal(config.layer_mlps, "\0\1\0\1\0", 5);
    assert_memory_equal(config.layer_experts, "\0\0\0\1\0", 5);
    assert_true(config.experts.plain && config.experts.latent == 96 && config.experts.shared_width == 7688);
    assert_true(config.state_space.groups == 4 && config.state_space.norm_groups == 4);
    assert_true(config.state_space.step_least == 0.5F && isinf(config.state_space.step_most));
    assert_true(config.state_space_mixed_bias && !config.state_space_bias && !config.attention_bias);
    assert_false(config.tied_embeddings); // the class ties nothing
    assert_int_equal(config_mlp_width(&config, 0), 0);
    assert_int_equal(config_mlp_width(&config, 1), 21504);
    assert_int_equal(config_mlp_width(&config, 3), 7688);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"nemotron_h\", \"layers_block_type\": [\"mlp\", \"attention\"],"
                   " \"layer_types\": [\"mamba\", \"mlp\", \"full_attention\"]}");
    assert_memory_equal(config.layer_mixers, "\3\4\0", 3);
    assert_int_equal(config.experts.count, 0); // no block has some
    model_config_destroy(&config);
    parse(&config, "{\"model_type\": \"nemotron_h\", \"layers_block_type\": null}");
    assert_memory_equal(config.layer_mixers, "\3\4\0\4", 4);
    model_config_destroy(&config);
    refused("{\"model_type\": \"nemotron_h\", \"layer_types\": null}", "'layer_types' is not a list");
    refused("{\"model_type\": \"nemotron_h\", \"layer_types\": []}", "'layer_types' is empty");
    refused("{\"model_type\": \"nemotron_h\", \"hybrid_override_pattern\": \"M|\"}", "a letter at 1");
    refused("{\"model_type\": \"nemotron_h\", \"hybrid_override_pattern\": null}", "null or empty");
    refused("{\"model_type\": \"nemotron_h\", \"layers_block_type\": [\"sliding_attention\"]}",
            "entry 0 is 'sliding_attention'");
    refused("{\"model_type\": \"nemotron_h\", \"n_groups\": 3}", "is not a multiple of 'n_groups' (3)");
    refused("{\"model_type\": \"nemotron_h\", \"use_conv_bias\": null}", "'use_conv_bias' is null");
    refused("{\"model_type\": \"nemotron_h\", \"mamba_hidden_act\": \"gelu\"}",
            "'mamba_hidden_act' is 'gelu'");
    refused("{\"model_type\": \"nemotron_h\", \"n_routed_experts\": 9, \"num_local_experts\": 8}",
            "'n_routed_experts' is 9, and 'num_local_experts' is 8");
    refused("{\"model_type\": \"nemotron_h\", \"moe_latent_size\": 0}", "'moe_latent_size' is 0");
}

static void blocks_of_granite_4_have_a_state_space_or_attention(void **state) {
    (void)state;
    struct model_config config;
    parse(&config,
          "{\"model_type\": \"granitemoehybrid\", \"num_hidden_layers\": 3, \"num_local_experts\": 0,"
          " \"layer_types\": [\"attention\", \"attention\", \"attention\"],"
          " \"layers_block_type\": [\"mamba\", \"full_attention\", \"linear_attention\"],"
          " \"time_step_limit\": [0.25, Infinity], \"mamba_d_head\": \"auto\"}");
    assert_memory_equal(config.layer_mixers, "\3\0\3", 3);
    assert_memory_equal(config.layer_ropes, "\2\2\2", 3);
    assert_true(config.experts.count == 0 && config.intermediate == 1024 && config.layer_mlps == NULL);
    assert_true(config.state_space.head_dim == 64 && config.state_space.step_least == 0.25F);
    assert_true(isinf(config.state_space.step_most));
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"granitemoehybrid\", \"num_hidden_layers\": 1, \"layer_types\":"
                   " [\"attention\"], \"position_embedding_type\": \"rope\", \"intermediate_size\": 40,"
                   " \"time_step_limit\": [0.0, {\"__float__\": \"Infinity\"}]}");
    assert_memory_equal(config.layer_ropes, "\0", 1);
    assert_true(config.experts.count == 8 && config.experts.width == 40 &&
                config.experts.shared_width == 1024);
    assert_int_equal(config.state_space.taps, 0); // no block has one
    model_config_destroy(&config);
    refused("{\"model_type\": \"granitemoehybrid\", \"num_local_experts\": null}",
            "'num_local_experts' is null");
    refused("{\"model_type\": \"granitemoehybrid\", \"mamba_d_head\": 8}",
            "'mamba_n_heads' times 'mamba_d_head' is 1024");
    refused("{\"model_type\": \"granitemoehybrid\", \"mamba_n_heads\": 3}", "does not divide 'mamba_expand'");
    refused("{\"model_type\": \"granitemoehybrid\", \"time_step_limit\": [2.0, 1.0]}", "steps from 2 to 1");
    refused("{\"model_type\": \"granitemoehybrid\", \"time_step_limit\": [0.0]}",
            "not a list of two numbers");
    refused("{\"model_type\": \"granitemoehybrid\", \"hidden_act\": \"gelu\"}", "is not silu");
    refused("{\"model_type\": \"granitemoehybrid\", \"num_hidden_layers\": 1, \"layer_types\": [\"moe\"]}",
            "supported are linear_attention, and full_attention");
    refused("{\"model_type\": \"granitemoehybrid\", \"attention_multiplier\": null}",
            "'attention_multiplier' is null");
}

static void blocks_of_bamba_have_attention_by_number(void **state) {
    (void)state;
    struct model_config config;
    parse(&config, "{\"model_type\": \"bamba\", \"num_hidden_layers\": 3, \"attn_layer_indices\": [1, 7, -1],"
                   " \"partial_rotary_factor\": 1.0}");
    assert_memory_equal(config.layer_mixers, "\3\0\3", 3);
    assert_int_equal(config_rotated(&config), 64); // half of a head, whatever the key says
    model_config_destroy(&config);
    parse(&config,
          "{\"model_type\": \"bamba\", \"num_hidden_layers\": 1, \"rope_parameters\": {\"rope_type\":"
          " \"default\", \"rope_theta\": 100.0, \"partial_rotary_factor\": 1.0}}");
    assert_int_equal(config_rotated(&config), 128);
    model_config_destroy(&config);
    refused("{\"model_type\": \"bamba\", \"attn_layer_indices\": [0.5]}", "entry 0 is not a number");
    refused("{\"model_type\": \"bamba\", \"layer_types\": null}", "'layer_types' is not supported in bamba");
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
        cmocka_unit_test(experts_are_counted),
        cmocka_unit_test(blocks_may_see_chunks_and_temper_queries),
        cmocka_unit_test(some_blocks_have_a_delta_net),
        cmocka_unit_test(attention_may_have_latents),
        cmocka_unit_test(older_families_name_heads_and_norms_otherwise),
        cmocka_unit_test(experts_are_chosen_in_groups),
        cmocka_unit_test(some_blocks_have_a_short_convolution),
        cmocka_unit_test(blocks_of_nemotron_h_are_one_branch),
        cmocka_unit_test(blocks_of_granite_4_have_a_state_space_or_attention),
        cmocka_unit_test(blocks_of_bamba_have_attention_by_number),
        cmocka_unit_test(scales_are_read_as_each_family_has_them),
        cmocka_unit_test(norms_are_where_flags_put_them),
        cmocka_unit_test(the_text_part_of_a_larger_model_is_read),
        cmocka_unit_test(what_another_family_has_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
