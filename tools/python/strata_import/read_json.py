# SPDX-License-Identifier: MIT
"""Rows of JSON lines and of JSON arrays, one at a time."""

from __future__ import annotations

import json
from typing import Any, BinaryIO, Dict, Iterator, Tuple, Union

from .errors import DATA, Failure, Fault
from .values import Decoder

LIMIT = 256 << 20  # bytes of one row
BLOCK = 1 << 18
BLANK = b" \t\r\n"
SPACES = " \t\r\n"
MARK = "\ufeff"

Row = Tuple[int, Union[Dict[str, Any], Fault]]


def as_row(value: Any) -> Union[Dict[str, Any], Fault]:
    return value if isinstance(value, dict) else Fault("not a JSON object")


def json_lines(stream: BinaryIO, name: str) -> Iterator[Row]:
    decoder = Decoder()
    number = 0
    while True:
        line = stream.readline(LIMIT + 1)
        if not line:
            return
        number += 1
        if len(line) > LIMIT:
            raise Failure(DATA, f"{name}: line {number} is longer than {LIMIT >> 20} MiB")
        if not line.strip(BLANK):
            continue
        try:
            text = line.decode("utf-8")
            yield number, as_row(decoder.line(text[1:] if number == 1 and text[0] == MARK else text))
        except UnicodeDecodeError as error:
            yield number, Fault(f"byte {error.start + 1} is not UTF-8")
        except Fault as fault:
            yield number, fault


class Window:
    """The part of a text file that is looked at."""

    def __init__(self, stream: BinaryIO, name: str):
        self._stream, self._name = stream, name
        self._left = b""  # bytes of a character that is not whole yet
        self.text, self.at, self.ended, self.row = "", 0, False, 0

    def more(self) -> None:
        """Reads as much again as there is, so that a long row is decoded a few times only."""
        read = self._stream.read(max(BLOCK, len(self.text) - self.at))
        self.ended = not read
        data = self._left + read
        try:
            fresh, self._left = data.decode("utf-8"), b""
        except UnicodeDecodeError as error:
            if self.ended or len(data) - error.start > 3:
                raise Failure(DATA, f"{self._name}: after row {self.row}: bytes that are not UTF-8") from None
            fresh, self._left = data[:error.start].decode("utf-8"), data[error.start:]
        self.text = self.text[self.at:] + fresh
        self.at = 0

    def next(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in SPACES:
                    return self.text[self.at]
                self.at += 1
            if self.ended:
                return ""
            self.more()


def json_array(stream: BinaryIO, name: str) -> Iterator[Row]:
    """The objects of one array. Where the text is no JSON, nothing says where the next one begins: the import ends."""
    decoder = Decoder()
    window = Window(stream, name)
    if window.next() == MARK:
        window.at += 1
    if window.next() != "[":
        raise Failure(DATA, f"{name} holds no JSON array")
    window.at += 1
    if window.next() == "]":
        window.at += 1
    else:
        while True:
            if not window.next():
                raise Failure(DATA, f"{name}: the array ends too early, after row {window.row}")
            value, odd = _element(decoder, window, name)
            window.row += 1
            yield window.row, odd if odd is not None else as_row(value)
            after = window.next()
            window.at += 1
            if after == "]":
                break
            if after != ",":
                raise Failure(DATA, f"{name}: after row {window.row}: "
                                    f"{'the array ends too early' if not after else 'neither a comma nor the end of the array'}")
    if window.next():
        raise Failure(DATA, f"{name}: text after the end of the array")


def _element(decoder: Decoder, window: Window, name: str) -> Tuple[Any, Union[Fault, None]]:
    while True:
        try:
            value, end, odd = decoder.at(window.text, window.at)
            if end < len(window.text) or window.ended:  # a number at the very end may go on
                window.at = end
                return value, odd
        except json.JSONDecodeError as error:
            if window.ended:
                raise Failure(DATA, f"{name}: row {window.row + 1}: {error.msg}") from None
        except RecursionError:
            raise Failure(DATA, f"{name}: row {window.row + 1}: lists and objects within each other too deep") from None
        if len(window.text) - window.at > LIMIT:
            raise Failure(DATA, f"{name}: row {window.row + 1} is longer than {LIMIT >> 20} MiB, or no JSON")
        window.more()
