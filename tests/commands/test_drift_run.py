# SPDX-License-Identifier: MIT
"""Real slow-downs. A run that gets a tenth of the time goes on: it says what share it gets, and its latents are the same.
A device that is slow by itself ends the run with exit code 80 and its evidence; nothing is lost, and the same command goes
on to the same bytes. How fast all this happens depends on the machine, so nothing here counts seconds: a run is starved
until it says so, and has work for far longer."""
import contextlib
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

import support
from support import BUILD, DRIFT, STOPPED, Job, clean_environment, make_problems

CLOCK = BUILD / "tests" / "commands_preload_clock.so"
RUNS, RESTS = 0.003, 0.030  # seconds; far under the time of a canary, which would slip through otherwise


def make_job(folder, problems, **run):
    """Batches of about a tenth of a second, a canary of a hundredth: longer than one turn of the processor."""
    return Job(folder, make_problems(problems, seed=4), support.make_model("slow", hidden=256, layers=6, intermediate=768),
               latents={"layers": [-2]}, batch={"problems": 16, "tokens": 1024, "window": 64},
               run={"drift_stop": True, "checkpoint_every": 4, **run})


def run_starved(job, starts, ends):
    """Gets a tenth of the time from the moment that starts(job) holds until ends(job) does, and is asked to stop there and
    then: so it has no time of its own afterwards in which it could see that it is free again."""
    process = job.start()
    try:
        while process.poll() is None and not starts(job):
            time.sleep(0.005)
        while process.poll() is None and not ends(job):
            process.send_signal(signal.SIGSTOP)  # nothing when it has ended
            time.sleep(RESTS)
            process.send_signal(signal.SIGCONT)
            time.sleep(RUNS)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=400)
    finally:
        process.kill()
    return support.Result(process.returncode, out.decode(), err.decode())


def some_batches(job):
    """A number of batches is done (their times are on record)."""
    csv = job.output / "throughput.csv"
    return csv.exists() and len(csv.read_text().splitlines()) > 6


BATCHES_AFTER = 8  # with a tenth of the time, and no word more


def batches(job):
    return len((job.output / "throughput.csv").read_text().splitlines()) - 1


def told_and_goes_on():
    """Told that it shares its processors, the run computes more batches."""
    told_at = []

    def holds(job):
        if not told_at and "times as long. Cause" in (job.output / "run.log").read_text():
            told_at.append(batches(job))
        return told_at != [] and batches(job) >= told_at[0] + BATCHES_AFTER
    return holds


def test_starved_run_goes_on(tmp_path):
    job = make_job(tmp_path / "job", 600)
    reference = job.twin(tmp_path / "reference", run={"drift_stop": False})
    reference.run()
    goes_on = told_and_goes_on()
    done = run_starved(job, some_batches, goes_on)
    assert done.code == STOPPED and goes_on(job), done  # or it ended before it could be judged
    assert job.events("drift") == []
    warnings = [text for _, text, *_ in job.events("share") if "times as long" in text]
    told = [float(re.search(r"([\d.]+) times as long", text)[1]) for text in warnings]
    assert told != []  # not one a batch: again only when batches take twice as long as was told, to one decimal
    assert all(later > 2 * earlier - 0.2 for earlier, later in zip(told, told[1:])), warnings
    assert re.match(r"this run gets \d+ % of its processors, at calibration \d+ %, and its batches take [\d.]+ times as long\. "
                    r"Cause: (paused|neighbour|quota): ", warnings[0]), warnings
    assert re.match(r"sharing: \w+, \d+ %$", job.query("SELECT drift FROM progress")[0][0])
    assert warnings[0] in done.err  # and said where people look first
    status = support.strata("status", job.output)
    assert re.search(r"drift +sharing: \w+, \d+ %, score", status.out), status
    job.run()
    job.check_finished(600, reference.shards())


@contextlib.contextmanager
def busy_machine(tasks):
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(tasks)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def test_small_jobs_on_a_busy_machine(tmp_path):
    """Batches of milliseconds, which a turn of a neighbour's makes a hundred times as long."""
    with busy_machine(6):
        for number in range(4):
            job = Job(tmp_path / str(number), make_problems(60, seed=number), run={"drift_stop": True, "threads": 2})
            job.run()


def plant_fast_calibration(profile, factor):
    """As if the device had been so many times faster when it was calibrated."""
    kept = json.loads(profile.read_text())
    for calibration in kept.values():
        for key in calibration:
            calibration[key] = calibration[key] / factor if key != "canary_sha256" else calibration[key]
    profile.write_text(json.dumps(kept))


def check_evidence(job, done):
    assert done.code == DRIFT and "batches have become slow" in done.last(), done
    evidence = json.loads(job.events("drift")[-1][1])
    assert evidence["verdict"] == "stopped"
    assert f"Cause: {evidence['cause']}: {evidence['cause_text']}. " in done.last()
    assert min(evidence["canary_own_seconds"], evidence["canary_again_own_seconds"]) > 1.5 * evidence["canary_calibrated_own_seconds"]
    assert len(evidence["batches"]) >= 1 and evidence["load"] and evidence["host"]["processors"] >= 1
    log = (job.output / "run.log").read_text()
    assert "drift: stopped: the canary batch took" in log and '"batches"' not in log  # one line; the ledger has the rest
    assert evidence["device"] == evidence["device_calibrated"] == {}  # a CPU has no monitoring of its own
    assert job.query("SELECT stage, drift FROM progress") == [("drift", "stopped")]
    assert job.query("SELECT exit_code FROM launch ORDER BY epoch DESC LIMIT 1") == [(DRIFT,)]


def test_slow_device_stops_the_run(tmp_path):
    profile = tmp_path / "profile.json"
    reference = make_job(tmp_path / "reference", 100, drift_stop=False, profile=str(profile))
    reference.run()
    plant_fast_calibration(profile, 5)  # more than any neighbour explains
    job = reference.twin(tmp_path / "job", run={"drift_stop": True})
    done = job.run(expect=DRIFT)
    check_evidence(job, done)
    assert "starts slow" in (job.output / "run.log").read_text()
    computed = len((job.output / "throughput.csv").read_text().splitlines()) - 1
    assert computed <= 3
    job.check_acknowledged(reference.shards())
    kept = job.query("SELECT batches FROM partial") or [(0,)]
    assert job.query("SELECT count(*) FROM batch")[0][0] + kept[0][0] == computed  # none of them is lost
    job.run(expect=DRIFT)  # the calibration in the ledger stays the reference
    job.change(run={"drift_stop": False})
    job.run()
    job.check_finished(100, reference.shards())


@pytest.mark.skipif(not CLOCK.exists(), reason="a sanitizer's build takes no preloaded library")
def test_less_than_a_stop_is_told(tmp_path):
    """A device somewhat slower than calibrated: what the run gets used to is on record, once, with what was seen. Its own
    time is made up: 800 microseconds for each piece of work at calibration, and 1000 now."""
    job = make_job(tmp_path / "calibrated", 100, profile=str(tmp_path / "profile.json"), threads=1).twin(
        tmp_path / "job", batch={"tokens": 128})
    job.twin(tmp_path / "reference").run(environment=clean_environment(LD_PRELOAD=str(CLOCK), CLOCK_STINT="800"))
    done = job.run(environment=clean_environment(LD_PRELOAD=str(CLOCK), CLOCK_STINT="1000"))
    told = [json.loads(text) for _, text, *_ in job.events("warn") if '"settled"' in text]
    assert len(told) == 1 and abs(told[0]["factor"] - 1.25) < 0.05 and told[0]["factor_by_clock"] == 1, told
    assert told[0]["cause"] and told[0]["cause_text"] and told[0]["device"] == {} and told[0]["host"]["processors"] >= 1
    factor = f"{told[0]['factor']:.2f}"  # 1.25 but for what a text's length is reckoned to take
    assert f"strata: warn: batches take {factor} times as long as calibrated; {told[0]['cause']}" in done.err, done
    assert "strata: this launch starts slow: the canary batch takes" in done.err and done.said() == [], done


@pytest.mark.skipif(not CLOCK.exists(), reason="a sanitizer's build takes no preloaded library")
def test_resume_needs_the_canary_alone(tmp_path):
    """What the first launch calibrated is what the next ones predict with. The device's own time is made up: one that was
    slow at its calibration is calibrated again."""
    job = make_job(tmp_path, 60, drift_stop=False)
    clock = clean_environment(LD_PRELOAD=str(CLOCK), CLOCK_STINT="800")
    job.run("--stop-after", 1, expect=STOPPED, environment=clock)
    job.run(environment=clock)
    costs = re.findall(r"calibrated in [\d.]+ s: a batch takes (.*); canary", (job.output / "run.log").read_text())
    assert len(costs) == 2 and costs[0] == costs[1], costs


def test_a_calibration_of_before_own_times(tmp_path):
    """An older program kept no time of the device's own: the launch that finds such a calibration makes one."""
    job = make_job(tmp_path, 60)
    job.run("--stop-after", 1, expect=STOPPED)
    ledger = sqlite3.connect(job.output / "ledger.sqlite")
    name, text = ledger.execute("SELECT key, value FROM note WHERE value LIKE '%canary_own_seconds%'").fetchone()
    kept = {key: value for key, value in json.loads(text).items() if "own" not in key}
    ledger.execute("UPDATE note SET value = ? WHERE key = ?", (json.dumps(kept), name))
    ledger.commit()
    ledger.close()
    job.run("--stop-after", 1, expect=STOPPED)
    said = re.findall(r"canary ([0-9.]+) s, of which the device works ([0-9.]+) s", (job.output / "run.log").read_text())
    assert len(said) == 2 and all(0 < float(worked) for _, worked in said), said
    assert json.loads(job.query("SELECT value FROM note WHERE key = ?", name)[0][0])["canary_own_seconds"] > 0
