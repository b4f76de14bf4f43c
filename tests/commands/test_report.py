# SPDX-License-Identifier: MIT
"""strata report: what a page holds of runs in every state, what it makes of odd words and damage, and where it is written."""
import html.parser
import os
import re
import sqlite3
import subprocess

import numpy as np
import pytest

from commands.test_parts import Set
from export.made_run import LAYERS, done, latents, make_run, state
from report.long_run import lengthen
from support import BUILD, DATA, OK, STOPPED, STRATA, USAGE, WRITE, Job, clean_environment, make_problems, strata, wait_for

EMPTY = {"meta", "link", "br"}
ODD = '<img src=x onerror=alert(1)>&"\''


class Page(html.parser.HTMLParser):
    """The text of a page, whose tags have to be closed in order."""

    def __init__(self, path):
        super().__init__()
        self.size, self.open, self.words, self.tags = path.stat().st_size, [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == [], self.open
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def refresh(self):
        return [tag[1]["content"] for tag in self.tags if tag[0] == "meta" and tag[1].get("http-equiv") == "refresh"]


def report(*words, to=None, expect=OK, **options):
    ended = strata("report", *words, *(["--to", to] if to else []), **options)
    assert ended.code == expect, ended
    return Page(to or words[0] / ("report.html" if len(words) == 1 else "comparison.html")) if expect == OK else ended


def change(folder, *statements):
    with sqlite3.connect(folder / "ledger.sqlite") as ledger:
        for statement in statements:
            ledger.execute(*statement) if isinstance(statement, tuple) else ledger.execute(statement)
    ledger.close()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("finished") / "run", problems=60)


def test_finished(finished):
    page = report(finished)
    states = [state(ordinal) for ordinal in range(60)]
    counts = [f"{states.count(name)} {name}, {100 * states.count(name) // 6 / 10} %" for name in ("done", "failed", "skipped")]
    for words in (*counts, "finished", "100.0 %", "Tokens per second", "Drift score", "Norms of the latents",
                  "Principal components of hs_000", "the text is not valid UTF-8 at byte 7", "batch times rise slowly", "model.dtype", "Launch 1"):
        assert words in page.text, words
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "img", "object"})
    assert all(not re.match(r"(https?:)?//", str(value)) for _, attributes in page.tags for value in attributes.values())
    assert page.refresh() == []


def test_norms_are_those_of_the_latents(finished):
    text = report(finished).text
    for layer in LAYERS:
        rows = np.concatenate([latents(ordinal, layer) for ordinal in done(60)]).astype(np.float16).astype(np.float64)
        norms = np.linalg.norm(rows, axis=1)
        said = re.search(rf"hs_{layer:03d} (\S+) (\S+) (\S+) (\S+)", text[text.index("Norms in numbers"):]).groups()
        assert int(said[0]) == len(rows)
        assert [float(one) for one in said[1:]] == pytest.approx([norms.mean(), norms.std(), np.abs(rows).max()], rel=1e-3)


def test_without_batches_and_with_one(tmp_path):
    none = report(make_run(tmp_path / "none", shards=0, end="killed"))
    assert "killed" in none.text and "No batch is sealed yet." in none.text and "Norms" not in none.text
    one = report(make_run(tmp_path / "one", problems=3))
    assert "finished" in one.text and "Tokens per second" in one.text and "Norms" in one.text


def test_killed_half_way(tmp_path):
    page = report(make_run(tmp_path / "run", problems=60, shards=2, end="killed"))
    assert "left no end" in page.text and "Time left" in page.text and "to come" in page.text


def test_running_and_watched(tmp_path):
    runner = subprocess.Popen([BUILD / "tests" / "export_tool_make_run", tmp_path / "run", "problems=60", "shards=2", "end=hold"],
                              stdin=subprocess.PIPE)
    path = tmp_path / "page.html"
    try:
        wait_for(lambda: (tmp_path / "run/ledger.sqlite").exists() and "running" in strata("status", tmp_path / "run").out)
        once = report(tmp_path / "run", to=path)
        assert once.refresh() == [] and "running" in once.text
        watching = subprocess.Popen([STRATA, "report", tmp_path / "run", "--watch", "--to", path], stdout=subprocess.PIPE, text=True)
        assert watching.stdout.readline() == f"{path}\n"
        assert Page(path).refresh() == ["5"]
        first = path.stat().st_ino
    finally:
        runner.stdin.close()
        runner.wait()
    assert watching.wait(60) == OK
    assert Page(path).refresh() == [] and path.stat().st_ino != first  # the last word of a run that has ended, in a file of its own


def test_launches_and_gaps(tmp_path):
    folder = make_run(tmp_path / "run", problems=120)
    launches = lengthen(folder)
    page = report(folder)
    assert page.text.count("gpu-node-") == 2 + 2  # in the table, in the headline and beside "Host"
    gaps = [tag for tag in page.tags if tag[0] == "rect" and tag[1].get("class") == "gap"]
    plots = [tag for tag in page.tags if tag[0] == "div" and tag[1].get("class", "").startswith("plot")]
    assert len(launches) == 2 and len(gaps) == 7  # a strip in every plot along the time
    assert len(plots) == 7 + 4 and "1 d 01 h between launch 1 and launch 2" in page.text
    for title in ("Utilisation", "GPU memory in use", "Power", "Temperature", "SM clock", "On the device", "Upload", "Download"):
        assert title in page.text, title
    assert page.size < 200_000


def test_several_devices(tmp_path):
    folder = make_run(tmp_path / "run", problems=120)
    lengthen(folder)
    alone = report(folder, to=tmp_path / "alone.html")
    change(folder, "UPDATE batch SET device = 'cuda:' || (number % 3)")
    page = report(folder)
    assert "cuda:0 cuda:1 cuda:2" in page.text and "3, each with batches of its own" in page.text
    lines = [len([tag for tag in one.tags if tag[0] == "path" and tag[1].get("class", "").startswith("l t")]) for one in (alone, page)]
    assert lines[1] == lines[0] + 5 * 2  # in each of five plots
    rates = [float(re.search(r"Tokens per second (\S+) mean", one.text)[1].replace(",", "")) for one in (alone, page)]
    assert rates[1] == pytest.approx(3 * rates[0], rel=1e-3)  # they compute at the same time


def test_hundred_thousand_batches(tmp_path):
    folder = make_run(tmp_path / "run", problems=120)
    lengthen(folder)
    with sqlite3.connect(folder / "ledger.sqlite") as ledger:
        columns = [row[1] for row in ledger.execute("PRAGMA table_info(batch)")]
        others = ", ".join(name for name in columns if name != "number")
        count, last = ledger.execute("SELECT count(*), max(number) FROM batch").fetchone()
        ledger.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO batch(number, "
                       f"{others}) SELECT ? + i, {others} FROM n JOIN batch ON number = ?", (100_000 - count, last, last))
        ledger.execute("UPDATE shard SET batches = ? WHERE number = (SELECT max(number) FROM shard)", (200 + 100_000 - count,))
    page = report(folder)
    assert page.size < 400_000


def test_text_of_others_is_text(tmp_path):
    folder = make_run(tmp_path / "run", problems=60)
    change(folder, ("UPDATE launch SET host = ?, reason = ?", (ODD, ODD + "\033[2J")), ("UPDATE event SET kind = ?, text = ?", (ODD, ODD)),
           ("UPDATE problem SET id = ? || ordinal, reason = ? || ordinal WHERE state = 1", (ODD, ODD)),
           ("UPDATE identity SET value = ?", (ODD,)), ("UPDATE identity SET key = key || ?", (ODD,)),
           ("UPDATE progress SET drift = ?", (ODD,)), ("INSERT OR REPLACE INTO note VALUES('device.name', ?)", (ODD,)),
           ("UPDATE problem SET reason = CAST(? AS TEXT) WHERE state = 2", (b"\xff\xfe \xc3",)))
    page = report(folder)
    assert {tag for tag, _ in page.tags}.isdisjoint({"img", "script"})
    assert page.text.count(ODD) >= 9
    assert "\\u001b[2J" in page.text and "\033" not in page.text and r"\xff\xfe \xc3" in page.text


def test_damaged_and_missing_shards(tmp_path):
    folder = make_run(tmp_path / "run", problems=60)
    shards = sorted((folder / "shards").glob("*.h5"))
    shards[1].write_bytes(shards[1].read_bytes()[:300])
    page = report(folder)
    assert "A shard could not be read." in page.text and shards[1].name in page.text
    assert f"of {len(shards) - 1} shards" in page.text
    for shard in shards:
        shard.unlink()
    page = report(folder)
    assert "A shard could not be read." in page.text and "Norms" not in page.text


def test_two_runs(finished, tmp_path):
    other = make_run(tmp_path / "other", problems=60, dtype="bfloat16", scale=2)
    change(other, ("INSERT INTO identity(place, key, value) VALUES(99, 'only.here', 'yes')",),
           "UPDATE identity SET value = 'float32' WHERE key = 'model.dtype'")
    page = report(finished, other, to=tmp_path / "two.html")
    assert "What differs" in page.text and "only.here" in page.text and "(not there)" in page.text
    assert re.search(r"hs_000, mean \S+ \S+ \+100\.0 %", page.text), page.text
    same = report(finished, finished, to=tmp_path / "same.html")
    assert "both have the same identity" in same.text


def test_a_set(tmp_path):
    problems = make_problems(12)
    problems[2]["statement"] = "a\0b"
    made = Set(Job(tmp_path, problems, problems={"max_failed": 1}), 3)
    made.run(0)
    made.run(1, "--stop-after", "1", expect=STOPPED)
    page = report(made.job.output)
    assert "3 parts, 1 finished, 1 stopped, 1 not begun" in page.text and "1 failed" in page.text
    assert "byte 1 of the text is NUL p-00002" in page.text and "Tokens a problem" in page.text  # of all parts together
    assert f"strata run {made.job.file} --part 2/3" in page.text
    ended = report(made.job.output, made.part(0).output, to=tmp_path / "no.html", expect=USAGE)
    assert "two runs are compared" in ended.err


def test_the_browser(finished, tmp_path):
    opener = tmp_path / "bin/xdg-open"
    opener.parent.mkdir()
    opener.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/opened\necho noise\n')
    opener.chmod(0o755)
    path = tmp_path / "a page.html"
    ended = strata("report", finished, "--to", path, "--open", environment=clean_environment(PATH=f"{opener.parent}:{os.environ['PATH']}"))
    assert (ended.code, ended.out, (tmp_path / "opened").read_text()) == (OK, f"{path}\n", f"{path}\n")
    ended = strata("report", finished, "--to", path, "--open", environment=clean_environment(PATH="/nowhere"))
    assert ended.code == OK and "no xdg-open here" in ended.err


def test_what_cannot_be(finished, tmp_path):
    assert "ledger" in report(tmp_path, expect=DATA, to=tmp_path / "x.html").err
    assert not (tmp_path / "x.html").exists()
    assert "cannot" in report(finished, expect=WRITE, to=tmp_path / "no/x.html").err
    report(finished, to=tmp_path, expect=WRITE)
    assert strata("report").code == USAGE and strata("report", finished, finished, finished).code == USAGE


def test_only_pages_are_replaced(finished, tmp_path):
    """A slip of the hand puts no page in the place of a ledger or a database."""
    path = tmp_path / "page.html"
    path.touch()  # as mktemp does
    report(finished, to=path)
    report(finished, to=path)
    for other, text in ((finished / "ledger.sqlite", None), (tmp_path / "mine.html", "<!doctype html>\n<p>my own"), (tmp_path / "a.db", "x")):
        if text is not None:
            other.write_text(text)
        before = other.read_bytes()
        ended = report(finished, to=other, expect=WRITE)
        assert f"{other} is there and is no page of strata report" in ended.err
        assert other.read_bytes() == before and not other.with_name(other.name + ".tmp").exists()


def test_reports_at_once(finished, tmp_path):
    """Of one run to one page, as a watcher and cron write it: each is whole, and none meets another's file."""
    path = tmp_path / "page.html"
    running = [subprocess.Popen([STRATA, "report", finished, "--to", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(24)]
    while any(one.poll() is None for one in running):
        assert not path.exists() or path.read_bytes().endswith(b"</html>\n")
    assert [(one.returncode, one.stderr.read()) for one in running] == [(OK, b"")] * 24
    assert os.listdir(tmp_path) == [path.name]


def test_no_room_for_the_page(finished, tmp_path):
    """What was there stays whole."""
    path = tmp_path / "page.html"
    report(finished, to=path)
    before = path.read_bytes()
    ended = subprocess.run(["bash", "-c", 'ulimit -f 8; exec "$@"', "-", STRATA, "report", finished, "--to", path], capture_output=True, text=True)
    assert ended.returncode == WRITE and "page.html" in ended.stderr, ended
    assert path.read_bytes() == before
