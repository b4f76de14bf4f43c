// SPDX-License-Identifier: MIT
// What families' configurations come to that have experts, or mix tokens by more than attention.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/config.h"
#include "parsed.h"

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

static void routers_differ(void **state) {
    (void)state;
    struct model_config config;
    parse(&config, "{\"model_type\": \"gemma4_text\", \"num_hidden_layers\": 2, \"enable_moe_block\": true,"
                   " \"num_experts\": 8, \"top_k_experts\": 3, \"moe_intermediate_size\": 40,"
                   " \"hidden_size_per_layer_input\": 0}");
    assert_true(config.experts.beside_mlp && config.experts.chosen == 3 && config.experts.width == 40);
    assert_int_equal(config_mlp_width(&config, 1), 9216);
    model_config_destroy(&config);
    parse(&config, "{\"model_type\": \"gemma4_text\", \"num_experts\": 8}"); // which nothing uses
    assert_true(config.experts.count == 0 && config.layer_experts == NULL);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"minimax_m2\", \"use_qk_norm\": true, \"rotary_dim\": 64}");
    assert_true(config.experts.rounds_correction && config.qk_norm == QK_NORM_WHOLE);
    assert_int_equal(config_rotated(&config), 64);
    model_config_destroy(&config);
    parse(&config, "{\"model_type\": \"minimax_m2\", \"partial_rotary_factor\": 0.25, \"rotary_dim\": 64}");
    assert_int_equal(config_rotated(&config), 32);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"ernie4_5_moe\", \"num_hidden_layers\": 6, \"moe_layer_end_index\": 4,"
                   " \"moe_layer_interval\": 2, \"num_experts_per_tok\": 5, \"moe_num_shared_experts\": 0}");
    assert_memory_equal(config.layer_experts, "\0\1\0\1\0\0", 6);
    assert_true(config.experts.chosen == 5 && config.experts.shared_width == 0 &&
                config.experts.sum_least == 1e-12);
    model_config_destroy(&config);

    parse(&config, "{\"model_type\": \"phimoe\", \"router_jitter_noise\": 0.25}");
    assert_true(config.experts.spread == 0.5 && config.window == 0 && config.norm_bias);
    model_config_destroy(&config);
    refused("{\"model_type\": \"ernie4_5_moe\", \"moe_k\": 5, \"num_experts_per_tok\": 3}",
            "'moe_k' is 5, and 'num_experts_per_tok' is 3");
    refused("{\"model_type\": \"phimoe\", \"num_experts_per_tok\": 3}", "only 2 is supported in phimoe");
    refused("{\"model_type\": \"phimoe\", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}",
            "'rope_type' is 'linear'");
    refused("{\"model_type\": \"mistral4\", \"head_dim\": 64}", "'head_dim' is 64, and queries have 128");
    refused("{\"model_type\": \"mistral4\"}", "neither 'rope_scaling' nor 'rope_parameters'");
    refused("{\"model_type\": \"mistral4\", \"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 2,"
            " \"llama_4_scaling_beta\": 0.1, \"original_max_position_embeddings\": 64,"
            " \"partial_rotary_factor\": 0.25}}",
            "'partial_rotary_factor' is 0.25");
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_are_counted),
        cmocka_unit_test(routers_differ),
        cmocka_unit_test(experts_are_chosen_in_groups),
        cmocka_unit_test(some_blocks_have_a_delta_net),
        cmocka_unit_test(attention_may_have_latents),
        cmocka_unit_test(some_blocks_have_a_short_convolution),
        cmocka_unit_test(blocks_of_nemotron_h_are_one_branch),
        cmocka_unit_test(blocks_of_granite_4_have_a_state_space_or_attention),
        cmocka_unit_test(blocks_of_bamba_have_attention_by_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
