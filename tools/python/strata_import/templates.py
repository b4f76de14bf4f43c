# SPDX-License-Identifier: MIT
"""Chat templates: found where transformers finds them, rendered by transformers itself, with a date that stands still."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
from typing import Any, Dict, List, Optional, Tuple

from .chats import Message
from .errors import DATA, USAGE, Failure, Fault, missing

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def _transformers() -> Any:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        import jinja2  # noqa: F401
        import transformers
        from transformers.utils import chat_template_utils

        chat_template_utils._compile_jinja_template, chat_template_utils.render_jinja_template
    except ImportError as error:
        raise missing("transformers jinja2", f"rendering chats ({error})") from None
    except AttributeError:
        raise missing("'transformers>=4.53'", "rendering chats") from None
    return transformers


def _of_model(folder: str) -> Any:
    transformers = _transformers()
    if not os.path.isdir(folder):
        raise Failure(DATA, f"{folder} is not a model folder here: `hf download {folder} --local-dir DIR` gets one"
                      if re.match(r"^[\w.-]+/[\w.-]+$", folder) else f"{folder} is not a model folder")
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever lies in the folder
        text = str(error).strip().splitlines()
        raise Failure(DATA, f"{folder}: the tokenizer cannot be read: {text[0] if text else type(error).__name__}") from None


def _without_model() -> Any:
    """A tokenizer that knows no token: a template file by itself."""
    transformers = _transformers()
    from tokenizers import Tokenizer, models

    return transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({}, unk_token="")))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(DATA, f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


class Template:
    def __init__(self, model: Optional[str], file: Optional[str], name: Optional[str], date: datetime.date, arguments: Dict[str, Any],
                 add_generation_prompt: bool):
        self._tokenizer = _of_model(model) if model is not None else _without_model()
        self.arguments, self.date = arguments, date
        self.add_generation_prompt = add_generation_prompt
        self.date_used = False
        self._chosen = _read(file) if file is not None else None
        self._compiled: Dict[str, None] = {}
        there = self._tokenizer.chat_template
        if file is None and not there:
            raise Failure(DATA, f"{model} has no chat template: --chat-template FILE gives one")
        if name is not None:
            named = there if isinstance(there, dict) else {"default": there}
            if file is not None or name not in named:
                raise Failure(USAGE, f"there is no template '{name}': {model} has {', '.join(sorted(named))}" if file is None else
                              "--template-name chooses among a model's templates, --chat-template gives one: one of them")
            self._chosen = named[name]
        self.takes_parts = self._probe_parts()
        self.sums: Dict[str, str] = {}  # SHA-256 of those that were used, by name

    # ---- rendering ----

    def text(self, tools: Optional[List[Any]]) -> str:
        """The template's own text, which may depend on there being tools."""
        try:
            found = self._chosen if self._chosen is not None else self._tokenizer.get_chat_template(None, tools)
        except ValueError as error:
            raise Failure(USAGE, f"{error} (--template-name chooses one)") from None
        if found not in self._compiled:
            self._pin(found)
        return found

    def _pin(self, text: str) -> None:
        """Templates ask for the date by strftime_now: the same one in every row, today and next year."""
        from transformers.utils import chat_template_utils

        def strftime_now(form: str) -> str:
            self.date_used = True
            return datetime.datetime.combine(self.date, datetime.time()).strftime(form)

        try:
            compiled = chat_template_utils._compile_jinja_template(text)
        except Exception as error:  # jinja2's, of a text that is no template
            raise Failure(DATA, f"the chat template cannot be read: {error}") from None
        compiled.environment.globals["strftime_now"] = strftime_now
        self._compiled[text] = None

    def render(self, messages: List[Message], tools: Optional[List[Any]], documents: Optional[List[Any]],
               prompt: Optional[bool] = None) -> str:
        """As apply_chat_template(..., tokenize=False); prompt: whether with the generation prompt. Fault when the template refuses."""
        try:
            return self._tokenizer.apply_chat_template(
                messages, tools=tools, documents=documents, chat_template=self.text(tools), tokenize=False,
                add_generation_prompt=self.add_generation_prompt if prompt is None else prompt, **self.arguments)
        except (Failure, MemoryError):
            raise
        except Exception as error:  # the template is anybody's code
            text = str(error).strip().splitlines()
            raise Fault(f"the template refuses the chat: {text[0] if text else type(error).__name__}") from None

    def generated(self, messages: List[Message], tools: Optional[List[Any]], documents: Optional[List[Any]]) -> Tuple[str, List[Tuple[int, int]]]:
        """The text, and where {% generation %} was in it, by characters."""
        from transformers.utils import chat_template_utils

        texts, spans = chat_template_utils.render_jinja_template(
            conversations=[messages], tools=tools, documents=documents, chat_template=self.text(tools),
            return_assistant_tokens_mask=True, add_generation_prompt=self.add_generation_prompt,
            **{**self._tokenizer.special_tokens_map, **self.arguments})
        return texts[0], [(start, end) for start, end in spans[0]]

    def marks_generation(self, tools: Optional[List[Any]]) -> bool:
        return GENERATION.search(self.text(tools)) is not None

    def _probe_parts(self) -> bool:
        """Whether a content may be a list of parts. A template that takes text alone prints the list itself, or refuses it."""
        probe = [{"role": "user", "content": [{"type": "text", "text": "one part"}]}]
        try:
            text = self.render(probe, None, None)
        except Fault:
            return False
        return "one part" in text and "'type'" not in text and '"type"' not in text

    # ---- what is known of it ----

    @property
    def bos(self) -> str:
        given = self.arguments.get("bos_token")
        return given if isinstance(given, str) else self._tokenizer.bos_token or ""

    @property
    def markers(self) -> List[str]:
        """Tokens that may end a turn, the longest first."""
        found = {str(token) for token in self._tokenizer.added_tokens_encoder}
        eos = self.arguments.get("eos_token") or self._tokenizer.eos_token
        return sorted(found | ({eos} if isinstance(eos, str) else set()), key=lambda one: (-len(one), one))

    def note(self, tools: Optional[List[Any]]) -> None:
        text = self.text(tools)
        there = self._tokenizer.chat_template
        name = next((key for key, value in there.items() if value == text), "file") if isinstance(there, dict) else \
            "default" if there == text else "file"
        if name not in self.sums:
            self.sums[name] = hashlib.sha256(text.encode()).hexdigest()

    def record(self) -> Dict[str, Any]:
        found: Dict[str, Any] = {"template_arguments": self.arguments, "add_generation_prompt": self.add_generation_prompt,
                                 "special_tokens": self._tokenizer.special_tokens_map,
                                 "content_parts": "as they are" if self.takes_parts else "joined"}
        found.update({f"template_sha256{'' if name in ('default', 'file') else '.' + name}": value for name, value in self.sums.items()})
        if self.date_used:
            found["date"] = self.date.isoformat()
        return found
