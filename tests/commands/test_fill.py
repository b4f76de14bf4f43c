# SPDX-License-Identifier: MIT
"""How full batches are: what plan, check, status and log say of it, the remedy that they name, and runs that began with
other limits than the job's defaults."""
import json
import random
import re
import sqlite3
import time

import pytest

import support
from support import JOB, OK, STOPPED, Job, make_problems, strata

LIMITS = {"problems": 3, "tokens": 384, "window": 16}
PROBLEMS = 1400  # of the run of several windows
OPEN = {"problems": None, "window": None}  # neither key is in the job file


def said(job, *words, program=None):
    done = strata("plan", job.file, *words, program=program or support.STRATA)
    assert done.code == OK, done
    return {line.split()[0]: line.split(None, 1)[1] for line in done.out.splitlines() if line.strip()}


def share(line):
    return float(re.search(r"([0-9.]+) %", line)[1])


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """90 texts of some 20 to 230 tokens."""
    return Job(tmp_path_factory.mktemp("texts"), make_problems(90, steps=4), problems={"max_tokens": 256}, batch={"tokens": 1024, **OPEN})


# ---- what is said

def test_a_processor_has_no_fill(texts, tmp_path):
    job = texts.twin(tmp_path, batch={"problems": 1, "window": 1})
    assert not {"fill", "warning"} & said(job).keys()
    assert "full" not in strata("check", job.file).out
    job.run("--stop-after", 2, expect=STOPPED)
    status = strata("status", job.output, "--json")
    assert json.loads(status.out)["fill"] is None
    assert "fill " not in strata("status", job.output).out
    assert "full" not in strata("log", job.output).out and "% full" not in (job.output / "run.log").read_text()


@pytest.mark.parametrize("device", ["cuda:0", "auto"])
def test_plan_of_open_limits(texts, tmp_path, device):
    """Nothing is wasted but in the last batch."""
    planned = said(texts.twin(tmp_path, model={"device": device}))
    tokens, batches = int(planned["tokens"].split()[0]), int(planned["batches"].split(",")[0])
    assert batches == -(-tokens // 1024)
    fill = f"{100 * tokens / (batches * 1024):.1f} %"
    low = int(re.search(r"(\d+) of \d+ below", planned["fill"])[1])
    assert low <= 1 and planned["fill"] == (f"{fill} on a GPU, which computes every batch at one shape; "
                                            f"{low} of {batches} below 90 %")
    assert "warning" not in planned


@pytest.mark.parametrize("limits, keys", [
    ({"problems": 1}, ["batch.problems"]), ({"problems": 2, "tokens": 2048}, ["batch.problems"]),
    ({"window": 4, "tokens": 2048}, ["batch.window"]), ({"problems": 2, "window": 4}, ["batch.problems", "batch.window"]),
    ({"tokens": 260}, ["batch.tokens"])])
def test_the_remedy_keeps_its_word(texts, tmp_path, limits, keys):
    job = texts.twin(tmp_path, model={"device": "cuda:0"}, batch=limits)
    planned = said(job)
    assert share(planned["fill"]) < 95
    match = re.fullmatch(r"a fill below 95 % wastes a GPU's time: (.*) would fill ([0-9.]+) %", planned["warning"])
    remedy = {key: int(value) for key, value in (part.split(": ") for part in match[1].split(" and "))}
    assert list(remedy) == keys
    job.change(batch={key.removeprefix("batch."): value for key, value in remedy.items()})
    mended = share(said(job)["fill"])
    assert mended == float(match[2]) > share(planned["fill"])


@pytest.mark.parametrize("limit, limits", [(1, {}), (2, {}), (9, {}), (13, {}), (7, {"problems": 1}), (7, {"window": 1})])
def test_a_small_set_is_nobodys_fault(texts, tmp_path, limit, limits):
    """Its last batch is a large part of it, or there is little that could be saved."""
    planned = said(texts.twin(tmp_path, model={"device": "cuda:0"}, batch=limits), "--limit", limit)
    assert "fill" in planned and "warning" not in planned


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
def test_a_run_on_a_gpu(texts, tmp_path):
    job = texts.twin(tmp_path, model={"device": "cuda:0"}, batch={"problems": 1})
    job.program = support.EMULATED
    checked = strata("check", job.file, "--limit", 12, program=support.EMULATED)
    assert checked.code == OK, checked
    job.run("--limit", 12)
    (tokens, batches), = job.query("SELECT sum(tokens), count(*) FROM batch")
    assert batches == 12
    device_tokens = batches * 256  # a text's tokens, in whole tiles
    full = f"{100 * tokens / device_tokens:.1f} %"
    flat = " ".join(checked.out.split())
    warning = f"computes every batch as if it were full, and only {full} of that would be text; batch.problems: "
    assert f"{tokens} tokens, 12 batches, {full} full; " in flat and warning in flat and "WARN texts " in flat
    log = (job.output / "run.log").read_text()
    assert f"12 batches: the device will compute {device_tokens} tokens for {tokens} of texts, {full} full" in log
    assert warning in log
    assert f"12 batches sealed: the device computed {device_tokens} tokens for {tokens} of texts, {full} full" in log
    fill = json.loads(strata("status", job.output, "--json").out)["fill"]
    assert fill["device_tokens"] == device_tokens and fill["share"] == pytest.approx(tokens / device_tokens)
    assert f"  fill        {full}: {device_tokens:,} tokens computed for {tokens:,} of texts\n" in strata("status", job.output).out
    assert strata("log", job.output).out.splitlines()[-2].startswith(f"12 batches ({full} full), 12 problems done, ")


# ---- the limits that a run began with

@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run of an earlier version: its defaults were numbers, which its ledger holds."""
    job = Job(tmp_path_factory.mktemp("reference"), make_problems(60), batch=LIMITS)
    job.run()
    return job


@pytest.mark.parametrize("left", [OPEN, {"problems": None}, {"window": None}])
def test_a_run_goes_on_with_what_it_began_with(reference, tmp_path, left):
    job = reference.twin(tmp_path)
    job.run("--stop-after", 4, expect=STOPPED)
    job.change(batch=left)
    note = "the run started with batch.problems: 3 and batch.window: 16, and keeps them"
    checked = strata("check", job.file)
    assert checked.code == OK and note in " ".join(checked.out.split()), checked
    assert said(job)["batches"] == said(reference)["batches"]
    job.run()
    assert note in (job.output / "run.log").read_text()
    job.check_finished(60, reference.shards())
    assert job.outcomes() == reference.outcomes()
    assert said(job.twin(tmp_path / "new"))["batches"] != said(reference)["batches"]  # a run of its own has the defaults
    job.run()  # finished: nothing to do, and the same run


def test_given_values_are_compared(reference, tmp_path):
    job = reference.twin(tmp_path)
    job.run("--stop-after", 4, expect=STOPPED)
    for key, value in (("problems", 4), ("window", 32)):
        job.change(batch={"problems": None, "window": None, key: value})
        done = job.run(expect=JOB)
        assert f"batch.{key}: stored '{LIMITS[key]}', now '{value}'" in done.err, done
        assert done.err.count("stored '") == 1, done
        assert strata("check", job.file).code == JOB
    begun = job.twin(tmp_path / "open", batch=OPEN)
    begun.run("--stop-after", 1, expect=STOPPED)
    begun.change(batch={"window": 16})
    done = begun.run(expect=JOB)
    assert "batch.window: stored '0', now '16'" in done.err, done
    begun.change(batch={"window": 0})
    begun.run()
    begun.check_finished(60)


@pytest.fixture(scope="module")
def several_windows(tmp_path_factory):
    """A run of full windows with failed problems between."""
    problems = make_problems(PROBLEMS, steps=3)
    for number in range(5, PROBLEMS, 37):
        problems[number]["statement"] += "\0"
    job = Job(tmp_path_factory.mktemp("windows"), problems, problems={"max_failed": 99}, batch={"tokens": 128, **OPEN},
              run={"checkpoint_every": 60})
    job.run()
    windows = {row[0] for row in job.query("SELECT window FROM checkpoint WHERE NOT finished")}
    assert len(windows) > 2, windows
    return job


def test_full_windows_are_met_again_after_stops(several_windows, tmp_path):
    job = several_windows.twin(tmp_path)
    rng = random.Random(6)
    left = several_windows.query("SELECT count(*) FROM batch")[0][0]
    while left >= 0:
        batches = rng.randint(90, 260)
        job.run("--stop-after", batches, expect=STOPPED if batches <= left else OK)
        left -= batches
        job.check_acknowledged(several_windows.shards())
    job.check_finished(PROBLEMS, several_windows.shards())
    assert job.outcomes() == several_windows.outcomes()


def test_full_windows_are_met_again_after_kills(several_windows, tmp_path):
    """Whenever they come: between two of them at least one more shard is sealed, or the run ends."""
    job = several_windows.twin(tmp_path)
    rng = random.Random(7)
    for sealed in range(0, len(several_windows.shards()), 3):
        process = job.start()
        while process.poll() is None and len(job.acknowledged()) <= sealed:
            time.sleep(rng.uniform(0.001, 0.02))
        process.kill()
        process.communicate()
        job.check_acknowledged(several_windows.shards())
    job.run()
    job.check_finished(PROBLEMS, several_windows.shards())
    assert job.outcomes() == several_windows.outcomes()


def test_windows_of_another_version_are_refused(several_windows, tmp_path):
    """What an open limit means is recorded: batches planned otherwise would be other batches, some twice and some never."""
    job = several_windows.twin(tmp_path)
    job.run("--stop-after", 100, expect=STOPPED)
    assert job.query("SELECT value FROM identity WHERE key = 'batch.plan'") == [("full batches, windows of 4096 problems or 256 batches",)]
    with sqlite3.connect(job.output / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE identity SET value = replace(value, '4096', '8192') WHERE key = 'batch.plan'")
    ledger.close()
    done = job.run(expect=JOB)
    assert "batch.plan" in done.err and "windows of 8192" in done.err, done
