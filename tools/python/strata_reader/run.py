# SPDX-License-Identifier: MIT
"""A run: the shards its ledgers acknowledge, in the order of the query."""

from __future__ import annotations

import functools
import os
import pathlib

import numpy as np

from .ledger import text
from .numbers import BITS, UNSAID, as_form, check_form
from .opened import Opened
from .parts import open_parts
from .shard import Shard, layer_label

OPEN_SHARDS = 32  # kept open at once, with their small arrays in memory: more than a window of the plan fills by default
OPEN_LEDGERS = 32


class Run:
    """The finished problems of a run, ordered as its query gave them.

    `path` is a run directory, a set (the folder of a job in parts), or a list of run directories: parts of one set, in any order,
    wherever they lie. Parts are read as the one run that they are together. A run that is still going on may be opened: it shows
    what was sealed at that moment. Objects may be pickled and carried over a fork; every process opens its own files, when it
    first needs them.

    `bfloat16` tells what becomes of such latents unless a dtype is asked for: "float32" (exact), "ml_dtypes" (an array of
    ml_dtypes.bfloat16) or "torch" (a tensor of torch.bfloat16).

    Attributes: `path` (absolute), `layers` (hidden_states indices, and "pre_norm" for the last block's output before the final norm),
    `hidden`, `dtype` (as stored), `attributes` (model, fingerprints, pooling, template ... of the first shard), `complete` (every
    problem of the query is done, failed or skipped), `parts` (their number; 1 of a run that was not divided), `missing` (numbers of
    the parts that have not begun or are not among those given), `unfinished` (numbers of the parts that are there and not complete),
    `ledgers` (of the parts that are there, in their order).

    Read when they are first asked for: `ids` (list of str, some 90 bytes a problem), `left_out` (list of dicts: id, ordinal,
    state, reason).

    Memory otherwise: 5 kB a part; 16 bytes a gap in the rows (a problem left out), once positions are asked for; all but the latents
    of up to 32 open shards. `latents` and `row_offset` have 8 bytes a problem beside the matrix, and while they are made about 40
    for each of the part at hand; `select` 8 a problem that it chose.
    """

    def __init__(self, path, bfloat16="float32"):
        # Absolute: a worker that opens its files later may have another working directory.
        self.path = _absolute(path) if isinstance(path, (str, os.PathLike)) else [_absolute(part) for part in path]
        self.bfloat16 = check_form(bfloat16)
        self._open, self._connections = Opened(OPEN_SHARDS), Opened(OPEN_LEDGERS)
        self._look()

    def _look(self):
        """Takes the moment that is read."""
        self.ledgers, self.parts, self.missing = open_parts(self.path, self._connections)
        self._begun = sorted(set(range(self.parts)) - set(self.missing))
        self.unfinished = [part for part, ledger in zip(self._begun, self.ledgers) if not ledger.finished]
        self.complete = self.parts > 0 and not self.missing and not self.unfinished
        # Of the first problem of each part, and one more.
        self._positions = np.concatenate([[0], np.cumsum([ledger.count for ledger in self.ledgers], dtype=np.int64)])
        self.layers, self.hidden, self.dtype, self.attributes = [], 0, None, {}
        for part, ledger in enumerate(self.ledgers):
            number = ledger.first_shard()
            if number is not None:
                shard = self._shard(part, number)
                self.layers, self.hidden, self.dtype, self.attributes = shard.layers, shard.hidden, shard.dtype, shard.attributes
                break

    def refresh(self) -> int:
        """Sees what was sealed since; returns how many problems came. Positions may have moved: a run finishes problems in
        another order than that of the query, in which they stand here. Ids, and what was read, stay as they are."""
        before = len(self)
        self._connections.close()  # a ledger may have another place since the launch ended
        self._look()
        for name in ("ids", "left_out"):
            self.__dict__.pop(name, None)
        return len(self) - before

    def sealed(self) -> list[tuple[int, int]]:
        """(part, number) of every shard, by part and number: what is read here lies in these."""
        return [(part, number) for part, ledger in zip(self._begun, self.ledgers) for number in ledger.shards()]

    def shard(self, part: int, number: int) -> Shard:
        """A shard that `sealed` names. It is closed when many others were opened since: ask again rather than keep it."""
        return self._shard(self._begun.index(part), number)

    def check(self, part: int, number: int) -> None:
        """Reads the file of a shard that `sealed` names: ValueError when it is not the one that the ledger acknowledged (SHA-256)."""
        self.ledgers[self._begun.index(part)].check_shard(number)

    def _shard(self, part, number):
        ledger = self.ledgers[part]
        return self._open.get((ledger.folder, number), lambda: Shard(ledger.shard_path(number), self.bfloat16))

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name not in ("ids", "left_out")}

    def __len__(self):
        return int(self._positions[-1])

    def __contains__(self, name):
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self):
        return self.problems()

    def problems(self, layers=None, dtype=UNSAID):
        """Every problem in the order of the query, as `get` gives it."""
        for part, ledger in enumerate(self.ledgers):
            for page in ledger.done("shard, place"):
                for _, shard, place in page:
                    yield self._shard(part, shard).problem(place, layers, dtype)

    @functools.cached_property
    def ids(self):
        return [text(row[1]) for ledger in self.ledgers for page in ledger.done("id") for row in page]

    @functools.cached_property
    def left_out(self):
        return [problem for ledger in self.ledgers for problem in ledger.left_out()]

    def _find(self, name):
        """(part, ordinal, shard, place) of the problem with this id, or None."""
        for part, ledger in enumerate(self.ledgers):
            found = ledger.find(name)
            if found:
                return part, *found
        return None

    def _found(self, name):
        found = self._find(name)
        if found is None:
            raise KeyError(f"no finished problem '{name}' in {self.path}")
        return found

    def position(self, key):
        """Where a problem stands in the run: from its id, or from a position (negative: from the end)."""
        if isinstance(key, str):
            part, ordinal, _, _ = self._found(key)
            return int(self._positions[part]) + self.ledgers[part].position(ordinal)
        position = int(key)
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} problems")
        return position % len(self)

    def positions(self, keys):
        """Of many problems at once, in the order of the keys: int64. Each part is asked for those that the parts before it lack."""
        found = {}
        missing = list(dict.fromkeys(key for key in keys if isinstance(key, str)))
        for first, ledger in zip(self._positions.tolist(), self.ledgers):
            if not missing:
                break
            found.update((name, first + ledger.position(ordinal)) for name, ordinal in ledger.ordinals(missing))
            missing = [name for name in missing if name not in found]
        if missing:
            raise KeyError(f"no finished problem '{missing[0]}' in {self.path}")
        return np.array([found[key] if isinstance(key, str) else self.position(key) for key in keys], np.int64)

    def _where(self, key):
        """The shard of a problem, and its place in it."""
        if isinstance(key, str):
            part, _, shard, place = self._found(key)
        else:
            position = self.position(key)
            part = int(np.searchsorted(self._positions, position, "right")) - 1
            shard, place = self.ledgers[part].place(position - int(self._positions[part]))
        return self._shard(part, shard), place

    def get(self, key, layers=None, dtype=UNSAID):
        """One problem, by id or position: a dict with

        id, ordinal (row of the query), token_count, truncated, step_count, metadata (dict),
        rows     {"step", "token_start", "token_end", "byte_start", "byte_end"}: int64 arrays [rows]
        latents  {layer: [rows, hidden]} for `layers` (all that are stored when None), as `dtype`: a numpy type, or None for as
                 they are stored. Unless it is given they are float32, and bfloat16 what Run's argument of this name says
        tokens   int32 [token_count], or None when the run did not keep them
        loss_mask  uint8 [token_count], 1 where a step owns the token, or None likewise

        With pooling step_mean and last_of_step a row is a step; steps that truncation cut off have no row (compare rows["step"] with
        step_count).
        """
        shard, place = self._where(key)
        return shard.problem(place, layers, dtype)

    __getitem__ = get

    def metadata(self, key):
        """The kept columns of one problem, without reading its latents."""
        shard, place = self._where(key)
        return shard.metadata(place)

    @property
    def row_offset(self):
        """[problems + 1]: problem i has the rows [row_offset[i], row_offset[i + 1]) of `latents`."""
        offset = np.zeros(len(self) + 1, np.int64)
        for part, ledger in enumerate(self.ledgers):
            np.cumsum(ledger.places()[:, 2], out=offset[self._positions[part] + 1 : self._positions[part + 1] + 1])
            offset[self._positions[part] + 1 : self._positions[part + 1] + 1] += offset[self._positions[part]]
        return offset

    def by_shard(self):
        """(shard, positions, places in the shard) of each shard that has problems, each shard once."""
        for part, first in enumerate(self._positions[:-1]):
            places = self.ledgers[part].places()
            order = np.argsort(places[:, 0], kind="stable")
            numbers, begins = np.unique(places[order, 0], return_index=True)
            for number, here in zip(numbers.tolist(), np.split(order, begins[1:])):
                yield self._shard(part, number), here + first, places[here, 1]

    def latents(self, layer, dtype=UNSAID):
        """All rows of a layer in the order of the query, and `row_offset`: ([rows, hidden], [problems + 1]).

        The whole matrix is in memory: for more than that, iterate, or export to .npy and memory-map it.
        """
        if layer not in self.layers:
            raise KeyError(f"{self.path} has no {layer_label(layer)}; it has {self.layers}")
        offset = self.row_offset
        unsaid, are_bfloat16 = dtype is None or dtype is UNSAID, self.dtype == "bfloat16"
        as_bits = unsaid and are_bfloat16 and self.bfloat16 != "float32"
        numbers = dtype if not unsaid else "float32" if are_bfloat16 or dtype is UNSAID else self.dtype
        out = np.empty((int(offset[-1]), self.hidden), np.uint16 if as_bits else numbers)
        for shard, here, places in self.by_shard():
            out[_spans(offset[here], offset[here + 1])] = shard.latents(layer, dtype=BITS if as_bits else numbers)[
                _spans(shard.row_offset[places], shard.row_offset[places + 1])]
        return as_form(out, self.bfloat16) if as_bits else out, offset

    def select(self, where):
        """Positions of the problems whose metadata dict satisfies `where`: int64, ascending."""
        chosen = [np.zeros(0, np.int64)]
        for shard, here, places in self.by_shard():
            chosen.append(here[[bool(where(shard.metadata(place))) for place in places.tolist()]])
        return np.sort(np.concatenate(chosen))

    def to_datasets(self, layers=None, per="row", numbers=None, folder=None):
        """A datasets.Dataset (its library is needed): id, ordinal, the source's columns, and a column of fixed-size lists for each of
        `layers` (hs_035, ...), as float16 where that is stored, otherwise as float32.

        `per` is "row", one for each row of the latents (a step, or with pooling tokens a token, with its token_id and loss_mask), or
        "problem", with lists of rows, token_ids and loss_mask. The numbers go into Arrow files in `folder`, which must not exist (a
        temporary one, gone when the process ends, if it is None), and are mapped from there, not held in memory.
        """
        from .arrow import to_datasets

        return to_datasets(self, layers, per, numbers, folder)

    def close(self):
        self._open.close()
        self._connections.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _absolute(path):
    return pathlib.Path(os.path.abspath(path))


def _spans(begins, ends):
    """All indices of the ranges [begins[i], ends[i]), one range after another."""
    lengths = ends - begins
    return np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
