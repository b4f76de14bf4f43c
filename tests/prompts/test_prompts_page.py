# SPDX-License-Identifier: MIT
"""The commands of configs/prompts.md, one after another as they stand there."""
import gzip
import re
import shlex
import sqlite3

import datasets
import pytest
import yaml

from parity import parquet, pyarrow
from prompts.chat_templates import ALL, CHATS, TOOLS
from prompts.test_chats import make_folder
from strata_import.__main__ import main, parser
from support import OK, SOURCE, write_lines

PAGE = (SOURCE / "configs" / "prompts.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    questions = pyarrow.table({"question": ["1+1", "2+2"], "answer": ["2", "4"]})
    parquet.write_table(questions, "gsm8k.parquet")
    (tmp_path / "math").mkdir()
    for split in ("train", "test"):
        parquet.write_table(pyarrow.table({"unique_id": [split], "problem": ["p"], "level": [1], "solution": ["s"]}), f"math/{split}-00000-of-00001.parquet")
    (tmp_path / "more.csv").write_text("unique_id,statement\nm1,a\nm1,b\n")
    chats = [{"id": title, "messages": chat, "functions": TOOLS} for title, chat in CHATS.items()]
    write_lines("chats.jsonl", chats)
    (tmp_path / "chats.jsonl.gz").write_bytes(gzip.compress((tmp_path / "chats.jsonl").read_bytes()))
    write_lines("talks.jsonl", [{"id": row["id"], "talk": row["messages"]} for row in chats])
    (tmp_path / "chatml.jinja").write_text(ALL["generation"])
    make_folder("models/Qwen3-8B", ALL["thinking"])
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda self, name, revision=None: type("Info", (), {"sha": "abc"}))
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *given, **more: ["train", "test"])
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **more: datasets.Dataset(questions).to_iterable_dataset())


def test_the_commands(place, capfd):
    assert len(COMMANDS) > 6
    for line in COMMANDS:
        name, *words = shlex.split(line)
        assert name == "strata-import" and main(words) == OK, (line, capfd.readouterr())
    capfd.readouterr()
    assert main(["chats.jsonl.gz", "chats.db", "--model", "models/Qwen3-8B", "--table", "again"]) == OK
    said = yaml.safe_load(capfd.readouterr().out.split(":\n\n", 1)[1])
    shown = yaml.safe_load(re.search(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)[1])
    assert said["problems"].pop("query") == 'SELECT * FROM "again"' and said == shown
    connection = sqlite3.connect("math.db")
    assert connection.execute("SELECT unique_id, statement, level FROM problems ORDER BY rowid").fetchall() == [("train", "p", 1), ("m1", "a", None)]
    assert sqlite3.connect("gsm8k.db").execute("SELECT problem_id FROM problems").fetchall() == [("gsm8k-000000",), ("gsm8k-000001",)]


def test_options_that_are_named_are_there():
    known = {option for action in parser()._actions for option in action.option_strings}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE))
    assert named <= known, named - known
    assert known - named <= {"-h", "--help", "--version", "--documents", "--enable-thinking"}
