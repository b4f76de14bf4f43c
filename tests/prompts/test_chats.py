# SPDX-License-Identifier: MIT
"""strata-import of chats: texts equal tokenizer.apply_chat_template byte for byte, and each span is what the message became."""
import datetime
import hashlib
import json
import random
import sqlite3

import pytest

from parity import parquet, pyarrow, tokenizers, transformers
from prompts.chat_templates import ALL, CALL, CHATS, SPECIAL, TOOLS, said
from strata_import.__main__ import main
from strata_import.errors import Fault
from strata_import.spans import Row, byte_spans
from strata_import.templates import Template
from support import DATA, OK, USAGE, write_lines

DAY = datetime.date(2026, 1, 2)
# What an assistant's turns are, the marker that ends each with it; None: the template or the program refuses the chat.
TURNS = {
    ("chatml", "turns"): ["als ∑ {x}<|im_end|>", "assistant<|im_end|>", "數學<|im_end|>"],
    ("chatml", "blanks"): ["\n\n a reply\t<|im_end|>", "done\n<|im_end|>"],
    ("chatml", "empty"): ["<|im_end|>", "c<|im_end|>"],
    ("chatml", "calls"): ['<tool_call>\n{"name": "f", "arguments": {"x": "é", "n": [1, null]}}\n</tool_call><|im_end|>', "It is 3.<|im_end|>",
                          'Well\n<tool_call>\n{"name": "f", "arguments": {"x": "é", "n": [1, null]}}\n</tool_call><|im_end|>', "5.<|im_end|>"],
    ("thinking", "one turn"): ["<think>\n\n</think>\n\n4<|im_end|>"],
    ("thinking", "turns"): ["als ∑ {x}<|im_end|>", "assistant<|im_end|>", "<think>\n\n</think>\n\n數學<|im_end|>"],
    ("thinking", "empty"): ["<|im_end|>", "<think>\n\n</think>\n\nc<|im_end|>"],
    ("thinking", "reasoning"): ["2<|im_end|>", "<think>\ntwo and two\n</think>\n\n4<|im_end|>"],
    ("thinking", "reasoning in content"): ["2<|im_end|>", "<think>\ntwo and two\n</think>\n\n4<|im_end|>"],
    ("thinking", "response"): ["b<|im_end|>", "<think>\n\n</think>\n\nc<|im_end|>"],
    ("headers", "blanks"): ["a reply<|eot_id|>", "done<|eot_id|>"],
    ("headers", "calls"): ['{"name": "f", "parameters": {"x": "é", "n": [1, null]}}<|eot_id|>', "It is 3.<|eot_id|>",
                           '{"name": "f", "parameters": {"x": "é", "n": [1, null]}}<|eot_id|>', "5.<|eot_id|>"],
    ("turns", "turns"): ["als ∑ {x}<end_of_turn>", "assistant<end_of_turn>", "數學<end_of_turn>"],
    ("turns", "empty"): ["<end_of_turn>", "c<end_of_turn>"],
    ("turns", "system"): None, ("turns", "calls"): None,
    ("instruct", "system"): [" Hi</s>", " Bye</s>"],
    ("instruct", "empty"): [" </s>", " c</s>"],
    ("instruct", "calls"): ['[TOOL_CALLS] [{"name": "f", "arguments": {"x": "é", "n": [1, null]}, "id": "abcdefghi"}]</s>', " It is 3.</s>",
                            '[TOOL_CALLS] [{"name": "f", "arguments": {"x": "é", "n": [1, null]}, "id": "abcdefghi"}]</s>', " 5.</s>"],
    ("reasoner", "turns"): ["als ∑ {x}</s>", "assistant</s>", "數學</s>"],
    ("reasoner", "empty"): ["</s>", "c</s>"],
    ("reasoner", "reasoning in content"): ["\n\n2</s>", "\n\n4</s>"],
    ("modes", "turns"): ["als ∑ {x}</s>", "assistant</s>", "數學</s>"],
    ("modes", "empty"): ["</s>", "c</s>"],
    ("channels", "system"): ["<|channel|>final<|message|>Hi<|end|>", "<|channel|>final<|message|>Bye<|return|>"],
    ("channels", "reasoning"): ["<|channel|>final<|message|>2<|end|>", "<|channel|>analysis<|message|>two and two<|end|><|start|>assistant"
                                "<|channel|>final<|message|>4<|return|>"],
    ("channels", "question last"): ["<|channel|>final<|message|>b<|end|>"],
    ("channels", "calls"): [' to=functions.f<|channel|>commentary json<|message|>{"x": "é", "n": [1, null]}<|call|>',
                            "<|channel|>final<|message|>It is 3.<|end|>",
                            ' to=functions.f<|channel|>commentary json<|message|>{"x": "é", "n": [1, null]}<|call|>',
                            "<|channel|>final<|message|>5.<|return|>"],
    ("words", "turns"): [" als ∑ {x}</s>", " assistant</s>", " 數學</s>"],
    ("words", "empty"): [" </s>", " c</s>"],
    ("generation", "blanks"): ["a reply<|im_end|>", "done<|im_end|>"],
    ("ended", "turns"): ["als ∑ {x}<|end|>", "assistant<|end|>", "數學<|end|>\n</s>"],
    ("ended", "empty"): ["<|end|>", "c<|end|>\n</s>"],
    ("brackets", "system"): [" Hi </s>", " Bye </s>"],
    ("open", "empty"): ["\nc"],
    ("open", "turns"): ["\nals ∑ {x}", "\nassistant", "\n數學"],
    ("parts", "system"): ["Hi<|im_end|>", "Bye<|im_end|>"],
    ("stories", "turns"): ["als ∑ {x}", "assistant", "數學</s>"],
    ("stories", "empty"): None,
    ("stories", "question last"): ["b"],
    ("closed", "turns"): ["als ∑ {x}<|end|>\n", "assistant<|end|>\n", "數學<|end|>\n</s>"],
    ("closed", "empty"): ["<|end|>\n", "c<|end|>\n</s>"],
    ("closed", "question last"): ["b<|end|>\n"],
}
MARKERS = ("<|end|>\n</s>", "<|end|>\n", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<|end|>", "<|return|>", "<|call|>", "")


def make_folder(folder, template):
    """A model's folder as far as its tokenizer goes: every byte is a token, and the special ones are."""
    core = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={c: i for i, c in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", additional_special_tokens=SPECIAL)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make_folder(tmp_path_factory.mktemp("models") / name, text) for name, text in ALL.items()}


@pytest.fixture(scope="module")
def models(folders):
    return {name: Template(str(folder), None, None, DAY, {}, False) for name, folder in folders.items()}


@pytest.fixture
def pinned(monkeypatch):
    """transformers' own date, for texts to compare with."""
    class Pinned(datetime.datetime):
        @classmethod
        def now(cls, *zone):
            return cls(DAY.year, DAY.month, DAY.day)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Pinned)


def turns(row):
    return [row.text[span.start:span.end] for span in row.spans() if span.role == "assistant"]


# ---- texts ----

@pytest.mark.parametrize("name", ALL)
def test_texts_equal_those_of_transformers(folders, models, pinned, name):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[name])
    tokenizer.chat_template = tokenizer.chat_template + "{# a text of its own in transformers' cache #}"
    settings = [(False, {}), (True, {}), (False, {"enable_thinking": False}), (True, {"enable_thinking": False, "more": [1]})]
    for prompt, arguments in settings if name == "thinking" else settings[:2]:
        models[name].add_generation_prompt, models[name].arguments = prompt, arguments
        for title, chat in CHATS.items():
            for tools in (None, TOOLS):
                try:
                    true = tokenizer.apply_chat_template(chat, tools=tools, add_generation_prompt=prompt, tokenize=False, **arguments)
                except Exception:
                    with pytest.raises(Fault, match="the template refuses the chat: "):
                        Row(models[name], chat, tools, None, True)
                else:
                    assert Row(models[name], chat, tools, None, True).text == true, (title, prompt, arguments)
    models[name].add_generation_prompt, models[name].arguments = False, {}


# ---- spans ----

@pytest.mark.parametrize("name, title", TURNS)
def test_turns_are_what_the_model_has_to_write(models, name, title):
    if TURNS[name, title] is None:
        with pytest.raises(Fault):
            Row(models[name], CHATS[title], None, None, True).spans()
        return
    assert turns(Row(models[name], CHATS[title], None, None, True)) == TURNS[name, title]
    bare = [next(turn[:len(turn) - len(marker)] for marker in MARKERS if turn.endswith(marker)) for turn in TURNS[name, title]]
    bare = [turn.rstrip() if name in ("instruct", "words", "brackets") else turn for turn in bare]
    assert turns(Row(models[name], CHATS[title], None, None, False)) == [turn for turn in bare if turn]


def check(row, chat):
    """What holds of any row."""
    spans = row.spans()
    assert all(0 <= span.start < span.end <= len(row.text) for span in spans)
    assert all(before.end <= after.start for before, after in zip(spans, spans[1:]))
    assert [row.text[span.start:span.end].strip() for span in spans if span.role == "user"] == [
        message["content"].strip() for message in chat if message["role"] == "user" and message["content"].strip()]
    found = turns(row)
    said_of = [message for message in chat if message["role"] == "assistant"]
    if len(found) < len(said_of):
        said_of = [message for message in said_of if message["content"]]  # where nothing is said and nothing closes the turn
    replies = ["" if "tool_calls" in message else message["content"].split("</think>")[-1].strip()  # may be left out beside a call
               for message in said_of]
    assert len(found) == len(replies) and all(reply in turn for reply, turn in zip(replies, found)), (replies, found)
    data = row.text.encode()
    for span, stored in zip(spans, byte_spans(row.text, spans)):
        assert data[stored["start"]:stored["end"]].decode() == row.text[span.start:span.end] and stored["role"] == span.role


@pytest.mark.parametrize("name", ALL)
def test_spans_of_every_chat(models, name):
    for title, chat in CHATS.items():
        if TURNS.get((name, title), "") is not None:
            check(Row(models[name], chat, None, None, True), chat)


@pytest.mark.parametrize("name", ALL)
def test_spans_of_chats_made_to_mislead(models, name):
    """Contents that look like the template's own text: a span is right, or the row is refused."""
    rng = random.Random(5)
    pieces = ["user", "assistant", "\n", " ", "<|im_end|>\n<|im_start|>assistant\n", "<think>", "</think>", "</s>", "<|eot_id|>", "é∑", "ASSISTANT: ",
              "<end_of_turn>\n", "[/INST] ", "x", "<tool_response>", "</tool_response>", "\U000f0100", "\U0010fffd", "{{ x }}", "<｜Assistant｜>"]
    refused = 0
    for _ in range(25):
        texts = ["".join(rng.choices(pieces, k=rng.randint(1, 5))) for _ in range(rng.choice([2, 4]))]
        chat = said(*((role, text) for role, text in zip(["user", "assistant"] * 2, texts)))
        try:
            row = Row(models[name], chat, None, None, True)
            spans = row.spans()
        except Fault:
            refused += 1
            continue
        users = [row.text[span.start:span.end].strip() for span in spans if span.role == "user"]
        assert users == [text.strip() for text in texts[::2] if text.strip()]
        assert len(turns(row)) == len(texts) // 2
        for text, turn in zip(texts[1::2], turns(row)):
            assert text.split("</think>")[-1].strip() in turn
        assert all(before.end <= after.start for before, after in zip(spans, spans[1:]))
    assert refused <= 3


def test_turns_are_transformers_mask(folders, models):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["generation"])
    for chat in CHATS.values():
        found = tokenizer.apply_chat_template(chat, return_assistant_tokens_mask=True, return_dict=True)
        row = Row(models["generation"], chat, None, None, True)
        offsets = tokenizer(row.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        owned = [int(any(span.start <= start < span.end for span in row.spans() if span.role == "assistant")) for start, _ in offsets]
        assert owned == found["assistant_masks"] and any(owned)


def test_a_generation_that_is_told_wrongly_is_refused(tmp_path):
    """Within a macro, transformers' own mask lies elsewhere."""
    text = ("{%- macro turn(m) %}{{- 'ASSISTANT: ' }}{% generation %}{{- m.content }}{% endgeneration %}{% endmacro %}"
            "{%- for m in messages %}{% if m.role == 'assistant' %}{{- turn(m) }}{% else %}{{- m.content }}{% endif %}{{- '. ' }}{% endfor %}")
    (tmp_path / "t").write_text(text)
    template = Template(None, str(tmp_path / "t"), None, DAY, {}, False)
    for reply in ("a reply longer than the heading", "yes"):
        with pytest.raises(Fault, match="generation"):
            Row(template, said(("user", "a question"), ("assistant", reply)), None, None, True).spans()


@pytest.mark.parametrize("text, words", [
    ("{%- for m in messages %}{{- m.content | upper }}{{- '\\n' }}{% endfor %}", "prints its content otherwise"),
    ("{%- for m in messages %}{{- m.content[:3] }}{{- '\\n' }}{% endfor %}", "cannot be told"),
    ("{%- for m in messages %}{{- m.content | length }}{{- '\\n' }}{% endfor %}", "cannot be told"),
    ("{{- messages | length }}{% for m in messages | reverse %}{{- m.content }}{% endfor %}", "cannot be told"),
    ("{{ raise_exception('No.\\nReally.') }}", "the template refuses the chat: No."), ("{{ 1 / 0 }}", "the template refuses the chat: division by zero"),
    ("{{ messages.append(1) }}", "the template refuses the chat"), ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "the template refuses the chat")])
def test_what_cannot_be_told_is_refused(tmp_path, text, words):
    (tmp_path / "t").write_text(text)
    template = Template(None, str(tmp_path / "t"), None, DAY, {}, False)
    with pytest.raises(Fault, match=words):
        Row(template, said(("user", "What is it?"), ("assistant", "It is so.")), None, None, True).spans()


# ---- the program ----

def table(database, sql="SELECT * FROM problems"):
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(sql)]
    finally:
        connection.close()


def origin(database):
    return {row["key"]: row["value"] for row in table(database, "SELECT * FROM prompts_origin")}


def test_a_table_of_chats(tmp_path, folders, capfd):
    chats = [{"id": title, "messages": chat, "level": i} for i, (title, chat) in enumerate(CHATS.items())]
    write_lines(tmp_path / "in.jsonl", chats)
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "p.db"), "--model", str(folders["headers"])]
    assert main([*words, "--date", "2026-01-02"]) == OK
    found = table(tmp_path / "p.db")
    assert [list(row) for row in found][0] == ["id", "messages", "level", "text", "roles"] and len(found) == len(CHATS)
    template = Template(str(folders["headers"]), None, None, DAY, {}, False)
    for row in found:
        true = Row(template, CHATS[row["id"]], None, None, True)
        assert row["text"] == true.text and "02 Jan 2026" in row["text"] and json.loads(row["messages"]) == CHATS[row["id"]]
        assert json.loads(row["roles"]) == byte_spans(true.text, true.spans())
    kept = origin(tmp_path / "p.db")
    assert kept["date"] == "2026-01-02" and kept["begins_with_bos"] == "true" and kept["add_generation_prompt"] == "false"
    assert kept["template_sha256"] == hashlib.sha256(ALL["headers"].encode()).hexdigest()
    assert json.loads(kept["source.0"])["with"]["transformers"] == transformers.__version__
    said_of = capfd.readouterr().out
    assert "the texts begin with the BOS token: special_tokens: false" in said_of
    assert said_of.endswith('  id: "id"\n  text: "{text}"\n  special_tokens: false\n  steps: {spans: roles, roles: [assistant]}\n')
    write_lines(tmp_path / "in.jsonl", [{"id": "more", "messages": CHATS["turns"]}])
    assert main([*words, "--append", "--date", "2026-01-03"]) == DATA
    assert 'made with another date: 2026-01-02, not 2026-01-03' in capfd.readouterr().err
    assert main([*words, "--append", "--date", "2026-01-02", "--span-end", "exclude"]) == DATA
    assert main([*words, "--append", "--date", "2026-01-02"]) == OK and len(table(tmp_path / "p.db")) == len(CHATS) + 1
    assert "source.1" in origin(tmp_path / "p.db")


def test_the_day_of_the_import_is_the_default(tmp_path, folders):
    write_lines(tmp_path / "in.jsonl", [{"id": 1, "messages": CHATS["turns"]}])
    before = datetime.date.today()
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "p.db"), "--model", str(folders["channels"])]) == OK
    day = origin(tmp_path / "p.db")["date"]
    assert before.isoformat() <= day <= datetime.date.today().isoformat() and f"Current date: {day}" in table(tmp_path / "p.db")[0]["text"]
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "q.db"), "--model", str(folders["chatml"])]) == OK
    assert "date" not in origin(tmp_path / "q.db")


def test_other_shapes_of_messages(tmp_path, folders):
    parts = [{"role": "user", "content": [{"type": "text", "text": "two "}, {"type": "text", "text": "parts"}]}, {"role": "assistant", "content": "yes"}]
    plain = said(("user", "two parts"), ("assistant", "yes"))
    shapes = [{"messages": plain}, {"messages": json.dumps(plain)}, {"messages": parts}, {"messages": [{**one, "tool_calls": None} for one in plain]},
              {"messages": [{"from": "human", "value": "two parts"}, {"from": "gpt", "value": "yes"}]}]
    write_lines(tmp_path / "in.jsonl", [{"id": i, **row} for i, row in enumerate(shapes)])
    for name in ("parts", "chatml"):
        assert main([str(tmp_path / "in.jsonl"), str(tmp_path / f"{name}.db"), "--model", str(folders[name])]) == OK
        found = table(tmp_path / f"{name}.db")
        assert len({row["text"] for row in found}) == 1 and "two parts" in found[0]["text"]
        assert len({row["roles"] for row in found}) == (2 if name == "parts" else 1)  # a span for each part
    assert origin(tmp_path / "chatml.db")["content_parts"] == "joined"
    write_lines(tmp_path / "in.jsonl", [{"id": 1, "conversations": shapes[-1]["messages"]}])
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "q.db"), "--model", str(folders["chatml"])]) == OK
    parquet.write_table(pyarrow.Table.from_pylist([{"id": 1, "messages": plain}, {"id": 2, "messages": [{**plain[0], "name": "x"}]}]), tmp_path / "in")
    assert main([str(tmp_path / "in"), str(tmp_path / "r.db"), "--model", str(folders["chatml"])]) == OK
    assert table(tmp_path / "r.db")[0]["text"] == table(tmp_path / "q.db")[0]["text"]


@pytest.mark.parametrize("messages, words", [
    (None, "in.jsonl:2: there is no 'messages'"), ([], "'messages' has no messages"), ("text", "neither a list nor JSON"), ({}, "not a list of messages"), ([1], "message 0 is not an object"),
    ([{"content": "x"}], "message 0 has no role"), ([{"from": "alien", "value": "x"}], "from 'alien', of which no role"),
    ([{"role": "user", "content": [{"type": "image", "image": "x.png"}]}], "a part of type 'image': only text"),
    ([{"role": "user", "content": 5}], "neither text nor a list of parts"), ([{"role": "user", "content": "\ud800"}], "half of a surrogate pair"),
    ([{"role": "user"}], "the template refuses the chat")])
def test_rows_that_are_no_chats(tmp_path, folders, capfd, messages, words):
    lines = [json.dumps(row) + "\n" for row in [{"id": 1, "messages": CHATS["turns"]}, {"id": 2, "messages": messages}]]
    (tmp_path / "in.jsonl").write_text("".join(lines))
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "p.db"), "--model", str(folders["chatml"])]) == DATA
    said_of = capfd.readouterr().err
    assert "in.jsonl:2: " in said_of and words in said_of and not (tmp_path / "p.db").exists()
    (tmp_path / "in.jsonl").write_text("".join(reversed(lines)))  # where it is the first row, it is broken too
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "p.db"), "--model", str(folders["chatml"]), "--skip-broken"]) == OK
    assert [row["id"] for row in table(tmp_path / "p.db")] == [1]


def test_options_of_the_template(tmp_path, folders, capfd):
    rows = [{"id": 1, "messages": CHATS["question last"], "functions": TOOLS, "text": "mine"}]
    write_lines(tmp_path / "in.jsonl", rows)
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "p.db"), "--model", str(folders["thinking"])]
    assert main(words) == DATA and "there is a column 'text' already" in capfd.readouterr().err
    assert main([*words, "--column", "text=mine", "--add-generation-prompt", "--no-enable-thinking"]) == OK
    assert table(tmp_path / "p.db")[0]["text"].endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert json.loads(origin(tmp_path / "p.db")["template_arguments"]) == {"enable_thinking": False}
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "q.db"), "--model", str(folders["chatml"]), "--drop", "text"]
    assert main([*words, "--tools", "functions"]) == OK and '"description": "adds"' in table(tmp_path / "q.db")[0]["text"]
    (tmp_path / "t.jinja").write_text("{{ greeting }} {{ documents[0].title }} {{ messages[0].content }}")
    write_lines(tmp_path / "in.jsonl", [{"id": 1, "talk": said(("user", "x")), "docs": [{"title": "T", "text": "t"}]}])
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "r.db"), "--chat-template", str(tmp_path / "t.jinja")]
    assert main(words) == DATA and "--messages names the one with the chats; the row has id, talk, docs" in capfd.readouterr().err
    assert main([*words, "--messages", "talk", "--documents", "docs", "--template-arg", 'greeting="Hi"']) == OK
    assert table(tmp_path / "r.db")[0]["text"] == "Hi T x"
    assert "1 of 1 chats without a turn of an assistant" in capfd.readouterr().out


def test_messages_that_a_template_leaves_out_are_counted(tmp_path, folders, capfd):
    chats = [said(("developer", "Be brief."), ("user", "a"), ("assistant", "b")), CHATS["turns"], CHATS["reasoning in content"], CHATS["calls"]]
    write_lines(tmp_path / "in.jsonl", [{"id": i, "messages": chat} for i, chat in enumerate(chats)])
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "p.db"), "--model", str(folders["thinking"])]) == OK
    assert [line for line in capfd.readouterr().out.splitlines() if "print" in line] == [
        "1 of 4 chats have a message or a call of 'developer' that the template does not print"]
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "q.db"), "--model", str(folders["stories"])]) == OK
    assert [line.split(" that")[0] for line in capfd.readouterr().out.splitlines() if "print" in line] == [
        f"1 of 4 chats have a message or a call of '{role}'" for role in ("assistant", "developer", "tool")]


def test_where_templates_are_found(tmp_path, folders, capfd):
    write_lines(tmp_path / "in.jsonl", [{"id": 1, "messages": CHATS["one turn"], "tools": TOOLS}, {"id": 2, "messages": CHATS["one turn"]}])
    several = make_folder(tmp_path / "several", {"default": ALL["chatml"], "tool_use": ALL["parts"], "short": ALL["words"]})
    assert (several / "additional_chat_templates" / "short.jinja").exists()
    words = [str(tmp_path / "in.jsonl"), "--model", str(several)]
    for name, options, begins in (("a.db", [], "<|im_start|>system"), ("b.db", ["--template-name", "short"], "USER: "),
                                  ("c.db", ["--tools", "tools"], "<|im_start|>user")):
        assert main([words[0], str(tmp_path / name), *words[1:], *options]) == OK
        assert table(tmp_path / name)[0]["text"].startswith(begins)
    assert {"template_sha256", "template_sha256.tool_use"} <= set(origin(tmp_path / "c.db"))
    assert table(tmp_path / "c.db")[1]["text"].startswith("<|im_start|>system")
    assert main([words[0], str(tmp_path / "d.db"), *words[1:], "--template-name", "long"]) == USAGE
    assert "there is no template 'long': " in capfd.readouterr().err
    inside = make_folder(tmp_path / "inside", None)
    settings = json.loads((inside / "tokenizer_config.json").read_text())
    for name, template in (("e.db", ALL["words"]), ("f.db", [{"name": "default", "template": ALL["words"]}, {"name": "other", "template": "x"}])):
        (inside / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
        assert main([words[0], str(tmp_path / name), "--model", str(inside)]) == OK
        assert table(tmp_path / name)[0]["text"].startswith("USER: ")
    none = make_folder(tmp_path / "none", None)
    for model, said_of in ((none, "has no chat template: --chat-template FILE"), (tmp_path / "nope", "is not a model folder"),
                           ("Qwen/Qwen3-8B", "`hf download Qwen/Qwen3-8B --local-dir DIR` gets one"), (tmp_path, "the tokenizer cannot be read")):
        assert main([words[0], str(tmp_path / "g.db"), "--model", str(model)]) == DATA and said_of in capfd.readouterr().err
    (tmp_path / "bad.jinja").write_text("{% for %}")
    assert main([words[0], str(tmp_path / "g.db"), "--chat-template", str(tmp_path / "bad.jinja")]) == DATA
    assert "the chat template cannot be read" in capfd.readouterr().err


def test_calls_stay_as_they_are(models):
    """Marks are put into a copy."""
    before = json.dumps([CHATS, CALL, TOOLS])
    for chat in CHATS.values():
        Row(models["thinking"], chat, TOOLS, None, True).spans()
    assert json.dumps([CHATS, CALL, TOOLS]) == before
