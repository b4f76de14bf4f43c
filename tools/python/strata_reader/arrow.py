# SPDX-License-Identifier: MIT
"""Problems of a run as Arrow tables. pyarrow and datasets are imported when they are needed."""

from __future__ import annotations

import atexit
import json
import os
import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Optional

import numpy as np

from .shard import PRE_NORM, ROW_FIELDS, layer_label

if TYPE_CHECKING:
    import pyarrow

    from .run import Run

BATCH_BYTES = 32 << 20  # of latents in one record batch, one problem more at most
FILE_BYTES = 1 << 30  # of latents in one file of to_datasets
EXACT = 1 << 53  # whole numbers up to here are float64's too


def column_name(layer: int | str, blocks: int) -> str:
    """A layer's dataset in shards and column in tables: hs_035, hs_036_pre_norm."""
    return f"hs_{blocks:03d}_pre_norm" if layer == PRE_NORM else f"hs_{layer:03d}"


def _kind(value: Any) -> Optional[str]:
    if value is None or isinstance(value, (bool, str)):
        return None if value is None else type(value).__name__
    if isinstance(value, int):
        return "int" if abs(value) <= EXACT else "long" if -(1 << 63) <= value < 1 << 63 else "other"
    return "float" if isinstance(value, float) else "other"


def _as_text(value: Any) -> Optional[str]:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Columns:
    """The source's columns, of which a run knows nothing before all of its problems were looked at: names, in the order in which they
    appear, and types. A column with values of several types becomes text, as JSON has it."""

    def __init__(self) -> None:
        self._kinds: dict[str, set[str]] = {}

    def look(self, metadata: dict[str, Any]) -> None:
        for name, value in metadata.items():
            kinds = self._kinds.setdefault(name, set())
            kind = _kind(value)
            if kind is not None:
                kinds.add(kind)

    def of_run(self, run: Run) -> Columns:
        for part, number in run.sealed():
            shard = run.shard(part, number)
            for place in range(shard.problems):
                self.look(shard.metadata(place))
        return self

    def types(self) -> dict[str, tuple[Any, Callable[[Any], Any]]]:
        """{name: (type, how a value becomes one of it)}."""
        import pyarrow

        def same(value: Any) -> Any:
            return value

        found: dict[str, tuple[Any, Callable[[Any], Any]]] = {}
        for name, kinds in self._kinds.items():
            if kinds == {"bool"}:
                found[name] = pyarrow.bool_(), same
            elif kinds and kinds <= {"int", "long"}:
                found[name] = pyarrow.int64(), same
            elif kinds and kinds <= {"int", "float"}:
                found[name] = pyarrow.float64(), lambda value: None if value is None else float(value)
            else:
                found[name] = pyarrow.string(), _as_text
        return found


class Tables:
    """How problems of a run become record batches.

    layers    those to take (None: all that are stored)
    numbers   "float16" or "float32": of the latents' columns, each a FixedSizeList of the hidden size
    per       "row": one row for each of the latents' rows; "problem": one for each problem, with lists of them
    columns   those of the source
    change    what is done to a matrix of latents first
    """

    def __init__(self, run: Run, layers: Optional[Iterable[int | str]] = None, numbers: Optional[str] = None, per: str = "row",
                 columns: Optional[Columns] = None, change: Optional[Callable[[Any], Any]] = None) -> None:
        import pyarrow

        if per not in ("row", "problem"):
            raise ValueError(f"per={per!r}: it is 'row' or 'problem'")
        self.run, self.per = run, per
        self.layers = run.layers if layers is None else list(layers)
        for layer in self.layers:
            if layer not in run.layers:
                raise KeyError(f"{run.path} has no {layer_label(layer)}; it has {run.layers}")
        self.numbers = numbers or ("float16" if run.dtype == "float16" else "float32")
        self._read_as = np.float16 if run.dtype == "float16" else np.float32
        self.change = change or (lambda values: values.astype(self.numbers, copy=False))
        first = run.shard(*run.sealed()[0]) if run.layers else None
        self.has_tokens, self.has_mask = (first.has_tokens, first.has_loss_mask) if first else (False, False)
        self.are_tokens = str(run.attributes.get("pooling")) == "tokens"
        self._own = self._own_types(pyarrow)
        blocks = int(run.attributes.get("model_layers", 0))
        self._latents = {column_name(layer, blocks): layer for layer in self.layers}
        self.latents_names = list(self._latents)
        taken = {*self._own, *self._latents}
        self._source = {}
        for name, (kind, how) in (columns or Columns().of_run(run)).types().items():
            to = name
            while to in taken:
                to = f"source_{to}"
            taken.add(to)
            self._source[to] = name, kind, how
        vector = pyarrow.list_(pyarrow.float16() if self.numbers == "float16" else pyarrow.float32(), run.hidden or 1)
        latents = vector if per == "row" else pyarrow.list_(vector)
        self.schema = pyarrow.schema(
            [*self._own.items(), *((name, kind) for name, (_, kind, _) in self._source.items()),
             *((name, latents) for name in self._latents)])

    def _own_types(self, pyarrow: Any) -> dict[str, Any]:
        problem = {"id": pyarrow.string(), "ordinal": pyarrow.int64(), "token_count": pyarrow.int64(), "truncated": pyarrow.bool_(),
                   "step_count": pyarrow.int64()}
        if self.per == "problem":
            problem.update({name: pyarrow.list_(pyarrow.int64()) for name in ROW_FIELDS})
            problem.update({"token_ids": pyarrow.list_(pyarrow.int32())} if self.has_tokens else {})
            problem.update({"loss_mask": pyarrow.list_(pyarrow.uint8())} if self.has_mask else {})
            return problem
        problem.update({"row": pyarrow.int64(), **{name: pyarrow.int64() for name in ROW_FIELDS}})
        problem.update({"token_id": pyarrow.int32()} if self.has_tokens and self.are_tokens else {})
        problem.update({"loss_mask": pyarrow.uint8()} if self.has_mask and self.are_tokens else {})
        return problem

    def batches(self, keys: Iterable[int]) -> Iterator[pyarrow.RecordBatch]:
        """Record batches of the problems at these positions, in their order."""
        problems: list[dict[str, Any]] = []
        size = 0
        for key in keys:
            problems.append(self.run.get(key, self.layers, self._read_as))
            size += sum(values.nbytes for values in problems[-1]["latents"].values()) + 1000
            if size >= BATCH_BYTES:
                yield self._batch(problems)
                problems, size = [], 0
        if problems:
            yield self._batch(problems)

    def _batch(self, problems: list[dict[str, Any]]) -> pyarrow.RecordBatch:
        import pyarrow

        rows = np.array([len(problem["rows"]["step"]) for problem in problems], np.int64)
        arrays = []
        for name in self.schema.names:
            kind = self.schema.field(name).type
            if name in self._latents:
                layer = self._latents[name]
                matrix = self.change(np.concatenate([problem["latents"][layer] for problem in problems]))
                vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(matrix.reshape(-1)), kind.value_type.list_size
                                                                 if self.per == "problem" else kind.list_size)
                arrays.append(vectors if self.per == "row" else _lists(pyarrow, rows, vectors))
            elif name in self._source:
                key, _, how = self._source[name]
                values = pyarrow.array([how(problem["metadata"].get(key)) for problem in problems], kind)
                arrays.append(self._spread(values, rows))
            else:
                arrays.append(self._of_problems(pyarrow, name, kind, problems, rows))
        return pyarrow.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _spread(self, values: Any, rows: np.ndarray) -> Any:
        """One value a problem, for each of its rows."""
        return values if self.per == "problem" else values.take(np.repeat(np.arange(len(rows)), rows))

    def _of_problems(self, pyarrow: Any, name: str, kind: Any, problems: list[dict[str, Any]], rows: np.ndarray) -> Any:
        if name == "row":
            return pyarrow.array(np.concatenate([np.arange(count) for count in rows]), kind)
        if name in ROW_FIELDS:
            values = pyarrow.array(np.concatenate([problem["rows"][name] for problem in problems]), pyarrow.int64())
            return values if self.per == "row" else _lists(pyarrow, rows, values)
        if name in ("token_ids", "token_id", "loss_mask"):
            key = "loss_mask" if name == "loss_mask" else "tokens"
            if self.per == "problem":
                values = np.concatenate([problem[key] for problem in problems])
                return _lists(pyarrow, np.array([len(problem[key]) for problem in problems]),
                              pyarrow.array(values, kind.value_type))
            return pyarrow.array(np.concatenate([problem[key][problem["rows"]["token_start"]] for problem in problems]), kind)
        return self._spread(pyarrow.array([problem[name] for problem in problems], kind), rows)


def _lists(pyarrow: Any, lengths: np.ndarray, values: Any) -> Any:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)  # a batch holds far less than 2^31
    return pyarrow.ListArray.from_arrays(pyarrow.array(offsets), values)


def to_datasets(run: Run, layers: Optional[Iterable[int | str]] = None, per: str = "row", numbers: Optional[str] = None,
                folder: Optional[str | os.PathLike] = None) -> Any:
    """See Run.to_datasets."""
    import datasets
    import pyarrow

    tables = Tables(run, layers, numbers, per)
    aside = folder is None
    place = pathlib.Path(tempfile.mkdtemp(prefix="strata-datasets-") if folder is None else folder)
    if aside:
        atexit.register(_remove, place, os.getpid())
    else:
        place.mkdir(parents=True)  # one that is there already is somebody's
    features = datasets.Features.from_arrow_schema(tables.schema)
    schema = tables.schema.with_metadata(features.arrow_schema.metadata)
    offset, files, first = run.row_offset, [], 0
    a_row = max(1, run.hidden * len(tables.layers) * (2 if tables.numbers == "float16" else 4))
    while first < len(run) or not files:
        last = max(first + 1, int(np.searchsorted(offset, offset[first] + FILE_BYTES // a_row, "right")) - 1)
        path = place / f"data-{len(files):05d}.arrow"
        with pyarrow.OSFile(os.fspath(path), "wb") as file, pyarrow.ipc.new_stream(file, schema) as stream:
            for batch in tables.batches(range(first, min(last, len(run)))):
                stream.write_batch(batch.replace_schema_metadata(schema.metadata))
        files.append(datasets.Dataset.from_file(os.fspath(path)))
        first = last
    return datasets.concatenate_datasets(files) if len(files) > 1 else files[0]


def _remove(place: pathlib.Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(place, ignore_errors=True)
