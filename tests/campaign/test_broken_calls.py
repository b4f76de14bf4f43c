# SPDX-License-Identifier: MIT
"""System calls that are interrupted (EINTR) or do a part of what they were asked (short reads and writes): neither is an error,
so the run must end well with the same bytes. Errors proper are swept by tests/commands/test_faults.py."""
import collections
import concurrent.futures
import errno
import pathlib
import shutil
import subprocess

import pytest
import support
from support import BUILD, OK, Job, make_problems

import campaign

AT_CALL = BUILD / "tests" / "commands_tool_at_call"
PROBLEMS = 12
CALLS = "read,pread64,write,pwrite64"
UNKNOWN_PROCESSOR = 126


@pytest.fixture(scope="module")
def reference():
    if subprocess.run([AT_CALL, "--calls", CALLS, "/bin/true"]).returncode == UNKNOWN_PROCESSOR:
        pytest.skip("at_call does not know this processor")
    with campaign.memory_folder() as folder:
        job = Job(pathlib.Path(folder) / "reference", make_problems(PROBLEMS, steps=3), latents={"layers": [-2]},
                  run={"checkpoint_every": 2})
        job.run()
        yield job


def traced(job, *options):
    trace = job.folder / "trace.txt"
    done = subprocess.run([AT_CALL, "--calls", CALLS, "--trace", trace, *options, *job.command()], capture_output=True,
                          timeout=120, env=support.clean_environment())
    return done, trace.read_text(errors="replace").splitlines()


@pytest.mark.parametrize("name, options", [
    ("EINTR", lambda at: ("--fail", f"{at}:{errno.EINTR}")),
    ("short reads and writes", lambda at: ("--short", str(at))),
])
def test_broken_calls(reference, name, options):
    total = len(traced(reference.twin(campaign.fresh(reference.folder.parent / "count")))[1])
    wanted = campaign.attempts(12, total)

    def trial(at):
        job = reference.twin(reference.folder.parent / f"{at}")
        done, lines = traced(job, *options(at))
        where = next((line for line in lines if line.startswith(f"{at} ")), "not reached")
        try:
            assert done.returncode == OK, f"exit code {done.returncode}: {done.stderr.decode()}"
            job.check_finished(PROBLEMS, reference.shards())
            assert job.outcomes() == reference.outcomes(), "other outcomes"
            return where, None
        except AssertionError as fault:
            return where, f"{where}: {fault}"
        finally:
            shutil.rmtree(job.folder)

    kinds, wrong = collections.Counter(), []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for where, fault in pool.map(trial, range(1, total + 1, max(1, total // wanted))):
            kinds[where.split()[2] if where[0].isdigit() else where] += 1
            wrong += [fault] if fault else []
    campaign.record(name, wrong, calls=sum(kinds.values()), of=total, **kinds)
    assert kinds["pwrite64"] > 0
