# SPDX-License-Identifier: MIT
"""Parquet shards and a dataset card, as datasets.load_dataset reads them."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from strata_reader import Run
from strata_reader.arrow import Columns, Tables

from .errors import DATA, MISSING, ExportError, needed
from .output import Output
from .plan import Plan, model_of

BESIDE = 120  # bytes of a row beside its latents, roughly: they are compressed
HALF_MOST = np.float32(65504)  # float16's largest number
HALF_SINCE = 15  # pyarrow's version
DEFAULT_SIZE = 500 * 10**6  # what datasets.Dataset.push_to_hub takes


class Change:
    """To the exported numbers. float32 beyond float16's range becomes its largest number, and is counted."""

    def __init__(self, numbers: str) -> None:
        self.numbers, self.saturated = numbers, 0

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if self.numbers == "float16" and values.dtype != np.float16:
            beyond = np.abs(values) > HALF_MOST
            if beyond.any():
                self.saturated += int(beyond.sum())
                values = np.clip(values, -HALF_MOST, HALF_MOST)
        return values.astype(self.numbers, copy=False)


def cut(sizes: np.ndarray, most: int) -> list[int]:
    """Where files begin and the last one ends: each has at most `most` bytes, or one problem."""
    ends = np.cumsum(sizes)
    cuts = [0]
    while cuts[-1] < len(sizes):
        before = int(ends[cuts[-1] - 1]) if cuts[-1] else 0
        cuts.append(max(cuts[-1] + 1, int(np.searchsorted(ends, before + most, "right"))))
    return cuts if len(cuts) > 1 else [0, 0]


def split_names(names: list[str]) -> dict[str, str]:
    """As datasets wants them: letters, digits and underscores."""
    found = {name: re.sub(r"\W", "_", name, flags=re.A) for name in names}
    if len(set(found.values())) != len(found) or "all" in found.values():
        raise ExportError(DATA, f"splits called {', '.join(names)} cannot be told apart by datasets, or one is 'all', which means every "
                                "split there")
    return found


def write(run: Run, plan: Plan, output: Output, layers: list, numbers: str, per: str, most: int) -> dict[str, Any]:
    """Writes the files that are not there yet; returns what the manifest says of them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise needed("pyarrow", "--format parquet") from error
    if numbers == "float16" and int(pyarrow.__version__.split(".")[0]) < HALF_SINCE:
        raise ExportError(MISSING, f"float16 in Parquet needs pyarrow {HALF_SINCE} or later, here is {pyarrow.__version__}; "
                                   "--dtype float32 goes without")
    names = split_names(list(plan.splits))
    change = Change(numbers)
    tables = Tables(run, layers, numbers, per, plan.columns or Columns(), change)
    told = model_of(run, layers)
    schema = tables.schema.with_metadata({b"strata": json.dumps(told, ensure_ascii=False).encode()})
    flat = [field.name for field in schema if not pyarrow.types.is_nested(field.type)]
    wide = run.hidden * len(layers) * np.dtype(numbers).itemsize + BESIDE
    for split, positions in plan.splits.items():
        cuts = cut(plan.rows_of(positions) * wide + BESIDE, most)
        for number, (first, last) in enumerate(zip(cuts, cuts[1:])):
            name = f"data/{names[split]}-{number:05d}-of-{len(cuts) - 1:05d}.parquet"
            if output.done(name):
                continue
            before = change.saturated
            with output.file(name) as file:
                rows = 0
                with pyarrow.parquet.ParquetWriter(
                        pyarrow.PythonFile(file, "w"), schema, compression={column: "zstd" for column in flat}, use_dictionary=flat,
                        write_statistics=flat) as writer:
                    for batch in tables.batches(positions[first:last].tolist()):
                        writer.write_batch(batch.replace_schema_metadata(schema.metadata))
                        rows += batch.num_rows
                wanted = int(plan.rows_of(positions[first:last]).sum()) if per == "row" else last - first
                if rows != wanted:
                    raise ExportError(DATA, f"{run.path}: its shards have {rows} rows where its ledger has {wanted}")
                file.told = {"split": split, "problems": last - first, "rows": rows, "saturated": change.saturated - before}
    if not output.done("README.md"):
        _write_card(run, plan, output, names, tables.latents_names, numbers, per)
    _check(pyarrow.parquet, plan, output, per)
    return {"split_names": names}


def _check(pyarrow_parquet: Any, plan: Plan, output: Output, per: str) -> None:
    """Every problem once: the files' own counts against the ledger's."""
    rows = 0
    for name in output.files:
        if name.endswith(".parquet"):
            with open(output.folder / name, "rb") as file:  # pyarrow takes only paths of valid UTF-8
                rows += pyarrow_parquet.read_metadata(file).num_rows
    wanted = plan.rows if per == "row" else plan.problems
    if rows != wanted:
        raise ExportError(DATA, f"{output.folder} has {rows} rows where the ledger has {wanted}: remove it and export again")


CARD = """---
configs:
- config_name: default
  data_files:
{files}
tags:
- hidden-states
---

# Hidden states of {model}

Made by strata. Each layer is a column of fixed-size lists: {columns}.

| | |
|---|---|
| model | {model} (`{model_type}`, {blocks} blocks, fingerprint `{fingerprint}`) |
| tokenizer | fingerprint `{tokenizer}` |
| pooling | `{pooling}`: one row {row} |
| numbers | stored as {stored}, here {numbers} |
| problems, rows | {problems}, {rows} |

```python
from datasets import load_dataset

data = load_dataset("{place}", split="{split}").with_format("torch")
print(data[0]["{column}"].shape)
```

`export.json` lists what was left out and why, and every file's SHA-256.
"""
ROW = {"step_mean": "a step, the mean over its tokens", "last_of_step": "a step, its last token",
       "mean": "a text, the mean over its tokens", "last": "a text, its last token", "tokens": "a token"}


def _write_card(run: Run, plan: Plan, output: Output, names: dict[str, str], columns: list[str], numbers: str, per: str) -> None:
    files = "\n".join(f"  - split: {name}\n    path: data/{name}-*.parquet" for name in names.values())
    pooling = str(run.attributes.get("pooling", ""))
    text = CARD.format(
        files=files, model=run.attributes.get("model", ""), model_type=run.attributes.get("model_type", ""),
        blocks=run.attributes.get("model_layers", 0), fingerprint=run.attributes.get("model_fingerprint", ""),
        tokenizer=run.attributes.get("tokenizer_fingerprint", ""), pooling=pooling,
        row=ROW.get(pooling, "of them") if per == "row" else "a problem, with lists of them", stored=run.dtype, numbers=numbers,
        problems=plan.problems, rows=plan.rows, columns=", ".join(f"`{name}`" for name in columns) or "none", place=output.target.name,
        split=next(iter(names.values())), column=columns[0] if columns else "id")
    with output.file("README.md") as file:
        file.write(text.encode(errors="backslashreplace"))
