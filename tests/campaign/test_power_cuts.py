# SPDX-License-Identifier: MIT
"""Power cuts: a file system of its own is shut down under a stopped writer of shards, mounted again, and looked at.

The writer (tests/checkpoints/tool_commit.c) says each shard that it acknowledged; whatever it said must be there after the
cut, with its bytes. Needs root, loop mounts, and the tools of ext4 and XFS.
"""
import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest
from support import BUILD

import campaign

COMMIT, VERIFY = (BUILD / "tests" / f"checkpoints_tool_{name}" for name in ("commit", "verify"))
SHARDS = 30
# Megabytes, the command that makes it, and options of the mount: ext4 would save a program that forgets its syncs after a
# truncation or a rename.
SYSTEMS = {"ext4": (16, ["mkfs.ext4", "-q", "-F"], "loop,noauto_da_alloc"), "xfs": (320, ["mkfs.xfs", "-q", "-f"], "loop")}
NO_SYNC = """
int fsync(int descriptor) { (void)descriptor; return 0; }
"""


class Disk:
    """A file system in a file, mounted through a loop device."""

    def __init__(self, folder, system):
        self.image, self.mount = folder / f"{system}.img", folder / system
        megabytes, self.make, self.options = SYSTEMS[system]
        self.mount.mkdir(exist_ok=True)
        with open(self.image, "wb") as file:
            file.truncate(megabytes << 20)
        self.system = system

    def format(self):
        subprocess.run([*self.make, self.image], check=True, capture_output=True)

    def open(self):
        return subprocess.run(["mount", "-o", self.options, "-t", self.system, self.image, self.mount], capture_output=True).returncode == 0

    def cut(self):
        """No more bytes reach the image: what the journal has not got is lost."""
        subprocess.run(["xfs_io", "-x", "-c", "shutdown", self.mount], check=True, capture_output=True)

    def close(self):
        # A process that was just killed may hold it for a moment.
        for _ in range(200):
            if subprocess.run(["umount", self.mount], capture_output=True).returncode == 0:
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self.mount} cannot be unmounted")


@pytest.fixture(scope="module", params=sorted(SYSTEMS))
def disk(request):
    if shutil.which(SYSTEMS[request.param][1][0]) is None or shutil.which("xfs_io") is None:
        pytest.skip("the tools of ext4 and XFS are not installed")
    with campaign.memory_folder() as folder:
        disk = Disk(pathlib.Path(folder), request.param)
        disk.format()
        if not disk.open():
            pytest.skip("a file system cannot be mounted here")
        disk.close()
        yield disk


@pytest.fixture(scope="module")
def reference():
    """(bytes of every shard, seconds that a whole run takes)"""
    with campaign.memory_folder() as folder:
        begin = time.monotonic()
        subprocess.run([COMMIT, f"{folder}/run", str(SHARDS)], check=True, capture_output=True)
        yield hashes(pathlib.Path(folder) / "run")


def hashes(run):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((run / "shards").glob("part-??????.h5"))}


def write_and_cut(disk, said, rng, preload):
    """Starts the writer, stops it somewhere, cuts; returns what it had acknowledged by then."""
    environment = {**os.environ, **({"LD_PRELOAD": str(preload)} if preload else {})}
    begin = said.stat().st_size
    with open(said, "ab") as out:
        writer = subprocess.Popen([COMMIT, disk.mount / "run", str(SHARDS)], stdout=out, stderr=subprocess.DEVNULL, env=environment)
    # The cut comes some shards and a moment later, whatever a shard takes on this machine.
    target, give_up = begin + 2 * rng.randrange(8), time.monotonic() + 60
    while said.stat().st_size < target and writer.poll() is None and time.monotonic() < give_up:
        time.sleep(0.0005)
    time.sleep(rng.uniform(0, 0.03))
    writer.send_signal(signal.SIGSTOP)
    acknowledged = [int(line) for line in said.read_text().split()]
    disk.cut()
    writer.kill()
    writer.wait()
    return acknowledged


def look(disk, acknowledged, reference):
    """What is wrong with the run after the cut."""
    run = disk.mount / "run"
    seen = subprocess.run([VERIFY, run, "status"], capture_output=True, text=True)
    shards = int(seen.stdout.split()[3]) if seen.returncode == 0 else 0
    if acknowledged and shards <= max(acknowledged):
        return f"{max(acknowledged) + 1} shards were acknowledged, the ledger has {shards}: {seen.stderr}"
    there = hashes(run) if (run / "shards").is_dir() else {}
    for number in range(shards):
        name = f"part-{number:06d}.h5"
        if there.get(name) != reference[name]:
            return f"{name} is acknowledged, and missing or changed"
    return None


def finish(disk, reference):
    """What is wrong once the same command was given again."""
    again = subprocess.run([COMMIT, disk.mount / "run", str(SHARDS)], capture_output=True, text=True)
    if again.returncode != 0 or hashes(disk.mount / "run") != reference:
        return f"the resume ends with {again.returncode} and other shards: {again.stderr}"
    check = subprocess.run([VERIFY, disk.mount / "run"], capture_output=True, text=True)
    return None if check.returncode == 0 else f"verify: {check.stdout}"


def cuts(disk, reference, wanted, rng, preload=None):
    """Cuts until there are enough; each run is cut several times, then finished: (cuts, shards looked at, what is wrong)."""
    said = disk.image.parent / "said"
    done = looked = 0
    wrong = []
    while done < wanted and not wrong:
        said.write_bytes(b"")
        disk.format()
        for _ in range(rng.randrange(1, 5)):
            assert disk.open()
            try:
                acknowledged = write_and_cut(disk, said, rng, preload)
            finally:
                disk.close()
            assert disk.open()
            try:
                fault = look(disk, acknowledged, reference)
            finally:
                disk.close()
            done, looked = done + 1, looked + len(acknowledged)
            wrong += [f"cut {done}: {fault}"] if fault else []
            if fault or done == wanted:
                break
        if not wrong:
            assert disk.open()
            try:
                fault = finish(disk, reference)
            finally:
                disk.close()
            wrong += [f"after cut {done}: {fault}"] if fault else []
    return done, looked, wrong


def test_power_cuts(disk, reference):
    done, looked, wrong = cuts(disk, reference, campaign.attempts(6, 500), random.Random(9))
    campaign.record(f"power cuts on {disk.system}", wrong, cuts=done, acknowledged_shards=looked)
    assert looked > 0  # or nothing could have been lost


def test_a_planted_missing_sync_is_seen(disk, reference, tmp_path):
    """A writer whose fsync does nothing: the ledger's own syncs (fdatasync) make it forget no commit, only the shards."""
    (tmp_path / "no_sync.c").write_text(NO_SYNC)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "no_sync.so", tmp_path / "no_sync.c"], check=True)
    done, _, wrong = cuts(disk, reference, 40, random.Random(10), tmp_path / "no_sync.so")
    assert wrong and "acknowledged" in wrong[0], f"{done} cuts found nothing"
