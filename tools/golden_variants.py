# SPDX-License-Identifier: MIT
"""The tiny models of goldens and parity, of families beyond Llama's nearest: each config.json with every flag that its family has.

name -> (config, dtype of the file, shards, text lengths, changes of the config that must move a state), as make_goldens.variants().
"""
TEXTS = [1, 7, 41, 20]
FEWER = [1, 7, 28]
FEWEST = [1, 5, 16]  # of mixtures: no token may be near a change of experts


def small(family, **changes):
    return {"model_type": family, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
            "intermediate_size": 48, "vocab_size": 96, "hidden_act": "silu", "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0, "tie_word_embeddings": False, "pad_token_id": None, **changes}


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


def gemma(family, **changes):
    """Gemma 2 and later name their activation otherwise."""
    return without(small(family, **{"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True, **changes}),
                   "hidden_act")


def gemma3_text(**changes):
    made = gemma("gemma3_text", num_hidden_layers=4, sliding_window=9, query_pre_attn_scalar=24, sliding_window_pattern=2,
                 rope_theta=1000000.0, rope_local_base_freq=100.0)
    return {**made, **changes}


def gemma4_text(**changes):
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    ropes = {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
             "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000.0}}
    made = gemma("gemma4_text", num_hidden_layers=4, sliding_window=9, layer_types=kinds, rope_parameters=ropes,
                 attention_k_eq_v=False, global_head_dim=24, num_global_key_value_heads=1, hidden_size_per_layer_input=0,
                 num_kv_shared_layers=0, enable_moe_block=False, use_double_wide_mlp=False, pad_token_id=0)
    return {**without(made, "rope_theta"), **changes}


def gemma4_unified_text(**changes):
    made = without(gemma4_text(attention_k_eq_v=True), "hidden_size_per_layer_input", "enable_moe_block")
    return {**made, "model_type": "gemma4_unified_text", "use_bidirectional_attention": "vision", **changes}


def nested(outer, text, vision, **more):
    return {"model_type": outer, "text_config": without(text, "architectures"), "vision_config": vision,
            "tie_word_embeddings": text.get("tie_word_embeddings", False), **more}


SIGLIP = {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
          "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
PIXTRAL = {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
           "head_dim": 8, "image_size": 28, "patch_size": 14}
GEMMA4_TOWER = {"model_type": "gemma4_vision", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "position_embedding_size": 16}
GEMMA4_UNIFIED_TOWER = {"model_type": "gemma4_unified_vision", "patch_size": 4, "mm_embed_dim": 16, "mm_posemb_size": 8,
                        "output_proj_dims": 32}
LLAMA4_TOWER = {"model_type": "llama4_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "vision_output_dim": 16, "projector_input_dim": 16,
                "projector_output_dim": 16}
QWEN_TOWER = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32, "patch_size": 14}


def phi3(**changes):
    return small("phi3", num_attention_heads=2, num_key_value_heads=1, rms_norm_eps=1e-5, **changes)


def longrope(size, **changes):
    return {"type": "longrope", "short_factor": [1.0 + 0.1 * i for i in range(size)],
            "long_factor": [1.0 + 0.5 * i * i for i in range(size)], **changes}


def moe(family, **changes):
    return small(family, **{"num_hidden_layers": 2, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24, **changes})


def llama4_text(**changes):
    made = moe("llama4_text", num_hidden_layers=4, head_dim=16, num_local_experts=4, num_experts_per_tok=1, intermediate_size=24,
               intermediate_size_mlp=40, attention_chunk_size=6, floor_scale=3, attn_scale=0.5, use_qk_norm=True, rms_norm_eps=1e-5)
    return {**without(made, "num_experts", "moe_intermediate_size"), **changes}


def gpt2(**changes):
    return {"model_type": "gpt2", "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128, "n_inner": None, "vocab_size": 96,
            "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "bos_token_id": 0, "eos_token_id": 0,
            "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1, **changes}


def neox(**changes):
    return {"model_type": "gpt_neox", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64,
            "vocab_size": 96, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "max_position_embeddings": 128, "rotary_pct": 0.25,
            "rotary_emb_base": 10000, "use_parallel_residual": True, "tie_word_embeddings": False, **changes}


def gemma_variants():
    linear = {"rope_type": "linear", "factor": 4.0}
    v5 = {"sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
          "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0}}
    text = gemma3_text(rope_scaling=linear)
    full = {"layer_types": ["full_attention"] * 4}
    shared = {"attention_k_eq_v": True}
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    # Norms of eight numbers, and of what few of them make: eps keeps them from making a large error of a small one.
    inputs = dict(hidden_size_per_layer_input=8, vocab_size_per_layer_input=96, num_kv_shared_layers=2, rms_norm_eps=1e-2)
    takers = dict(num_hidden_layers=6, layer_types=kinds, num_kv_shared_layers=3, use_double_wide_mlp=True)
    experts = dict(enable_moe_block=True, num_experts=6, top_k_experts=2, moe_intermediate_size=24)
    beside = dict(**experts, **shared, num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], sliding_window=7)
    taking = dict(**{**experts, **inputs, "num_experts": 5, "num_kv_shared_layers": 1}, use_double_wide_mlp=True, num_hidden_layers=3, layer_types=["sliding_attention", "full_attention"] + full["layer_types"][:1])
    return {
        "gemma": (small("gemma", head_dim=16, hidden_act="gelu", tie_word_embeddings=True), "BF16", 2, TEXTS, {"rope_theta": 100.0}),
        "gemma2": (gemma("gemma2", num_hidden_layers=4, sliding_window=9, query_pre_attn_scalar=24, attn_logit_softcapping=2.0,
                         final_logit_softcapping=30.0), "F32", 1, TEXTS, {"attn_logit_softcapping": 50.0}),
        "gemma2-full": (gemma("gemma2", num_hidden_layers=2, sliding_window=4096, query_pre_attn_scalar=16, attn_logit_softcapping=None),
                        "BF16", 1, FEWER, {"sliding_window": 5}),
        "vaultgemma": (gemma("vaultgemma", num_hidden_layers=4, sliding_window=9, query_pre_attn_scalar=24, attn_logit_softcapping=2.0),
                       "F32", 1, FEWER, {"attn_logit_softcapping": 50.0}),
        "gemma3": (gemma3_text(), "F32", 1, TEXTS, {"rope_local_base_freq": 10000.0}),
        "gemma3-linear": (gemma3_text(rope_scaling=linear, layer_types=["full_attention", "sliding_attention"] * 2), "BF16", 2, FEWER,
                          {"rope_scaling": None}),
        "gemma3-v5": (without(gemma3_text(rope_parameters=v5), "rope_theta", "rope_local_base_freq"), "F16", 1, FEWER, full),
        "gemma3-nested": (nested("gemma3", text, SIGLIP), "BF16", 3, FEWER, {"text_config": {**text, "rope_scaling": None}}),
        "gemma3-nested-old": (nested("gemma3", without(gemma3_text(sliding_window=6), "tie_word_embeddings"), SIGLIP), "F32", 1, FEWER,
                              {"text_config": gemma3_text(sliding_window=20)}),
        "gemma4": (gemma4_text(), "F32", 1, FEWER, full),
        "gemma4-inputs": (nested("gemma4", gemma4_text(**inputs), GEMMA4_TOWER, audio_config=None), "BF16", 1, FEWEST,
                          {"text_config": gemma4_text(**{**inputs, "rms_norm_eps": 0.5})}),
        "gemma4-experts": (nested("gemma4", gemma4_text(**beside), GEMMA4_TOWER, audio_config=None), "BF16", 2, FEWEST,
                           {"text_config": gemma4_text(**{**beside, "top_k_experts": 3})}),
        "gemma4_unified": (nested("gemma4_unified", gemma4_unified_text(), GEMMA4_UNIFIED_TOWER, audio_config=None, video_token_id=11),
                           "BF16", 1, FEWER, {"text_config": gemma4_unified_text(sliding_window=20)}),
        "gemma4-experts-takers": (gemma4_text(**taking), "F32", 1, [1, 4, 11], {"top_k_experts": 3}),
        "gemma4-takers": (gemma4_text(**takers), "F32", 1, FEWER, {"sliding_window": 20}),
        "gemma4-shared": (nested("gemma4", gemma4_text(**shared), GEMMA4_TOWER, audio_config=None, image_token_id=5,
                                 video_token_id=11, audio_token_id=17), "BF16", 1, FEWER,
                          {"text_config": gemma4_text(**shared, sliding_window=20)}),
    }


def dense_variants():
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 0.8, "beta_slow": 0.1}
    partial = dict(partial_rotary_factor=0.75, max_position_embeddings=64, original_max_position_embeddings=20)
    multipliers = dict(embedding_multiplier=6.0, attention_multiplier=0.25, residual_multiplier=0.5, logits_scaling=8.0)
    tempered = {**yarn, "rope_theta": 100.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.5,
                "max_position_embeddings": 64}
    mistral = small("mistral", head_dim=16, sliding_window=None, rms_norm_eps=1e-5)
    alpha = {"type": "dynamic", "alpha": 20.0, "factor": 1.0}
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 16}
    layers = ["sliding_attention", "sliding_attention", "full_attention"]
    cohere = dict(layer_norm_eps=1e-5, tie_word_embeddings=True)
    return {
        "phi3": (phi3(sliding_window=12, original_max_position_embeddings=128), "BF16", 2, TEXTS, {"sliding_window": None}),
        "phi3-longrope": (phi3(rope_scaling=longrope(8), **{**partial, "partial_rotary_factor": 1.0}), "F32", 1, [20, 21, 1, 41],
                          {"rope_scaling": None}),
        "phi3-partial": (phi3(rope_scaling=longrope(6), tie_word_embeddings=True, **partial), "F32", 1, [20, 21, 9],
                         {"original_max_position_embeddings": 40}),
        "olmo2": (small("olmo2", rope_theta=500000.0), "F32", 1, TEXTS, {"rope_theta": 100.0}),
        "olmo3": (small("olmo3", num_hidden_layers=4, sliding_window=9, rope_theta=100.0, rope_scaling=yarn), "BF16", 1, TEXTS,
                  {"rope_scaling": None}),
        "granite": (small("granite", tie_word_embeddings=True, attention_bias=True, mlp_bias=True, **multipliers), "BF16", 2, TEXTS,
                    {"residual_multiplier": 1.0}),
        "smollm3": (small("smollm3", no_rope_layers=[1, 0, 1], tie_word_embeddings=True, use_sliding_window=False), "F32", 1, TEXTS,
                    {"no_rope_layers": [1, 1, 1]}),
        "smollm3-interval": (without(small("smollm3", num_hidden_layers=4), "num_key_value_heads") | {"num_key_value_heads": 4}, "BF16",
                             1, FEWER, {"no_rope_layer_interval": 2}),
        "ministral3": (without(small("ministral3", head_dim=16, rope_parameters=tempered), "rope_theta"), "BF16", 1, TEXTS,
                       {"rope_parameters": {**tempered, "llama_4_scaling_beta": 0.0}}),
        "mistral3": (nested("mistral3", mistral, PIXTRAL), "BF16", 2, FEWER, {"text_config": {**mistral, "rope_theta": 100.0}}),
        "mistral3-old": (nested("mistral3", mistral, PIXTRAL), "F32", 1, FEWER, {"text_config": {**mistral, "sliding_window": 7}}),
        "glm4": (small("glm4", head_dim=16, attention_bias=True, partial_rotary_factor=0.5, rms_norm_eps=1e-5), "F32", 1, TEXTS,
                 {"partial_rotary_factor": 1.0}),
        "glm": (small("glm", head_dim=16, rms_norm_eps=1e-5), "BF16", 1, FEWER, {"partial_rotary_factor": 1.0}),
        "cwm": (small("cwm", num_hidden_layers=5, head_dim=16, sliding_window=9, rope_scaling=llama3, rms_norm_eps=1e-5), "F32", 1, FEWER,
                {"sliding_window": 20}),
        "nanochat": (small("nanochat", hidden_act="relu2", intermediate_size=64), "BF16", 1, FEWER, {"rope_theta": 100.0}),
        "seed_oss": (small("seed_oss", head_dim=16, attention_bias=True, attention_out_bias=True, mlp_bias=True), "BF16", 1, FEWER,
                     {"rope_theta": 100.0}),
        "ernie4_5": (small("ernie4_5", head_dim=16, use_bias=True, rope_theta=500000.0, tie_word_embeddings=True), "BF16", 1, TEXTS,
                     {"rope_theta": 100.0}),
        "exaone4": (small("exaone4", sliding_window=9, sliding_window_pattern="LLG", layer_types=layers), "F32", 1, TEXTS,
                    {"sliding_window": 20}),
        "exaone4-full": (small("exaone4", sliding_window=None, layer_types=["full_attention"] * 3), "BF16", 1, FEWER,
                         {"rope_theta": 100.0}),
        "hunyuan": (small("hunyuan_v1_dense", head_dim=16, rope_scaling=alpha, rms_norm_eps=1e-5), "F32", 1, TEXTS,
                    {"rope_scaling": None}),
        "cohere": (small("cohere", **cohere), "BF16", 1, FEWER, {"rope_theta": 100.0}),
        "cohere-norms": (small("cohere", use_qk_norm=True, **cohere), "F32", 1, FEWER, {"layer_norm_eps": 1e-1}),
        "cohere2": (small("cohere2", num_hidden_layers=4, sliding_window=9, **cohere), "F32", 1, TEXTS, {"sliding_window": 20}),
        "starcoder2": (small("starcoder2", hidden_act="gelu_pytorch_tanh", norm_epsilon=1e-5, sliding_window=12, use_bias=True), "F32",
                       1, TEXTS, {"sliding_window": None}),
        "stablelm": (small("stablelm", layer_norm_eps=1e-5, partial_rotary_factor=0.5, use_qkv_bias=True), "F32", 1, FEWER,
                     {"partial_rotary_factor": 1.0}),
        "stablelm-norms": (small("stablelm", layer_norm_eps=1e-5, qk_layernorm=True, use_parallel_residual=True), "BF16", 1, FEWER,
                           {"layer_norm_eps": 1e-1}),
        "apertus": (small("apertus", hidden_act="xielu", rope_scaling=llama3), "F32", 1, FEWER, {"rope_theta": 100.0}),
        "lfm2": (without(small("lfm2", num_hidden_layers=3, norm_eps=1e-5, rope_theta=1000000.0, full_attn_idxs=[1], conv_L_cache=3,
                               conv_bias=True, block_multiple_of=8, intermediate_size=70), "hidden_act", "rms_norm_eps"), "BF16", 1,
                 FEWER, {"rope_theta": 100.0}),
        "olmo": (without(small("olmo", clip_qkv=0.9), "rms_norm_eps"), "BF16", 1, FEWER, {"clip_qkv": None}),
        "arcee": (small("arcee", hidden_act="relu2", attention_bias=True, mlp_bias=True, rms_norm_eps=1e-5), "F32", 1, FEWEST,
                  {"rope_theta": 100.0}),
        "helium": (small("helium", num_attention_heads=2, head_dim=16), "BF16", 1, FEWER, {"rope_theta": 100.0}),
        "nemotron": (small("nemotron", hidden_act="relu2", norm_eps=1e-5, attention_bias=True, mlp_bias=True), "F16", 1, FEWEST,
                     {"partial_rotary_factor": 1.0}),
    }


def gpt_variants():
    opt = {"model_type": "opt", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 64, "vocab_size": 96,
           "max_position_embeddings": 128, "activation_function": "relu", "do_layer_norm_before": True, "word_embed_proj_dim": 32,
           "pad_token_id": 1, "tie_word_embeddings": True}
    phi = small("phi", hidden_act="gelu_new", layer_norm_eps=1e-5, partial_rotary_factor=0.5, num_key_value_heads=4)
    gptj = without(gpt2(model_type="gptj", rotary_dim=4, tie_word_embeddings=False), "n_positions") | {"n_positions": 128}
    neo = {"model_type": "gpt_neo", "hidden_size": 32, "num_layers": 4, "num_heads": 4, "vocab_size": 96, "window_size": 9,
           "max_position_embeddings": 128, "attention_types": [[["global", "local"], 2]], "intermediate_size": None,
           "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}
    bloom = {"model_type": "bloom", "hidden_size": 32, "n_layer": 3, "n_head": 4, "vocab_size": 96, "layer_norm_epsilon": 1e-5}
    falcon = {"model_type": "falcon", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 96,
              "layer_norm_epsilon": 1e-5, "alibi": False, "bias": False, "multi_query": True, "new_decoder_architecture": False,
              "parallel_attn": True}
    newer = {**falcon, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}
    mpt = {"model_type": "mpt", "d_model": 48, "n_layers": 3, "n_heads": 6, "vocab_size": 96, "max_seq_len": 128, "layer_norm_epsilon": 1e-5,
           "attn_config": {"clip_qkv": 0.9, "softmax_scale": 0.4, "alibi": True}}
    return {
        "falcon": (falcon, "BF16", 1, FEWER, {"rope_theta": 100.0}),
        "falcon-newer": ({**newer, "ffn_hidden_size": 72}, "F32", 1, FEWER, {"rope_theta": 100.0}),
        "falcon-serial": ({**falcon, "multi_query": False, "parallel_attn": False}, "F16", 1, FEWER, {"layer_norm_epsilon": 1e-1}),
        "mpt": (mpt, "BF16", 1, FEWER, {"attn_config": {**mpt["attn_config"], "clip_qkv": None}}),
        "gpt2": (gpt2(), "F32", 1, TEXTS, {"layer_norm_epsilon": 1e-1}),
        "gpt2-bare": (gpt2(n_inner=40, scale_attn_by_inverse_layer_idx=True), "F16", 2, FEWER,
                      {"scale_attn_by_inverse_layer_idx": False}),
        "gpt_neox": (neox(), "F16", 1, TEXTS, {"use_parallel_residual": False}),
        "gpt_neox-serial": (neox(use_parallel_residual=False, rotary_pct=0.5, num_attention_heads=4), "F32", 2, FEWER,
                            {"rotary_pct": 1.0}),
        "phi": (phi, "F16", 1, TEXTS, {"partial_rotary_factor": 1.0}),
        "gptj": (gptj, "F32", 1, TEXTS, {"rotary_dim": 8}),
        "opt": (opt, "F16", 1, TEXTS, {"activation_function": "gelu"}),
        "opt-after": ({**opt, "do_layer_norm_before": False}, "F32", 1, FEWER, {"activation_function": "gelu"}),
        "opt-projected": ({**opt, "do_layer_norm_before": False, "word_embed_proj_dim": 20}, "BF16", 1, FEWER, {"activation_function": "gelu"}),
        "bloom": (bloom, "BF16", 1, FEWER, {"layer_norm_epsilon": 1e-1}),
        "gpt_neo": (neo, "F32", 1, TEXTS, {"window_size": 20}),
    }


def mixture_variants():
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 0.8, "beta_slow": 0.1,
            "truncate": False}
    oss = without(small("gpt_oss", num_hidden_layers=2, head_dim=16, num_local_experts=6, num_experts_per_tok=2, sliding_window=8,
                        rope_theta=100.0, rope_scaling=yarn, rms_norm_eps=1e-5, swiglu_limit=1.5, hidden_act="silu",
                        attention_bias=True, intermediate_size=24), "architectures")
    shared = dict(shared_expert_intermediate_size=20, norm_topk_prob=False)
    granite = dict(embedding_multiplier=6.0, attention_multiplier=0.25, residual_multiplier=0.5, logits_scaling=8.0)
    latent = dict(num_hidden_layers=2, num_key_value_heads=4, q_lora_rank=20, kv_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8,
                  v_head_dim=16, num_experts_per_tok=3)
    scaled = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 0.8, "beta_slow": 0.1,
              "mscale": 1.0, "mscale_all_dim": 1.0}
    deepseek = dict(n_routed_experts=12, n_shared_experts=2, moe_intermediate_size=16, n_group=3, topk_group=2, norm_topk_prob=True,
                    routed_scaling_factor=1.5, first_k_dense_replace=1)
    indexer = dict(index_topk=17, index_n_heads=2, index_head_dim=16)  # no text of goldens or parity has more tokens
    single = {**deepseek, "n_group": 1, "topk_group": 1}
    exaone = {**without(deepseek, "n_routed_experts", "n_shared_experts"), "num_experts": 12, "num_shared_experts": 1}
    conv = without(moe("lfm2_moe", num_hidden_layers=3, norm_eps=1e-5, rope_theta=1000000.0, conv_L_cache=3, conv_bias=True,
                       layer_types=["conv", "full_attention", "conv"], num_dense_layers=1, num_experts_per_tok=3, use_expert_bias=True,
                       norm_topk_prob=True, routed_scaling_factor=1.5), "hidden_act", "rms_norm_eps")
    minimax = without(moe("minimax_m2", num_local_experts=6, intermediate_size=24, head_dim=16, rotary_dim=8, use_qk_norm=True,
                          rms_norm_eps=1e-6, scoring_func="sigmoid", use_routing_bias=True), "num_experts", "moe_intermediate_size")
    ernie = without(moe("ernie4_5_moe", num_hidden_layers=3, moe_num_experts=6, moe_k=2, moe_num_shared_experts=1,
                        moe_layer_start_index=1, moe_layer_end_index=-1, moe_layer_interval=1, rms_norm_eps=1e-5, use_bias=True,
                        tie_word_embeddings=True), "num_experts", "num_experts_per_tok")
    interval = {**ernie, "num_hidden_layers": 4, "moe_layer_start_index": 0, "moe_layer_end_index": 1, "moe_layer_interval": 2,
                "use_bias": False, "moe_num_shared_experts": 0, "head_dim": 16, "moe_norm_min": 0.5}
    tempered = {"type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 4, "beta_fast": 0.8, "beta_slow": 0.1,
                "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.5, "max_position_embeddings": 64,
                "partial_rotary_factor": 1 / 3}
    mistral4 = without(small("mistral4", **latent, **{**deepseek, "first_k_dense_replace": 0}, attention_bias=True, rope_parameters=tempered),
                       "rope_theta")
    plain4 = {**mistral4, "n_group": 1, "topk_group": 1, "norm_topk_prob": False, "q_lora_rank": None, "attention_bias": False,
              "rope_interleave": False, "first_k_dense_replace": 1}
    phimoe = without(moe("phimoe", num_local_experts=6, intermediate_size=24, attention_bias=True, lm_head_bias=True, rms_norm_eps=1e-5,
                         router_jitter_noise=0.95, original_max_position_embeddings=8, sliding_window=2047,
                         rope_scaling=longrope(4, short_mscale=1.3, long_mscale=1.3, original_max_position_embeddings=8)),
                     "num_experts", "moe_intermediate_size")
    return {
        "lfm2_moe": (conv, "BF16", 1, FEWEST, {"routed_scaling_factor": 1.0}),
        "lfm2_moe-plain": ({**conv, "use_expert_bias": False, "norm_topk_prob": False, "routed_scaling_factor": 0.5, "conv_bias": False}, "F32", 1,
                           FEWEST, {"norm_topk_prob": True}),
        "youtu": (small("youtu", **without(latent, "num_experts_per_tok"), rope_scaling=scaled), "BF16", 1, FEWER, {"rope_scaling": None}),
        "dots1": (small("dots1", num_hidden_layers=2, head_dim=16, num_experts_per_tok=3, sliding_window=6, max_window_layers=1, **single),
                  "BF16", 1, FEWEST, {"max_window_layers": 0}),
        "exaone_moe": (small("exaone_moe", num_hidden_layers=3, head_dim=16, num_experts_per_tok=3, sliding_window=6,
                             layer_types=["sliding_attention", "sliding_attention", "full_attention"],
                             mlp_layer_types=["dense", "sparse", "dense"], **exaone), "F32", 1, FEWEST,
                       {"sliding_window": 20}),
        "solar_open": (without(small("solar_open", num_hidden_layers=2, head_dim=16, num_experts_per_tok=3, attention_bias=True,
                                     **{**without(single, "first_k_dense_replace"), "n_routed_experts": 6}), "intermediate_size"), "BF16", 1, FEWEST,
                       {"norm_topk_prob": False}),
        "hy_v3": (moe("hy_v3", head_dim=16, num_experts=12, num_experts_per_tok=3, num_shared_experts=1, router_scaling_factor=1.5,
                      mlp_layer_types=["dense", "sparse"]), "F32", 1, FEWEST, {"router_scaling_factor": 1.0}),
        "hunyuan_v1_moe": (without(moe("hunyuan_v1_moe", head_dim=16, num_experts=6, moe_topk=[2, 2], intermediate_size=24,
                                       rope_scaling={"type": "dynamic", "alpha": 20.0, "factor": 1.0}), "moe_intermediate_size",
                                   "num_experts_per_tok"), "BF16", 1, FEWEST, {"rope_scaling": None}),
        "afmoe": (moe("afmoe", num_hidden_layers=3, head_dim=16, num_experts=12, num_experts_per_tok=3, num_shared_experts=1, route_scale=1.5,
                      num_dense_layers=2, sliding_window=6, global_attn_every_n_layers=2, mup_enabled=True, rms_norm_eps=1e-5), "BF16", 1,
                  FEWEST, {"mup_enabled": False}),
        "flex_olmo": (without(moe("flex_olmo", intermediate_size=24, norm_topk_prob=True), "moe_intermediate_size"), "F32", 1, FEWEST,
                      {"num_experts_per_tok": 1}),  # the norm behind takes back what weights are divided by
        "minimax_m2": (minimax, "BF16", 2, FEWEST, {"rotary_dim": 16}),
        "ernie4_5_moe": (ernie, "BF16", 1, FEWEST, {"moe_k": 3}),
        "ernie4_5_moe-interval": (interval, "F32", 2, FEWEST, {"moe_norm_min": 1e-12}),
        "mistral4": (nested("mistral3", mistral4, PIXTRAL), "BF16", 2, FEWEST,
                     {"text_config": {**mistral4, "rope_parameters": {**tempered, "llama_4_scaling_beta": 0.0}}}),
        "mistral4-plain": (nested("mistral3", plain4, PIXTRAL), "F32", 1, FEWEST, {"text_config": {**plain4, "rope_interleave": True}}),
        "phimoe": (phimoe, "BF16", 1, [1, 3, 12], {"router_jitter_noise": 0.01}),
        "phimoe-plain": (without({**phimoe, "attention_bias": False, "sliding_window": 5}, "rope_scaling", "router_jitter_noise"), "F32", 1, [1, 2, 9],
                         {"sliding_window": None}),
        "qwen3_moe": (moe("qwen3_moe", head_dim=16, norm_topk_prob=True), "F32", 1, FEWEST, {"norm_topk_prob": False}),
        "qwen3_moe-steps": (moe("qwen3_moe", head_dim=8, norm_topk_prob=False, num_hidden_layers=4, decoder_sparse_step=2,
                                mlp_only_layers=[3]), "BF16", 2, FEWEST, {"norm_topk_prob": True}),
        "mixtral": (without(moe("mixtral", num_local_experts=4, sliding_window=None, rms_norm_eps=1e-5), "num_experts",
                            "moe_intermediate_size"), "BF16", 2, FEWEST, {"sliding_window": 6}),
        "gpt_oss": (oss, "BF16", 1, FEWEST, {"swiglu_limit": 7.0}),
        "olmoe": (moe("olmoe", norm_topk_prob=False, intermediate_size=24), "F32", 1, FEWEST, {"norm_topk_prob": True}),
        "olmoe-clip": (moe("olmoe", norm_topk_prob=True, intermediate_size=24, clip_qkv=0.9), "BF16", 1, FEWEST, {"clip_qkv": None}),
        "qwen2_moe": (moe("qwen2_moe", qkv_bias=True, **shared), "BF16", 1, FEWEST, {"norm_topk_prob": True}),
        "qwen2_moe-windows": (moe("qwen2_moe", **{**shared, "num_hidden_layers": 3}, qkv_bias=False, use_sliding_window=True,
                                  sliding_window=5, max_window_layers=2, decoder_sparse_step=2),
                              "F32", 1, FEWEST, {"use_sliding_window": False}),
        "deepseek_v3": (small("deepseek_v3", **latent, **deepseek, rope_scaling=scaled, attention_bias=True), "F32", 1, FEWEST,
                        {"rope_scaling": {**scaled, "mscale_all_dim": 0.5}}),
        "deepseek_v3-plain": (small("deepseek_v3", **{**latent, "q_lora_rank": None, "v_head_dim": 24}, **{**deepseek, "n_group": 1,
                                    "topk_group": 1, "norm_topk_prob": False}, rope_interleave=False), "BF16", 2, FEWEST,
                              {"rope_interleave": True}),
        "deepseek_v32": (small("deepseek_v32", **latent, **deepseek, **indexer, rope_scaling=scaled), "BF16", 1, FEWEST,
                         {"rope_scaling": {**scaled, "mscale_all_dim": 0.5}}),
        "glm_moe_dsa": (small("glm_moe_dsa", **{**latent, "v_head_dim": 24}, **{**deepseek, "n_group": 1, "topk_group": 1}, **indexer,
                              indexer_types=["full", "shared"], mlp_layer_types=["dense", "sparse"], rms_norm_eps=1e-5,
                              attention_bias=True), "F32", 1, FEWEST, {"routed_scaling_factor": 1.0}),
        "deepseek_v2": (small("deepseek_v2", **latent, **{**deepseek, "first_k_dense_replace": 0}, rope_scaling=scaled,
                              topk_method="group_limited_greedy"), "BF16", 1, FEWEST, {"topk_method": "greedy"}),
        "glm4_moe_lite": (small("glm4_moe_lite", **latent, **deepseek, mlp_layer_types=["sparse", "dense"], rms_norm_eps=1e-5),
                          "BF16", 1, FEWEST, {"routed_scaling_factor": 1.0}),
        "glm4_moe": (small("glm4_moe", num_hidden_layers=2, head_dim=16, num_experts_per_tok=3, attention_bias=True, use_qk_norm=True,
                           partial_rotary_factor=0.5, **deepseek), "F32", 1, FEWEST, {"topk_group": 3}),
        "granitemoe": (without(moe("granitemoe", num_local_experts=6, intermediate_size=24, **granite), "num_experts",
                               "moe_intermediate_size"), "BF16", 1, FEWEST, {"residual_multiplier": 1.0}),
    }


def llama4_variants():
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 16}
    scout = llama4_text(no_rope_layers=[], rope_scaling={**llama3, "factor": 16.0, "high_freq_factor": 1.0}, rope_theta=100.0)
    maverick = llama4_text(interleave_moe_layer_step=2, no_rope_layer_interval=2, use_qk_norm=False, attn_temperature_tuning=True)
    listed = llama4_text(num_hidden_layers=3, no_rope_layers=[1, 0, 0], moe_layers=[2], num_experts_per_tok=2, attention_bias=True,
                         attn_temperature_tuning=False, rope_scaling=llama3,
                         layer_types=["full_attention", "chunked_attention", "full_attention"])
    dense = llama4_text(num_hidden_layers=3, moe_layers=[], attention_chunk_size=10, floor_scale=7, no_rope_layer_interval=3)
    wide = llama4_text(num_hidden_layers=2, attention_chunk_size=None, no_rope_layer_interval=2, num_experts_per_tok=3)
    return {
        "llama4": (nested("llama4", scout, LLAMA4_TOWER), "BF16", 2, FEWEST,
                   {"text_config": {**scout, "attention_chunk_size": 20}}),
        "llama4-steps": (maverick, "F32", 1, FEWEST, {"attn_scale": 0.1}),
        "llama4-listed": (nested("llama4", listed, LLAMA4_TOWER), "F16", 1, FEWEST,
                          {"text_config": {**listed, "layer_types": ["full_attention"] * 3}}),
        "llama4-dense": (dense, "F32", 1, TEXTS, {"attention_chunk_size": 20}),
        "llama4-full": (wide, "BF16", 1, FEWEST, {"use_qk_norm": False}),
    }


def nemotron_h(**changes):
    """A norm follows the scan, whose sums may come near 0: eps keeps it from making a large error of a small one."""
    return {"model_type": "nemotron_h", "hidden_size": 32, "vocab_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 16, "intermediate_size": 48, "mlp_hidden_act": "relu2", "layer_norm_epsilon": 1e-3, "mamba_num_heads": 8,
            "mamba_head_dim": 8, "n_groups": 2, "ssm_state_size": 16, "conv_kernel": 4, "time_step_min": 0.001,
            "tie_word_embeddings": False, "pad_token_id": 0, **changes}


def granite_hybrid(**changes):
    granite = dict(embedding_multiplier=6.0, attention_multiplier=0.25, residual_multiplier=0.5, logits_scaling=8.0)
    return small("granitemoehybrid", **{**granite, "rms_norm_eps": 1e-3, "intermediate_size": 24, "shared_intermediate_size": 40,
                                        "mamba_n_heads": 8, "mamba_n_groups": 1, "mamba_d_state": 16, "mamba_d_head": 8,
                                        "mamba_d_conv": 4, "mamba_expand": 2, "position_embedding_type": "nope",
                                        "layer_types": ["mamba", "attention", "mamba"], **changes})


def space_variants():
    experts = dict(n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=24, moe_shared_expert_intermediate_size=40,
                   n_group=2, topk_group=1, routed_scaling_factor=1.5)
    moe = nemotron_h(hybrid_override_pattern="M*E", num_hidden_layers=4, **experts)
    latent = nemotron_h(layers_block_type=["mamba", "moe", "attention", "mlp"], moe_latent_size=16, mlp_bias=True, use_bias=True,
                        **{**experts, "n_group": 1, "n_routed_experts": 6, "norm_topk_prob": False})
    old = nemotron_h(hybrid_override_pattern="M-M*-", num_hidden_layers=2, mamba_dt_min=0.6, mamba_d_conv=2, mamba_n_groups=1,
                     mamba_conv_bias=False, attention_bias=True)
    few = dict(num_local_experts=4, num_experts_per_tok=2, num_hidden_layers=2, layers_block_type=["mamba", "attention"],
               layer_types=None)
    bamba = small("bamba", rms_norm_eps=1e-3, attn_layer_indices=[1], mamba_n_heads=8, mamba_n_groups=2, mamba_d_state=16,
                  mamba_d_head="auto", mamba_d_conv=4, mamba_expand=2, attention_bias=True, mlp_bias=True)
    return {
        "bamba": (bamba, "BF16", 2, FEWER, {"rope_theta": 100.0}),
        "nemotron_h": (old, "BF16", 2, FEWER, {"mamba_dt_min": 0.001}),
        "nemotron_h-moe": (moe, "F32", 1, FEWEST, {"topk_group": 2}),
        "nemotron_h-latent": (latent, "BF16", 1, FEWEST, {"norm_topk_prob": True}),
        "nemotron_h-fused": ({**moe, "has_fused_experts": True, "hybrid_override_pattern": "MEM"}, "F16", 1, FEWEST,
                             {"routed_scaling_factor": 1.0}),
        "granitemoehybrid": (granite_hybrid(**few), "BF16", 1, FEWEST, {"residual_multiplier": 1.0}),
        "granitemoehybrid-dense": (granite_hybrid(num_local_experts=0, num_experts_per_tok=0, mamba_n_groups=2, mamba_conv_bias=False,
                                                  mamba_proj_bias=True, attention_bias=True, position_embedding_type="rope",
                                                  time_step_limit=[0.6, 2.0], tie_word_embeddings=True), "F32", 2, FEWER,
                                   {"position_embedding_type": "nope"}),
    }


def tower_variants():
    mrope = {"type": "mrope", "mrope_section": [2, 3, 3]}
    interleaved = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True, "rope_theta": 5000.0}
    qwen2 = without(small("qwen2_5_vl_text", num_attention_heads=2, num_key_value_heads=1, rope_scaling=mrope), "head_dim")
    qwen3 = without(small("qwen3_vl_text", head_dim=16, rope_parameters=interleaved, tie_word_embeddings=True), "rope_theta")
    tower3 = {**QWEN_TOWER, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    # A norm follows the delta rule, whose sums may come near 0: eps keeps it from making a large error of a small one.
    delta = dict(num_hidden_layers=3, rms_norm_eps=1e-3, head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4,
                 linear_key_head_dim=8, linear_value_head_dim=8, linear_conv_kernel_dim=4,
                 layer_types=["linear_attention", "full_attention", "linear_attention"])
    ropes = {**interleaved, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.25}
    qwen35 = without(small("qwen3_5_text", rope_parameters=ropes, **delta), "rope_theta")
    following = moe("qwen3_next", **{**delta, "num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]},
                    partial_rotary_factor=0.25, shared_expert_intermediate_size=20, norm_topk_prob=True)
    sparse = {**moe("qwen3_5_moe_text", **{**delta, "num_hidden_layers": 2, "layer_types": None}, rope_parameters=ropes,
                    shared_expert_intermediate_size=16), "full_attention_interval": 2}
    sparse = without(sparse, "rope_theta", "intermediate_size", "layer_types")
    moe_tower = {**QWEN_TOWER, "model_type": "qwen3_5_moe", "num_position_embeddings": 16}
    sparse3 = without(moe("qwen3_vl_moe_text", head_dim=16, rope_parameters=interleaved, mlp_only_layers=[0]), "rope_theta")
    return {
        "qwen3_5_moe": (nested("qwen3_5_moe", sparse, moe_tower), "BF16", 1, FEWEST,
                        {"text_config": {**sparse, "rms_norm_eps": 1e-1}}),
        "qwen3_5_moe-fused": (nested("qwen3_5_moe", {**sparse, "has_fused_experts": True}, moe_tower), "F32", 1, FEWEST,
                              {"text_config": {**sparse, "has_fused_experts": True, "num_experts_per_tok": 3}}),
        "qwen2_5_vl": (nested("qwen2_5_vl", qwen2, {**QWEN_TOWER, "model_type": "qwen2_5_vl"}), "BF16", 2, FEWER,
                       {"text_config": {**qwen2, "rope_theta": 100.0}}),
        "qwen3_vl": (nested("qwen3_vl", qwen3, {**tower3, "model_type": "qwen3_vl"}), "F32", 1, FEWER,
                     {"text_config": {**qwen3, "rope_parameters": {**interleaved, "rope_theta": 100.0}}}),
        "qwen3_vl_moe": (nested("qwen3_vl_moe", sparse3, {**tower3, "model_type": "qwen3_vl_moe"}), "BF16", 1, FEWEST,
                         {"text_config": {**sparse3, "rope_parameters": {**interleaved, "rope_theta": 100.0}}}),
        "qwen3_vl_moe-saved": (nested("qwen3_vl_moe", {**sparse3, "has_fused_experts": True}, {**tower3, "model_type": "qwen3_vl_moe"}),
                               "F32", 1, FEWEST, {"text_config": {**sparse3, "has_fused_experts": True, "num_experts_per_tok": 3}}),
        "qwen3_5": (nested("qwen3_5", qwen35, {**QWEN_TOWER, "model_type": "qwen3_5", "num_position_embeddings": 16}), "BF16", 1,
                    [1, 7, 70], {"text_config": {**qwen35, "rms_norm_eps": 1e-1}}),
        "qwen3_5-text": ({**qwen35, "linear_num_value_heads": 2}, "F32", 1, TEXTS, {"rms_norm_eps": 1e-6}),
        "qwen3_next": (following, "F32", 1, FEWEST, {"norm_topk_prob": False}),
        "qwen3_next-bias": ({**following, "attention_bias": True, "mlp_only_layers": [0], "linear_num_key_heads": 1,
                             "linear_value_head_dim": 16}, "BF16", 1, FEWEST, {"mlp_only_layers": []}),
    }


def all_variants():
    return {**gemma_variants(), **dense_variants(), **gpt_variants(), **mixture_variants(), **llama4_variants(), **space_variants(),
            **tower_variants()}


# Files of other writers name the same tensors otherwise: (beginning as listed, beginning in the file).
RENAMED = {
    "gemma3-nested-old": [("model.language_model.", "language_model.model."), ("model.", "")],
    "mistral3-old": [("model.language_model.", "language_model.model."), ("lm_head.", "language_model.lm_head."), ("model.", "")],
    "gpt2-bare": [("transformer.", "")],
    "llama4": [("lm_head.", "language_model.lm_head.")],
    "llama4-listed": [("lm_head.", "language_model.lm_head.")],
}
