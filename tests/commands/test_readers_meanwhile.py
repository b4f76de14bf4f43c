# SPDX-License-Identifier: MIT
"""Every command that reads a run, and the Python reader, while the run commits: none calls it broken, each is of one moment."""
import itertools
import json
import shutil
import signal
import time

import numpy as np

from strata_reader import Run
from support import OK, STOPPED, Job, make_problems, read_latents, strata

PROBLEMS = 120


def consistent(told):
    problems = told["problems"]
    assert problems["done"] + problems["failed"] + problems["skipped"] + problems["remaining"] == problems["total"] == PROBLEMS
    assert told["finished"] == (problems["remaining"] == 0)
    assert told["shards"]["count"] <= told["batches"]["done"] <= told["batches"]["total"]
    assert told["refused"] is None and told["state"] in ("running", "ended")


def test_readers_of_a_run_that_goes_on(tmp_path):
    """The run is held between the looks and works during them, so that it cannot end before anybody looked."""
    job = Job(tmp_path / "job", make_problems(PROBLEMS), batch={"problems": 1, "tokens": 128, "window": 16},
              run={"checkpoint_every": 1})
    runner = job.start()
    while not (job.output / "shards" / "part-000001.h5").exists():  # the one before it is acknowledged by then
        assert runner.poll() is None
        runner.send_signal(signal.SIGCONT)
        time.sleep(0.005)
        runner.send_signal(signal.SIGSTOP)
    looks = dict.fromkeys(("status", "verify", "log", "show", "export", "python"), 0)
    seen = set()
    for number in itertools.count():
        look = list(looks)[number % len(looks)]
        at_work = runner.poll() is None
        runner.send_signal(signal.SIGCONT)  # nothing when it has ended
        if look == "status":
            done = strata("status", job.output, "--json")
            consistent(json.loads(done.out))
        elif look == "verify":
            done = strata("verify", job.output)
            seen.add(done.out)
            assert "FAULT" not in done.out
        elif look == "log":
            done = strata("log", job.output)
            lines = done.out.splitlines()
            last = next(place for place, line in enumerate(lines) if " batches, " in line)  # behind the heading and the batches
            assert lines[last].startswith(f"{last - 1} batches, ")
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
        runner.send_signal(signal.SIGSTOP)
        looks[look] += at_work
        if not at_work and number % len(looks) == len(looks) - 1:
            break
    runner.communicate()
    assert runner.returncode == OK
    print(f"\nlooks while it ran: {looks}; verify saw {len(seen)} states")
    job.check_finished(PROBLEMS)
    assert len(Run(job.output)) == PROBLEMS == len(read_latents(job, ["hs_000"]))
    assert looks["status"] > 0


def test_a_killed_run_is_sound(tmp_path):
    """What a crash leaves unacknowledged is a note until the next launch removes it."""
    job = Job(tmp_path / "job", make_problems(PROBLEMS), batch={"problems": 1, "tokens": 128, "window": 16},
              run={"checkpoint_every": 4})
    notes = set()
    for _ in range(20):
        runner, sealed = job.start(), len(job.acknowledged())
        while len(job.acknowledged()) < sealed + 2 and runner.poll() is None:
            pass
        runner.kill()
        runner.communicate()
        done = strata("verify", job.output)
        assert done.code == OK and "FAULT" not in done.out, done
        notes |= {line.split(": ", 1)[1] for line in done.out.splitlines() if line.startswith("NOTE ")}
        assert strata("status", job.output).code == OK
        if json.loads(strata("status", job.output, "--json").out)["finished"]:
            break
    assert notes <= {"not acknowledged: a run that was stopped short left it, and the next launch removes it"}
    job.run()
    job.check_finished(PROBLEMS)
    assert "NOTE" not in strata("verify", job.output).out


def test_leftovers_of_every_kind_are_notes(tmp_path):
    job = Job(tmp_path / "job", make_problems(20))
    job.run("--stop-after", 4, expect=STOPPED)
    shards = job.output / "shards"
    for name in ("part-000001.h5.tmp", "part-000001.h5", "part-000000.partial.h5", "part-000000.h5.tmp", "part-000009.partial.h5.tmp"):
        (shards / name).write_bytes(b"half of it")
    (job.output / "latents.h5.tmp").write_bytes(b"half")
    (shards / "of somebody else").write_text("")
    next(shards.glob("part-000001.partial.h5")).unlink()
    done = strata("verify", job.output)
    assert done.code == OK and done.out.count("NOTE ") == 7 and done.out.endswith("0 faults, 7 notes\n"), done
    job.run()
    (shards / "of somebody else").unlink()
    job.check_finished(20)
