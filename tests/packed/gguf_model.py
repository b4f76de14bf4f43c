# SPDX-License-Identifier: MIT
"""A checkpoint as a GGUF file, as llama.cpp's converter and llama-quantize would write it, and its exact twin.

    made = gguf_model(folder, "Q4_K_M")      # folder: of tools/make_model.py; the mix is a key of MIXES or a type of BLOCKS
    path = made.write(to)                    # TO/model.gguf, or the first of made.parts files
    made.write_twin(other)                   # a folder with float32 safetensors of the same numbers

The keys of the metadata and the tensors may be changed before either is written.
"""
import json
import pathlib

import numpy as np

from packed import gguf_file
from packed.gguf_blocks import BLOCKS, FALLBACKS
from packed.numbers import read_folder, store, write_safetensors

NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
OTHERS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 11, "Q4_K": 15, "Q5_K": 17,
              "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30, "BF16": 32, "MXFP4": 38}


def gguf_name(name):
    """model.layers.0.self_attn.q_proj.weight -> blk.0.attn_q.weight"""
    stem, kind = name.rsplit(".", 1)
    if stem in OTHERS:
        return f"{OTHERS[stem]}.{kind}"
    layer, inner = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[inner]}.{kind}"


# ---- which type a matrix gets -----------------------------------------------------------------------------------------

def mix(common, better, embeddings, also=("attn_v", "ffn_down")):
    """Values and down projections in a better type in half of the layers, as llama-quantize has it."""
    def choose(name, layer, layers):
        if layer is None:
            return embeddings
        return better if name in also and layer < (layers + 1) // 2 else common
    return choose


MIXES = {"Q4_K_M": mix("Q4_K", "Q6_K", "Q6_K"), "Q4_K_S": mix("Q4_K", "Q5_K", "Q4_K"), "Q5_K_M": mix("Q5_K", "Q6_K", "Q6_K"),
         "Q3_K_M": mix("Q3_K", "Q5_K", "Q6_K", ("attn_v", "ffn_down", "attn_output")),
         "mostly-Q2_K": mix("Q2_K", "Q3_K", "Q6_K"), "mostly-IQ4_XS": mix("IQ4_XS", "Q5_K", "Q6_K"),
         "UD": mix("IQ4_XS", "Q6_K", "Q8_0", ("attn_q", "attn_v", "ffn_down"))}


def choose_type(mix_name, name, layer, layers, columns):
    chosen = MIXES[mix_name](name, layer, layers) if mix_name in MIXES else mix_name
    return FALLBACKS[chosen] if columns % BLOCKS[chosen].size and chosen in FALLBACKS else chosen


# ---- rows of queries and keys -----------------------------------------------------------------------------------------

def permute(weight, heads):
    """Row 2i + p of a head is row p * half + i of the original."""
    return np.ascontiguousarray(weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape))


def unpermute(weight, heads):
    return np.ascontiguousarray(weight.reshape(heads, -1, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape))


# ---- metadata ---------------------------------------------------------------------------------------------------------

def rope_factors(config):
    """What llama.cpp's converter makes of Llama 3's scaling: a divisor for each frequency."""
    scaling, dimensions = config["rope_scaling"], config["head_dim"]
    frequencies = 1.0 / config["rope_theta"] ** (np.arange(0, dimensions, 2) / dimensions)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / scaling["factor"] + smooth)).astype(np.float32)


def model_keys(config, name, file_type):
    """Keys of the architecture; those that a llama file lacks are left to be derived."""
    a = ARCHITECTURES[config["model_type"]]
    keys = {"general.architecture": a, "general.type": "model", "general.name": name, "general.file_type": file_type,
            "general.quantization_version": 2,
            f"{a}.block_count": config["num_hidden_layers"], f"{a}.context_length": config["max_position_embeddings"],
            f"{a}.embedding_length": config["hidden_size"], f"{a}.feed_forward_length": config["intermediate_size"],
            f"{a}.attention.head_count": config["num_attention_heads"], f"{a}.attention.head_count_kv": config["num_key_value_heads"],
            f"{a}.rope.freq_base": float(config["rope_theta"]), f"{a}.attention.layer_norm_rms_epsilon": config["rms_norm_eps"]}
    if a == "llama":
        keys.update({f"{a}.vocab_size": config["vocab_size"], f"{a}.rope.dimension_count": config["head_dim"]})
    if a == "qwen3" or config["head_dim"] * config["num_attention_heads"] != config["hidden_size"]:
        keys.update({f"{a}.attention.key_length": config["head_dim"], f"{a}.attention.value_length": config["head_dim"]})
    if config.get("sliding_window"):
        keys[f"{a}.attention.sliding_window"] = config["sliding_window"]
    scaling = config.get("rope_scaling")
    if scaling and scaling["rope_type"] in ("linear", "yarn"):
        keys.update({f"{a}.rope.scaling.type": scaling["rope_type"], f"{a}.rope.scaling.factor": float(scaling["factor"])})
        if scaling["rope_type"] == "yarn":
            keys[f"{a}.rope.scaling.original_context_length"] = scaling["original_max_position_embeddings"]
    return keys


def tokenizer_keys(text, vocabulary, pre="qwen2"):
    """A byte-level tokenizer.json as tokenizer.ggml.*; ids that it does not have are unused tokens."""
    tokenizer = json.loads(text)
    tokens, kinds = [f"[PAD{number}]" for number in range(vocabulary)], [5] * vocabulary
    for token, number in tokenizer["model"]["vocab"].items():
        tokens[number], kinds[number] = token, 1
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]], kinds[added["id"]] = added["content"], 3 if added["special"] else 4
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    end = tokens.index("<|im_end|>") if "<|im_end|>" in tokens else vocabulary - 1
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.merges": merges, "tokenizer.ggml.eos_token_id": end,
            "tokenizer.ggml.padding_token_id": tokens.index("<|endoftext|>") if "<|endoftext|>" in tokens else end,
            "tokenizer.ggml.add_bos_token": False}


# ---- the model --------------------------------------------------------------------------------------------------------

class GgufModel:
    """What is to be written; nothing refers to the original folder but its tokenizer."""

    def __init__(self, tokenizer, config, parts):
        self.tokenizer, self.twin_config, self.parts = tokenizer, config, parts
        self.metadata = {}  # key -> value of Python, or gguf_file.Value
        self.tensors = {}   # GGUF name -> gguf_file.Tensor
        self.twin = {}      # name in the original -> float32

    def write(self, folder, stem="model", tokenizer_beside=False):
        """Returns the path to give to a job."""
        folder = pathlib.Path(folder)
        path = gguf_file.write(folder, stem, self.metadata, self.tensors, self.parts)
        if tokenizer_beside:
            (folder / "tokenizer.json").write_text(self.tokenizer, encoding="utf-8")
        return path

    def write_twin(self, folder):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(self.twin_config, indent=1))
        (folder / "tokenizer.json").write_text(self.tokenizer, encoding="utf-8")
        write_safetensors(folder / "model.safetensors", {name: store(values, "F32") for name, values in self.twin.items()})
        return folder


def gguf_model(folder, types="Q8_0", seed=1, random=False, parts=1, changes=None, pre="qwen2"):
    """types: a key of MIXES, or a type for all matrices. random: blocks of random codes and scales instead of the original's numbers
    rounded. changes: to the original's config.json (rope_scaling, sliding_window), in file and twin alike."""
    folder = pathlib.Path(folder)
    config = {**json.loads((folder / "config.json").read_text()), **(changes or {})}
    config["rms_norm_eps"] = float(np.float32(config["rms_norm_eps"]))
    twin_config = {**config, "torch_dtype": "float32"}
    made = GgufModel((folder / "tokenizer.json").read_text(encoding="utf-8"), twin_config, parts)
    made.metadata = {**model_keys(config, f"tiny {config['model_type']}", FILE_TYPES.get(types, 15)),
                     **tokenizer_keys(made.tokenizer, config["vocab_size"], pre)}
    rng = np.random.default_rng(seed)
    if (config.get("rope_scaling") or {}).get("rope_type") == "llama3":
        factors = rope_factors(config)
        made.tensors["rope_freqs.weight"] = gguf_file.Tensor("F32", factors.shape, factors.view(np.uint8))
    permuted = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]} \
        if made.metadata["general.architecture"] == "llama" else {}
    for name, stored in read_folder(folder).items():
        heads = permuted.get(name.split(".")[-2])
        values = permute(stored.values(), heads) if heads else stored.values()
        own = gguf_name(name)
        layer, short = (int(own.split(".")[1]), own.split(".")[2]) if own.startswith("blk.") else (None, own.split(".")[0])
        chosen = "F32" if values.ndim == 1 else choose_type(types, short, layer, config["num_hidden_layers"], values.shape[1])
        block = BLOCKS[chosen]
        if random and block.size > 1 and layer is not None:
            data = block.random(rng, values.shape, float(np.abs(values).max()))
        else:
            data = block.quantise(values) if values.ndim > 1 else values.view(np.uint8)
        meant = block.dequantise(data) if values.ndim > 1 else values
        made.tensors[own] = gguf_file.Tensor(chosen, values.shape, data)
        made.twin[name] = unpermute(meant, heads) if heads else meant
    return made
