"""A run: the shards its ledgers acknowledge, in the order of the query."""

import functools
import os
import pathlib

import numpy as np

from .ledger import text
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

    Attributes: `path`, `layers` (hidden_states indices), `hidden`, `attributes` (model, fingerprints, pooling, template ... of
    the first shard), `complete` (every problem of the query is done, failed or skipped), `parts` (their number; 1 of a run that
    was not divided), `missing` (numbers of the parts that have not begun or are not among those given), `unfinished` (numbers of
    the parts that are there and not complete).

    Read when they are first asked for: `ids` (list of str, some 90 bytes a problem), `left_out` (list of dicts: id, ordinal,
    state, reason).

    Memory otherwise: 5 kB a part; 16 bytes a gap in the rows (a problem left out), once positions are asked for; all but the latents
    of up to 32 open shards. `latents` and `row_offset` have 8 bytes a problem beside the matrix, and while they are made about 40
    for each of the part at hand; `select` 8 a problem that it chose.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path) if isinstance(path, (str, os.PathLike)) else [pathlib.Path(part) for part in path]
        self._open, self._connections = Opened(OPEN_SHARDS), Opened(OPEN_LEDGERS)
        self._ledgers, self.parts, self.missing = open_parts(path, self._connections)
        begun = sorted(set(range(self.parts)) - set(self.missing))
        self.unfinished = [part for part, ledger in zip(begun, self._ledgers) if not ledger.finished]
        self.complete = self.parts > 0 and not self.missing and not self.unfinished
        # Of the first problem of each part, and one more.
        self._positions = np.concatenate([[0], np.cumsum([ledger.count for ledger in self._ledgers], dtype=np.int64)])
        self.layers, self.hidden, self.attributes = [], 0, {}
        for part, ledger in enumerate(self._ledgers):
            number = ledger.first_shard()
            if number is not None:
                shard = self._shard(part, number)
                self.layers, self.hidden, self.attributes = shard.layers, shard.hidden, shard.attributes
                break

    def _shard(self, part, number):
        return self._open.get((part, number), lambda: Shard(self._ledgers[part].shard_path(number)))

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name not in ("ids", "left_out")}

    def __len__(self):
        return int(self._positions[-1])

    def __contains__(self, name):
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self):
        return self.problems()

    def problems(self, layers=None, dtype=np.float32):
        """Every problem in the order of the query, as `get` gives it."""
        for part, ledger in enumerate(self._ledgers):
            for page in ledger.done("shard, place"):
                for _, shard, place in page:
                    yield self._shard(part, shard).problem(place, layers, dtype)

    @functools.cached_property
    def ids(self):
        return [text(row[1]) for ledger in self._ledgers for page in ledger.done("id") for row in page]

    @functools.cached_property
    def left_out(self):
        return [problem for ledger in self._ledgers for problem in ledger.left_out()]

    def _find(self, name):
        """(part, ordinal, shard, place) of the problem with this id, or None."""
        for part, ledger in enumerate(self._ledgers):
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
            return int(self._positions[part]) + self._ledgers[part].position(ordinal)
        position = int(key)
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} problems")
        return position % len(self)

    def positions(self, keys):
        """Of many problems at once, in the order of the keys: int64. Each part is asked for those that the parts before it lack."""
        found = {}
        missing = list(dict.fromkeys(key for key in keys if isinstance(key, str)))
        for first, ledger in zip(self._positions.tolist(), self._ledgers):
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
            shard, place = self._ledgers[part].place(position - int(self._positions[part]))
        return self._shard(part, shard), place

    def get(self, key, layers=None, dtype=np.float32):
        """One problem, by id or position: a dict with

        id, ordinal (row of the query), token_count, truncated, step_count, metadata (dict),
        rows     {"step", "token_start", "token_end", "byte_start", "byte_end"}: int64 arrays [rows]
        latents  {layer: [rows, hidden]} for `layers` (all that are stored when None), as `dtype`
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
        for part, ledger in enumerate(self._ledgers):
            np.cumsum(ledger.places()[:, 2], out=offset[self._positions[part] + 1 : self._positions[part + 1] + 1])
            offset[self._positions[part] + 1 : self._positions[part + 1] + 1] += offset[self._positions[part]]
        return offset

    def _by_shard(self, part):
        """(shard, positions in the part, places in the shard) of each shard of a part that has problems."""
        places = self._ledgers[part].places()
        order = np.argsort(places[:, 0], kind="stable")
        numbers, begins = np.unique(places[order, 0], return_index=True)
        for number, here in zip(numbers.tolist(), np.split(order, begins[1:])):
            yield self._shard(part, number), here, places[here, 1]

    def latents(self, layer, dtype=np.float32):
        """All rows of a layer in the order of the query, and `row_offset`: ([rows, hidden], [problems + 1]).

        The whole matrix is in memory: for more than that, iterate, or export to .npy and memory-map it.
        """
        if layer not in self.layers:
            raise KeyError(f"{self.path} has no {layer_label(layer)}; it has {self.layers}")
        offset = self.row_offset
        out = np.empty((int(offset[-1]), self.hidden), dtype)
        for part, first in enumerate(self._positions[:-1]):
            for shard, here, places in self._by_shard(part):  # each read once
                out[_spans(offset[here + first], offset[here + first + 1])] = shard.latents(layer, dtype=dtype)[
                    _spans(shard.row_offset[places], shard.row_offset[places + 1])]
        return out, offset

    def select(self, where):
        """Positions of the problems whose metadata dict satisfies `where`: int64, ascending."""
        chosen = [np.zeros(0, np.int64)]
        for part, first in enumerate(self._positions[:-1]):
            for shard, here, places in self._by_shard(part):
                wanted = [bool(where(shard.metadata(place))) for place in places.tolist()]
                chosen.append(here[wanted] + first)
        return np.sort(np.concatenate(chosen))

    def close(self):
        self._open.close()
        self._connections.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _spans(begins, ends):
    """All indices of the ranges [begins[i], ends[i]), one range after another."""
    lengths = ends - begins
    return np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
