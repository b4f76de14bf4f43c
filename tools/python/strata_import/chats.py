# SPDX-License-Identifier: MIT
"""The messages of a row, in the form that templates take: a list of objects with role and content."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from .errors import Fault
from .values import Decoder

USUAL = ("messages", "conversations")
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
            "assistant": "assistant", "model": "assistant", "system": "system", "tool": "tool", "function": "tool", "observation": "tool"}

Message = Dict[str, Any]


def parsed(value: Any, column: str) -> Any:
    """A value that may be JSON text, as it is in a table of text."""
    if not isinstance(value, str):
        return value
    try:
        return Decoder().line(value)
    except Fault as fault:
        raise Fault(f"'{column}' is neither a list nor JSON: {fault}") from None


def messages_of(row: Dict[str, Any], column: str) -> List[Message]:
    """Fault when there are none, or one is none that a template could be given."""
    value = parsed(row.get(column), column)
    if value is None:
        raise Fault(f"there is no '{column}'")
    if not isinstance(value, list):
        raise Fault(f"'{column}' is not a list of messages")
    if not value:
        raise Fault(f"'{column}' has no messages")
    return [_message(one, place) for place, one in enumerate(value)]


def _message(value: Any, place: int) -> Message:
    if not isinstance(value, dict):
        raise Fault(f"message {place} is not an object")
    message = {key: item for key, item in value.items() if item is not None}
    if "role" not in message and "from" in message:
        given = message.pop("from")
        if given not in SHAREGPT:
            raise Fault(f"message {place} is from '{given}', of which no role is known here")
        message["role"] = SHAREGPT[given]
        if "value" in message:
            message["content"] = message.pop("value")
    if not isinstance(message.get("role"), str) or not message["role"]:
        raise Fault(f"message {place} has no role")
    content = message.get("content")
    if isinstance(content, list):
        message["content"] = [_part(part, place) for part in content]
    elif content is not None and not isinstance(content, str):
        raise Fault(f"message {place}: the content is neither text nor a list of parts")
    return message


def _part(part: Any, place: int) -> Dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    found = {key: item for key, item in part.items() if item is not None} if isinstance(part, dict) else {}
    if found.get("type", "text") != "text" or not isinstance(found.get("text"), str):
        kind = found.get("type", type(part).__name__)
        raise Fault(f"message {place} has a part of type '{kind}': only text can be rendered")
    return {**found, "type": "text"}


def joined(messages: List[Message]) -> List[Message]:
    """For templates that take no parts: their texts, one after another."""
    return [{**message, "content": "".join(part["text"] for part in message["content"])}
            if isinstance(message.get("content"), list) else message for message in messages]


def list_of(row: Dict[str, Any], column: Optional[str]) -> Optional[List[Any]]:
    """Tools or documents of a row; None where there are none."""
    value = parsed(row.get(column), column) if column is not None else None
    if value is None:
        return None
    if not isinstance(value, list):
        raise Fault(f"'{column}' is not a list")
    if any(not isinstance(one, dict) for one in value):
        raise Fault(f"'{column}' is not a list of objects")
    return value or None
