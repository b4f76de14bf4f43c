# SPDX-License-Identifier: MIT
"""prompts_origin: how the rows of a table were made, kept beside them."""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, List

from . import __version__
from .errors import DATA, Failure
from .sources import Source
from .table import Table

NAME = "prompts_origin"


def versions(libraries: List[str]) -> Dict[str, str]:
    """Of those that took part."""
    found = {"strata_import": __version__, "python": sys.version.split()[0]}
    for name in libraries:
        if name in sys.modules:
            found[name] = getattr(sys.modules[name], "__version__", "unknown")
    return found


def write(table: Table, sources: List[Source], rendered: Dict[str, Any]) -> None:
    """`rendered`: what decides about texts and spans, which all rows of a table share. Keys of another table than `problems` begin
    with its name."""
    before = "" if table.name == "problems" else table.name + ":"
    table.write(f"CREATE TABLE IF NOT EXISTS {NAME} (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID", [])
    there = dict(table.read(f"SELECT key, value FROM {NAME} WHERE key >= ? AND substr(key, 1, ?) = ?", [before, len(before), before]))
    count = 0
    while f"{before}source.{count}" in there:
        count += 1
    for key, value in rendered.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        kept = there.get(before + key)
        if kept is not None and kept != text:
            raise Failure(DATA, f"{table.path}: the rows of '{table.name}' were made with another {key}: {kept[:200]}, not {text[:200]}; "
                                "nothing was imported (--table makes a table of its own)")
        table.write(f"INSERT OR REPLACE INTO {NAME} VALUES (?, ?)", [before + key, text])
    used = versions(["pyarrow", "datasets", "transformers", "jinja2", "tokenizers"])
    for place, source in enumerate(sources, count):
        said = {"name": source.name, "kind": source.kind, "bytes": source.size or None, "version": source.version or None, "with": used}
        table.write(f"INSERT INTO {NAME} VALUES (?, ?)", [f"{before}source.{place}", json.dumps(said, ensure_ascii=False)])
