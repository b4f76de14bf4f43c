# SPDX-License-Identifier: MIT
"""Checkpoints of large models that hold their headers and, behind them, a hole: what a reader says before it reads weights.

    qwen3_8b(folder, "awq")     # or "plain": config.json, tokenizer.json, model.safetensors of 6 or 16 GB that take no disk
"""
import json
import math
import pathlib

from packed.methods import config_awq
from support import make_model

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD, INTERMEDIATE, VOCABULARY = 4096, 36, 32, 8, 128, 12288, 151936
GROUP = 128
BYTES = {"I32": 4, "F16": 2, "BF16": 2}
MATRICES = {"self_attn.q_proj": (HEADS * HEAD, HIDDEN), "self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
            "self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN), "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
            "mlp.gate_proj": (INTERMEDIATE, HIDDEN), "mlp.up_proj": (INTERMEDIATE, HIDDEN), "mlp.down_proj": (HIDDEN, INTERMEDIATE)}
NORMS = {"input_layernorm": HIDDEN, "post_attention_layernorm": HIDDEN, "self_attn.q_norm": HEAD, "self_attn.k_norm": HEAD}


def matrix(name, rows, columns, method):
    if method == "plain":
        return {f"{name}.weight": ("BF16", [rows, columns])}
    return {f"{name}.qweight": ("I32", [columns, rows // 8]), f"{name}.qzeros": ("I32", [columns // GROUP, rows // 8]),
            f"{name}.scales": ("F16", [columns // GROUP, rows])}


def tensors(method):
    table = {"model.embed_tokens.weight": ("BF16", [VOCABULARY, HIDDEN]), "lm_head.weight": ("BF16", [VOCABULARY, HIDDEN]),
             "model.norm.weight": ("BF16", [HIDDEN])}
    for layer in range(LAYERS):
        for name, (rows, columns) in MATRICES.items():
            table.update(matrix(f"model.layers.{layer}.{name}", rows, columns, method))
        table.update({f"model.layers.{layer}.{name}.weight": ("BF16", [size]) for name, size in NORMS.items()})
    return table


def write_hole(path, table):
    header, end = {}, 0
    for name, (dtype, shape) in table.items():
        start, end = end, end + math.prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def qwen3_8b(folder, method):
    folder, small = pathlib.Path(folder), make_model()
    folder.mkdir(parents=True)
    config = {**json.loads((small / "config.json").read_text()), "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
              "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "intermediate_size": INTERMEDIATE,
              "vocab_size": VOCABULARY, "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    if method == "awq":
        config["quantization_config"] = config_awq(group=GROUP)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes((small / "tokenizer.json").read_bytes())
    write_hole(folder / "model.safetensors", tensors(method))
    return folder
