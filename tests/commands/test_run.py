# SPDX-License-Identifier: MIT
"""strata run, end to end on a tiny model: equal bytes whatever the threads, interruptions and kills; stops; refusals."""
import contextlib
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import time

import numpy as np
import pytest

import support
from support import DATA, DONE, FAILED, JOB, OK, SKIPPED, STOPPED, WRITE, Job, make_problems, read_latents

PROBLEMS = 40
BATCHES = 15  # of that job, as test_reference checks


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A job that ran to its end undisturbed."""
    job = Job(tmp_path_factory.mktemp("reference"), make_problems(PROBLEMS))
    job.run()
    return job


@pytest.fixture
def twin(reference, tmp_path):
    return reference.twin(tmp_path)


def run_to_end(job, limit=60):
    """Resumes until the run is finished; returns the exit codes on the way."""
    codes = []
    while len(codes) < limit:
        codes.append(job.run(expect=None).code)
        if codes[-1] != STOPPED:
            break
    assert codes[-1] == OK, codes
    return codes


def same_as(reference, job):
    job.check_finished(PROBLEMS, reference.shards())
    assert job.outcomes() == reference.outcomes()


# ---- equal bytes

def test_reference(reference):
    reference.check_finished(PROBLEMS)
    assert [row for row in reference.query("SELECT count(*) FROM batch")] == [(BATCHES,)]
    assert len(reference.shards()) == BATCHES // 3
    assert {state for state, _ in reference.problems().values()} == {DONE}


def test_second_run_gives_the_same_bytes(reference, twin):
    twin.run()
    same_as(reference, twin)


def test_threads_change_no_byte(reference, twin):
    twin.run("--threads", 2)
    same_as(reference, twin)


def test_batch_size_keeps_the_bits_of_each_problem(reference, tmp_path):
    expected = read_latents(reference)
    for number, batch in enumerate(({"problems": 1, "tokens": 128, "window": 1}, {"problems": 16, "tokens": 2048, "window": 64})):
        job = reference.twin(tmp_path / str(number), batch=batch)
        job.run()
        found = read_latents(job)
        assert found.keys() == expected.keys()
        for key, problem in found.items():
            assert problem["rows"] == expected[key]["rows"]
            for name in ("hs_000", "hs_002", "hs_003"):
                assert problem[name].tobytes() == expected[key][name].tobytes(), (key, name)


def test_finished_run_is_left_alone(reference):
    before = {path: path.stat().st_mtime_ns for path in (reference.output / "shards").iterdir()}
    done = reference.run()
    assert f"{PROBLEMS} done, 0 failed, 0 skipped" in done.out
    assert {path: path.stat().st_mtime_ns for path in (reference.output / "shards").iterdir()} == before


def test_status_of_a_finished_run_stays(reference):
    """The launch that found nothing to do does not wipe what the last one left."""
    before = reference.query("SELECT stage, batches, problems, tokens, rows, drift FROM progress")
    reference.run()
    assert reference.query("SELECT stage, batches, problems, tokens, rows, drift FROM progress") == before
    assert before[0][:3] == ("finished", BATCHES, PROBLEMS)


def test_plan_and_check_foretell_the_run(reference):
    """Nothing is started: plan and check count what the run then did."""
    rows, tokens = reference.query("SELECT sum(rows), sum(tokens) FROM shard")[0]
    planned = {line.split()[0]: line for line in support.strata("plan", reference.file).out.splitlines() if line.strip()}
    assert planned["problems"].split()[1:5] == [str(PROBLEMS), "rows:", str(PROBLEMS), "to"]
    assert planned["tokens"].split()[1] == str(tokens) and planned["rows"].split()[1] == str(rows)
    assert planned["batches"].split()[1] == f"{BATCHES},"
    checked = support.strata("check", reference.file)
    assert checked.code == OK and "FAIL" not in checked.out and "----" not in checked.out
    assert f"{PROBLEMS} texts, {tokens} tokens, {BATCHES} batches" in checked.out


# ---- clean stops

@pytest.mark.parametrize("batches", [1, 2, 3, 4, 7, 14, 15, 100])
def test_stop_after(reference, twin, batches):
    """Also several stops inside one shard: 3 batches make one."""
    for left in range(BATCHES, -1, -batches):
        twin.run("--stop-after", batches, expect=STOPPED if batches <= left else OK)
        twin.check_acknowledged(reference.shards())
    same_as(reference, twin)
    # A stop costs no batch: no launch computes one again.
    assert twin.query("SELECT count(*) FROM batch") == [(BATCHES,)]
    assert len((twin.output / "throughput.csv").read_text().splitlines()) == BATCHES + 1


def test_damaged_partial_shard_is_computed_again(reference, twin):
    twin.run("--stop-after", 5, expect=STOPPED)
    partial = twin.output / "shards" / "part-000001.partial.h5"
    damaged = bytearray(partial.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    partial.write_bytes(damaged)
    twin.run()
    same_as(reference, twin)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def listening(job):
    """The guard hears signals once the log has its first stage."""
    log = job.output / "run.log"
    return log.exists() and "surveying" in log.read_text()


def held(process):
    """Stops the process where it is; False: it has ended."""
    os.kill(process.pid, signal.SIGSTOP)
    return os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT).si_code == os.CLD_STOPPED


def end_of(process, seconds=30):
    out, err = process.communicate(timeout=seconds)
    return support.Result(process.returncode, out.decode(), err.decode())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_stop_cleanly(reference, twin, number):
    rng = random.Random(int(number))
    codes = []
    while codes.count(STOPPED) < 3:
        assert len(codes) < 60
        if twin.has_ledger() and twin.query("SELECT 1 FROM checkpoint WHERE finished"):
            twin.clear()  # it was through before it heard
        lines = len((twin.output / "run.log").read_text()) if (twin.output / "run.log").exists() else 0
        process = twin.start()
        wait_for(lambda: process.poll() is not None or
                 (listening(twin) and len((twin.output / "run.log").read_text()) > lines))
        time.sleep(rng.random() * 0.3)
        process.send_signal(number)
        asked = time.monotonic()
        done = end_of(process)
        assert time.monotonic() - asked < 20
        finished = twin.has_ledger() and twin.query("SELECT 1 FROM checkpoint WHERE finished") != []
        assert done.code == (OK if finished else STOPPED), done
        if done.code == STOPPED:
            assert f"stopped by {number.name}" in done.last(), done
        codes.append(done.code)
        twin.check_acknowledged(reference.shards())
    run_to_end(twin)
    same_as(reference, twin)


@contextlib.contextmanager
def reading(job):
    """A reader of the ledger, which keeps a run from recording anything: it waits at the start of its launch."""
    with contextlib.closing(sqlite3.connect(job.output / "ledger.sqlite", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM launch").fetchall()
        yield


def has_lock(job, process):
    return f"process {process.pid} on" in (job.output / "lock").read_text()


def test_second_signal_ends_at_once(reference, twin):
    """The run cannot come to its end by itself between the two."""
    twin.run("--stop-after", 4, expect=STOPPED)
    with reading(twin):
        process = twin.start()
        wait_for(lambda: has_lock(twin, process))
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline() == b"strata: SIGTERM: stopping; computed batches are kept\n"
        process.send_signal(signal.SIGTERM)
        done = end_of(process)
    assert done.code == STOPPED, done
    assert done.last() == "strata: SIGTERM again: ending at once; unsealed batches are dropped", done
    twin.check_acknowledged(reference.shards())
    run_to_end(twin)
    same_as(reference, twin)


# ---- kills

def run_duration(job, folder):
    began = time.monotonic()
    job.twin(folder).run()
    return time.monotonic() - began


def test_random_kills(reference, twin, tmp_path):
    """SIGKILL at random times, launch after launch, so that recoveries are killed too."""
    rng = random.Random(7)
    whole = run_duration(reference, tmp_path / "timed")
    killed, finished = 0, 0
    while killed < 24:
        process = twin.start()
        time.sleep(rng.random() * whole)
        expected = -signal.SIGKILL if held(process) else OK
        process.kill()
        code = end_of(process).code
        killed += code == -signal.SIGKILL
        assert code == expected
        twin.check_acknowledged(reference.shards())
        if code == OK:
            same_as(reference, twin)
            finished += 1
            twin.clear()
    run_to_end(twin)
    same_as(reference, twin)
    print(f"{killed} kills, {finished} runs that ended before theirs, 0 violations")


def kept_batches(job):
    """Batches that the next launch need not compute: of sealed shards, and of the partial one."""
    if not job.has_ledger():
        return 0
    return job.query("SELECT (SELECT count(*) FROM batch) + ifnull((SELECT batches FROM partial), 0)")[0][0]


def test_kills_between_clean_stops(reference, twin):
    """A partial shard from a clean stop survives kills of the launches that restore it."""
    rng = random.Random(8)
    kills, launches = 0, 0
    while kills < 4:
        launches += 1
        assert launches < 60
        batches = rng.choice((2, 1, 2, 3))
        done = twin.run("--stop-after", batches, expect=STOPPED if batches <= BATCHES - kept_batches(twin) else OK)
        if done.code == OK:
            twin.clear()
            continue
        process = twin.start()
        time.sleep(rng.random() * 0.4)
        expected = -signal.SIGKILL if held(process) else OK
        process.kill()
        assert end_of(process).code == expected
        kills += expected == -signal.SIGKILL
        twin.check_acknowledged(reference.shards())
    run_to_end(twin)
    same_as(reference, twin)


# ---- one runner, one identity

def test_two_runners(reference, twin):
    """The first is held in its run."""
    twin.run("--stop-after", 4, expect=STOPPED)
    with reading(twin):
        first = twin.start()
        wait_for(lambda: has_lock(twin, first))
        second = twin.run(expect=WRITE)
    assert end_of(first).code == OK
    assert "another runner is active" in second.last() and f"process {first.pid} on" in second.last(), second
    assert len(second.err.strip().splitlines()) == 1, second
    same_as(reference, twin)


def test_simultaneous_runners(reference, twin):
    """Whoever gets the lock computes; one that comes when the run is finished finds nothing to do."""
    runners = [twin.start() for _ in range(4)]
    done = [end_of(runner, 60) for runner in runners]
    for result in done:
        assert result.code == OK or (result.code == WRITE and "another runner" in result.last()), result
    admitted = [result.code for result in done].count(OK)
    assert admitted >= 1 and twin.query("SELECT count(*) FROM launch") == [(admitted,)]  # a refused one leaves nothing
    same_as(reference, twin)


def test_simultaneous_runners_of_a_begun_run(reference, twin):
    """One of them, held until the others have been refused, computes."""
    twin.run("--stop-after", 4, expect=STOPPED)
    with reading(twin):
        runners = [twin.start() for _ in range(4)]
        wait_for(lambda: [runner.poll() for runner in runners].count(None) == 1)
    done = [end_of(runner) for runner in runners]
    assert sorted(result.code for result in done) == [OK, WRITE, WRITE, WRITE], done
    assert all("another runner" in result.last() for result in done if result.code == WRITE), done
    assert twin.query("SELECT count(*) FROM launch") == [(2,)]
    same_as(reference, twin)


def test_other_identity_is_refused(reference, twin, tmp_path):
    twin.run("--stop-after", 4, expect=STOPPED)
    before = twin.shards()
    kept = twin.keys
    for changes, words in (({"latents": {"dtype": "float16"}}, ["latents.dtype", "float32", "float16"]),
                           ({"latents": {"layers": [-1]}}, ["latents.layers"]),
                           ({"latents": {"pooling": "mean"}}, ["latents.pooling", "step_mean"]),
                           ({"model": {"dtype": "bfloat16"}}, ["model.dtype", "bfloat16"]),
                           ({"batch": {"problems": 4}}, ["batch.problems", "'3'", "'4'"]),
                           ({"run": {"checkpoint_every": 4}}, ["run.checkpoint_every"]),
                           ({"problems": {"text": "{statement} {steps}"}}, ["problems.text"]),
                           ({"model": {"path": str(support.make_model(seed=2))}}, ["model."])):
        twin.change(**changes)
        done = twin.run(expect=JOB)
        assert all(word in done.err for word in words), done
        twin.keys = kept
        twin.write()
    done = twin.run("--limit", 10, expect=JOB)
    assert "problems.limit" in done.err, done
    assert twin.shards() == before
    run_to_end(twin)
    same_as(reference, twin)


def test_changed_problems_are_refused(tmp_path):
    problems = make_problems(20)
    job = Job(tmp_path, problems)
    job.run("--stop-after", 2, expect=STOPPED)
    changed = [dict(problem) for problem in problems]
    changed[19]["difficulty"] = 0.5  # a column that only the metadata uses
    job.import_problems(changed)
    done = job.run(expect=JOB)
    assert "problems.sha256" in done.err, done
    job.import_problems(problems)
    job.run()
    job.check_finished(20)


def test_changed_weights_are_refused(tmp_path):
    """The same names and shapes, other numbers."""
    model = tmp_path / "model"
    shutil.copytree(support.make_model(), model)
    job = Job(tmp_path / "job", make_problems(20), model)
    job.run("--stop-after", 2, expect=STOPPED)
    for path in model.glob("*.safetensors"):
        bytes_ = bytearray(path.read_bytes())
        bytes_[-2] ^= 1
        path.write_bytes(bytes_)
    done = job.run(expect=JOB)
    assert "model.fingerprint" in done.err, done


# ---- accounts

def test_limit(reference, tmp_path):
    job = reference.twin(tmp_path)
    done = job.run("--limit", 7)
    assert "7 problems: 7 done" in done.out
    job.check_finished(7)
    expected, found = read_latents(reference), read_latents(job)
    assert sorted(found) == [f"p-{i:05d}" for i in range(7)]
    assert all(found[key]["hs_002"].tobytes() == expected[key]["hs_002"].tobytes() for key in found)


def mixed_problems():
    problems = make_problems(30)
    problems[3]["steps"] = []  # skipped
    problems[11]["statement"] = "a" + "\0" + "b"  # failed
    problems[12]["steps"] = "no array"
    problems[29]["steps"] = []
    return problems


def test_accounts_add_up(tmp_path):
    job = Job(tmp_path, mixed_problems(), problems={"max_failed": 2})
    done = job.run()
    assert "30 problems: 26 done, 2 failed, 2 skipped" in done.out
    job.check_finished(30)
    outcomes = job.problems()
    assert outcomes["p-00003"] == (SKIPPED, "the problem has no steps")
    assert outcomes["p-00011"][0] == FAILED and "NUL" in outcomes["p-00011"][1]
    assert outcomes["p-00012"][0] == FAILED and "steps" in outcomes["p-00012"][1]
    assert len(read_latents(job)) == 26


def test_accounts_survive_stops(tmp_path):
    whole = Job(tmp_path / "whole", mixed_problems(), problems={"max_failed": 2})
    whole.run()
    job = whole.twin(tmp_path / "cut")
    for _ in range(40):
        if job.run("--stop-after", 1, expect=None).code == OK:
            break
    job.check_finished(30, whole.shards())
    assert job.outcomes() == whole.outcomes()


def test_too_many_failures(tmp_path):
    job = Job(tmp_path, mixed_problems(), problems={"max_failed": 1})
    done = job.run(expect=DATA)
    assert "2 of 30 failed" in done.last() and "max_failed allows 1" in done.last(), done
    job.check_finished(30)  # all the same: everything is accounted for
    assert job.run(expect=DATA).last() == done.last()
    job.change(problems={"max_failed": 2})
    job.run()


def test_fewer_tokens_than_problems_a_batch(tmp_path):
    problems = [{"problem_id": "a", "statement": "", "steps": ["x"]}, {"problem_id": "b", "statement": "y", "steps": ["x"]}]
    job = Job(tmp_path, problems, batch={"problems": 64, "window": 64})
    assert "2 problems: 2 done" in job.run().out
    job.check_finished(2)


def test_nothing_to_run(tmp_path):
    problems = make_problems(5)
    for problem in problems:
        problem["steps"] = []
    job = Job(tmp_path, problems)
    assert "0 done, 0 failed, 5 skipped" in job.run(expect=DATA).out
    job.check_finished(5)
    assert job.shards() == {}


def test_no_problems_at_all(tmp_path):
    job = Job(tmp_path, make_problems(2), problems={"query": "SELECT * FROM problems WHERE 0", "allow_empty": True})
    assert "0 problems: 0 done" in job.run().out
    job.check_finished(0)


def test_window_of_nothing_in_the_middle(tmp_path):
    """A whole planning window without a text, and stops around it."""
    problems = make_problems(40)
    for problem in problems[16:32]:
        problem["steps"] = []
    whole = Job(tmp_path / "whole", problems)
    assert "24 done, 0 failed, 16 skipped" in whole.run().out
    job = whole.twin(tmp_path / "cut")
    for _ in range(40):
        if job.run("--stop-after", 1, expect=None).code == OK:
            break
    job.check_finished(40, whole.shards())
    assert job.outcomes() == whole.outcomes()


def test_clock_jumps(reference, twin):
    """The wall clock jumps back and forth by hours while the run is at work: no drift, no other byte."""
    fake = shutil.which("faketime")
    if fake is None:
        pytest.skip("faketime is not installed")
    twin.change(run={"drift_stop": True})
    environment = support.clean_environment(FAKETIME_DONT_FAKE_MONOTONIC="1")
    codes = []
    for hours in ("-20h", "+500d", "-3d", "+1h"):
        command = [fake, "-m", "-f", hours, *twin.command("--stop-after", 4)]
        done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
        codes.append(done.returncode)
    assert codes == [STOPPED, STOPPED, STOPPED, OK], done.stderr.decode()  # 15 batches, 4 by 4
    assert twin.events("drift") == []
    same_as(reference, twin)


# ---- folders that are not a run's

def test_somebody_elses_folder_is_not_written_to(tmp_path):
    """--output . and --output MODEL would write over the user's own job.yaml, or into the checkpoint."""
    model = pathlib.Path(shutil.copytree(support.make_model(), tmp_path / "model"))
    job = Job(tmp_path / "job", make_problems(3), model)
    for folder, name in ((job.folder, "job.yaml"), (model, "config.json")):
        before = {path: path.read_bytes() for path in folder.rglob("*")}
        done = job.run("--output", folder, expect=WRITE)
        assert len(done.err.strip().splitlines()) == 1 and "no ledger" in done.last(), done
        assert {path: path.read_bytes() for path in folder.rglob("*")} == before, name


def test_lost_ledger_keeps_the_shards(reference, twin):
    twin.run("--stop-after", 7, expect=STOPPED)
    before = twin.shards()
    kept = (twin.output / "ledger.sqlite").read_bytes()
    for damage in (lambda ledger: ledger.unlink(), lambda ledger: ledger.write_bytes(b"")):
        damage(twin.output / "ledger.sqlite")
        done = twin.run(expect=DATA)
        assert "was lost" in done.last() and str(twin.output) in done.last(), done
        assert twin.shards() == before != {}
        (twin.output / "ledger.sqlite").write_bytes(kept)
    run_to_end(twin)
    same_as(reference, twin)
