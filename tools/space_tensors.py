# SPDX-License-Identifier: MIT
"""Tensors of blocks with state spaces (family_tensors.py): Nemotron-H, whose blocks are one branch each, and Granite 4."""
import math

from mixture_tensors import ROUTER_GAIN

LETTERS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
OLD = {"mamba": "linear_attention", "attention": "full_attention"}


def block_kinds(c):
    """What each block is, as the classes read it."""
    alias = ("layer_types", "layers_block_type") if c["model_type"] == "nemotron_h" else ("layers_block_type", "layer_types")
    names = c.get(alias[0]) or c.get(alias[1])
    if names is None and "hybrid_override_pattern" in c:
        names = [LETTERS[letter] for letter in c["hybrid_override_pattern"]]
    if names is None and c["model_type"] == "nemotron_h":
        names = ["linear_attention", "moe", "full_attention", "mlp"]
    names = names or ["linear_attention"] * c["num_hidden_layers"]
    return [OLD.get(name, name) for name in names]


def state_space(m, at, heads, head_dim, groups, state, taps, bias, mixed_bias):
    out = heads * head_dim
    mixed = out + 2 * groups * state
    m.linear(at + "in_proj", out + mixed + heads, m.hidden, 0.8, bias)  # four of its numbers are multiplied
    m.add(at + "conv1d.weight", [mixed, 1, taps], 0.0, math.sqrt(3.0 / taps))
    if mixed_bias:
        m.bias(at + "conv1d.bias", mixed)
    m.bias(at + "dt_bias", heads)
    m.add(at + "A_log", [heads], 0.0, 1.0, kind="decay")
    m.add(at + "D", [heads], 1.0, 0.4, kind="skip")
    m.norm(at + "norm", out, mean=1.0)
    m.linear(at + "out_proj", m.hidden, out, 0.5 * m.damping, bias)  # the norm before makes errors of small numbers large


def attention(m, at, bias):
    for name, heads, gain in (("q_proj", m.heads, 0.65), ("k_proj", m.kv_heads, 0.65), ("v_proj", m.kv_heads, 1.0)):
        m.linear(at + name, heads * m.head_dim, m.hidden, gain, bias)
    m.linear(at + "o_proj", m.hidden, m.heads * m.head_dim, m.damping, bias)


def plain_mlp(m, at, width, bias):
    m.linear(at + "up_proj", width, m.hidden, 1.0, bias)
    m.linear(at + "down_proj", m.hidden, width, m.damping, bias)


def nemotron_experts(m, at):
    c, bias = m.config, m.config.get("mlp_bias", False)
    experts, width = c["n_routed_experts"], c["moe_intermediate_size"]
    inner = c.get("moe_latent_size") or m.hidden
    m.matrix(at + "gate.weight", experts, m.hidden, ROUTER_GAIN)
    m.add(at + "gate.e_score_correction_bias", [experts], 0.0, 0.2, 0.1, "correction")
    if c.get("moe_latent_size"):
        m.linear(at + "fc1_latent_proj", inner, m.hidden, 1.0, bias)
        m.linear(at + "fc2_latent_proj", m.hidden, inner, m.damping, bias)
    if c.get("has_fused_experts"):
        m.fused(at + "experts.up_proj", experts, width, inner, inner)
        m.fused(at + "experts.down_proj", experts, inner, width, width, m.damping)
    for expert in range(0 if c.get("has_fused_experts") else experts):
        m.matrix(at + f"experts.{expert}.up_proj.weight", width, inner)
        m.matrix(at + f"experts.{expert}.down_proj.weight", inner, width, m.damping)
    plain_mlp(m, at + "shared_experts.", c["moe_shared_expert_intermediate_size"], bias)


def list_nemotron_h(m, family):
    c, prefix = m.config, "backbone."
    m.embedding(prefix + "embeddings.weight", c["vocab_size"], m.hidden)
    for layer, kind in enumerate(block_kinds(c)):
        m.norm(f"{prefix}layers.{layer}.norm", m.hidden)
        at = f"{prefix}layers.{layer}.mixer."
        if kind == "linear_attention":
            state_space(m, at, c["mamba_num_heads"], c["mamba_head_dim"], c.get("mamba_n_groups", c["n_groups"]), c["ssm_state_size"],
                        c.get("mamba_d_conv", c["conv_kernel"]), c.get("use_bias", False),
                        c.get("mamba_conv_bias", c.get("use_conv_bias", True)))
        elif kind == "full_attention":
            attention(m, at, False)
        elif kind == "mlp":
            plain_mlp(m, at, c["intermediate_size"], c.get("mlp_bias", False))
        else:
            nemotron_experts(m, at)
    m.norm(prefix + "norm_f", m.hidden)


def list_bamba(m, family):
    c, prefix = m.config, "model."
    heads, bias = c["mamba_n_heads"], c.get("mlp_bias", False)
    m.embedding(prefix + "embed_tokens.weight", c["vocab_size"], m.hidden)
    for layer in range(m.layers):
        at = f"{prefix}layers.{layer}."
        m.norm(at + "input_layernorm", m.hidden)
        m.norm(at + "pre_ff_layernorm", m.hidden)
        if layer in (c.get("attn_layer_indices") or []):
            attention(m, at + "self_attn.", c.get("attention_bias", False))
        else:
            state_space(m, at + "mamba.", heads, c["mamba_expand"] * m.hidden // heads, c["mamba_n_groups"], c["mamba_d_state"],
                        c["mamba_d_conv"], c.get("mamba_proj_bias", False), c.get("mamba_conv_bias", True))
        at += "feed_forward."
        m.linear(at + "gate_proj", c["intermediate_size"], m.hidden, 1.0, bias)
        m.linear(at + "up_proj", c["intermediate_size"], m.hidden, 1.0, bias)
        m.linear(at + "down_proj", m.hidden, c["intermediate_size"], m.damping, bias)
    m.norm(prefix + "final_layernorm", m.hidden)


def list_granitemoehybrid(m, family):
    c, prefix = m.config, "model."
    experts, width = c.get("num_local_experts", 8), c["intermediate_size"]
    heads = c["mamba_n_heads"]
    m.embedding(prefix + "embed_tokens.weight", c["vocab_size"], m.hidden, 1.2 / c.get("embedding_multiplier", 1.0))
    for layer, kind in enumerate(block_kinds(c)):
        at = f"{prefix}layers.{layer}."
        m.norm(at + "input_layernorm", m.hidden)
        m.norm(at + "post_attention_layernorm", m.hidden)
        if kind == "linear_attention":
            state_space(m, at + "mamba.", heads, c["mamba_expand"] * m.hidden // heads, c["mamba_n_groups"], c["mamba_d_state"],
                        c["mamba_d_conv"], c.get("mamba_proj_bias", False), c.get("mamba_conv_bias", True))
        else:
            attention(m, at + "self_attn.", c.get("attention_bias", False))
        m.matrix(at + "shared_mlp.input_linear.weight", 2 * c["shared_intermediate_size"], m.hidden)
        m.matrix(at + "shared_mlp.output_linear.weight", m.hidden, c["shared_intermediate_size"], m.damping)
        if experts:
            m.matrix(at + "block_sparse_moe.router.layer.weight", experts, m.hidden, ROUTER_GAIN)
            m.fused(at + "block_sparse_moe.input_linear.weight", experts, 2 * width, m.hidden, m.hidden)
            m.fused(at + "block_sparse_moe.output_linear.weight", experts, m.hidden, width, width, m.damping)
    m.norm(prefix + "norm", m.hidden)


SPACES = {"nemotron_h": list_nemotron_h, "granitemoehybrid": list_granitemoehybrid, "bamba": list_bamba}
