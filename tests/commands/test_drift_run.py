"""A real slow-down: the process is stopped and continued so that it runs a tenth of the time, canary included. The run
must end with exit code 80 and its evidence, lose nothing, and go on to the same bytes. How fast that happens depends on
the machine, so nothing here counts seconds: a job that ended before it could be judged is tried again, larger."""
import json
import signal
import threading
import time

import support
from support import DRIFT, OK, Job, make_problems

TRIES = 3
RUNS, RESTS = 0.003, 0.030  # seconds; far under the time of a canary, which would slip through otherwise


def make_job(folder, problems):
    """Batches of about a tenth of a second, a canary of a hundredth: longer than one turn of the processor."""
    return Job(folder, make_problems(problems, seed=4), support.make_model("slow", hidden=256, layers=6, intermediate=768),
               latents={"layers": [-2]}, batch={"problems": 16, "tokens": 1024, "window": 64},
               run={"drift_stop": True, "checkpoint_every": 4})


def throttle(process, until):
    while process.poll() is None and not until.is_set():
        process.send_signal(signal.SIGSTOP)  # nothing when it has ended
        time.sleep(RESTS)
        process.send_signal(signal.SIGCONT)
        time.sleep(RUNS)


def run_throttled(job, starts):
    """Throttled from the moment that starts(job) holds until the end."""
    process, until = job.start(), threading.Event()
    while process.poll() is None and not starts(job):
        time.sleep(0.005)
    slower = threading.Thread(target=throttle, args=(process, until))
    slower.start()
    try:
        out, err = process.communicate(timeout=400)
    finally:
        until.set()
        slower.join()
        process.kill()
    return support.Result(process.returncode, out.decode(), err.decode())


def some_batches(job):
    """A number of batches is done (their times are on record)."""
    csv = job.output / "throughput.csv"
    return csv.exists() and len(csv.read_text().splitlines()) > 6


def check_evidence(job, done):
    assert done.code == DRIFT and "batches have become slow" in done.last(), done
    evidence = json.loads(job.events("drift")[-1][1])
    assert evidence["verdict"] == "stopped"
    assert f"Cause: {evidence['cause']}: {evidence['cause_text']}. " in done.last()  # which one depends on the machine
    assert min(evidence["canary_seconds"], evidence["canary_again_seconds"]) > 1.5 * evidence["canary_calibrated_seconds"]
    assert len(evidence["batches"]) >= 1 and evidence["load"]
    log = (job.output / "run.log").read_text()
    assert "drift: stopped: the canary batch took" in log and '"batches"' not in log  # one line; the ledger has the rest
    assert evidence["device"] == evidence["device_calibrated"] == {}  # a CPU has no clock or monitoring of its own
    assert job.query("SELECT stage, drift FROM progress") == [("drift", "stopped")]
    assert job.query("SELECT exit_code FROM launch ORDER BY epoch DESC LIMIT 1") == [(DRIFT,)]


def test_slow_down_stops_the_run(tmp_path):
    for attempt in range(TRIES):
        job = make_job(tmp_path / str(attempt), 200 * (attempt + 1))
        reference = job.twin(tmp_path / f"reference-{attempt}", run={"drift_stop": False})
        reference.run()
        done = run_throttled(job, some_batches)
        if done.code != OK:
            break
    check_evidence(job, done)
    job.check_acknowledged(reference.shards())
    kept = job.query("SELECT batches FROM partial") or [(0,)]
    computed = len((job.output / "throughput.csv").read_text().splitlines()) - 1
    assert job.query("SELECT count(*) FROM batch")[0][0] + kept[0][0] == computed  # none of them is lost

    # The next launch begins slow: the calibration in the ledger stays the reference.
    again = run_throttled(job, lambda _: True)
    assert again.code in (DRIFT, OK), again
    if again.code == DRIFT:
        check_evidence(job, again)
        assert "begins slow" in (job.output / "run.log").read_text()
    print(f"stopped at try {attempt + 1}; the launch that began slow ended with {again.code}")

    job.change(run={"drift_stop": False})
    job.run()
    job.check_finished(200 * (attempt + 1), reference.shards())
