# SPDX-License-Identifier: MIT
"""The Python of the READMEs, run as it stands there on a made run directory: only paths, ids and layers are put in."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from export.made_run import HIDDEN, done, make_run, problem_id, row_count

SOURCE = pathlib.Path(os.environ["STRATA_SOURCE"])
PAGES = [SOURCE / "README.md", *sorted(SOURCE.glob("*/README.md"))]
BLOCKS = [block for page in PAGES
          for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run", problems=40)


def printed(block, folder, **words):
    """What the block prints with the page's words replaced: the made run has other names. Each word must be there."""
    for old, new in {"runs/qwen3-8b": str(folder), **words}.items():
        assert old in block, old
        block = block.replace(old, new)
    result = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, encoding="utf-8",
                            env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_block_is_tried():
    assert [("h5py" in block, "strata_reader" in block) for block in BLOCKS] == [(False, True), (True, False)]


def test_h5py(folder):
    found = printed(BLOCKS[1], folder, hs_035="hs_004")
    for ordinal in done(10):  # the first shard's, in the order of its batches
        rows = row_count(ordinal)
        steps = " ".join(str(step) for step in range(rows))
        assert f"{problem_id(ordinal)} ({rows}, {HIDDEN}) [{steps}]\n" in found


def test_reader(folder):
    words = {"[35]": "[4]", "gsm8k_train_0": problem_id(0)}
    assert printed(BLOCKS[0], folder, **words) == f"{len(done(40))} ({row_count(0)}, {HIDDEN})\n"
