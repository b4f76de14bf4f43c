# SPDX-License-Identifier: MIT
"""The tensors of layers in the manner of GPT, for family_tensors.py, whose Maker collects them."""
import math


def list_gpt2(m, family):
    c, hidden = m.config, m.hidden
    width = c.get("n_inner") or 4 * hidden
    m.embedding("transformer.wte.weight", c["vocab_size"], hidden)
    m.embedding("transformer.wpe.weight", c["n_positions"], hidden, 0.6)
    for layer in range(m.layers):
        at = f"transformer.h.{layer}."
        m.norm(at + "ln_1", hidden, True)
        m.norm(at + "ln_2", hidden, True)
        for name, inputs, outputs, gain in (("attn.c_attn", hidden, 3 * hidden, 0.8), ("attn.c_proj", hidden, hidden, m.damping),
                                            ("mlp.c_fc", hidden, width, 1.0), ("mlp.c_proj", width, hidden, m.damping)):
            m.add(at + name + ".weight", [inputs, outputs], 0.0, gain * math.sqrt(3.0 / inputs))
            m.bias(at + name + ".bias", outputs)
    m.norm("transformer.ln_f", hidden, True)


def list_gpt_neo(m, family):
    c, hidden = m.config, m.hidden
    width = c.get("intermediate_size") or 4 * hidden
    m.embedding("transformer.wte.weight", c["vocab_size"], hidden)
    m.embedding("transformer.wpe.weight", c["max_position_embeddings"], hidden, 0.6)
    for layer in range(m.layers):
        at = f"transformer.h.{layer}."
        m.norm(at + "ln_1", hidden, True)
        m.norm(at + "ln_2", hidden, True)
        for name in ("q_proj", "k_proj", "v_proj"):
            m.linear(at + "attn.attention." + name, hidden, hidden, 1.0 if name == "v_proj" else 0.4)
        m.linear(at + "attn.attention.out_proj", hidden, hidden, m.damping, True)
        m.linear(at + "mlp.c_fc", width, hidden, 1.0, True)
        m.linear(at + "mlp.c_proj", hidden, width, m.damping, True)
    m.norm("transformer.ln_f", hidden, True)


def list_gptj(m, family):
    c, hidden = m.config, m.hidden
    width = c.get("n_inner") or 4 * hidden
    m.embedding("transformer.wte.weight", c["vocab_size"], hidden)
    for layer in range(m.layers):
        at = f"transformer.h.{layer}."
        m.norm(at + "ln_1", hidden, True)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            m.linear(at + "attn." + name, hidden, hidden, 0.65 if name in ("q_proj", "k_proj") else 1.0)
        m.linear(at + "mlp.fc_in", width, hidden, 1.0, True)
        m.linear(at + "mlp.fc_out", hidden, width, m.damping, True)
    m.norm("transformer.ln_f", hidden, True)


def list_gpt_neox(m, family):
    c, hidden, width = m.config, m.hidden, m.config["intermediate_size"]
    bias = c.get("attention_bias", True)
    m.embedding("gpt_neox.embed_in.weight", c["vocab_size"], hidden)
    for layer in range(m.layers):
        at = f"gpt_neox.layers.{layer}."
        m.norm(at + "input_layernorm", hidden, True)
        m.norm(at + "post_attention_layernorm", hidden, True)
        m.linear(at + "attention.query_key_value", 3 * hidden, hidden, 0.8, bias)
        m.linear(at + "attention.dense", hidden, hidden, m.damping, bias)
        m.linear(at + "mlp.dense_h_to_4h", width, hidden, 1.0, True)
        m.linear(at + "mlp.dense_4h_to_h", hidden, width, m.damping, True)
    m.norm("gpt_neox.final_layer_norm", hidden, True)


def list_bloom(m, family):
    hidden = m.hidden
    m.embedding("transformer.word_embeddings.weight", m.config["vocab_size"], hidden)
    m.norm("transformer.word_embeddings_layernorm", hidden, True)
    for layer in range(m.layers):
        at = f"transformer.h.{layer}."
        m.norm(at + "input_layernorm", hidden, True)
        m.norm(at + "post_attention_layernorm", hidden, True)
        m.linear(at + "self_attention.query_key_value", 3 * hidden, hidden, 0.8, True)
        m.linear(at + "self_attention.dense", hidden, hidden, m.damping, True)
        m.linear(at + "mlp.dense_h_to_4h", 4 * hidden, hidden, 1.0, True)
        m.linear(at + "mlp.dense_4h_to_h", hidden, 4 * hidden, m.damping, True)
    m.norm("transformer.ln_f", hidden, True)


def list_falcon(m, family):
    c, hidden, bias = m.config, m.hidden, m.config.get("bias", False)
    width = c.get("ffn_hidden_size") or 4 * hidden
    newer, parallel = c.get("new_decoder_architecture", False), c.get("parallel_attn", True)
    kv_heads = c["num_kv_heads"] if newer else 1 if c.get("multi_query", True) else m.heads
    apart = newer and c.get("num_ln_in_parallel_attn", 2) == 2
    m.embedding("transformer.word_embeddings.weight", c["vocab_size"], hidden)
    for layer in range(m.layers):
        at = f"transformer.h.{layer}."
        for name in ("ln_attn", "ln_mlp") if apart else ("input_layernorm",) if parallel else ("input_layernorm", "post_attention_layernorm"):
            m.norm(at + name, hidden, True)
        m.linear(at + "self_attention.query_key_value", (m.heads + 2 * kv_heads) * (hidden // m.heads), hidden, 0.8, bias)
        m.linear(at + "self_attention.dense", hidden, hidden, m.damping, bias)
        m.linear(at + "mlp.dense_h_to_4h", width, hidden, 1.0, bias)
        m.linear(at + "mlp.dense_4h_to_h", hidden, width, m.damping, bias)
    m.norm("transformer.ln_f", hidden, True)


def list_mpt(m, family):
    hidden = m.hidden
    m.embedding("transformer.wte.weight", m.config["vocab_size"], hidden)
    for layer in range(m.layers):
        at = f"transformer.blocks.{layer}."
        m.norm(at + "norm_1", hidden)
        m.matrix(at + "attn.Wqkv.weight", 3 * hidden, hidden, 0.8)
        m.matrix(at + "attn.out_proj.weight", hidden, hidden, m.damping)
        m.norm(at + "norm_2", hidden)
        m.matrix(at + "ffn.up_proj.weight", 4 * hidden, hidden)
        m.matrix(at + "ffn.down_proj.weight", hidden, 4 * hidden, m.damping)
    m.norm("transformer.norm_f", hidden)


def list_opt(m, family):
    c, hidden = m.config, m.hidden
    width = c["ffn_dim"]
    bias = c.get("enable_bias", True)
    outer = c.get("word_embed_proj_dim") or hidden
    prefix = "model.decoder."
    m.embedding(prefix + "embed_tokens.weight", c["vocab_size"], outer)
    m.embedding(prefix + "embed_positions.weight", c["max_position_embeddings"] + 2, hidden, 0.6)
    if outer != hidden:
        m.matrix(prefix + "project_in.weight", hidden, outer)
        m.matrix(prefix + "project_out.weight", outer, hidden)
    for layer in range(m.layers):
        at = f"{prefix}layers.{layer}."
        m.norm(at + "self_attn_layer_norm", hidden, True)
        m.norm(at + "final_layer_norm", hidden, True)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            m.linear(at + "self_attn." + name, hidden, hidden, 0.65 if name in ("q_proj", "k_proj") else 1.0, bias)
        m.linear(at + "fc1", width, hidden, 1.0, bias)
        m.linear(at + "fc2", hidden, width, m.damping, bias)
    if c.get("do_layer_norm_before", True):
        m.norm(prefix + "final_layer_norm", hidden, True)


GPT_LIKE = {"gpt2": list_gpt2, "gpt_neo": list_gpt_neo, "gptj": list_gptj, "gpt_neox": list_gpt_neox, "bloom": list_bloom,
            "opt": list_opt, "falcon": list_falcon, "mpt": list_mpt}
HEADS = {"gpt_neox": "embed_out.weight"}
