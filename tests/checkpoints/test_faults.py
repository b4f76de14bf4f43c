# SPDX-License-Identifier: MIT
"""Faults at every system call of a small run (tool_commit): kills, errors, full disks, the order of syncs; and planted
bugs, since a sweep that cannot find a bug shows nothing.

What must hold after any fault: every acknowledged shard is in the ledger and its bytes are those of an undisturbed run;
a reader sees at least what was acknowledged; the next start goes on to the same bytes, no problem twice or missing.
"""

import collections
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

import campaign
import pytest

TOOLS = pathlib.Path(os.environ["STRATA_BUILD"]) / "tests"
COMMIT = str(TOOLS / "checkpoints_tool_commit")
VERIFY = str(TOOLS / "checkpoints_tool_verify")
SHARDS = 2
EXIT_CODES = {0, 65, 70, 73}  # documented ends of a run that met an error

os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0")  # the leak check cannot run under strace

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def memory():
    """A folder in memory where there is one: the sweeps wait for the disk otherwise, and a kill does not see the disk."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as folder:
        yield pathlib.Path(folder)


@pytest.fixture
def place(memory, request):
    folder = memory / re.sub(r"\W", "_", request.node.name)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def shard_hashes(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((folder / "shards").glob("*.h5"))}


@pytest.fixture(scope="module")
def reference(memory):
    folder = memory / "reference"
    subprocess.run([COMMIT, folder, str(SHARDS)], check=True, capture_output=True)
    hashes = shard_hashes(folder)
    assert len(hashes) == SHARDS
    return hashes


def done_shards(folder):
    """Shards that a reader sees as acknowledged, None when there is no ledger yet."""
    seen = subprocess.run([VERIFY, folder, "status"], capture_output=True, text=True)
    if seen.returncode == 65:
        return None
    assert seen.returncode == 0, seen.stderr
    return int(seen.stdout.split()[3])


def violations(folder, acknowledged, reference):
    """What is wrong with a run directory straight after a fault."""
    found = []
    shards = done_shards(folder)
    if acknowledged and (shards is None or shards <= max(acknowledged)):
        found.append(f"acknowledged shard lost: reader sees {shards} of {acknowledged}")
    present = shard_hashes(folder) if (folder / "shards").is_dir() else {}
    for number in range(shards or 0):
        name = f"part-{number:06d}.h5"
        if name not in present:
            found.append(f"{name} is in the ledger and missing")
        elif present[name] != reference[name]:
            found.append(f"{name} has other bytes")
    return found


def after_resume(folder, reference, arguments=()):
    """What is wrong once the same command was given again."""
    again = subprocess.run([COMMIT, folder, str(SHARDS), *arguments], capture_output=True, text=True)
    if again.returncode != 0:
        return [f"resume ends with {again.returncode}: {again.stderr.strip()}"]
    found = [] if shard_hashes(folder) == reference else ["other shards after the resume"]
    check = subprocess.run([VERIFY, folder], capture_output=True, text=True)
    if check.returncode != 0:
        found.append(f"verify: {check.stdout.strip()} {check.stderr.strip()}")
    return found


def run_with(folder, options, arguments=(), environment=None):
    trace = folder.parent / "trace.log"
    ended = subprocess.run(
        ["strace", "-f", "-y", "-o", trace, *options, COMMIT, folder, str(SHARDS), *arguments],
        capture_output=True, text=True, env=environment,
    )
    acknowledged = [int(line) for line in ended.stdout.split("\n")[:-1]]
    return ended, acknowledged, trace.read_text(errors="replace")


def injected_line(trace):
    return next(line for line in trace.split("\n") if "INJECTED" in line)


def may_be_overlooked(trace, folder):
    """Two errors end no run: the holder's name in the lock file, which is for people; and the sync of the run's folder after
    SQLite made its journal, whose result SQLite 3.40 does not look at (the one after the journal's removal it does)."""
    line = injected_line(trace)
    following = trace.split(line, 1)[1]
    journal_sync = "fdatasync(" in line and f"<{folder}>" in line
    return "/lock>" in line or (journal_sync and "ledger.sqlite" in following)


def sweep(place, reference, call, injection, arguments=(), prepare=None):
    """Injects at the 1st, 2nd ... call of a kind until one is not reached. Counts trials, kills, and lists violations."""
    counts = collections.Counter()
    found = []
    folder = place / "run"
    for when in range(1, 2000):
        shutil.rmtree(folder, ignore_errors=True)
        if prepare:
            prepare(folder)
        ended, acknowledged, trace = run_with(
            folder, ["-e", f"trace={call}", "-e", f"inject={call}:{injection}:when={when}"], arguments
        )
        if "INJECTED" not in trace and "killed by SIGKILL" not in trace:
            return counts, found
        counts["trials"] += 1
        counts[f"exit {ended.returncode}"] += 1
        wrong = []
        if "SIGKILL" not in injection:
            if ended.returncode not in EXIT_CODES:
                wrong.append(f"exit code {ended.returncode}: {ended.stderr.strip()}")
            elif ended.returncode != 0 and not re.fullmatch(r"tool_commit: [^\n]+\n", ended.stderr):
                wrong.append(f"not one clear line: {ended.stderr!r}")
            elif ended.returncode == 0 and len(acknowledged) != SHARDS:
                wrong.append(f"success with {acknowledged} acknowledged")
            elif ended.returncode == 0 and not may_be_overlooked(trace, folder):
                wrong.append(f"an error was overlooked: {injected_line(trace)}")
        wrong += violations(folder, acknowledged, reference)
        wrong += after_resume(folder, reference, arguments if "commit-before-rename" in arguments else ())
        found += [f"{call}:{injection} at {when}: {text}" for text in wrong]
    raise AssertionError("the sweep does not end")


# Calls that change what is on disk, or decide what to do about it. Libraries are loaded through openat and mmap too, which
# costs a few hundred trials of no interest: those of openat are swept for errors only.
KILLS = ["write", "pwrite64", "ftruncate", "fsync", "fdatasync", "rename", "unlink", "mkdir", "flock", "getdents64"]
ERRORS = ["write", "pwrite64", "ftruncate", "fsync", "fdatasync", "rename", "unlink", "mkdir"]


def report(name, counts, found):
    campaign.record(name, found, **counts)
    assert counts["trials"] > 0


@pytest.mark.parametrize("call", KILLS)
def test_kill_at_every_call(place, reference, call):
    counts, found = sweep(place, reference, call, "signal=SIGKILL")
    report(f"kill at {call}", counts, found)


@pytest.mark.parametrize("call", ERRORS)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_error_at_every_call(place, reference, call, error):
    counts, found = sweep(place, reference, call, f"error={error}")
    report(f"{error} at {call}", counts, found)


def stopped_before(place):
    """A run directory as a clean stop within the second shard leaves it, copied for each trial."""
    source = place / "stopped"
    ended = subprocess.run([COMMIT, source, str(SHARDS), "partial"], capture_output=True)
    assert ended.returncode == 75
    return lambda folder: shutil.copytree(source, folder)


@pytest.mark.parametrize("call", ["pwrite64", "fsync", "fdatasync", "rename", "unlink"])
def test_kill_at_every_call_of_a_resume(place, reference, call):
    counts, found = sweep(place, reference, call, "signal=SIGKILL", prepare=stopped_before(place))
    report(f"kill at {call} of a resume", counts, found)


@pytest.mark.parametrize("call", ["pwrite64", "fsync", "rename", "unlink"])
def test_error_at_every_call_of_a_clean_stop(place, reference, call):
    folder = place / "run"
    trials = 0
    for when in range(1, 500):
        shutil.rmtree(folder, ignore_errors=True)
        ended, acknowledged, trace = run_with(
            folder, ["-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={when}"], ["partial"]
        )
        if "INJECTED" not in trace:
            break
        trials += 1
        assert ended.returncode in EXIT_CODES | {75}, ended.stderr
        assert violations(folder, acknowledged, reference) == []
        assert after_resume(folder, reference) == []
    campaign.record(f"EIO at {call} of a clean stop", [], trials=trials)
    assert trials > 0


def test_no_sync_is_tried_again(place):
    """After a failed fsync of a shard or its folder nothing is synced, renamed or acknowledged any more."""
    folder = place / "run"
    tried = 0
    for when in range(1, 100):
        shutil.rmtree(folder, ignore_errors=True)
        _, _, trace = run_with(
            folder, ["-e", "trace=fsync,rename,write", "-e", f"inject=fsync:error=EIO:when={when}"]
        )
        if "INJECTED" not in trace:
            break
        before, after = trace.split("(INJECTED)", 1)
        failed = before.rsplit("\n", 1)[-1]
        if "/shards" in failed:
            tried += 1
            assert "fsync(" not in after and "rename(" not in after and "write(1<" not in after, after
    assert tried >= 2 * SHARDS


# ---- the order of syncs ------------------------------------------------------------------------------------------


def order_violations(trace, folder):
    """Reads a trace as a power cut would: what was not synced when it was relied on."""
    dirty = set()  # files with bytes, and folders with names, that no sync has reached
    found = []
    shards = str(folder / "shards")
    for line in trace.split("\n"):
        if "= -1 " in line:
            continue
        if match := re.search(r"\bp?write(?:64)?\(\d+<([^>]*)>", line):
            if match[1].startswith(str(folder)) and not match[1].endswith(("/lock", "-journal")):
                dirty.add(match[1])
        if match := re.search(r"\bf(?:data)?sync\(\d+<([^>]*)>", line):
            dirty.discard(match[1])
        if match := re.search(r'\brename\("([^"]*)", "([^"]*)"', line):
            if match[1] in dirty:
                found.append(f"{match[1]} was renamed before it was synced")
            dirty.add(shards)
        if match := re.search(r'\bunlink\("([^"]*-journal)"', line):
            dirty.add(str(folder))  # the commit counts when the journal's name is gone for good
        if re.search(r"\bwrite\(1<", line) and dirty:
            found.append(f"acknowledged while {sorted(dirty)} were not synced")
    return found


ORDER = ["-e", "trace=write,pwrite64,fsync,fdatasync,rename,unlink"]


def test_order_of_syncs(place):
    folder = place / "run"
    ended, acknowledged, trace = run_with(folder, ORDER)
    assert ended.returncode == 0 and acknowledged == list(range(SHARDS))
    assert order_violations(trace, folder) == []
    # The commit of shard n comes after its rename and the folder's sync.
    events = [m[0] for m in re.finditer(r"rename\(|fsync\(\d+<[^>]*/shards>|unlink\([^)]*-journal|write\(1<", trace)]
    text = " ".join(e.split("(")[0] for e in events)
    assert text.count("write") == SHARDS
    for part in text.split("write")[:SHARDS]:
        assert re.search(r"rename fsync unlink\s*$", part), text


# ---- planted bugs ------------------------------------------------------------------------------------------------

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* fsync that forgets files (SKIP=files) or folders (SKIP=folders) */
int fsync(int descriptor) {
    struct stat info;
    const char *skip = getenv("SKIP");
    int folder = fstat(descriptor, &info) == 0 && S_ISDIR(info.st_mode);
    if (skip != NULL && strcmp(skip, folder ? "folders" : "files") == 0) {
        return 0;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return real(descriptor);
}
"""


@pytest.fixture(scope="module")
def shim(memory):
    folder = memory / "shim"
    folder.mkdir()
    (folder / "shim.c").write_text(SHIM)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the shim")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c", "-ldl"], check=True)
    return folder / "shim.so"


@pytest.mark.parametrize("skip, words", [("files", "renamed before it was synced"), ("folders", "shards")])
def test_planted_missing_sync_is_caught(place, shim, skip, words):
    folder = place / "run"
    # strace itself must not be shimmed: the traced program is.
    ended, _, trace = run_with(folder, [*ORDER, "-E", f"LD_PRELOAD={shim}", "-E", f"SKIP={skip}"])
    if "cannot be preloaded" in ended.stderr or "runtime does not come first" in ended.stderr:
        pytest.skip("a sanitizer's runtime refuses the shim")
    assert ended.returncode == 0, ended.stderr
    found = order_violations(trace, folder)
    print(f"\nno fsync of {skip}: {len(found)} violations of the order")
    assert any(words in text for text in found), found


def test_planted_commit_before_rename_is_caught(place, reference):
    found = []
    for call in ("rename", "fsync"):
        _, some = sweep(place, reference, call, "signal=SIGKILL", ["commit-before-rename"])
        found += some
    print(f"\ncommit before rename: {len(found)} violations")
    assert any("is in the ledger and missing" in text for text in found)


# ---- a killed runner's journal, a full disk ----------------------------------------------------------------------


def only_looking(place, folder, temporary="/tmp"):
    """What a user sees who may read the run directory and write nothing there."""
    tool = shutil.copy(VERIFY, place)
    command = [tool, folder, "status"]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed")
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    for path in (place.parent, place, folder):
        os.chmod(path, 0o755 if os.geteuid() == 0 else 0o555)
    for path in (folder / "ledger.sqlite", folder / "ledger.sqlite-journal"):
        os.chmod(path, 0o644 if os.geteuid() == 0 else 0o444)
    try:
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(temporary)})
    finally:
        for path in (place.parent, place, folder):
            os.chmod(path, 0o755)


def test_reader_after_a_kill_within_a_transaction(place, reference):
    """A hot journal is rolled back where that is permitted, and read around where it is not."""
    folder = place / "run"
    hot = 0
    for when in range(1, 400):
        shutil.rmtree(folder, ignore_errors=True)
        ended, acknowledged, trace = run_with(
            folder, ["-e", "trace=fdatasync", "-e", f"inject=fdatasync:signal=SIGKILL:when={when}"]
        )
        if "killed by SIGKILL" not in trace:
            break
        journal = folder / "ledger.sqlite-journal"
        if not acknowledged or not journal.exists() or journal.stat().st_size == 0:
            continue
        hot += 1
        before = {path: path.read_bytes() for path in (folder / "ledger.sqlite", journal)}
        seen = only_looking(place, folder)
        assert seen.returncode == 0, seen.stderr
        assert int(seen.stdout.split()[3]) == len(acknowledged), seen.stdout
        assert {path: path.read_bytes() for path in before} == before
        for path in before:
            os.chmod(path, 0o644)
        assert done_shards(folder) == len(acknowledged)
        assert after_resume(folder, reference) == []
    campaign.record("hot journals read", [], journals=hot)
    assert hot >= 2


def test_copies_of_a_crashed_ledger(place):
    """For a reader who may not roll back. Of any size (1.1 GB of holes here, which the journal cuts off); where there is no room
    it says where room is needed."""
    folder, small = place / "run", place / "small"
    small.mkdir()
    subprocess.run([COMMIT, folder, str(SHARDS)], check=True, capture_output=True)
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite")) as ledger:
        ledger.execute("PRAGMA cache_size = 1")
        ledger.execute("UPDATE problem SET rows = 77, state = 1, reason = ?", ("never committed" * 500,))
        kept = {name: (folder / name).read_bytes() for name in ("ledger.sqlite", "ledger.sqlite-journal")}
        ledger.rollback()
    for name, content in kept.items():
        (folder / name).write_bytes(content)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "none", small], capture_output=True).returncode == 0:
        try:
            seen = only_looking(place, folder, small)
            assert seen.returncode == 73 and "set TMPDIR to a larger folder" in seen.stderr and list(small.iterdir()) == [], seen
        finally:
            subprocess.run(["umount", small], check=True)
    if shutil.disk_usage("/tmp").free > 8e9:
        os.truncate(folder / "ledger.sqlite", 1_100_000_000)
    seen = only_looking(place, folder)
    assert seen.returncode == 0 and f"shards {SHARDS} finished 1" in seen.stdout, seen


def test_full_disk(place, reference):
    mount = place / "small"
    mount.mkdir()
    trials, fitted = 0, 0
    for size in (*range(8, 260, 12), 3000):
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", mount], capture_output=True).returncode:
            pytest.skip("a tmpfs cannot be mounted here")
        try:
            folder = mount / "run"
            ended = subprocess.run([COMMIT, folder, str(SHARDS)], capture_output=True, text=True)
            assert ended.returncode in (0, 73), ended.stderr  # what fits depends on the file system; both are counted
            fitted += ended.returncode == 0
            if ended.returncode != 0:
                trials += 1
                assert re.fullmatch(r"tool_commit: [^\n]+\n", ended.stderr), ended.stderr
            acknowledged = [int(line) for line in ended.stdout.split("\n")[:-1]]
            assert violations(folder, acknowledged, reference) == []
            subprocess.run(["mount", "-o", "remount,size=4m", mount], check=True)
            assert after_resume(folder, reference) == []
        finally:
            subprocess.run(["umount", mount], check=True)
    campaign.record("full disks, committing alone", [], too_small=trials)
    assert trials > 3 and fitted >= 1


def test_two_runners(place):
    """The second one is told who is there, and changes nothing."""
    folder = place / "run"
    first = subprocess.Popen(
        ["strace", "-o", "/dev/null", "-e", "trace=rename", "-e", "inject=rename:signal=SIGSTOP:when=1", COMMIT, folder,
         str(SHARDS)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    children = pathlib.Path(f"/proc/{first.pid}/task/{first.pid}/children")
    while not list(folder.glob("shards/part-000000.h5")):  # renamed: it stands still until it is told to go on
        assert first.poll() is None
        time.sleep(0.005)
    second = subprocess.run([COMMIT, folder, str(SHARDS)], capture_output=True, text=True)
    runner = int(children.read_text())
    os.kill(runner, signal.SIGCONT)
    assert second.returncode == 73
    assert re.search(rf"another runner is active in .* \(process {runner} on ", second.stderr)
    first.communicate()
    assert first.returncode == 0
    assert subprocess.run([VERIFY, folder]).returncode == 0
