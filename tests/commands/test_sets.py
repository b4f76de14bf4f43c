# SPDX-License-Identifier: MIT
"""status, verify, log and show of a job that runs in parts."""
import fcntl
import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess

import pytest
from support import DATA, OK, STOPPED, STRATA, WRITE, Job, clean_environment, make_problems, strata
from test_parts import Set

COUNT, PARTS = 40, 4


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Finished. The third problem of all has no text, and fails."""
    problems = make_problems(COUNT, seed=3)
    problems[2]["statement"] = "a\0b"
    made = Set(Job(tmp_path_factory.mktemp("base"), problems, problems={"max_failed": 1}), PARTS)
    made.run_all()
    return made


def copy(base, folder):
    """The same set elsewhere, whose commands are those of the base."""
    made = Set(base.job.twin(folder), base.parts)
    shutil.copytree(base.job.output, made.job.output)
    return made


@pytest.fixture
def made(base, tmp_path):
    return copy(base, tmp_path)


@pytest.fixture(scope="module")
def unfinished(base, tmp_path_factory):
    """Two parts are finished, one was stopped, and one has not begun."""
    made = Set(base.job.twin(tmp_path_factory.mktemp("unfinished")), PARTS)
    made.run(0)
    made.run(2)
    made.run(1, "--stop-after", "3", expect=STOPPED)
    return made


def command(made, index):
    return f"strata run {made.job.file} --part {index}/{made.parts}"


def change(part, sql):
    with sqlite3.connect(part.output / "ledger.sqlite") as connection:
        connection.execute(sql)
    connection.close()


def status(folder, *more):
    done = strata("status", folder, *more)
    assert done.code == OK, done
    return done.out


def status_json(*folders):
    return json.loads(status(*folders, "--json"))


def sums(made, sql):
    return sum(made.part(index).query(sql)[0][0] for index in range(made.parts) if made.part(index).has_ledger())


def base_tokens(base):
    return sums(base, "SELECT tokens FROM survey")


# ---- verify ----

def verify(*folders, expect=OK):
    done = strata("verify", *folders)
    assert done.code == expect, done
    return done.out.splitlines()


def test_verify_of_a_whole_set(base):
    lines = verify(base.job.output)
    assert len(lines) == PARTS + 1
    for index, line in enumerate(lines[:-1]):
        assert line.startswith(f"PASS {base.part(index).output}: ")
    rows, shards = sums(base, "SELECT sum(rows) FROM shard"), sums(base, "SELECT count(*) FROM shard")
    assert lines[-1].startswith(f"PASS {base.job.output}: {shards} shards, {COUNT - 1} problems, {rows} rows, ")
    assert lines[-1].endswith(f"; 0 faults; complete: all {COUNT} problems of the survey, each once")


def test_verify_of_an_unfinished_set(unfinished):
    lines = verify(unfinished.job.output)
    notes = [line for line in lines if line.startswith("NOTE ")]
    assert len(notes) == 2
    assert re.match(r"NOTE  part 1/4: stopped, \d+\.\d %, exit code 75: stopped after 3 batches", notes[0])
    assert notes[0].endswith("; run it: " + command(unfinished, 1))
    assert notes[1] == "NOTE  part 3/4: not begun; run it: " + command(unfinished, 3)
    assert lines[-1].endswith("; 0 faults, 2 notes; incomplete: 2 of 4 parts are missing or not finished")


def test_verify_names_the_part_at_fault(made):
    shard = next((made.part(2).output / "shards").glob("part-*.h5"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    (made.part(3).output / "ledger.sqlite").write_bytes(b"no database")
    lines = verify(made.job.output, expect=DATA)
    faults = [line for line in lines if line.startswith("FAULT ")]
    assert len(faults) == 2
    assert faults[0].startswith(f"FAULT part 2/4: shard {shard.name}: its bytes were changed")
    assert faults[1].startswith("FAULT part 3/4: ") and "not a database" in faults[1]
    assert [line.split()[0] for line in lines if line[:4] in ("PASS", "FAIL")] == ["PASS", "PASS", "FAIL", "FAIL", "FAIL"]


def test_verify_of_a_part_in_the_place_of_another(made):
    shutil.rmtree(made.part(2).output)
    shutil.copytree(made.part(1).output, made.part(2).output)
    lines = verify(made.job.output, expect=DATA)
    assert f"FAULT part 2/4: {made.part(2).output} holds part 1/4, not part 2/4" in lines
    assert "incomplete: 1 of 4 parts" in lines[-1]


def test_verify_of_a_part_without_its_ledger(made):
    (made.part(1).output / "ledger.sqlite").unlink()
    lines = verify(made.job.output, expect=DATA)
    assert f"FAULT part 1/4: {made.part(1).output} has shards/part-000000.h5 and no ledger: it was lost" in lines


def test_verify_of_a_missing_part(base, made):
    shutil.rmtree(made.part(1).output)
    assert "NOTE  part 1/4: not begun; run it: " + command(base, 1) in verify(made.job.output)


def test_verify_without_its_survey(made, base, tmp_path):
    survey = made.job.output / "survey.sqlite"
    survey.unlink()
    lines = verify(made.job.output)
    assert f"NOTE  {survey} is missing: whether all problems are there cannot be told" in lines
    assert lines[-1].endswith(f"; all 4 parts are finished: {COUNT} problems")
    survey.write_bytes(b"no survey")
    assert f"FAULT {survey}: file is not a database" in verify(made.job.output, expect=DATA)
    other = base.job.twin(tmp_path / "other")
    assert strata("survey", other.file, "--limit", COUNT - 1, "--quiet").code == OK
    shutil.copy(other.output / "survey.sqlite", survey)
    lines = verify(made.job.output, expect=DATA)
    assert any(line.startswith(f"FAULT {survey} is another survey than that of the parts") for line in lines)


def test_verify_of_named_parts(base, made):
    parts = [made.part(index).output for index in range(PARTS)]
    lines = verify(*reversed(parts))
    assert lines[-1].startswith("PASS 4 run directories: ") and lines[-1].endswith(f"; all 4 parts are finished: {COUNT} problems")
    assert "incomplete: 2 of 4 parts are missing or not finished" in verify(parts[3], parts[0])[-1]
    for folders, why in (((parts[0], base.part(0).output), "are the same part"), ((made.job.output, parts[0]), "no ledger")):
        done = strata("verify", *folders)
        assert done.code == DATA and why in done.last(), done


def test_unrelated_runs_are_refused(base, tmp_path):
    runs = [base.job.twin(tmp_path / name) for name in ("one", "two")]
    for run in runs:
        run.run()
    for name in ("status", "verify", "log"):
        done = strata(name, *(run.output for run in runs))
        assert done.code == DATA and done.last().endswith("is no part of a set: only the parts of one are taken together"), done


# ---- status ----

def test_status_of_a_finished_set(base):
    lines = status(base.job.output).splitlines()
    assert lines[0] == f"{base.job.output}: 4 parts: 4 finished"
    assert lines[1] == f"  problems    {COUNT - 1} done, 1 failed, 0 skipped, 0 remaining of {COUNT}"
    tokens = f"{base_tokens(base):,}"
    assert lines[2] == f"  tokens      {tokens} of {tokens}, 100.0 %"
    assert not [line for line in lines if line.startswith("  part ")]
    told = status_json(base.job.output)
    assert told["tokens"] == {"done": base_tokens(base), "total": base_tokens(base), "estimated": False}
    assert told["finished"] and told["count"] == 4 and told["states"]["finished"] == 4
    assert told["problems"] == {"total": COUNT, "done": COUNT - 1, "failed": 1, "skipped": 0, "remaining": 0, "transient": 0,
                                "truncated": sums(base, "SELECT sum(truncated) FROM problem")}
    assert told["shards"]["rows"] == sums(base, "SELECT sum(rows) FROM shard")
    assert [part["first_row"] for part in told["parts"]][1:] == [part["last_row"] + 1 for part in told["parts"]][:-1]


def test_status_of_an_unfinished_set(base, unfinished):
    lines = status(unfinished.job.output).splitlines()
    assert lines[0] == f"{unfinished.job.output}: 4 parts: 2 finished, 1 stopped, 1 not begun"
    assert f"remaining of {COUNT}" in lines[1]
    assert re.fullmatch(r"  tokens      [0-9,]+ of about [0-9,]+, \d+\.\d %", lines[2])
    assert "  speed       0 tokens/s now, 0 parts running" in lines
    assert re.fullmatch(r"  part 1/4  stopped, \d+\.\d %, exit code 75: stopped after .*; run it: " + re.escape(command(unfinished, 1)),
                        lines[-2])
    assert lines[-1] == "  part 3/4  not begun; run it: " + command(unfinished, 3)
    told = status_json(unfinished.job.output)
    assert not told["finished"] and told["problems"]["total"] == COUNT
    assert [part["state"] for part in told["parts"]] == ["finished", "stopped", "finished", "new"]
    assert told["parts"][1]["exit_code"] == STOPPED and told["parts"][1]["command"] == command(unfinished, 1)
    assert told["parts"][3] == {**told["parts"][3], "host": None, "exit_code": None, "reason": None, "first_row": None}
    assert told["tokens"]["estimated"] and abs(told["tokens"]["total"] / base_tokens(base) - 1) < 0.1
    assert told["tokens"]["done"] == sum(part["tokens"]["done"] for part in told["parts"]) < told["tokens"]["total"]


def test_status_of_named_parts(unfinished):
    lines = status(unfinished.part(0).output, unfinished.part(1).output).splitlines()
    assert lines[0] == "2 run directories: 2 of 4 parts: 1 finished, 1 stopped"
    told = status_json(unfinished.part(0).output, unfinished.part(1).output)
    assert told["folder"] is None and [part["part"] for part in told["parts"]] == [0, 1]
    assert told["problems"]["total"] is None


def test_what_needs_a_person_comes_first(made):
    change(made.part(0), "UPDATE launch SET exit_code = 65, reason = 'more failed'")
    change(made.part(1), "UPDATE launch SET ended = 0")
    change(made.part(1), "DELETE FROM checkpoint WHERE finished")
    (made.part(3).output / "ledger.sqlite").write_bytes(b"no database")
    lines = [line for line in status(made.job.output).splitlines() if line.startswith("  part ")]
    assert lines[0] == "  part 0/4  finished, exit code 65: more failed"
    assert lines[1].startswith("  part 3/4  damaged: ") and "not a database" in lines[1]
    assert lines[2].startswith("  part 1/4  killed, ") and "; run it: strata run " in lines[2]
    assert len(lines) == 3
    told = status_json(made.job.output)
    assert told["states"] == {"finished": 2, "running": 0, "stopped": 0, "killed": 1, "failed": 0, "damaged": 1, "new": 0}


def test_a_part_that_failed(base, tmp_path):
    made = Set(base.job.twin(tmp_path, run={"disk_reserve_gb": 10**6}), 2)
    made.run(1, expect=WRITE)
    line = status(made.job.output).splitlines()[-2]
    assert line.startswith("  part 1/2  failed, ") and ", exit code 73: " in line and line.endswith("run it: " + command(made, 1))


def test_parts_beyond_a_screen_are_counted(tmp_path):
    made = Set(Job(tmp_path, make_problems(3)), 100)
    made.run(0)
    lines = status(made.job.output).splitlines()
    assert lines[0].endswith(": 100 parts: 1 finished, 99 not begun")
    assert len([line for line in lines if line.startswith("  part ")]) == 40
    assert lines[-1] == "  and 59 more: 59 not begun"
    assert len(status_json(made.job.output)["parts"]) == 100
    master, terminal = pty.openpty()
    watch = subprocess.run([STRATA, "status", made.job.output, "--watch"], stdout=terminal, timeout=60, env=clean_environment())
    os.close(terminal)
    with open(master, "rb", buffering=0) as screen:
        text = screen.read(1 << 16)
    assert watch.returncode == OK and text.count(b"\r\n  part ") == 14 and text.endswith(b"  and 85 more: 85 not begun\r\n")


def hold(part):
    """As a part that runs: its lock is held, and its last launch has no end."""
    change(part, "UPDATE launch SET ended = 0, host = 'node-7'")
    change(part, "UPDATE progress SET tokens_per_second = 50")
    lock = open(part.output / "lock", "a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def test_parts_that_run(made):
    change(made.part(1), "DELETE FROM checkpoint WHERE finished")
    with hold(made.part(1)):
        lines = status(made.job.output).splitlines()
        assert lines[0].endswith(": 4 parts: 3 finished, 1 running")
        assert "  speed       50.0 tokens/s now, 1 part running" in lines
        assert lines[-1].startswith("  part 1/4  running on node-7, 50.0 tokens/s, about ")
        told = status_json(made.job.output)
        assert told["parts"][1]["host"] == "node-7" and told["tokens_per_second"] == 50
        assert told["seconds_remaining"]["slowest"] == told["parts"][1]["seconds_remaining"]


def test_a_part_that_waits_for_the_survey(unfinished):
    folder = unfinished.part(3).output
    folder.mkdir()
    try:
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert status(unfinished.job.output).splitlines()[-1] == "  part 3/4  running"
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_watch_ends_with_the_last_part(made, options):
    change(made.part(1), "DELETE FROM checkpoint WHERE finished")
    with hold(made.part(1)):
        watch = subprocess.Popen([STRATA, "status", made.job.output, "--watch", *options], stdout=subprocess.PIPE, text=True,
                                 env=clean_environment())
        first = watch.stdout.readline()
    rest = watch.communicate(timeout=60)[0].splitlines()
    assert watch.returncode == OK
    if options:
        assert json.loads(first)["states"]["running"] == 1 and json.loads(rest[-1])["states"]["killed"] == 1
    else:
        assert re.match(r"\S+Z 3 finished, 1 running; \d+\.\d %, 1 problems failed, 50\.0 tokens/s, ", first)
        assert " 3 finished, 1 killed; " in rest[-1]


def test_nothing_of_a_file_reaches_a_terminal(unfinished, tmp_path):
    made = copy(unfinished, tmp_path)
    file = made.job.output / "set.json"
    file.write_text(json.dumps({"format": 1, "parts": 4, "command": "strata \x1b[31m --part"}))
    change(made.part(1), "UPDATE launch SET reason = 'a\x1b[2Jb'")
    for name in ("status", "verify"):
        done = strata(name, made.job.output)
        assert done.code == OK and "\x1b" not in done.out and "\\u001b[2Jb" in done.out and "\\u001b[31m" in done.out, done
    assert status_json(made.job.output)["parts"][1]["reason"] == "a\x1b[2Jb"


# ---- log and show ----

def test_log_of_a_set(unfinished):
    out = strata("log", unfinished.job.output).out.splitlines()
    batches = [(index, number) for index in (0, 2) for (number,) in unfinished.part(index).query("SELECT number FROM batch")]
    assert out[0].split()[:2] == ["part", "batch"]
    stopped = [(1, number) for (number,) in unfinished.part(1).query("SELECT number FROM batch")]
    assert [tuple(line.split()[:2]) for line in out[1:-1]] == [(f"{index}/4", str(number)) for index, number in sorted(batches + stopped)]
    assert out[-1].startswith(f"{len(batches) + len(stopped)} batches, ")


def test_last_batches_as_csv(base):
    out = strata("log", base.job.output, "--csv", "--last", "1").out.splitlines()
    assert out[0].startswith("part,batch,launch,problems,")
    last = [base.part(index).query("SELECT max(number) FROM batch")[0][0] for index in range(PARTS)]
    assert [line.split(",")[:2] for line in out[1:]] == [[f"{index}/4", str(number)] for index, number in enumerate(last)]


def test_events_of_a_set(unfinished):
    out = strata("log", unfinished.job.output, "--events").out.splitlines()
    launches = [line for line in out if " launch 1: " in line]
    assert [line.split()[:2] for line in launches] == [["part", "0/4"], ["part", "1/4"], ["part", "2/4"]]
    assert "exit code 75" in launches[1]


def test_show_finds_the_part(base):
    for id in ("p-00000", f"p-{COUNT - 1:05d}"):
        done = strata("show", base.job.output, id, "--rows", "1")
        index = 0 if id == "p-00000" else 3
        assert done.code == OK and f"  part        {index}/4\n" in done.out and "row 0: step 0" in done.out, done
        alone = strata("show", base.part(index).output, id, "--rows", "1")
        assert alone.out == done.out.replace(f"  part        {index}/4\n", "")
    failed = strata("show", base.job.output, "p-00002")
    assert failed.code == OK and failed.out.startswith("p-00002: failed, ") and "  part        0/4\n" in failed.out
    missing = strata("show", base.job.output, "p-99999")
    assert missing.code == DATA and missing.last().startswith(f"strata show: {base.job.output} has no record of a problem 'p-99999'")
