# SPDX-License-Identifier: MIT
"""What a launch predicts before batch 1, held against its sealed batches by status and log. How near the two are no test decides."""
import json
import re
import sqlite3

import pytest

import support
from support import STOPPED, Job, make_model, make_problems, strata

PROBLEMS = 40
LINE = re.compile(r"predicted   (\S+) tokens/s, measured (\S+) \(([+-][\d.]+) %\).*; .* for (\S+) tokens, limit (.+), by the calibration of a (.+)\n")


def told(job):
    return json.loads(strata("status", job.output, "--json").out)["prediction"]


def lines(job):
    """The lines of status and log."""
    return [LINE.search(strata(command, job.output).out) for command in ("status", "log")]


def measured(job, launch):
    """Tokens, seconds of computing and of waiting of a launch's sealed batches."""
    return job.query("SELECT sum(tokens), total(compute_seconds), total(wait_seconds) FROM batch WHERE epoch = ?", launch)[0]


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "job", make_problems(PROBLEMS, steps=3, longest=8), make_model("deep", layers=6))


def test_whole_run(job):
    job.run()
    found = told(job)
    survey, = job.query("SELECT tokens FROM survey")
    assert (found["launch"], found["tokens"], found["limit"], found["sweep_batches"]) == (1, survey[0], "matrix rate", None)
    assert found["seconds"] > 0 and found["tokens_per_second"] == pytest.approx(survey[0] / found["seconds"])
    tokens, computing, waiting = measured(job, 1)
    taken = found["measured"]
    assert taken["tokens"] == tokens == survey[0]
    assert (taken["compute_seconds"], taken["wait_seconds"]) == pytest.approx((computing, waiting))
    assert taken["tokens_per_second"] == pytest.approx(tokens / computing)
    assert taken["with_waiting"] == pytest.approx(tokens / (computing + waiting))
    for line in lines(job):
        difference = 100 * (taken["tokens_per_second"] / found["tokens_per_second"] - 1)
        assert float(line[3]) == pytest.approx(difference, abs=0.06) and line[6] == "batch"
        assert line[4] == f"{survey[0]:,}"


def test_each_launch_predicts_what_is_left(job):
    job.run("--stop-after", 4, expect=STOPPED)
    first = told(job)
    job.run()
    second = told(job)
    sealed = job.query("SELECT sum(tokens) FROM batch WHERE epoch = 1")[0][0] or 0
    left = job.query("SELECT sum(tokens) FROM batch WHERE epoch = 2")[0][0]
    assert (first["launch"], second["launch"]) == (1, 2) and second["measured"]["tokens"] == left == first["tokens"] - sealed
    assert 0 < second["tokens"] <= first["tokens"] - sealed


def test_before_the_first_batch_is_sealed(job):
    job.change(run={"checkpoint_every": 1000})
    job.run("--stop-after", 1, expect=STOPPED)
    with_none = told(job)
    assert with_none["measured"]["tokens"] in (0, measured(job, 1)[0])
    if with_none["measured"]["tokens"] == 0:
        assert with_none["measured"]["tokens_per_second"] is None
        assert "predicted" in strata("status", job.output).out and "measured" not in strata("status", job.output).out


def test_by_sweep(job, tmp_path):
    twin = job.twin(tmp_path / "streamed", model={"weights": "disk", "resident_blocks": 1}, batch={"group": 4})
    twin.run()
    assert told(twin)["sweep_batches"] == 4 and told(twin)["limit"] in ("matrix rate", "disk")
    assert all(line[6] == "sweep of 4 batches" for line in lines(twin))


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
@pytest.mark.parametrize("weights", ["resident", "disk", "host"])
def test_on_a_gpu(job, tmp_path, weights):
    job.program = support.EMULATED
    job.change(model={"device": "cuda:0", "weights": weights, "resident_blocks": 2})
    job.run()
    assert told(job)["limit"] == "matrix rate"  # the emulation's products take longer than copies would


def test_a_note_that_nobody_understands(job):
    job.run()
    for text in ("", "{", "[]", '{"launch": -1}', '{"launch": 1, "tokens_per_second": "many"}', '{"tokens_per_second": 0}'):
        with sqlite3.connect(job.output / "ledger.sqlite") as ledger:
            ledger.execute("UPDATE note SET value = ? WHERE key = 'launch.prediction'", (text,))
        assert told(job) is None and lines(job) == [None, None]
