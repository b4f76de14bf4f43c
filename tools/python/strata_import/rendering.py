# SPDX-License-Identifier: MIT
"""The two columns that rendering adds to a row: the text, and who said what of it."""

from __future__ import annotations

import json
from typing import Any, Dict, Optional

from . import chats
from .errors import DATA, Failure
from .spans import Row, byte_spans
from .templates import Template

TEXT, ROLES = "text", "roles"


class Rendering:
    def __init__(self, template: Template, messages: Optional[str], tools: Optional[str], documents: Optional[str], include_end: bool):
        self._template = template
        self._messages, self._tools, self._documents = messages, tools, documents
        self._include_end = include_end
        self.with_bos = self.without_turns = self.rendered = 0
        self.unprinted: Dict[str, int] = {}  # role -> chats with a message of it that the template leaves out

    def _column(self, row: Dict[str, Any]) -> str:
        """The column with messages: that of the first row, from then on."""
        if self._messages is None:
            self._messages = next((name for name in chats.USUAL if row.get(name) is not None), None)
        there = self._messages or next((name for name in chats.USUAL if name in row), None)
        if there is None:
            raise Failure(DATA, f"there is no column {' or '.join(chats.USUAL)}: --messages names the one with the chats; "
                                f"the row has {', '.join(list(row)[:40])}")
        return there

    def __call__(self, row: Dict[str, Any]) -> Dict[str, Any]:
        messages = chats.messages_of(row, self._column(row))
        if not self._template.takes_parts:
            messages = chats.joined(messages)
        tools, documents = chats.list_of(row, self._tools), chats.list_of(row, self._documents)
        rendered = Row(self._template, messages, tools, documents, self._include_end)
        spans = rendered.spans()
        self._template.note(tools)
        bos = self._template.bos
        self.with_bos += bos != "" and rendered.text.startswith(bos)
        self.without_turns += all(span.role != "assistant" for span in spans)
        for role in rendered.unprinted():
            self.unprinted[role] = self.unprinted.get(role, 0) + 1
        self.rendered += 1
        return {TEXT: rendered.text, ROLES: json.dumps(byte_spans(rendered.text, spans), ensure_ascii=False)}

    def record(self) -> Dict[str, Any]:
        return {**self._template.record(), "span_end": "include" if self._include_end else "exclude",
                "begins_with_bos": 0 < self.with_bos == self.rendered}
