# SPDX-License-Identifier: MIT
"""Which column names a row: the same usual names, tried alike, as pipeline/problems/import_id.c."""

from __future__ import annotations

import sqlite3
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional

from .errors import DATA, Failure, Fault
from .table import Table, folded

STANDARD = "problem_id"
USUAL = (STANDARD, "id", "idx", "index", "task_id", "question_id", "example_id", "sample_id", "problem_idx", "unique_id", "uuid", "uid",
         "guid", "qid", "_id", "key", "name")


def can_be(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value != "")


def candidates(row: Dict[str, Any]) -> Iterator[str]:
    """The row's own spellings of usual names, the most usual first."""
    for name in USUAL:
        for key, value in row.items():
            if folded(key) == name and can_be(value):
                yield key
                break


def fits(values: Iterable[Any]) -> bool:
    """Whether each is there, and there once. SQLite keeps them, on disk if need be."""
    kept = sqlite3.connect("")
    try:
        kept.execute("PRAGMA synchronous=OFF")
        kept.execute("CREATE TABLE ids (id NOT NULL UNIQUE)")
        kept.execute("BEGIN")
        for value in values:
            if not can_be(value):
                return False
            kept.execute("INSERT INTO ids VALUES (?)", (value,))
        return True
    except (sqlite3.IntegrityError, UnicodeEncodeError, OverflowError):
        return False
    finally:
        kept.close()


def choose(first: Optional[Dict[str, Any]], name: str, once: bool, column: Callable[[str], Iterable[Any]]) -> str:
    """The id of rows of which `first` is one; column(name) gives its values in all rows, unless they are read once."""
    if first is None:
        return STANDARD
    tried = ""
    for one in candidates(first):
        if one == STANDARD or once or fits(column(one)):
            return one
        tried = one
    names: List[str] = [key[:100] for key in first][:40]
    there = f"'{tried}' is not in every row and unique" if tried else "nor another usual name of an id"
    raise Failure(DATA, f"{name}: there is no '{STANDARD}'{', and ' if tried else ' '}{there}: name the column that is with --id, or number "
                        f"the rows with --id-from row; the first row has {', '.join(names) or 'none'}")


def of_table(first: Optional[Dict[str, Any]], table: Table) -> str:
    """Of the usual names the first that is a column of the table there is."""
    for one in candidates(first or {}):
        if folded(one) in table.known:
            return one
    return STANDARD


def first_row(rows: Iterable[Any]) -> Optional[Dict[str, Any]]:
    for _, row in rows:
        if not isinstance(row, Fault):
            return row
    return None
