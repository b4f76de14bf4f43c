#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/model/parameters.json: how many numbers the language models of tests/model/configs hold, by transformers.

The configs are those of published models, written from their published numbers (the factors of longrope stand as ones, and
gpt-oss without its packing: neither changes a count; qwen3.5-text is the defaults of the class in transformers). Counted are the tensors of the base model, which hidden states need:
no output head, no tower of another sense, no indexer (which takes all keys of the texts that are run). No weight is made: the models lie on torch's meta device.
"""
import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
from transformers import AutoConfig, AutoModel  # noqa: E402

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "model")


def count_parameters(path):
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(path))
    language = getattr(model, "language_model", model)
    return sum(tensor.numel() for name, tensor in language.state_dict().items()  # the numbers of xIELU that are not learned too
               if not name.startswith("lm_head.") and ".indexer." not in name)


def main():
    names = sorted(os.listdir(os.path.join(TESTS, "configs")))
    counts = {name.removesuffix(".json"): count_parameters(os.path.join(TESTS, "configs", name)) for name in names}
    with open(os.path.join(TESTS, "parameters.json"), "w") as file:
        json.dump({"made_by": "tools/count_parameters.py", "parameters": counts}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
