# SPDX-License-Identifier: MIT
"""Faults at every system call of a small run: kills, I/O errors, full disks, the order of syncs; and planted bugs, since
a sweep that cannot find a bug shows nothing.

After any fault: every acknowledged shard is there with the bytes of an undisturbed run, the error is one clear line and
a documented exit code, and the same command goes on to the same bytes with no problem twice or missing.

By default the sweeps take every nth call so that they end within minutes; STRATA_FULL_SWEEP=1 takes them all.
"""
import collections
import concurrent.futures
import errno
import itertools
import os
import re
import shutil
import subprocess

import pytest

import campaign
import support
from support import BUILD, DATA, INTERNAL, OK, WRITE, Job, make_problems

AT_CALL = BUILD / "tests" / "commands_tool_at_call"
FULL = os.environ.get("STRATA_FULL_SWEEP") == "1"
PROBLEMS = 12
# A kill on entry of any other call finds the disk as the next of these finds it.
CHANGING = "openat,write,pwrite64,fsync,fdatasync,ftruncate,rename,unlink,mkdir"
UNKNOWN_PROCESSOR = 126


def small_job(folder):
    return Job(folder, make_problems(PROBLEMS, steps=3), latents={"layers": [-2]}, run={"checkpoint_every": 2})


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    job = small_job(tmp_path_factory.mktemp("reference"))
    if subprocess.run([AT_CALL, "--calls", CHANGING, "/bin/true"]).returncode == UNKNOWN_PROCESSOR:
        pytest.skip("at_call does not know this processor")
    job.run()
    assert len(job.shards()) == 2
    return job


def traced(job, calls, *options, arguments=()):
    """Runs the job under at_call; returns its Result and the trace's lines."""
    trace = job.folder / "trace.txt"
    trace.unlink(missing_ok=True)
    command = [AT_CALL, "--calls", calls, "--trace", trace, *options, *job.command(*arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120, env=support.clean_environment())
    lines = trace.read_text(errors="replace").splitlines() if trace.exists() else []
    return support.Result(done.returncode, done.stdout.decode(), done.stderr.decode()), lines


def count_calls(reference, folder, calls, *options):
    """Of an undisturbed run; none would be a sweep of nothing."""
    done, lines = traced(reference.twin(folder), calls, *options)
    assert done.code == OK and lines, done
    return len(lines)


def check_after(job, reference):
    """None, or what is wrong after a fault and the resume that follows it."""
    try:
        job.check_acknowledged(reference.shards())
        again = job.run(expect=None)
        assert again.code == OK, f"the resume failed: {again}"
        job.check_finished(PROBLEMS, reference.shards())
        assert job.outcomes() == reference.outcomes(), "other outcomes"
    except AssertionError as wrong:
        return str(wrong)
    return None


def points(total, about):
    """Every call, or about so many of them, the last ones included."""
    return range(1, total + 1, 1 if FULL else max(1, total // about))


def sweep(trial, numbers):
    """Two trials at a time; returns the counted outcomes and the violations."""
    counts, wrong = collections.Counter(), []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number, (outcome, fault) in zip(numbers, pool.map(trial, numbers)):
            counts[outcome] += 1
            wrong += [f"call {number}: {fault}"] if fault else []
    return counts, wrong


def record(attack, wrong, counts, **more):
    """The counts of tools/campaign.sh."""
    ends = {f"exit {name}" if isinstance(name, int) else name: many for name, many in counts.items()}
    campaign.record(attack, wrong, **more, **ends)


# ---- kills

def test_kill_at_every_call(reference, tmp_path):
    def trial(number):
        job = reference.twin(tmp_path / str(number))
        done, lines = traced(job, CHANGING, "--kill", str(number))
        killed = done.code == 128 + 9
        before = len(lines) < number  # the call that it is killed at leaves no line
        fault = None if killed or (done.code == OK and before) else f"not killed: {done}"
        fault = fault or check_after(job, reference)
        shutil.rmtree(job.folder)
        return "killed" if killed else "finished before", fault and f"{lines[-1:]} {fault}"

    total = count_calls(reference, tmp_path / "count", CHANGING)
    counts, wrong = sweep(trial, points(total, 60))
    record("SIGKILL at calls of a run", wrong, counts, of=total)
    assert wrong == []
    assert counts["killed"] >= 50


def test_kill_at_calls_of_a_resume(reference, tmp_path):
    """The launch that restores a partial shard is killed, at calls all over it."""
    def trial(number):
        job = reference.twin(tmp_path / str(number))
        job.run("--stop-after", 3, expect=support.STOPPED)
        done, lines = traced(job, CHANGING, "--kill", str(number))
        before = len(lines) < number  # the call that it is killed at leaves no line
        fault = check_after(job, reference) if done.code == 128 + 9 or (done.code == OK and before) else f"not killed: {done}"
        shutil.rmtree(job.folder)
        return done.code, fault and f"{lines[-1:]} {fault}"

    stopped = reference.twin(tmp_path / "count")
    stopped.run("--stop-after", 3, expect=support.STOPPED)
    total = len(traced(stopped, CHANGING)[1])
    counts, wrong = sweep(trial, points(total, 25))
    record("SIGKILL at calls of a resume", wrong, counts, of=total)
    assert wrong == []
    assert counts[128 + 9] >= 20


# ---- errors

# Errors that need not end a run: on files that it does without and on its output; the sync of the run's folder after SQLite
# made its journal, whose result SQLite 3.40 does not look at (the one after the journal's removal it does); and HDF5 asks
# whether a file is there before it makes it.
SPARED = re.compile(r"\S+ (\S+/out/(lock|run\.log|throughput\.csv|latents\.h5(\.tmp)?)|pipe:\S+) |fdatasync \S+/out |openat \S+\.h5\.tmp ")


def overlooked(where, done):
    """Whether a change of the disk failed and the run ended well all the same: only the bytes of shards, which an error that
    was made up leaves whole, would never tell. The last record of a launch comes when everything is safe."""
    return (done.code == OK and where != "not reached" and not SPARED.match(where.split(" ", 2)[2])
            and "the end of this launch was not recorded" not in done.err)


def judge_error(done):
    """An end is either success (the error did not matter) or one clear line with a documented code."""
    if done.code == OK:
        return None
    if done.code not in (WRITE, DATA, INTERNAL):
        return f"exit code {done.code}: {done.err}"
    if len(done.said()) != 1 or not done.said()[0].startswith("strata run: "):
        return f"not one clear line: {done.err!r}"
    return None


@pytest.mark.parametrize("calls, number, about, allowed", [
    ("pwrite64,write,ftruncate", errno.ENOSPC, 20, {OK, WRITE}),
    ("pwrite64,write,ftruncate", errno.EIO, 20, {OK, WRITE}),
    ("fsync,fdatasync", errno.EIO, 30, {OK, WRITE}),
    ("openat,rename,unlink", errno.EIO, 20, {OK, WRITE, DATA}),
    ("openat,rename,unlink", errno.ENOSPC, 20, {OK, WRITE, DATA}),
    ("read,pread64,getdents64,statfs,mmap,flock", errno.EIO, 20, {OK, WRITE, DATA, INTERNAL}),
], ids=["full-write", "bad-write", "bad-sync", "bad-names", "full-names", "bad-read"])
def test_error_at_every_call(reference, tmp_path, calls, number, about, allowed):
    def trial(at):
        job = reference.twin(tmp_path / str(at))
        done, lines = traced(job, calls, "--fail", f"{at}:{number}")
        where = next((line for line in lines if line.startswith(f"{at} ")), "not reached")
        fault = judge_error(done)
        if fault is None and done.code not in allowed:
            fault = f"exit code {done.code}: {done.err}"
        if fault is None and "read" not in calls and overlooked(where, done):
            fault = f"an error was overlooked: {done}"
        reached.append(where != "not reached")
        fault = fault or check_after(job, reference)
        shutil.rmtree(job.folder)
        return done.code, fault and f"{where}: {fault}"

    reached = []
    total = count_calls(reference, tmp_path / "count", calls)
    counts, wrong = sweep(trial, points(total, about))
    record(f"{errno.errorcode[number]} at {calls}", wrong, counts, of=total)
    assert wrong == []
    assert sum(reached) > len(reached) // 2


@pytest.mark.parametrize("name, code, words", [("part-000000.h5.tmp", WRITE, "shard 0"), ("latents.h5.tmp", OK, "latents.h5")])
def test_errors_inside_hdf5(reference, tmp_path, name, code, words):
    """After an error the library's state is not to be trusted, and no crash may follow. The view is only for
    convenience: without it the run is complete all the same."""
    def trial(at):
        job = reference.twin(tmp_path / str(at))
        done, _ = traced(job, "pwrite64,write,ftruncate", "--only", name, "--fail", f"{at}:{errno.ENOSPC}")
        fault = None if done.code == code else f"exit code {done.code}: {done.err}"
        if fault is None and words not in done.err:
            fault = f"not named: {done.err!r}"
        fault = fault or check_after(job, reference)
        shutil.rmtree(job.folder)
        return done.code, fault

    total = count_calls(reference, tmp_path / "count", "pwrite64,write,ftruncate", "--only", name)
    counts, wrong = sweep(trial, points(total, 8))
    record(f"ENOSPC inside HDF5, {name}", wrong, counts, of=total)
    assert wrong == []


def test_failed_close_inside_hdf5(reference, tmp_path):
    """A shard that latents.h5 is made of is closed with an error: what HDF5 would clean up at the end is half gone."""
    def trial(at):
        job = reference.twin(tmp_path / str(at))
        done, _ = traced(job, "close", "--only", "part-000000.h5", "--fail", f"{at}:{errno.EIO}")
        fault = None if done.code == OK else f"exit code {done.code}: {done.err}"
        fault = fault or check_after(job, reference)
        shutil.rmtree(job.folder)
        return done.code, fault

    total = count_calls(reference, tmp_path / "count", "close", "--only", "part-000000.h5")
    counts, wrong = sweep(trial, points(total, 8))
    record("failed close of a shard", wrong, counts, of=total)
    assert wrong == []
    assert counts[OK] >= 1


def test_failed_sync_of_a_shard_is_final(reference, tmp_path):
    """The sync of a shard's file fails once: the run ends, and does not try again."""
    job = reference.twin(tmp_path)
    _, lines = traced(reference.twin(tmp_path / "count"), "fsync")
    at = next(line.split()[0] for line in lines if ".h5.tmp" in line)
    done, lines = traced(job, "fsync", "--fail", f"{at}:{errno.EIO}")
    assert done.code == WRITE and "part-000000.h5.tmp" in done.last(), done
    assert [line.split()[0] for line in lines if "part-000000.h5" in line] == [at]
    assert job.acknowledged() == {}
    assert check_after(job, reference) is None


def test_failed_sync_of_the_ledger_ends_the_run(reference, tmp_path):
    """Whatever was being recorded: nothing is acknowledged after it. Only the last record, of how the launch ended,
    comes when everything is safe."""
    def trial(at):
        job = reference.twin(tmp_path / str(at))
        done, lines = traced(job, "fdatasync", "--only", "ledger.sqlite", "--fail", f"{at}:{errno.EIO}")
        failed.append(any(int(line.split()[-1]) < 0 for line in lines))
        over = "the end of this launch was not recorded" in done.err or not failed[-1]
        fault = None if done.code == (OK if over else WRITE) else f"exit code {done.code}: {done.err}"
        fault = fault or check_after(job, reference)
        shutil.rmtree(job.folder)
        return done.code, fault

    failed = []  # heartbeats come and go with time: a launch may have a sync less than the one that was counted
    total = count_calls(reference, tmp_path / "count", "fdatasync", "--only", "ledger.sqlite")
    counts, wrong = sweep(trial, range(1, total + 1))
    record("failed syncs of the ledger", wrong, counts, of=total, failed=sum(failed))
    assert wrong == []
    assert sum(failed) >= total // 2 and counts[WRITE] >= total // 2


# ---- the order of syncs

def order_faults(lines):
    """Renames of files with unsynced bytes, and ledger writes over an unsynced folder by the thread that renamed (another
    may record progress meanwhile, which acknowledges nothing)."""
    dirty, renamer, faults = set(), None, []
    for line in lines:
        _, thread, name, *rest = line.split()
        path = rest[0] if rest else ""
        if int(rest[-1]) < 0:
            continue
        base = os.path.basename(path)
        if name in ("pwrite64", "write", "ftruncate") and base.endswith((".h5.tmp", ".yaml.tmp")):
            dirty.add(base)
        elif name in ("fsync", "fdatasync"):
            dirty.discard(base)
            renamer = None if base == "shards" else renamer
        elif name == "rename":
            faults += [f"{line}: renamed before its sync"] if base in dirty else []
            renamer = thread if base.startswith("part-") else renamer
        elif name == "pwrite64" and base == "ledger.sqlite" and thread == renamer:
            faults.append(f"{line}: the ledger is written before the sync of shards/")
            renamer = None
    return faults


def test_order_of_syncs(reference, tmp_path):
    done, lines = traced(reference.twin(tmp_path), CHANGING)
    assert done.code == OK and sum("rename" in line and "part-" in line for line in lines) == 2
    assert order_faults(lines) == []


@pytest.mark.parametrize("lie", ["fsync:part-000000.h5.tmp", "fsync:shards"])
def test_order_check_finds_planted_bugs(reference, tmp_path, lie):
    """The same check sees a sync that never reaches the kernel."""
    done, lines = traced(reference.twin(tmp_path), CHANGING, "--lie", lie)
    assert done.code == OK
    assert order_faults(lines) != []


def test_sweep_finds_planted_bugs(reference, tmp_path):
    """A rename that never happened is an acknowledged shard that is not there."""
    job = reference.twin(tmp_path)
    done, _ = traced(job, CHANGING, "--lie", "rename:part-000001.h5.tmp")
    assert done.code == OK
    assert "missing or changed" in check_after(job, reference)


# ---- full disks

def test_full_disks(reference, tmp_path):
    """Small tmpfs disks: whatever fits is kept, and more room lets the run end."""
    disk = tmp_path / "disk"
    disk.mkdir()
    counts = collections.Counter()
    for kilobytes in itertools.chain(range(16, 200, 24), (256, 320, 400, 8000)):
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", disk], capture_output=True).returncode:
            pytest.skip("mounting needs root")
        try:
            job = reference.twin(tmp_path / "job", run={"output": str(disk / "out")})
            job.output = disk / "out"
            done = job.run(expect=None)
            assert done.code in (OK, WRITE), done  # what fits depends on the file system; both are counted
            assert judge_error(done) is None
            counts[done.code] += 1
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            assert check_after(job, reference) is None
        finally:
            subprocess.run(["umount", disk], check=True)
    record("full disks", [], counts)
    assert counts[WRITE] >= 3 and counts[OK] >= 1


def test_too_small_a_disk_is_refused_before_the_first_batch(reference, tmp_path):
    job = reference.twin(tmp_path, run={"disk_reserve_gb": 1e6})
    done = job.run(expect=WRITE)
    assert re.search(r" need \d+\.\d\d kB and run\.disk_reserve_gb keeps 1000000\.00 GB$", done.last()), done
    assert job.query("SELECT count(*) FROM batch") == [(0,)]
