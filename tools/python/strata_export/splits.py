# SPDX-License-Identifier: MIT
"""Which split a problem belongs to: the rules of `strata export`, to the same splits."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Optional

from .errors import DATA, USAGE, ExportError

NAME = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,63}")
MOST = 32  # fractions


class SplitRule:
    """`text` is None (one split, `single`), 'source' (the column says it), or fractions as in train=0.9,validation=0.1."""

    def __init__(self, text: Optional[str], column: str, seed: int, single: str) -> None:
        self.column, self.seed, self.single = column, seed, single
        self.by_source = text == "source"
        self.fractions = {} if text is None or self.by_source else _fractions(text)

    def choose(self, name: str, metadata: dict[str, Any]) -> str:
        value = metadata.get(self.column)
        if self.by_source:
            if value is None:
                return "unsplit"
            if not isinstance(value, str) or not NAME.fullmatch(value):
                raise ExportError(DATA, f"problem {name}: its column '{self.column}' cannot be the name of a split")
            return value
        if not self.fractions:
            return self.single
        if value == "test":
            return "test"  # what the source keeps for tests stays there
        unit, above = self._unit(name), 0.0
        for split, fraction in self.fractions.items():
            above += fraction
            if unit < above:
                return split
        return split

    def _unit(self, name: str) -> float:
        """Uniform in [0, 1): the first 53 bits of SHA-256(seed, id)."""
        data = name.encode()
        digest = hashlib.sha256(self.seed.to_bytes(8, "little") + len(data).to_bytes(8, "little") + data).digest()
        return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def _fractions(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        if not equals or not NAME.fullmatch(name):
            raise ExportError(USAGE, f"--split: '{part}' is not NAME=FRACTION")
        try:
            fraction = float(number)
        except ValueError:
            fraction = 0
        if not 0 < fraction <= 1:
            raise ExportError(USAGE, f"--split: the fraction of '{name}' is not above 0 and at most 1")
        if name in found:
            raise ExportError(USAGE, f"--split: '{name}' is named twice")
        found[name] = fraction
    if len(found) > MOST:
        raise ExportError(USAGE, f"--split: more than {MOST} splits")
    if not abs(sum(found.values()) - 1) <= 1e-6:
        raise ExportError(USAGE, f"--split: the fractions sum to {sum(found.values()):.6g}, not to 1")
    return found
