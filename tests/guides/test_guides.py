# SPDX-License-Identifier: MIT
"""The shell and the Python of the guides (configs/guides), run as they stand there, in order, on a small model of their name."""

import json
import os
import random
import re
import shutil
import subprocess
import sys

import pytest

from parity import transformers  # noqa: F401 - chat templates, data sets
from support import BUILD, SOURCE, USAGE, clean_environment, links, make_model, write_lines, WORDS

GUIDES = SOURCE / "configs" / "guides"
PAGES = sorted(path.stem for path in GUIDES.glob("*.md") if path.stem != "README")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
BLOCKS = 36
TEMPLATE = ("{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
JOB = """problems: {database: problems.db, id: problem_id}
model: {path: models/Qwen3-8B}
run: {output: runs/slurm}
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder with the three programs, as an installed package has them."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "strata").symlink_to(BUILD / "strata")
    (folder / "python").symlink_to(sys.executable)
    for name in ("import", "export"):
        program = folder / f"strata-{name}"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m strata_{name} "$@"\n')
        program.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of as many blocks as Qwen3-8B, with a chat template."""
    folder = tmp_path_factory.mktemp("model") / "Qwen3-8B"
    shutil.copytree(make_model("guides", layers=BLOCKS, dtype="bfloat16"), folder)
    config = folder / "tokenizer_config.json"
    words = json.loads(config.read_text()) if config.exists() else {}
    config.write_text(json.dumps({**words, "chat_template": TEMPLATE}))
    return folder


def make_problems(count, rng):
    for number in range(count):
        yield {"problem_id": f"gsm8k_train_{number}", "domain": rng.choice(["math", "code"]), "subdomain": "arithmetic",
               "source": "gsm8k", "difficulty": "easy", "split": "test" if number % 5 == 0 else "train",
               "statement": " ".join(rng.choices(WORDS, k=12)),
               "steps": [f"Step {step + 1}: " + " ".join(rng.choices(WORDS, k=8)) for step in range(rng.randint(1, 4))]}


def make_chats(count, rng):
    """Chats of one or two turns; whether they speak of the even or of the odd is their label."""
    for number in range(count):
        label = number % 2
        word = ["even", "odd"][label]
        turns = []
        for _ in range(rng.randint(1, 2)):
            turns.append({"role": "user", "content": " ".join(rng.choices(WORDS, k=6))})
            turns.append({"role": "assistant", "content": " ".join([*rng.choices(WORDS, k=3), *[word] * 5])})
        yield {"problem_id": f"chat-{number}", "messages": turns, "label": label}


@pytest.fixture
def place(tmp_path, model):
    rng = random.Random(5)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "Qwen3-8B").symlink_to(model)
    write_lines(tmp_path / "problems.jsonl", make_problems(60, rng))
    write_lines(tmp_path / "chats.jsonl", make_chats(200, rng))
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path


def run_block(kind, text, place, programs):
    """What it prints. A loaded machine's batches drift, and its disk may be near full: no job here stops for that."""
    text = text.replace("run: {", "run: {drift_stop: false, disk_reserve_gb: 0, ")
    command = ["bash", "-euo", "pipefail", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
    environment = clean_environment(PATH=f"{programs}:{os.environ['PATH']}", HOME=str(place), HF_HOME=str(place / "hub"),
                                    OMP_NUM_THREADS="1")
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_guide(page, place, programs):
    blocks = [(kind, text) for kind, text in BLOCK.findall((GUIDES / f"{page}.md").read_text(encoding="utf-8"))
              if kind in ("sh", "python")]
    assert blocks
    job = (place / "job.yaml")
    job.write_text(job.read_text().replace("run: {", "run: {drift_stop: false, disk_reserve_gb: 0, "))
    printed = [run_block(kind, text, place, programs) for kind, text in blocks]
    if page == "probes-and-saes":
        accuracy = re.search(r"accuracy (\d\.\d+) of (\d+) chats", "".join(printed))
        assert float(accuracy[1]) > 0.8 and int(accuracy[2]) == 50


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_lines(page, place, programs):
    """Those are not run on what they need: their words are known, and none is missing."""
    text = BLOCK.sub("", (GUIDES / f"{page}.md").read_text(encoding="utf-8"))
    for command in re.findall(r"`(strata [a-z]+ [^`]+)`", text):
        done = subprocess.run(["bash", "-c", command], cwd=place, env=clean_environment(PATH=f"{programs}:{os.environ['PATH']}"),
                              capture_output=True, text=True)
        assert done.returncode not in (USAGE, 127), (command, done.stderr)


def test_every_guide_is_listed():
    listed = {target.stem for target, _ in links(GUIDES / "README.md")}
    assert set(PAGES) <= listed
