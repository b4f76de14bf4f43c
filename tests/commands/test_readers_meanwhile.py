"""Every command that reads a run, and the Python reader, while the run commits: none calls it broken, each is of one moment."""
import itertools
import json
import shutil
import time

import numpy as np

from strata_reader import Run
from support import OK, Job, make_problems, read_latents, strata

PROBLEMS = 200


def consistent(told):
    problems = told["problems"]
    assert problems["done"] + problems["failed"] + problems["skipped"] + problems["remaining"] == problems["total"] == PROBLEMS
    assert told["finished"] == (problems["remaining"] == 0)
    assert told["shards"]["count"] <= told["batches"]["done"] <= told["batches"]["total"]
    assert told["refused"] is None and told["state"] in ("running", "ended")


def test_readers_of_a_run_that_goes_on(tmp_path):
    job = Job(tmp_path / "job", make_problems(PROBLEMS), batch={"problems": 1, "tokens": 128, "window": 16},
              run={"checkpoint_every": 1})
    runner = job.start()
    while not job.acknowledged() and runner.poll() is None:
        time.sleep(0.01)
    looks = dict.fromkeys(("status", "verify", "log", "show", "export", "python"), 0)
    seen = set()
    for number in itertools.count():
        look = list(looks)[number % len(looks)]
        at_work = runner.poll() is None
        if look == "status":
            done = strata("status", job.output, "--json")
            consistent(json.loads(done.out))
        elif look == "verify":
            done = strata("verify", job.output)
            seen.add(done.out)
            assert "FAULT" not in done.out
        elif look == "log":
            done = strata("log", job.output)
            assert done.out.splitlines()[-1].startswith(f"{len(done.out.splitlines()) - 2} batches, ")
        elif look == "show":
            done = strata("show", job.output, next(iter(job.problems())))
        elif look == "export":
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            done = strata("export", job.output, "--format", "npy", "--to", tmp_path / "out", "--layers", "0")
            told = json.loads((tmp_path / "out" / "export.json").read_text())
            assert told["complete"] == ("not complete" not in done.err), done
        else:
            with Run(job.output) as run:
                matrix, offset = run.latents(run.layers[0])
                assert len(offset) == len(run) + 1 and np.isfinite(matrix).all()
        assert done.code == OK, done
        looks[look] += at_work
        if not at_work and number % len(looks) == len(looks) - 1:
            break
    runner.communicate()
    assert runner.returncode == OK
    print(f"\nlooks while it ran: {looks}; verify saw {len(seen)} states")
    job.check_finished(PROBLEMS)
    assert len(Run(job.output)) == PROBLEMS == len(read_latents(job, ["hs_000"]))
