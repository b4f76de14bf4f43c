# SPDX-License-Identifier: MIT
"""PyTorch: a map-style Dataset over a run, and a collate function for its ragged rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .run import Run
from .shard import layer_label


class Items:
    """What an item of a data set is made of: which layers, as which numbers.

    layer     transformers' hidden_states index or "pre_norm"; a list gives {"latents": {layer: tensor}}; None: all that are stored
    dtype     of the tensors
    """

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        self.single = isinstance(layer, (int, str))
        self.layers = [layer] if self.single else list(layer) if layer is not None else None
        self.dtype = dtype

    def check(self, run: Run) -> None:
        """Once a run has a shard, it is known which layers it has."""
        self.layers = run.layers if self.layers is None else self.layers
        for wanted in self.layers:
            if wanted not in run.layers:
                raise KeyError(f"{run.path} has no {layer_label(wanted)}; it has {run.layers}")

    def make(self, problem: dict[str, Any]) -> dict[str, Any]:
        """{"id", "latents": tensor [rows, hidden], "step": tensor [rows], "metadata"}; "tokens" and "loss_mask" where they were kept."""
        latents = {layer: torch.as_tensor(problem["latents"][layer]).to(self.dtype) for layer in self.layers}
        item = {
            "id": problem["id"],
            "latents": latents[self.layers[0]] if self.single else latents,
            "step": torch.from_numpy(np.array(problem["rows"]["step"])),
            "metadata": problem["metadata"],
        }
        item.update({name: torch.from_numpy(problem[name]) for name in ("tokens", "loss_mask") if problem[name] is not None})
        return item


class StrataDataset(torch.utils.data.Dataset):
    """One item a problem: {"id", "latents": tensor [rows, hidden], "step": tensor [rows], "metadata"}, and "tokens" and "loss_mask"
    (tensors [tokens]) of a run that keeps them.

    path      a run directory, a set, or a list of its parts (see Run)
    layer     transformers' hidden_states index or "pre_norm"; a list gives {"latents": {layer: tensor}}; None: all that are stored
    dtype     of the tensors (default torch.float32)
    where     keeps the problems whose metadata dict satisfies it (looked at once, here)
    ids       keeps these problems, in this order (instead of `where`)

    Only the list of problems crosses to DataLoader's workers: each opens the shards it needs by itself, whether workers are
    forked or spawned (a lambda in `where` does not have to be pickled). Of a chosen problem 8 bytes are kept, of a run taken whole
    nothing. An item in the order of the query comes from a shard that is open; one at random may have to open its own.
    """

    def __init__(self, path, layer=None, dtype=torch.float32, where=None, ids=None):
        if where is not None and ids is not None:
            raise ValueError("give `where` or `ids`, not both")
        self.run = Run(path, bfloat16="torch")
        self.items = Items(layer, dtype)
        self.items.check(self.run)
        if ids is not None:
            self.positions = self.run.positions(list(ids))
        else:
            self.positions = self.run.select(where) if where is not None else range(len(self.run))
        self.run.close()

    def __len__(self):
        return len(self.positions)

    def __getitem__(self, index):
        return self.items.make(self.run.get(self.positions[index], self.items.layers))


def collate(items):
    """Pads the rows of a batch: latents [batch, most rows, hidden] (zeros beyond), mask [batch, most rows] True where a row
    is real, step [batch, most rows] (-1 beyond), and the lists id and metadata; of a run that keeps them tokens [batch, most tokens]
    (-1 beyond) and loss_mask (0 beyond)."""
    batch = {
        "id": [item["id"] for item in items],
        "metadata": [item["metadata"] for item in items],
        "latents": _pad_latents([item["latents"] for item in items]),
        "step": torch.nn.utils.rnn.pad_sequence([item["step"] for item in items], batch_first=True, padding_value=-1),
        "mask": torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(item["step"]), dtype=torch.bool) for item in items], batch_first=True
        ),
    }
    for name, beyond in (("tokens", -1), ("loss_mask", 0)):
        if name in items[0]:
            batch[name] = torch.nn.utils.rnn.pad_sequence([item[name] for item in items], batch_first=True, padding_value=beyond)
    return batch


def _pad_latents(latents):
    if isinstance(latents[0], dict):
        return {layer: _pad_latents([item[layer] for item in latents]) for layer in latents[0]}
    return torch.nn.utils.rnn.pad_sequence(latents, batch_first=True)
