# SPDX-License-Identifier: MIT
"""Two or three runners started on one run directory at once: one works, the others go away, and the bytes are right."""
import pathlib
import random
import shutil
import signal
import time

import pytest
from support import OK, WRITE, Job, make_problems

import campaign

PROBLEMS = 400  # so many that the others come while the first is at work


@pytest.fixture(scope="module")
def reference():
    with campaign.memory_folder() as folder:
        job = Job(pathlib.Path(folder) / "reference", make_problems(PROBLEMS, steps=3), latents={"layers": [-2]},
                  run={"checkpoint_every": 20})
        job.run()
        yield job


def hold(job, runner):
    """Stops the runner once it has the run directory's lock; does nothing when it has ended by then."""
    while runner.poll() is None and not (job.output / "run.log").exists():
        time.sleep(0.0005)
    runner.send_signal(signal.SIGSTOP)


def test_double_starts(reference):
    rng, wanted = random.Random(8), campaign.attempts(8, 500)
    wrong, ends = [], {"worked": 0, "refused": 0}
    for number in range(wanted + 50):
        if number >= wanted and ends["refused"] > 0:  # more only where none of them met another yet
            break
        job = reference.twin(reference.folder.parent / f"start-{number}")
        runners = []
        for _ in range(rng.choice((2, 2, 3))):
            runners.append(job.start())
            time.sleep(rng.choice((0, 0, 0.002, 0.01)))
            if number % 4 == 0:
                hold(job, runners[0])  # where the others find it at work, however fast the machine is
        if number % 4 == 0:
            for runner in runners[1:]:
                runner.wait()
            runners[0].send_signal(signal.SIGCONT)
        results = [(runner.communicate()[1].decode(), runner.returncode) for runner in runners]
        try:
            assert {code for _, code in results} <= {OK, WRITE}, results
            assert all("another runner" in err and len(err.splitlines()) == 1 for err, code in results if code == WRITE), results
            assert OK in {code for _, code in results}, results
            job.check_finished(PROBLEMS, reference.shards())
            assert job.outcomes() == reference.outcomes(), "other outcomes"
        except AssertionError as fault:
            wrong.append(f"start {number}: {fault}")
        ends["worked"] += sum(code == OK for _, code in results)
        ends["refused"] += sum(code == WRITE for _, code in results)
        shutil.rmtree(job.folder)
    campaign.record("runners started at once", wrong, starts=number, **ends)
    assert ends["refused"] > 0  # or none of them met another
