"""A whole run directory: the shards its ledger acknowledges, in the order of the query."""

import collections
import json
import os
import pathlib
import sqlite3

import numpy as np

from .shard import Shard

LEDGER_FORMATS = (1, 2, 3, 4)  # what is read here is alike in all of them
PAGE = 65536  # problems read at a time: between pages the run's commits go on
OPEN_SHARDS = 16  # kept open at once; a shard's small arrays stay in memory with it


class Run:
    """The finished problems of a run directory, ordered as its query gave them.

    A run that is still going on may be opened: it shows what was sealed at that moment. Objects may be pickled and carried
    over a fork; every process opens its own files, when it first needs them.

    Attributes: `path`, `ids` (list of str), `layers` (hidden_states indices), `hidden`, `attributes` (model, fingerprints,
    pooling, template ... of the shards), `complete` (every problem of the query is done, failed or skipped), `left_out`
    (list of dicts: id, ordinal, state, reason).
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self._read_ledger()
        self._open = collections.OrderedDict()
        self._owner = os.getpid()
        self._place = {name: position for position, name in enumerate(self.ids)}
        if self._files:
            shard = self._shard(next(iter(sorted(self._files))))
            self.layers, self.hidden, self.attributes = shard.layers, shard.hidden, shard.attributes
        else:
            self.layers, self.hidden, self.attributes = [], 0, {}

    def _read_ledger(self):
        ledger, is_copy = _find_ledger(self.path)
        if not ledger.is_file():  # a pipe would be waited for
            raise FileNotFoundError(f"{self.path} is not a run directory: it has no ledger.sqlite")
        connection = _connect(ledger, is_copy)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in LEDGER_FORMATS:
                raise ValueError(f"{ledger} has format {version}; this reader knows {LEDGER_FORMATS}")
            # What a checkpoint acknowledged never changes: all that follows is of the moment of the last one.
            last = connection.execute("SELECT number, finished FROM checkpoint ORDER BY number DESC LIMIT 1").fetchone()
            until = last[0] if last else -1
            self.complete = bool(last and last[1])
            self._files = dict(connection.execute("SELECT number, name FROM shard WHERE checkpoint <= ?", (until,)))
            done, self.left_out = [], []
            for name, ordinal, state, reason, *where in _problems(connection, until):
                if state == 0:
                    done.append((name, *where))
                else:
                    self.left_out.append({"id": _text(name), "ordinal": ordinal, "reason": reason,
                                          "state": {1: "failed", 2: "skipped"}[state]})
        finally:
            connection.close()
        self.ids = [_text(row[0]) for row in done]
        self._where = np.array([row[1:] for row in done], np.int64).reshape(-1, 3)  # shard, place, rows

    def _shard(self, number):
        if self._owner != os.getpid():
            # Handles of the parent process are left alone: closing them here would confuse its HDF5.
            self._inherited, self._open, self._owner = self._open, collections.OrderedDict(), os.getpid()
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = Shard(self.path / "shards" / self._files[number])
        self._open[number] = shard
        if len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)[1].close()
        return shard

    def __getstate__(self):
        state = self.__dict__.copy()
        state["_open"] = collections.OrderedDict()
        state.pop("_inherited", None)
        return state

    def __len__(self):
        return len(self.ids)

    def __contains__(self, name):
        return name in self._place

    def __iter__(self):
        return (self[position] for position in range(len(self)))

    def position(self, key):
        """Where a problem stands in the run: from its id, or from a position (negative: from the end)."""
        if isinstance(key, str):
            if key not in self._place:
                raise KeyError(f"no finished problem '{key}' in {self.path}")
            return self._place[key]
        position = int(key)
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} problems")
        return position % len(self)

    def get(self, key, layers=None, dtype=np.float32):
        """One problem, by id or position: a dict with

        id, ordinal (row of the query), token_count, truncated, step_count, metadata (dict),
        rows     {"step", "token_start", "token_end", "byte_start", "byte_end"}: int64 arrays [rows]
        latents  {layer: [rows, hidden]} for `layers` (all that are stored when None), as `dtype`
        tokens   int32 [token_count], or None when the run did not keep them

        With pooling step_mean a row is a step; steps that truncation cut off have no row (compare rows["step"] with
        step_count).
        """
        shard, place, _ = self._where[self.position(key)]
        return self._shard(int(shard)).problem(int(place), layers, dtype)

    __getitem__ = get

    def metadata(self, key):
        """The kept columns of one problem, without reading its latents."""
        shard, place, _ = self._where[self.position(key)]
        return self._shard(int(shard)).metadata(int(place))

    @property
    def row_offset(self):
        """[problems + 1]: problem i has the rows [row_offset[i], row_offset[i + 1]) of `latents`."""
        return np.concatenate([[0], np.cumsum(self._where[:, 2])])

    def latents(self, layer, dtype=np.float32):
        """All rows of a layer in the order of the query, and `row_offset`: ([rows, hidden], [problems + 1]).

        The whole matrix is in memory: for more than that, iterate, or export to .npy and memory-map it.
        """
        if layer not in self.layers:
            raise KeyError(f"{self.path} has no hidden_states[{layer}]; it has {self.layers}")
        offset = self.row_offset
        out = np.empty((int(offset[-1]), self.hidden), dtype)
        for number in sorted(self._files):  # a shard at a time, each read once
            here = np.flatnonzero(self._where[:, 0] == number)
            if len(here) == 0:
                continue
            shard = self._shard(number)
            rows = shard.latents(layer, dtype=dtype)
            for position in here:
                first = shard.row_offset[self._where[position, 1]]
                out[offset[position] : offset[position + 1]] = rows[first : first + self._where[position, 2]]
        return out, offset

    def select(self, where):
        """Positions of the problems whose metadata dict satisfies `where`."""
        chosen = []
        for number in sorted(self._files):
            shard = self._shard(number)
            for position in np.flatnonzero(self._where[:, 0] == number):
                if where(shard.metadata(int(self._where[position, 1]))):
                    chosen.append(int(position))
        return sorted(chosen)

    def close(self):
        for shard in self._open.values():
            shard.close()
        self._open.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _place(folder):
    """What ledger.json of a folder says, or None."""
    try:
        place = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(place, dict) or place.get("format") != 1:
        raise ValueError(f"{folder / 'ledger.json'} is damaged or of a later version")
    return place


def _find_ledger(folder):
    """The ledger of a run, and whether it is a copy that nobody writes to. With run.ledger a launch has it in a folder of its
    own machine, and puts a copy into the run directory when it ends."""
    place, copy = _place(folder), folder / "ledger.sqlite"
    if place is None:
        return copy, False
    if not place["copied"]:
        there = pathlib.Path(place["path"])
        try:
            own = _place(there)
        except (OSError, ValueError):  # another machine's folder of this name is none of ours
            own = None
        if own and place["token"] in (own["token"], own["previous"]):
            return there / "ledger.sqlite", False
        if not copy.exists():
            raise FileNotFoundError(f"{folder} has no copy of its ledger yet: launch {place['launch']} had it on "
                                    f"{place['host']}, in {place['path']}; look from there")
    return copy, True


def _connect(ledger, is_copy=False):
    """A connection that reads. A runner that was killed within a transaction leaves its journal, which only a connection that
    may write takes back."""
    if is_copy:  # it is replaced and never written to; its file system may have no locks
        connection = sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        return connection
    for mode in ("ro", "rw", "ro"):
        connection = sqlite3.connect(f"{ledger.absolute().as_uri()}?mode={mode}", uri=True, timeout=30)
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if mode == "ro":
                return connection
        except sqlite3.OperationalError as error:
            connection.close()
            if mode == "rw" or not os.path.exists(f"{ledger}-journal") or not os.access(ledger, os.W_OK):
                raise OSError(f"{ledger} cannot be read: {error}; after a crash 'strata status' by its owner repairs that") from error
        else:
            connection.close()
    raise OSError(f"{ledger} cannot be read: a runner was killed and left a journal again meanwhile; try again")


OUTCOMES = "SELECT id, ordinal, state, reason, shard, place, rows FROM {} AS o WHERE ordinal > :after AND checkpoint <= :until"
# An outcome that a retry replaced stands for its problem until one took its place that belongs to the moment read.
REPLACED = OUTCOMES.format("superseded") + (
    " AND NOT EXISTS(SELECT 1 FROM problem AS p WHERE p.ordinal = o.ordinal AND p.checkpoint <= :until)"
    " AND NOT EXISTS(SELECT 1 FROM superseded AS s WHERE s.ordinal = o.ordinal AND s.checkpoint > o.checkpoint"
    " AND s.checkpoint <= :until)")


def _problems(connection, until):
    """(id, ordinal, state, reason, shard, place, rows) of every problem, by ordinal, page by page."""
    after = -1
    while True:
        retries = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'superseded'").fetchone()[0]
        sql = OUTCOMES.format("problem") + (f" UNION ALL {REPLACED}" if retries else "") + " ORDER BY ordinal LIMIT :page"
        rows = connection.execute(sql, {"after": after, "until": until, "page": PAGE}).fetchall()
        yield from rows
        if len(rows) < PAGE:
            return
        after = rows[-1][1]


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
