# SPDX-License-Identifier: MIT
"""The folder that an export makes: beside its place until it is complete, file by file, and what is left of it after a kill."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any, Iterator, Optional

from .errors import DATA, USAGE, WRITE, ExportError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
MARK, REQUEST, JOURNAL, MANIFEST = ".writing", ".request.json", ".files.jsonl", "export.json"


class Aside:
    """A file that is written under another name and hashed on the way. What it cannot write is an ExportError."""

    def __init__(self, path: pathlib.Path) -> None:
        self._file = open(path, "wb")
        self._path = path
        self._digest = hashlib.sha256()
        self.size = 0
        self.closed = False
        self.told: dict[str, Any] = {}  # goes into the manifest with the file

    def write(self, data: Any) -> int:
        with writing(self._path):
            self._file.write(data)
        self._digest.update(data)
        size = memoryview(data).nbytes
        self.size += size
        return size

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        with writing(self._path):
            self._file.flush()

    def close(self) -> None:
        """Of pyarrow, when it is done with the file: it is closed here once it is synced."""

    def finish(self) -> str:
        with writing(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return self._digest.hexdigest()

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """What cannot be written in this block is an ExportError of that kind."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ExportError(WRITE, f"cannot write {path}: {error.strerror}" +
                          ("; with more room the same command goes on" if full else "")) from error


def sync_folder(path: pathlib.Path) -> None:
    with writing(path):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _has(folder: pathlib.Path, entry: dict[str, Any]) -> bool:
    """Whether a file is there with the size that was written down."""
    path = folder / entry["name"]
    return path.is_file() and path.stat().st_size == entry["bytes"]


class Output:
    """`target`, made in `target`.tmp; `request` says what is to be there, and a folder begun for another is refused."""

    def __init__(self, target: str | os.PathLike, request: dict[str, Any]) -> None:
        self.target = pathlib.Path(os.path.abspath(target))
        if not self.target.name:
            raise ExportError(USAGE, f"--to: {target} cannot be made")
        self.folder = self.target.with_name(self.target.name + ".tmp")
        self.request = request
        self._lock: Optional[int] = None
        self.files: dict[str, dict[str, Any]] = {}
        self.kept = 0  # files of the launch before
        self._journal: Any = None

    def is_complete(self) -> bool:
        """Whether the target is there and is what was asked for; another thing of its name is refused."""
        if not os.path.lexists(self.target):
            return False
        try:
            manifest = json.loads((self.target / MANIFEST).read_text(encoding="utf-8"))
            told = manifest.get("request")
        except (OSError, ValueError, AttributeError):
            told = None
        if told != self.request:
            other = " and is an export with other options, or of what the run had finished before" if told is not None else ""
            raise ExportError(USAGE, f"{self.target} exists{other}; an export never overwrites anything")
        for entry in manifest["files"]:
            if not _has(self.target, entry):
                raise ExportError(DATA, f"{self.target} is damaged: {entry['name']} is missing or has another size than when it was "
                                        "exported; remove the folder to export again")
        with writing(self.target):
            self._tidy()
        return True

    def open(self) -> None:
        """Takes the folder, and notes which of its files are done."""
        mark = self.folder / MARK
        with writing(self.folder):
            if self.folder.exists() and not mark.exists() and any(self.folder.iterdir()):
                raise ExportError(WRITE, f"{self.folder} is in the way and is not from an export; remove or rename it")
            self.folder.mkdir(parents=True, exist_ok=True)  # as strata export makes them
            lock = os.open(mark, os.O_RDWR | os.O_CREAT, 0o666)
            text = json.dumps(self.request, sort_keys=True)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                told = self._told(self.folder / REQUEST)
                by_strata = told is None and mark.read_bytes().count(b"\n") > 1  # its list of finished files
                if by_strata or (told is not None and told != text):
                    raise ExportError(USAGE, f"{self.folder} is of another command, or the run has gone on since; remove it to start anew")
            except BaseException as error:
                os.close(lock)
                if isinstance(error, BlockingIOError):
                    raise ExportError(WRITE, f"another export is writing {self.target}") from error
                raise
            self._lock = lock
            if told is None:
                # The request goes last: without it there is nothing to go on from.
                for path in self.folder.iterdir():
                    if path.name != MARK:
                        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                self._put(REQUEST, text)
            self._read_journal()
            self._journal = open(self.folder / JOURNAL, "a", encoding="utf-8")

    def _told(self, path: pathlib.Path) -> Optional[str]:
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _put(self, name: str, text: str) -> None:
        aside = Aside(self.folder / (name + ".tmp"))
        aside.write(text.encode(errors="backslashreplace"))  # names of folders may be any bytes
        aside.finish()
        os.replace(self.folder / (name + ".tmp"), self.folder / name)

    def _read_journal(self) -> None:
        """A line is written once its file has its name. The last one may be torn: then the file is made again."""
        text = self._told(self.folder / JOURNAL) or ""
        whole = text[: text.rfind("\n") + 1]
        for line in whole.splitlines():
            entry = json.loads(line)
            if _has(self.folder, entry):
                self.files[entry["name"]] = entry
        self.kept = len(self.files)
        if whole != text:
            self._put(JOURNAL, whole)

    def done(self, name: str) -> bool:
        return name in self.files

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Aside]:
        """A file of the folder, to be written in this block."""
        path = self.folder / name
        aside_path = path.with_name(path.name + ".tmp")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = Aside(aside_path)
        try:
            yield aside
            entry = {"name": name, "bytes": aside.size, "sha256": aside.finish(), **aside.told}
        except BaseException:
            aside.drop()
            raise
        with writing(path):
            os.replace(aside_path, path)
        self.note(entry)

    def note(self, entry: dict[str, Any]) -> None:
        """A file that is complete under its name."""
        with writing(self.folder / JOURNAL):
            self._journal.write(json.dumps(entry) + "\n")
            self._journal.flush()
        self.files[entry["name"]] = entry

    def publish(self, manifest: dict[str, Any]) -> None:
        """Gives the complete folder its name."""
        with writing(self.folder):
            self._journal.close()
            text = json.dumps({**manifest, "files": list(self.files.values()), "request": self.request}, indent=1, ensure_ascii=False)
            self._put(MANIFEST, text + "\n")
            # Those of a launch before, too, which may not have come this far.
            for folder in {parent for name in self.files for parent in (self.folder / name).parents if self.folder in parent.parents}:
                sync_folder(folder)
            sync_folder(self.folder)
            if os.path.lexists(self.target):  # it came meanwhile
                raise ExportError(USAGE, f"{self.target} exists; an export never overwrites anything")
            os.rename(self.folder, self.target)
            sync_folder(self.target.parent)
            self._tidy()

    def _tidy(self) -> None:
        """Takes away what told a leftover from a stranger's folder, and what an export goes on by."""
        for name in (JOURNAL, REQUEST, MARK):
            (self.target / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Leaves a folder with files in it for the next launch, and takes an empty one away."""
        if self._lock is not None:
            if not self.files:
                shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = None
