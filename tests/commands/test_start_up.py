# SPDX-License-Identifier: MIT
"""The start of a launch: the problems are surveyed while the weights are read, and neither is begun in vain."""
import re
import signal
import sqlite3
import time

import pytest

import support
from support import DEVICE, JOB, STOPPED, WRITE, Job, make_problems

PROBLEMS = 60
# Each row takes some hundredths of a second or more to read, so that the survey outlasts the load of a small model.
SLOW = ("SELECT problems.*, (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count} + length(statement) * 0) "
        "SELECT max(i) FROM n) AS counted FROM problems")


def slow_job(folder, count=30000, **sections):
    return Job(folder, make_problems(20), problems={"query": SLOW.format(count=count)}, **sections)


def said(job, since=0):
    """The log without times, and without what depends on the machine."""
    lines = (job.output / "run.log").read_text().splitlines()[since:]
    return [re.sub(r"^\S+ (info|warn) +", "", line) for line in lines]


def order(job, since=0):
    words = ("surveying", "loading", "weights:", "bytes of shards", "resident", "device ", "identity", "calibrating", "comparing", "ended")
    return [word for line in said(job, since) for word in words if line.startswith(word) or (word == "bytes of shards" and word in line)]


USUAL = ["surveying", "loading", "weights:", "bytes of shards", "resident", "device ", "identity", "calibrating", "ended"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("reference"), make_problems(PROBLEMS))
    job.run()
    return job


def test_the_log_has_one_order(reference, tmp_path):
    """Whichever of survey and load is through first."""
    assert order(reference) == USUAL
    slow = slow_job(tmp_path)
    slow.run("--stop-after", "2", expect=STOPPED)
    assert order(slow) == USUAL
    lines = len(said(slow))
    slow.run("--stop-after", "2", expect=STOPPED)
    assert order(slow, lines) == USUAL
    fast = reference.twin(tmp_path / "fast")
    fast.run("--stop-after", "2", expect=STOPPED)
    lines = len(said(fast))
    fast.run()
    assert order(fast) == USUAL + order(fast, lines) == USUAL + USUAL
    fast.check_finished(PROBLEMS, reference.shards())


def test_a_finished_run_loads_nothing(reference):
    lines = len(said(reference))
    reference.run()
    assert order(reference, lines) == ["surveying", "comparing", "weights:", "ended"]


def test_another_job_is_refused_without_a_load(reference, tmp_path):
    twin = reference.twin(tmp_path)
    twin.run("--stop-after", "2", expect=STOPPED)
    lines = len(said(twin))
    twin.change(latents={"layers": [1]})
    done = twin.run(expect=JOB)
    assert "latents.layers" in done.err and order(twin, lines) == ["surveying", "ended"]


def test_other_problems_are_refused_during_the_load(reference, tmp_path):
    """What only the survey tells comes while the weights are read, and ends that."""
    twin = reference.twin(tmp_path)
    twin.run("--stop-after", "2", expect=STOPPED)
    lines, before = len(said(twin)), twin.query("SELECT * FROM note ORDER BY 1, 2")
    with sqlite3.connect(twin.database) as database:
        database.execute("UPDATE problems SET statement = statement || '.' WHERE rowid = 7")
    database.close()
    done = twin.run(expect=JOB)
    assert "problems.sha256" in done.err, done
    assert order(twin, lines) in (["surveying", "loading", "ended"], ["surveying", "loading", "weights:", "ended"])
    assert twin.query("SELECT * FROM note ORDER BY 1, 2") == before


def test_a_disk_that_is_too_small_is_refused(tmp_path):
    job = Job(tmp_path, make_problems(PROBLEMS), run={"disk_reserve_gb": 1000000})
    done = job.run(expect=WRITE)
    assert "run.disk_reserve_gb keeps" in done.last()
    assert "resident" not in order(job) and not job.shards() and job.query("SELECT count(*) FROM identity") == [(0,)]


def stage(job):
    return job.query("SELECT stage, loaded_bytes > 0 FROM start") if job.has_ledger() else []


def test_status_shows_what_is_waited_for(tmp_path):
    """The weights are there and the problems are not; a stop is heard then."""
    for attempt in range(5):  # on a loaded machine the moment may pass unseen
        job = slow_job(tmp_path / str(attempt), count=200000 * 3 ** attempt)
        process = job.start()
        while process.poll() is None and stage(job) != [("surveying", 1)]:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        if "bytes of shards" not in order(job):
            break
    assert process.returncode == STOPPED and b"stopped by SIGTERM" in err, err
    assert order(job) == ["surveying", "loading", "weights:", "ended"]
    assert job.query("SELECT count(*) FROM identity") == [(0,)]


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
@pytest.mark.parametrize("number", [1, 2])  # the weights' arena, and what loads them
def test_an_error_of_the_load_ends_the_survey(tmp_path, number):
    """In its words and at once, however long the survey would have taken."""
    job = slow_job(tmp_path, model={"device": "cuda:0", "dtype": "bfloat16"})
    job.program = support.EMULATED
    done = job.run(environment=support.clean_environment(CUDA_EMULATION_FAIL_MALLOC=str(number)), expect=DEVICE)
    assert "cudaMalloc" in done.last() and "out of memory" in done.last()
    assert order(job) == ["surveying", "loading", "ended"] and job.query("SELECT count(*) FROM identity") == [(0,)]


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
def test_memory_for_the_weights_alone_is_refused_once_all_is_known(tmp_path):
    """With the table of all that is needed; and where not even the weights fit, nothing is loaded for it."""
    job = Job(tmp_path, make_problems(PROBLEMS), model={"device": "cuda:0", "dtype": "bfloat16", "memory_reserve_gb": 0},
              batch={"tokens": 16384, "problems": 64, "window": 64})
    job.program = support.EMULATED
    orders = []
    for free in (1 << 16, 41 << 20):  # less than the weights; they and the little that loads them
        job.clear()
        done = job.run(environment=support.clean_environment(CUDA_EMULATION_MEMORY=str(1 << 30), CUDA_EMULATION_FREE=str(free)),
                       expect=DEVICE)
        assert re.search(r"not enough memory: weights .* \| activations .*; (not even a batch|the largest batch.tokens)", done.last()), done
        orders.append(order(job))
    assert orders[0] == ["surveying", "bytes of shards", "loading", "device ", "ended"], orders  # nothing was read
    assert orders[1] in (["surveying", "loading", "ended"], ["surveying", "loading", "weights:", "ended"]), orders
