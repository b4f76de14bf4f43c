# SPDX-License-Identifier: MIT
"""The tensors of mixtures of experts, for family_tensors: a function a layout of the router, the experts and what lies beside them."""
import math

GLU = ("gate_proj", "up_proj", "down_proj")
ROUTER_GAIN = 2.0  # logits that differ clearly from expert to expert


def first_of(config, *keys, default=None):
    return next((config[key] for key in keys if config.get(key) is not None), default)


def glu(m, at, width, gains=(1.0, 1.0), names=GLU, bias=False):
    m.linear(at + names[0], width, m.hidden, gains[0], bias)
    m.linear(at + names[1], width, m.hidden, gains[0], bias)
    m.linear(at + names[2], m.hidden, width, gains[1] * m.damping, bias)


def mixture_qwen(m, at, width=None):
    experts = first_of(m.config, "num_experts", "num_local_experts")
    m.matrix(at + "mlp.gate.weight", experts, m.hidden, ROUTER_GAIN)
    for expert in range(experts):
        glu(m, at + f"mlp.experts.{expert}.", width or m.config["moe_intermediate_size"])


def mixture_qwen_rows(m, at):
    """All experts in one tensor, gates above ups."""
    experts, width = m.config["num_experts"], m.config["moe_intermediate_size"]
    m.matrix(at + "mlp.gate.weight", experts, m.hidden, ROUTER_GAIN)
    m.fused(at + "mlp.experts.gate_up_proj", experts, 2 * width, m.hidden, m.hidden)
    m.fused(at + "mlp.experts.down_proj", experts, m.hidden, width, width, m.damping)


def mixture_qwen_fused(m, at):
    mixture_qwen_rows(m, at)
    shared_expert(m, at)


def mixture_qwen_shared(m, at):
    mixture_qwen(m, at)
    shared_expert(m, at)


def shared_expert(m, at):
    glu(m, at + "mlp.shared_expert.", m.config["shared_expert_intermediate_size"])
    m.matrix(at + "mlp.shared_expert_gate.weight", 1, m.hidden)


def mixture_qwen_columns(m, at):
    """All experts in one tensor, with columns for rows."""
    experts, width = m.config["num_experts"], m.config["moe_intermediate_size"]
    m.matrix(at + "mlp.gate.weight", experts, m.hidden, ROUTER_GAIN)
    m.fused(at + "mlp.experts.gate_up_proj", experts, m.hidden, 2 * width, m.hidden)
    m.fused(at + "mlp.experts.down_proj", experts, width, m.hidden, width, m.damping)


def mixture_sigmoid(m, at, router="mlp.gate.weight", correction="mlp.gate.e_score_correction_bias", shared="mlp.shared_experts."):
    c = m.config
    experts, width = first_of(c, "n_routed_experts", "num_experts"), c["moe_intermediate_size"]
    m.matrix(at + router, experts, m.hidden, ROUTER_GAIN)
    if correction:
        m.add(at + correction, [experts], 0.0, 0.2, 0.1, "correction")
    for expert in range(experts):
        glu(m, at + f"mlp.experts.{expert}.", width)
    glu(m, at + shared, width * first_of(c, "n_shared_experts", "num_shared_experts"))


def mixture_lfm2(m, at):
    at += "feed_forward."
    experts = m.config["num_experts"]
    m.matrix(at + "gate.weight", experts, m.hidden, ROUTER_GAIN)
    if m.config.get("use_expert_bias", True):
        m.add(at + "expert_bias", [experts], 0.0, 0.2, 0.1, "correction")
    for expert in range(experts):
        glu(m, at + f"experts.{expert}.", m.config["moe_intermediate_size"], names=("w1", "w3", "w2"))


def mixture_hunyuan(m, at):
    experts, width = m.config["num_experts"], m.config["intermediate_size"]
    m.matrix(at + "mlp.gate.wg.weight", experts, m.hidden, ROUTER_GAIN)
    for expert in range(experts):
        glu(m, at + f"mlp.experts.{expert}.", width)
    glu(m, at + "mlp.shared_mlp.", width)


def mixture_mixtral(m, at):
    at += "block_sparse_moe."
    m.matrix(at + "gate.weight", m.config["num_local_experts"], m.hidden, ROUTER_GAIN)
    for expert in range(m.config["num_local_experts"]):
        glu(m, at + f"experts.{expert}.", m.config["intermediate_size"], names=("w1", "w3", "w2"))


def mixture_minimax(m, at):
    mixture_mixtral(m, at)
    m.add(at + "block_sparse_moe.e_score_correction_bias", [m.config["num_local_experts"]], 0.0, 0.2, 0.1, "correction")


def mixture_mistral4(m, at):
    experts, width = m.config["n_routed_experts"], m.config["moe_intermediate_size"]
    m.matrix(at + "mlp.gate.weight", experts, m.hidden, ROUTER_GAIN)
    m.fused(at + "mlp.experts.gate_up_proj", experts, 2 * width, m.hidden, m.hidden)
    m.fused(at + "mlp.experts.down_proj", experts, m.hidden, width, width, m.damping)
    glu(m, at + "mlp.shared_experts.", width * m.config["n_shared_experts"])


def mixture_ernie(m, at):
    experts, width = m.config["moe_num_experts"], m.config["moe_intermediate_size"]
    m.matrix(at + "mlp.gate.weight", experts, m.hidden, ROUTER_GAIN)
    m.add(at + "mlp.moe_statics.e_score_correction_bias", [1, experts], 0.0, 0.2, 0.1, "correction")
    for expert in range(experts):
        glu(m, at + f"mlp.experts.{expert}.", width)
    if m.config["moe_num_shared_experts"]:
        glu(m, at + "mlp.shared_experts.", width * m.config["moe_num_shared_experts"], bias=m.config.get("use_bias", False))


def mixture_granite(m, at):
    experts, width = m.config["num_local_experts"], m.config["intermediate_size"]
    at += "block_sparse_moe."
    m.matrix(at + "router.layer.weight", experts, m.hidden, ROUTER_GAIN)
    m.fused(at + "input_linear.weight", experts, 2 * width, m.hidden, m.hidden)
    m.fused(at + "output_linear.weight", experts, m.hidden, width, width, m.damping)


def mixture_gpt_oss(m, at):
    """Expert matrices stand [in, out]; gates and ups alternate."""
    experts, width = m.config["num_local_experts"], m.config["intermediate_size"]
    at += "mlp."
    m.linear(at + "router", experts, m.hidden, ROUTER_GAIN, bias=True)
    m.fused(at + "experts.gate_up_proj", experts, m.hidden, 2 * width, m.hidden)
    m.bias(at + "experts.gate_up_proj_bias", experts, 2 * width)
    m.fused(at + "experts.down_proj", experts, width, m.hidden, width, m.damping)
    m.bias(at + "experts.down_proj_bias", experts, m.hidden)


def mixture_llama4(m, at):
    """Expert matrices stand [in, out], gates before ups."""
    experts, width = m.config["num_local_experts"], m.config["intermediate_size"]
    at += "feed_forward."
    m.matrix(at + "router.weight", experts, m.hidden, ROUTER_GAIN)
    m.fused(at + "experts.gate_up_proj", experts, m.hidden, 2 * width, m.hidden)
    m.fused(at + "experts.down_proj", experts, width, m.hidden, width, m.damping)
    glu(m, at + "shared_expert.", width)


def mixture_gemma4(m, at):
    """Beside the MLP, each with norms of its own."""
    experts, width = m.config["num_experts"], m.config["moe_intermediate_size"]
    m.norm(at + "pre_feedforward_layernorm_2", m.hidden)
    for name in ("post_feedforward_layernorm_1", "post_feedforward_layernorm_2"):
        m.norm(at + name, m.hidden, mean=0.7)
    m.add(at + "router.scale", [m.hidden], 1.0, 0.5, kind="router scale")
    m.add(at + "router.per_expert_scale", [experts], 1.0, 0.5, kind="expert scale")
    m.matrix(at + "router.proj.weight", experts, m.hidden, ROUTER_GAIN * math.sqrt(m.hidden))  # what it reads is divided by the root
    m.fused(at + "experts.gate_up_proj", experts, 2 * width, m.hidden, m.hidden)
    m.fused(at + "experts.down_proj", experts, m.hidden, width, width)


BESIDE = ("gemma4",)  # mixtures beside an MLP
MIXTURES = {"gemma4": mixture_gemma4, "llama4": mixture_llama4, "qwen": mixture_qwen, "qwen_shared": mixture_qwen_shared,
            "qwen_fused": mixture_qwen_fused, "mixtral": mixture_mixtral, "minimax": mixture_minimax,
            "mistral4": mixture_mistral4, "ernie": mixture_ernie,
            "granite": mixture_granite, "gpt_oss": mixture_gpt_oss, "deepseek": mixture_sigmoid,
            "deepseek_plain": lambda m, at: mixture_sigmoid(m, at, correction=""),
            "exaone": lambda m, at: mixture_sigmoid(m, at, correction="mlp.e_score_correction_bias"),
            "afmoe": lambda m, at: mixture_sigmoid(m, at, "mlp.router.gate.weight", "mlp.expert_bias"),
            "hy_v3": lambda m, at: mixture_sigmoid(m, at, "mlp.router.gate.weight", "mlp.expert_bias", "mlp.shared_mlp."),
            "qwen_columns": mixture_qwen_columns, "qwen_rows": mixture_qwen_rows, "lfm2": mixture_lfm2, "hunyuan": mixture_hunyuan,
            "olmoe": lambda m, at: mixture_qwen(m, at, m.config["intermediate_size"])}
