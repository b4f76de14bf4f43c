# SPDX-License-Identifier: MIT
"""Rows of what pyarrow reads: Parquet, Arrow files and streams, Feather, CSV."""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from .errors import DATA, Failure, Fault, missing
from .read_json import Row

ROWS = 512  # decoded at a time
BUFFER = 1 << 20
CSV_BLOCK = 16 << 20  # the most bytes of a row of CSV

Columns = Optional[List[str]]  # None: all of them


def arrow(purpose: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise missing("pyarrow", purpose) from None
    return pyarrow


def batch_rows(batches: Iterable[Any], columns: Columns) -> Iterator[Row]:
    number = 0
    for batch in batches:
        if columns is not None:
            batch = batch.select([name for name in columns if name in batch.schema.names])
        for start in range(0, batch.num_rows, ROWS):
            for row in _rows(batch.slice(start, ROWS)):
                number += 1
                yield number, row


def _rows(batch: Any) -> List[Dict[str, Any]]:
    names = batch.schema.names
    if not names:
        return [{} for _ in range(batch.num_rows)]
    values = [_column(batch.column(i)) for i in range(len(names))]
    return [dict(zip(names, row)) for row in zip(*values)]


def _column(column: Any) -> List[Any]:
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_temporal(column.type) and not pyarrow.types.is_duration(column.type):
        column = pyarrow.compute.cast(column, pyarrow.string())  # nanoseconds are more than Python's own dates hold
    return column.to_pylist()


def check_names(names: List[str], name: str) -> None:
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise Failure(DATA, f"{name}: the column '{twice[0]}' is there twice")


def guarded(rows: Callable[[], Iterator[Row]], name: str) -> Iterator[Row]:
    """pyarrow's own errors, as those of the file."""
    pyarrow = arrow("this file")
    try:
        yield from rows()
    except (pyarrow.ArrowException, OSError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "straddl" in said:
            said = f"a row is longer than {CSV_BLOCK >> 20} MiB, or a quotation mark is never closed"
        raise Failure(DATA, f"{name}: {said}") from None


def parquet(path: str, columns: Columns) -> Iterator[Row]:
    arrow("reading Parquet")
    import pyarrow.parquet

    def rows() -> Iterator[Row]:
        with pyarrow.parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            names = file.schema_arrow.names
            check_names(names, path)
            wanted = None if columns is None else [name for name in columns if name in names]
            yield from batch_rows(file.iter_batches(batch_size=ROWS, columns=wanted, use_threads=False), columns)

    return guarded(rows, path)


def arrow_file(path: str, columns: Columns) -> Iterator[Row]:
    pyarrow = arrow("reading Arrow files")

    def rows() -> Iterator[Row]:
        with pyarrow.memory_map(path) as file, pyarrow.ipc.open_file(file) as reader:
            check_names(reader.schema.names, path)
            yield from batch_rows((reader.get_batch(i) for i in range(reader.num_record_batches)), columns)

    return guarded(rows, path)


def arrow_stream(path: str, columns: Columns) -> Iterator[Row]:
    pyarrow = arrow("reading Arrow streams")

    def rows() -> Iterator[Row]:
        with pyarrow.memory_map(path) as file, pyarrow.ipc.open_stream(file) as reader:
            check_names(reader.schema.names, path)
            yield from batch_rows(reader, columns)

    return guarded(rows, path)


def feather(path: str, columns: Columns) -> Iterator[Row]:
    """Version 1, which is read as a whole; version 2 is an Arrow file."""
    arrow("reading Feather files")
    import pyarrow.feather

    return guarded(lambda: batch_rows(pyarrow.feather.read_table(path, memory_map=True).to_batches(), columns), path)


def delimiter(first: bytes, name: str) -> str:
    """Of the first line: what the name says, or what it has most of."""
    stem = name[:-len(os.path.splitext(name)[1])] if name.endswith((".gz", ".zst", ".bz2", ".xz")) else name
    if stem.endswith((".tsv", ".tab")):
        return "\t"
    return max(",\t;", key=lambda mark: (first.count(mark.encode()), mark == ","))


class Quotes(io.RawIOBase):
    """A file passed on, whose quotation marks are counted."""

    def __init__(self, stream: BinaryIO):
        self._stream, self.count = stream, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.count += data.count(b'"')
        return data


def ends_open(stream: BinaryIO, cell: Optional[str]) -> bool:
    """Whether the file ends within this last cell, whose quotation mark then took all that follows for its text."""
    if not cell:
        return False
    begun = b'"' + cell.replace('"', '""').encode()
    end = b""
    while data := stream.read(BUFFER):
        end = (end + data)[-len(begun) - 3:]
    return end.endswith(begun) and not end.rstrip(b"\r\n").endswith(begun + b'"')


def csv(opened: Callable[[], BinaryIO], name: str, first: bytes, columns: Columns) -> Iterator[Row]:
    """Every cell is the text that stands there; an empty one without quotes is NULL. Rows are counted without the heading."""
    arrow("reading CSV")
    from pyarrow import csv as reader_of, string

    broken: List[Tuple[int, str]] = []

    def note(row: Any) -> str:
        broken.append((0, f"{row.actual_columns} cells where the heading has {row.expected_columns}"))
        return "skip"

    def open_csv(stream: Quotes, types: Dict[str, Any]) -> Any:
        return reader_of.open_csv(
            stream, read_options=reader_of.ReadOptions(use_threads=False, block_size=CSV_BLOCK),
            parse_options=reader_of.ParseOptions(delimiter=delimiter(first, name), newlines_in_values=True, invalid_row_handler=note),
            convert_options=reader_of.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True,
                                                     quoted_strings_can_be_null=False))

    def rows() -> Iterator[Row]:
        names = _heading(opened, reader_of, delimiter(first, name))
        check_names(names, name)
        broken.clear()
        number, row = 0, {}
        quotes = Quotes(opened())
        for batch in open_csv(quotes, {one: string() for one in names}):
            for _, row in batch_rows([batch], columns):
                number += 1
                yield number, row
            for _, words in broken:
                yield number, Fault("at or before this row: " + words)
            broken.clear()
        if quotes.count % 2 == 1 and columns is None and ends_open(opened(), row.get(names[-1])):
            raise Failure(DATA, f"{name}: row {number}: a quotation mark that is never closed takes the rest of the file for one cell")

    return guarded(rows, name)


def _heading(opened: Callable[[], BinaryIO], reader_of: Any, mark: str) -> List[str]:
    with reader_of.open_csv(opened(), read_options=reader_of.ReadOptions(use_threads=False, block_size=CSV_BLOCK),
                            parse_options=reader_of.ParseOptions(delimiter=mark, newlines_in_values=True,
                                                                 invalid_row_handler=lambda row: "skip"),
                            convert_options=reader_of.ConvertOptions(check_utf8=False)) as found:
        return list(found.schema.names)
