# SPDX-License-Identifier: MIT
"""Streamed runs that are stopped, killed and resumed, also as another placement, and whose files change under them: every shard is
that of an uninterrupted resident run, and nothing computed from other weights is acknowledged."""
import os
import random
import re
import shutil
import signal
import time

import pytest

import support
from support import BUILD, DATA, DEVICE, DRIFT, STOPPED, Job, clean_environment, make_model, make_problems
from test_retry import Faulty
from test_streamed import ENV, needs_gpu, on_gpu, residency, streamed

PROBLEMS, LONG, GPU_LONG = 45, 600, 60
CLOCK = BUILD / "tests" / "commands_preload_clock.so"
STALL = BUILD / "tests" / "commands_preload_stall.so"


@pytest.fixture(scope="module")
def resident(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("resident"), make_problems(PROBLEMS, steps=3, longest=8), make_model("deep", layers=6))
    job.run()
    return job


@pytest.fixture(scope="module")
def gpu_resident(resident, tmp_path_factory):
    job = on_gpu(resident.twin(tmp_path_factory.mktemp("gpu")))
    job.run(environment=ENV)
    return job


def computed(job):
    """Batches that no later launch computes again."""
    return job.query("SELECT count(*) FROM batch")[0][0] + sum(row[0] for row in job.query("SELECT batches FROM partial"))


@pytest.mark.parametrize("gpu, after", [(False, 3), (False, 6), pytest.param(True, 5, marks=needs_gpu)])
def test_stop_after_counts_batches(request, tmp_path, gpu, after):
    """Not sweeps: a launch ends with the batch that was asked for, also within a group."""
    reference = request.getfixturevalue("gpu_resident" if gpu else "resident")
    job = streamed(reference, tmp_path, group=4)
    launches = 0
    while job.run("--stop-after", after, expect=None, environment=ENV).code == STOPPED:
        launches += 1
        assert computed(job) == launches * after
        job.check_acknowledged(reference.shards())
        assert launches < 60
    job.check_finished(PROBLEMS, reference.shards())
    assert launches >= len(reference.query("SELECT * FROM batch")) // after - 1


PLACEMENTS = [("disk", 0, 4), ("resident", 0, 0), ("disk", 3, 2), ("disk", 5, 0), ("resident", 6, 1), ("disk", 0, 1)]
ON_GPU = [("disk", 0, 4), ("resident", 0, 0), ("host", 0, 3)]


@pytest.mark.parametrize("gpu", [False, pytest.param(True, marks=needs_gpu)])
def test_placements_take_turns(request, tmp_path, gpu):
    """A run that streams is resumed as one that is resident, and the other way round; its identity is the same."""
    reference = request.getfixturevalue("gpu_resident" if gpu else "resident")
    job = streamed(reference, tmp_path)
    for weights, blocks, group in ON_GPU if gpu else PLACEMENTS:
        job.change(model={"weights": weights, "resident_blocks": blocks}, batch={"group": group})
        job.run("--stop-after", 2, expect=STOPPED, environment=ENV)
        job.check_acknowledged(reference.shards())
    job.run(environment=ENV)
    job.check_finished(PROBLEMS, reference.shards())
    assert job.query("SELECT * FROM identity ORDER BY key") == reference.query("SELECT * FROM identity ORDER BY key")


# ---- kills: a run long enough to be met, observed and never timed

def batches(job):
    csv = job.output / "throughput.csv"
    return max(len(csv.read_text().splitlines()) - 1, 0) if csv.exists() else 0


def until(process, holds):
    while not holds():
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.002)


def long_job(folder, problems):
    """Its model is its own: tests change it, and mend it."""
    model = shutil.copytree(make_model("deep", layers=6), folder / "model")
    return Job(folder, make_problems(problems, steps=2, longest=6), model, latents={"layers": [-1]}, batch={"window": 0})


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    job = long_job(tmp_path_factory.mktemp("long"), LONG)
    job.run()
    return job


@pytest.fixture(scope="module")
def gpu_long(tmp_path_factory):
    job = on_gpu(long_job(tmp_path_factory.mktemp("gpu-long"), GPU_LONG))
    job.run(environment=ENV)
    return job


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_signals(long, tmp_path, number):
    job = streamed(long, tmp_path, group=5)
    rng = random.Random(number)
    for _ in range(4):
        before, more = batches(job), rng.randint(1, 25)
        process = job.start()
        until(process, lambda: batches(job) >= before + more)
        process.send_signal(number)
        err = process.communicate(timeout=120)[1]
        assert process.returncode == (STOPPED if number == signal.SIGTERM else -number), err.decode()
        job.check_acknowledged(long.shards())
        if number == signal.SIGTERM:
            assert computed(job) == batches(job) >= before + more  # whole sweeps are kept
    job.run()
    job.check_finished(LONG, long.shards())


@needs_gpu
@pytest.mark.parametrize("weights, number", [("disk", signal.SIGTERM), ("host", signal.SIGTERM), ("disk", signal.SIGKILL)])
def test_signals_on_a_gpu(gpu_long, tmp_path, weights, number):
    """Kernels that sleep: a sweep is in flight at any moment."""
    job = streamed(gpu_long, tmp_path, weights, group=4)
    process = job.start(environment={**ENV, "CUDA_EMULATION_SLOW": "1:0.2"})
    until(process, lambda: batches(job) >= 4)
    process.send_signal(number)
    err = process.communicate(timeout=120)[1].decode()
    assert process.returncode == (STOPPED if number == signal.SIGTERM else -number), err
    job.check_acknowledged(gpu_long.shards())
    if number == signal.SIGTERM:
        assert computed(job) == batches(job)
    job.run(environment=ENV)
    job.check_finished(GPU_LONG, gpu_long.shards())


# ---- files that change

def flip(path):
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def cut(path):
    os.truncate(path, path.stat().st_size - 4)


@pytest.mark.parametrize("change, words", [(flip, "changed while the run was using it"), (cut, "")])
@pytest.mark.parametrize("gpu", [False, pytest.param(True, marks=needs_gpu)])
def test_a_file_that_changes_ends_the_run(request, tmp_path, change, words, gpu):
    """Once the file is as it was the same command goes on."""
    reference = request.getfixturevalue("gpu_long" if gpu else "long")
    job = streamed(reference, tmp_path, group=2)
    path = sorted((reference.folder / "model").glob("*.safetensors"))[-1]
    whole = path.read_bytes()
    process = job.start(environment=ENV)
    try:
        until(process, lambda: batches(job) >= 4)
        change(path)
        err = process.communicate(timeout=120)[1].decode()
    finally:
        path.write_bytes(whole)
    assert process.returncode == DATA, err
    assert words in err and str(path) in err and ("changed while" in err or "cut while" in err), err
    job.check_acknowledged(reference.shards())
    job.run(environment=ENV)
    job.check_finished(GPU_LONG if gpu else LONG, reference.shards())


@needs_gpu
def test_host_memory_is_filled_once(gpu_long, tmp_path):
    """What came once does not come again: the files are not needed any more."""
    job = streamed(gpu_long, tmp_path, weights="host", group=2)
    paths = sorted((gpu_long.folder / "model").glob("*.safetensors"))
    process = job.start(environment=ENV)
    until(process, lambda: batches(job) >= 4)
    try:
        for path in paths:
            flip(path)
        err = process.communicate(timeout=120)[1].decode()
    finally:
        for path in paths:
            flip(path)
    assert process.returncode == 0, err
    job.check_finished(GPU_LONG, gpu_long.shards())


@pytest.mark.skipif(not STALL.exists(), reason="a sanitizer's build takes no preloaded library")
@pytest.mark.parametrize("gpu", [False, pytest.param(True, marks=needs_gpu)])
def test_a_disk_that_stops_answering_is_named(request, tmp_path, gpu):
    """Between two sweeps, after load_timeout; the device is not said to hang."""
    reference = request.getfixturevalue("gpu_long" if gpu else "long")
    job = streamed(reference, tmp_path, group=2, model={"load_timeout": 1})
    when = tmp_path / "stalls"
    process = job.start(environment={**ENV, "LD_PRELOAD": str(STALL), "STALL_WHEN": str(when), "STALL_PATH": ".safetensors"})
    until(process, lambda: batches(job) >= 4)
    when.touch()
    err = process.communicate(timeout=120)[1].decode()
    assert process.returncode == DEVICE and "safetensors: no byte for 1 s after byte" in err, err
    job.check_acknowledged(reference.shards())
    job.run(environment=ENV)
    job.check_finished(GPU_LONG if gpu else LONG, reference.shards())


@pytest.mark.skipif(not STALL.exists(), reason="a sanitizer's build takes no preloaded library")
def test_a_stop_in_an_endless_sweep(long, tmp_path):
    """A sweep may take longer than a run has to stop: it is dropped, and those before it are kept."""
    job = streamed(long, tmp_path, group=4)
    when = tmp_path / "stalls"
    process = job.start(environment={**ENV, "LD_PRELOAD": str(STALL), "STALL_WHEN": str(when), "STALL_PATH": ".safetensors"})
    until(process, lambda: batches(job) >= 4)
    when.touch()
    before = -1
    while batches(job) > before:  # until no more come
        before = batches(job)
        time.sleep(1)
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=120)[1].decode()
    assert process.returncode == STOPPED and "the batch in flight is dropped" in err, err
    assert computed(job) == batches(job) > 0
    job.check_acknowledged(long.shards())
    job.run()
    job.check_finished(LONG, long.shards())


# ---- memory

@needs_gpu
@pytest.mark.parametrize("weights", ["disk", "host"])
def test_too_little_for_one_block_is_refused(gpu_resident, tmp_path, weights):
    job = streamed(gpu_resident, tmp_path, weights, 6, 0)
    done = job.run(expect=DEVICE, environment=clean_environment(CUDA_EMULATION_PREFER="7", CUDA_EMULATION_FREE=str(1 << 20)))
    assert "not enough memory" in done.last(), done
    assert job.shards() == {}


def test_too_little_host_memory_is_refused(resident, tmp_path):
    job = streamed(resident, tmp_path, run={"memory_gb": 0.001})
    done = job.run(expect=DEVICE)
    assert "not enough memory" in done.last() and "or run.memory_gb keeps too much of it" in done.last(), done
    assert job.shards() == {}


def test_memory_within_a_bound(tmp_path):
    """Three times what is allowed in weights; what is allowed is the process's, all in all."""
    model = make_model("bound", hidden=512, layers=24, intermediate=2048)
    job = Job(tmp_path / "resident", make_problems(12, steps=3, longest=8), model, latents={"layers": [-1]})
    job.run()
    twin = streamed(job, tmp_path / "streamed", blocks=1000, run={"memory_gb": 0.18})
    done = twin.run()
    assert twin.shards() == job.shards()
    assert float(re.search(r"peak memory ([0-9.]+) GB", done.out)[1]) <= 0.18, done
    told = residency(twin)["streaming"]
    assert 0 < told["streamed"] <= told["blocks"] == 24, told
    twin = Job(tmp_path / "more", make_problems(250, steps=3, longest=8), model, model={"weights": "disk"},
               latents={"layers": [-1]}, batch={"problems": 1, "group": 250}, run={"memory_gb": 0.2})
    done = twin.run(expect=DEVICE)
    assert "; a smaller batch.group needs less" in done.last(), done
    twin = streamed(job, tmp_path / "less", run={"memory_gb": 0.12})
    done = twin.run(expect=DEVICE)
    assert "what is read ahead of it need more than is free; model.dtype: bfloat16 needs half" in done.last(), done


# ---- drift

def slow_job(folder, **sections):
    return Job(folder, make_problems(100, seed=4), make_model("slow", hidden=256, layers=6, intermediate=768),
               **support.merge({"latents": {"layers": [-2]}, "batch": {"problems": 16, "tokens": 128, "window": 64, "group": 3},
                                "model": {"weights": "disk", "resident_blocks": 0},
                                "run": {"drift_stop": True, "checkpoint_every": 4, "profile": str(folder / "profile.json")}}, sections))


@pytest.mark.skipif(not CLOCK.exists(), reason="a sanitizer's build takes no preloaded library")
def test_sweeps_of_the_calibrated_time_are_steady(tmp_path):
    """The device's time is made up: 800 microseconds for each piece of work."""
    job = slow_job(tmp_path)
    job.run(environment=clean_environment(LD_PRELOAD=str(CLOCK), CLOCK_STINT="800"))
    assert job.events("drift") == []


@pytest.mark.skipif(not CLOCK.exists(), reason="a sanitizer's build takes no preloaded library")
def test_sweeps_that_become_slow_stop_the_run(tmp_path):
    """At calibration 800 microseconds for each piece of work, then 2400."""
    job = slow_job(tmp_path)
    reference = job.twin(tmp_path / "reference")
    reference.run(environment=clean_environment(LD_PRELOAD=str(CLOCK), CLOCK_STINT="800"))
    done = job.run(expect=DRIFT, environment=clean_environment(LD_PRELOAD=str(CLOCK), CLOCK_STINT="2400"))
    assert "batches have become slow" in done.last(), done
    job.check_acknowledged(reference.shards())
    assert computed(job) == batches(job)  # none of them is lost


# ---- a retry, and what strata check says

@pytest.mark.parametrize("after", [None, 1])
def test_retried_in_groups(tmp_path, after):
    """Problems that failed through a fault are computed again in sweeps: the shards are those of a resident retry."""
    names = ["p-00002", "p-00003", "p-00011", "p-00018", "p-00023", "p-00024", "p-00025"]

    def fail_and_retry(job, *arguments):
        job.__class__ = Faulty
        job.run_with_fault(names)
        while job.run("--retry-failed", *arguments, expect=None).code == STOPPED:
            assert arguments
        job.check_finished(30)
        return job.shards()

    job = Job(tmp_path / "resident", make_problems(30, steps=3), latents={"layers": [-2]})
    twin = streamed(job, tmp_path / "streamed", group=4)
    assert fail_and_retry(twin, *(["--stop-after", after] if after else [])) == fail_and_retry(job)


def test_check_says_what_streams(resident, tmp_path):
    job = streamed(resident, tmp_path, blocks=2, group=4)
    done = support.strata("check", job.file)
    assert done.code == 0 and "2 of 6 blocks stay, 4 come from their files for every 4 batches" in done.out, done
    job.change(model={"resident_blocks": 6})
    assert "blocks stay" not in support.strata("check", job.file).out


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
def test_check_counts_the_batches_of_all_devices(resident, tmp_path):
    """They compute a sweep together."""
    job = streamed(resident, tmp_path, blocks=2, group=2)
    for devices, batches in ((["cuda:0"], 2), (["cuda:0", "cuda:1"], 4)):
        job.change(model={"device": devices})
        done = support.strata("check", job.file, program=support.EMULATED, environment=clean_environment(CUDA_EMULATION_DEVICES="2"))
        assert f"2 of 6 blocks stay, 4 come from their files for every {batches} batches" in done.out, done
