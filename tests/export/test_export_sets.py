# SPDX-License-Identifier: MIT
"""Exports and latents.h5 of a job that ran in parts: the bytes of one undivided run."""

import json
import random
import shutil
import signal
import subprocess

import h5py
import numpy as np
import pytest
import safetensors.numpy
from commands.test_parts import Set, change
from support import DATA, OK, STRATA, WRITE, Job, clean_environment, make_problems, strata

COUNT = 120
ONE_LAYER = ["--layers", "-1"]
FORMATS = {"safetensors": [], "npy": [], "hdf5": [], "rjepa": ONE_LAYER}
SHUFFLED = ["--shuffle", "5", "--split", "train=0.5,dev=0.3,test=0.2", "--seed", "3"]
ROWS = ("--shuffle-rows", "4", "--max-shard-size", "20KB")


def make_job(folder, **sections):
    """Two rows fail at every attempt, one of them until it is mended; two are empty."""
    problems = make_problems(COUNT, seed=11)
    problems[17]["statement"], problems[17]["steps"] = "a\0b", ["c"]
    problems[80]["statement"], problems[80]["steps"] = "d\0e", ["f"]
    job = Job(folder, problems)
    job.change(problems={"max_failed": 2}, batch={"window": 20}, latents={"token_ids": True}, run={"checkpoint_every": 2}, **sections)
    return job


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("whole"))
    job.run()
    assert len(job.shards()) > 3
    return job


def export(runs, to, form, *words, expect=OK):
    done = strata("export", *runs, "--format", form, "--to", to, *FORMATS[form], *words)
    assert done.code == expect, done
    return done


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_about(found, expected, exact):
    """What is said of an export: the same of a set but for places, shards and parts, and the order in which sums were added."""
    for about in (found, expected):
        for key in ("run", "shards", "parts", "request_sha256"):
            about.pop(key)
        about["files"] = [file for file in about["files"] if file["path"] != "statistics.safetensors"]
        about["model"].pop("path")
    figures = [[layer.pop("statistics") for layer in about["layers"]] + [split.pop("statistics") for split in about["splits"]]
               for about in (found, expected)]
    if exact:
        assert found == expected
    assert found["counts"] == expected["counts"] and found["left_out"] == expected["left_out"]
    assert json.dumps(figures[0], sort_keys=True).count(":") == json.dumps(figures[1], sort_keys=True).count(":")
    for one, other in zip(*figures):
        assert (one is None) == (other is None)
        if one is not None and "rows" in one:
            assert one["rows"] == other["rows"] and one["minimum"] == other["minimum"] and one["maximum"] == other["maximum"]
            # Sums in float64 over a few thousand numbers, in another order.
            assert np.isclose(one["mean"], other["mean"], rtol=1e-9, atol=1e-12) and np.isclose(one["std"], other["std"], rtol=1e-9)


def check_same(found, expected, exact=True):
    """Two folders of exports."""
    found, expected = files(found), files(expected)
    assert found.keys() == expected.keys() and len(found) >= 3
    check_about(json.loads(found.pop("export.json")), json.loads(expected.pop("export.json")), exact)
    figures = [safetensors.numpy.load(some.pop("statistics.safetensors")) for some in (found, expected)]
    assert figures[0].keys() == figures[1].keys()
    for name, values in figures[0].items():
        assert np.isfinite(values).all()
        np.testing.assert_allclose(values, figures[1][name], rtol=1e-7, atol=1e-9)
    for name in found:
        assert found[name] == expected[name], name


@pytest.fixture(scope="module", params=[1, 3, 8])
def made(request, whole, tmp_path_factory):
    made = Set(whole.twin(tmp_path_factory.mktemp("set")), request.param)
    made.run_all()
    return made


@pytest.fixture(scope="module")
def exports(whole, tmp_path_factory):
    """Of the undivided run, by format, in the query's order and shuffled."""
    folder = tmp_path_factory.mktemp("exports")
    for form in FORMATS:
        export([whole.output], folder / form, form)
        export([whole.output], folder / f"{form}-shuffled", form, *SHUFFLED)
    export([whole.output], folder / "rows", "npy", *ROWS)
    return folder


@pytest.mark.parametrize("form", FORMATS)
def test_the_bytes_of_one_run(whole, made, exports, tmp_path, form):
    for name, words in ((form, []), (f"{form}-shuffled", SHUFFLED), *([("rows", ROWS)] if form == "npy" else [])):
        done = export([made.job.output], tmp_path / name, form, "--require-complete", *words)
        told = "" if form == "rjepa" else done.err  # of R-JEPA's tables, where there is no strata-export
        assert told == "" and "left out: 2 failed" in done.out
        about = json.loads((tmp_path / name / "export.json").read_text())
        assert about["run"] == str(made.job.output) and about["complete"]
        assert [part["part"] for part in about["parts"]] == list(range(made.parts)) and all(part["complete"] for part in about["parts"])
        assert {shard["part"] for shard in about["shards"]} <= set(range(made.parts))
        check_same(tmp_path / name, exports / name)


def test_parts_named_one_by_one(whole, exports, tmp_path):
    """In any order; a part that lies elsewhere; without the survey of the set, the whole's hash alone is not known."""
    made = Set(whole.twin(tmp_path / "set"), 3)
    made.run_all()
    moved = shutil.move(made.part(1).output, tmp_path / "moved")
    parts = [made.part(2).output, moved, made.part(0).output]
    export(parts, tmp_path / "out", "hdf5")
    check_same(tmp_path / "out", exports / "hdf5")
    done = export([made.job.output], tmp_path / "without", "npy")
    assert "warning: part 1 of 3 is not complete; " in done.err
    assert json.loads((tmp_path / "without" / "export.json").read_text())["counts"]["remaining"] > 20
    (made.job.output / "survey.sqlite").unlink()
    export(parts, tmp_path / "unsurveyed", "npy")
    about = json.loads((tmp_path / "unsurveyed" / "export.json").read_text())
    assert about["problems_sha256"] is None and about["complete"]
    check_same(tmp_path / "unsurveyed", exports / "npy", exact=False)
    done = export(parts[1:], tmp_path / "two", "npy")
    assert "warning: part 2 of 3 is not complete; at least 0 problems" in done.err
    done = export(parts[1:], tmp_path / "refused", "npy", "--require-complete", expect=DATA)
    assert done.last().endswith("2 run directories: part 2 of 3 is not complete (--require-complete)")
    assert "the same part" in export([moved, moved], tmp_path / "twice", "npy", expect=DATA).last()
    assert "is no part of a set" in export([whole.output, moved], tmp_path / "mixed", "npy", expect=DATA).last()


def test_one_part_alone_is_a_run(made, tmp_path):
    export([made.part(0).output], tmp_path / "out", "npy")
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert about["parts"] is None and about["complete"] and about["identity"]["part"] == f"0/{made.parts}"
    assert about["problems_sha256"] == about["identity"]["problems.sha256"]


def test_killed_parts(whole, exports, tmp_path):
    rng = random.Random(5)
    made = Set(whole.twin(tmp_path / "set"), 3)
    for round in range(6):
        for index in rng.sample(range(3), 2):
            process = subprocess.Popen([STRATA, "run", made.job.file, "--part", f"{index}/3", "--quiet"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, env=clean_environment())
            try:
                process.wait(timeout=0.05 + rng.random() * 0.2)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            process.wait()
    made.run_all()
    for form in ("hdf5", "safetensors"):
        export([made.job.output], tmp_path / form, form)
        check_same(tmp_path / form, exports / form)


def test_a_retried_problem(tmp_path):
    """In a shard of its part that was sealed after all others, its rows stand where the query has them."""
    job = make_job(tmp_path)
    undivided, made = job.twin(tmp_path / "whole"), Set(job.twin(tmp_path / "set"), 3)
    undivided.run()
    made.run_all()
    change(job, "UPDATE problems SET statement = 'mended' WHERE problem_id = 'p-00017'")
    undivided.run("--retry-failed=all")
    made.run(0, "--retry-failed=all")
    for form in FORMATS:
        export([undivided.output], tmp_path / "one" / form, form)
        export([made.job.output], tmp_path / "set-of" / form, form)
        # The hash of all rows with the mended one is known to the undivided run alone.
        check_same(tmp_path / "set-of" / form, tmp_path / "one" / form, exact=False)
    assert json.loads((tmp_path / "set-of" / "npy" / "export.json").read_text())["counts"]["failed"] == 1


def test_more_parts_than_problems(tmp_path):
    job = Job(tmp_path, make_problems(3))
    whole, made = job.twin(tmp_path / "whole"), Set(job.twin(tmp_path / "set"), 5)
    whole.run()
    made.run_all()
    export([whole.output], tmp_path / "one", "hdf5")
    export([made.job.output], tmp_path / "parts", "hdf5", "--require-complete")
    check_same(tmp_path / "parts", tmp_path / "one")


def test_a_set_that_is_not_complete(whole, tmp_path):
    made = Set(whole.twin(tmp_path / "set"), 8)
    strata("survey", made.job.file, "--quiet")
    done = export([made.job.output], tmp_path / "none", "npy", expect=DATA)
    for index in (0, 1, 4, 7):
        made.run(index)
    done = export([made.job.output], tmp_path / "out", "npy")
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    missing = COUNT - sum(len(made.part(index).problems()) for index in (0, 1, 4, 7))
    assert f"warning: parts 2, 3, 5 and 6 of 8 are not complete; {missing} problems are not in this export" in done.err
    assert not about["complete"] and about["counts"]["remaining"] == missing
    assert [part["part"] for part in about["parts"] if not part["complete"]] == [2, 3, 5, 6]
    assert {entry["ordinal"] for entry in about["left_out"]} <= {17, 80}
    ordinals = np.load(tmp_path / "out" / "all" / "ordinal.npy")
    assert (np.diff(ordinals) > 0).all() and len(ordinals) == COUNT - missing - len(about["left_out"])
    done = export([made.job.output], tmp_path / "no", "npy", "--require-complete", expect=DATA)
    assert "parts 2, 3, 5 and 6 of 8 are not complete" in done.err
    for index in (2, 3, 5, 6):
        assert f"{made.job.file} --part {index}/8" in done.err, done
    assert not (tmp_path / "no").exists() and not (tmp_path / "none").exists()


def test_parts_that_do_not_go_together(whole, tmp_path):
    one, other = Set(whole.twin(tmp_path / "one"), 2), Set(whole.twin(tmp_path / "other", latents={"pooling": "mean"}), 2)
    one.run(0)
    other.run(1)
    done = export([one.part(0).output, other.part(1).output], tmp_path / "out", "npy", expect=DATA)
    assert "has another identity than the parts before it" in done.err and "latents.pooling" in done.err


def test_another_survey_is_refused(whole, tmp_path):
    made, other = Set(whole.twin(tmp_path / "one"), 2), whole.twin(tmp_path / "other", problems={"query": "SELECT * FROM problems LIMIT 50"})
    made.run_all()
    assert strata("survey", other.file, "--quiet").code == OK
    shutil.copy(other.output / "survey.sqlite", made.job.output / "survey.sqlite")
    done = export([made.job.output], tmp_path / "out", "npy", expect=DATA)
    assert "is not the survey that the parts were made from" in done.err


def test_a_disk_without_room_for_the_plan(whole, tmp_path):
    done = subprocess.run(["bash", "-c", 'ulimit -f 8; exec "$@"', "-", STRATA, "export", whole.output, "--format", "npy", "--to",
                           tmp_path / "out"], capture_output=True, text=True, env=clean_environment())
    assert done.returncode == WRITE and "disk for the export's plan" in done.stderr, done
    assert not list(tmp_path.iterdir())
