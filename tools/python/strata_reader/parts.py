# SPDX-License-Identifier: MIT
"""Which run directories a path stands for: one, the parts of a set, or parts that lie anywhere."""

import json
import os
import pathlib
import re

from .ledger import Ledger
from .place import find_ledger

SET_FORMAT = 1
OWN = ("problems.sha256", "part", "part.rows")  # keys of which each part's identity has its own value


def open_parts(path, connections):
    """(the ledgers in the order of the query, how many parts there are, the numbers of those that have not begun)."""
    if not isinstance(path, (str, os.PathLike)):
        ledgers = [Ledger(folder, connections) for folder in path]
        count = _part(ledgers[0])[1] if ledgers else 0
    elif os.path.isfile(os.path.join(path, "set.json")):
        count = _count(pathlib.Path(path))
        ledgers = _of_set(pathlib.Path(path), count, connections)
    else:
        return [Ledger(path, connections)], 1, []
    parts = {}
    for ledger in ledgers:
        part, of = _part(ledger)
        if of != count:
            raise ValueError(f"{ledger.folder} is one of {of} parts, not of {count}")
        if part in parts:
            raise ValueError(f"{parts[part].folder} and {ledger.folder} are both part {part} of {of}")
        parts[part] = ledger
    ordered = [parts[part] for part in sorted(parts)]
    _check_together(ordered)
    return ordered, count, [part for part in range(count) if part not in parts]


def _count(folder):
    with open(folder / "set.json", encoding="utf-8") as file:
        told = json.load(file)
    if told.get("format") != SET_FORMAT or not isinstance(told.get("parts"), int):
        raise ValueError(f"{folder / 'set.json'} has format {told.get('format')}; this reader knows {SET_FORMAT}")
    return told["parts"]


def _of_set(folder, count, connections):
    """Those that have begun and can be read here."""
    names = sorted(name for name in os.listdir(folder) if re.fullmatch(rf"part-\d+-of-{count:04d}", name))
    ledgers = [Ledger(folder / name, connections) for name in names if _has_begun(folder / name)]
    return [ledger for ledger in ledgers if ledger.identity]


def _has_begun(folder):
    """A part at its very start has an empty file, or a ledger without an identity. Another machine's may have no copy yet."""
    try:
        ledger = find_ledger(folder)[0]
    except FileNotFoundError:
        return False
    return ledger.is_file() and ledger.stat().st_size > 0


def _part(ledger):
    found = re.fullmatch(r"(\d+)/(\d+)", ledger.identity.get("part", ""))
    if not found:
        raise ValueError(f"{ledger.folder} is no part of a set")
    return int(found[1]), int(found[2])


def _check_together(ledgers):
    """Parts of one job, each with rows of its own."""
    last = -1
    for ledger in ledgers:
        for key in (ledgers[0].identity.keys() | ledger.identity.keys()) - set(OWN):
            if ledger.identity.get(key) != ledgers[0].identity.get(key):
                raise ValueError(f"{ledger.folder} is a part of another job than {ledgers[0].folder}: {key} differs")
        rows = re.fullmatch(r"(\d+) to (\d+)", ledger.identity.get("part.rows", ""))
        if rows and int(rows[1]) <= last:
            raise ValueError(f"{ledger.folder} has rows of the part before it")
        last = int(rows[2]) if rows else last
