# SPDX-License-Identifier: MIT
"""The table that an import writes: one transaction, columns added as they turn up, as pipeline/problems/table.c does it.

A database that is new is built aside and gets its name when it is whole; one that is there changes in one transaction."""

from __future__ import annotations

import os
import re
import secrets
import socket
import sqlite3
import time
from typing import Any, Dict, List, Optional

from .errors import BUSY, DATA, WRITE, Failure, Fault
from .values import HALF, LARGEST, SMALLEST, SURROGATE, Beyond, Sql

WAIT = 60  # seconds for another program that holds the database
MAGIC = b"SQLite format 3\0"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def folded(name: str) -> str:
    """As SQLite compares names: ASCII letters alone have no case."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)


class Table:
    def __init__(self, database: str, name: str, append: bool):
        self.path, self.name, self.append = database, name, append
        self.is_new = not os.path.exists(database)
        self.columns: List[str] = []
        self.known: Dict[str, str] = {}  # folded name -> the column's own
        self._aside = ""
        self._connection: Optional[sqlite3.Connection] = None
        if self.is_new and append:
            raise Failure(DATA, f"{database} does not exist: there is nothing to append to")
        if not self.is_new:
            self._check_kind()
        self._open()

    # ---- opening ----

    def _check_kind(self) -> None:
        try:
            with open(self.path, "rb") as file:
                head = file.read(len(MAGIC))
        except OSError as error:
            raise Failure(DATA, f"cannot open {self.path}: {error.strerror}") from None
        if head and head != MAGIC:
            raise Failure(DATA, f"{self.path} is there and is no SQLite database")

    def _make_aside(self) -> None:
        """Under a name of its own, so that imports at once do not meet; what killed ones left is removed."""
        host = socket.gethostname()
        folder, name = os.path.split(os.path.abspath(self.path))
        left = re.compile(re.escape(name) + r"\.(.+)\.(\d+)\.[0-9a-f]{16}\.tmp")
        try:
            for one in os.listdir(folder):
                found = left.fullmatch(one)
                if found is not None and (not _is_running(int(found[2])) if found[1] == host else _is_old(os.path.join(folder, one))):
                    os.unlink(os.path.join(folder, one))
        except OSError:
            pass  # is not in the way
        self._aside = f"{self.path}.{host}.{os.getpid()}.{secrets.token_hex(8)}.tmp"
        try:
            os.close(os.open(self._aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
        except OSError as error:
            raise Failure(WRITE, f"{self.path}: cannot make the database: {error.strerror}") from None

    def _open(self) -> None:
        if self.is_new:
            self._make_aside()
        try:
            self._connection = sqlite3.connect(self._aside if self.is_new else self.path, timeout=WAIT, isolation_level=None)
            if self.is_new:
                self._connection.execute("PRAGMA journal_mode=MEMORY")
                self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.execute("BEGIN IMMEDIATE")
            self.columns = [row[0] for row in self._connection.execute("SELECT name FROM pragma_table_info(?)", (self.name,))]
            self.known = {folded(column): column for column in self.columns}
        except sqlite3.Error as error:
            self.close()
            raise self.failure(error, "cannot open the database") from None
        said = None
        if self.append and not self.columns:
            said = f"{self.path} has no table '{self.name}' to append to"
        elif not self.append and self.columns:
            said = f"{self.path} has a table '{self.name}' already (--append adds to it)"
        if said is not None:
            self.close()
            raise Failure(DATA, said)

    def failure(self, error: sqlite3.Error, what: str) -> Failure:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # Python 3.11
        text = str(error)
        if "locked" in text:
            return Failure(BUSY, f"{self.path}: {what}: another program holds the database")
        full = code in (3, 8, 10, 13, 14) or any(word in text for word in ("full", "disk I/O", "readonly", "unable to open"))
        return Failure(WRITE if full else DATA, f"{self.path}: {what}: {text}")

    def set_id(self, name: str) -> None:
        """The column that names a row: unique and never NULL. Of a table that is there, one of its columns."""
        self.id = name
        if self.append:
            if folded(name) not in self.known:
                raise Failure(DATA, f"{self.path}: the table '{self.name}' has no column '{name}'")
            return
        self._run(f"CREATE TABLE {quoted(self.name)} ({quoted(name)} NOT NULL UNIQUE)", "cannot make the table")
        self._remember(name)

    # ---- rows ----

    def _run(self, sql: str, what: str, *values: Any) -> Any:
        try:
            return self._connection.execute(sql, *values)  # type: ignore[union-attr]
        except sqlite3.Error as error:
            raise self.failure(error, what) from None

    def _remember(self, name: str) -> None:
        self.columns.append(name)
        self.known[folded(name)] = name

    def _place(self, name: str) -> None:
        """The column of a member, added when it is new. Fault."""
        if not name:
            raise Fault("a member has no name")
        there = self.known.get(folded(name))
        if there is None:
            try:
                name.encode()
            except UnicodeEncodeError:
                raise Fault(HALF) from None
            self._run(f"ALTER TABLE {quoted(self.name)} ADD COLUMN {quoted(name)}", "cannot add a column")
            self._remember(name)
        elif there != name:
            raise Fault(f"'{name}' differs from the column '{there}' in letters' case only")

    def check_id(self, value: Any) -> None:
        if value is None:
            raise Fault(f"there is no '{self.id}'")
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise Fault(f"'{self.id}' is not a text or a whole number")
        if isinstance(value, Beyond) or (isinstance(value, int) and not SMALLEST <= value <= LARGEST):
            raise Fault(f"'{self.id}' is an integer beyond 64 bits (in quotes, as a text, it may stay)")
        if isinstance(value, str) and SURROGATE.search(value):
            raise Fault(f"'{self.id}' is a text with {HALF}")
        if value == "":
            raise Fault(f"'{self.id}' is empty")

    def insert(self, row: Dict[str, Sql]) -> None:
        """Fault when the row is at fault; the table then has no row of it."""
        for name in row:
            if name not in self.known or self.known[name] != name:  # most names have no capital letters
                self._place(name)
        names = list(row)
        sql = f"INSERT INTO {quoted(self.name)} ({', '.join(map(quoted, names))}) VALUES ({', '.join('?' * len(names))})"
        try:
            self._connection.execute(sql, list(row.values()))  # type: ignore[union-attr]
        except UnicodeEncodeError:
            raise Fault(HALF) from None
        except sqlite3.IntegrityError as error:
            value = row.get(self.id)
            if "UNIQUE" in str(error):
                shown = f"'{value}'" if isinstance(value, str) else value
                raise Fault(f"{self.id} {shown} is there already") from None
            raise Fault(str(error)) from None
        except sqlite3.Error as error:
            raise self.failure(error, "cannot write a row") from None

    # ---- the end ----

    def _check_appended(self) -> None:
        """A table made elsewhere need not keep its ids unique; its rows are looked through once."""
        name, column = quoted(self.name), quoted(self.id)
        found = self._run(f"SELECT quote({column}) FROM {name} GROUP BY {column} HAVING count(*) > 1 OR {column} IS NULL LIMIT 1",
                          "cannot look through the ids").fetchone()
        if found is not None:
            raise Failure(DATA, f"{self.path}: the table '{self.name}' has {self.id} {found[0][:200]} more than once or NULL; "
                                "nothing was imported")

    def read(self, sql: str, values: List[Any]) -> List[Any]:
        return self._run(sql, "cannot read the database", values).fetchall()

    def write(self, sql: str, values: List[Any]) -> None:
        self._run(sql, "cannot write to the database", values)

    def commit(self) -> None:
        if self.append:
            self._check_appended()
        self._run("COMMIT", "cannot write to the database")
        self._connection.close()  # type: ignore[union-attr]
        self._connection = None
        if self.is_new:
            self._publish()

    def _publish(self) -> None:
        try:
            _sync(self._aside)
            try:
                os.link(self._aside, self.path)  # which takes no other's place; close() removes the first name
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                if os.path.exists(self.path):
                    raise FileExistsError from None
                os.rename(self._aside, self.path)
            _sync(os.path.dirname(os.path.abspath(self.path)))
        except FileExistsError:
            raise Failure(WRITE, f"{self.path} was created by another program meanwhile; nothing was imported") from None
        except OSError as error:
            raise Failure(WRITE, f"{self.path}: cannot write the database: {error.strerror}") from None

    def close(self) -> None:
        """Without a commit nothing stays."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self.is_new:
            try:
                os.unlink(self._aside)
            except OSError:
                pass


def _sync(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _is_old(path: str) -> bool:
    """Of another host, whose processes are not known: nobody has written to it for a day."""
    return os.stat(path).st_mtime < time.time() - 24 * 3600
