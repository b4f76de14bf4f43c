# SPDX-License-Identifier: MIT
"""A run's identity holds content, not where it lies: the same bytes under other names resume, to the same shards."""
import json
import shutil

import pytest

import support
from support import JOB, OK, STOPPED, Job, make_model, make_problems

PROBLEMS = 24


def copy_model(to):
    shutil.copytree(make_model(), to)
    return to


def make_snapshot(cache):
    """The Hub's cache: files are links to blobs, the folder is named by a revision."""
    top = cache / "models--Org--Tiny-1B"
    snapshot = top / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (top / "blobs").mkdir()
    for number, file in enumerate(sorted(make_model().iterdir())):
        shutil.copy(file, top / "blobs" / f"{number:040x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:040x}")
    return snapshot


@pytest.fixture
def begun(tmp_path):
    """A run of a copied model, stopped in its first half, and its shards had it gone on."""
    model = copy_model(tmp_path / "first-name")
    whole = Job(tmp_path / "whole", make_problems(PROBLEMS), model)
    whole.run()
    job = whole.twin(tmp_path / "job")
    job.run("--stop-after", 4, expect=STOPPED)
    return job, model, whole


def test_renamed_model_resumes(begun):
    job, model, whole = begun
    moved = model.rename(model.parent / "other-name")
    job.change(model={"path": str(moved)})
    checked = support.strata("check", job.file)
    assert checked.code == OK and "that of the run" in checked.out, checked
    job.run()
    job.check_finished(PROBLEMS, whole.shards())


def test_snapshot_of_the_cache_resumes(begun, tmp_path):
    job, model, whole = begun
    shutil.rmtree(model)
    job.change(model={"path": str(make_snapshot(tmp_path / "hub"))})
    job.run()
    job.check_finished(PROBLEMS, whole.shards())


def test_a_copy_is_read_in_place_of_the_model_and_named_nowhere(begun, tmp_path):
    """--model-copy: what is recorded is the job's model.path, so that runs on several machines record the same."""
    job, model, whole = begun
    copy = copy_model(tmp_path / "local" / "copy")
    content = (model / "config.json").read_bytes()
    (model / "config.json").write_bytes(b"not read")
    job.run("--model-copy", copy, "--threads", 2)
    job.check_finished(PROBLEMS, whole.shards())
    other = job.twin(tmp_path / "other")
    other.run("--model-copy", copy)
    other.check_finished(PROBLEMS, whole.shards())
    assert other.query("SELECT value FROM note WHERE key = 'model.path'") == [(str(model),)]
    with open(copy / "config.json", "ab") as config:
        config.write(b"\n")
    refused = job.run("--model-copy", copy, expect=JOB)
    assert "model.fingerprint" in refused.err, refused
    (model / "config.json").write_bytes(content)
    job.run()


def test_moved_problems_resume(begun, tmp_path):
    job, _, whole = begun
    (tmp_path / "data").mkdir()
    moved = job.database.rename(tmp_path / "data" / "same.db")
    job.change(problems={"database": str(moved)})
    job.run()
    job.check_finished(PROBLEMS, whole.shards())


@pytest.mark.parametrize("finished", [False, True])
def test_other_bytes_do_not(begun, finished):
    """Neither does a finished run call another model's job done."""
    job, model, whole = begun
    job = whole if finished else job
    before = support.strata("status", job.output, "--json").out
    with open(model / "config.json", "a") as config:
        config.write("\n")
    for refused in (support.strata("check", job.file), job.run(expect=None)):
        assert refused.code == JOB and "model.fingerprint" in refused.out + refused.err, refused
    after = support.strata("status", job.output, "--json").out
    known = {key: json.loads(before)[key] for key in ("state", "finished", "problems", "residency", "stage")}
    assert known == {key: json.loads(after)[key] for key in known}


def test_a_finished_run_knows_its_model(begun):
    _, model, whole = begun
    whole.change(model={"path": str(model.rename(model.parent / "other-name"))})
    assert support.strata("check", whole.file).code == OK
    whole.run()


def test_shards_of_a_snapshot_name_the_model(tmp_path):
    import h5py

    job = Job(tmp_path, make_problems(6), make_snapshot(tmp_path / "hub"))
    job.run()
    with h5py.File(next((job.output / "shards").glob("*.h5"))) as shard:
        assert shard.attrs["model"] == b"Tiny-1B"
        assert not any(str(tmp_path).encode() in bytes(value) for value in shard.attrs.values() if isinstance(value, bytes))
    assert not any(str(tmp_path) in value for _, value in job.query("SELECT key, value FROM identity"))
