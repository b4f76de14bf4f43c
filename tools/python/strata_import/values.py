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
ESCAPED = re.compile(r'[\x00-\x1f"\\]')

Sql = Union[None, int, float, str]


def quote(text: str) -> str:
    return '"' + ESCAPED.sub(lambda found: SHORT.get(found[0]) or f"\\u{ord(found[0]):04X}", text) + '"'


def number(value: Union[int, float]) -> Union[int, float]:
    if isinstance(value, float):
        if math.isnan(value):
            raise Fault("NaN and Infinity are not JSON numbers")
        if math.isinf(value):
            raise Fault("a number beyond a double's range")
    elif not SMALLEST <= value <= LARGEST:
        raise Fault("an integer beyond 64 bits")
    return value


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


def json_text(value: Any, depth: int = 1) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int):
        return str(number(value))
    if isinstance(value, float):
        return real_text(number(value))
    if depth > DEPTH:
        raise Fault(f"lists and objects within each other deeper than {DEPTH}")
    if isinstance(value, dict):
        return "{" + ",".join(f"{quote(str(key))}:{json_text(item, depth + 1)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(json_text(item, depth + 1) for item in value) + "]"
    return quote(plain(value))


def sql_value(value: Any) -> Sql:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return number(value)
    return json_text(value, 2) if isinstance(value, (dict, list, tuple)) else plain(value)


class Decoder:
    """Python's JSON decoder, as strict as `strata import`: what JSON does not have is noted while the text is read on, so that the
    end of the value is known all the same."""

    def __init__(self) -> None:
        self._odd: List[str] = []
        self._json = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._constant, parse_int=self._integer,
                                      parse_float=self._real)

    def _object(self, pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            self._odd.append("a name is there twice in an object")
        if any("\0" in key for key in found):
            self._odd.append("a NUL in a name")
        return found

    def _constant(self, word: str) -> None:
        self._odd.append("NaN and Infinity are not JSON numbers")

    def _integer(self, digits: str) -> int:
        if len(digits) < 19:
            return int(digits)
        value = int(digits) if len(digits) <= 20 else LARGEST + 1
        if not SMALLEST <= value <= LARGEST:
            self._odd.append("an integer beyond 64 bits")
        return value

    def _real(self, digits: str) -> float:
        value = float(digits)
        if math.isinf(value):
            self._odd.append("a number beyond a double's range")
        return value

    def at(self, text: str, start: int) -> Tuple[Any, int, Union[Fault, None]]:
        """The value that begins at `start`, where it ends, and what is odd about it. json.JSONDecodeError when it is no JSON."""
        self._odd.clear()
        value, end = self._json.raw_decode(text, start)
        if not self._odd and re.search(r"\\u[dD][89a-fA-F]", text[start:end]):
            try:
                json_text(value).encode()
            except UnicodeEncodeError:
                self._odd.append(HALF)
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
