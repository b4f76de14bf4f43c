# SPDX-License-Identifier: MIT
"""Where rows come from: files by what their bytes say, folders, and names on the hub."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import sys
import zlib
from typing import Any, BinaryIO, Callable, Iterator, List, Optional

from . import read_arrow
from .errors import DATA, USAGE, Failure, missing
from .read_json import Row, json_array, json_lines

HEAD = 1 << 16
BUFFER = 1 << 18
ENDINGS = (".parquet", ".arrow", ".feather", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
PACKED = (".gz", ".zst", ".bz2", ".xz")
SHARD = re.compile(r"^(.+?)[-_.]\d+(-of-\d+)?\.")
SPLITS = ("train", "test", "val", "dev", "eval")  # names of splits begin so
HUB = re.compile(r"^[\w.-]+/[\w.-]+$")
UTF16 = "text in UTF-16: `iconv -f UTF-16 -t UTF-8` makes UTF-8 of it"
NO_ROWS = (  # what a file is that begins so, and holds no rows
    (b"SQLite format 3\0", "an SQLite database, which needs no import: problems.database names it"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file: `git lfs pull` gets it"),
    (b"GGUF", "a GGUF model"), (b"PK\x03\x04", "a zip archive: unpack it first"), (b"\x89HDF", "an HDF5 file"),
    (b"<!DOCTYPE", "a web page"), (b"<html", "a web page"), (b"<!doctype", "a web page"),
    (b"\xff\xfe", UTF16), (b"\xfe\xff", UTF16))


class Source:
    """Rows that can be read, of one file or data set. rows(columns) reads these columns only, or all."""

    def __init__(self, name: str, kind: str, rows: Callable[[Optional[List[str]]], Iterator[Row]], once: bool = False, size: int = 0,
                 version: str = ""):
        self.name, self.kind, self.rows = name, kind, rows
        self.once = once  # cannot be read twice
        self.size = size  # bytes of the file, 0: unknown
        self.version = version  # what pins it on the hub

    @property
    def stem(self) -> str:
        return re.sub(r"(\.[A-Za-z0-9]{1,8}){1,2}$", "", os.path.basename(self.name.rstrip("/"))) or "row"


# ---- bytes ----

def _zstd(stream: BinaryIO) -> BinaryIO:
    return read_arrow.arrow("reading .zst").CompressedInputStream(stream, "zstd")


OPENERS = ((b"\x1f\x8b", lambda stream: gzip.GzipFile(fileobj=stream)), (b"\x28\xb5\x2f\xfd", _zstd),
           (b"BZh", bz2.BZ2File), (b"\xfd7zXZ\0", lzma.LZMAFile))
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


def unpacked(stream: BinaryIO, head: bytes) -> BinaryIO:
    """The text of a file, decompressed when its first bytes say so."""
    for magic, opener in OPENERS:
        if head.startswith(magic):
            return io.BufferedReader(opener(stream), BUFFER)  # type: ignore[type-var]
    return stream


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb", buffering=BUFFER)
    except OSError as error:
        raise Failure(DATA, f"cannot open {path}: {error.strerror}") from None


def guarded(rows: Iterator[Row], name: str) -> Iterator[Row]:
    try:
        yield from rows
    except BROKEN as error:
        raise Failure(DATA, f"cannot read {name}: {error}") from None
    except OSError as error:
        raise Failure(DATA, f"cannot read {name}: {error.strerror or error}") from None


def text_kind(head: bytes, name: str) -> str:
    """json lines, a JSON array or a table of text."""
    for magic, what in NO_ROWS:
        if head.startswith(magic):
            raise Failure(DATA, f"{name} is {what}")
    text = head[3:] if head.startswith(b"\xef\xbb\xbf") else head
    begin = text.lstrip(b" \t\r\n")
    first = begin.split(b"\n", 1)[0]
    bare = re.sub(r"(\.gz|\.zst|\.bz2|\.xz)$", "", name)
    if b"\0" in head:
        raise Failure(DATA, f"{name} is of no kind that is known here: Parquet, Arrow, CSV, JSON lines or a JSON array")
    if begin[:1] == b"[":
        return "json"
    if first.strip() == b"{":
        raise Failure(DATA, f"{name} begins as a JSON object over several lines: `jq -c . FILE` makes JSON lines of it")
    if begin[:1] == b"{" or not begin or bare.endswith((".jsonl", ".ndjson", ".json")):
        return "jsonl"
    if bare.endswith((".csv", ".tsv", ".tab")) or any(mark in first for mark in (b",", b"\t", b";")):
        return "csv"
    raise Failure(DATA, f"{name} is of no kind that is known here: Parquet, Arrow, CSV, JSON lines or a JSON array")


def text_source(opened: Callable[[], BinaryIO], name: str, size: int, once: bool) -> Source:
    """opened() gives the bytes from the start: once only where it cannot be read again."""
    held: List[BinaryIO] = []

    def begin() -> BinaryIO:
        stream = opened()
        return unpacked(stream, stream.peek(8)[:8])  # type: ignore[attr-defined]

    stream = begin()
    try:
        head = stream.peek(HEAD)[:HEAD]  # type: ignore[attr-defined]
    except BROKEN + (OSError,) as error:
        raise Failure(DATA, f"cannot read {name}: {error}") from None
    kind = text_kind(head, name)
    if once:
        held.append(stream)
    else:
        stream.close()
    again = (lambda: held.pop()) if once else begin
    if kind == "csv":
        if once:
            raise Failure(USAGE, f"{name}: CSV is read twice, which cannot be done from a pipe: give a file")
        first = head.split(b"\n", 1)[0]
        return Source(name, "CSV", lambda columns: guarded(read_arrow.csv(again, name, first, columns), name), once, size)
    reader = json_array if kind == "json" else json_lines
    return Source(name, "JSON array" if kind == "json" else "JSON lines", lambda columns: guarded(reader(again(), name), name), once, size)


def file_source(path: str) -> Source:
    if path == "-":
        return text_source(lambda: sys.stdin.buffer, "standard input", 0, True)
    if not os.path.isfile(path):
        stream = _open(path)
        return text_source(lambda: stream, path, 0, True)
    with _open(path) as stream:
        head = stream.read(8)
    size = os.path.getsize(path)
    for magic, kind, reader in ((b"PAR1", "Parquet", read_arrow.parquet), (b"ARROW1", "Arrow", read_arrow.arrow_file),
                                (b"\xff\xff\xff\xff", "Arrow stream", read_arrow.arrow_stream), (b"FEA1", "Feather", read_arrow.feather)):
        if head.startswith(magic):
            return Source(path, kind, lambda columns, reader=reader: reader(path, columns), size=size)  # type: ignore[misc]
    return text_source(lambda: _open(path), path, size, False)


# ---- folders and the hub ----

def _datasets(purpose: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise missing("datasets", purpose) from None
    datasets.disable_progress_bars()
    return datasets


def _cannot_read(name: str, error: Exception) -> Failure:
    text = str(error).strip().splitlines()
    return Failure(DATA, f"cannot read {name}: {text[0] if text else type(error).__name__}")


def _of_datasets(found: Any, name: str, version: str = "", once: bool = False) -> Source:
    def rows(columns: Optional[List[str]]) -> Iterator[Row]:
        chosen = found if columns is None else found.select_columns([one for one in columns if one in (found.column_names or [])])
        tables = chosen.with_format("arrow").iter(batch_size=read_arrow.ROWS)
        try:
            yield from read_arrow.batch_rows((batch for table in tables for batch in table.to_batches()), columns)
        except Exception as error:  # the network, or a file of it
            raise _cannot_read(name, error) from None

    return Source(name, "data set", rows, once, version=version)


def saved_source(folder: str, split: Optional[str]) -> Source:
    datasets = _datasets("reading a folder that datasets saved")
    try:
        found = datasets.load_from_disk(folder, keep_in_memory=False)
    except Exception as error:  # whatever lies in the folder
        raise _cannot_read(folder, error) from None
    if isinstance(found, datasets.DatasetDict):
        found = found[_split(list(found), split, folder)]
    elif split is not None:
        raise Failure(USAGE, f"{folder} is one data set, without splits")
    return _of_datasets(found, folder)


def _split(there: List[str], split: Optional[str], name: str) -> str:
    if split is None and len(there) == 1:
        return there[0]
    if split not in there:
        said = "" if split is None else f"no split '{split}' but "
        raise Failure(USAGE, f"{name} has {said}{', '.join(there)}: choose one with --split")
    return split


def folder_sources(folder: str, split: Optional[str]) -> List[Source]:
    if os.path.exists(os.path.join(folder, "dataset_dict.json")) or os.path.exists(os.path.join(folder, "dataset_info.json")):
        return [saved_source(folder, split)]
    paths = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for one in sorted(names):
            bare = os.path.splitext(one)[0] if one.endswith(PACKED) else one
            if bare.endswith(ENDINGS) and not one.startswith("."):
                paths.append(os.path.join(place, one))
    if not paths:
        raise Failure(DATA, f"{folder} holds no file that ends in {', '.join(ENDINGS)}")
    of = {path: _split_of(path, folder) for path in paths}
    if split is not None or (len(set(of.values())) > 1 and all(one.startswith(SPLITS) for one in of.values())):
        split = _split(sorted(set(of.values())), split, folder)
        paths = [path for path in paths if of[path] == split]
    return [file_source(path) for path in paths]


def _split_of(path: str, folder: str) -> str:
    """`train-00000-of-00002.parquet`, `train.jsonl`, `train/0.parquet` and `train/chats.jsonl` are of the split train."""
    within, name = os.path.split(path)
    shard = SHARD.match(name)
    stem = shard[1] if shard else name.split(".", 1)[0]
    above = os.path.basename(within)
    is_named = above.startswith(SPLITS) and not stem.startswith(SPLITS) and not os.path.samefile(within, folder)
    return above if stem.isdigit() or is_named else stem


def hub_source(name: str, config: Optional[str], split: Optional[str], revision: Optional[str]) -> Source:
    datasets = _datasets(f"'{name}' is no file here; a name on the hub")
    try:
        from huggingface_hub import HfApi

        version = HfApi().dataset_info(name, revision=revision).sha
        there = datasets.get_dataset_split_names(name, config, revision=version)
        chosen = _split(there, split, name)
        found = datasets.load_dataset(name, config, split=chosen, revision=version, streaming=True)
    except Failure:
        raise
    except Exception as error:  # whatever the network or the hub says
        raise _cannot_read(f"{name} (no file or folder here) from the hub", error) from None
    return _of_datasets(found, name, f"{version} {config or 'default'} {chosen}", once=True)


def find_sources(names: List[str], config: Optional[str], split: Optional[str], revision: Optional[str]) -> List[Source]:
    found: List[Source] = []
    for name in names:
        if os.path.isdir(name):
            found += folder_sources(name, split)
        elif name != "-" and not os.path.exists(name) and HUB.match(name) and not name.endswith(ENDINGS + PACKED):
            found.append(hub_source(name, config, split, revision))
        else:
            found.append(file_source(name))
    return found
