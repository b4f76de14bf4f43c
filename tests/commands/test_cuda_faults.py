# SPDX-License-Identifier: MIT
"""A GPU that fails while a job runs on it (the emulation's, on order): no memory, a launch that fails, the device lost,
no driver or library.

After any fault: the exit code tells a device at fault (69) from a mistake of ours (70), the last line names the call and
the reason, every acknowledged shard is there with its bytes, and on a healthy device the same command goes on to the
bytes of an undisturbed run. STRATA_FULL_SWEEP=1 tries ten times as many places.
"""
import concurrent.futures
import json
import os
import random

import pytest

import support
from support import DEVICE, INTERNAL, OK, Job, clean_environment, make_problems

PROBLEMS = 12
pytestmark = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")


def emulation(**settings):
    return clean_environment(**{f"CUDA_EMULATION_{name}": str(value) for name, value in settings.items()})


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("reference"), make_problems(PROBLEMS, steps=3, longest=8),
              model={"device": "cuda:0"}, latents={"layers": [-2]}, batch={"tokens": 128}, run={"checkpoint_every": 2})
    job.program = support.EMULATED
    job.run(environment=emulation(REPORT=job.folder / "report.json"))
    job.counts = json.loads((job.folder / "report.json").read_text())
    early = job.twin(job.folder / "early")  # what comes before batches, and the first of them
    early.run("--stop-after", 1, environment=emulation(REPORT=job.folder / "early.json"), expect=support.STOPPED)
    job.early = json.loads((job.folder / "early.json").read_text())
    assert len(job.shards()) >= 2
    return job


def check_fault(reference, folder, code, settings, parts, late=False):
    """One run with a fault, one without; the number of shards that were sealed in the first. late: a fault after the last
    batch changes nothing any more."""
    twin = reference.twin(folder)
    done = twin.run(environment=emulation(**settings), expect=None)
    if late and done.code == OK:
        twin.check_finished(PROBLEMS, reference.shards())
        return None
    assert done.code == code, (settings, done)
    for part in parts:
        assert part in done.last(), (settings, part, done)
    assert "cuda emulation:" not in done.err, (settings, done)
    table = done.said()[1:]  # of what would run, where the model does not fit
    assert table == [] or (code == DEVICE and table[0].startswith("  what would run")), (settings, done)
    twin.check_acknowledged(reference.shards())
    sealed = len(twin.acknowledged())
    done = twin.run(expect=None)
    assert done.code == OK, (settings, done)
    twin.check_finished(PROBLEMS, reference.shards())
    assert twin.outcomes() == reference.outcomes(), settings
    return sealed


def check_faults(reference, folder, code, name, numbers, parts, late=False):
    def check(number):
        return check_fault(reference, folder / str(number), code, {name: number}, parts, late)

    assert len(numbers) > 0  # or the report that they come from counts nothing
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return [sealed for sealed in pool.map(check, numbers) if sealed is not None]


def spread(first, last, count, seed):
    """Numbers from first to last, one in each part between them."""
    count *= 10 if os.environ.get("STRATA_FULL_SWEEP") == "1" else 1
    rng, step = random.Random(seed), (last - first + 1) / count
    return sorted({int(first + step * (part + rng.random())) for part in range(count)})


@pytest.mark.parametrize("name,count", [("FAIL_MALLOC", "mallocs"), ("FAIL_MALLOC_HOST", "host_mallocs")])
def test_no_memory(reference, tmp_path, name, count):
    numbers = range(1, reference.counts[count] + 1)
    check_faults(reference, tmp_path, DEVICE, name, numbers, ["cudaMalloc", "out of memory"])


def test_launches_that_fail(reference, tmp_path):
    """In tuning, calibration and batches; the fault comes to light in a later call."""
    early, all = reference.early["launches"], reference.counts["launches"]
    numbers = spread(1, early, 6, seed=3) + spread(early + 1, all, 6, seed=4)
    sealed = check_faults(reference, tmp_path, INTERNAL, "FAIL_LAUNCH", numbers, ["cudaErrorLaunchFailure", "after"], late=True)
    assert min(sealed) == 0 and max(sealed) > 0


def test_device_lost(reference, tmp_path):
    """At any call: opening, loading, tuning, calibration, batches."""
    early, all = reference.early["calls"], reference.counts["calls"]
    numbers = spread(1, early, 8, seed=5) + spread(early + 1, all, 6, seed=6)
    sealed = check_faults(reference, tmp_path, DEVICE, "LOSE_DEVICE", numbers, ["cudaErrorDevicesUnavailable"], late=True)
    assert len(sealed) >= 10 and min(sealed) == 0 and max(sealed) > 0


@pytest.mark.parametrize("settings,parts", [
    ({"DEVICES": 0}, ["device cuda:0 is not available", "no CUDA-capable device"]),
    ({"DRIVER": 11080}, ["driver is for CUDA 11.8", "12.4"]),
    ({"CUBLASLT": 0}, ["cuBLASLt could not be loaded", "libcublasLt.so"]),
    ({"MEMORY": 1 << 28, "FREE": 1 << 20}, ["not enough memory"]),
])
def test_what_is_not_there(reference, tmp_path, settings, parts):
    check_fault(reference, tmp_path, DEVICE, settings, parts)


def test_monitoring_that_is_missing_is_a_warning(reference, tmp_path):
    twin = reference.twin(tmp_path)
    twin.run(environment=emulation(NVML=0))
    twin.check_finished(PROBLEMS, reference.shards())
    assert "clocks, power and errors are not available" in (twin.output / "run.log").read_text()


def test_auto_takes_a_gpu_or_says_why_not(reference, tmp_path):
    twin = reference.twin(tmp_path / "gpu", model={"device": "auto"})
    twin.run()
    twin.check_finished(PROBLEMS, reference.shards())
    assert "auto took the first GPU" in (twin.output / "run.log").read_text()
    twin = reference.twin(tmp_path / "none", model={"device": "auto"})
    twin.run(environment=emulation(DEVICES=0))
    assert "auto took the CPU: cudaGetDeviceCount" in (twin.output / "run.log").read_text()
    twin = reference.twin(tmp_path / "failing", model={"device": "auto"})
    done = twin.run(environment=emulation(FAIL_MALLOC=2), expect=DEVICE)
    assert "out of memory" in done.last()  # a GPU that is there and fails: no way to the CPU
