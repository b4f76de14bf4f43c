# SPDX-License-Identifier: MIT
"""configs/training.md, run as it stands there: only paths, ids and layers are put in."""

import contextlib
import io
import re

import pytest
import yaml

from export.drafts import AUXILIARY, BLOCKS, make_drafts
from export.made_run import HIDDEN, done, make_run, row_count
from parity import datasets
from strata_export import __main__ as program
from support import OK, SOURCE

PAGE = (SOURCE / "configs" / "training.md").read_text(encoding="utf-8")
PYTHON, SHELL, YAML = (re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.M | re.S) for kind in ("python", "sh", "yaml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run", problems=40)


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("exported") / "latents"
    shell(SHELL[0], {"runs/qwen3-8b": folder, "latents ": f"{target} "})
    return target


def shell(block, words):
    for line in block.splitlines():
        for old, new in words.items():
            assert old in line, old
            line = line.replace(old, str(new))
        command, *rest = line.split()
        assert command == "strata-export" and program.main(rest) == OK


def printed(block, **words):
    for old, new in words.items():
        assert old in block, old
        block = block.replace(old, str(new))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(block, "configs/training.md", "exec"), {})
    return out.getvalue()


def test_every_block_is_tried():
    assert (len(PYTHON), len(SHELL), len(YAML)) == (5, 2, 1)


def test_runs_data_sets_and_streams(folder):
    words = {"runs/qwen3-8b": folder, "35": 4}
    assert printed(PYTHON[0], **words).splitlines()[0] == f"{len(done(40))} [0, 2, 4] True"
    assert printed(PYTHON[0], **words).splitlines()[-1] == "0"
    assert f", {HIDDEN}])" in printed(PYTHON[1], **words)
    assert printed(PYTHON[2], **words) == f"{len(done(40))}\n"


def test_datasets_and_parquet(folder, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    rows = sum(row_count(ordinal) for ordinal in done(40))
    assert printed(PYTHON[3], **{"runs/qwen3-8b": folder, "[35]": "[4]", "hs_035": "hs_004"}) == f"{rows} torch.Size([{HIDDEN}])\n"
    assert printed(PYTHON[4], **{'"latents"': f'"{exported}"', "hs_035": "hs_004"}).startswith(f"torch.Size([{HIDDEN}]) ")
    assert (exported / "README.md").exists() and (exported / "export.json").exists()


def test_draft_heads(tmp_path):
    keys = yaml.safe_load(YAML[0])
    assert keys["latents"]["layers"] == [2, 36 // 2, 36 - 3, "pre_norm", -1] and AUXILIARY == [2, BLOCKS // 2, BLOCKS - 3]
    job = make_drafts(tmp_path / "job", count=4, **{**keys["latents"], "layers": [*AUXILIARY, "pre_norm", -1]})
    assert {name: job.keys["problems"][name] for name in ("id", "text", "steps")} == {
        name: keys["problems"][name] for name in ("id", "text", "steps")}
    shell(SHELL[1].splitlines()[0], {"runs/qwen3-8b": job.output, "--to drafts": f"--to {tmp_path}/speculators"})
    shell(SHELL[1].splitlines()[1], {"runs/qwen3-8b": job.output, "--to drafts-specforge": f"--to {tmp_path}/specforge"})
    assert len(list(tmp_path.glob("*/hidden_states/*.safetensors"))) == len(list(tmp_path.rglob("*.ckpt"))) == 4
