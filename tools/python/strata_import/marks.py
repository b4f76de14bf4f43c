# SPDX-License-Identifier: MIT
"""Marks: characters that occur nowhere else, put into the texts of messages before they are rendered. Where they come out shows where
each text went; that the rendering without them is the true one, byte for byte, proves that they changed nothing."""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set

from .chats import Message
from .errors import Fault

FIRST, LAST = 0xF0100, 0x10FFFD  # the private planes, but for the characters at their start that transformers uses itself
THINKING = re.compile(r"\s*</(?:think|thinking)>\s*|\s*\[/THINK\]\s*|<(?:think|thinking)>\s*|\[THINK\]\s*")
OUTER, TRIMMED, MIDDLE, LATER, NONE = range(5)  # where the marks of a text are
REASONING = ("reasoning_content", "thinking", "reasoning")


class Field:
    """A text of a message that a template may print."""

    def __init__(self, message: int, role: str, kind: str, paths: List[List[Any]], text: str):
        self.message, self.role = message, role
        self.kind = kind  # content, reasoning or call
        self.paths = paths  # where it stands in the message: reasoning has several names
        self.text = text
        self.lead = len(text) - len(text.lstrip())
        self.stripped = text.strip()

    def places(self, way: int) -> List[int]:
        """Where in the text marks go, ascending; of content and reasoning the first and the last are its own bounds."""
        if way == NONE or not self.stripped:
            return []  # a mark would make something of nothing
        if self.kind == "call":
            return [0]
        if way in (MIDDLE, LATER):
            return [self.lead + len(self.stripped) * (1 if way == MIDDLE else 3) // (2 if way == MIDDLE else 4)]
        end = self.lead + len(self.stripped)
        bounds = [0, len(self.text)] if way == OUTER else [self.lead, end]
        inner: Set[int] = set()
        if self.role == "assistant" and self.kind == "content":
            inner = {at for found in THINKING.finditer(self.text) for at in (found.start(), found.end()) if self.lead < at < end}
        return [bounds[0], *sorted(inner), bounds[1]]


class Mark(NamedTuple):
    field: Field
    place: int  # in the field's text
    first: bool  # the field's beginning
    last: bool  # the field's end


def fields_of(messages: List[Message]) -> List[Field]:
    found = []
    for place, message in enumerate(messages):
        role, content = message["role"], message.get("content")
        reasoning = [name for name in REASONING if isinstance(message.get(name), str)]
        if reasoning:
            found.append(Field(place, role, "reasoning", [[name] for name in reasoning], message[reasoning[0]]))
        if isinstance(content, str):
            found.append(Field(place, role, "content", [["content"]], content))
        elif isinstance(content, list):
            found += [Field(place, role, "content", [["content", i, "text"]], part["text"]) for i, part in enumerate(content)]
        calls = message.get("tool_calls")
        for i, call in enumerate(calls if isinstance(calls, list) else []):
            function = call.get("function", call) if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("name"), str):
                path = ["tool_calls", i, *(["function"] if "function" in call else []), "name"]
                found.append(Field(place, role, "call", [path], function["name"]))
    return found


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


class Marking:
    """The messages with marks in them, and where the marks are in the text."""

    def __init__(self, messages: List[Message], ways: Dict[Field, int], spare: Iterator[str]):
        self.messages = [_copied(message) for message in messages]
        self.ways = ways
        self.marks: Dict[str, Mark] = {}
        self.at: Dict[str, List[int]] = {}  # mark -> its places in the text without marks, ascending
        for field, way in ways.items():
            self._mark(field, field.places(way), spare)

    def _mark(self, field: Field, places: List[int], spare: Iterator[str]) -> None:
        text, before = "", 0
        for i, place in enumerate(places):
            mark = next(spare, None)
            if mark is None:
                raise Fault("more messages than can be told apart")
            bounded = self.ways[field] in (OUTER, TRIMMED)
            self.marks[mark] = Mark(field, place, bounded and i == 0, bounded and i == len(places) - 1 and field.kind != "call")
            text += field.text[before:place] + mark
            before = place
        for path in field.paths:
            target = self.messages[field.message]
            for key in path[:-1]:
                target = target[key]
            if target[path[-1]] == field.text:  # a reasoning that differs under another name stays as it is
                target[path[-1]] = text + field.text[before:]

    def read(self, rendered: str) -> str:
        """Notes where the marks are; the text without them."""
        pieces, at, count = [], 0, 0
        self.at = {}
        for found in re.finditer(f"[{chr(FIRST)}-{chr(LAST)}]", rendered):
            mark = found[0]
            if mark in self.marks:
                pieces.append(rendered[at:found.start()])
                count += found.start() - at
                at = found.end()
                self.at.setdefault(mark, []).append(count)
        return "".join(pieces) + rendered[at:]

    def last_in(self, rendered: str) -> int:
        """Where the last mark is, -1 without any."""
        return next((i for i in range(len(rendered) - 1, -1, -1) if rendered[i] in self.marks), -1)


class Spare:
    """Characters that a row does not have, afresh for each marking."""

    def __init__(self, *parts: Any):
        there = json.dumps(parts, ensure_ascii=False)
        self.used = set(re.findall(f"[{chr(FIRST)}-{chr(LAST)}]", there))

    def probe(self) -> str:
        """One that characters() does not give."""
        found = next(chr(i) for i in range(LAST, FIRST, -1) if chr(i) not in self.used)
        self.used.add(found)
        return found

    def characters(self) -> Iterator[str]:
        return (chr(i) for i in range(FIRST, LAST + 1) if i & 0xFFFE != 0xFFFE and chr(i) not in self.used)


def prove(messages: List[Message], text: str, render: Callable[[List[Message]], str], spare: Spare) -> Optional[Marking]:
    """A marking that changes nothing of `text`. Texts in which no mark can be are without; None when even so nothing is proven."""
    fields = fields_of(messages)

    def tried(ways: Dict[Field, int]) -> Optional[Marking]:
        marking = Marking(messages, ways, spare.characters())
        try:
            return marking if marking.read(render(marking.messages)) == text else None
        except Fault as fault:
            if "more messages" in str(fault):
                raise
            return None

    for way in (OUTER, TRIMMED):
        found = tried({field: way for field in fields})
        if found is not None:
            return found
    ways = {}
    for field in fields:
        ways[field] = next((way for way in (TRIMMED, MIDDLE, LATER) if tried({field: way}) is not None), NONE)
    return tried(ways)
