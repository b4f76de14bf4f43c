# SPDX-License-Identifier: MIT
"""From sources to the table: rows are read one at a time, columns chosen and renamed, faults listed."""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from . import ids, origin
from .errors import DATA, Failure, Fault
from .sources import Source
from .table import Table
from .values import HALF, Mended, sql_value

SHOWN = 20  # broken rows that are listed; with --skip-broken all of them

Renderer = Callable[[Dict[str, Any]], Dict[str, Any]]  # the columns that rendering adds to a row


class Options:
    def __init__(self, **given: Any):
        self.table = "problems"
        self.id: Optional[str] = None
        self.number_rows = False
        self.append = self.skip_broken = False
        self.limit: Optional[int] = None
        self.renamed: Dict[str, str] = {}  # a source's column -> the table's
        self.keep: Set[str] = set()  # empty: all
        self.drop: Set[str] = set()
        self.__dict__.update(given)


class Report:
    def __init__(self) -> None:
        self.rows = self.columns = self.faults = 0
        self.mended = Mended()
        self.mended_rows = self.first_mended = 0
        self.id = ids.STANDARD
        self.numbered = False


class Progress:
    """A line a second, on a terminal alone."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._began = self._last = time.monotonic()

    def show(self, rows: int) -> None:
        now = time.monotonic()
        if self._terminal and now - self._last >= 1:
            self._last = now
            sys.stderr.write(f"\r{rows} rows, {rows / (now - self._began):.0f} rows/s\x1b[K")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class Import:
    def __init__(self, sources: List[Source], table: Table, options: Options, render: Optional[Renderer]):
        self._sources, self._table, self._options, self._render = sources, table, options, render
        self._seen: Set[str] = set()  # names of the sources' columns
        self._asked = set(options.renamed) | options.keep | options.drop
        self.report = Report()
        self._progress = Progress()
        self._mended = Mended()  # of the last row

    # ---- columns ----

    def _chosen(self, name: str) -> bool:
        options = self._options
        return name not in options.drop and (not options.keep or name in options.keep)

    def _lay_out(self, row: Dict[str, Any]) -> Dict[str, Any]:
        """The row under the table's names. Fault when two columns get one."""
        renamed = self._options.renamed
        out: Dict[str, Any] = {}
        for name, value in row.items():
            if self._chosen(name):
                target = renamed.get(name, name)
                if target in out:
                    raise Fault(f"two columns become '{target}'")
                out[target] = value
        return out

    def _row(self, row: Dict[str, Any], number: int) -> Dict[str, Any]:
        laid = self._lay_out(row)
        if self.report.numbered:
            if ids.STANDARD in laid:
                raise Failure(DATA, f"there is a column '{ids.STANDARD}' already: --id-from row makes one of that name")
            laid = {ids.STANDARD: f"{self._sources[0].stem}-{number:06d}", **laid}
        self._table.check_id(laid.get(self.report.id))
        try:
            added = self._render(row) if self._render is not None else {}
        except UnicodeEncodeError:
            raise Fault(HALF) from None
        for name in added:
            if name in laid:
                raise Failure(DATA, f"there is a column '{name}' already, which rendering makes: --column {name}=OTHER renames it, "
                                    f"--drop {name} leaves it out")
        out: Dict[str, Any] = {}
        mended = Mended()
        for name, value in {**laid, **added}.items():
            try:
                out[name] = sql_value(value, mended)
            except Fault as fault:
                raise Fault(f"'{name}' {fault}" if str(fault).startswith("holds") else str(fault)) from None
        if self._render is not None and mended.halves > 0:
            raise Fault(HALF)  # spans are of what the messages say
        self._mended = mended
        return out

    # ---- rows ----

    def _rows(self) -> Iterator[Tuple[Source, int, Any]]:
        left = self._options.limit
        for source in self._sources:
            for number, row in source.rows(None):
                if left == 0:
                    return
                left = None if left is None else left - 1
                yield source, number, row

    def _tell(self, source: Source, number: int, fault: Fault) -> None:
        self.report.faults += 1
        if self.report.faults <= SHOWN or self._options.skip_broken:
            self._progress.clear()
            print(f"{source.name}:{number}: {fault}", file=sys.stderr)

    def _choose_id(self) -> None:
        options, first_of = self._options, self._sources[0]
        self.report.numbered = options.number_rows
        if options.id is not None:
            self.report.id = options.id
        elif not options.number_rows and self._peekable():
            laid = {self._options.renamed.get(name, name): name for name in self._first or {} if self._chosen(name)}
            first = None if self._first is None else {target: self._first[name] for target, name in laid.items()}
            if options.append:
                self.report.id = ids.of_table(first, self._table)
            else:
                once = any(source.once for source in self._sources)
                self.report.id = ids.choose(first, first_of.name, once, lambda target: self._values(laid[target]))
        self._table.set_id(self.report.id)

    def _peekable(self) -> bool:
        """The first row that is one, which an import that reads once puts back."""
        self._first: Optional[Dict[str, Any]] = None
        source = self._sources[0]
        if not source.once:
            for one in self._sources:
                self._first = self._first or ids.first_row(one.rows(None))
            return True
        whole = source.rows(None)
        held: List[Any] = []
        for item in whole:
            held.append(item)
            if not isinstance(item[1], Fault):
                self._first = item[1]
                break

        def again(columns: Optional[List[str]]) -> Iterator[Any]:
            yield from held
            yield from whole

        source.rows = again
        return True

    def _values(self, name: str) -> Iterator[Any]:
        left = self._options.limit
        for source in self._sources:
            for _, row in source.rows([name]):
                if left == 0:
                    return
                left = None if left is None else left - 1
                if not isinstance(row, Fault):
                    yield row.get(name)

    def run(self, recorded: Callable[[], Dict[str, Any]]) -> Report:
        """recorded(), at the end: what is kept of the rendering."""
        self._choose_id()
        report, number = self.report, 0
        for source, place, row in self._rows():
            try:
                if isinstance(row, Fault):
                    raise row
                self._seen.update(row)
                self._table.insert(self._row(row, number))
                report.rows += 1
                if self._mended:
                    report.mended.add(self._mended)
                    report.mended_rows += 1
                    report.first_mended = report.first_mended or place
            except Fault as fault:
                self._tell(source, place, fault)
            number += 1
            self._progress.show(report.rows)
        self._progress.clear()
        self._judge()
        origin.write(self._table, self._sources, recorded())
        self._table.commit()
        report.columns = len(self._table.columns)
        if report.mended:
            print(f"{self._sources[0].name}: {report.mended_rows} {'line was' if report.mended_rows == 1 else 'lines were'} not JSON, mended "
                  f"(the first: line {report.first_mended}): {report.mended.words()}", file=sys.stderr)
        return report

    def _judge(self) -> None:
        report = self.report
        name = self._sources[0].name if len(self._sources) == 1 else f"{len(self._sources)} files"
        if report.faults > 0 and not self._options.skip_broken:
            raise Failure(DATA, f"{name}: {report.faults} broken {'row' if report.faults == 1 else 'rows'}; nothing was imported "
                                "(--skip-broken leaves such rows out)")
        if report.rows == 0:
            raise Failure(DATA, f"{name}: {'every row is broken; nothing was imported' if report.faults else 'there are no rows'}")
        for one in sorted(self._asked - self._seen):
            raise Failure(DATA, f"{name}: no row has a column '{one}'; there are {', '.join(sorted(self._seen)[:40])}")
