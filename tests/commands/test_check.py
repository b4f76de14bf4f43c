# SPDX-License-Identifier: MIT
"""strata check foretells strata run: the same exit code, and what a run that has begun will do."""
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

import pytest

import support
from support import DATA, JOB, OK, STOPPED, WRITE, Job, make_problems, strata


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that stopped after 4 of its batches: one shard of 3 is sealed."""
    job = Job(tmp_path_factory.mktemp("begun"), make_problems(20))
    job.run("--stop-after", 4, expect=STOPPED)
    return job


@pytest.fixture
def twin(begun, tmp_path):
    shutil.copytree(begun.output, tmp_path / "out")
    return begun.twin(tmp_path)


def check(job, *arguments, expect=OK):
    """condition -> ("PASS" or "FAIL" or "----", detail); one line each, and nothing is written."""
    before = sorted((path, path.stat().st_mtime_ns) for path in job.folder.rglob("*"))
    done = strata("check", job.file, *arguments)
    assert done.code == expect, done
    assert sorted((path, path.stat().st_mtime_ns) for path in job.folder.rglob("*")) == before
    lines = done.out.splitlines()
    assert all(line[:6] in ("PASS  ", "FAIL  ", "----  ") for line in lines), done
    return {line[6:17].strip(): (line[:4], line[18:]) for line in lines}


def gigabytes(text, word):
    return float(text.split(word)[0].split()[-2])


def test_a_new_run(tmp_path):
    job = Job(tmp_path, make_problems(5))
    table = check(job)
    assert len(table) == 12 and {verdict for verdict, _ in table.values()} == {"PASS"}
    assert table["identity"] == ("PASS", "a new run") and not job.output.exists()


def test_a_run_that_has_begun(twin):
    table = check(twin)
    assert table["identity"] == ("PASS", "that of the run, resumed after 3 sealed batches")
    while twin.run("--stop-after", 5, expect=None).code != OK:
        assert "resumed after" in check(twin)["identity"][1]
    assert check(twin)["identity"] == ("PASS", "that of the run, which is finished")


def test_another_identity(twin):
    twin.change(latents={"dtype": "float16", "pooling": "mean"})
    verdict, detail = check(twin, expect=JOB)["identity"]
    assert verdict == "FAIL" and detail.endswith(
        ": latents.pooling: stored 'step_mean', now 'mean'; latents.dtype: stored 'float32', now 'float16'")
    twin.run(expect=JOB)


def test_another_limit_or_problem_set(begun, tmp_path):
    assert "problems.limit" in check(begun, "--limit", 10, expect=JOB)["identity"][1]
    shutil.copytree(begun.output, tmp_path / "out")
    other = Job(tmp_path, make_problems(20, seed=2))
    assert "problems.sha256" in check(other, expect=JOB)["identity"][1]
    other.run(expect=JOB)


def test_another_identity_comes_before_failures(twin):
    """strata run refuses before it counts what fails."""
    twin.change(batch={"problems": 4}, problems={"max_text_bytes": 10})
    table = check(twin, expect=JOB)
    assert table["identity"][0] == table["failures"][0] == "FAIL"
    twin.run(expect=JOB)


def test_a_ledger_that_is_none(twin):
    (twin.output / "ledger.sqlite").write_bytes(b"no ledger " * 500)
    table = check(twin, expect=DATA)
    assert table["output"][0] == "FAIL" and table["identity"][0] == "----" and table["texts"][0] == "PASS"
    twin.run(expect=DATA)


def test_a_lost_ledger(twin):
    (twin.output / "ledger.sqlite").unlink()
    assert "part-000000" in check(twin, expect=DATA)["output"][1]
    twin.run(expect=DATA)


def test_a_folder_of_somebody_else(begun, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    assert "thesis.tex" in check(begun, "--output", tmp_path, expect=WRITE)["output"][1]
    begun.run("--output", tmp_path, expect=WRITE)


def test_nothing_to_compute(tmp_path):
    job = Job(tmp_path, [{**problem, "steps": []} for problem in make_problems(4)])
    words = "there is nothing to compute: of 4 problems 0 fail and 4 are skipped (problems.allow_empty: true allows it)"
    assert check(job, expect=DATA)["failures"] == ("FAIL", words)
    assert words in strata("plan", job.file).err
    done = job.run(expect=DATA)
    assert f"strata: {words}, so this run will end with exit code 65" in done.err
    assert "no problem was done: of 4, 0 failed and 4 were skipped" in done.last()
    assert "stage       finished" in strata("status", job.output).out
    job.change(problems={"allow_empty": True})  # no part of the identity
    verdict, detail = check(job)["texts"]
    assert verdict == "PASS" and detail.startswith("warning: nothing to compute: 0 texts") and "4 skipped" in detail
    assert strata("plan", job.file).code == OK
    job.run()


def test_every_problem_fails(tmp_path):
    """That many may fail; but then none is done."""
    job = Job(tmp_path, [{**problem, "steps": "no list"} for problem in make_problems(4)], problems={"max_failed": 100})
    assert "of 4 problems 4 fail" in check(job, expect=DATA)["failures"][1]
    assert "no problem was done: of 4, 4 failed" in job.run(expect=DATA).last()
    job.change(problems={"allow_empty": True})
    check(job)
    job.run()


def test_a_query_without_rows(tmp_path):
    job = Job(tmp_path, make_problems(3), problems={"query": "SELECT * FROM problems WHERE problem_id = 'trian'"})
    words = "the query returns no rows: SELECT * FROM problems WHERE problem_id = 'trian' (problems has 3 rows)"
    verdict, detail = check(job, expect=DATA)["problems"]
    assert verdict == "FAIL" and detail.endswith(words)
    for command in ("run", "plan"):
        done = strata(command, job.file)
        assert done.code == DATA and done.last().endswith(words), done
    job.change(problems={"allow_empty": True})
    check(job)
    assert "0 problems: 0 done" in job.run().out


@pytest.mark.parametrize("column, words", [
    ("strftime('%f', 'now')", "strftime(), which is the present time"),
    ("CASE problem_id WHEN 'p-00002' THEN date() END", "date(), which is the present time"),
    ("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP, which is the present time"), ("random()", "random(), whose result differs each time")])
def test_a_query_of_the_moment(tmp_path, column, words):
    job = Job(tmp_path, make_problems(3), problems={"query": f"SELECT *, {column} AS moment FROM problems"})
    assert words in check(job, expect=DATA)["problems"][1]
    for command in ("run", "plan"):
        done = strata(command, job.file)
        assert done.code == DATA and words in done.last(), done


def test_a_database_that_is_held(tmp_path):
    """Another program's lock is waited for, with a word."""
    job = Job(tmp_path, make_problems(6))
    for command in (["check", job.file], job.command()[1:], ["import", tmp_path / "problems.jsonl", job.database, "--table", "t"]):
        holder = sqlite3.connect(job.database, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        process = subprocess.Popen([support.STRATA, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=support.clean_environment())
        assert "another program has locked the database; waiting up to 60 s" in process.stderr.readline()
        holder.execute("ROLLBACK")
        holder.close()
        _, err = process.communicate(timeout=120)
        assert process.returncode == OK, err


def test_a_ledger_that_is_held(twin):
    """Nothing is wrong with it: look again later."""
    holder = sqlite3.connect(twin.output / "ledger.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    done = strata("status", twin.output)
    assert done.code == STOPPED and "database is locked" in done.last(), done
    holder.execute("ROLLBACK")
    holder.close()
    assert strata("status", twin.output).code == OK


def test_a_query_without_end(tmp_path):
    """^C ends a check, SIGTERM a run, whatever the query is about."""
    endless = "WITH RECURSIVE c(n) AS (VALUES(0) UNION ALL SELECT n + 1 FROM c) SELECT *, (SELECT count(*) FROM c) AS n FROM problems"
    job = Job(tmp_path, make_problems(3), problems={"query": endless})
    for command, number, code in ((["check", job.file], signal.SIGINT, -signal.SIGINT), (job.command()[1:], signal.SIGTERM, STOPPED)):
        process = subprocess.Popen([support.STRATA, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=support.clean_environment())
        if code == STOPPED:
            while not (job.output / "ledger.sqlite").exists():
                time.sleep(0.01)
        else:
            time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
        assert process.returncode == code, err


@pytest.fixture
def open_folder():
    """A folder that other users may look into, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="strata-test-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        yield folder


def test_a_wal_database_where_nothing_may_be_written(open_folder):
    """SQLite needs files beside it: no fault of the database's, and named with its cure."""
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    job = Job(open_folder / "job", make_problems(3))
    job.folder.chmod(0o777)  # for the output
    theirs = open_folder / "theirs"
    theirs.mkdir()
    database = shutil.copy(job.database, theirs / "problems.db")
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    job.change(problems={"database": str(database)})
    theirs.chmod(0o555)
    try:
        if subprocess.run([support.STRATA, "--version"], capture_output=True, **user).returncode != OK:
            pytest.skip("another user cannot run this build")
        done = subprocess.run([support.STRATA, "check", job.file], capture_output=True, text=True, timeout=120,
                              env=support.clean_environment(), **user)
    finally:
        theirs.chmod(0o755)
    assert done.returncode == DATA, done
    assert "it is in WAL mode" in done.stdout and "journal_mode=DELETE" in done.stdout and "cut off" not in done.stdout, done


def test_a_database_that_may_not_be_read(open_folder):
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    job = Job(open_folder / "job", make_problems(3))
    job.folder.chmod(0o777)  # for the output
    job.database.chmod(0)
    if subprocess.run([support.STRATA, "--version"], capture_output=True, **user).returncode != OK:
        pytest.skip("another user cannot run this build")
    done = subprocess.run([support.STRATA, "check", job.file], capture_output=True, text=True, timeout=120,
                          env=support.clean_environment(), **user)
    assert done.returncode == DATA, done
    assert "unable to open database file: Permission denied" in done.stdout, done


@pytest.mark.parametrize("allowed, code", [(3, OK), (2, DATA)])
def test_failures(tmp_path, allowed, code):
    problems = make_problems(6)
    for problem in problems[:3]:
        problem["statement"] = "a" + "\0" + "b"
    job = Job(tmp_path, problems, problems={"max_failed": allowed})
    verdict = "PASS" if code == OK else "FAIL"
    expected = verdict, f"3 of 6 problems fail; problems.max_failed allows {allowed}"
    assert check(job, expect=code)["failures"] == expected
    job.run(expect=code)
    assert check(job, expect=code)["failures"] == expected  # of the finished run


def test_disk_counts_what_is_sealed(tmp_path):
    """A row of 512 numbers for each token: figures that show in the third place of a gigabyte."""
    job = Job(tmp_path, make_problems(60, steps=6), support.make_model("wide", hidden=512, layers=2),
              latents={"layers": "all", "pooling": "tokens"})
    planned = gigabytes(check(job)["disk space"][1], " still to write")
    assert planned > 0.01
    job.run("--stop-after", 12, expect=STOPPED)
    sealed = job.query("SELECT sum(bytes) FROM shard")[0][0] * 1e-9
    detail = check(job)["disk space"][1]
    assert sealed > 0.003 and abs(gigabytes(detail.split(" of ")[0] + " left", " left") - (planned - sealed)) < 0.0011


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no proc file system")
@pytest.mark.parametrize("output", ["/proc/x", "/proc/x/y", "/sys/x"])
def test_kernel_file_systems(begun, output):
    table = check(begun, "--output", output, expect=WRITE)
    assert table["output"][0] == "FAIL" and "no run directory can be created" in table["output"][1]
    assert table["texts"][0] == "PASS" and table["disk space"][0] == "----"
    begun.run("--output", output, expect=WRITE)


def test_a_file_in_the_way(tmp_path):
    job = Job(tmp_path, make_problems(4))
    (tmp_path / "file").write_text("x")
    assert "is not a folder" in check(job, "--output", tmp_path / "file" / "run", expect=WRITE)["output"][1]
    job.run("--output", tmp_path / "file" / "run", expect=WRITE)
