# SPDX-License-Identifier: MIT
"""The quantised checkpoints that a reader is tested with, by name.

    for name in CASES:  made = case(name)       # checkpoints.Checkpoint
    for name in GGUF:   made = gguf_case(name)  # gguf_model.GgufModel

packed/refusals.py has those that a reader has to refuse.
"""
from packed.checkpoints import quantised
from packed.gguf_model import gguf_model
from support import make_model

# Models: what goes to support.make_model. Heads of 8 numbers: a hidden size of 64 is 8 heads, 4 of keys and values (32 rows).
SMALL = {"hidden": 64, "layers": 2, "intermediate": 128}
GROUPS = {"hidden": 128, "layers": 2, "intermediate": 256}  # whole groups of 128 in every row
RAGGED = {"hidden": 192, "layers": 2, "intermediate": 320}  # 192, 320 and 96 rows: the last block of 128 is cut short
ODD = {"hidden": 48, "layers": 2, "intermediate": 80}       # blocks of 64 run over the ends of rows
HALF, BRAIN = {"dtype": "float16"}, {"dtype": "bfloat16"}
OUT = "model.layers.1.self_attn.o_proj"
# Settings of GPTQ for single modules; the first pattern that begins a name counts.
DYNAMIC = {r"-:.*\.1\.self_attn\.o_proj": {}, r"+:.*\.0\.mlp\.down_proj": {"bits": 8}, r".*\.k_proj": {"group_size": 64},
           r".*\.v_proj": {"bits": 8, "group_size": -1, "desc_act": False}, r".*\.1\.mlp\..*": {"desc_act": True, "sym": True}}

CASES = {
    "awq": ("awq", {**GROUPS, **HALF}, {}),
    "awq-g32": ("awq", {**SMALL, **HALF}, {"group": 32}),
    "awq-g64-bf16": ("awq", {**SMALL, **BRAIN}, {"group": 64, "scales": "BF16"}),
    "awq-whole-rows": ("awq", {**SMALL, **HALF}, {"group": -1}),
    "awq-skipped": ("awq", {**SMALL, **HALF}, {"group": 32, "skip": [OUT]}),
    "awq-unnamed-plain": ("awq", {**SMALL, **HALF}, {"group": 32, "plain": ("model.layers.0.mlp.down_proj",)}),
    "awq-biases": ("awq", {**SMALL, **HALF, "family": "qwen2"}, {"group": 32}),
    "gptq": ("gptq", {**GROUPS, **HALF}, {}),
    "gptq-g32-asymmetric": ("gptq", {**SMALL, **HALF}, {"group": 32, "symmetric": False}),
    "gptq-g64-bf16": ("gptq", {**SMALL, **BRAIN}, {"group": 64, "scales": "BF16"}),
    "gptq-f32-scales": ("gptq", SMALL, {"group": 32, "scales": "F32", "symmetric": False}),
    "gptq-whole-rows": ("gptq", {**SMALL, **HALF}, {"group": -1, "symmetric": False}),
    "gptq-v2": ("gptq", {**SMALL, **HALF}, {"group": 32, "v2": True}),
    "gptq-v2-asymmetric": ("gptq", {**SMALL, **HALF}, {"group": 32, "v2": True, "symmetric": False}),
    "gptq-mislabelled": ("gptq", {**SMALL, **HALF}, {"group": 32, "mislabelled": True}),
    "gptq-no-format": ("gptq", {**SMALL, **HALF}, {"group": 32, "symmetric": False, "says_format": False}),
    "gptq-format-alias": ("gptq", {**SMALL, **HALF}, {"group": 32, "symmetric": False, "v2": True, "format_key": "format"}),
    "gptq-act-order": ("gptq", {**GROUPS, **HALF}, {"group": 32, "act_order": True, "symmetric": False}),
    "gptq-act-order-symmetric": ("gptq", {**SMALL, **HALF, "family": "llama"}, {"group": 32, "act_order": True}),
    "gptq-no-g-idx": ("gptq", {**SMALL, **HALF}, {"group": 32, "g_idx": False, "symmetric": False}),
    "gptq-8-bit": ("gptq", {**SMALL, **HALF}, {"bits": 8, "group": 32}),
    "gptq-8-bit-asymmetric": ("gptq", {**SMALL, **HALF}, {"bits": 8, "group": 64, "symmetric": False, "act_order": True}),
    "gptq-8-bit-v2": ("gptq", {**SMALL, **HALF}, {"bits": 8, "group": 32, "v2": True, "symmetric": False}),
    "gptq-8-bit-mislabelled": ("gptq", {**SMALL, **HALF}, {"bits": 8, "group": 32, "mislabelled": True}),
    "gptq-zero-biases": ("gptq", {**SMALL, **HALF}, {"group": 32, "zero_bias": True}),
    "gptq-biases": ("gptq", {**SMALL, **HALF, "family": "qwen2"}, {"group": 32}),
    "gptq-dynamic": ("gptq", {**SMALL, **HALF}, {"group": 32, "symmetric": False, "dynamic": DYNAMIC}),
    "gptq-dynamic-mislabelled": ("gptq", {**SMALL, **HALF}, {"group": 32, "mislabelled": True, "dynamic": {r".*\.down_proj": {"bits": 8}}}),
    "gptq-dynamic-groups": ("gptq", {**SMALL, **HALF}, {"bits": 8, "group": -1, "g_idx": False, "dynamic": {
        r"+:model\.layers\.1\..*": {"group_size": 32, "bits": 4}, r".*\.up_proj": {"group_size": 64}}}),
    "fp8": ("fp8", {**GROUPS, **BRAIN}, {}),
    "fp8-bf16-scales": ("fp8", {**GROUPS, **BRAIN}, {"scales": "BF16"}),
    "fp8-small": ("fp8", {**SMALL, **BRAIN}, {}),
    "fp8-ragged": ("fp8", {**RAGGED, **BRAIN}, {}),
    "fp8-ragged-small-blocks": ("fp8", {**RAGGED, **BRAIN}, {"block": (64, 128), "scales": "BF16"}),
    "fp8-ue8m0-bytes": ("fp8", {**RAGGED, **BRAIN}, {"scales": "F8_E8M0"}),
    "fp8-ue8m0": ("fp8", {**GROUPS, **BRAIN}, {"scales": "F8_E8M0", "e8m0_as": "F8_E8M0"}),
    "fp8-whole": ("fp8", {**SMALL, **BRAIN}, {"granularity": "tensor"}),
    "fp8-whole-shape-1": ("fp8", {**SMALL, **BRAIN}, {"granularity": "tensor", "one_number": (1,), "scales": "BF16"}),
    "fp8-rows": ("fp8", {**SMALL, **BRAIN}, {"granularity": "channel"}),
    "fp8-static": ("fp8", {**GROUPS, **BRAIN}, {"activation_scale": True, "skip": [OUT]}),
    "nf4": ("bnb4", {**SMALL, **BRAIN}, {}),
    "nf4-double": ("bnb4", {**GROUPS, **BRAIN}, {"double": True}),
    "nf4-odd": ("bnb4", {**ODD, **BRAIN}, {}),
    "nf4-double-odd": ("bnb4", {**ODD, **HALF}, {"double": True, "dtype": "float16"}),
    "nf4-stored-bf16": ("bnb4", {**SMALL, **BRAIN}, {"storage": "BF16", "double": True}),
    "nf4-stored-f16": ("bnb4", {**SMALL, **HALF}, {"storage": "F16"}),
    "nf4-stored-f32": ("bnb4", SMALL, {"storage": "F32", "dtype": "float32"}),
    "nf4-b128": ("bnb4", {**ODD, **BRAIN}, {"blocksize": 128, "double": True}),
    "nf4-skipped": ("bnb4", {**SMALL, **BRAIN}, {"skip": [OUT]}),
    "fp4": ("bnb4", {**SMALL, **BRAIN}, {"kind": "fp4"}),
    "fp4-double-odd": ("bnb4", {**ODD, **BRAIN, "family": "llama"}, {"kind": "fp4", "double": True}),
    "int8": ("int8", {**SMALL, **HALF}, {}),
    "int8-no-format": ("int8", {**ODD, **HALF, "family": "qwen2"}, {"weight_format": False}),
    "ct-float-rows": ("ct-float", {**SMALL, **BRAIN}, {}),
    "ct-float-rows-f32": ("ct-float", {**SMALL, **BRAIN}, {"scales": "F32"}),
    "ct-float-whole": ("ct-float", {**SMALL, **BRAIN}, {"strategy": "tensor", "input_scale": True}),
    "ct-float-blocks": ("ct-float", {**RAGGED, **BRAIN}, {"strategy": "block"}),
    "ct-float-f16": ("ct-float", {**SMALL, **HALF}, {"scales": "F16"}),
    "ct-int-rows": ("ct-int", {**SMALL, **BRAIN}, {}),
    "ct-int-rows-asymmetric": ("ct-int", {**SMALL, **BRAIN}, {"symmetric": False}),
    "ct-int-rows-f16": ("ct-int", {**SMALL, **HALF}, {"scales": "F16"}),
    "ct-int-whole": ("ct-int", {**SMALL, **BRAIN}, {"strategy": "tensor"}),
    "ct-packed": ("ct-packed", {**GROUPS, **BRAIN}, {}),
    "ct-packed-g32-asymmetric": ("ct-packed", {**SMALL, **BRAIN}, {"group": 32, "symmetric": False}),
    "ct-packed-rows": ("ct-packed", {**SMALL, **BRAIN}, {"strategy": "channel"}),
    "ct-packed-rows-asymmetric": ("ct-packed", {**SMALL, **HALF}, {"strategy": "channel", "symmetric": False, "scales": "F16"}),
    "ct-packed-f16": ("ct-packed", {**SMALL, **HALF}, {"group": 32, "scales": "F16"}),
    "ct-packed-f32": ("ct-packed", SMALL, {"group": 64, "scales": "F32", "symmetric": False}),
    "ct-packed-act-order": ("ct-packed", {**SMALL, **BRAIN}, {"group": 32, "act_order": True}),
    "ct-packed-8-bit": ("ct-packed", {**SMALL, **BRAIN}, {"bits": 8, "group": 32}),
    "ct-packed-8-bit-asymmetric": ("ct-packed", {**SMALL, **BRAIN}, {"bits": 8, "group": 32, "symmetric": False}),
    "ct-packed-skipped": ("ct-packed", {**SMALL, **BRAIN, "family": "mistral"}, {"group": 32, "skip": [OUT]}),
}


def case(name, **more):
    method, shape, options = CASES[name]
    return quantised(make_model("packed", **shape), method, **{**options, **more})


# ---- GGUF -------------------------------------------------------------------------------------------------------------

WIDE = {"hidden": 256, "layers": 2, "intermediate": 512}  # whole blocks of 256 in every row
MIXED = {"hidden": 256, "layers": 3, "intermediate": 320}  # down projections fall back
# Frequencies of 8 numbers are 1, 0.1, 0.01 and 0.001: with these none lies between the two wavelengths, so every factor is 1 or 8
# and the division is exact. LLAMA_3_BETWEEN has one between: there config.json and rope_freqs differ in the last bit.
LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 256}
LLAMA_3_BETWEEN = {**LLAMA_3, "original_max_position_embeddings": 128}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}

GGUF = {
    **{f"qwen3-{kind}": ({**SMALL, "family": "qwen3"}, {"types": kind})
       for kind in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "MXFP4")},
    **{f"llama-{kind}": ({**WIDE, "family": "llama"}, {"types": kind}) for kind in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")},
    **{f"random-{kind}": ({**WIDE, "family": "qwen3"}, {"types": kind, "random": True})
       for kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")},
    "llama-Q4_K_M": ({**WIDE, **BRAIN, "family": "llama"}, {"types": "Q4_K_M"}),
    "mistral-Q4_K_M-falls-back": ({**MIXED, **BRAIN, "family": "mistral"}, {"types": "Q4_K_M"}),
    "qwen2-Q4_K_S": ({**WIDE, **BRAIN, "family": "qwen2"}, {"types": "Q4_K_S"}),
    "qwen3-Q5_K_M": ({**WIDE, **BRAIN, "family": "qwen3"}, {"types": "Q5_K_M"}),
    "qwen3-Q3_K_M": ({**WIDE, **BRAIN, "family": "qwen3"}, {"types": "Q3_K_M"}),
    "qwen2-mostly-Q2_K": ({**WIDE, "family": "qwen2"}, {"types": "mostly-Q2_K"}),
    "llama-mostly-IQ4_XS": ({**WIDE, "family": "llama"}, {"types": "mostly-IQ4_XS"}),
    "llama-UD": ({**WIDE, "family": "llama"}, {"types": "UD"}),
    "qwen3-heads-of-16": ({**SMALL, "family": "qwen3", "head_dim": 16}, {"types": "Q8_0"}),
    "llama-parts": ({**SMALL, "family": "llama"}, {"types": "Q8_0", "parts": 3}),
    "llama-F16": ({**SMALL, "family": "llama"}, {"types": "F16"}),
    "llama-F32-parts": ({**SMALL, "family": "llama"}, {"types": "F32", "parts": 4}),
    "qwen2-BF16": ({**SMALL, **BRAIN, "family": "qwen2"}, {"types": "BF16"}),
    "mistral-F16-window": ({**SMALL, "family": "mistral"}, {"types": "F16", "changes": {"sliding_window": 16}}),
    "llama-rope-freqs": ({**SMALL, "family": "llama"}, {"types": "F16", "changes": {"rope_scaling": LLAMA_3}}),
    "llama-linear": ({**SMALL, "family": "llama"}, {"types": "F16", "changes": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}}),
    "qwen3-yarn": ({**SMALL, "family": "qwen3"}, {"types": "F16", "changes": {"rope_scaling": YARN}}),
    "mistral-window": ({**SMALL, "family": "mistral"}, {"types": "Q8_0", "changes": {"sliding_window": 16}}),
}
INEXACT = {"llama-rope-freqs-between": ({**SMALL, "family": "llama"}, {"types": "F16", "changes": {"rope_scaling": LLAMA_3_BETWEEN}})}


def gguf_case(name, **more):
    shape, options = {**GGUF, **INEXACT}[name]
    return gguf_model(make_model("packed", **shape), **{**options, **more})
