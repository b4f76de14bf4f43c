# SPDX-License-Identifier: MIT
"""What goes where: one look at the metadata of every problem, before anything is written. Every shard is held against its hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Optional

import numpy as np

from strata_reader import Run
from strata_reader.arrow import Columns

from .errors import DATA, ExportError
from .splits import SplitRule

SPLITS_MOST = 1 << 16


class Plan:
    """`splits` maps names to positions of the run (int64, ascending), `empty` are those to which nothing
    fell, `columns` are the source's, `unsplit` counts the problems that lack
    the column of the split. Memory: 18 bytes a problem."""

    def __init__(self, run: Run, rule: SplitRule, columns: Optional[Columns]) -> None:
        for part, number in run.sealed():
            run.check(part, number)
        numbers: dict[str, int] = {}
        split_of = np.full(len(run), SPLITS_MOST - 1, np.uint16)
        for shard, positions, places in run.by_shard():
            for position, place in zip(positions.tolist(), places.tolist()):
                metadata = shard.metadata(place)
                if columns is not None:
                    columns.look(metadata)
                split_of[position] = numbers.setdefault(rule.choose(shard.ids[place], metadata), len(numbers))
                if len(numbers) == SPLITS_MOST - 1:
                    raise ExportError(DATA, f"the column '{rule.column}' has {len(numbers)} values: it is no split")
        self.columns = columns
        self.row_offset = run.row_offset
        # Fractions to which nothing fell are left out: datasets opens no split without rows.
        names = [*(name for name in rule.fractions if name in numbers), *(name for name in numbers if name not in rule.fractions)]
        self.splits = {name: np.flatnonzero(split_of == numbers[name]) for name in names}
        self.empty = [name for name in rule.fractions if name not in numbers]
        self.is_split = rule.by_source or bool(rule.fractions)
        self.unsplit = len(self.splits["unsplit"]) if rule.by_source and "unsplit" in self.splits else 0
        self.problems, self.rows = len(run), int(self.row_offset[-1])
        if sum(map(len, self.splits.values())) != self.problems:
            raise ExportError(DATA, f"{run.path}: its shards and its ledger do not list the same problems")

    def rows_of(self, positions: np.ndarray) -> np.ndarray:
        return self.row_offset[positions + 1] - self.row_offset[positions]


def model_of(run: Run, layers: list) -> dict[str, Any]:
    """How the numbers were made: what the run's attributes say, and each layer in words. Plain values."""
    shard = run.shard(*run.sealed()[0])
    found: dict[str, Any] = {shard.datasets[layer]: shard.layer_text(layer) for layer in layers}
    for name, value in sorted(run.attributes.items()):
        if name not in ("shard", "format_version", "layers", "layer_count"):
            found[name] = value.tolist() if hasattr(value, "tolist") else value
    return found


def moment_of(run: Run) -> str:
    """Which problems are read: an export goes on only with these. A run's finished problems only become more."""
    told = [[ledger.identity, ledger.count, ledger.finished] for ledger in run.ledgers]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
