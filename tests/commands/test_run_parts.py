# SPDX-License-Identifier: MIT
"""All parts of a job on one machine (strata run --parts): the problems of a run without parts, whatever happens to the
processes; and which of them a person hears about."""
import contextlib
import copy
import fcntl
import os
import re
import shlex
import signal
import subprocess
import time

import numpy as np
import pytest

import support
from support import DATA, DEVICE, JOB, OK, STOPPED, USAGE, Job, make_problems, read_latents, strata

PROBLEMS, PARTS = 60, 4
HANGS = 240  # seconds


def parts(job, count=PARTS):
    """Each part as a job of its own, to look at."""
    found = []
    for number in range(count):
        part = copy.copy(job)
        part.output = job.output / f"part-{number:04d}-of-{count:04d}"
        found.append(part)
    return found


def latents(job):
    """id -> (rows, latents) of all parts together."""
    found = {}
    for part in parts(job):
        if part.has_ledger() and part.query("SELECT count(*) FROM problem") != [(0,)]:
            for key, values in read_latents(part).items():
                assert key not in found
                found[key] = values
    return found


def is_same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def check_finished(whole, job):
    """The problems of the run without parts, each once, under the same ordinals and with the same latents."""
    ordinals = {}
    for part in parts(job):
        ordinals.update(part.query("SELECT id, ordinal FROM problem"))
        assert strata("verify", part.output).code == OK
        assert part.query("SELECT exit_code FROM launch ORDER BY epoch DESC LIMIT 1") == [(OK,)]
    assert ordinals == dict(whole.query("SELECT id, ordinal FROM problem")) and len(ordinals) == PROBLEMS
    wanted, found = read_latents(whole), latents(job)
    assert wanted.keys() == found.keys() and all(is_same(wanted[key], found[key]) for key in wanted)


def exit_codes(job):
    return [code for part in parts(job) if part.has_ledger() for code, in part.query("SELECT exit_code FROM launch")]


def until(process, condition):
    """Waits until it holds; the process has to be there till then."""
    began = time.monotonic()
    while not condition():
        assert process.poll() is None and time.monotonic() - began < HANGS, process.communicate()
        time.sleep(0.02)


def children(process):
    """Processes of parts: number of the part -> process id."""
    found = {}
    for word in open(f"/proc/{process.pid}/task/{process.pid}/children").read().split():
        try:
            words = open(f"/proc/{word}/cmdline", "rb").read().decode().split("\0")
        except OSError:  # gone meanwhile
            continue
        if "--part" in words:
            found[int(words[words.index("--part") + 1].split("/")[0])] = int(word)
    return found


def started(job, *options, sealed=1):
    """In the background, at work: each running part has sealed so many shards."""
    process = job.start("--parts", PARTS, "--at-once", 2, *options)
    until(process, lambda: sum(len(part.acknowledged()) >= sealed for part in parts(job)) >= 2)
    return process


def ended(process):
    out, err = process.communicate(timeout=HANGS)
    return support.Result(process.returncode, out.decode(), err.decode())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("whole"), make_problems(PROBLEMS), run={"checkpoint_every": 1})
    job.run()
    return job


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Two parts at once are at work long enough to be interrupted."""
    job = Job(tmp_path_factory.mktemp("long"), make_problems(4000, seed=3), run={"checkpoint_every": 5})
    return job


@pytest.mark.parametrize("options", [[], ["--at-once", 2], ["--at-once", 9, "--threads", 2]])
def test_all_parts(whole, tmp_path, options):
    job = whole.twin(tmp_path)
    done = job.run("--parts", PARTS, *options)
    check_finished(whole, job)
    assert done.err == ""
    assert done.out.splitlines()[0] == f"{job.output}: 4 parts, 4 finished; 60 problems: 60 done, 0 failed, 0 skipped"
    assert exit_codes(job) == [OK] * PARTS
    again = job.run("--parts", PARTS, *options)  # finished parts compute nothing
    assert again.out == done.out
    check_finished(whole, job)


def test_one_part_and_more_than_rows(whole, tmp_path):
    one = whole.twin(tmp_path / "one")
    one.run("--parts", 1)
    assert read_latents(parts(one, 1)[0]).keys() == read_latents(whole).keys()
    few = whole.twin(tmp_path / "few")
    done = few.run("--parts", 9, "--at-once", 3, "--limit", 5)
    assert "9 parts, 9 finished; 5 problems: 5 done" in done.out


def test_each_part_is_told_what_all_are(whole, tmp_path):
    """A run of them is begun with the command's options, and known by them again."""
    job = whole.twin(tmp_path)
    job.run("--parts", PARTS, "--limit=20", "--threads", 2, "--output", tmp_path / "there")
    job.output = tmp_path / "there"
    job.run("--parts", PARTS, "--output", job.output, "--retry-failed=all", "--limit", 20)
    assert sum(part.query("SELECT count(*) FROM problem")[0][0] for part in parts(job)) == 20
    for part in parts(job):
        assert part.query("SELECT threads FROM launch ORDER BY epoch")[0] == (2,)
    refused = job.run("--parts", PARTS, "--output", job.output, expect=JOB)  # all rows
    assert "limit" in refused.err


def test_progress_of_all(whole, tmp_path):
    """Off a terminal a line every half minute, and one at the end."""
    job = whole.twin(tmp_path)
    command = [word for word in job.command("--parts", PARTS, "--at-once", 2) if word != "--quiet"]
    done = strata(*command[1:])
    assert done.code == OK
    assert re.search(r"^\S+Z running +\[#+\] 100.0 %  60/60 problems  4 of 4 parts finished, 0 running$", done.err, re.M), done


def test_a_refusal_of_several_lines(tmp_path):
    """What is told of a failed part is why it failed, not the last line of what to do."""
    job = Job(tmp_path, make_problems(12))
    job.run("--parts", 2)
    job.change(latents={"pooling": "mean"})
    done = job.run("--parts", 2, expect=JOB)
    told = [line for line in done.err.splitlines() if line.startswith("strata: part 0/2 failed with exit code 78: ")]
    assert len(told) == 1 and "a different identity (latents.pooling)" in told[0], done


def test_a_killed_part_starts_again(long, tmp_path):
    job = long.twin(tmp_path)
    process = started(job)
    number, child = sorted(children(process).items())[0]
    places = [os.sched_getaffinity(each) for each in children(process).values()]
    assert all(place and place <= os.sched_getaffinity(0) for place in places)
    assert len(places) < 2 or places[0] == places[1] or not places[0] & places[1]  # the same: there is one core
    os.kill(child, signal.SIGKILL)
    until(process, lambda: children(process).get(number, child) != child)
    process.send_signal(signal.SIGTERM)
    done = ended(process)
    assert done.code == STOPPED
    assert f"strata: part {number}/4 was killed by signal 9 (Killed); it starts again in 2 s (restart 1 of 3)" in done.err
    job.run("--parts", PARTS, "--at-once", 2)
    reference = long.twin(tmp_path / "reference")
    reference.run("--parts", PARTS, "--at-once", 2)
    for part, wanted in zip(parts(job), parts(reference)):
        assert part.shards() == wanted.shards() and part.outcomes() == wanted.outcomes()
        assert strata("verify", part.output).code == OK


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stop_reaches_each_part_once(long, tmp_path, name):
    job = long.twin(tmp_path)
    process = job.start("--parts", PARTS, "--at-once", 2, start_new_session=True)
    until(process, lambda: sum(bool(part.acknowledged()) for part in parts(job)) >= 2)
    os.killpg(process.pid, getattr(signal, name))  # as a terminal does it
    done = ended(process)
    assert done.code == STOPPED
    told = int(re.search(rf"^strata: {name}: stopping (\d) parts; computed batches are kept$", done.err, re.M)[1])
    assert done.last() == f"strata run: stopped by {name}; run the same command to resume"
    assert 1 <= exit_codes(job).count(STOPPED) <= told and set(exit_codes(job)) <= {OK, STOPPED}
    logs = "".join((part.output / "run.log").read_text() for part in parts(job) if part.output.exists())
    assert 1 <= logs.count("SIGHUP: stopping") <= told and not re.search("SIGHUP again|SIGINT|SIGTERM|at once", logs)


def test_a_stop_sent_to_all_processes_is_one(long, tmp_path):
    """Slurm and systemd tell each: a part that hears it twice keeps what it computed all the same."""
    job = long.twin(tmp_path)
    process = started(job)
    for each in [*children(process).values(), process.pid]:
        os.kill(each, signal.SIGTERM)
    assert ended(process).code == STOPPED
    assert STOPPED in exit_codes(job) and set(exit_codes(job)) <= {OK, STOPPED}
    assert "at once" not in "".join(path.read_text() for path in job.output.glob("part-*/run.log"))


def test_no_part_outlives_the_first_process(long, tmp_path):
    job = long.twin(tmp_path)
    process = started(job)
    left = list(children(process).values())
    process.kill()
    process.communicate()
    began = time.monotonic()
    while any(os.path.exists(f"/proc/{child}") for child in left):
        assert time.monotonic() - began < HANGS
        time.sleep(0.05)
    assert STOPPED in exit_codes(job) and set(exit_codes(job)) <= {OK, STOPPED}  # none was killed


def test_parts_that_are_left_are_waited_for(long, tmp_path):
    """A batch system starts the job again at once."""
    job = long.twin(tmp_path)
    process = started(job)
    process.kill()
    process.communicate()
    again = job.start("--parts", PARTS, "--at-once", 2)
    until(again, lambda: children(again))
    again.send_signal(signal.SIGTERM)
    assert ended(again).code == STOPPED


def test_a_stop_while_others_are_waited_for(whole, tmp_path):
    job = whole.twin(tmp_path)
    job.run("--parts", PARTS)
    with open(parts(job)[1].output / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = job.start("--parts", PARTS)
        assert process.stderr.readline() == b"strata: waiting for the end of parts that run already\n"
        process.send_signal(signal.SIGTERM)
        done = ended(process)
    assert done.code == STOPPED and done.last() == "strata run: stopped by SIGTERM; run the same command to resume"


def test_a_terminal_that_stands_still(long, tmp_path):
    """What nobody reads keeps neither the parts from starting again nor a stop from reaching them."""
    job = long.twin(tmp_path)
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writes, b"x" * 4096)
    os.set_blocking(writes, True)
    process = subprocess.Popen(job.command("--parts", PARTS, "--at-once", 2), stdout=subprocess.DEVNULL, stderr=writes,
                               env=support.clean_environment())
    os.close(writes)
    until(process, lambda: len(children(process)) == 2)
    number, child = sorted(children(process).items())[0]
    os.kill(child, signal.SIGKILL)
    until(process, lambda: children(process).get(number, child) != child)
    process.send_signal(signal.SIGTERM)
    until(process, lambda: not children(process))
    with open(reads, "rb") as pipe:
        said = pipe.read().decode()
    assert process.wait(timeout=HANGS) == STOPPED
    assert f"strata: part {number}/4 was killed by signal 9" in said and "strata: SIGTERM: stopping" in said


def test_a_failed_part_does_not_stop_the_others(tmp_path):
    problems = make_problems(PROBLEMS)
    for problem in problems[-2:]:
        problem["steps"] = ["x" * 5000]
    job = Job(tmp_path, problems, problems={"max_text_bytes": 4000})
    done = job.run("--parts", PARTS, "--at-once", 2, expect=DATA)
    failed = re.findall(r"^strata: part (\d)/4 failed with exit code 65: (.*)\n  again: (.*)$", done.err, re.M)
    assert failed and len(failed) < PARTS
    assert done.last() == f"strata run: {len(failed)} of 4 parts failed"
    assert f"4 parts, {PARTS - len(failed)} finished" in done.out
    assert sorted(exit_codes(job)) == [OK] * (PARTS - len(failed)) + [DATA] * len(failed)
    for number, line, command in failed:
        again = subprocess.run([job.program, *shlex.split(command)[1:]], capture_output=True, text=True, timeout=HANGS)
        assert again.returncode == DATA and again.stderr.strip().splitlines()[-1] == line


def test_what_no_part_can_do_is_tried_once(tmp_path):
    """The first one surveys for all; none of the others reads the problems again to find the same."""
    job = Job(tmp_path, make_problems(PROBLEMS), problems={"id": "topic"})
    done = job.run("--parts", PARTS, "--at-once", 2, expect=DATA)
    assert done.err.count("\n  again: ") == PARTS and done.last() == "strata run: 4 of 4 parts failed"
    assert "part 0/4 ended with exit code 65 and has failed" in done.err and "part 1/4 ended" not in done.err
    assert sum(part.output.exists() for part in parts(job)) <= 1


def test_another_set_or_a_run_is_there(whole, tmp_path):
    job = whole.twin(tmp_path)
    job.run("--parts", 2)
    done = job.run("--parts", 3, expect=JOB)
    assert len(done.said()) == 1 and "2 parts" in done.err
    before = whole.shards()
    done = whole.run("--parts", 2, expect=JOB)
    assert "part 0/2 ended with exit code 78 and has failed" in done.err and "part 1/2 ended" not in done.err
    assert "holds a run that is not divided into parts" in done.err and whole.shards() == before


def test_wrong_use(whole, tmp_path):
    job = whole.twin(tmp_path)
    for options, words in [(["--part", "0/2", "--parts", "2"], "--part is for one run, --parts for several"),
                           (["--stop-after", "3", "--parts", "2"], "--stop-after is for one run"),
                           (["--device", "cpu", "--parts", "2"], "--device is for one run"),
                           (["--at-once", "2"], "--at-once and --restarts belong to --parts"),
                           (["--restarts", "2"], "--at-once and --restarts belong to --parts"),
                           (["--parts", "0"], "--parts 0 is out of bounds")]:
        done = job.run(*options, expect=USAGE)
        assert words in done.err
    assert not job.output.exists()


def emulated(whole, folder, device):
    job = whole.twin(folder, model={"device": device})
    job.program = support.EMULATED
    return job


def gpus(count):
    return support.clean_environment(CUDA_EMULATION_PREFER="7", CUDA_EMULATION_DEVICES=str(count))


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
def test_one_part_a_gpu(whole, tmp_path):
    reference = emulated(whole, tmp_path / "reference", "cuda:0")
    reference.run(environment=gpus(1))
    job = emulated(whole, tmp_path, "cuda:all")
    job.run("--parts", PARTS, environment=gpus(3))
    check_finished(reference, job)


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
def test_a_gpu_that_is_not_there(whole, tmp_path):
    """The other one does its parts too; where none is left, each part is named."""
    job = emulated(whole, tmp_path / "one", ["cuda:0", "cuda:5"])
    done = job.run("--parts", PARTS, environment=gpus(1))
    assert "4 parts, 4 finished" in done.out
    job = emulated(whole, tmp_path / "none", ["cuda:4", "cuda:5"])
    done = job.run("--parts", PARTS, "--restarts", 0, environment=gpus(1), expect=DEVICE)
    assert "strata: cuda:4 takes no more parts: it failed 2 in a row (exit code 69)" in done.err
    assert done.last() == "strata run: 4 of 4 parts failed"
    job = emulated(whole, tmp_path / "all", "cuda:all")
    done = job.run("--parts", PARTS, environment=gpus(0), expect=DEVICE)
    assert done.last().startswith("strata run: model.device: cuda:all: ")
