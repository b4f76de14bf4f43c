# SPDX-License-Identifier: MIT
"""`strata run --retry-failed`: failed problems are retried as a part of the run. Sealed shards stay as they are, new
outcomes take the place of failed ones, and a retry that is killed anywhere goes on to the same bytes.

tests/strata_not_finite is the program with a fault of the hardware: the problems named by STRATA_NOT_FINITE come out as
not finite (tests/commands/not_finite.c).
"""
import collections
import concurrent.futures
import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess

import numpy as np
import pytest

import campaign
import support
from support import (BUILD, DATA, DONE, FAILED, JOB, OK, STOPPED, USAGE, WRITE, Job, clean_environment, make_problems,
                     read_latents, strata)

AT_CALL = BUILD / "tests" / "commands_tool_at_call"
CHANGING = "openat,write,pwrite64,fsync,fdatasync,ftruncate,rename,unlink,mkdir"
UNKNOWN_PROCESSOR = 126
FULL = os.environ.get("STRATA_FULL_SWEEP") == "1"
PROBLEMS = 30
BAD = "p-00007"  # bytes that are no UTF-8: its row is at fault
LOST = ["p-00002", "p-00003", "p-00011", "p-00018", "p-00023", "p-00024", "p-00025"]  # through the fault


class Faulty(Job):
    """A job whose launches may meet the fault."""

    def run_with_fault(self, names, *arguments, expect=DATA):
        usual, self.program = self.program, BUILD / "tests" / "strata_not_finite"
        try:
            return self.run(*arguments, expect=expect, environment=clean_environment(STRATA_NOT_FINITE=",".join(names)))
        finally:
            self.program = usual

    def copy(self, folder):
        """The same job with a copy of its run directory."""
        copy = self.twin(folder)
        copy.__class__ = Faulty
        shutil.copytree(self.output, copy.output)
        return copy

    def earlier(self):
        return self.query("SELECT ordinal, id, state, reason, batch, tokens, steps, checkpoint FROM superseded "
                          "ORDER BY ordinal, checkpoint")

    def told(self):
        return json.loads(strata("status", self.output, "--json").out)


def make_job(folder, **sections):
    job = Faulty(folder, make_problems(PROBLEMS, steps=3), **support.merge({"latents": {"layers": [-2]}}, sections))
    database = sqlite3.connect(job.database)
    database.execute("UPDATE problems SET statement = CAST(x'61c328' AS TEXT) WHERE problem_id = ?", [BAD])
    database.commit()
    database.close()
    return job


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The run without the fault."""
    job = make_job(tmp_path_factory.mktemp("clean"))
    job.run(expect=DATA)
    return job


@pytest.fixture(scope="module")
def failed(clean, tmp_path_factory):
    """A finished run that met the fault; not to be changed, only copied."""
    job = clean.twin(tmp_path_factory.mktemp("failed"))
    job.__class__ = Faulty
    done = job.run_with_fault(LOST)
    assert f"{PROBLEMS - 8} done, 8 failed" in done.out and "--retry-failed may retry: 7 of 8" in done.out, done
    return job


@pytest.fixture(scope="module")
def retried(failed, tmp_path_factory):
    """The same after an undisturbed retry."""
    job = failed.copy(tmp_path_factory.mktemp("retried"))
    done = job.run("--retry-failed", expect=DATA)
    assert "retried: 7; done now: 7, still to come: 0" in done.out, done
    assert f"1 of {PROBLEMS} failed" in done.last(), done
    return job


# ---- what a retry does

def test_transient_failures_are_tried_again(clean, failed, retried, tmp_path):
    retried.check_finished(PROBLEMS)
    before, after = failed.shards(), retried.shards()
    assert len(after) > len(before) and {name: after[name] for name in before} == before
    states = {key: state for key, (state, _) in retried.problems().items()}
    assert states.pop(BAD) == FAILED and set(states.values()) == {DONE}
    assert [row[1] for row in retried.earlier()] == LOST and all("NaN" in row[3] for row in retried.earlier())
    assert read_latents(retried).keys() == read_latents(clean).keys()
    expected = read_latents(clean)
    for key, problem in read_latents(retried).items():
        assert np.isfinite(problem["hs_002"]).all() and problem["hs_002"].tobytes() == expected[key]["hs_002"].tobytes()
        assert problem["rows"] == expected[key]["rows"]
    # Numbers go on, and no batch of the retry is larger than those the run was made for.
    first = len(failed.query("SELECT 1 FROM batch"))
    batches = retried.query("SELECT number, tokens, problems FROM batch ORDER BY number")
    assert [row[0] for row in batches] == list(range(len(batches))) and sum(row[2] for row in batches[first:]) == len(LOST)
    assert max(row[1] for row in batches[first:]) <= max(row[1] for row in batches[:first])


def test_exit_code_counts_what_is_left(failed, tmp_path):
    job = failed.copy(tmp_path)
    job.change(problems={"max_failed": 1})
    assert job.run(expect=DATA).code == DATA
    job.run("--retry-failed", expect=OK)
    assert job.run(expect=OK).code == OK


def test_readers_see_the_order_of_the_query(clean, retried, tmp_path):
    arrays = []
    for job in (clean, retried):
        out = tmp_path / job.folder.name
        done = strata("export", job.output, "--format", "npy", "--to", out)
        assert done.code == OK, done
        arrays.append([np.load(path) for path in sorted(out.rglob("*.npy"))])
        lines = [json.loads(line) for path in out.rglob("*.jsonl") for line in path.read_text().splitlines()]
        assert [line["id"] for line in lines] == [f"p-{i:05d}" for i in range(PROBLEMS) if f"p-{i:05d}" != BAD]
    assert len(arrays[0]) == len(arrays[1]) > 0
    for one, other in zip(*arrays):
        assert one.tobytes() == other.tobytes()
    from strata_reader import Run

    with Run(clean.output) as one, Run(retried.output) as other:
        assert one.ids == other.ids and other.complete and [left["id"] for left in other.left_out] == [BAD]
        assert all(one[i]["latents"][2].tobytes() == other[i]["latents"][2].tobytes() for i in range(len(one)))
    import h5py

    with h5py.File(retried.output / "latents.h5") as view:
        assert sorted(view["problems/ordinal"][:]) == [i for i in range(PROBLEMS) if f"p-{i:05d}" != BAD]
        assert np.isfinite(view["latents/hs_002"][:]).all()


def test_looking_at_failures(failed, retried):
    text = strata("status", failed.output).out
    assert "7 may be retried (strata run --retry-failed), 1 because of their rows" in text, text
    assert failed.told()["retry"] == {"transient": 7, "tried": 0, "succeeded": 0, "waiting": 0}
    assert retried.told()["retry"] == {"transient": 0, "tried": 7, "succeeded": 7, "waiting": 0}
    assert "7 retried: 7 done, 0 still to come" in strata("status", retried.output).out
    assert "strata run --retry-failed does" in strata("show", failed.output, LOST[0]).out
    assert "--retry-failed=all" in strata("show", failed.output, BAD).out
    shown = strata("show", retried.output, LOST[0])
    assert "p-00002: done" in shown.out and "try 1       failed, hidden_states[2] has 3 values" in shown.out, shown
    assert "7 failed problems are retried" in strata("log", retried.output, "--events").out


def test_two_retries_in_a_row(failed, retried, tmp_path):
    """What fails again keeps its new reason and all of its tries; what is done is not touched again."""
    job = failed.copy(tmp_path)
    job.run_with_fault(LOST[:2], "--retry-failed")
    first = job.shards()
    assert job.told()["retry"] == {"transient": 2, "tried": 7, "succeeded": 5, "waiting": 0}
    job.run_with_fault(LOST[:1], "--retry-failed")
    assert "try 2       failed" in strata("show", job.output, LOST[0]).out
    job.run("--retry-failed", expect=DATA)
    job.check_finished(PROBLEMS)
    assert {name: job.shards()[name] for name in first} == first
    assert collections.Counter(row[1] for row in job.earlier()) == {**dict.fromkeys(LOST, 1), LOST[0]: 3, LOST[1]: 2}
    expected = read_latents(retried)
    assert {key: value["hs_002"].tobytes() for key, value in read_latents(job).items()} == \
        {key: value["hs_002"].tobytes() for key, value in expected.items()}


def test_rows_at_fault_only_when_asked(retried, tmp_path):
    job = retried.copy(tmp_path)
    before = job.query("SELECT count(*) FROM checkpoint")
    done = job.run("--retry-failed", expect=DATA)
    assert "no failed problem to retry" in done.out and "--retry-failed=all" in done.out, done
    assert job.query("SELECT count(*) FROM checkpoint") == before and job.shards() == retried.shards()
    done = job.run("--retry-failed=all", expect=DATA)
    assert "retried: 1; done now: 0, still to come: 0" in done.out, done
    job.check_finished(PROBLEMS, retried.shards())
    assert job.problems()[BAD] == (FAILED, "byte 1 of the text is not valid UTF-8")
    assert [row[1] for row in job.earlier()] == sorted([*LOST, BAD])


def test_nothing_failed(tmp_path):
    job = Job(tmp_path, make_problems(4))
    job.run()
    done = job.run("--retry-failed")
    assert "no failed problem to retry\n" in done.out, done


def test_a_run_that_is_not_finished_is_finished_first(failed, retried, tmp_path):
    job = failed.twin(tmp_path)
    job.__class__ = Faulty
    stop = failed.query("SELECT max(batch) FROM problem WHERE id IN (?, ?)", *LOST[:2])[0][0] + 1
    job.run_with_fault(LOST, "--stop-after", stop, expect=STOPPED)
    done = job.run("--retry-failed", expect=DATA)
    assert "still to come: 0" in done.out, done
    job.check_finished(PROBLEMS)
    assert set(row[1] for row in job.earlier()) >= set(LOST[:2])
    assert len(job.query("SELECT 1 FROM launch")) == 3  # stopped, finished, tried again
    assert read_latents(job).keys() == read_latents(retried).keys()


# ---- mended rows

def edit(job, folder, *statements):
    """The job on a changed copy of its database."""
    path = folder / "changed.db"
    shutil.copy(job.database, path)
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()
    job.database = path
    job.change(problems={"database": str(path)})


MEND = f"UPDATE problems SET statement = 'a statement that is mended' WHERE problem_id = '{BAD}'"


@pytest.fixture(scope="module")
def mended(failed, tmp_path_factory):
    """A retry after the row at fault was mended: everything is done."""
    folder = tmp_path_factory.mktemp("mended")
    job = failed.copy(folder)
    edit(job, folder, MEND)
    refused = job.run(expect=JOB)
    assert "problems.sha256" in refused.err and "--retry-failed)" in refused.last(), refused
    assert job.outcomes() == failed.outcomes()
    done = job.run("--retry-failed")
    assert "retried: 8; done now: 8, still to come: 0" in done.out, done
    return job


def test_mended_rows_are_tried_again(mended, failed, tmp_path):
    mended.check_finished(PROBLEMS)
    assert {name: mended.shards()[name] for name in failed.shards()} == failed.shards()
    anew = mended.twin(tmp_path)
    anew.run()
    expected, found = read_latents(anew), read_latents(mended)
    assert found.keys() == expected.keys() and BAD in found
    assert all(found[key]["hs_002"].tobytes() == expected[key]["hs_002"].tobytes() for key in found)
    assert "a statement that is mended" in strata("show", mended.output, BAD).out
    assert "rows of failed problems were corrected" in strata("log", mended.output, "--events").out
    assert "no failed problem to retry" in mended.run("--retry-failed").out  # its rows are the run's now
    mended.run()


def test_a_retry_of_mended_rows_is_interrupted(mended, failed, tmp_path):
    job = failed.copy(tmp_path)
    edit(job, tmp_path, MEND)
    job.run("--retry-failed", "--stop-after", 1, expect=STOPPED)
    before = job.query("SELECT count(*) FROM checkpoint")
    job.change(problems={"database": str(failed.database)})  # the rows as they were: another identity now
    assert "problems.sha256" in job.run("--retry-failed", expect=JOB).err
    assert job.query("SELECT count(*) FROM checkpoint") == before
    job.change(problems={"database": str(job.database)})
    while job.run("--stop-after", 1, expect=None).code == STOPPED:
        pass
    job.check_finished(PROBLEMS, mended.shards())
    assert job.outcomes() == mended.outcomes() and job.earlier() == mended.earlier()


@pytest.mark.parametrize("more", [
    "UPDATE problems SET statement = statement || '.' WHERE problem_id = 'p-00004'",  # done
    f"UPDATE problems SET problem_id = 'p-other' WHERE problem_id = '{BAD}'",
    f"DELETE FROM problems WHERE problem_id = '{BAD}'",
    "DELETE FROM problems WHERE problem_id = 'p-00029'",
    "INSERT INTO problems SELECT 'p-99999', statement, steps, difficulty, topic FROM problems WHERE rowid = 1",
    "ALTER TABLE problems RENAME COLUMN topic TO theme",
    "ALTER TABLE problems ADD COLUMN more",
])
def test_other_rows_may_not_change(failed, tmp_path, more):
    job = failed.copy(tmp_path)
    edit(job, tmp_path, MEND, more)
    done = job.run("--retry-failed", expect=JOB)
    assert "problems.sha256" in done.err, done
    assert job.outcomes() == failed.outcomes() and job.query("SELECT count(*) FROM retry") == [(0,)]
    assert job.shards() == failed.shards()


def test_a_mended_text_longer_than_any_batch(tmp_path):
    """What the run was sized for grows with it."""
    problems = make_problems(8, steps=1, longest=5)
    job = make_job(tmp_path, batch={"problems": 1})
    job.import_problems(problems)
    edit(job, tmp_path, "UPDATE problems SET statement = CAST(x'61c328' AS TEXT) WHERE rowid = 3")
    job.run(expect=DATA)
    longest = job.query("SELECT max(tokens) FROM batch")[0][0]
    database = sqlite3.connect(job.database)
    database.execute("UPDATE problems SET statement = ? WHERE rowid = 3", [" ".join(["sum of numbers"] * 15)])
    database.commit()
    database.close()
    job.run("--retry-failed")
    job.check_finished(8)
    assert job.query("SELECT max(tokens) FROM batch")[0][0] > longest + 20
    assert "p-00002" in read_latents(job)


def test_a_finished_run_of_an_older_program(failed, tmp_path):
    """It kept no hash of the rows that must stay: any launch on the rows as they were adds it."""
    job = failed.copy(tmp_path)
    ledger = sqlite3.connect(job.output / "ledger.sqlite")
    ledger.execute("DELETE FROM note WHERE key = 'problems.kept_sha256'")
    ledger.commit()
    ledger.close()
    edit(job, tmp_path, MEND)
    job.run("--retry-failed", expect=JOB)
    job.change(problems={"database": str(failed.database)})
    job.run(expect=DATA)
    job.change(problems={"database": str(job.database)})
    job.run("--retry-failed")
    job.check_finished(PROBLEMS)


def test_wrong_value(failed):
    done = strata("run", failed.file, "--retry-failed=some")
    assert done.code == USAGE and "all" in done.err, done


def test_a_ledger_of_format_2(failed, retried, tmp_path):
    job = failed.copy(tmp_path)
    ledger = sqlite3.connect(job.output / "ledger.sqlite")
    for what in ("TABLE retry", "TABLE retry_source", "TABLE superseded", "INDEX problem_failed", "TABLE total", "TABLE start"):
        ledger.execute("DROP " + what)
    ledger.execute("ALTER TABLE launch DROP COLUMN worked")
    ledger.execute("ALTER TABLE batch DROP COLUMN device")
    ledger.execute("PRAGMA user_version = 2")
    ledger.commit()
    ledger.close()
    assert job.told()["retry"]["transient"] == 7
    assert strata("verify", job.output).code == OK and "do" in strata("show", job.output, LOST[0]).out
    assert job.query("PRAGMA user_version") == [(2,)]
    job.run("--retry-failed", expect=DATA)
    job.check_finished(PROBLEMS, retried.shards())
    assert job.outcomes() == retried.outcomes()


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
def test_on_a_gpu(tmp_path, monkeypatch):
    """The retry's products have the shape and the algorithms of the run's, and so the bits."""
    monkeypatch.setenv("CUDA_EMULATION_PREFER", "7")  # timings that chance decides must not
    clean = Faulty(tmp_path / "clean", make_problems(10, steps=2, longest=8), latents={"layers": [-2]},
                   model={"device": "cuda:0"}, batch={"tokens": 128})
    clean.program = support.EMULATED
    clean.run()
    job = clean.twin(tmp_path / "job")
    job.__class__ = Faulty
    job.run_with_fault(["p-00001", "p-00002", "p-00005", "p-00007", "p-00008"])
    job.run("--retry-failed", "--stop-after", 1, expect=STOPPED)
    job.run()
    job.check_finished(10)
    expected, found = read_latents(clean), read_latents(job)
    assert found.keys() == expected.keys()
    assert all(found[key]["hs_002"].tobytes() == expected[key]["hs_002"].tobytes() for key in found)
    log = (job.output / "run.log").read_text()
    identities = [line.split("identity ")[1] for line in log.splitlines() if "identity " in line]
    assert len(identities) == 3 and len(set(identities)) == 1


# ---- a retry that is interrupted

def check_resumed(job, retried, *arguments):
    """None, or what is wrong after an interrupted retry and the launches that follow."""
    try:
        job.check_acknowledged(retried.shards())
        again = job.run(*arguments, expect=None)
        if not job.query("SELECT 1 FROM retry"):  # it had not begun
            again = job.run("--retry-failed", expect=None)
        assert again.code == DATA, f"the resume failed: {again}"
        job.check_finished(PROBLEMS, retried.shards())
        assert job.outcomes() == retried.outcomes(), "other outcomes"
        assert job.earlier() == retried.earlier(), "other earlier outcomes"
    except AssertionError as wrong:
        return str(wrong)
    return None


def test_stops(failed, retried, tmp_path):
    """A batch a launch; status and export of the half; and the flag again, which then adds nothing."""
    job = failed.copy(tmp_path)
    job.run("--retry-failed", "--stop-after", 1, expect=STOPPED)
    told = job.told()
    assert not told["finished"] and told["retry"]["tried"] == 7 and told["retry"]["waiting"] == 7, told
    assert strata("verify", job.output).code == OK
    assert strata("export", job.output, "--format", "npy", "--to", tmp_path / "half").code == OK
    done = strata("export", job.output, "--format", "npy", "--to", tmp_path / "whole", "--require-complete")
    assert done.code == DATA, done
    flags = (["--retry-failed"], [], ["--retry-failed=all"])
    for turn in range(10):
        done = job.run(*flags[turn % 3], "--stop-after", 1, expect=None)
        if done.code != STOPPED:
            break
    assert done.code == DATA and "retried: 7; done now: 7, still to come: 0" in done.out, done
    assert len(job.query("SELECT DISTINCT checkpoint FROM retry")) == 1
    assert check_resumed(job, retried) is None


def traced(job, calls, *options, arguments=("--retry-failed",)):
    trace = job.folder / "trace.txt"
    command = [AT_CALL, "--calls", calls, "--trace", trace, *options, *job.command(*arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120, env=clean_environment())
    if done.returncode == UNKNOWN_PROCESSOR:
        pytest.skip("at_call does not know this processor")
    lines = trace.read_text(errors="replace").splitlines() if trace.exists() else []
    return support.Result(done.returncode, done.stdout.decode(), done.stderr.decode()), lines


def sweep(attack, failed, tmp_path, calls, about, options, fault_of):
    """A fault at every call of a retry, or at about so many; two trials at a time."""
    def trial(number):
        job = failed.copy(tmp_path / str(number))
        done, lines = traced(job, calls, *options(number))
        fault = fault_of(job, done, number)
        shutil.rmtree(job.folder)
        return done.code, fault and f"call {number}: {lines[-1:]} {fault}"

    total = len(traced(failed.copy(tmp_path / "count"), calls)[1])
    numbers = range(1, total + 1, 1 if FULL else max(1, total // about))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(trial, numbers))
    counts = collections.Counter(code for code, _ in results)
    wrong = [fault for _, fault in results if fault]
    campaign.record(attack, wrong, of=total, **{f"exit {code}": many for code, many in counts.items()})
    assert wrong == []
    return counts


def test_kills(failed, retried, tmp_path):
    """Whatever moment: carried on by the plain command, or by the same."""
    def fault_of(job, done, number):
        if done.code not in (DATA, 128 + 9):
            return f"neither killed nor finished: {done}"
        return check_resumed(job, retried, *(["--retry-failed"] if number % 2 and done.code != DATA else []))

    counts = sweep("SIGKILL at calls of a retry", failed, tmp_path, CHANGING, 24, lambda number: ("--kill", str(number)), fault_of)
    assert counts[128 + 9] >= 20


def test_a_stop_is_heard_between_the_run_and_its_retry(failed, retried, tmp_path):
    """The launch that finishes the run records its end and goes, another begins: a signal at any call in between stops both."""
    def unfinished(name):
        job = failed.twin(tmp_path / name)
        job.__class__ = Faulty
        last = failed.query("SELECT max(number) FROM batch")[0][0]
        job.run_with_fault(LOST, "--stop-after", last, expect=STOPPED)
        return job

    _, lines = traced(unfinished("count"), CHANGING)
    sealed = [number for number, line in enumerate(lines, 1) if " rename " in line and "part-" in line]
    finished = next(number for number, line in enumerate(lines, 1) if " rename " in line and "latents.h5" in line)
    assert len(sealed) >= 2 and finished < sealed[-1], lines
    # Up to the retry's first rows: it has two batches, and a signal behind the second has nothing to stop.
    shard = lines[sealed[-1] - 1].split()[3]
    between = range(finished, next(number for number, line in enumerate(lines, 1) if shard in line), 1 if FULL else 9)
    assert len(between) > 10, lines
    for number in between:
        job = unfinished(str(number))
        done, _ = traced(job, CHANGING, "--kill", f"{number}:{signal.SIGTERM}")
        assert done.code == STOPPED and "SIGTERM" in done.err, (number, done)
        assert check_resumed(job, retried, "--retry-failed") is None or job.run("--retry-failed", expect=None).code == DATA
        shutil.rmtree(job.folder)
    campaign.record("SIGTERM between a run and its retry", [], calls=len(between))


@pytest.mark.parametrize("calls, number", [("pwrite64,write,ftruncate", errno.ENOSPC), ("fsync,fdatasync", errno.EIO)])
def test_errors(failed, retried, tmp_path, calls, number):
    def fault_of(job, done, at):
        if done.code not in (DATA, WRITE):
            return f"exit code {done.code}: {done.err}"
        return check_resumed(job, retried)

    counts = sweep(f"{errno.errorcode[number]} at calls of a retry", failed, tmp_path, calls, 8, lambda at: ("--fail", f"{at}:{number}"),
                   fault_of)
    assert counts[WRITE] >= 4


def test_the_sweep_finds_a_planted_bug(failed, retried, tmp_path):
    """A rename that never happened is an acknowledged shard that is not there."""
    job = failed.copy(tmp_path)
    name = sorted(set(retried.shards()) - set(failed.shards()))[0]
    done, _ = traced(job, CHANGING, "--lie", f"rename:{name}.tmp")
    assert "missing or changed" in check_resumed(job, retried)
