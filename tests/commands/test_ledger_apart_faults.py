# SPDX-License-Identifier: MIT
"""Runs that keep their ledger on a local disk (run.ledger), on a file server that fails: kills and errors at calls, lies, full and
hanging servers. After any fault the same command goes on to the bytes of an undisturbed run, as in test_faults.py.
"""
import errno
import os
import re
import shutil
import signal
import subprocess

import pytest

import support
import test_faults as faults
from apart import STALL, apart, place, wait_for
from support import DATA, OK, STOPPED, WRITE, strata
from test_faults import CHANGING, PROBLEMS, reference  # noqa: F401 (a fixture)


def test_kill_at_every_call(reference, tmp_path):
    """Of a launch that begins, and of one that goes on with what another machine left."""
    def trial(number):
        job = apart(reference, tmp_path / str(number))
        if number % 2:
            apart(reference, tmp_path / str(number), "node-b", job.output).run("--stop-after", 3, expect=STOPPED)
        done, lines = faults.traced(job, CHANGING, "--kill", str(number))
        killed = done.code == 128 + 9
        fault = None if killed or (done.code == OK and len(lines) < number) else f"not killed: {done}"
        fault = fault or faults.check_after(job, reference)
        shutil.rmtree(tmp_path / str(number))
        return "killed" if killed else "finished before", fault and f"{lines[-1:]} {fault}"

    total = len(faults.traced(apart(reference, tmp_path), CHANGING)[1])
    counts, wrong = faults.sweep(trial, faults.points(total, 60))
    faults.record("SIGKILL at calls of a run with its ledger apart", wrong, counts, of=total)
    assert wrong == []
    assert counts["killed"] >= 40


@pytest.mark.parametrize("calls, number", [
    ("write,ftruncate", errno.ENOSPC), ("write,ftruncate", errno.EDQUOT), ("fsync", errno.EIO), ("fsync,openat", errno.ESTALE),
    ("openat,rename,unlink", errno.ETIMEDOUT), ("read,getdents64,statfs,flock", errno.ESTALE),
    ("read,pread64,getdents64", errno.EIO), ("pwrite64,fdatasync", errno.ENOSPC),
], ids=["full", "quota", "bad-sync", "stale", "silent", "stale-read", "bad-read", "full-here"])
def test_error_at_every_call(reference, tmp_path, calls, number):
    """A server's errors at every call, those on the local folder included: 73 with one line, and the same command goes on.
    No failed sync is tried again."""
    def trial(at):
        job = apart(reference, tmp_path / str(at))
        done, lines = faults.traced(job, calls, "--fail", f"{at}:{number}")
        where = next((line for line in lines if line.startswith(f"{at} ")), "not reached")
        fault = faults.judge_error(done)
        if fault is None and done.code not in (OK, WRITE, DATA):
            fault = f"exit code {done.code}: {done.err}"
        if fault is None and f"{job.output}/" in where and done.code not in (OK, WRITE):
            fault = f"the run directory's file system failed, and the exit code is {done.code}: {done.err}"
        words = where.split(" ")
        if fault is None and words[2:3] == ["fsync"] and done.code == WRITE:
            synced = [line for line in lines if line.split(" ")[2:4] == words[2:4]]
            again = [line for line in synced if int(line.split(" ")[0]) > at and words[3].endswith(".h5.tmp")]
            fault = f"synced again: {again}" if again else None
        fault = fault or faults.check_after(job, reference)
        shutil.rmtree(tmp_path / str(at))
        return done.code, fault and f"{where}: {fault}"

    total = len(faults.traced(apart(reference, tmp_path), calls)[1])
    counts, wrong = faults.sweep(trial, faults.points(total, 16))
    faults.record(f"{errno.errorcode[number]} at {calls}, ledger apart", wrong, counts, of=total)
    assert wrong == []
    assert total > 0


@pytest.mark.parametrize("number, words", [
    (errno.ENOSPC, "make room and run the same command again"), (errno.EDQUOT, "the quota is used up"),
    (errno.ESTALE, "the file server no longer knows it"), (errno.ETIMEDOUT, "the file server does not answer"),
    (errno.EIO, "the disk or the file server failed")])
def test_words_for_a_servers_errors(reference, tmp_path, number, words):
    job = apart(reference, tmp_path)
    done, _ = faults.traced(job, "fsync", "--only", "out/shards/part-000000.h5.tmp", "--fail", f"1:{number}")
    assert done.code == WRITE and words in done.last(), done
    assert faults.check_after(job, reference) is None


def test_a_copy_that_does_not_reach_the_run_directory(reference, tmp_path):
    """All is computed, and the last step fails: no success; the same command makes up for it."""
    job = apart(reference, tmp_path)
    done, _ = faults.traced(job, "fsync", "--only", "out/ledger.sqlite.tmp", "--fail", f"2:{errno.EIO}")
    assert done.code == WRITE and "was not copied to" in done.last()
    assert not place(job)["copied"]
    assert faults.check_after(job, reference) is None


def test_what_reads_back_otherwise_is_not_acknowledged(reference, tmp_path):
    """A server that says it has written, and has not."""
    job = apart(reference, tmp_path)
    done, _ = faults.traced(job, "write", "--lie", "write:out/shards/part-000000.h5.tmp")
    assert done.code == WRITE and "reads back other bytes than were written" in done.last(), done
    assert job.acknowledged() == {} and list((job.output / "shards").iterdir()) == []
    assert faults.check_after(job, reference) is None


def order_of_copies(lines, output):
    """Faults in the order of a shard's way: local sync, copy, its sync, reading it back, rename, sync of the folder, ledger."""
    wrong, state = [], {}
    for line in lines:
        _, _, name, path, *rest = line.split(" ")
        base = os.path.basename(path)
        if not re.fullmatch(r"part-\d{6}\.h5\.tmp", base):
            continue
        where = "there" if path.startswith(str(output)) else "here"
        if (where, name) == ("there", "openat") and state.get((base, "here")) != "fsync":
            wrong.append(f"{line}: copied before its sync")
        if (where, name) == ("there", "rename") and state.get((base, "there")) != "read":
            wrong.append(f"{line}: renamed before it was read back")
        if (where, name) == ("there", "read") and state.get((base, "there")) not in ("fsync", "read"):
            wrong.append(f"{line}: read back before its sync")
        if not (where == "here" and name == "read"):
            state[base, where] = name
    return wrong


def test_order_of_copies(reference, tmp_path):
    job = apart(reference, tmp_path)
    done, lines = faults.traced(job, CHANGING + ",read")
    assert done.code == OK and sum("rename" in line and "part-" in line for line in lines) == 2
    assert order_of_copies(lines, job.output) == []
    assert faults.order_faults(lines) == []


@pytest.mark.parametrize("lie", ["fsync:local/shards/part-000000.h5.tmp", "fsync:out/shards/part-000000.h5.tmp"])
def test_order_check_finds_planted_bugs(reference, tmp_path, lie):
    job = apart(reference, tmp_path)
    done, lines = faults.traced(job, CHANGING + ",read", "--lie", lie)
    assert done.code == OK
    assert order_of_copies(lines, job.output) != []


def test_full_servers(reference, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    ends = []
    for kilobytes in (24, 64, 96, 160):
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", disk], capture_output=True).returncode:
            pytest.skip("mounting needs root")
        try:
            job = apart(reference, tmp_path / str(kilobytes), output=disk / "out")
            done = job.run(expect=None)
            ends.append(done.code)
            assert done.code in (OK, WRITE) and (done.code == OK or re.search("make room| free; ", done.last())), done
            job.check_acknowledged(reference.shards())
            subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
            assert faults.check_after(job, reference) is None
        finally:
            subprocess.run(["umount", disk], check=True)
    assert WRITE in ends


def test_a_stop_while_the_last_copy_hangs(reference, tmp_path):
    """All is sealed, and the server does not give back the ledger's last copy: the process ends, and the same command goes on."""
    job = apart(reference, tmp_path)
    last = job.output / "shards" / "part-000001.h5"
    stall = support.clean_environment(LD_PRELOAD=str(STALL),
                                      STALL_PATH="out/ledger.sqlite.tmp", STALL_WHEN=str(last))
    started = job.start(environment=stall)
    wait_for(lambda: last.exists() and list(job.output.glob("ledger.sqlite*.tmp")), started)
    started.send_signal(signal.SIGTERM)
    try:
        _, said = started.communicate(timeout=100)
    finally:
        started.kill()
    assert started.returncode == STOPPED and b"does not answer: ending without" in said, said
    assert not place(job)["copied"] and len(job.acknowledged()) == 2
    job.run()
    job.check_finished(PROBLEMS, reference.shards())


def test_a_part_is_finished_for_all_before_the_view_is_written(reference, tmp_path):
    """Of two parts that end together on two machines, the later one sees both: each has its copy there when it looks."""
    job = apart(reference, tmp_path)
    job.run("--part", "0/2")
    done, lines = faults.traced(job, "openat,rename", arguments=("--part", "1/2"))
    assert done.code == OK
    told, = [at for at, line in enumerate(lines) if " rename " in line and "part-0001-of-0002/ledger.json" in line and str(job.output) in line][1:]
    view = [at for at, line in enumerate(lines) if "out/latents.h5." in line]
    assert view and told < view[0], lines[told:]


def test_parts_have_the_time_that_a_stop_takes(reference, tmp_path):
    """Neither shard nor ledger can be read back: the time for both is waited for, and no part is killed before."""
    job = apart(reference, tmp_path)
    job.run("--part", "0/2")
    opened = job.local / "part-0001-of-0002" / "shards" / "part-000000.h5.tmp"
    stall = support.clean_environment(LD_PRELOAD=str(STALL), STALL_PATH=".tmp",
                                      STALL_WHEN=str(opened))
    started = subprocess.Popen([*job.command("--parts", "2")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=stall)
    wait_for(opened.exists, started)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=100)
    assert started.returncode == STOPPED and "the time to stop is over" not in said, said
    job.run("--parts", "2")
    assert strata("verify", job.output).code == OK


def test_a_stop_while_the_server_hangs(reference, tmp_path):
    """A shard cannot be read back when the time of a stop is over: it is dropped. The ledger's copy is not, and another machine
    goes on."""
    job = apart(reference, tmp_path)
    stall = support.clean_environment(LD_PRELOAD=str(STALL), STALL_PATH="out/shards/part-000001.h5.tmp",
                                      STALL_WHEN=str(job.local / "shards" / "part-000001.h5.tmp"))
    started = job.start(environment=stall)
    wait_for(lambda: list(job.output.glob("shards/part-000001.h5.*.tmp")), started)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=100)
    assert started.returncode == STOPPED, said
    assert place(job)["copied"] and len(job.acknowledged()) == 1
    other = apart(reference, tmp_path, "node-b", job.output)
    other.run()
    other.check_finished(PROBLEMS, reference.shards())
