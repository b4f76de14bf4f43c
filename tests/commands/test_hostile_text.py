# SPDX-License-Identifier: MIT
"""No control character of ids, names, reasons, paths or stored texts reaches a terminal or the run's log."""
import json
import re
import shutil
import sqlite3
import unicodedata

import pytest

from export.made_run import make_run
from support import DATA, JOB, OK, USAGE, Job, make_model, make_problems, strata

EVIL = "a\x1b[2J\x1b]0;owned\x07b\rc\x7fd\u009b31me\u202ef\u2066g\x08h"
SEEN = "\\u001b[2J\\u001b]0;owned\\u0007b\\rc\\u007fd\\u009b31me\\u202ef\\u2066g\\u0008h"


def clean(done):
    """The output holds no character that a terminal obeys but its line feeds."""
    for text in (done.out, done.err):
        for character in text:
            assert character == "\n" or unicodedata.category(character) != "Cc", (hex(ord(character)), done)
            assert character not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029", done
    return done


def shown(done, code, times=1):
    clean(done)
    assert done.code == code, done
    assert (done.out + done.err).count(SEEN) >= times, done
    return done


def database(path, ids, **columns):
    with sqlite3.connect(path) as db:
        more = "".join(f', "{name}"' for name in columns)
        db.execute(f"CREATE TABLE problems(problem_id, statement, steps{more})")
        for name in ids:
            db.execute(f"INSERT INTO problems VALUES(?, 'one two three', '[\"four five\"]'{', ?' * len(columns)})",
                       (name, *columns.values()))
    return path


def test_import(tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps({"problem_id": EVIL}) + "\n" for _ in range(2)))
    shown(strata("import", lines, tmp_path / "p.db"), DATA)
    strange = tmp_path / f"x{EVIL}.jsonl"
    strange.write_text("{]\n")
    shown(strata("import", strange, tmp_path / "p.db"), DATA, 2)
    strange.write_text('{"problem_id": 1}\n')
    shown(strata("import", strange, tmp_path / f"{EVIL}.db", "--table", EVIL), OK, 2)


@pytest.mark.parametrize("command", ["check", "run", "plan"])
def test_ids_and_columns(tmp_path, command):
    job = Job(tmp_path / "job")
    database(job.database, [EVIL, EVIL])
    shown(strata(command, job.file), DATA)
    job.database.unlink()
    database(job.database, ["a"], **{EVIL: "x"})
    job.change(problems={"text": "{statement}\n{steps}{nothing}"})
    done = clean(strata(command, job.file))
    assert done.code != OK and SEEN in done.out + done.err, done


@pytest.mark.parametrize("command", ["check", "run", "plan"])
def test_files_of_the_model(tmp_path, command):
    job = Job(tmp_path / "job", make_problems(2), shutil.copytree(make_model(), tmp_path / "model"))
    kept = (tmp_path / "model" / "config.json").read_text()
    config = json.loads(kept)
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "model_type": EVIL}))
    shown(strata(command, job.file), DATA)
    (tmp_path / "model" / "config.json").write_text(kept)
    tokenizer = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    tokenizer["model"]["merges"][0] = [EVIL, EVIL]
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(tokenizer))
    shown(strata(command, job.file), DATA)


def test_words_of_the_user(tmp_path):
    for code, words in ((USAGE, [EVIL]), (USAGE, ["help", EVIL]), (DATA, ["status", EVIL]), (JOB, ["run", EVIL]), (DATA, ["log", EVIL]),
                        (DATA, ["verify", EVIL]), (DATA, ["show", EVIL, "x"]),
                        (DATA, ["export", EVIL, "--format", "npy", "--to", tmp_path / "x"]), (USAGE, ["run", "x", EVIL]), (DATA, ["status", EVIL, "x"]),
                        (DATA, ["import", EVIL, "x"])):
        done = clean(strata(*words))
        assert done.code == code and SEEN in done.err, done


def write(job, **sections):
    """YAML takes control characters as escapes only."""
    job.change(**sections)
    job.file.write_text(json.dumps(job.keys).replace("\x7f", "\\u007f"))


def test_reasons_and_the_identity(tmp_path):
    job = Job(tmp_path / "job")
    database(job.database, [EVIL, "plain"])
    with sqlite3.connect(job.database) as db:
        db.execute("UPDATE problems SET steps = ? WHERE problem_id <> 'plain'", (f'["{EVIL}",',))
    write(job, problems={"max_failed": 5, "text": "{statement} " + EVIL + "\n{steps}"})
    clean(job.run())
    shown(strata("show", job.output, EVIL), OK)
    clean(strata("status", job.output))
    write(job, problems={"text": "{statement} " + EVIL + "\nFAKE LINE {steps}"})
    done = shown(job.run(expect=JOB), JOB, 2)
    assert done.err.count("\n") == 3 and "problems.text: stored" in done.err, done  # its own lines stay lines
    for words in (["status", job.output], ["log", job.output, "--events"], ["check", job.file]):
        clean(strata(*words))
    log = (job.output / "run.log").read_text()
    assert SEEN in log and not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066]", log)


def test_what_a_ledger_holds(tmp_path):
    run = make_run(tmp_path / "run", shards=2, tokens=1)
    with sqlite3.connect(run / "ledger.sqlite") as db:
        db.execute("UPDATE launch SET host = ?1, reason = ?1", (EVIL,))
        db.execute("UPDATE progress SET stage = 'a' || char(27) || '[2J', drift = char(155) || 'x'")
        db.execute("INSERT INTO event(at, epoch, kind, text) VALUES(1, 1, char(27) || 'k', ?)", (EVIL,))
        db.execute("UPDATE note SET value = ? WHERE key = 'model.path'", (EVIL,))
        db.execute("UPDATE problem SET reason = ? WHERE state > 0", (EVIL,))
        db.execute("UPDATE identity SET value = ?", (EVIL,))
    shown(strata("status", run), OK)
    told = clean(strata("status", run, "--json"))
    assert json.loads(told.out)["launch"]["host"] == EVIL  # escaped as JSON escapes: the same text
    shown(strata("log", run, "--events"), OK, 3)
    shown(strata("show", run, "tab\tnew\nline-3"), OK)
    clean(strata("verify", run))
    with sqlite3.connect(run / "ledger.sqlite") as db:
        db.execute("UPDATE shard SET name = ? WHERE number = 1", (EVIL,))
    shown(strata("verify", run), DATA)
    clean(strata("export", run, "--format", "npy", "--to", tmp_path / "out"))


def test_events_in_json_stay_json(tmp_path):
    run = make_run(tmp_path / "run", shards=1)
    event = json.dumps({"cause": EVIL}, ensure_ascii=False)
    with sqlite3.connect(run / "ledger.sqlite") as db:
        db.execute("INSERT INTO event(at, epoch, kind, text) VALUES(1, 1, 'drift', ?)", (event,))
    done = clean(strata("log", run, "--events"))
    line = next(line for line in done.out.splitlines() if " drift " in line)
    assert json.loads(line[line.index("{"):]) == {"cause": EVIL}


def test_names_in_shards(tmp_path):
    job = Job(tmp_path / "job")
    database(job.database, [EVIL, "plain"], split=EVIL)
    job.run()
    shown(strata("show", job.output, EVIL), OK)
    shown(strata("export", job.output, "--format", "npy", "--to", tmp_path / "out", "--split", "source"), DATA)
    shown(strata("export", job.output, "--format", "npy", "--to", tmp_path / f"out{EVIL}"), OK)
    stranger = job.output / "shards" / f"x{EVIL}"
    stranger.write_text("")
    shown(strata("verify", job.output), OK)
