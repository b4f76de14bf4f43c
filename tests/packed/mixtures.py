# SPDX-License-Identifier: MIT
"""A mixture of experts, of numbers: a tiny Qwen3-MoE with the tokenizer of make_model's models."""
import json
import sys

import numpy as np

from packed.checkpoints import write_folder
from packed.numbers import store
from support import SOURCE, make_model

sys.path.insert(0, str(SOURCE / "tools"))
import family_tensors  # noqa: E402
import golden_variants  # noqa: E402

EXPERTS = 6


def mixture(folder, **changes):
    return written(folder, {**golden_variants.mixture_variants()["qwen3_moe"][0], "hidden_size": 64, "moe_intermediate_size": 96,
                            "head_dim": 16, "num_experts": EXPERTS, "num_experts_per_tok": 2, **changes})


def branches(folder):
    """Nemotron-H's: a state space, experts with a latent and without gates, attention, an MLP."""
    return written(folder, {**golden_variants.space_variants()["nemotron_h-latent"][0], "hidden_size": 64, "moe_intermediate_size": 96,
                            "moe_latent_size": 32, "moe_shared_expert_intermediate_size": 64, "intermediate_size": 64,
                            "mamba_num_heads": 8, "mlp_bias": False, "use_bias": False})


def together(folder, dtype):
    """Granite's, whose experts are one tensor a block, of that dtype."""
    return written(folder, golden_variants.mixture_variants()["granitemoe"][0], {"_linear.weight": dtype})


def written(folder, config, dtypes=()):
    base = make_model("packed", hidden=64, layers=2, intermediate=128)
    vocabulary = json.loads((base / "config.json").read_text())["vocab_size"]
    config = {**config, "dtype": "bfloat16", "vocab_size": vocabulary}
    tensors = {tensor.name: store(np.asarray(tensor.values(), np.float32).reshape(tensor.shape), dtype_of(tensor.name, dtypes))
               for tensor in family_tensors.list_tensors(config, 7)}
    return write_folder(folder, (base / "tokenizer.json").read_text(encoding="utf-8"), config, tensors, 2)


def dtype_of(name, dtypes):
    return next((dtype for end, dtype in dict(dtypes).items() if name.endswith(end)), "BF16")
