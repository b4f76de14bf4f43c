# SPDX-License-Identifier: MIT
"""SIGKILL at random moments of a run and of the resumes that follow, until the run is through; then the same again."""
import pathlib
import random
import shutil
import subprocess
import time

import pytest
import support
from support import OK, Job, make_problems

import campaign

PROBLEMS = 60
MOST = 12  # kills of one run: whole runs are what is to come out


GPUS = support.clean_environment(CUDA_EMULATION_DEVICES="3", CUDA_EMULATION_PREFER="7")


def run_whole(folder, program=support.STRATA, environment=None, **sections):
    job = Job(folder, make_problems(PROBLEMS, steps=3), latents={"layers": [-2]}, run={"checkpoint_every": 1}, **sections)
    job.program, job.environment = program, environment or support.clean_environment()
    begin = time.monotonic()
    job.run(environment=job.environment)
    job.seconds = time.monotonic() - begin
    return job


@pytest.fixture(scope="module")
def reference():
    with campaign.memory_folder() as folder:
        yield run_whole(pathlib.Path(folder) / "reference")


@pytest.fixture(scope="module")
def gpu_reference():
    if not support.EMULATED.exists():
        pytest.skip("built without the emulation of CUDA")
    with campaign.memory_folder() as folder:
        yield run_whole(pathlib.Path(folder) / "reference", support.EMULATED, GPUS, model={"device": "cuda:0"})


def killed_once(job, rng, seconds, devices, environment):
    """Whether the launch was killed, not finished, within a random part of the time that a whole run takes."""
    if devices:  # another number at every launch
        job.change(model={"device": [f"cuda:{number}" for number in range(rng.randint(1, devices))]})
    process = job.start("--threads", str(rng.choice((1, 1, 2))), environment=environment)
    try:
        process.communicate(timeout=rng.uniform(0, seconds))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode == -9


def series(reference, folder, rng, wanted, placement, devices):
    """One run, killed until it ends by itself or MOST times, `wanted` at most: (kills, what was wrong)."""
    job, kills, shards = reference.twin(folder, **placement), 0, reference.shards()
    try:
        while kills < min(MOST, wanted) and killed_once(job, rng, reference.seconds, devices, reference.environment):
            kills += 1
            job.check_acknowledged(shards)
        again = job.run(expect=None, environment=reference.environment)
        assert again.code == OK, again
        job.check_finished(PROBLEMS, shards)
        assert job.outcomes() == reference.outcomes(), "other outcomes"
        return kills, None
    except AssertionError as wrong:
        return kills, f"after {kills} kills: {wrong}"
    finally:
        shutil.rmtree(job.folder, ignore_errors=True)


def check_series(reference, name, placement, devices=0):
    rng, wanted = random.Random(7), campaign.attempts(25, 3000)
    kills = runs = 0
    wrong = []
    while kills < wanted and runs < 20 * wanted:
        folder = reference.folder.parent / f"series-{runs}"
        some, fault = series(reference, folder, rng, wanted - kills, placement, devices)
        kills, runs = kills + some, runs + 1
        wrong += [fault] if fault else []
    campaign.record(f"SIGKILL at random moments{name}", wrong, kills=kills, runs=runs)
    assert kills == wanted


@pytest.mark.parametrize("placement", [
    pytest.param({}, id="resident"),
    pytest.param({"model": {"weights": "disk", "resident_blocks": 0}, "batch": {"group": 3}}, id="streamed"),
])
def test_random_kills(reference, placement):
    check_series(reference, " of sweeps" if placement else "", placement)


def test_random_kills_of_several_devices(gpu_reference):
    check_series(gpu_reference, " on one to three GPUs", {}, devices=3)


def test_a_planted_loss_is_seen(reference):
    """The same check on a run that lost a shard after the ledger had it."""
    job = reference.twin(reference.folder.parent / "planted")
    job.run("--stop-after", "5", expect=75)
    victim = sorted((job.output / "shards").glob("part-??????.h5"))[1]
    victim.unlink()
    with pytest.raises(AssertionError, match="acknowledged, but missing or changed"):
        job.check_acknowledged(reference.shards())
