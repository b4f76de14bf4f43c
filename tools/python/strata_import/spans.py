# SPDX-License-Identifier: MIT
"""Where each message lies in a rendered text. Every answer is one that the text proves; a row without one is refused.

- What a user, a system message or a tool said lies between the marks of its content (marks.py).
- An assistant's turn is what the model has to write: it begins where the generation prompt ends, and ends with the marker that closes
  the turn. Both are found by rendering the chat up to there: what follows the last mark then has to stand at that mark in the whole
  text. Where the template says {% generation %}, that is the turn."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from .chats import Message
from .errors import Fault
from .marks import LATER, MIDDLE, NONE, Field, Marking, Spare, prove
from .templates import Template


class Span(NamedTuple):
    role: str
    start: int
    end: int


def common(a: str, b: str) -> int:
    """How long both begin alike."""
    size = min(len(a), len(b))
    return next((i for i in range(size) if a[i] != b[i]), size)


class Row:
    """One chat, rendered."""

    def __init__(self, template: Template, messages: List[Message], tools: Optional[List[Any]], documents: Optional[List[Any]],
                 include_end: bool):
        self._template, self._tools, self._documents = template, tools, documents
        self._include_end = include_end
        self._messages = messages
        self._prompt = ""  # the generation prompt, once it was seen
        self.text = template.render(messages, tools, documents)
        spare = Spare(messages, tools, documents, template.arguments, template.text(tools), self.text)
        self._probe = spare.probe()
        marking = prove(messages, self.text, lambda marked: template.render(marked, tools, documents), spare)
        if marking is None:
            raise Fault("where the messages lie in the rendered text cannot be told")
        self._marking: Marking = marking

    def spans(self) -> List[Span]:
        found = [span for field in self._marking.ways if field.role != "assistant" and field.kind == "content" for span in self._of_field(field)]
        if self._template.marks_generation(self._tools):
            found += self._generated()
        else:
            found += [span for i, message in enumerate(self._messages) if message["role"] == "assistant" for span in self._turn(i)]
        found.sort(key=lambda span: (span.start, span.end))
        for before, after in zip(found, found[1:]):
            if before.end > after.start:
                raise Fault(f"the spans of {before.role} and {after.role} overlap in the rendered text")
        return found

    def unprinted(self) -> Set[str]:
        """Roles of messages of whose content, or of one of whose calls, the template prints nothing."""
        printed = {mark.field for sign, mark in self._marking.marks.items() if self._marking.at.get(sign)}
        return {field.role for field, way in self._marking.ways.items()
                if field.kind != "reasoning" and field.stripped and way != NONE and field not in printed}

    # ---- what others said ----

    def _of_field(self, field: Field) -> List[Span]:
        way = self._marking.ways[field]
        if not field.stripped:
            return []
        if way == NONE:
            raise Fault(f"message {field.message}: where its content lies in the rendered text cannot be told")
        places = [self._marking.at.get(mark, []) for mark, of in self._marking.marks.items() if of.field is field]
        if way in (MIDDLE, LATER):
            before = field.places(way)[0] - field.lead
            bounds = [(at - before, at - before + len(field.stripped)) for at in places[0]]
        elif len(places[0]) != len(places[-1]):
            raise Fault(f"message {field.message}: the template prints a part of its content")
        else:
            bounds = list(zip(places[0], places[-1]))
        for start, end in bounds:
            exact = field.role == "user" or way in (MIDDLE, LATER)  # others may be printed as JSON
            if start < 0 or start > end or (exact and self.text[start:end].strip() != field.stripped):
                raise Fault(f"message {field.message}: the template prints its content otherwise")
        return [Span(field.role, start, end) for start, end in bounds if end > start]

    # ---- what the assistant said ----

    def _tail(self, messages: List[Message], prompt: bool) -> Optional[Tuple[int, str]]:
        """Of a part of the chat: where its last mark is in the whole text, and what follows the mark in the part's own rendering."""
        if messages:
            try:
                rendered = self._template.render(messages, self._tools, self._documents, prompt)
            except Fault:
                return None
        else:
            rendered = ""
        at = self._marking.last_in(rendered)
        if at < 0:
            return 0, rendered
        mark = rendered[at]
        places = self._marking.at.get(mark, [])
        if self._marking.marks[mark].field.kind == "call":  # which a tool's answer may name again
            places = places[rendered.count(mark) - 1:][:1]
        return (places[0], rendered[at + 1:]) if len(places) == 1 else None

    def _places(self, sign: str) -> List[int]:
        """Where a mark of an assistant's message is within its turn: of a call, where it is made."""
        places = self._marking.at.get(sign, [])
        return places[:1] if self._marking.marks[sign].field.kind == "call" else places

    def _own(self, i: int) -> List[Tuple[int, Any]]:
        """The marks of a message in the text, ascending: (place, mark)."""
        return sorted(((place, mark) for sign, mark in self._marking.marks.items() if mark.field.message == i
                       for place in self._places(sign)), key=lambda one: one[0])

    def _turn(self, i: int) -> List[Span]:
        own = self._own(i)
        start, prompt = self._begin(i, own)
        end = self._end(i, own, start, prompt)
        following = [place for sign, mark in self._marking.marks.items() if mark.field.message > i
                     for place in self._marking.at.get(sign, []) if place >= start]
        if end < start or any(place < end for place in following) or any(not start <= place <= end for place, _ in own):
            raise Fault(f"message {i}: where the assistant's turn lies in the rendered text cannot be told")
        return [Span("assistant", start, end)] if end > start else []

    def _begin(self, i: int, own: List[Tuple[int, Any]]) -> Tuple[int, str]:
        """Where the turn begins, and the generation prompt before it."""
        before = self._marking.messages[:i]
        limit = own[0][0] if own else None
        prompted = self._tail(before, True)
        if prompted is not None and self._prompt and prompted[1].endswith(self._prompt) and self._stands(prompted, limit):
            return prompted[0] + len(prompted[1]), self._prompt
        bare = self._tail(before, False)
        prompt = ""
        if prompted is not None and bare is not None and prompted[0] == bare[0] and prompted[1].startswith(bare[1]):
            prompt = prompted[1][len(bare[1]):]
        if prompted is not None and prompt:
            self._prompt = prompt
            base, tail = prompted
            if self._stands(prompted, limit):
                return base + len(tail), prompt
            if limit is not None and base + common(self.text[base:], tail) >= limit:
                return limit, prompt  # the prompt goes on where this turn has something else: reasoning that is switched off, say
        for heading in self._headings(i, prompted, bare):
            if self._stands(heading, limit):
                return heading[0] + len(heading[1]), prompt
        raise Fault(f"message {i}: where the assistant's turn begins in the rendered text cannot be told")

    def _stands(self, tail: Tuple[int, str], limit: Optional[int]) -> bool:
        """Whether it is what the text has there, before any of the turn's own words."""
        base, words = tail
        return self.text.startswith(words, base) and (limit is None or base + len(words) <= limit)

    def _headings(self, i: int, prompted: Optional[Tuple[int, str]], bare: Optional[Tuple[int, str]]) -> List[Tuple[int, str]]:
        """What stands before a plain reply at this place, from the last mark before it on. A blank at its end is of the reply's first
        token; where there is nothing but blanks, there is no heading. It begins as a chat does that ends here, or is all of the
        generation prompt, of a template that ends chats otherwise without it."""
        found = []
        for rendered in self._probed(i, self._marking.messages[:i], [self._messages[i + 1:], []], [False]):
            before = rendered[:rendered.index(self._probe)]
            at = self._marking.last_in(before)
            places = self._marking.at.get(before[at], []) if at >= 0 else [0]
            whole = (places[0] if len(places) == 1 else -1, before[at + 1:])
            if bare is not None and whole[0] == bare[0] and whole[1].startswith(bare[1]):
                heading = whole[1][len(bare[1]):]
                found.append((bare[0], bare[1] + (heading.rstrip(" ") if heading.strip() else "")))
            elif whole == prompted:
                found.append(whole)
        return found

    def _probed(self, i: int, before: List[Message], after: List[List[Message]], prompts: List[bool]) -> List[str]:
        """Renderings with a plain reply, between two marks of its own, in the place of message i."""
        found = []
        reply = {"role": self._messages[i]["role"], "content": f"{self._probe}reply{self._probe}"}
        for following in after:
            for prompt in prompts:
                try:
                    rendered = self._template.render([*before, reply, *following], self._tools, self._documents, prompt)
                except Fault:
                    continue
                if rendered.count(self._probe) == 2:
                    found.append(rendered)
        return found

    def _end(self, i: int, own: List[Tuple[int, Any]], start: int, prompt: str) -> int:
        ends: List[int] = []
        closed = own[-1][0] if own and own[-1][1].last else None
        for prompted in (False, True):
            if prompted and closed is not None and ends and ends[0] > closed:
                break  # the marker was found
            found = self._tail(self._marking.messages[:i + 1], prompted)
            if found is None:
                continue
            base, tail = found
            if prompted and (not prompt or not tail.endswith(prompt)):
                continue
            tail = (tail[:-len(prompt)] if prompted else tail).rstrip()
            if self.text.startswith(tail, base):
                ends.append(base + len(tail))
        if not ends and (closed is not None or not own):  # a chat that ends here is refused, or ends otherwise
            bare = closed if closed is not None else start
            at = bare + len(self.text[bare:]) - len(self.text[bare:].lstrip())
            ends = [at + len(marker) for marker in self._closing(i, prompt) if self.text.startswith(marker, at)][:1]
            if ends and self._heads_next(i, at, ends[0]):
                return bare
        if not ends:
            raise Fault(f"message {i}: where the assistant's turn ends in the rendered text cannot be told")
        end = max(ends)
        return end if self._include_end or end <= start else self._before_marker(i, closed, start, end, prompt)

    def _heads_next(self, i: int, at: int, end: int) -> bool:
        """Whether a piece of the text closes no turn but is all the heading of the next message: of a chat that begins there, too."""
        try:
            rendered = self._template.render(self._marking.messages[i + 1:], self._tools, self._documents) if i + 1 < len(self._messages) else ""
        except Fault:
            return False
        first = next((k for k, character in enumerate(rendered) if character in self._marking.marks), -1)
        places = self._marking.at.get(rendered[first], []) if first >= 0 else []
        between = self.text[at:places[0]] if len(places) == 1 else ""
        if not between or not rendered[:first].endswith(between):
            return False
        whole = between.strip() == self.text[at:end]
        if not whole and self._marking.marks[rendered[first]].field.message > i + 1:  # the next message is empty
            raise Fault(f"message {i}: where the assistant's turn ends in the rendered text cannot be told")
        return whole

    def _before_marker(self, i: int, closed: Optional[int], start: int, end: int, prompt: str) -> int:
        if closed is not None:
            return closed
        turn = self.text[start:end].rstrip()
        for marker in self._closing(i, prompt):
            if turn.endswith(marker):
                return start + len(turn[:-len(marker)].rstrip())
        raise Fault(f"message {i}: the marker that ends the assistant's turn cannot be told from it")

    def _closing(self, i: int, prompt: str) -> List[str]:
        """Markers that may end the turn: what the template puts behind a plain reply at this place, then any token that it may be."""
        found = set()
        for rendered in self._probed(i, self._messages[:i], [[]], [False, True]):
            after = rendered[rendered.rindex(self._probe) + 1:]
            found.add((after[:-len(prompt)] if prompt and after.endswith(prompt) else after).strip())
        return [marker for marker in sorted(found, key=len, reverse=True) + self._template.markers if marker]

    def _generated(self) -> List[Span]:
        text, blocks = self._template.generated(self._messages, self._tools, self._documents)
        if text != self.text:
            raise Fault("the template's {% generation %} renders another text")
        marks = [(place, mark) for sign, mark in self._marking.marks.items() if mark.field.role == "assistant"
                 for place in self._places(sign)]
        blocks = self._whole_turns(blocks, [place for place, _ in marks])
        self._check_whole(blocks)
        found = []
        for start, end in blocks:
            if not 0 <= start <= end <= len(text):
                raise Fault("the template's {% generation %} lies where it is not rendered")
            if not self._include_end and end > start:
                inside = sorted((one for one in marks if start <= one[0] <= end), key=lambda one: one[0])
                closed = inside[-1][0] if inside and inside[-1][1].last else None
                end = self._before_marker(inside[-1][1].field.message if inside else 0, closed, start, end, "")
            if end > start:
                found.append(Span("assistant", start, end))
        return found

    @staticmethod
    def _whole_turns(blocks: List[Tuple[int, int]], places: List[int]) -> List[Tuple[int, int]]:
        """A block in which nothing is said and that follows another at once is that one's end: the token that closes the chat, say."""
        found: List[Tuple[int, int]] = []
        for start, end in blocks:
            if found and start == found[-1][1] and not any(start < place <= end for place in places):
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
        return found

    def _check_whole(self, blocks: List[Tuple[int, int]]) -> None:
        """A {% generation %} within a macro may be told at the wrong place: it cuts through what somebody said, or has nothing of it."""
        by_field: Dict[Field, List[int]] = {}
        for sign, mark in self._marking.marks.items():
            if mark.field.role == "assistant":
                by_field.setdefault(mark.field, []).extend(self._places(sign))
        heard = {field.message for field, places in by_field.items() if places}
        silent = any(message["role"] == "assistant" and i not in heard for i, message in enumerate(self._messages))
        for start, end in blocks:
            if any(min(places) < bound < max(places) for places in by_field.values() if places for bound in (start, end)):
                raise Fault("the template's {% generation %} cuts through what the assistant said")
            if not silent and not any(start <= place <= end for places in by_field.values() for place in places):
                raise Fault("the template's {% generation %} has nothing of what the assistant said")


def byte_spans(text: str, spans: List[Span]) -> List[Dict[str, Any]]:
    """As a job reads them: bytes of the text in UTF-8."""
    found, at, count = [], 0, 0
    for span in spans:
        count += len(text[at:span.start].encode())
        size = len(text[span.start:span.end].encode())
        found.append({"role": span.role, "start": count, "end": count + size})
        at, count = span.end, count + size
    return found
