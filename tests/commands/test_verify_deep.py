# SPDX-License-Identifier: MIT
"""strata verify --deep: the model's files against the run's identity."""
import shutil
import sqlite3

import pytest

import support
from adapters import Adapter
from support import DATA, OK, Job, change_tensor, make_model, make_problems
from test_parts import Set


def flip(content):
    return bytes([content[0] ^ 1]) + bytes(content[1:])


@pytest.fixture
def job(tmp_path):
    model = shutil.copytree(make_model(), tmp_path / "model")
    job = Job(tmp_path / "job", make_problems(5, seed=3), model)
    job.run()
    return job


def deep(job, expect):
    done = support.strata("verify", job.output, "--deep")
    assert done.code == expect, done
    return done.out


def test_the_same_files(job, tmp_path):
    assert deep(job, OK).startswith("PASS ") and len(deep(job, OK).splitlines()) == 1
    for path in (tmp_path / "model").glob("*.safetensors"):
        path.touch()
    assert deep(job, OK).startswith("PASS ")


def test_other_files(job, tmp_path):
    change_tensor(tmp_path / "model", "model.norm.weight", flip)
    assert support.strata("verify", job.output).code == OK
    out = deep(job, DATA)
    assert out.startswith(f"FAULT the model {tmp_path / 'model'} has the fingerprint ") and "; 1 faults" in out
    stored, = sqlite3.connect(job.output / "ledger.sqlite").execute("SELECT value FROM identity WHERE key = 'model.fingerprint'").fetchone()
    assert out.splitlines()[0].endswith(f"; the run was computed with {stored}")


def test_files_that_are_no_model_any_more(job, tmp_path):
    next((tmp_path / "model").glob("*.safetensors")).unlink()
    assert deep(job, DATA).startswith("FAULT the model: ")


def test_no_files(job, tmp_path):
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    note, result = deep(job, OK).splitlines()
    assert note == f"NOTE  {tmp_path / 'model'} is not there: the model was not compared"
    assert result.startswith("PASS ") and result.endswith("; 0 faults, 1 notes")


def test_an_adapter(tmp_path):
    adapter = Adapter(make_model())
    folder = adapter.write(tmp_path / "adapter")
    job = Job(tmp_path / "job", make_problems(5, seed=3), adapter.model, model={"adapter": str(folder)})
    job.run()
    assert deep(job, OK).startswith("PASS ")
    Adapter(make_model(), seed=6).write(folder)
    assert deep(job, DATA).startswith(f"FAULT the model {adapter.model} with the adapter {folder} has the fingerprint ")
    shutil.rmtree(folder)
    assert deep(job, OK).startswith(f"NOTE  {folder} is not there")


def test_the_model_of_a_set(job, tmp_path):
    """Once, whatever the number of its parts."""
    parts = Set(job.twin(tmp_path / "set"), 3)
    parts.run(1)
    parts.run(2)
    assert not [line for line in deep(parts.job, OK).splitlines() if line.startswith("FAULT ")]
    change_tensor(tmp_path / "model", "model.norm.weight", flip)
    faults = [line for line in deep(parts.job, DATA).splitlines() if line.startswith("FAULT ")]
    assert len(faults) == 1 and faults[0].startswith(f"FAULT the model {tmp_path / 'model'} has the fingerprint ")
