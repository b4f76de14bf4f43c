# SPDX-License-Identifier: MIT
"""A launch that comes to nothing before it works on the run leaves the run's state as it was, for people and dashboards."""
import fcntl
import json
import os
import shutil
import signal
import time

import pytest

from support import DATA, JOB, OK, STOPPED, WRITE, Job, make_model, make_problems, strata

PROBLEMS = 20
AGES = ("time", "disk", "refused")  # what may differ between two looks


def look(job):
    done = strata("status", job.output, "--json")
    assert done.code == OK, done
    return json.loads(done.out)


def state(job):
    return {key: value for key, value in look(job).items() if key not in AGES}


@pytest.fixture(params=["finished", "stopped"])
def run(request, tmp_path):
    job = Job(tmp_path / "job", make_problems(PROBLEMS), shutil.copytree(make_model(), tmp_path / "model"))
    job.run(*([] if request.param == "finished" else ["--stop-after", "3"]),
            expect=OK if request.param == "finished" else STOPPED)
    assert look(job)["stage"] == request.param and look(job)["refused"] is None
    return job


def another_identity(job):
    job.change(latents={"layers": [1]})
    return JOB


def bad_job(job):
    job.file.write_text("problems: [")
    return JOB


def missing_model(job):
    shutil.rmtree(job.folder.parent / "model")
    return DATA


def missing_database(job):
    job.database.unlink()
    return DATA


@pytest.mark.parametrize("spoil", [another_identity, bad_job, missing_model, missing_database])
def test_a_refused_launch_leaves_the_state(run, spoil):
    before = state(run)
    code = spoil(run)
    for _ in range(2):
        run.run(expect=code)
    assert state(run) == before
    text = strata("status", run.output).out
    refused = look(run)["refused"]
    if spoil is bad_job:  # nothing was opened
        assert refused is None and "\n  refused " not in text
    else:
        assert refused["exit_code"] == code and refused["number"] == 3 and refused["reason"]
        assert "\n" not in refused["reason"] and (spoil is not another_identity or "(latents.layers" in refused["reason"]), refused
        assert "\\n" not in text + strata("log", run.output, "--events").out + (run.output / "run.log").read_text()
        assert f"launch 1 ended {time.strftime('%Y', time.gmtime())}" in text and "  refused     launch 3 ended" in text
        assert f"before its first batch, exit code {code}" in strata("log", run.output, "--events").out


def test_a_second_runner_leaves_the_state(run):
    before = state(run)
    holder = os.open(run.output / "lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    run.run(expect=WRITE)
    os.close(holder)
    assert state(run) == before


def test_a_launch_killed_at_its_start_leaves_the_state(run):
    """While it counts the rows of a long query."""
    before = state(run)
    run.change(problems={"query": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9000000) "
                                  "SELECT i AS problem_id, "
                                  "'x' AS statement, '[]' AS steps FROM n"})
    runner = run.start()
    deadline = time.monotonic() + 60
    while run.query("SELECT count(*) FROM launch") != [(2,)] and time.monotonic() < deadline:
        time.sleep(0.02)
    runner.send_signal(signal.SIGKILL)
    runner.communicate()
    after = state(run)
    assert after == before
    assert look(run)["refused"]["exit_code"] is None
    assert "ended without a record before its first batch" in strata("status", run.output).out


def test_the_first_launch_is_shown_all_the_same(tmp_path):
    job = Job(tmp_path / "job", make_problems(3), tmp_path / "nothing")
    job.run(expect=DATA)
    seen = look(job)
    assert (seen["state"], seen["stage"], seen["launch"]["exit_code"], seen["refused"]) == ("ended", "failed", DATA, None)
    assert "\n  drift       -\n" in strata("status", job.output).out


def test_the_launch_after_a_refusal_counts(run):
    run.change(latents={"layers": [1]})
    run.run(expect=JOB)
    run.change(latents={"layers": [0, -2, -1]})
    run.run()
    seen = look(run)
    assert (seen["stage"], seen["launch"]["number"], seen["launch"]["exit_code"], seen["refused"]) == ("finished", 3, OK, None)
    assert seen["finished"] and strata("verify", run.output).code == OK
