# SPDX-License-Identifier: MIT
"""The ledger of a run directory: what it says of problems and shards."""

import hashlib
import os
import pathlib
import sqlite3

import numpy as np

from .place import find_ledger

FORMATS = (1, 2, 3, 4)  # what is read here is alike in all of them
TOTALS_FORMAT = 3  # from here on sums are kept with each checkpoint
PAGE = 16384  # problems read at a time: between pages the run's commits go on
NAMES = 500  # ids asked for at once

DONE = ("SELECT ordinal, {} FROM problem WHERE state = 0 AND +checkpoint <= :until AND ordinal > :after"
        " ORDER BY ordinal LIMIT :page")
END = "SELECT ordinal FROM problem WHERE state = 0 AND +checkpoint <= :until ORDER BY ordinal {} LIMIT 1"
OUTCOMES = ("SELECT ordinal, id, state, reason FROM {} AS o WHERE state <> 0 AND +checkpoint <= :until AND ordinal > :after")
# An outcome that a retry replaced stands for its problem until one took its place that belongs to the moment read.
REPLACED = OUTCOMES.format("superseded") + (
    " AND NOT EXISTS(SELECT 1 FROM problem AS p WHERE p.ordinal = o.ordinal AND p.checkpoint <= :until)"
    " AND NOT EXISTS(SELECT 1 FROM superseded AS s WHERE s.ordinal = o.ordinal AND s.checkpoint > o.checkpoint"
    " AND s.checkpoint <= :until)")


class Ledger:
    """What a run directory's ledger had acknowledged when it was first read; `connections` keeps it open. What a checkpoint acknowledged never changes, so
    all that follows is of that moment, though the run goes on.

    Of a single problem nothing is kept: one is looked up in the ledger by its id or row, lists come page by page.

    Attributes: `folder`, `identity` (dict; empty before the run's first checkpoint), `finished`, `count` (done problems).
    """

    def __init__(self, folder, connections):
        self.folder = pathlib.Path(folder)
        self.path = self.folder / "ledger.sqlite"
        self._connections = connections
        if not find_ledger(self.folder)[0].is_file():  # a pipe would be waited for
            raise FileNotFoundError(f"{self.folder} is not a run directory: it has no ledger.sqlite")
        self._has_begun = True
        version = self._one("PRAGMA user_version")[0]
        if version == 0 and self._one("SELECT count(*) FROM sqlite_master")[0] == 0:
            self._has_begun = False  # its first launch has made the file and no table yet
        elif version not in FORMATS:
            raise ValueError(f"{self.path} has format {version}; this reader knows {FORMATS}")
        last = self._one("SELECT number, finished FROM checkpoint ORDER BY number DESC LIMIT 1")
        self.until = last[0] if last else -1
        self.finished = bool(last and last[1])
        self.identity = dict(self._rows("SELECT key, value FROM identity"))
        count = (self._one("SELECT done FROM total WHERE checkpoint = :until", until=self.until) if version >= TOTALS_FORMAT
                 else self._one("SELECT count(*) FROM problem WHERE state = 0 AND checkpoint <= :until", until=self.until))
        self.count = count[0] if count else 0
        self._stretches = None

    def _rows(self, sql, **values):
        if not self._has_begun:
            return []
        try:
            return self._connection().execute(sql, values).fetchall()
        except sqlite3.OperationalError:
            self._connections.close()  # a runner may have been killed since: a new connection takes its half transaction back
            return self._connection().execute(sql, values).fetchall()

    def _connection(self):
        return self._connections.get(self.path, lambda: _connect(*find_ledger(self.folder)))

    def _one(self, sql, **values):
        rows = self._rows(sql, **values)
        return rows[0] if rows else None

    def _pages(self, sql):
        """Pages of rows by their first column, the ordinal."""
        after, page = -1, [None] * PAGE
        while len(page) == PAGE:
            page = self._rows(sql(), until=self.until, after=after, page=PAGE)
            if page:
                after = page[-1][0]
                yield page

    def _damaged(self):
        return ValueError(f"{self.path} is damaged: it does not list the {self.count} problems that it counts")

    def done(self, columns):
        """The done problems by ordinal, in pages of rows (ordinal, `columns`)."""
        return self._pages(lambda: DONE.format(columns))

    def places(self):
        """Where the latents of the done problems are, by ordinal: uint32 [problems, 3] of shard, place in it, rows."""
        places = np.empty((self.count, 3), np.uint32)
        first = 0
        for page in self.done("shard, place, rows"):
            if first + len(page) > self.count:
                raise self._damaged()
            places[first : first + len(page)] = np.array(page, np.int64)[:, 1:]
            first += len(page)
        if first != self.count:
            raise self._damaged()
        return places

    def left_out(self):
        """Dicts of id, ordinal, state, reason of every problem that was not done, by ordinal."""
        def sql():
            retries = self._rows("SELECT 1 FROM sqlite_master WHERE name = 'superseded'")  # a run that goes on may get them
            return OUTCOMES.format("problem") + (f" UNION ALL {REPLACED}" if retries else "") + " ORDER BY ordinal LIMIT :page"

        return [{"id": text(name), "ordinal": ordinal, "reason": reason, "state": {1: "failed", 2: "skipped"}[state]}
                for page in self._pages(sql) for ordinal, name, state, reason in page]

    def find(self, name):
        """(ordinal, shard, place) of the done problem with this id, or None."""
        return self._one("SELECT ordinal, shard, place FROM problem WHERE id = :id AND state = 0 AND +checkpoint <= :until",
                         id=stored(name), until=self.until)

    def ordinals(self, names):
        """(id, ordinal) of the done problems among these ids."""
        for first in range(0, len(names), NAMES):
            wanted = {f"id{i}": stored(name) for i, name in enumerate(names[first : first + NAMES])}
            rows = self._rows(f"SELECT id, ordinal FROM problem WHERE id IN (:{', :'.join(wanted)}) AND state = 0 "
                              "AND +checkpoint <= :until", until=self.until, **wanted)
            for name, ordinal in rows:
                yield text(name), ordinal

    def place(self, position):
        """(shard, place) of the done problem at this position."""
        ordinals, positions = self._known_stretches()
        at = np.searchsorted(positions, position, "right") - 1
        found = self._one("SELECT shard, place FROM problem WHERE ordinal = :ordinal",
                          ordinal=int(ordinals[at] + position - positions[at]))
        if found is None:
            raise self._damaged()
        return found

    def position(self, ordinal):
        """Of a done problem among all, by ordinal."""
        ordinals, positions = self._known_stretches()
        at = np.searchsorted(ordinals, ordinal, "right") - 1
        return int(positions[at] + ordinal - ordinals[at])

    def _known_stretches(self):
        """Stretches of done problems without a gap: the first ordinal of each, and its position. Most runs have one, or one more
        than problems that were left out."""
        if self._stretches is None:
            first, last = (self._one(END.format(order), until=self.until) for order in ("", "DESC"))
            if first and last[0] - first[0] + 1 == self.count:
                self._stretches = np.array([first[0]]), np.array([0])
            else:
                self._stretches = self._find_stretches()
        return self._stretches

    def _find_stretches(self):
        ordinals, positions = [], []
        before, count = -2, 0
        for page in self.done("0"):
            here = np.array(page, np.int64)[:, 0]
            begins = np.flatnonzero(np.diff(here, prepend=before) != 1)
            ordinals.append(here[begins])
            positions.append(begins + count)
            before, count = here[-1], count + len(here)
        if count != self.count:
            raise self._damaged()
        return np.concatenate(ordinals or [np.zeros(0, int)]), np.concatenate(positions or [np.zeros(0, int)])

    def shard_path(self, number):
        name = self._one("SELECT name FROM shard WHERE number = :number", number=number)
        if name is None:
            raise ValueError(f"{self.path} is damaged: it has no shard {number}")
        return self.folder / "shards" / name[0]

    def check_shard(self, number):
        """ValueError when its file is not the one that was acknowledged."""
        path, digest = self.shard_path(number), hashlib.sha256()
        wanted, = self._one("SELECT sha256 FROM shard WHERE number = :number", number=number)
        with open(path, "rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
        if digest.hexdigest() != wanted:
            raise ValueError(f"{path} has changed since it was sealed (SHA-256): run 'strata verify'")

    def shards(self):
        """The numbers of the acknowledged shards, ascending."""
        return [number for number, in self._rows("SELECT number FROM shard WHERE +checkpoint <= :until ORDER BY number",
                                                 until=self.until)]

    def first_shard(self):
        """Its number, or None."""
        first = self._one("SELECT min(number) FROM shard WHERE +checkpoint <= :until", until=self.until)
        return first and first[0]


def _connect(path, is_copy):
    """A connection that reads. A runner that was killed within a transaction leaves its journal, which only a connection that
    may write takes back."""
    if is_copy:  # it is replaced and never written to; its file system may have no locks
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        return connection
    for mode in ("ro", "rw", "ro"):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=30, check_same_thread=False)
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if mode == "ro":
                return connection
        except sqlite3.OperationalError as error:
            connection.close()
            if mode == "rw" or not os.path.exists(f"{path}-journal") or not os.access(path, os.W_OK):
                raise OSError(f"{path} cannot be read: {error}; after a crash 'strata status' by its owner repairs that") from error
        else:
            connection.close()
    raise OSError(f"{path} cannot be read: a runner was killed and left a journal again meanwhile; try again")


def stored(name):
    """An id as the ledger has it."""
    return name.encode() if "\0" in name else name


def text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
