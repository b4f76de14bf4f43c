# SPDX-License-Identifier: MIT
"""Tables of metadata through pyarrow, which is imported when it is needed."""

import json
import os
import pathlib

from .run import Run

MAGIC = b"PAR1"  # what Parquet files begin with


def to_parquet(run, path):
    """Writes one row a problem: id, ordinal, rows, token_count, truncated, step_count and the source's columns.

    `run` is a Run, or what it opens. Where a kept column has one of those names, the source's is called source_NAME. The table is in
    memory, about a kilobyte a problem: a large set is better written part by part.
    """
    import pyarrow
    import pyarrow.parquet

    run = run if isinstance(run, Run) else Run(run)
    table = []
    for problem in run.problems(layers=[]):
        line = {name: problem[name] for name in ("id", "ordinal", "token_count", "truncated", "step_count")}
        line["rows"] = len(problem["rows"]["step"])
        for name, value in problem["metadata"].items():
            line[f"source_{name}" if name in line else name] = value
        table.append(line)
    _write(pyarrow, table, pathlib.Path(path))
    return len(table)


def rjepa_parquet(folder, to=None):
    """Turns every shard-NNNN.jsonl of `strata export --format rjepa` into shard-NNNN.parquet beside it, or at the same place in
    the folder `to`; returns the paths.

    Looks into the folders of splits as well. The JSON lines stay where they are.
    """
    import pyarrow
    import pyarrow.parquet

    folder = pathlib.Path(folder)
    lines = sorted(folder.glob("shard-*.jsonl")) + sorted(folder.glob("*/shard-*.jsonl"))
    if not lines:
        raise FileNotFoundError(f"{folder} has no shard-*.jsonl: is it an export of the format rjepa?")
    written = []
    for path in lines:
        with open(path, encoding="utf-8") as file:
            table = [json.loads(line) for line in file]
        target = (folder if to is None else pathlib.Path(to)) / path.relative_to(folder).with_suffix(".parquet")
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(pyarrow, table, target)
        written.append(target)
    return written


def _first(path):
    with open(path, "rb") as file:
        return file.read(len(MAGIC))


def _write(pyarrow, rows, path):
    """Aside and renamed: a killed conversion leaves no half table. Columns with values of several types become text. What is there and
    is no Parquet file, a ledger say, is not replaced."""
    if path.exists() and (not path.is_file() or path.stat().st_size and _first(path) != MAGIC):
        raise FileExistsError(f"{path} is there and is no Parquet file: it stays as it is")
    names = dict.fromkeys(name for row in rows for name in row)  # in the order they first appear
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            columns[name] = pyarrow.array(
                [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
            )
    aside = path.with_name(path.name + ".tmp")
    pyarrow.parquet.write_table(pyarrow.table(columns), aside)
    with open(aside, "rb") as file:
        os.fsync(file.fileno())
    os.replace(aside, path)
