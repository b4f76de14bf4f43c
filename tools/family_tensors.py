# SPDX-License-Identifier: MIT
"""The tensors of a checkpoint of any family, from its config.json, under the names and in the shapes of published files.

make_model.list_tensors knows the families of which make_model.py makes whole models; list_tensors here knows those and more, for
goldens and parity. Numbers are chosen as there: attention that does not peak, biases well off zero, a residual stream of order 1.
"""
import dataclasses
import math

import make_model
import space_tensors as space
from gpt_tensors import GPT_LIKE, HEADS
from make_model import Tensor
from mixture_tensors import BESIDE, GLU, MIXTURES, first_of, glu

GEMMA4 = ("gemma4_text", "gemma4_unified_text")
LISTS = {**GPT_LIKE, **space.SPACES}  # of families with tables of their own
PLAIN = ("qwen3", "qwen2", "llama", "mistral")  # of make_model


def text_config(config):
    """The part of a config.json that describes the language model."""
    return config.get("text_config", config)


def is_mixture(config):
    """Whether tokens choose experts."""
    return first_of(text_config(config), "num_experts_per_tok", "moe_topk", "top_k_experts", "moe_k") is not None


def layer_count(config):
    if config["model_type"] == "nemotron_h":  # which reads no number
        return len(space.block_kinds(config))
    return first_of(text_config(config), "num_hidden_layers", "n_layer", "num_layers", "n_layers")


def hidden_size(config):
    return first_of(text_config(config), "hidden_size", "n_embd", "n_embed", "d_model")


@dataclasses.dataclass
class Row:
    """What a decoder layer in the manner of Llama has of its own."""
    norms: tuple = ("input_layernorm", "post_attention_layernorm")
    norms_after: tuple = ()  # those of them that follow a branch: around 0.5, so that the residual stream grows slowly
    one_plus: bool = False  # norms multiply by 1 + w
    layer_norm: bool = False  # norms have biases
    fused_qkv: bool = False
    gated_query: bool = False  # q_proj gives as many gates as queries
    gate: str = ""  # a product that gives them
    qkv_bias: bool = False
    out_bias: bool = False
    out: str = "o_proj"
    qk_norms: str = ""  # of "head": one a head; of "full": over all heads; of "each": a row of weights for each head; "apart": a tensor each
    qk_names: tuple = ("q_norm", "k_norm")
    mlp: str = "glu"  # or fused: gate and up in one; or plain: two products
    mlp_names: tuple = GLU
    mlp_bias: bool = False
    mixture: str = ""  # a key of MIXTURES
    final: str = "norm"


SANDWICH = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")


def find_row(family, c):
    bias, use_bias = c.get("attention_bias", False), c.get("use_bias", False)
    rows = {
        "gemma": Row(one_plus=True),
        "gemma2": Row(norms_after=AFTER, one_plus=True, norms=SANDWICH),
        "gemma3_text": Row(norms_after=AFTER, one_plus=True, norms=SANDWICH, qk_norms="head"),
        "gemma4_unified_text": Row(norms_after=AFTER, norms=SANDWICH, qk_norms="head"),
        "gemma4_text": Row(norms_after=AFTER, norms=SANDWICH, qk_norms="head", mixture="gemma4" if c.get("enable_moe_block") else ""),
        "phi3": Row(fused_qkv=True, mlp="fused"),
        "lfm2": Row(norms=("operator_norm", "ffn_norm"), qk_norms="head", qk_names=("q_layernorm", "k_layernorm"), out="out_proj",
                    mlp_names=("w1", "w3", "w2"), final="embedding_norm"),
        "olmo": Row(norms=(), qkv_bias=bias, out_bias=bias, final=""),
        "arcee": Row(qkv_bias=bias, out_bias=bias, mlp="plain", mlp_names=("up_proj", "down_proj"), mlp_bias=c.get("mlp_bias", False)),
        "helium": Row(qkv_bias=bias, mlp_bias=c.get("mlp_bias", False)),
        "nemotron": Row(one_plus=True, layer_norm=True, qkv_bias=bias, out_bias=bias, mlp="plain", mlp_names=("up_proj", "down_proj"),
                        mlp_bias=c.get("mlp_bias", False)),
        "olmo2": Row(norms=AFTER, norms_after=AFTER, qk_norms="full"),
        "olmo3": Row(norms=AFTER, norms_after=AFTER, qk_norms="full"),
        "granite": Row(qkv_bias=bias, out_bias=bias, mlp_bias=c.get("mlp_bias", False)),
        "smollm3": Row(),
        "mixtral": Row(mixture="mixtral"),
        "qwen3_moe": Row(qk_norms="head", mixture="qwen"),
        "qwen2_moe": Row(qkv_bias=c.get("qkv_bias", True), mixture="qwen_shared"),
        "olmoe": Row(qk_norms="full", mixture="olmoe"),
        "granitemoe": Row(mixture="granite"),
        "gpt_oss": Row(qkv_bias=True, out_bias=True, mixture="gpt_oss"),
        "llama4_text": Row(qkv_bias=bias, out_bias=bias, mixture="llama4"),
        "ministral3": Row(),
        "qwen2": Row(qkv_bias=True),
        "qwen2_5_vl_text": Row(qkv_bias=True),
        "qwen3_vl_text": Row(qk_norms="head"),
        "mistral": Row(),
        "glm": Row(qkv_bias=c.get("attention_bias", True), mlp="fused"),
        "cwm": Row(),
        "vaultgemma": Row(one_plus=True, norms=("input_layernorm", "pre_feedforward_layernorm")),
        "nanochat": Row(norms=(), mlp="plain", mlp_names=("fc1", "fc2"), final=""),
        "youtu": Row(qkv_bias=bias, out_bias=bias),
        "lfm2_moe": Row(norms=("operator_norm", "ffn_norm"), qk_norms="head", qk_names=("q_layernorm", "k_layernorm"), out="out_proj",
                        mlp_names=("w1", "w3", "w2"), final="embedding_norm", mixture="lfm2"),
        "qwen3_vl_moe_text": Row(qk_norms="head", mixture="qwen_rows" if c.get("has_fused_experts") else "qwen_columns"),
        "dots1": Row(qk_norms="head", mixture="deepseek"),
        "exaone_moe": Row(qk_norms="head", mixture="exaone"),
        "solar_open": Row(qkv_bias=bias, mixture="deepseek"),
        "hy_v3": Row(qk_norms="head", mixture="hy_v3"),
        "hunyuan_v1_moe": Row(qk_norms="head", qk_names=("query_layernorm", "key_layernorm"), mixture="hunyuan"),
        "afmoe": Row(norms=("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"),
                     norms_after=("post_attention_layernorm", "post_mlp_layernorm"), qkv_bias=bias, out_bias=bias, qk_norms="head",
                     gate="gate_proj", mixture="afmoe"),
        "flex_olmo": Row(norms=AFTER, norms_after=AFTER, qk_norms="full", mixture="olmoe"),
        "glm4": Row(norms_after=("post_self_attn_layernorm", "post_mlp_layernorm"),
                    norms=("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"),
                    qkv_bias=c.get("attention_bias", True), mlp="fused"),
        "seed_oss": Row(qkv_bias=c.get("attention_bias", True), out_bias=c.get("attention_out_bias", False),
                        mlp_bias=c.get("mlp_bias", False)),
        "ernie4_5": Row(qkv_bias=use_bias, out_bias=use_bias, mlp_bias=use_bias),
        "exaone4": Row(norms=AFTER, norms_after=AFTER, qk_norms="head"),
        "hunyuan_v1_dense": Row(qk_norms="head", qk_names=("query_layernorm", "key_layernorm")),
        "cohere": Row(norms=("input_layernorm",), qk_norms="each" if c.get("use_qk_norm") else ""),
        "cohere2": Row(norms=("input_layernorm",)),
        "starcoder2": Row(layer_norm=True, qkv_bias=c.get("use_bias", True), out_bias=c.get("use_bias", True), mlp="plain",
                          mlp_names=("c_fc", "c_proj"), mlp_bias=c.get("use_bias", True)),
        "phi": Row(norms=("input_layernorm",), layer_norm=True, qkv_bias=True, out_bias=True, out="dense", mlp="plain",
                   mlp_names=("fc1", "fc2"), mlp_bias=True, final="final_layernorm"),
        "stablelm": Row(norms=("input_layernorm",) if c.get("use_parallel_residual") else Row.norms, layer_norm=True,
                        qkv_bias=c.get("use_qkv_bias", False), qk_norms="apart" if c.get("qk_layernorm") else "",
                        qk_names=("q_layernorm.norms", "k_layernorm.norms")),
        "apertus": Row(norms=("attention_layernorm", "feedforward_layernorm"), qk_norms="head", mlp="plain",
                       mlp_names=("up_proj", "down_proj")),
        "qwen3_5_text": Row(one_plus=True, qk_norms="head", gated_query=True),
        "qwen3_5_moe_text": Row(one_plus=True, qk_norms="head", gated_query=True,
                                mixture="qwen_fused" if c.get("has_fused_experts") else "qwen_shared"),
        "qwen3_next": Row(one_plus=True, qk_norms="head", gated_query=True, qkv_bias=c.get("attention_bias", False),
                          out_bias=c.get("attention_bias", False), mixture="qwen_shared"),
        "deepseek_v3": Row(qkv_bias=bias, out_bias=bias, mixture="deepseek"),
        "deepseek_v32": Row(qkv_bias=bias, out_bias=bias, mixture="deepseek"),
        "glm_moe_dsa": Row(qkv_bias=bias, out_bias=bias, mixture="deepseek"),
        "minimax_m2": Row(qk_norms="full", mixture="minimax"),
        "mistral4": Row(qkv_bias=bias, out_bias=bias, mixture="mistral4"),
        "ernie4_5_moe": Row(qkv_bias=use_bias, out_bias=use_bias, mlp_bias=use_bias, mixture="ernie"),
        "phimoe": Row(layer_norm=True, qkv_bias=bias, out_bias=bias, mixture="mixtral"),
        "deepseek_v2": Row(qkv_bias=bias, out_bias=bias, mixture="deepseek_plain"),
        "glm4_moe_lite": Row(qkv_bias=bias, out_bias=bias, mixture="deepseek"),
        "glm4_moe": Row(qkv_bias=bias, qk_norms="head" if c.get("use_qk_norm") else "", mixture="deepseek"),
    }
    return rows[family]


class Maker:
    """Collects the tensors of one checkpoint."""

    def __init__(self, config, seed, one_plus=False):
        self.config, self.seed, self.tensors = config, seed, []
        self.mean = 0.0 if one_plus else 1.0
        self.hidden = hidden_size(config)
        self.layers = layer_count(config)
        self.heads = first_of(config, "num_attention_heads", "n_head", "num_heads", "n_heads")
        self.kv_heads = first_of(config, "num_key_value_heads", default=self.heads)
        self.head_dim = first_of(config, "head_dim", default=self.hidden // self.heads)
        self.damping = min(1.0, 3.0 / math.sqrt(self.layers))

    def add(self, name, shape, mean, amplitude, gap=0.0, kind=""):
        self.tensors.append(Tensor(name, shape, mean, amplitude, gap, self.seed))
        self.tensors[-1].kind = kind

    def matrix(self, name, rows, columns, gain=1.0):
        self.add(name, [rows, columns], 0.0, gain * math.sqrt(3.0 / columns))

    def linear(self, name, rows, columns, gain=1.0, bias=False):
        self.matrix(name + ".weight", rows, columns, gain)
        if bias:
            self.bias(name + ".bias", rows)

    def norm(self, name, size, bias=False, mean=None):
        self.add(name + ".weight", size if isinstance(size, list) else [size], self.mean if mean is None else mean, 0.25, kind="norm")
        if bias:
            self.bias(name + ".bias", size)

    def bias(self, name, *shape):
        self.add(name, list(shape), 0.0, 0.3, 0.2, "bias")

    def fused(self, name, experts, rows, columns, fan_in, gain=1.0):
        self.add(name, [experts, rows, columns], 0.0, gain * math.sqrt(3.0 / fan_in))

    def embedding(self, name, rows, columns, amplitude=1.2):
        self.add(name, [rows, columns], 0.0, amplitude)


# ---- mixtures of experts --------------------------------------------------------------------------------------------

def is_sparse(c, layer):
    if c.get("moe_layers") is not None:
        return layer in c["moe_layers"]
    if "moe_layer_start_index" in c:
        end = c["moe_layer_end_index"]
        return (layer + 1) % c["moe_layer_interval"] == 0 and c["moe_layer_start_index"] <= layer <= (layer if end < 0 else end)
    if c.get("mlp_layer_types"):
        return c["mlp_layer_types"][layer] == "sparse"
    step = first_of(c, "decoder_sparse_step", "interleave_moe_layer_step", default=1)
    return (layer >= first_of(c, "first_k_dense_replace", "num_dense_layers", default=0) and layer not in (c.get("mlp_only_layers") or [])
            and (layer + 1) % step == 0)


# ---- layers in the manner of Llama ----------------------------------------------------------------------------------

def attention_shape(m, family, layer):
    """Heads of keys and values, their size, and whether values are the keys before their norm."""
    c = m.config
    if family in GEMMA4 and c["layer_types"][layer] == "full_attention":
        own = c.get("attention_k_eq_v", False)
        return (c["num_global_key_value_heads"] if own else m.kv_heads), c.get("global_head_dim", 512), own
    return m.kv_heads, m.head_dim, False


def takes_keys(c, layer):
    """Whether the layer has the keys and values of an earlier one (Gemma 4)."""
    return layer >= layer_count(c) - c.get("num_kv_shared_layers", 0)


def attention(m, at, family, row, layer):
    kv_heads, head_dim, shared = attention_shape(m, family, layer)
    q, kv = m.heads * head_dim, kv_heads * head_dim
    at += "self_attn."
    if row.fused_qkv:
        m.matrix(at + "qkv_proj.weight", q + 2 * kv, m.hidden, 0.8)
    else:
        m.linear(at + "q_proj", q * (2 if row.gated_query else 1), m.hidden, 0.65, row.qkv_bias)
        if not takes_keys(m.config, layer):
            m.linear(at + "k_proj", kv, m.hidden, 0.65, row.qkv_bias)
        if not shared and not takes_keys(m.config, layer):
            m.linear(at + "v_proj", kv, m.hidden, 1.0, row.qkv_bias)
    m.linear(at + row.out, m.hidden, q, m.damping, row.out_bias)
    if row.gate:
        m.matrix(at + row.gate + ".weight", q, m.hidden)
    if row.qk_norms == "apart":
        for name, count in zip(row.qk_names, (m.heads, kv_heads)):
            for head in range(count):
                m.norm(at + f"{name}.{head}", head_dim)
    elif row.qk_norms:
        sizes = {"head": (head_dim, head_dim), "full": (q, kv), "each": ([m.heads, head_dim], [kv_heads, head_dim])}[row.qk_norms]
        for name, size in list(zip(row.qk_names, sizes))[:1 if takes_keys(m.config, layer) else 2]:
            m.norm(at + name, size, mean=0.45 if family in GEMMA4 else None)  # its scores are not scaled
    if family == "gpt_oss":
        m.add(at + "sinks", [m.heads], 0.5, 1.0, kind="sinks")


def latent_attention(m, at, row, layer):
    c = m.config
    unrotated, rotated, value, latent = (c[key] for key in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
    queries = m.heads * (unrotated + rotated)
    at += "self_attn."
    if c.get("q_lora_rank"):
        m.linear(at + "q_a_proj", c["q_lora_rank"], m.hidden, 1.0, row.qkv_bias)
        m.norm(at + "q_a_layernorm", c["q_lora_rank"])
        m.matrix(at + "q_b_proj.weight", queries, c["q_lora_rank"], 0.65)
    else:
        m.matrix(at + "q_proj.weight", queries, m.hidden, 0.65)
    m.linear(at + "kv_a_proj_with_mqa", latent + rotated, m.hidden, 0.65, row.qkv_bias)
    m.norm(at + "kv_a_layernorm", latent)
    m.matrix(at + "kv_b_proj.weight", m.heads * (unrotated + value), latent, 0.8)
    m.linear(at + row.out, m.hidden, m.heads * value, m.damping, row.out_bias)
    if "index_topk" in c and layer not in shared_indexers(c):
        heads, width = c["index_n_heads"], c["index_head_dim"]
        m.matrix(at + "indexer.wq_b.weight", heads * width, c["q_lora_rank"])
        m.matrix(at + "indexer.wk.weight", width, m.hidden)
        m.norm(at + "indexer.k_norm", width, True)
        m.matrix(at + "indexer.weights_proj.weight", heads, m.hidden)
        for tensor in m.tensors[-5:]:
            tensor.kind = ""  # it moves nothing as long as it takes all keys


def shared_indexers(c):
    """The layers that take the keys which an earlier layer's indexer has chosen (GLM-5)."""
    return {layer for layer, kind in enumerate(c.get("indexer_types") or []) if kind == "shared"}


def delta_net(m, at, joined):
    """`joined`: as Qwen3-Next has it, one product for queries, keys, values and z, and one for b and a."""
    c = m.config
    keys = c["linear_num_key_heads"] * c["linear_key_head_dim"]
    values = c["linear_num_value_heads"] * c["linear_value_head_dim"]
    heads = c["linear_num_value_heads"]
    at += "linear_attn."
    if joined:
        m.matrix(at + "in_proj_qkvz.weight", 2 * keys + 2 * values, m.hidden)
        m.matrix(at + "in_proj_ba.weight", 2 * heads, m.hidden)
    else:
        for name, rows in (("qkv", 2 * keys + values), ("z", values), ("b", heads), ("a", heads)):
            m.matrix(at + f"in_proj_{name}.weight", rows, m.hidden)
    kernel = c["linear_conv_kernel_dim"]
    m.add(at + "conv1d.weight", [2 * keys + values, 1, kernel], 0.0, math.sqrt(3.0 / kernel))
    m.bias(at + "dt_bias", heads)
    m.add(at + "A_log", [heads], 0.0, 1.0, kind="decay")
    m.norm(at + "norm", c["linear_value_head_dim"], mean=1.0)
    m.matrix(at + "out_proj.weight", m.hidden, values, 0.5 * m.damping)  # the norm before makes errors of small numbers large


def short_convolution(m, at):
    at += "conv."
    bias = m.config.get("conv_bias", False)
    m.linear(at + "in_proj", 3 * m.hidden, m.hidden, 0.8, bias)  # three of its numbers are multiplied
    m.add(at + "conv.weight", [m.hidden, 1, m.config["conv_L_cache"]], 0.0, math.sqrt(3.0 / m.config["conv_L_cache"]))
    if bias:
        m.bias(at + "conv.bias", m.hidden)
    m.linear(at + "out_proj", m.hidden, m.hidden, m.damping, bias)


def attends(c, layer):
    return c["layer_types"][layer] == "full_attention" if c.get("layer_types") else layer in c["full_attn_idxs"]


def lfm2_width(c):
    width = c.get("block_ff_dim", c.get("intermediate_size"))
    if not c.get("block_auto_adjust_ff_dim", True):
        return width
    unit = c.get("block_multiple_of", 256)
    return -(-int(c.get("block_ffn_dim_multiplier", 1.0) * (2 * width // 3)) // unit) * unit


def feed_forward(m, at, family, row, layer):
    if row.mixture and is_sparse(m.config, layer):
        MIXTURES[row.mixture](m, at)
        if row.mixture not in BESIDE:
            return
    width = lfm2_width(m.config) if family == "lfm2" else first_of(m.config, "intermediate_size_mlp", "intermediate_size")
    if m.config.get("use_double_wide_mlp") and takes_keys(m.config, layer):
        width *= 2
    at += "feed_forward." if family.startswith("lfm2") or family == "llama4_text" else "mlp."
    if row.mlp == "fused":
        m.matrix(at + "gate_up_proj.weight", 2 * width, m.hidden)
        m.matrix(at + "down_proj.weight", m.hidden, width, m.damping)
    elif row.mlp == "plain":
        m.linear(at + row.mlp_names[0], width, m.hidden, 1.0, row.mlp_bias)
        m.linear(at + row.mlp_names[1], m.hidden, width, m.damping, row.mlp_bias)
        if family == "apertus":
            for name, mean in (("alpha_p", 0.8), ("alpha_n", 0.6)):
                m.add(at + f"act_fn.{name}", [1], mean, 0.2, kind="activation")
            m.add(at + "act_fn.beta", [], 0.5, 0.0)
            m.add(at + "act_fn.eps", [], -1e-6, 0.0)
    else:
        glu(m, at, width, names=row.mlp_names, bias=row.mlp_bias)


def layer_input(m, at):
    """Gemma 4's per-layer embeddings, where it has some."""
    width = m.config.get("hidden_size_per_layer_input")
    if width:
        m.matrix(at + "per_layer_input_gate.weight", width, m.hidden)
        m.matrix(at + "per_layer_projection.weight", m.hidden, width, m.damping)
        m.norm(at + "post_per_layer_input_norm", m.hidden, mean=0.5)


def embedding_amplitude(family, c):
    """Of order 1 after what the family multiplies embeddings with."""
    if "gemma" in family:
        return 1.2 / math.sqrt(hidden_size(c))
    return 1.2 / (math.sqrt(hidden_size(c)) if c.get("mup_enabled") else c.get("embedding_multiplier", 1.0))


def list_llama_like(m, family, row, prefix):
    c = m.config
    m.embedding(prefix + "embed_tokens.weight", c["vocab_size"], m.hidden, embedding_amplitude(family, c))
    for layer in range(m.layers):
        at = f"{prefix}layers.{layer}."
        for name in row.norms:
            after = name in row.norms_after
            m.norm(at + name, m.hidden, row.layer_norm, m.mean - 0.5 if after else None)
        if (c.get("layer_types") or [""] * m.layers)[layer] == "linear_attention":
            delta_net(m, at, joined=family == "qwen3_next")
        elif "kv_lora_rank" in c:
            latent_attention(m, at, row, layer)
        elif family.startswith("lfm2") and not attends(c, layer):
            short_convolution(m, at)
        else:
            attention(m, at, family, row, layer)
        feed_forward(m, at, family, row, layer)
        if family in GEMMA4:
            layer_input(m, at)
            m.add(at + "layer_scalar", [1], 0.9, 0.2, kind="scalar")
    if row.final:
        m.norm(prefix + row.final, m.hidden, row.layer_norm)
    if family == "gemma4_text" and c["hidden_size_per_layer_input"]:
        inputs = m.layers * c["hidden_size_per_layer_input"]
        amplitude = 1.2 / math.sqrt(c["hidden_size_per_layer_input"])
        m.embedding(prefix + "embed_tokens_per_layer.weight", c["vocab_size_per_layer_input"], inputs, amplitude)
        m.matrix(prefix + "per_layer_model_projection.weight", inputs, m.hidden)
        m.norm(prefix + "per_layer_projection_norm", c["hidden_size_per_layer_input"])


# ---- models with towers beside --------------------------------------------------------------------------------------

# model_type -> (model_type of the text where it is not written, the prefix of its tensors, some tensors of the tower)
NESTED = {
    "gemma3": ("gemma3_text", "model.language_model.", [("model.multi_modal_projector.mm_input_projection_weight", "vt"),
                                                        ("model.multi_modal_projector.mm_soft_emb_norm.weight", "v")]),
    "gemma4": ("gemma4_text", "model.language_model.", [("model.embed_vision.embedding_projection.weight", "tv")]),
    "gemma4_unified": ("gemma4_unified_text", "model.language_model.", [("model.vision_embedder.patch_dense.bias", "v")]),
    "mistral3": ("mistral", "model.language_model.", [("model.multi_modal_projector.norm.weight", "v"),
                                                      ("model.vision_tower.ln_pre.weight", "v")]),
    "llama4": ("llama4_text", "language_model.model.", [("multi_modal_projector.linear_1.weight", "tv"),
                                                        ("vision_model.layernorm_pre.weight", "v")]),
    "qwen2_5_vl": ("qwen2_5_vl_text", "model.", [("visual.merger.ln_q.weight", "v")]),
    "qwen3_vl": ("qwen3_vl_text", "model.language_model.", [("model.visual.blocks.0.norm1.weight", "v"),
                                                            ("model.visual.blocks.0.norm1.bias", "v")]),
    "qwen3_vl_moe": ("qwen3_vl_moe_text", "model.language_model.", [("model.visual.blocks.0.norm1.weight", "v")]),
    "qwen3_5": ("qwen3_5_text", "model.language_model.", [("model.visual.blocks.0.norm1.weight", "v"),
                                                          ("model.visual.blocks.0.norm1.bias", "v")]),
    "qwen3_5_moe": ("qwen3_5_moe_text", "model.language_model.", [("model.visual.blocks.0.norm1.weight", "v")]),
}


# Keys that published files of a family leave out, as transformers fills them in.
DEFAULTS = {"gemma3_text": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208}}


def fill_in(family, inner):
    inner = {**DEFAULTS.get(family, {}), **inner}
    if inner.get("layer_types") is None and "full_attention_interval" in inner:
        inner["layer_types"] = ["linear_attention" if (layer + 1) % inner["full_attention_interval"] else "full_attention"
                                for layer in range(inner["num_hidden_layers"])]
    return inner


def list_tensors(config, seed, head=None):
    """As make_model.list_tensors, of every family; the marks of a tensor's kind say what a neutral value would hide."""
    family, inner, prefix, tower = config["model_type"], text_config(config), "model.", []
    if family in PLAIN:
        return mark(make_model.list_tensors(config, seed, head))
    if family in NESTED:
        family, prefix, tower = NESTED[family]
        family = inner.get("model_type", family)
    inner = fill_in(family, inner)
    row = None if family in LISTS else find_row(family, inner)
    m = Maker(inner, seed, row is not None and row.one_plus)
    if row is None:
        LISTS[family](m, family)
    else:
        list_llama_like(m, family, row, prefix)
    for name, sides in tower:
        sizes = {"v": first_of(config["vision_config"], "hidden_size", "mm_embed_dim"), "t": m.hidden}
        m.add(name, [sizes[side] for side in sides], 1.0, 0.25)
    if head if head is not None else not first_of(config, "tie_word_embeddings", default=inner.get("tie_word_embeddings", False)):
        m.matrix(HEADS.get(family, "lm_head.weight"), inner["vocab_size"], m.hidden)
    return m.tensors


def mark(tensors):
    for tensor in tensors:
        tensor.kind = "norm" if tensor.name.endswith("norm.weight") else "bias" if tensor.name.endswith(".bias") else ""
    return tensors
