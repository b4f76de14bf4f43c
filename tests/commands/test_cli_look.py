# SPDX-License-Identifier: MIT
"""What status, log, show and verify print, word for word, on run directories made without a model."""

import json
import re
import shutil
import sqlite3
import subprocess
import time

import numpy as np
import pytest

from export.made_run import BUILD, LAYERS, latents, make_run, strata


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_run(folder / "whole")
    make_run(folder / "killed", shards=2, end="killed")
    make_run(folder / "stopped", shards=2)
    return folder


def still(text):
    """Times, the host, the process, ages and the free disk space are this machine's."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r"process \d+ on [^,\n]+", "process N on HOST", text)
    text = re.sub(r"checkpoint  \S+ (s|min \d+ s) ago", "checkpoint  AGE ago", text)
    text = re.sub(r"time        \S+ (s|min \d+ s) elapsed", "time        AGE elapsed", text)
    return re.sub(r"disk        \S+ \S+ free", "disk        SPACE free", text)


def test_status_of_a_finished_run(runs):
    assert still(strata("status", "whole", cwd=runs).stdout) == """\
whole: not running: launch 1 ended TIME with exit code 0
  problems    29 done, 5 failed, 3 skipped, 0 remaining of 37
  stage       finished; 8 of 8 batches
  speed       0 tokens/s now, 97.0 overall
  time        AGE elapsed, finished
  checkpoint  AGE ago; 4 shards, 71.3 KiB
  disk        SPACE free, about 0 B still to be written
  drift       steady, score +0.025
  memory      3.0 GiB
  truncated   4 problems
"""


def test_status_of_a_killed_and_of_a_stopped_run(runs):
    text = still(strata("status", "killed", cwd=runs).stdout)
    assert text.startswith("killed: not running (killed): launch 1 of TIME, process N on HOST, left no end\n"
                           "  problems    15 done, 3 failed, 2 skipped, 17 remaining of 37\n"
                           "  stage       running; 4 of 8 batches\n"
                           "  speed       0 tokens/s now, 52.5 overall\n")
    # 178 tokens are left at 52.5 a second; 36 rows took 36,510 bytes, and 30 are left.
    assert ", about 3.4 s left\n" in text and "2 shards, 35.7 KiB\n" in text and "about 29.7 KiB still to be written\n" in text
    text = still(strata("status", "stopped", cwd=runs).stdout)
    assert text.startswith("stopped: not running: launch 1 ended TIME with exit code 75: SIGTERM\n")


def test_status_while_a_run_holds_the_lock(tmp_path):
    words = [BUILD / "tests" / "export_tool_make_run", tmp_path / "run", "shards=1", "end=hold"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "ready\n"
        text = still(strata("status", "run", cwd=tmp_path).stdout)
        assert text.startswith("run: running since TIME, launch 1, process N on HOST, 2 threads\n")
        assert "  speed       50.0 tokens/s now, 24.0 overall\n" in text
        assert json.loads(strata("status", "run", "--json", cwd=tmp_path).stdout)["state"] == "running"
        watch = subprocess.Popen([BUILD / "strata", "status", "run", "--watch"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        first = watch.stdout.readline()
        assert re.fullmatch(r"TIME running running 24\.7 %, 1 failed, 50\.0 tokens/s, 5\.8 s left, drift steady\n", still(first))
        holder.stdin.close()
        holder.wait(timeout=60)
        # The end of the run ends the watching, with a last line.
        rest, _ = watch.communicate(timeout=60)
        assert watch.returncode == 0 and " killed running " in rest.splitlines()[-1]


def test_status_json(runs):
    told = json.loads(strata("status", "stopped", "--json", cwd=runs).stdout)
    assert told.pop("time") >= told.pop("last_checkpoint") > 0
    launch = told.pop("launch")
    assert launch.pop("started") <= launch.pop("ended") and launch.pop("process") > 0 and launch.pop("host")
    assert launch == {"number": 1, "threads": 2, "exit_code": 75, "reason": "SIGTERM"}
    assert told.pop("disk")["free_bytes"] > 0 and told["seconds"].pop("elapsed") >= 0
    assert told["seconds"].pop("remaining") == pytest.approx(178 / 52.5)
    assert told == {
        "status_version": 1, "folder": "stopped", "state": "ended", "finished": False, "stage": "running",
        "problems": {"total": 37, "done": 15, "failed": 3, "skipped": 2, "remaining": 17, "truncated": 2},
        "batches": {"done": 4, "total": 8}, "tokens": {"done": 210, "total": 388},
        "tokens_per_second": {"now": 0, "overall": 52.5}, "seconds": {}, "overflowed": 0,
        "shards": {"count": 2, "bytes": 36510, "rows": 36}, "drift": {"state": "steady", "score": 0.025},
        "memory_bytes": 3 << 30, "updated": 1800000000, "device": None, "residency": None, "cpu_paths": None,
        "refused": None,
        "retry": {"transient": 0, "tried": 0, "succeeded": 0, "waiting": 0}, "fill": None, "prediction": None, "weights": None,
        "adapter": None, "devices": None, "elsewhere": None}


def test_every_member_of_the_json_is_documented(runs):
    told = json.loads(strata("status", "whole", "--json", cwd=runs).stdout)
    text = strata("help", "status").stdout
    inner = [name for value in told.values() if isinstance(value, dict) for name in value]
    assert [name for name in [*told, *inner] if not re.search(rf"\b{name}\b", text)] == []


def test_log(runs):
    assert strata("log", "stopped", cwd=runs).stdout == """\
   batch problems    tokens prepare s   wait s compute s  write s  tokens/s     memory    drift
       0        5        60     0.250    0.010     2.000    0.125      29.9    3.0 GiB   +0.000
       1        3        36     0.250    0.010     2.100    0.125      17.1    3.0 GiB   +0.050
       2        5        85     0.250    0.010     2.200    0.125      38.5    3.0 GiB   +0.100
       3        2        29     0.250    0.010     2.000    0.125      14.4    3.0 GiB   +0.000
4 batches, 15 problems done, 210 tokens, 8.3 s of computing, 25.2 tokens/s, waiting 0.5 %
"""
    assert strata("log", "stopped", "--csv", "--last", "1", cwd=runs).stdout == """\
batch,launch,problems,rows,tokens,prepare_seconds,wait_seconds,compute_seconds,write_seconds,predicted_seconds,\
tokens_per_second,memory_bytes,drift_score,overflowed
3,1,2,5,29,0.250000,0.010000,2.000000,0.125000,2.000000,14.428,3221225472,0.000000,0
"""
    assert still(strata("log", "stopped", "--events", cwd=runs).stdout) == """\
launch 1: TIME to TIME, process N on HOST, 2 threads, exit code 75: SIGTERM
TIME launch 1 warn    batch times rise slowly
"""


def vectors(ordinal, row):
    lines = []
    for layer in LAYERS:
        numbers = latents(ordinal, layer)[row].astype(float)
        lines.append(f"  hs_{layer:03d}  norm {np.linalg.norm(numbers):.6g}  mean {numbers.mean():+.6g}  "
                     f"[{numbers[0]:+.5g} {numbers[1]:+.5g} ...]\n")
    return "".join(lines)


def test_show(runs):
    assert strata("show", "whole", "\u00fcmlaut \U0001f989-6", "--values", "2", cwd=runs).stdout == """\
\u00fcmlaut \U0001f989-6: done
  query row   6
  shard       0, problem 3 in it, batch 0
  tokens      12, truncated
  steps       3; 2 rows
  metadata    {"domain": "math", "split": "test", "difficulty": 0, "note": "a \\"b\\" \\u00fc", "score": 0.1}
  text        not available: cannot open whole/job.yaml: No such file or directory
row 0: step 0, tokens 2 to 7, bytes 10 to 29
""" + vectors(6, 0) + """\
row 1: step 1, tokens 7 to 12, bytes 30 to 49
""" + vectors(6, 1)
    assert strata("show", "whole", "tab\tnew\nline-3", cwd=runs).stdout == """\
tab\\tnew\\nline-3: failed, the text is not valid UTF-8 at byte 7
  query row   3
  try again   only strata run --retry-failed=all does: its row is at fault
  text        not available: cannot open whole/job.yaml: No such file or directory
"""
    assert "no record of a problem 'plain-36'" in strata("show", "stopped", "plain-36", code=65, cwd=runs).stderr
    assert strata("show", "whole", "quote\"back\\slash-25", "--rows", "1", cwd=runs).stdout.endswith("... 1 more rows (--rows)\n")


def test_show_with_the_text(runs, tmp_path):
    """The text comes from the database of the run's job, and only while it says what it said then."""
    shutil.copytree(runs / "whole", tmp_path / "run")
    tokenizer = {"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None,
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                 "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                 "model": {"type": "BPE", "vocab": {chr(33 + i): i for i in range(94)} | {"\u0120": 94, "\u010a": 95},
                           "merges": []}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    for ordinal, steps in ((0, ["short"]), (0, ["nineteen characters"])):
        rows = [{"problem_id": f"plain-{ordinal}", "statement": "Question?", "steps": steps}]
        (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "problems.db").unlink(missing_ok=True)
        strata("import", "problems.jsonl", "problems.db", cwd=tmp_path)
        (tmp_path / "run" / "job.yaml").write_text(
            "problems: {database: ../problems.db, id: problem_id, text: \"{statement}\\n{steps}\","
            " steps: {column: steps, separator: \"\\n\"}}\n"
            "model: {path: .., device: cpu}\nrun: {output: run}\n")
        shown = strata("show", "run", "plain-0", cwd=tmp_path).stdout
        if steps == ["short"]:
            assert "  text        not available: the database has changed since the run\n" in shown
    assert '  text        29 bytes: "Question?\\nnineteen characters"\n' in shown
    assert 'row 0: step 0, tokens 2 to 7, bytes 10 to 29\n  "nineteen characters"\n' in shown


def test_verify(runs, tmp_path):
    assert strata("verify", "whole", cwd=runs).stdout == "PASS whole: 4 shards, 29 problems, 66 rows, 71.3 KiB; 0 faults\n"
    shutil.copytree(runs / "whole", tmp_path / "run")
    (tmp_path / "run" / "shards" / "part-000002.h5").unlink()
    with open(tmp_path / "run" / "shards" / "part-000001.h5", "r+b") as shard:
        shard.seek(9000)
        byte = shard.read(1)[0]
        shard.seek(9000)
        shard.write(bytes([byte ^ 1]))
    result = strata("verify", "run", code=65, cwd=tmp_path)
    faults = [line for line in result.stdout.splitlines() if line.startswith("FAULT ")]
    assert any("part-000001.h5" in line for line in faults) and any("part-000002.h5" in line for line in faults)
    assert re.fullmatch(rf"FAIL run: .*; {len(faults)} faults", result.stdout.splitlines()[-1])
    assert "does not agree with its ledger" in result.stderr


@pytest.mark.parametrize("command", [("status",), ("log",), ("verify",), ("show", "x"), ("export", "--format", "npy", "--to", "o")])
def test_no_run_there(tmp_path, command):
    (tmp_path / "empty").mkdir()
    (tmp_path / "p.db").write_text("a file")
    for folder in ("empty", "nowhere", "p.db"):
        result = strata(command[0], folder, *command[1:], code=65, cwd=tmp_path)
        assert result.stderr.startswith(f"strata {command[0]}: there is no ledger in {folder}: ") and result.stdout == ""
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "p.db"]


def test_reading_changes_nothing(runs):
    def content():
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (runs / "whole").rglob("*") if path.is_file()}

    before = content()
    time.sleep(0.01)
    for words in (("status",), ("log",), ("verify",), ("show", "plain-0")):
        strata(words[0], "whole", *words[1:], cwd=runs)
    assert content() == before
    assert sqlite3.connect(runs / "whole" / "ledger.sqlite").execute("PRAGMA integrity_check").fetchone() == ("ok",)
