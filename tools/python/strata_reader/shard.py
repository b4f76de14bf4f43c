# SPDX-License-Identifier: MIT
"""One shard of a run, or one file of `strata export --format hdf5`: they share their layout."""

import json
import os
import re

import h5py
import numpy as np

from .numbers import UNSAID, read_latents

ROW_FIELDS = ("step", "token_start", "token_end", "byte_start", "byte_end")
PRE_NORM = "pre_norm"
_DATASET = re.compile(r"hs_(\d{3,})(_pre_norm)?")


def layer_label(layer):
    return layer if isinstance(layer, str) else f"hidden_states[{layer}]"


def _is_bfloat16(dataset):
    name = dataset.attrs.get("dtype", b"")
    return (name.decode() if isinstance(name, bytes) else str(name)) == "bfloat16"


def _layers(group):
    """{layer: name of its dataset}, by hidden_states' index, and "pre_norm" behind them."""
    found = {name: _DATASET.fullmatch(name) for name in group}
    indices = {int(match[1]): name for name, match in found.items() if match and not match[2]}
    before_norm = {PRE_NORM: name for name, match in found.items() if match and match[2]}
    return {**{layer: indices[layer] for layer in sorted(indices)}, **before_norm}


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _refuse_outside(group, path):
    """A shard lies in its file. One from a folder that others can write to might name any file of its reader's instead."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{path}: {group.name.rstrip('/')}/{name} is a link, which is not followed")
        item = group[name]
        if isinstance(item, h5py.Group):
            _refuse_outside(item, path)
        elif isinstance(item, h5py.Dataset):
            plist = item.id.get_create_plist()
            if plist.get_layout() == h5py.h5d.VIRTUAL or plist.get_external_count() > 0:
                raise ValueError(f"{path}: {item.name} lies in other files, which are not read")


class Shard:
    """The problems of one file. Everything but the latents is in memory after opening.

    `problems` counts them; `ids`, `ordinal` (row of the query), `row_offset` [problems + 1], `token_count`, `truncated`,
    `step_count` have one entry each; `rows` maps "step", "token_start", "token_end", "byte_start", "byte_end" to arrays
    over all rows. `layers` are transformers' hidden_states indices, and "pre_norm" where the last block's output before the
    final norm was kept; `datasets` names each one's dataset. `has_tokens` and `has_loss_mask` tell what was kept of the tokens.
    """

    def __init__(self, path, bfloat16="float32"):
        self.path = os.fspath(path)
        self._bfloat16 = bfloat16
        if not os.path.isfile(self.path):  # a pipe would be waited for
            raise FileNotFoundError(f"{self.path} is not there, or is no regular file")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise OSError(f"{self.path}: {error}") from error
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def _read(self):
        file = self._file
        _refuse_outside(file, self.path)
        problems = file["problems"]
        self.attributes = {name: _text(value) for name, value in file.attrs.items()}
        self.datasets = _layers(file["latents"])
        self.layers = list(self.datasets)
        # Looked up once: a name and an attribute take longer than a problem's rows.
        self._latents = {layer: file["latents"][name] for layer, name in self.datasets.items()}
        first = self._latents[self.layers[0]]
        self._are_bfloat16 = _is_bfloat16(first)
        self.dtype = "bfloat16" if self._are_bfloat16 else first.dtype.name
        self.hidden = self._latents[self.layers[0]].shape[1]
        self.ordinal = problems["ordinal"][()].astype(np.int64)
        self.row_offset = problems["row_offset"][()].astype(np.int64)
        self.token_count = problems["token_count"][()].astype(np.int64)
        self.truncated = problems["truncated"][()].astype(bool)
        self.step_count = problems["step_count"][()].astype(np.int64)
        self.problems = len(self.ordinal)
        self.ids = [part.decode("utf-8") for part in self._cut("id")]
        self._metadata = self._cut("metadata")
        self.rows = {name: file["rows"][name][()].astype(np.int64) for name in ROW_FIELDS}
        self.has_tokens = "tokens" in file
        self.has_loss_mask = "tokens/loss_mask" in file
        self._token_offset = file["tokens/offset"][()].astype(np.int64) if self.has_tokens else None

    def _cut(self, name):
        """The byte strings of /problems/NAME, cut by its offsets."""
        data = self._file["problems"][name][()].tobytes()
        offset = self._file["problems"][name + "_offset"][()].astype(np.int64)
        return [data[offset[i] : offset[i + 1]] for i in range(self.problems)]

    def metadata(self, index):
        """The columns of the source that were kept with problem `index`, as a dict."""
        return json.loads(self._metadata[index])

    def layer_text(self, layer):
        """Which layer this is, in words: "-2 = hidden_states[35] of 0..36 = ..."."""
        return _text(self._latents[layer].attrs["layer"])

    def latents(self, layer, first=0, last=None, dtype=UNSAID):
        """Rows [first, last) of hidden_states[layer]: [rows, hidden]. For `dtype` see Run.get."""
        if layer not in self.layers:
            raise KeyError(f"{self.path} has no {layer_label(layer)}; it has {self.layers}")
        last = int(self.row_offset[-1]) if last is None else last
        return read_latents(self._latents[layer], int(first), int(last), dtype, self._are_bfloat16, self._bfloat16)

    def tokens(self, index):
        """The token ids of problem `index`, or None when the run did not keep them."""
        if not self.has_tokens:
            return None
        return self._file["tokens/ids"][self._token_offset[index] : self._token_offset[index + 1]]

    def loss_mask(self, index):
        """1 for each token of problem `index` that a step owns, else 0, or None when the run did not keep it: [tokens] uint8."""
        if not self.has_loss_mask:
            return None
        return self._file["tokens/loss_mask"][self._token_offset[index] : self._token_offset[index + 1]]

    def problem(self, index, layers=None, dtype=UNSAID):
        """Everything about problem `index`: see Run.__getitem__."""
        first, last = int(self.row_offset[index]), int(self.row_offset[index + 1])
        return {
            "id": self.ids[index],
            "ordinal": int(self.ordinal[index]),
            "token_count": int(self.token_count[index]),
            "truncated": bool(self.truncated[index]),
            "step_count": int(self.step_count[index]),
            "metadata": self.metadata(index),
            "rows": {name: values[first:last] for name, values in self.rows.items()},
            "latents": {layer: self.latents(layer, first, last, dtype) for layer in (self.layers if layers is None else layers)},
            "tokens": self.tokens(index),
            "loss_mask": self.loss_mask(index),
        }

    def close(self):
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
