# SPDX-License-Identifier: MIT
"""latents.h5 of a set of parts, through h5py: the rows of all parts, one after another."""

import shutil
import subprocess

import h5py
import numpy as np
import pytest
from commands.test_parts import Set, change
from support import OK, STRATA, Job, clean_environment, make_problems

COUNT = 60


def make_job(folder, **sections):
    problems = make_problems(COUNT, seed=4)
    problems[50]["statement"], problems[50]["steps"] = "a\0b", ["c"]
    job = Job(folder, problems)
    job.change(problems={"max_failed": 1}, batch={"window": 16}, latents={"token_ids": True}, run={"checkpoint_every": 2}, **sections)
    return job


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("whole"))
    job.run()
    return job


def read(folder):
    """{id: (rows, tokens)}, ordinals, and the sums of a layer."""
    found = {}
    with h5py.File(folder / "latents.h5") as file:
        cut, text = file["problems/id_offset"][()], file["problems/id"][()].tobytes()
        rows, tokens = file["problems/row_offset"][()], file["tokens/offset"][()]
        name = sorted(file["latents"])[-1]
        latents, ids, steps = file[f"latents/{name}"][()], file["tokens/ids"][()], file["rows/step"][()]
        assert len(latents) == rows[-1] == len(steps) and len(ids) == tokens[-1]
        assert np.isfinite(latents.astype(np.float32)).all() and (ids >= 0).all()
        for i in range(len(cut) - 1):
            part = slice(rows[i], rows[i + 1])
            found[text[cut[i]:cut[i + 1]].decode()] = (latents[part].tobytes(), steps[part].tobytes(), ids[tokens[i]:tokens[i + 1]].tobytes())
        ordinals = file["problems/ordinal"][()]
        sums = {key: file[f"statistics/{name}/{key}"][()] for key in ("sum", "sum_of_squares", "minimum", "maximum")}
        exact = latents.astype(np.float64)
        # Float64 over a few hundred numbers, shard after shard.
        np.testing.assert_allclose(sums["sum"], exact.sum(0), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(sums["sum_of_squares"], (exact ** 2).sum(0), rtol=1e-9)
        assert (sums["minimum"] == exact.min(0)).all() and (sums["maximum"] == exact.max(0)).all()
        attributes = {key: value if isinstance(value, bytes) else np.asarray(value).tolist() for key, value in file.attrs.items()}
    return found, ordinals, attributes


def check(made, whole):
    found, ordinals, attributes = read(made.job.output)
    expected, _, expected_attributes = read(whole.output)
    assert found == expected and attributes == expected_attributes and len(found) == COUNT - 1
    bounds = [0, *np.cumsum([made.part(index).query("SELECT count(*) FROM problem WHERE state = 0")[0][0] for index in range(made.parts)])]
    for first, end in zip(bounds, bounds[1:]):
        assert first == 0 or ordinals[:first].max() < ordinals[first:end].min()
    assert not list(made.job.output.glob("*.tmp"))


def test_written_by_the_part_that_is_finished_last(whole, tmp_path):
    made = Set(whole.twin(tmp_path / "set"), 3)
    view = made.job.output / "latents.h5"
    for index in (2, 0):
        made.run(index)
        assert not view.exists()
    made.run(1)
    check(made, whole)
    before = view.stat().st_ino
    made.run(0)
    assert view.stat().st_ino == before
    view.unlink()
    made.run(0)
    check(made, whole)
    shutil.move(made.job.output, tmp_path / "elsewhere")
    assert read(tmp_path / "elsewhere")[0] == read(whole.output)[0]


def test_parts_that_end_at_once(whole, tmp_path):
    made = Set(whole.twin(tmp_path), 4)
    running = [subprocess.Popen([STRATA, "run", made.job.file, "--part", f"{index}/4", "--quiet"], stderr=subprocess.PIPE,
                                stdout=subprocess.DEVNULL, env=clean_environment()) for index in range(4)]
    for process in running:
        assert process.communicate(timeout=120)[1] == b"" and process.returncode == OK
    check(made, whole)


def test_a_retry_adds_its_shard(tmp_path):
    made = Set(make_job(tmp_path), 2)
    made.run_all()
    assert "p-00050" not in read(made.job.output)[0]
    change(made.job, "UPDATE problems SET statement = 'mended' WHERE problem_id = 'p-00050'")
    made.run(1, "--retry-failed=all")
    assert "p-00050" in read(made.job.output)[0] and len(read(made.job.output)[0]) == COUNT


def test_an_error_fails_no_run(whole, tmp_path):
    made = Set(whole.twin(tmp_path), 2)
    made.run(0)
    (made.job.output / "latents.h5" / "in the way").mkdir(parents=True)
    made.run(1)
    assert "latents.h5 of all parts was not written" in (made.part(1).output / "run.log").read_text()
    shutil.rmtree(made.job.output / "latents.h5")
    (made.part(0).output / "shards").rename(tmp_path / "aside")
    made.run(1)
    assert not list(made.job.output.glob("latents.h5*"))


def test_a_set_with_too_many_shards(tmp_path):
    job = Job(tmp_path, make_problems(502, seed=2, longest=6, steps=2))
    job.change(batch={"problems": 1}, run={"checkpoint_every": 1})
    made = Set(job, 2)
    made.run(0)
    (job.output / "latents.h5").write_text("of a time when they were fewer")
    made.run(1)
    assert sum(len(made.part(index).shards()) for index in range(2)) == 502
    assert not (job.output / "latents.h5").exists() and (made.part(1).output / "latents.h5").exists()
