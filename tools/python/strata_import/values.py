# SPDX-License-Identifier: MIT
"""A value of a row as SQLite keeps it, as `strata import` stores it bit for bit: scalars as they are, lists and structs as JSON."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
import uuid
from typing import Any, Dict, List, Tuple, Union

from .errors import Fault

SMALLEST, LARGEST = -(1 << 63), (1 << 63) - 1
DEPTH = 2048  # of lists in lists, jansson's own

HALF = "half of a surrogate pair, which is not a character"
SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
SURROGATE = re.compile("[\ud800-\udfff]")
ESCAPED = re.compile(r'[\x00-\x1f"\\]')

Sql = Union[None, int, float, str]


def quote(text: str) -> str:
    return '"' + ESCAPED.sub(lambda found: SHORT.get(found[0]) or f"\\u{ord(found[0]):04X}", text) + '"'


class Beyond(str):
    """The digits of an integer that 64 bits do not hold."""


class Mended:
    """What was put in the place of what Python's json.dumps writes and JSON, or 64 bits, do not have: the rules of `strata import`."""

    def __init__(self) -> None:
        self.halves = self.not_finite = self.beyond = 0

    def __bool__(self) -> bool:
        return self.halves + self.not_finite + self.beyond > 0

    def add(self, other: "Mended") -> None:
        self.halves += other.halves
        self.not_finite += other.not_finite
        self.beyond += other.beyond

    def words(self) -> str:
        kinds = ((self.halves, "half of a surrogate pair -> U+FFFD"), (self.not_finite, "NaN or Infinity -> NULL"),
                 (self.beyond, "integer beyond 64 bits -> text of its digits"))
        return ", ".join(f"{count} x {what}" for count, what in kinds if count > 0)

    def text(self, value: str) -> str:
        self.beyond += isinstance(value, Beyond)
        mended, count = SURROGATE.subn("\ufffd", value)
        self.halves += count
        return mended

    def number(self, value: Union[int, float]) -> Union[None, int, float, str]:
        if isinstance(value, float):
            self.not_finite += not math.isfinite(value)
            return value if math.isfinite(value) else None
        self.beyond += not SMALLEST <= value <= LARGEST
        return value if SMALLEST <= value <= LARGEST else str(value)


def real_text(value: float) -> str:
    """jansson's: 17 digits, always with a point or an exponent, and nothing needless in the exponent."""
    text = f"{value:.17g}"
    if "e" in text:
        digits, exponent = text.split("e")
        return f"{digits}e{int(exponent)}"
    return text if "." in text else text + ".0"


def plain(value: Any) -> Any:
    """What Arrow has and JSON has not, as text."""
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID, datetime.timedelta)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise Fault("holds bytes, not text (--drop leaves the column out)")
    raise Fault(f"holds a {type(value).__name__}, which is no JSON value (--drop leaves the column out)")


def json_text(value: Any, mended: Mended, depth: int = 1) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(mended.text(value))
    if isinstance(value, (int, float)):
        sound = mended.number(value)
        return "null" if sound is None else quote(sound) if isinstance(sound, str) else real_text(sound) if isinstance(sound, float) else str(sound)
    if depth > DEPTH:
        raise Fault(f"lists and objects within each other deeper than {DEPTH}")
    if isinstance(value, dict):
        return "{" + ",".join(f"{quote(str(key))}:{json_text(item, mended, depth + 1)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(json_text(item, mended, depth + 1) for item in value) + "]"
    return quote(plain(value))


def sql_value(value: Any, mended: Mended) -> Sql:
    if value is None:
        return None
    if isinstance(value, str):
        return mended.text(value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return mended.number(value)
    return json_text(value, mended, 2) if isinstance(value, (dict, list, tuple)) else plain(value)


class Decoder:
    """Python's JSON decoder, as strict as `strata import`: what JSON does not have is noted while the text is read on, so that the
    end of the value is known all the same."""

    def __init__(self) -> None:
        self._odd: List[str] = []
        self._json = json.JSONDecoder(object_pairs_hook=self._object, parse_int=self._integer)

    def _object(self, pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            self._odd.append("a name is there twice in an object")
        if any("\0" in key for key in found):
            self._odd.append("a NUL in a name")
        if any(SURROGATE.search(key) for key in found):
            self._odd.append(f"{HALF}, in a member's name")
        return found

    def _integer(self, digits: str) -> Union[int, Beyond]:
        value = int(digits) if len(digits) <= 20 else LARGEST + 1
        return value if SMALLEST <= value <= LARGEST else Beyond(digits)

    def at(self, text: str, start: int) -> Tuple[Any, int, Union[Fault, None]]:
        """The value that begins at `start`, where it ends, and what is odd about it. json.JSONDecodeError when it is no JSON."""
        self._odd.clear()
        value, end = self._json.raw_decode(text, start)
        return value, end, Fault(self._odd[0]) if self._odd else None

    def line(self, text: str) -> Any:
        """The one value of a line. Fault."""
        begin = len(text) - len(text.lstrip(" \t\r\n"))
        try:
            value, end, odd = self.at(text, begin)
        except json.JSONDecodeError as error:
            raise Fault(f"column {error.colno}: {error.msg}") from None
        except RecursionError:
            raise Fault(f"lists and objects within each other deeper than {DEPTH}") from None
        if odd is not None:
            raise odd
        if text[end:].strip(" \t\r\n"):
            raise Fault(f"column {end + 1}: more than one value")
        return value
