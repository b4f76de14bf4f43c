# SPDX-License-Identifier: MIT
"""strata-import of JSON lines and arrays: the table is that of `strata import`, bit for bit, and comes whole or not at all."""
import bz2
import gzip
import json
import lzma
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from strata_import.__main__ import main
from support import DATA, OK, SOURCE, USAGE, WRITE, clean_environment, make_problems, strata, wait_for, write_lines

ENVIRONMENT = clean_environment(PYTHONPATH=str(SOURCE / "tools" / "python"))

LINES = r"""
{"problem_id": 1, "a": 1.5, "n": [1, 1e22, 1e-7, 0.1, {"x": null, "y": "a\u001f\"\\\/\u007f é\u0000"}], "b": true}
{"problem_id": "big", "least": -9223372036854775808, "most": 9223372036854775807, "e": 5e-324, "f": [1.7976931348623157e308, -0.0, -0, 100000000000000000000.0]}
{"problem_id": "nulls", "c": null, "o": {}, "l": [], "nested": {"a": {"b": [[], {}, [null, true, false]]}, "": 1}}
{"problem_id": "text", "u": "\u0000z", "s": "\ud83d\ude00", "quotes \" in a name": 1, "Naïve": "\t"}
{"problem_id": "real", "z": -0.0, "y": 1E5, "x": 12345678.9, "w": [1e16, 123456789012345680.0, 3.0E-10]}
{"problem_id": "late", "after": [1], "b": false}
"""
BROKEN = {
    '{"problem_id": 9223372036854775808, "k": 1}': "an integer beyond 64 bits",
    '{"problem_id": "\\ud800", "k": 1}': "half of a surrogate pair",
    '{"problem_id": 2, "k": {"\\udfff": 1}}': "half of a surrogate pair",
    '{"problem_id": 2, "\\udfff": 1}': "half of a surrogate pair",
    '{"problem_id": 2, "k": 1, "k": 2}': "twice",
    '{"problem_id": 2, "B": 1, "b": 2}': "differs from the column",
    '{"problem_id": 2, "": 1}': "a member has no name",
    '{"problem_id": 2, "a\\u0000b": 1}': "NUL",
    '{"problem_id": null}': "there is no 'problem_id'",
    '{"problem_id": ""}': "'problem_id' is empty",
    '{"problem_id": 2.5}': "is not a text or a whole number",
    '{"problem_id": true}': "is not a text or a whole number",
    '{"problem_id": 1}': "problem_id 1 is there already",
    '{"problem_id": 2} {}': "more than one value",
    '{"problem_id": 2, "k": "a\tb"}': "control character",
    "[1]": "not a JSON object", "{oops}": "column 2", "nul": "column 1",
}


def rows(database, sql="SELECT * FROM problems"):
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def dump(database, table="problems"):
    """All of a table, bytes and types: its SQL, and each value with its type."""
    connection = sqlite3.connect(database)
    try:
        names = [row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
        columns = ", ".join('typeof("{0}"), hex(CAST("{0}" AS BLOB)), quote("{0}")'.format(name.replace('"', '""')) for name in names)
        return [connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchall(), names,
                connection.execute(f"SELECT {columns} FROM {table} ORDER BY rowid").fetchall()]
    finally:
        connection.close()


def both(folder, text, *options):
    """The table as both programs make it; they agree."""
    (folder / "in.jsonl").write_text(text)
    for name in ("c.db", "p.db"):
        (folder / name).unlink(missing_ok=True)
    done = strata("import", folder / "in.jsonl", folder / "c.db", *options)
    code = main([str(folder / "in.jsonl"), str(folder / "p.db"), *options])
    assert code == done.code, done
    assert (folder / "p.db").exists() == (folder / "c.db").exists() == (code == OK)
    if code == OK:
        assert dump(folder / "p.db") == dump(folder / "c.db")
    return code


def test_the_table_is_that_of_strata_import(tmp_path):
    assert both(tmp_path, LINES) == OK
    assert len(rows(tmp_path / "p.db")) == 6
    assert both(tmp_path, "\ufeff" + LINES.strip().replace("\n", "\r\n\r\n \t\n")) == OK
    assert both(tmp_path, "".join(json.dumps(problem) + "\n" for problem in make_problems(300))) == OK
    assert both(tmp_path, '{"problem_id": 1, "deep": ' + "[" * 1500 + "]" * 1500 + "}") == OK
    assert both(tmp_path, '{"problem_id": 1, "deep": ' + "[" * 3000 + "]" * 3000 + "}") == DATA
    assert both(tmp_path, "") == both(tmp_path, "\n \n") == DATA


ODD = """\
{"problem_id": 1, "a": NaN, "b": [-Infinity, 1e999, {"k": 18446744073709551615}], "c": "x\\ud83d\\u0041\\udc00 \\ud83d\\ude00 NaN"}
{"problem_id": 2, "a": -9223372036854775809, "b": ["\\ude00\\ud83d"], "c": 9223372036854775807}
{"problem_id": 3, "a": 1, "b": [], "c": "fine"}
"""


def test_what_is_mended_is_mended_by_both(tmp_path, capfd):
    assert both(tmp_path, ODD + '{"problem_id": 4, "a": ' + "9" * 5000 + "}\n") == OK
    said = capfd.readouterr().err
    assert said.endswith("in.jsonl: 3 lines were not JSON, mended (the first: line 1): 4 x half of a surrogate pair -> U+FFFD, "
                         "3 x NaN or Infinity -> NULL, 3 x integer beyond 64 bits -> text of its digits\n"), said
    assert rows(tmp_path / "p.db", "SELECT typeof(a), b FROM problems")[:2] == [
        ("null", '[null,null,{"k":"18446744073709551615"}]'), ("text", '["\ufffd\ufffd"]')]


def test_what_is_broken_is_broken_for_both(tmp_path, capfd):
    text = LINES.strip()
    for line, words in BROKEN.items():
        assert both(tmp_path, text + "\n" + line) == DATA, line
        said = capfd.readouterr().err
        assert "in.jsonl:7: " in said and words.lower() in said.lower(), (line, said)
        assert "1 broken row; nothing was imported" in said
    assert both(tmp_path, text + "\n" + "\n".join(BROKEN) + '\n{"problem_id": "end", "k": 1}', "--skip-broken") == OK
    assert rows(tmp_path / "p.db", "SELECT problem_id FROM problems ORDER BY rowid")[-1] == ("end",)
    assert capfd.readouterr().out.endswith(f"{len(BROKEN)} broken rows were left out\n")


def test_every_line_is_told_up_to_twenty(tmp_path, capfd):
    (tmp_path / "in.jsonl").write_text('{"problem_id": 0}\n' + "{}\n" * 30)
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "p.db")]) == DATA
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 21 and lines[19].endswith("in.jsonl:21: there is no 'problem_id'") and "30 broken rows" in lines[20]
    assert os.listdir(tmp_path) == ["in.jsonl"]


def test_bytes_that_are_no_text(tmp_path, capfd):
    (tmp_path / "in.jsonl").write_bytes(b'{"problem_id": 1}\n{"problem_id": "\xff"}\n')
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "p.db")]) == DATA
    assert "in.jsonl:2: byte 17 is not UTF-8" in capfd.readouterr().err


# ---- ids ----

@pytest.mark.parametrize("text", [
    '{"question": "a", "idx": 1}\n{"question": "b", "idx": 2}\n', '{"ID": "x", "name": "n"}\n{"ID": "x", "name": "m"}\n',
    '{"id": 1, "idx": 1}\n{"id": 1, "idx": 2}\n{"idx": 3}\n', '{"id": "x", "uuid": null}\n{"id": "y"}\n', '{"question": "a"}\n',
    '{"id": 1.5, "key": "k"}\n', '{"id": 1}\n{"id": 1}\n', '{"index": 1, "problem_id": ""}\n{"index": 2}\n', "{}\n", "[]\n"])
def test_the_same_usual_id(tmp_path, text):
    both(tmp_path, text)


def test_ids(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lines("in.jsonl", [{"question": q, "n": n} for n, q in enumerate("abc")])
    assert main(["in.jsonl", "p.db"]) == DATA
    assert "number the rows with --id-from row; the first row has question, n" in capfd.readouterr().err
    assert main(["in.jsonl", "p.db", "--id-from", "row"]) == OK
    assert rows("p.db") == [("in-000000", "a", 0), ("in-000001", "b", 1), ("in-000002", "c", 2)]
    assert capfd.readouterr().out == "p.db: 3 rows, 3 columns in table problems\nrows are numbered: the id is 'problem_id'\n"
    assert main(["in.jsonl", "q.db", "--id", "n"]) == OK
    assert main(["in.jsonl", "r.db", "--id", "n", "--id-from", "row"]) == USAGE
    assert main(["in.jsonl", "r.db", "--column", "n=problem_id"]) == OK
    assert rows("r.db") == [(0, "a"), (1, "b"), (2, "c")]
    assert main(["in.jsonl", "r.db", "--column", "n=problem_id", "--id-from", "row", "--table", "more"]) == DATA


# ---- columns and rows ----

def test_columns(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lines("in.jsonl", [{"id": 1, "problem": "a", "x": 1, "y": 2}, {"id": 2, "problem": "b", "z": 3}])
    assert main(["in.jsonl", "p.db", "--column", "problem=statement", "--drop", "x,z"]) == OK
    assert rows("p.db") == [(1, "a", 2), (2, "b", None)]
    assert rows("p.db", "SELECT statement FROM problems") == [("a",), ("b",)]
    assert main(["in.jsonl", "q.db", "--keep", "id", "--keep", "problem"]) == OK
    assert rows("q.db") == [(1, "a"), (2, "b")]
    for options, words in ((["--drop", "w"], "no row has a column 'w'; there are id, problem, x, y, z"),
                           (["--column", "x=y"], "two columns become 'y'")):
        assert main(["in.jsonl", "r.db", *options]) == DATA
        assert words in capfd.readouterr().err
    assert not os.path.exists("r.db")
    assert main(["in.jsonl", "s.db", "--limit", "1"]) == OK
    assert rows("s.db", "SELECT id FROM problems") == [(1,)]


def test_append_and_table(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lines("a.jsonl", [{"idx": 1, "a": "x"}])
    write_lines("b.jsonl", [{"id": "n", "idx": 2, "b": "y"}])
    assert main(["b.jsonl", "p.db", "--append"]) == DATA
    assert main(["a.jsonl", "p.db"]) == OK and main(["a.jsonl", "p.db"]) == DATA
    assert capfd.readouterr().err.endswith("p.db has a table 'problems' already (--append adds to it)\n")
    assert main(["b.jsonl", "p.db", "--append"]) == OK  # by the id of the table there
    assert rows("p.db") == [(1, "x", None, None), (2, None, "n", "y")]
    assert main(["b.jsonl", "p.db", "--append", "--id", "idx"]) == DATA and "idx 2 is there already" in capfd.readouterr().err
    assert main(["a.jsonl", "b.jsonl", "p.db", "--table", 'odd "name']) == OK
    assert rows("p.db", 'SELECT count(*) FROM "odd ""name"') == [(2,)]
    names = [row[0] for row in rows("p.db", "SELECT key FROM prompts_origin ORDER BY key")]
    assert names == ['odd "name:source.0', 'odd "name:source.1', "source.0", "source.1"]
    assert json.loads(rows("p.db", "SELECT value FROM prompts_origin WHERE key = 'source.0'")[0][0])["bytes"] == os.path.getsize("a.jsonl")
    assert main(["a.jsonl", "p.db", "--append", "--table", "none"]) == DATA
    for place in range(4):  # of the options among the files
        words = ["a.jsonl", "b.jsonl", "p.db"]
        words[place:place] = ["--table", f"t{place}", "--id=idx"]
        assert main(words) == OK and rows("p.db", f"SELECT count(*) FROM t{place}") == [(2,)]


# ---- kinds of files ----

def test_arrays_and_compressed_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problems = make_problems(700, longest=60)
    write_lines("in.jsonl", problems)
    text = open("in.jsonl", "rb").read()
    assert main(["in.jsonl", "p.db"]) == OK
    made = {"a.json": json.dumps(problems, ensure_ascii=False).encode(), "pretty": b"\xef\xbb\xbf" + json.dumps(problems, indent=1).encode(),
            "lines.gz": gzip.compress(text[:999]) + gzip.compress(text[999:]), "b.bz2": bz2.compress(text), "x.anything": lzma.compress(text)}
    for name, content in made.items():
        with open(name, "wb") as file:
            file.write(content)
        assert main([name, name + ".db"]) == OK
        assert dump(name + ".db") == dump("p.db"), name


@pytest.mark.parametrize("text, words", [
    ("[1, 2", "the array ends too early"), ('[{"id": 1}, {"id": 2}', "ends too early"), ('[{"id": 1} {"id": 2}]', "neither a comma"),
    ('[{"id": 1},]', "row 2"), ('[{"id": 1}] x', "text after the end"), ('[{"id": 1}, {"id": }]', "row 2"), ("[]", "there are no rows"),
    ('[{"id": 1}, 5]', "not a JSON object"), ('[{"id": 1}, {"id": NaN}]', "not a text or a whole number"), ('[{"id": 1}, {"id": 1}]', "is there already"),
    ('{\n"data": []}', "over several lines")])
def test_broken_arrays(tmp_path, capfd, text, words):
    (tmp_path / "in.json").write_text(text)
    assert main([str(tmp_path / "in.json"), str(tmp_path / "p.db"), "--id", "id"]) == DATA
    assert words in capfd.readouterr().err
    assert os.listdir(tmp_path) == ["in.json"]


@pytest.mark.parametrize("content, words", [
    (b"SQLite format 3\0" + bytes(100), "an SQLite database"), (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    (b"GGUF\3\0\0\0", "a GGUF model"), (b"PK\3\4", "a zip archive"), (b"<!DOCTYPE html>", "a web page"), (bytes(50), "of no kind"),
    (b"just words\nand words", "of no kind"), (gzip.compress(b'{"id": 1}\n' * 99)[:-9], "cannot read"), (b"\x1f\x8bxx", "cannot read"),
    (b"\xfd7zXZ\0junk", "cannot read"), (b"BZh9junkjunk", "cannot read")])
def test_files_without_rows(tmp_path, capfd, content, words):
    (tmp_path / "in").write_bytes(content)
    assert main([str(tmp_path / "in"), str(tmp_path / "p.db")]) == DATA
    assert words in capfd.readouterr().err
    assert os.listdir(tmp_path) == ["in"]


def test_a_folder_of_files(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("set/deeper/.hidden")
    for place, name in enumerate(["set/train-00000-of-00002.jsonl", "set/train-00001-of-00002.jsonl", "set/deeper/test-00000-of-00001.jsonl"]):
        write_lines(name, [{"id": place}])
    for name in ("set/README.md", "set/.train.jsonl", "set/deeper/.hidden/x.jsonl"):
        open(name, "w").write("not rows")
    assert main(["set", "p.db"]) == USAGE
    assert capfd.readouterr().err == "strata-import: set has test, train: choose one with --split\n"
    assert main(["set", "p.db", "--split", "train"]) == OK
    assert rows("p.db") == [(0,), (1,)]
    assert main(["set", "q.db", "--split", "valid"]) == USAGE
    os.mkdir("parts")
    write_lines("parts/b.jsonl", [{"id": 2}])
    write_lines("parts/a.jsonl", [{"id": 1}])
    assert main(["parts", "r.db"]) == OK and rows("r.db") == [(1,), (2,)]
    for place, name in enumerate(["folders/train/chats.jsonl", "folders/test/chats.jsonl"]):
        os.makedirs(os.path.dirname(name))
        write_lines(name, [{"id": place}])
    assert main(["folders", "t.db"]) == USAGE and main(["folders", "t.db", "--split", "test"]) == OK and rows("t.db") == [(1,)]
    os.mkdir("none")
    assert main(["none", "s.db"]) == DATA


# ---- whole or not at all ----

def program(*words, **options):
    return subprocess.Popen([sys.executable, "-m", "strata_import", *map(str, words)], env=ENVIRONMENT, **options)


@pytest.mark.parametrize("there", [False, True])
def test_killed(tmp_path, there):
    """A kill in the middle leaves no database, or the one that was there as it was; the same import again needs no cleaning up."""
    if there:
        write_lines(tmp_path / "first.jsonl", [{"problem_id": "first"}])
        assert main([str(tmp_path / "first.jsonl"), str(tmp_path / "p.db")]) == OK
    words = ["-", tmp_path / "p.db"] + (["--append"] if there else [])
    process = program(*words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    line = b'{"problem_id": "%d", "text": "' + b"x" * 1000 + b'"}\n'
    process.stdin.write(b"".join(line % i for i in range(20000)))
    process.stdin.flush()
    wait_for(lambda: any(path.stat().st_size >= 1 << 20 for path in tmp_path.glob("p.db" if there else "p.db.*.tmp")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    assert (tmp_path / "p.db").exists() == there
    again = program(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert again.communicate(b'{"problem_id": "second"}')[0].decode().endswith(
        "p.db: 1 rows, 1 columns in table problems\n") and again.returncode == 0
    assert rows(tmp_path / "p.db", "SELECT problem_id FROM problems") == ([("first",)] if there else []) + [("second",)]
    assert sorted(os.listdir(tmp_path)) == (["first.jsonl"] if there else []) + ["p.db"]


def test_two_at_once(tmp_path, capfd):
    """The first to be whole takes the name; the other one's rows are nowhere, and it says so."""
    first = program("-", tmp_path / "p.db", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    first.stdin.write(b'{"problem_id": "first"}\n')
    first.stdin.flush()
    wait_for(lambda: list(tmp_path.glob("p.db.*.tmp")))
    write_lines(tmp_path / "in.jsonl", [{"problem_id": "second"}])
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "p.db")]) == OK
    assert b"was created by another program meanwhile; nothing was imported" in first.communicate()[1] and first.returncode == WRITE
    assert rows(tmp_path / "p.db") == [("second",)] and sorted(os.listdir(tmp_path)) == ["in.jsonl", "p.db"]


def test_cannot_write(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lines("in.jsonl", [{"problem_id": i, "text": "x" * 2000} for i in range(2000)])
    assert main(["in.jsonl", "none/p.db"]) == WRITE
    assert capfd.readouterr().err == "strata-import: none/p.db: cannot make the database: No such file or directory\n"
    assert main(["in.jsonl", "in.jsonl"]) == DATA
    full = subprocess.run(["bash", "-c", f"ulimit -f 1000; trap '' XFSZ; exec {sys.executable} -m strata_import in.jsonl p.db"], capture_output=True,
                          env=ENVIRONMENT)
    assert full.returncode == WRITE and b"cannot write" in full.stderr, full
    assert sorted(os.listdir()) == ["in.jsonl"]


def test_a_database_that_is_held(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("strata_import.table.WAIT", 0.1)
    write_lines(tmp_path / "in.jsonl", [{"problem_id": 1}])
    holder = sqlite3.connect(tmp_path / "p.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "p.db")]) == 75
    finally:
        holder.close()
    assert "another program holds the database" in capfd.readouterr().err


def test_usage(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in ([], ["a"], ["a", "b", "--limit", "0"], ["a", "b", "--column", "x"], ["a", "b", "--id-from", "x"], ["a", "b", "--zzz"],
                  ["a", "b", "--date", "today"], ["a", "b", "--template-arg", "x=y"]):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == USAGE and capfd.readouterr().err.endswith("see 'strata-import --help'\n"), words
    write_lines("a", [{"id": 1}])
    for words in (["--messages", "m"], ["--tools", "t"], ["--enable-thinking"], ["--date", "2026-01-01"], ["--span-end", "exclude"]):
        assert main(["a", "b", *words]) == USAGE and "--model DIR or --chat-template FILE" in capfd.readouterr().err
    write_lines("--a", [{"id": 1}])
    assert main(["--table", "t", "--", "--a", "p.db"]) == OK and rows("p.db", "SELECT * FROM t") == [(1,)]
    capfd.readouterr()
    assert main(["nope.jsonl", "b"]) == DATA
    assert capfd.readouterr().err == "strata-import: cannot open nope.jsonl: No such file or directory\n"


def test_nothing_is_said_of_progress_off_a_terminal(tmp_path):
    write_lines(tmp_path / "in.jsonl", [{"problem_id": 1}])
    done = subprocess.run([sys.executable, "-m", "strata_import", "in.jsonl", "p.db"], cwd=tmp_path, capture_output=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"p.db: 1 rows, 1 columns in table problems\n", b"")


def test_libraries_are_asked_for_by_name(tmp_path):
    """Nothing but Python is needed for JSON; what a Parquet file needs is said."""
    code = ("import sys; sys.modules.update(pyarrow=None, datasets=None, transformers=None, numpy=None); "
            "from strata_import.__main__ import main; sys.exit(main(sys.argv[1:]))")
    write_lines(tmp_path / "in.jsonl", [{"problem_id": 1}])
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    (tmp_path / "t.jinja").write_text("x")
    (tmp_path / "z").write_bytes(b"\x28\xb5\x2f\xfd")
    for words, codes, said in ((["in.jsonl", "p.db"], 0, ""), (["t.parquet", "q.db"], 69, "pip install pyarrow"), (["z", "q.db"], 69, "pip install pyarrow"),
                               (["no/name", "q.db"], 69, "pip install datasets"),
                               (["in.jsonl", "q.db", "--chat-template", "t.jinja"], 69, "pip install transformers jinja2")):
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
        assert done.returncode == codes and said in done.stderr, (words, done)
