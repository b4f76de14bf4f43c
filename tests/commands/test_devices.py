# SPDX-License-Identifier: MIT
"""Runs on several GPUs (the emulation's): the bytes of a run on one, whatever their number, also when it changes between
launches or one of them fails; and what is said of each."""
import csv
import json
import random
import re
import signal
import time

import pytest

import support
from support import DEVICE, DRIFT, JOB, OK, STOPPED, Job, make_problems, strata

PROBLEMS = 30
pytestmark = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")


def emulation(**settings):
    settings = {"PREFER": 7, "DEVICES": 4, **settings}
    return support.clean_environment(**{f"CUDA_EMULATION_{name}": str(value) for name, value in settings.items()})


def gpus(count):
    return [f"cuda:{number}" for number in range(count)]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("one"), make_problems(PROBLEMS, steps=3, longest=8), model={"device": "cuda:0"},
              batch={"tokens": 128}, run={"checkpoint_every": 2})
    job.program = support.EMULATED
    job.run(environment=emulation())
    assert len(job.shards()) >= 3
    return job


def on(job, folder, devices, **sections):
    return job.twin(folder, **support.merge({"model": {"device": devices}}, sections))


def named(job):
    """Device of each batch."""
    return [name for name, in job.query("SELECT device FROM batch ORDER BY number")]


def told(job, environment=None):
    return json.loads(strata("status", job.output, "--json", program=job.program, environment=environment).out)


def same_as(one, job):
    job.check_finished(PROBLEMS, one.shards())
    assert job.outcomes() == one.outcomes()
    assert job.query("SELECT * FROM identity ORDER BY key") == one.query("SELECT * FROM identity ORDER BY key")


@pytest.mark.parametrize("devices, seed", [
    (["cuda:0", "cuda:1"], 0), (["cuda:0", "cuda:1"], 11), (["cuda:2", "cuda:0", "cuda:1"], 3), ("cuda:all", 4), (["cuda:3"], 5)])
def test_each_with_the_whole_model(one, tmp_path, devices, seed):
    job = on(one, tmp_path, devices)
    job.run(environment=emulation(SEED=seed))
    same_as(one, job)
    wanted = set(gpus(4)) if devices == "cuda:all" else set(devices) if len(devices) > 1 else {None}
    assert set(named(job)) == wanted, named(job)


@pytest.mark.parametrize("devices", [["cuda:7", "cuda:8"], "cuda:9", "cpu"])
def test_one_in_place_of_the_jobs(one, tmp_path, devices):
    """Those of the job are not here, or compute other bits."""
    job = on(one, tmp_path, devices)
    job.run("--device", "cuda:9", environment=emulation(), expect=DEVICE)
    job.run("--device", "cuda:2", environment=emulation(SEED=9))
    same_as(one, job)


@pytest.mark.parametrize("name", ["auto", "cuda:all", "cuda:", "gpu"])
def test_no_device_by_that_name(one, tmp_path, name):
    done = on(one, tmp_path, gpus(2)).run("--device", name, expect=support.USAGE)
    assert f"--device must be cpu or cuda:N, not '{name}'" in done.err


@pytest.mark.parametrize("count", [2, 3])
def test_split_by_layers(one, tmp_path, count):
    """One after the other computes each batch: none is named."""
    job = on(one, tmp_path, gpus(count), model={"split": "layers"})
    job.run(environment=emulation(SEED=5))
    same_as(one, job)
    assert set(named(job)) == {None}


@pytest.mark.parametrize("weights, blocks, group, count", [
    ("disk", 0, 2, 2), ("host", 1, 3, 3), ("disk", 2, 1, 2), ("host", 0, 1, 3), ("disk", 3, 4, 2)])
def test_streamed(one, tmp_path, weights, blocks, group, count):
    job = on(one, tmp_path, gpus(count), model={"weights": weights, "resident_blocks": blocks}, batch={"group": group})
    job.run(environment=emulation(SEED=count))
    same_as(one, job)


@pytest.mark.parametrize("batch", [{"problems": 1, "window": 1}, {"problems": 2, "window": 3}])
def test_small_windows(one, tmp_path, batch):
    single = on(one, tmp_path / "single", ["cuda:0"], batch=batch)
    single.run(environment=emulation())
    several = on(one, tmp_path / "several", gpus(3), batch=batch)
    several.run(environment=emulation())
    several.check_finished(PROBLEMS, single.shards())
    assert set(named(several)) == set(gpus(3))


def test_another_number_of_devices_at_every_launch(one, tmp_path):
    job = on(one, tmp_path, ["cuda:0"])
    job.run("--stop-after", 1, environment=emulation(), expect=STOPPED)
    for launch, (devices, more) in enumerate([(gpus(2), 2), (["cuda:3"], 1), (gpus(3), 3)], 2):
        job.change(model={"device": devices})
        job.run("--stop-after", more, environment=emulation(SEED=launch), expect=STOPPED)
        job.check_acknowledged(one.shards())
    job.change(model={"device": gpus(2), "split": "layers"})
    job.run(environment=emulation())
    same_as(one, job)
    assert {"cuda:0", "cuda:1", "cuda:2", None} == set(named(job))
    lines = (job.output / "throughput.csv").read_text().splitlines()  # begun without a name of the device
    assert len({line.count(",") for line in lines}) == 1 and not lines[0].endswith(",device")


@pytest.mark.parametrize("count, after", [(2, 1), (4, 2), (3, 5)])
def test_stop_after(one, tmp_path, count, after):
    job = on(one, tmp_path, gpus(count))
    job.run("--stop-after", after, environment=emulation(), expect=STOPPED)
    assert len((job.output / "throughput.csv").read_text().splitlines()) == 1 + after
    assert [device["name"] for device in told(job)["devices"]] == gpus(count)  # also those without a batch
    kept = job.query("SELECT batches FROM partial") or [(0,)]
    assert job.query("SELECT count(*) FROM batch")[0][0] + kept[0][0] == after
    job.run(environment=emulation())
    same_as(one, job)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals(one, tmp_path, number):
    rng = random.Random(number)
    job = on(one, tmp_path, gpus(2))
    for _ in range(3):
        log = job.output / "run.log"
        before = len(log.read_text()) if log.exists() else 0
        process = job.start(environment=emulation(SLOW="1:0.1"))
        while process.poll() is None and not (log.exists() and "calibrated in" in log.read_text()[before:]):
            time.sleep(0.005)
        time.sleep(rng.random())
        process.send_signal(number)
        err = process.communicate(timeout=120)[1].decode()
        assert process.returncode in (OK, STOPPED if number == signal.SIGTERM else -number), err
        job.check_acknowledged(one.shards())
    job.run(environment=emulation())
    same_as(one, job)


# ---- what is said of each

def test_records_name_the_device(one, tmp_path):
    job = on(one, tmp_path, gpus(2))
    job.run(environment=emulation())
    with open(job.output / "throughput.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["device"] for row in rows] == named(job)
    listed = list(csv.DictReader(strata("log", job.output, "--csv").out.splitlines()))
    assert [row["device"] for row in listed] == named(job)
    table = strata("log", job.output).out.splitlines()
    assert " device" in table[0] and " cuda:1" in table[1] + table[2], table
    assert "device" not in strata("log", one.output).out.splitlines()[0].replace("device s", "")
    devices = told(job)["devices"]
    assert [device["name"] for device in devices] == gpus(2) and told(one)["devices"] is None
    assert sum(device["batches"] for device in devices) == len(rows)
    assert all(device["tokens_per_second"] > 0 and device["memory_used"] > 0 for device in devices)
    residency = told(job)["residency"]["devices"]
    assert [device["name"] for device in residency] == gpus(2)
    assert residency[0]["taken"]["weights"] == residency[1]["taken"]["weights"] > 0
    shown = strata("status", job.output).out
    assert "  cuda:0      " in shown and "  cuda:1      " in shown, shown
    log = (job.output / "run.log").read_text()
    assert "device cuda:0, cuda:1, Emulated GPU" in log
    assert re.search(r"resident on cuda:1, Emulated GPU: [0-9.]+ GB of weights \(planned: ", log), log
    assert re.search(r"resident on all devices together: all [0-9]+ pieces, [0-9.]+ GB \(planned: ", log), log


def test_check_names_them(one, tmp_path):
    job = on(one, tmp_path, gpus(3))
    done = strata("check", job.file, program=job.program, environment=emulation())
    assert done.code == OK and "cuda:0, cuda:1, cuda:2 (Emulated GPU)" in done.out, done


# ---- devices that fail

def launches_before_batches(job, folder, device, **settings):
    """Launches of a device up to a few batches after the calibration."""
    job.twin(folder).run("--stop-after", 4, expect=STOPPED, environment=emulation(REPORT=folder / "report.json", **settings))
    return json.loads((folder / "report.json").read_text())["devices"][device]["launches"]


def test_a_slow_device_is_named(one, tmp_path):
    clock = {"SEED": 0, "WORK_MICROSECONDS": 20}
    job = on(one, tmp_path / "job", gpus(2), run={"drift_stop": True})
    launches = launches_before_batches(job, tmp_path / "before", 1, **clock)
    done = job.run(expect=DRIFT, environment=emulation(SLOW=f"{launches + 40}:10@1", **clock))
    assert "batches have become slow on cuda:1: " in done.last(), done
    assert json.loads(job.events("drift")[-1][1])["device_name"] == "cuda:1"
    assert "drift: cuda:1: stopped: the canary batch took" in (job.output / "run.log").read_text()
    assert told(job)["drift"]["state"] == "stopped on cuda:1"
    job.check_acknowledged(one.shards())
    job.run(environment=emulation())
    same_as(one, job)


def test_a_device_that_is_slow_from_the_start(one, tmp_path):
    clock = {"SEED": 0, "WORK_MICROSECONDS": 20}
    job = on(one, tmp_path, gpus(2), run={"drift_stop": True})
    done = job.run(expect=DRIFT, environment=emulation(SLOW="1:10@1", **clock))
    assert "slow on cuda:1: " in done.last(), done
    assert "cuda:1 starts slow: the canary batch takes" in (job.output / "run.log").read_text()
    job.check_acknowledged(one.shards())
    job.run(environment=emulation(**clock))
    same_as(one, job)


@pytest.fixture(scope="module")
def calls(one, tmp_path_factory):
    """Calls of the runtime that a whole run on two devices makes for each."""
    folder = tmp_path_factory.mktemp("calls")
    on(one, folder, gpus(2)).run(environment=emulation(REPORT=folder / "report.json", SEED=0))
    return [device["calls"] for device in json.loads((folder / "report.json").read_text())["devices"]]


@pytest.mark.parametrize("lost, part", [(0, 0.4), (1, 0.6), (0, 0.85), (1, 0.9)])
def test_a_lost_device_is_named(one, calls, tmp_path, lost, part):
    """What others computed before it is kept, in order; any number of devices goes on."""
    job = on(one, tmp_path, gpus(2))
    done = job.run(expect=DEVICE, environment=emulation(LOSE_DEVICE=f"{int(part * calls[lost])}@{lost}", SEED=0))
    assert f"cuda:{lost}" in done.last() or f"GPU {lost}" in done.last(), done
    assert "cuda emulation:" not in done.err, done
    job.check_acknowledged(one.shards())
    job.change(model={"device": [f"cuda:{1 - lost}"]})
    job.run(environment=emulation())
    same_as(one, job)


@pytest.mark.parametrize("settings, parts", [
    ({"NAME": "Another GPU@1"}, ["cuda:1", "cuda:0", "Another GPU"]),
    ({"DEVICES": 1}, ["cuda:1"]),
    ({"FREE": f"{1 << 20}@1"}, ["cuda:1", "not enough memory"]),
])
def test_devices_that_do_not_do(one, tmp_path, settings, parts):
    job = on(one, tmp_path, gpus(2))
    done = job.run(environment=emulation(**settings), expect=DEVICE)
    assert all(part in done.last() for part in parts), done
    assert not job.has_ledger() or job.query("SELECT count(*) FROM batch") == [(0,)]
    job.run(environment=emulation())
    same_as(one, job)


@pytest.mark.parametrize("sections, code, part", [
    ({"model": {"device": "cuda:all"}}, DEVICE, "model.device: cuda:all: "),
    ({"model": {"device": ["cuda:0", "cuda:0"]}}, JOB, "model.device has 'cuda:0' twice"),
    ({"model": {"device": ["cpu", "cuda:0"]}}, JOB, "'cpu' stands alone"),
    ({"model": {"device": ["cuda:0", "cuda:1"], "split": "layers", "weights": "disk", "resident_blocks": 1}}, JOB,
     "model.split: layers needs weights that are resident"),
    ({"model": {"device": "cuda:all", "split": "layers", "weights": "disk", "resident_blocks": 1}}, JOB,
     "model.split: layers needs weights that are resident"),
    ({"run": {"memory_gb": {"cuda:1": 1}}}, JOB, "run.memory_gb names cuda:1, which is not among model.device"),
])
def test_refused(one, tmp_path, sections, code, part):
    there = 2 if "split" in str(sections) else 0
    done = one.twin(tmp_path, **sections).run(environment=emulation(DEVICES=there), expect=code)
    assert part in done.last(), done


@pytest.mark.parametrize("split", ["batches", "layers"])
def test_check_and_log_count_alike(one, tmp_path, split):
    job = on(one, tmp_path, gpus(2), model={"split": split})
    said = " ".join(strata("check", job.file, program=job.program, environment=emulation()).out.split())
    job.run(environment=emulation())
    log = (job.output / "run.log").read_text()
    for name in gpus(2):
        checked = re.search(rf"; {name}: ([0-9.]+) weights, ([0-9.]+) activations, ([0-9.]+) scratch", said)
        logged = re.search(rf"resident on {name}, .*planned: weights ([0-9.]+), activations ([0-9.]+), scratch ([0-9.]+) GB", log)
        assert checked and logged and checked.groups() == logged.groups(), (said, log)


def test_memory_that_lacks_is_named(one, tmp_path):
    job = on(one, tmp_path, gpus(2), run={"memory_gb": {"host": 1e-6}})
    done = job.run(environment=emulation(), expect=DEVICE)
    assert "the host, for cuda:0 and the others: not enough memory: " in done.err and "which is too little" in done.err, done
    ours, other = re.search(r"weights (.*) \| staging .*; cuda:1: weights (.*), which fit", done.err).groups()
    assert ours == other
    job.change(run={"memory_gb": {"host": 1e-6, "cuda:1": 1e-6}})
    done = job.run(environment=emulation(), expect=DEVICE)
    assert "the host, for cuda:0 and the others: not" in done.err and ", which do not fit either" in done.err, done
    job.change(run={"memory_gb": {"cuda:1": 1e-6}})
    done = job.run(environment=emulation(), expect=DEVICE)
    assert "cuda:1: not enough memory: " in done.err and "the host, for" not in done.err, done.err


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_a_split_over_one_device(one, tmp_path, device):
    """Changes nothing, and is said to."""
    job = on(one, tmp_path, device, model={"split": "layers", "weights": "disk", "resident_blocks": 1})
    done = strata("check", job.file, program=job.program, environment=emulation())
    assert done.code == OK and f"model.split: layers changes nothing on one device ({device})" in " ".join(done.out.split()), done
    job.run(environment=emulation())
    assert "model.split: layers changes nothing" in (job.output / "run.log").read_text()


def test_memory_of_each_device(one, tmp_path):
    enough = 1.0
    job = on(one, tmp_path, "cuda:all", run={"memory_gb": {"host": 100, "cuda:1": 1e-6}})
    done = job.run(environment=emulation(DEVICES=2), expect=DEVICE)
    assert "cuda:1" in done.last() and "not enough memory" in done.last(), done
    job.change(run={"memory_gb": {"cuda:3": enough}})
    done = job.run(environment=emulation(DEVICES=2), expect=JOB)
    assert "run.memory_gb names cuda:3, which this run does not use" in done.last(), done
    job.change(run={"memory_gb": {"cuda:1": enough, "cuda:0": enough}})
    job.run(environment=emulation(DEVICES=2))
    same_as(one, job)
