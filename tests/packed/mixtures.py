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
    base = make_model("packed", hidden=64, layers=2, intermediate=128)
    config = {**golden_variants.mixture_variants()["qwen3_moe"][0], "hidden_size": 64, "moe_intermediate_size": 96, "head_dim": 16,
              "num_experts": EXPERTS, "num_experts_per_tok": 2, "dtype": "bfloat16",
              "vocab_size": json.loads((base / "config.json").read_text())["vocab_size"], **changes}
    tensors = {tensor.name: store(np.asarray(tensor.values(), np.float32).reshape(tensor.shape), "BF16")
               for tensor in family_tensors.list_tensors(config, 7)}
    return write_folder(folder, (base / "tokenizer.json").read_text(encoding="utf-8"), config, tensors, 2)
