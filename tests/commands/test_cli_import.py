# SPDX-License-Identifier: MIT
"""strata import: what it prints, word for word, what it leaves, and that nothing stays half made."""
import gzip
import json
import math
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

STRATA = os.path.join(os.environ["STRATA_BUILD"], "strata")
REAL = Path(os.environ["STRATA_SOURCE"]).parent / "shared" / "data" / "problems.jsonl.gz"


def strata(*words, cwd, stdin=b""):
    done = subprocess.run([STRATA, *words], cwd=cwd, input=stdin, capture_output=True, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def rows(path, query="SELECT * FROM problems"):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


def test_import(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"problem_id": "a", "n": 1}\n{"problem_id": "b", "steps": ["x", "y"]}\n')
    assert strata("import", "in.jsonl", "p.db", cwd=tmp_path) == (0, "p.db: 2 rows, 3 columns in table problems\n", "")
    assert rows(tmp_path / "p.db") == [("a", 1, None), ("b", None, '["x","y"]')]
    assert sorted(os.listdir(tmp_path)) == ["in.jsonl", "p.db"]
    assert strata("import", "in.jsonl", "p.db", cwd=tmp_path) == (
        65, "", "strata import: p.db has a table 'problems' already (--append adds to it)\n")
    assert strata("import", "--table=more", "--id", "problem_id", "in.jsonl", "p.db", cwd=tmp_path) == (
        0, "p.db: 2 rows, 3 columns in table more\n", "")
    assert strata("import", "-", "p.db", "--append", cwd=tmp_path, stdin=b'{"problem_id": "c"}') == (
        0, "p.db: 1 rows, 3 columns in table problems\n", "")
    assert len(rows(tmp_path / "p.db")) == 3


def test_gzip(tmp_path):
    text = "".join('{"problem_id": "p%d", "text": "%s"}\n' % (i, "word " * i) for i in range(300)).encode()
    (tmp_path / "named.anything").write_bytes(gzip.compress(text))
    assert strata("import", "named.anything", "p.db", cwd=tmp_path) == (
        0, "p.db: 300 rows, 2 columns in table problems\n", "")
    assert strata("import", "-", "q.db", cwd=tmp_path, stdin=gzip.compress(text)) == (
        0, "q.db: 300 rows, 2 columns in table problems\n", "")
    (tmp_path / "twice.gz").write_bytes(gzip.compress(gzip.compress(text)))
    assert strata("import", "twice.gz", "r.db", cwd=tmp_path) == (
        65, "", "strata import: twice.gz is compressed with gzip: decompress it first: gzip -dk FILE\n")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(text)[:-20])
    code, out, err = strata("import", "cut.gz", "r.db", cwd=tmp_path)
    assert (code, out) == (65, "")
    assert err.startswith("strata import: cannot read cut.gz: after line ")
    assert err.endswith(": the compressed data ends too early\n")
    (tmp_path / "broken.gz").write_bytes(gzip.compress(text)[:100] + b"x" * 400)
    code, out, err = strata("import", "broken.gz", "r.db", cwd=tmp_path)
    assert (code, out) == (65, "")
    assert err.startswith("strata import: cannot read broken.gz: after line ")
    assert not [name for name in os.listdir(tmp_path) if name.startswith("r.db")]


def test_members_of_gzip(tmp_path):
    """A file may be joined from several; what is behind a member and is neither another nor zeros may be rows that are lost."""
    first, second = (gzip.compress(b"".join(b'{"problem_id": %d}\n' % i for i in ids)) for ids in (range(5), range(5, 10)))
    good = "p.db: 10 rows, 1 columns in table problems\n"
    after = ": bytes after the end of the compressed data\n"
    cases = [(first + second, good), (first + second + b"\0" * 70000, good)]
    cases += [(first + bytes([second[0] ^ 1 << bit]) + second[1:], after) for bit in range(8)]
    cases += [(first + b"\0" * size + second, after) for size in (1, 70000)] + [(first + b"\n", after)]
    cases += [(first + second[:1], ": the compressed data ends too early\n"),
              (first + b"\x1f\x8a" + second[2:], ": incorrect header check\n"),
              (first + second[:-8] + b"x" + second[-7:], ": incorrect data check\n")]
    for content, said in cases:
        (tmp_path / "in.gz").write_bytes(content)
        for name, stdin in (("in.gz", b""), ("-", content)):
            wanted = (0, said, "") if said == good else (
                65, "", f"strata import: cannot read {'standard input' if name == '-' else name}{said}")
            code, out, err = strata("import", name, "p.db", cwd=tmp_path, stdin=stdin)
            assert (code, out, err.replace(": after line 0", "")) == wanted  # a block is read whole before its lines are taken
            (tmp_path / "p.db").unlink(missing_ok=True)


def test_broken_lines(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"problem_id": 1}\n{oops}\n\n[]\n{"problem_id": 1}\n')
    assert strata("import", "in.jsonl", "p.db", cwd=tmp_path) == (
        65, "",
        "in.jsonl:2: column 5: string or '}' expected near 'oops'\n"
        "in.jsonl:4: not a JSON object\n"
        "in.jsonl:5: problem_id 1 is there already\n"
        "strata import: in.jsonl: 3 broken lines; nothing was imported (--skip-broken leaves such lines out)\n")
    assert os.listdir(tmp_path) == ["in.jsonl"]


def test_skip_broken(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"problem_id": 1}\n{"problem_id": 2, "x": nan}\n{"problem_id": 1}\n{"problem_id": 3}\n')
    assert strata("import", "in.jsonl", "p.db", "--skip-broken", cwd=tmp_path) == (
        0, "p.db: 2 rows, 1 columns in table problems\n2 broken lines were left out\n",
        "in.jsonl:2: column 26: invalid token near 'nan'\nin.jsonl:3: problem_id 1 is there already\n")
    assert rows(tmp_path / "p.db", "SELECT problem_id FROM problems") == [(1,), (3,)]


def mended(value, inside=False):
    """What the import makes of a value that Python's json.dumps writes."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not -1 << 63 <= value < 1 << 63:
        return str(value)
    if inside and isinstance(value, (list, dict)):
        return {key: mended(one, True) for key, one in value.items()} if isinstance(value, dict) else [mended(one, True) for one in value]
    return value


def test_what_python_writes(tmp_path):
    """Lines of json.dumps that are not JSON are mended by the documented rules, and counted."""
    rng = random.Random(7)

    def text():
        return "".join(rng.choice(["\ud83d", "\ude00", "\ud83d\ude00", "a", "\\ud83d", '"', "NaN", "\n", "1e999", "\u00e9", "-Infinity"])
                       for _ in range(rng.randrange(6)))

    def scalar():
        return rng.choice([text, lambda: math.nan, lambda: -math.inf, lambda: 1 << 63, lambda: -(1 << 63) - 1, lambda: -(1 << 63),
                           lambda: (1 << 64) - 1, lambda: 10 ** 400, lambda: rng.randrange(-99, 99), lambda: 0.5, lambda: None])()

    lines = [{"problem_id": i, "a": scalar(), "b": [scalar(), {"c": scalar()}], "d": scalar()} for i in range(400)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, err = strata("import", "in.jsonl", "p.db", cwd=tmp_path)
    assert (code, out) == (0, "p.db: 400 rows, 4 columns in table problems\n"), err
    assert re.fullmatch(r"in\.jsonl: \d+ lines were not JSON, mended \(the first: line \d+\): \d+ x half of a surrogate pair -> U\+FFFD, "
                        r"\d+ x NaN or Infinity -> NULL, \d+ x integer beyond 64 bits -> text of its digits\n", err), err
    for line, (number, a, b, d) in zip(lines, rows(tmp_path / "p.db", "SELECT problem_id, a, b, d FROM problems ORDER BY rowid")):
        assert (number, a, json.loads(b), d) == (line["problem_id"], mended(line["a"]), mended(line["b"], True), mended(line["d"]))
        assert type(a) is type(mended(line["a"]))


def test_what_another_program_reads(tmp_path):
    """Tables and folders go to strata-import with the options given; without it the message says what there is to do."""
    files = {"in.csv": b"id,a\n1,2\n", "in.parquet": b"PAR1" + bytes(20), "array.json": b'[{"id": 1}]', "in.jsonl.zst": b"\x28\xb5\x2f\xfd" + bytes(9)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "set").mkdir()
    for name in [*files, "set"]:
        code, out, err = strata("import", name, "p.db", cwd=tmp_path)
        assert (code, out) == (65, "") and "`pip install 'strata-latents[import]'`, which reads it as it is\n" in err, err
    program = tmp_path / "bin" / "strata-import"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    program.chmod(0o755)
    path = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    for name in [*files, "set"]:
        words = [STRATA, "import", name, "p.db", "--id=a b", "--skip-broken", "--table", "t", "--append"]
        done = subprocess.run(words, cwd=tmp_path, env=path, capture_output=True, timeout=60)
        assert done.stdout.decode() == f"{name}|p.db|--table|t|--id|a b|--append|--skip-broken|", done
    assert strata("import", "openai/gsm8k", "p.db", cwd=tmp_path)[2].endswith(
        "(a data set of the hub? strata-import openai/gsm8k PROBLEMS.db downloads it)\n")
    assert not (tmp_path / "p.db").exists()


def test_usual_id(tmp_path):
    text = b'{"question": "a", "idx": 1}\n{"question": "b", "idx": 2}\n'
    said = "2 rows, 2 columns in table problems\nthere is no 'problem_id': the id is 'idx' (problems.id of the job)\n"
    (tmp_path / "in.jsonl").write_bytes(text)
    assert strata("import", "in.jsonl", "p.db", cwd=tmp_path) == (0, "p.db: " + said, "")
    assert strata("import", "-", "q.db", cwd=tmp_path, stdin=text) == (0, "q.db: " + said, "")
    assert strata("import", "--append", "-", "q.db", cwd=tmp_path, stdin=b'{"id": "x", "idx": 3}\n')[:2] == (
        0, "q.db: 1 rows, 3 columns in table problems\nthere is no 'problem_id': the id is 'idx' (problems.id of the job)\n")
    assert strata("import", "/dev/stdin", "t.db", cwd=tmp_path, stdin=text) == (0, "t.db: " + said, "")  # a pipe is read once
    (tmp_path / "odd.jsonl").write_bytes(b'{"idx": nan}\n' + text)
    assert strata("import", "--skip-broken", "odd.jsonl", "s.db", cwd=tmp_path)[1] == "s.db: " + said + "1 broken line was left out\n"
    assert strata("import", "-", "r.db", cwd=tmp_path, stdin=b'{"question": "a"}\n') == (
        65, "", "strata import: standard input: there is no 'problem_id' nor another usual name of an id: name the member that is in every "
                "line and unique with --id; the first line has question\n")


def test_wrong_usage(tmp_path):
    see = "see 'strata help import'\n"
    cases = [
        (["import"], "strata import: FILE.jsonl[.gz] is missing\n" + see),
        (["import", "a"], "strata import: PROBLEMS.db is missing\n" + see),
        (["import", "a", "b", "c"], "strata import: unexpected argument 'c' (one file at a time: --append adds another)\n" + see),
        (["import", "a", "b", "--tabel", "c"], "strata import: unknown option '--tabel' (did you mean '--table'?)\n" + see),
        (["import", "a", "b", "--zzz=3"], "strata import: unknown option '--zzz'\n" + see),
        (["import", "a", "b", "--table"], "strata import: --table wants a value (TABLE)\n" + see),
        (["import", "a", "b", "--table="], "strata import: --table is empty\n" + see),
        (["import", "a", "b", "--table", "x", "--table", "y"], "strata import: --table is given twice\n" + see),
        (["import", "a", "b", "--append=yes"], "strata import: --append takes no value\n" + see),
        (["import", "a", ""], "strata import: PROBLEMS.db is empty\n" + see),
    ]
    for words, message in cases:
        assert strata(*words, cwd=tmp_path) == (64, "", message)
    assert os.listdir(tmp_path) == []
    assert strata("import", "--", "--zzz", "p.db", cwd=tmp_path) == (
        65, "", "strata import: cannot open --zzz: No such file or directory\n")


def test_full_output_of_a_complete_import(tmp_path):
    """The result is the database: a summary that nobody can read does not make it a failure, nor success of one."""
    (tmp_path / "in.jsonl").write_text('{"problem_id": 1}\n')
    for code, said in ((0, "strata import: the summary could not be written: No space left on device\n"),
                       (65, "strata import: p.db has a table 'problems' already (--append adds to it)\n")):
        with open("/dev/full", "w") as full:
            done = subprocess.run([STRATA, "import", "in.jsonl", "p.db"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
        assert (done.returncode, done.stderr.decode()) == (code, said)


def test_cannot_write(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"problem_id": 1}\n')
    code, out, err = strata("import", "in.jsonl", "none/p.db", cwd=tmp_path)
    assert (code, out) == (73, "")
    assert err == "strata import: none/p.db.tmp: cannot open the database: unable to open database file: No such file or directory (there is no folder none)\n"


def test_not_permitted():
    """What another user may not open or make is told as that, not as a file that is not there."""
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = shutil.copy(STRATA, folder)

        def said(*words):
            done = subprocess.run([program, *words], cwd=folder, capture_output=True, timeout=60, env={**os.environ, "TMPDIR": name}, **user)
            return done.returncode, done.stderr.decode()

        (folder / "in.jsonl").write_text('{"problem_id": 1}\n')
        for kept in ("kept", "there"):
            (folder / kept).mkdir()
            assert strata("import", "in.jsonl", f"{kept}/p.db", cwd=folder)[0] == 0
        os.chmod(folder / "kept" / "p.db", 0o666 if user else 0o644)
        os.chmod(folder / "there" / "p.db", 0)
        (folder / "none").mkdir()
        for path in ("none", "kept", "."):
            os.chmod(folder / path, 0o555)
        if said("--version")[0] != 0:
            pytest.skip("another user cannot run this build")
        opened = "cannot open the database: unable to open database file: Permission denied"
        assert said("import", "in.jsonl", "none/x.db") == (73, f"strata import: none/x.db.tmp: {opened}\n")
        code, err = said("import", "in.jsonl", "kept/p.db", "--table", "more")
        assert code == 73 and err.startswith("strata import: kept/p.db: ") and err.endswith(": Permission denied\n")
        code, err = said("import", "in.jsonl", "there/p.db", "--append")
        assert code in (65, 73) and err.startswith("strata import: ") and err.endswith(": Permission denied\n")
        os.chmod(folder, 0o755)


@pytest.mark.parametrize("there", [False, True])
def test_killed(tmp_path, there):
    """A kill in the middle leaves no database, or the one that was there as it was."""
    if there:
        assert strata("import", "-", "p.db", cwd=tmp_path, stdin=b'{"problem_id": "first"}')[0] == 0
    words = [STRATA, "import", "-", "p.db"] + (["--append"] if there else [])
    process = subprocess.Popen(words, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    line = b'{"problem_id": "%d", "text": "' + b"x" * 1000 + b'"}\n'
    process.stdin.write(b"".join(line % i for i in range(20000)))
    process.stdin.flush()
    deadline = time.monotonic() + 30
    grown = tmp_path / ("p.db" if there else "p.db.tmp")
    while (not grown.exists() or grown.stat().st_size < 1 << 20) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert grown.stat().st_size >= 1 << 20, "the import never wrote"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    assert (tmp_path / "p.db").exists() == there
    # The same import again needs no cleaning up.
    assert strata(*words[1:], cwd=tmp_path, stdin=b'{"problem_id": "second"}')[0] == 0
    ids = [row[0] for row in rows(tmp_path / "p.db", "SELECT problem_id FROM problems")]
    assert ids == (["first", "second"] if there else ["second"])
    assert sorted(os.listdir(tmp_path)) == ["p.db"]


def test_real_problems(tmp_path):
    if not REAL.exists():
        pytest.skip("the real problem set is not here")
    assert strata("import", str(REAL), "p.db", cwd=tmp_path) == (
        0, "p.db: 21456 rows, 9 columns in table problems\n", "")
    assert rows(tmp_path / "p.db", "SELECT count(DISTINCT problem_id), sum(json_array_length(steps)) > 21456 FROM problems") == [
        (21456, 1)]
