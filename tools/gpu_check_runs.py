# SPDX-License-Identifier: MIT
"""Extractions for gpu_check.py: jobs, what their ledgers and logs say, and their latents."""
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gpu_check_process import Failed, complaint, how

PIECE = 16 << 20
DYING = 20       # seconds that a killed run may take to go: its driver gives memory back
SAID = "said.txt"  # beside a run: what its launch printed


class Runner:
    """Jobs of a check's program on its device with one model and one database, each in a folder of its own."""

    def __init__(self, check):
        self.check = check
        self.work, self.strata = check.work, check.strata

    def job(self, name, limit, latents=None, batch=None, run=None):
        """A job file. What is not given here is as users get it: the program's defaults."""
        folder = self.work / name
        folder.mkdir(exist_ok=True)
        shape = self.check.shape
        keys = {"problems": {"database": str(self.work / "problems.db"), "id": "problem_id", "max_tokens": shape.max_tokens,
                             "query": f"SELECT * FROM problems ORDER BY problem_id LIMIT {limit}"},
                "model": {"path": str(self.work / "model"), "dtype": "bfloat16", "device": self.check.options.device, "hash_cache": False},
                "latents": {"layers": [-2], "pooling": "step_mean", "dtype": "float32", **(latents or {})},
                "batch": {"tokens": shape.tokens, **(batch or {})},
                "run": {"output": str(folder / "run"), "drift_stop": False, "disk_reserve_gb": 0,
                        "profile": str(self.work / "profile"), **(run or {})}}
        file = folder / "job.yaml"
        file.write_text(json.dumps(keys, indent=1))  # JSON is YAML
        return file

    def run(self, job):
        said = self.check.call(f"run-{job.parent.name}", self.strata, "run", "--quiet", job)
        (job.parent / SAID).write_text(said)
        return job.parent / "run"

    def run_killed(self, job):
        """Starts a run, kills it once a shard is sealed, and waits until it is gone. False when it was over before that."""
        running = self.check.processes.start("run-to-kill", self.strata, "run", "--quiet", job)
        first = job.parent / "run" / "shards" / "part-000000.h5"
        end = time.monotonic() + self.check.timeout()
        while not first.exists() and not running.over() and time.monotonic() < end:
            time.sleep(0.001)
        if not running.kill() and not running.gone(DYING):
            raise Failed(f"a run that was killed is not gone after {DYING} s")
        code = running.process.returncode
        if code not in (0, -signal.SIGKILL):
            raise Failed(f"the run to be killed {how(code)}: {complaint(running.text())}")
        return code != 0

    def latents(self, run):
        """{id: {"spans": [rows, 2], "latents": float32 [rows, hidden]}} of the one layer that is stored."""
        to = run.parent / "npy"
        self.check.call("export", self.strata, "export", run, "--format", "npy", "--to", to)
        names = [json.loads(line)["id"] for line in (to / "all.jsonl").read_text().splitlines()]
        read = {path.stem: np.load(path) for path in (to / "all").glob("*.npy")}
        values = next(value for key, value in read.items() if key.startswith("hs_"))
        spans = np.stack([read["token_start"], read["token_end"]], axis=1)
        offset = read["row_offset"]
        shutil.rmtree(to)
        return {name: {"spans": spans[a:b], "latents": np.ascontiguousarray(values[a:b])}
                for name, a, b in zip(names, offset[:-1].tolist(), offset[1:].tolist())}


def wall(run):
    """Seconds from a launch's first batch to the acknowledgement of its last shard, as it printed them."""
    said = re.search(r"tokens in ([\d.]+) s,.* sealed ([\d.]+) s later", (run.parent / SAID).read_text())
    return float(said[1]) + float(said[2])


def ledger(run):
    """Rates of a finished run's last launch. `seconds`: from the first batch to the end of the last one, computing and waiting, as
    `strata log` counts; `wall_seconds`: all of it, until the last shard is sealed. Lost is what the device did not compute in `seconds`; without
    times of its own it is the waiting. The first batch waits for the first window of texts, however long a run is: that stands for itself,
    neither lost nor waiting."""
    with sqlite3.connect(run / "ledger.sqlite") as db:
        last = "FROM batch WHERE epoch = (SELECT max(epoch) FROM launch)"
        batches, rows, tokens, timed = db.execute(f"SELECT count(*), sum(rows), sum(tokens), count(device_seconds) {last}").fetchone()
        wait, compute, device = db.execute(f"SELECT sum(wait_seconds), sum(compute_seconds), sum(device_seconds) {last}").fetchone()
        first = db.execute(f"SELECT wait_seconds {last} ORDER BY number LIMIT 1").fetchone()[0]
        clock, throttle = db.execute(f"SELECT min(sm_clock), max(throttle_reasons) {last}").fetchone()
        stored = db.execute("SELECT sum(bytes) FROM shard").fetchone()[0]
        loaded = db.execute("SELECT loaded_bytes FROM progress").fetchone()[0]
    seconds, running = compute + wait, compute + wait - first
    busy = device if timed == batches else compute
    return {"tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds, "wall_seconds": wall(run),
            "wall_tokens_per_second": tokens / wall(run), "batches": batches, "rows": rows, "first_wait": first, "waiting": (wait - first) / running,
            "lost_between_batches": max(0.0, 1 - busy / running), "stored_bytes": stored, "loaded_bytes": loaded,
            "lowest_sm_clock": clock, "throttle_reasons": throttle}


def product_tokens(run):
    """The tokens at which a run's products were tuned, as its ledger names them; empty on a device without a choice."""
    with contextlib.closing(sqlite3.connect(run / "ledger.sqlite")) as db:
        found = db.execute("SELECT value FROM note WHERE key = 'device.algorithms'").fetchone()
    return sorted(set(re.findall(r" tokens=(\d+) ", found[0] if found else "")))


def load_rate(run):
    """Bytes a second of reading the weights onto the device, from the run's log; None when it does not say."""
    found = re.search(r"weights: ([\d.]+) GB read in ([\d.]+) s", (run / "run.log").read_text())
    return float(found[1]) / float(found[2]) * 1e9 if found and float(found[1]) * float(found[2]) > 0 else None


def shard_hashes(run):
    with sqlite3.connect(run / "ledger.sqlite") as db:
        return dict(db.execute("SELECT name, sha256 FROM shard ORDER BY number"))


# ---- storage ----

def forget(folder):
    """Takes a folder's files out of the page cache where the file system lets go of them (a RAM disk does not)."""
    for path in Path(folder).glob("*.safetensors"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_rate(folder, most=8 << 30, threads=8):
    """Bytes a second of reading the weight files with several threads."""
    pieces = [(path, at) for path in sorted(Path(folder).glob("*.safetensors")) for at in range(0, path.stat().st_size, PIECE)]
    pieces = pieces[:max(1, most // PIECE)]

    def read(mine):
        buffer, total = bytearray(PIECE), 0
        for path, at in mine:
            with open(path, "rb", buffering=0) as file:
                file.seek(at)
                total += file.readinto(buffer)
        return total

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as readers:
        total = sum(readers.map(read, [pieces[i::threads] for i in range(threads)]))
    return total / (time.perf_counter() - began)


def write_rate(folder, size):
    """Bytes a second of writing one file, synced."""
    path, piece = Path(folder) / "written", os.urandom(1 << 20) * 8
    began, total = time.perf_counter(), 0
    with open(path, "wb", buffering=0) as file:
        while total < size:
            total += file.write(piece)
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return total / seconds
