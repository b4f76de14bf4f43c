# SPDX-License-Identifier: MIT
"""A machine that runs out of memory, threads or open files: at any call, of any command, the result is right or the command
ends with code 70 and one line. Never other bytes, never a problem that failed, never a fault of the data or of a run, never
a library's crash or exit code; and the same command goes on to the bytes of an undisturbed run.

By default the sweeps take a sample of the calls; STRATA_FULL_SWEEP=1 takes them all (tens of thousands: hours).
"""
import collections
import concurrent.futures
import os
import random
import re
import resource
import shutil
import sqlite3
import subprocess

import pytest

import campaign
import support
from support import BUILD, INTERNAL, OK, STOPPED, STRATA, WRITE, Job, make_problems
from test_parts import Set

PRELOAD = BUILD / "tests" / "commands_preload_shortage.so"
CARELESS = BUILD / "tests" / "commands_tool_careless"
FULL = os.environ.get("STRATA_FULL_SWEEP") == "1"
PROBLEMS = 6
NEVER = 1 << 40

pytestmark = pytest.mark.skipif(not PRELOAD.exists(), reason="a sanitizer's build takes no preloaded library")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("reference"), make_problems(PROBLEMS, steps=3), latents={"layers": [-2]},
              run={"checkpoint_every": 1})
    job.run()
    assert len(job.shards()) == 2
    parts = Set(job.twin(job.folder / "set"), 2)
    parts.run_all()
    job.set = parts.job.output
    return job


def short_of(what, at, command, log, count=1):
    """Runs the command; the call of that number fails. Returns its Result, and how many calls there were and failed."""
    log.unlink(missing_ok=True)
    environment = support.clean_environment(LD_PRELOAD=str(PRELOAD), SHORTAGE_OF=what, SHORTAGE_AT=str(at),
                                            SHORTAGE_COUNT=str(count), SHORTAGE_LOG=str(log))
    done = subprocess.run([*map(str, command)], capture_output=True, timeout=120, env=environment)
    seen, failed = map(int, log.read_text().split()) if log.exists() else (0, 1)  # a crash leaves no log
    return support.Result(done.returncode, done.stdout.decode(), done.stderr.decode()), seen, failed


# ---- the commands: how each is started, and what it must have done

class Trial:
    """One start of a command in a folder of its own."""

    def __init__(self, reference, folder):
        self.reference, self.folder = reference, folder
        folder.mkdir(parents=True)

    def check(self, done, undisturbed):
        """Raises AssertionError when the output is not that of an undisturbed start."""
        assert done.out == undisturbed.out, f"other output: {done.out!r}"

    def check_after_failure(self):
        """What a start that ended with 70 may have left."""


class Run(Trial):
    def command(self):
        self.job = self.reference.twin(self.folder)
        return self.job.command()

    def check(self, done, undisturbed):
        self.job.check_finished(PROBLEMS, self.reference.shards())
        assert self.job.outcomes() == self.reference.outcomes(), "other outcomes"

    def check_after_failure(self):
        self.job.check_acknowledged(self.reference.shards())
        again = self.job.run(expect=None)
        assert again.code == OK, f"the resume failed: {again}"
        self.check(again, None)


class Resume(Run):
    def command(self):
        self.job = self.reference.twin(self.folder, run={"checkpoint_every": 2})
        self.job.run("--stop-after", 1, expect=STOPPED)
        return self.job.command()

    def check(self, done, undisturbed):
        self.job.check_finished(PROBLEMS)
        assert [row[2:4] for row in self.job.outcomes()] == [row[2:4] for row in self.reference.outcomes()], "other outcomes"
        for key, found in support.read_latents(self.job).items():
            assert found["hs_002"].tobytes() == latents(self.reference)[key]["hs_002"].tobytes(), f"other latents of {key}"

    def check_after_failure(self):
        again = self.job.run(expect=None)
        assert again.code == OK, f"the resume failed: {again}"
        self.check(again, None)


class Export(Trial):
    format = "safetensors"

    def command(self):
        return [STRATA, "export", self.reference.output, "--format", self.format, "--to", self.folder / "to"]

    def check(self, done, undisturbed):
        for path in (self.folder / "to").iterdir():
            if path.name not in ("export.json", ".writing"):  # tells the time; the mark that goes last
                assert support.file_hash(path) == exported(self.reference, self.format)[path.name], f"another {path.name}"

    def check_after_failure(self):
        if not (self.folder / "to").exists():  # else it was complete when its report could not be printed
            again = support.strata(*self.command()[1:])
            assert again.code == OK, f"the second export failed: {again}"
        self.check(None, None)


class ExportHdf5(Export):
    format = "hdf5"


class Report(Trial):
    def command(self):
        return [STRATA, "report", self.reference.output, "--to", self.folder / "page.html"]

    def check(self, done, undisturbed):
        page = (self.folder / "page.html").read_text()
        assert page.endswith("</html>\n") and "Principal components" in page and "could not be read" not in page, "another page"

    def check_after_failure(self):
        again = support.strata(*self.command()[1:])
        assert again.code == OK, f"the second page failed: {again}"
        self.check(None, None)


class Import(Trial):
    def command(self):
        return [STRATA, "import", self.reference.folder / "problems.jsonl", self.folder / "imported.db"]

    def rows(self, path):
        database = sqlite3.connect(path)
        try:
            return database.execute("SELECT * FROM problems").fetchall()
        finally:
            database.close()

    def check(self, done, undisturbed):
        assert self.rows(self.folder / "imported.db") == self.rows(self.reference.database), "other rows"

    def check_after_failure(self):
        again = support.strata(*self.command()[1:])
        complete = "a table 'problems' already" in again.err  # its report could not be printed
        assert again.code == OK or complete, f"the second import failed: {again}"
        self.check(None, None)


class Look(Trial):
    """A command that only looks. What it says of the time and of this machine is left out."""

    arguments = ()
    changes = r"(?!)"  # lines that are not compared

    def command(self):
        return [STRATA, *(getattr(self.reference, word) if word in ("output", "file", "set") else word for word in self.arguments)]

    def check(self, done, undisturbed):
        kept, wanted = ([line for line in text.splitlines() if not re.search(self.changes, line)]
                        for text in (done.out, undisturbed.out))
        assert kept == wanted, f"other output: {done.out!r}"


def look(*words, changes=r"(?!)"):
    return type("Look_" + words[0], (Look,), {"arguments": words, "changes": changes})


COMMANDS = {
    "run": Run, "resume": Resume, "export": Export, "export-hdf5": ExportHdf5, "import": Import, "report": Report,
    "verify": look("verify", "output", "--deep"), "show": look("show", "output", "p-00001"),
    "plan": look("plan", "file", changes="^ways  |^  (resident|disk|nf4|nf4_double) "),
    "check": look("check", "file", changes="disk space|memory|device"),
    "status": look("status", "--json", "output", changes='"(time|free_bytes)"'), "log": look("log", "output"),
    "verify-set": look("verify", "set"), "status-set": look("status", "--json", "set", changes='"time"'),
}


def latents(job, kept={}):
    if job.folder not in kept:
        kept[job.folder] = support.read_latents(job)
    return kept[job.folder]


def exported(job, form, kept={}):
    if (job.folder, form) not in kept:
        to = job.folder / f"exported-{form}"
        done = support.strata("export", job.output, "--format", form, "--to", to)
        assert done.code == OK, done
        kept[job.folder, form] = {path.name: support.file_hash(path) for path in to.iterdir()}
    return kept[job.folder, form]


# ---- the sweep

def judge(trial, done, undisturbed, failed, allowed=(INTERNAL,)):
    """None, or what is wrong with an end."""
    try:
        if done.code == OK:
            trial.check(done, undisturbed)
            return None
        assert failed > 0, f"an undisturbed start ended with {done}"
        assert done.code in allowed, f"exit code {done.code}: {done.err!r}"
        assert len(done.said()) == 1 and done.said()[0].startswith("strata"), f"not one line: {done.err!r}"
        trial.check_after_failure()
    except AssertionError as wrong:
        return str(wrong)
    return None


def sample(total, about, seed):
    """Every call; or about so many, with the first and one more of constructors before main, and the last."""
    if FULL:
        return list(range(total))
    rng = random.Random(seed)
    chosen = {0, rng.randrange(min(total, 400)), total - 1}
    step = total / about
    return sorted(chosen | {min(total - 1, int((i + rng.random()) * step)) for i in range(about)})


def record(attack, wrong, counts, **more):
    """The counts of tools/campaign.sh."""
    ends = {f"exit {name}" if isinstance(name, int) else name: many for name, many in counts.items()}
    campaign.record(attack, wrong, **more, **ends)


def sweep(make, what, folder, about, count=1, allowed=(INTERNAL,), attack=None):
    """Two trials at a time, of about so many calls. Returns how many ended how, and the violations; those of an attack are
    recorded."""
    def attempt(at, name):
        trial = make(folder / f"{name}-{at}")
        return trial, *short_of(what, at, trial.command(), folder / f"{name}-{at}.log", count)

    folder.mkdir(parents=True, exist_ok=True)
    trial, undisturbed, total, _ = attempt(NEVER, "whole")
    assert undisturbed.code == OK and undisturbed.said() == [], undisturbed
    trial.check(undisturbed, undisturbed)
    counts, wrong = collections.Counter(), []

    def one(at):
        trial, done, _, failed = attempt(at, "at")
        fault = judge(trial, done, undisturbed, failed, allowed)
        shutil.rmtree(trial.folder)
        return at, done.code if failed else "not reached", fault

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for at, outcome, fault in pool.map(one, sample(total, about, f"{what}{total}")):
            counts[outcome] += 1
            wrong += [f"call {at}: {fault}"] if fault else []
    if attack is not None:
        record(attack, wrong, counts, of=total)
    assert 2 * counts["not reached"] <= sum(counts.values())
    return counts, wrong


def about(name, calls):
    """A run takes a second to judge, on a loaded machine, and the other commands a tenth of it."""
    return calls // 4 if name in ("run", "resume") else calls


@pytest.mark.parametrize("name", COMMANDS)
def test_no_memory_at_any_allocation(reference, tmp_path, name):
    counts, wrong = sweep(lambda folder: COMMANDS[name](reference, folder), "memory", tmp_path, about(name, 16),
                          attack=f"no memory at a call of {name}")
    assert wrong == []
    assert counts[INTERNAL] >= about(name, 16)


@pytest.mark.parametrize("name", ["run", "export-hdf5"])
def test_no_memory_from_an_allocation_on(reference, tmp_path, name):
    counts, wrong = sweep(lambda folder: COMMANDS[name](reference, folder), "memory", tmp_path, about(name, 8), count=0,
                          attack=f"no memory from a call of {name} on")
    assert wrong == []
    assert counts[INTERNAL] >= about(name, 8)


@pytest.mark.parametrize("name", ["run", "resume", "check", "plan"])
def test_no_room_for_a_map(reference, tmp_path, name):
    _, wrong = sweep(lambda folder: COMMANDS[name](reference, folder), "maps", tmp_path, about(name, 8),
                     attack=f"no room for a map of {name}")
    assert wrong == []


@pytest.mark.parametrize("name", COMMANDS)
def test_no_open_file_left(reference, tmp_path, name):
    """From a call on: what holds all descriptors keeps them. A file that could not be made may also be told as one that could
    not be written: libraries do not always say why."""
    _, wrong = sweep(lambda folder: COMMANDS[name](reference, folder), "files", tmp_path, about(name, 12), count=0,
                     allowed=(INTERNAL, WRITE), attack=f"no open file left for {name}")
    assert wrong == []


def test_no_thread_left(reference, tmp_path):
    class TwoThreads(Run):
        def command(self):
            return [*super().command(), "--threads", "2"]

    counts, wrong = sweep(lambda folder: TwoThreads(reference, folder), "threads", tmp_path, 4, attack="no thread left for run")
    assert wrong == []
    assert counts[INTERNAL] >= 3


def test_library_that_ends_the_process(reference, tmp_path):
    """With a code of its own, which must not be taken for one of the program's."""
    counts, wrong = sweep(lambda folder: COMMANDS["show"](reference, folder), "patience", tmp_path, 3,
                          attack="a library that ends the process")
    assert wrong == []
    assert counts[INTERNAL] >= 3


@pytest.mark.parametrize("name", ["run", "verify", "plan"])
def test_small_address_spaces(reference, tmp_path, name):
    """The limit that batch systems set, from what the program needs to start on."""
    def start(command, megabytes):
        limit = megabytes << 20
        done = subprocess.run([*map(str, command)], capture_output=True, timeout=120, env=support.clean_environment(),
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        return support.Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    counts, wrong = collections.Counter(), []
    trial = COMMANDS[name](reference, tmp_path / "whole")
    undisturbed = support.strata(*trial.command()[1:])
    least = next(size for size in range(20, 400, 2) if start([STRATA, "--version"], size).code == OK)
    for megabytes in range(least, least + 200, 1) if FULL else [least + more for more in (0, 3, 10, 30, 80, 200)]:
        trial = COMMANDS[name](reference, tmp_path / str(megabytes))
        done = start(trial.command(), megabytes)
        fault = judge(trial, done, undisturbed, 1)
        counts[done.code] += 1
        wrong += [f"{megabytes} MiB: {fault}"] if fault else []
    record(f"small address spaces of {name}", wrong, counts, from_mib=least)
    assert wrong == []
    assert counts[INTERNAL] >= 1


# ---- the sweep sees bugs

@pytest.mark.parametrize("bug, words", [
    ("wrong", "other output"), ("data", "exit code 65"), ("crash", "exit code -6"), ("library", "exit code 255"),
    ("silent", "not one line: ''"), ("talks", "not one line"),
])
def test_sweep_finds_planted_bugs(tmp_path, bug, words):
    class Careless(Trial):
        def command(self):
            return [CARELESS, bug]

    _, wrong = sweep(lambda folder: Careless(None, folder), "memory", tmp_path, 10000)
    assert sum(words in fault for fault in wrong) == 5
