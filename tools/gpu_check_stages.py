# SPDX-License-Identifier: MIT
"""The course of gpu_check.py: runs its parts in their order and within their time, and keeps what is known under --out as it comes."""
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from gpu_check_parts import ENDING, STAGE_A
from gpu_check_process import Failed, LeftOut, Processes, Stopped
from gpu_check_table import judge, row, table_text


@dataclasses.dataclass
class Shape:
    """What is run: a model, its batches, and texts."""
    bench: str       # of which a block is measured
    smoke: str       # and which is tried first
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tokens: int      # of a batch
    max_tokens: int  # of a text
    longest: int     # at which made texts are cut; 0: as they are
    repeats: int
    seconds: float   # that an extraction is to take, about

    def layer_bytes(self):
        attended = (2 * self.heads + 2 * self.kv_heads) * self.head_dim
        return 2 * self.hidden * (attended + 3 * self.intermediate)

    def table_bytes(self):
        return 2 * self.hidden * self.vocabulary


FULL = Shape("qwen3-8b", "qwen3-0.6b", 4096, 36, 32, 8, 128, 12288, 151936, 8192, 2048, 0, 5, 20)
QUICK = Shape("tiny", "tiny", 64, 3, 4, 2, 16, 192, 6144, 320, 128, 60, 1, 0)


class Said:
    """What is printed, and the same in a file: a reader that goes away does not end the check."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8", errors="replace")

    def __call__(self, text, end="\n"):
        with contextlib.suppress(OSError, ValueError):
            self.file.write(text + end)
            self.file.flush()
        try:
            sys.stdout.write(text + end)
            sys.stdout.flush()
        except OSError:
            sys.stdout = open(os.devnull, "w")


def make_out(asked, default):
    """The folder of the results, and words where it is not the one that would be expected."""
    for folder, words in ((asked or default, None), (Path(tempfile.gettempdir()) / f"gpu-check-results-{os.getuid()}",
                                                     f"nothing can be written to {asked or default}")):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder, words
        except OSError as fault:
            if asked:
                raise SystemExit(f"gpu-check: --out {asked}: {fault.strerror}") from fault
    raise SystemExit(f"gpu-check: nothing can be written to {default} or {folder}: name a folder by --out")


class Check:
    """One check: its options, what it has found so far, and the programs that it started."""
    patience = 1  # times the most that parts may take

    def __init__(self, options, root):
        self.options, self.root = options, root
        self.shape = dataclasses.replace(QUICK if options.quick else FULL)
        self.whole = self.shape.layers
        if options.quick:
            self.patience = 10  # tests run on machines of any speed
        self.bundled = not (root / "CMakeLists.txt").exists()
        self.build = Path(options.build or (root if self.bundled else root / "build/gpu")).resolve()
        self.strata = Path(options.strata or self.build / "strata").resolve()
        self.emulated = self.strata.name == "strata_emulated"
        self.on_gpu = options.device != "cpu" and not self.emulated
        self.out, words = make_out(Path(options.out) if options.out else None, root / ("gpu-check" if self.bundled else "build/gpu-check"))
        for old in ("gpu-check.json", "programs.log", "ncu.csv", "dmon.txt"):
            (self.out / old).unlink(missing_ok=True)
        shutil.rmtree(self.out / "running", ignore_errors=True)
        self.say = Said(self.out / "log")
        if words:
            self.say(f"{words}: results go to {self.out}")
        # The first makes nvidia-smi's numbers CUDA's, the second keeps transformers from waiting for a network.
        self.environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "HF_HUB_OFFLINE": "1", **os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self.processes = Processes(self.out, self.environment)
        self.began = time.monotonic()
        self.part_end = self.began + options.time
        self.stage_a_end = None
        self.figures, self.parts, self.warnings, self.versions = {}, [], [], {}
        self.ended = "running"  # what the JSON of a check says that was killed
        self.gpu_text, self.torch_environment, self.wanted = {}, {}, set()
        self.one_at_a_time = False
        self.work = self.lock = self.pooled = self.runner = self.making = self.probe = self.monitor = None

    # ---- time ----

    def left(self):
        return self.options.time - ENDING - (time.monotonic() - self.began)

    def timeout(self):
        """Seconds that what a part starts may take: what hangs costs the other parts no more than this one's share."""
        return max(1.0, min(self.left(), self.part_end - time.monotonic()))

    def call(self, name, *words, **more):
        return self.processes.call(name, *words, timeout=self.timeout(), **more)

    def warn(self, words):
        self.warnings.append(words)

    def need(self, *names):
        for name in names:
            if name not in self.figures:
                raise LeftOut(f"without {name}")

    def need_parts(self, names):
        states = {part["name"]: part["state"] for part in self.parts}
        missing = [f"{name}, which {'failed' if states[name] == 'failed' else 'was left out'}" for name in names
                   if states.get(name, "done") != "done"]
        if missing:
            raise LeftOut(f"without {' and '.join(missing)}")

    # ---- parts ----

    def part(self, part, run):
        """Runs one part, whatever came of those before it. One that has no time for all it has to do is left out, too: its word says
        what was done."""
        began = time.monotonic()
        self.part_end = began + part.most * self.patience
        if part.stage == "A" and part.name != "build":
            self.stage_a_end = self.stage_a_end or began + STAGE_A * self.patience
            self.part_end = min(self.part_end, self.stage_a_end)
        record = {"name": part.name, "stage": part.stage, "state": "done", "word": ""}
        self.say(f"{part.stage:<4} {part.name:<13}", end=" ")
        try:
            if self.left() < (1 if self.options.quick else part.seconds):
                raise LeftOut(f"{max(self.left(), 0):.0f} s are left, it takes about {part.seconds}")
            self.need_parts(part.needs)
            record["word"] = run(self) or ""
        except LeftOut as why:
            record.update(state="left out", word=str(why))
        except subprocess.TimeoutExpired as fault:
            name = fault.cmd if isinstance(fault.cmd, str) else Path(str(fault.cmd[1])).name
            record.update(state="failed", word=f"{name} did not end in {fault.timeout:.0f} s" + (f": {fault.output}" if fault.output else ""))
        except Failed as fault:
            record.update(state="failed", word=str(fault))
        except Stopped as why:
            record.update(state="cut off", word=str(why))
            raise
        except Exception as fault:  # any part may fail in any way: the others are still worth having
            record.update(state="failed", word=f"{type(fault).__name__}: {fault}")
            self.trace(part.name)
        finally:
            record["seconds"] = round(time.monotonic() - began, 1)
            self.parts.append(record)
            self.say(f"{record['state']:<8} {record['seconds']:6.1f} s  {' '.join(record['word'].split())[:400]}")
            with contextlib.suppress(OSError):  # a full disk: the table is still printed
                self.processes.gather()
            self.keep()
        return record["state"]

    def trace(self, name):
        with contextlib.suppress(OSError), open(self.out / "programs.log", "a", encoding="utf-8", errors="replace") as log:
            log.write(f"==== {name}\n{traceback.format_exc()}\n")

    def run(self, parts, functions):
        """Every part in its turn. False when a vital one of stage A failed: what comes after it would only repeat that."""
        for part in parts:
            failed = self.part(part, functions[part.name]) == "failed"
            if failed and part.stage == "A" and part.vital and not self.options.keep_going:
                self.ended = f"stage A failed: {part.name}"
                return False
        self.ended = "done"
        return True

    def end(self):
        """Ends what still runs."""
        self.processes.kill_all()
        with contextlib.suppress(OSError):
            self.processes.folder.rmdir()

    def remove_work(self):
        """Gives the model's memory, or its place on the disk, back."""
        if self.work is not None:
            shutil.rmtree(self.work, ignore_errors=True)
            if self.lock is not None:  # some file systems of networks have no locks
                os.close(self.lock)

    # ---- results ----

    def table(self):
        """What a figure that nobody thought of does to the table costs the table, not the check."""
        try:
            return judge(self)
        except Exception as fault:  # the figures themselves are in the result
            self.trace("table")
            return [row(f"no table: {type(fault).__name__}: {fault}", 0, "")]

    def result(self):
        bench = self.figures.get("rates") or self.figures.get("smoke") or {}
        return {"schema": 2, "date": datetime.date.today().isoformat(), "quick": self.options.quick, "ended": self.ended,
                "device": {"asked": self.options.device, **{key: bench.get(key) for key in ("kind", "name", "path", "identity", "memory")}},
                "gpu": self.gpu_text, "warnings": self.warnings,
                "versions": {"python": platform.python_version(), "host": platform.machine(), **self.versions},
                "seconds": round(time.monotonic() - self.began, 1), "parts": self.parts, "shape": dataclasses.asdict(self.shape),
                "figures": self.figures, "table": self.table()}

    def keep(self):
        """Results so far: aside first, then in their place, so that there is always a whole file."""
        result = self.result()
        aside = self.out / "gpu-check.json.part"
        try:
            with open(aside, "w", encoding="utf-8") as file:
                json.dump(result, file, indent=1)
                file.write("\n")
            os.replace(aside, self.out / "gpu-check.json")
        except OSError as fault:
            self.say(f"{self.out / 'gpu-check.json'} cannot be written: {fault.strerror}")
        return result


# ---- signals, and the end ----

def stop_on_signals(seconds):
    """SIGTERM and the like end the check as soon as it may, and so does the end of its time."""
    def stop(number, _):
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            signal.signal(one, signal.SIG_IGN)  # the table is on its way
        raise Stopped("its time is over" if number == signal.SIGALRM else signal.Signals(number).name)

    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(one, stop)
    if seconds > ENDING:
        signal.setitimer(signal.ITIMER_REAL, seconds - ENDING / 2)


def run_check(check, parts, functions):
    """The exit code: 0, 1 (a part failed), 3 (stage A failed), 143 or 130 (a signal)."""
    stop_on_signals(check.options.time)
    code = 0
    try:
        if not check.run(parts, functions):
            code = 3
    except Stopped as why:
        check.ended = str(why)
        code = {"SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129}.get(str(why), 1)
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(one, signal.SIG_IGN)
    check.end()
    check.say(table_text(check.keep()))
    check.remove_work()  # last: it may take seconds
    failed = any(part["state"] == "failed" for part in check.parts)
    return code or int(failed)
