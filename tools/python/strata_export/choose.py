# SPDX-License-Identifier: MIT
"""Which layers, numbers and sizes the words of the command line mean."""

from __future__ import annotations

import re
from typing import Any, Optional

from strata_reader import Run

from .errors import USAGE, ExportError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30, "TI": 1 << 40}

# What transformers' families call their blocks and the final norm, and TransformerLens' hooks.
BLOCK = re.compile(r"(?:[^,0-9]*\.)?(?:layers|h|blocks)\.([0-9]{1,9})|blocks\.([0-9]{1,9})\.hook_resid_(post|pre)")
NORM = re.compile(r"(?:[^,0-9]*\.)?(?:norm|ln_f|final_layer_norm|norm_f)")


def parse_size(text: str) -> int:
    """5GB, 500MB, 2GiB, or bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(|[KMGT]I?)B?", text.strip(), re.I)
    size = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    if size <= 0:
        raise ExportError(USAGE, f"--max-shard-size: '{text}' is not a size, as 5GB, 500MB or 2GiB are")
    return size


def blocks_of(run: Run) -> int:
    return int(run.attributes["model_layers"])


def _layer(word: str, blocks: int) -> Any:
    """hidden_states' index of a word, or "pre_norm": an index (negative: from the end), or the name of a module or hook, as
    `strata export` takes them."""
    if re.fullmatch(r"-?[0-9]+", word):
        index = int(word)
        return blocks + 1 + index if -blocks <= index + 1 <= 0 else index
    if word == "pre_norm":
        return word
    if NORM.fullmatch(word):
        return blocks
    match = BLOCK.fullmatch(word)
    if match is None:
        raise ExportError(USAGE, f"--layers: '{word}' is no layer: they are whole numbers, pre_norm, or names such as model.layers.3 and "
                                 "blocks.3.hook_resid_post, with commas between, or 'all'")
    block = int(match[1] or match[2])
    if block >= blocks:
        raise ExportError(USAGE, f"--layers: there is no block {block}: the model has {blocks}, counted from 0")
    if match[3] == "pre":
        return block
    return "pre_norm" if block == blocks - 1 else block + 1


def choose_layers(run: Run, text: Optional[str]) -> list:
    """Those that are stored and asked for, in the order asked for."""
    if text is None or text == "all":
        return list(run.layers)
    blocks, chosen = blocks_of(run), []
    for word in text.split(","):
        layer = _layer(word, blocks)
        if layer not in run.layers:
            there = ", ".join(map(str, run.layers))
            raise ExportError(USAGE, f"--layers: hidden_states[{layer}] is not in this run; it has {there}"
                              if layer != "pre_norm" else f"--layers: pre_norm is not in this run; it has {there}")
        if layer in chosen:
            raise ExportError(USAGE, f"--layers: {layer} is named twice")
        chosen.append(layer)
    return chosen
