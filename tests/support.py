# SPDX-License-Identifier: MIT
"""Small jobs for the end-to-end tests: problems, a random model, a job file, and a runner of the strata program.

A job lives in a folder of its own. Every job computes with one thread and with drift stops off unless a test says
otherwise: on a loaded machine a batch of a millisecond may take a second.
"""
import atexit
import functools
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(os.environ.get("STRATA_SOURCE", pathlib.Path(__file__).resolve().parent.parent))
BUILD = pathlib.Path(os.environ.get("STRATA_BUILD", SOURCE / "build"))
STRATA = BUILD / "strata"
EMULATED = BUILD / "tests" / "strata_emulated"  # the same with an emulated GPU (tests/cuda_emulation)

os.environ["XDG_CACHE_HOME"] = os.devnull  # where nothing is kept: no run depends on those before it

OK, USAGE, DATA, DEVICE, INTERNAL, WRITE, STOPPED, JOB, DRIFT = 0, 64, 65, 69, 70, 73, 75, 78, 80
DONE, FAILED, SKIPPED = 0, 1, 2  # problem.state of the ledger

WORDS = ("the sum of two numbers is even when both are odd so we divide by three and get seven therefore let n be an "
         "integer ∑ naïve größer 数学 x² + y² = z² answer proof").split()


LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page):
    """A page of Markdown without its code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def links(page):
    """Where the links of a page lead, as file and anchor; those into the web are left out."""
    for link in LINK.findall(prose(page)):
        if not re.match(r"https?:", link):
            name, _, anchor = link.partition("#")
            yield (page.parent / name if name else page), anchor


def clean_environment(**more):
    return {**os.environ, "OMP_WAIT_POLICY": "passive", **more}


def make_problem(number, rng, shortest=3, longest=25, steps=6):
    return {"problem_id": f"p-{number:05d}", "statement": " ".join(rng.choices(WORDS, k=rng.randint(5, 30))),
            "steps": [" ".join(rng.choices(WORDS, k=rng.randint(shortest, longest))) for _ in range(rng.randint(1, steps))],
            "difficulty": rng.random(), "topic": rng.choice(["algebra", "geometry", None])}


def make_problems(count, seed=1, **shape):
    rng = random.Random(seed)
    return [make_problem(number, rng, **shape) for number in range(count)]


@functools.cache
def scratch():
    """A folder for the whole session, taken away at its end."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="strata-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def write_lines(path, problems):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(problem, ensure_ascii=False) + "\n" for problem in problems)


@functools.cache
def make_model(name="tiny", dtype="float32", seed=1, hidden=32, layers=3, intermediate=64, vocabulary=600, family="qwen3",
               head_dim=8):
    """A random checkpoint, made once a session; do not change it, copy it."""
    folder = scratch() / f"{name}-{dtype}-{seed}-{hidden}-{layers}-{intermediate}-{head_dim}-{family}"
    corpus = scratch() / "corpus.jsonl"
    if not corpus.exists():
        write_lines(corpus, make_problems(300, seed=99))
    heads = hidden // 8
    subprocess.run([sys.executable, SOURCE / "tools" / "make_model.py", "--to", folder, "--family", family,
                    "--hidden", str(hidden), "--layers", str(layers), "--heads", str(heads), "--kv-heads", str(heads // 2),
                    "--head-dim", str(head_dim), "--intermediate", str(intermediate), "--vocabulary", str(vocabulary),
                    "--dtype", dtype, "--seed", str(seed), "--shards", "2", "--corpus", corpus],
                   check=True, capture_output=True)
    return folder


def change_tensor(model, name, change):
    """Puts change(bytes) in place of the bytes of a tensor of a checkpoint."""
    for path in model.glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8:8 + length])
        if name in header:
            start, end = (8 + length + offset for offset in header[name]["data_offsets"])
            content[start:end] = change(content[start:end])
            path.write_bytes(content)
            return
    raise AssertionError(name)


WARNINGS = re.compile(r"strata: (drift: |share: |warn: |this launch starts slow: |[a-z ]+ \d+ has been computing for )")


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def last(self):
        """The line that says why: the last one on standard error but for the lines of a table behind it."""
        lines = [line for line in self.err.strip().splitlines() if not line.startswith("  ")]
        return lines[-1] if lines else ""

    def said(self):
        """Lines on standard error, without the warnings that a loaded machine draws."""
        return [line for line in self.err.splitlines() if not WARNINGS.match(line)]

    def __repr__(self):
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def wait_for(condition):
    """Until it holds: two minutes at most, after which it never will."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 120
        time.sleep(0.02)


def strata(*arguments, environment=None, timeout=300, cwd=None, program=STRATA):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, timeout=timeout, cwd=cwd,
                          env=environment or clean_environment())
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def merge(base, changes):
    """changes over base, section by section; None takes a key away."""
    merged = {section: dict(keys) for section, keys in base.items()}
    for section, keys in changes.items():
        for key, value in keys.items():
            merged.setdefault(section, {})[key] = value
            if value is None:
                del merged[section][key]
    return merged


class Job:
    """A job in FOLDER: problems.db, job.yaml, and the run directory out."""

    program = STRATA

    def __init__(self, folder, problems=None, model=None, /, **sections):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.output = self.folder / "out"
        self.file = self.folder / "job.yaml"
        self.database = self.folder / "problems.db"
        if problems is not None:
            self.import_problems(problems)
        self.keys = merge({"problems": {"database": "problems.db", "id": "problem_id", "max_tokens": 128},
                           "model": {"path": str(model or make_model()), "dtype": "float32", "device": "cpu"},
                           "latents": {"layers": [0, -2, -1], "dtype": "float32"},
                           "batch": {"problems": 3, "tokens": 384, "window": 16},
                           "run": {"output": "out", "checkpoint_every": 3, "threads": 1, "drift_stop": False,
                                   "disk_reserve_gb": 0}}, sections)
        self.write()

    def import_problems(self, problems):
        lines = self.folder / "problems.jsonl"
        write_lines(lines, problems)
        self.database.unlink(missing_ok=True)
        done = strata("import", lines, self.database)
        assert done.code == OK, done

    def change(self, **sections):
        self.keys = merge(self.keys, sections)
        self.write()

    def write(self):
        self.file.write_text(json.dumps(self.keys, indent=1, ensure_ascii=False))  # JSON is YAML

    def twin(self, folder, **sections):
        """The same job on the same database with a run directory of its own."""
        twin = Job.__new__(Job)
        twin.folder = pathlib.Path(folder)
        twin.folder.mkdir(parents=True, exist_ok=True)
        twin.output, twin.file, twin.database = twin.folder / "out", twin.folder / "job.yaml", self.database
        twin.program = self.program
        twin.keys = merge(merge(self.keys, {"problems": {"database": str(self.database)}}), sections)
        twin.write()
        return twin

    def command(self, *arguments):
        return [str(self.program), "run", str(self.file), "--quiet", *map(str, arguments)]

    def run(self, *arguments, expect=OK, **options):
        done = strata(*self.command(*arguments)[1:], program=self.program, **options)
        assert expect is None or done.code == expect, done
        return done

    def start(self, *arguments, **options):
        """The program in the background; the caller waits for it."""
        return subprocess.Popen(self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=options.pop("environment", clean_environment()), **options)

    def clear(self):
        shutil.rmtree(self.output, ignore_errors=True)

    # ---- what a run left behind

    def ledger(self):
        """The ledger's file: with run.ledger that of the local folder, unless its copy in the run directory has all."""
        place = self.output / "ledger.json"
        said = json.loads(place.read_text()) if place.exists() else {"copied": True}
        return (self.output if said["copied"] else pathlib.Path(said["path"])) / "ledger.sqlite"

    def query(self, sql, *values):
        """Rows of the ledger. A journal that a killed run left is rolled back by opening for writing."""
        ledger = sqlite3.connect(self.ledger())
        try:
            return ledger.execute(sql, values).fetchall()
        finally:
            ledger.close()

    def has_ledger(self):
        return self.ledger().exists() and bool(
            self.query("SELECT 1 FROM sqlite_master WHERE name = 'shard'"))

    def shards(self):
        """Name -> SHA-256 of every sealed shard in the folder."""
        return {path.name: file_hash(path) for path in sorted((self.output / "shards").glob("part-??????.h5"))}

    def acknowledged(self):
        return dict(self.query("SELECT name, sha256 FROM shard ORDER BY number")) if self.has_ledger() else {}

    def problems(self):
        """id -> (state, reason)."""
        return {key: (state, reason) for key, state, reason in self.query("SELECT id, state, reason FROM problem")}

    def outcomes(self):
        """What the ledger says of every problem: all that does not depend on time."""
        return self.query("SELECT ordinal, id, state, reason, batch, shard, place, tokens, rows, steps, truncated, checkpoint"
                          " FROM problem ORDER BY ordinal")

    def events(self, kind=None):
        return [row for row in self.query("SELECT kind, text FROM event ORDER BY number") if kind in (None, row[0])]

    def check_acknowledged(self, reference=None):
        """Every shard that the ledger knows is there with its bytes (and those of the reference run)."""
        there = self.shards()
        for name, sha256 in self.acknowledged().items():
            assert there.get(name) == sha256, f"{name} is acknowledged, but missing or changed"
            assert reference is None or reference[name] == sha256, f"{name} differs from the uninterrupted run"

    def check_finished(self, problems, reference=None):
        """A complete run: acknowledged and present shards agree, every problem is there once, verify finds nothing."""
        self.check_acknowledged()
        assert self.shards() == self.acknowledged()
        assert reference is None or self.shards() == reference
        ordinals = [row[0] for row in self.query("SELECT ordinal FROM problem ORDER BY ordinal")]
        assert ordinals == list(range(problems))
        leftovers = [path.name for path in self.output.rglob("*") if path.name.endswith((".tmp", ".partial.h5", "-journal"))]
        assert leftovers == []
        verified = strata("verify", self.output)
        assert verified.code == OK, verified


def file_hash(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def read_latents(job, layers=None):
    """{id: {"rows": [(step, token_start, token_end, byte_start, byte_end)], "hs_NNN": array [rows, hidden], ...}},
    read from the sealed shards alone; as many as the ledger has."""
    import h5py
    import numpy as np

    found = {}
    for path in sorted((job.output / "shards").glob("part-??????.h5")):
        with h5py.File(path, "r") as file:
            ids, at = file["problems/id"][:].tobytes(), file["problems/id_offset"][:]
            rows = file["problems/row_offset"][:]
            columns = [file["rows/" + name][:] for name in ("step", "token_start", "token_end", "byte_start", "byte_end")]
            latents = {name: file["latents/" + name][:] for name in file["latents"] if layers is None or name in layers}
            for p in range(len(at) - 1):
                span = slice(int(rows[p]), int(rows[p + 1]))
                key = ids[int(at[p]):int(at[p + 1])].decode()
                assert key not in found, f"{key} is stored twice"
                found[key] = {"rows": list(zip(*(column[span].tolist() for column in columns))),
                              "tokens": int(file["problems/token_count"][p]), "truncated": bool(file["problems/truncated"][p]),
                              "steps": int(file["problems/step_count"][p]),
                              **{name: np.ascontiguousarray(values[span]) for name, values in latents.items()}}
                if "tokens/ids" in file:
                    offset = file["tokens/offset"][:]
                    found[key]["ids"] = file["tokens/ids"][int(offset[p]):int(offset[p + 1])].tolist()
                if "tokens/loss_mask" in file:
                    found[key]["mask"] = file["tokens/loss_mask"][int(offset[p]):int(offset[p + 1])].tolist()
    assert [(len(found),)] == job.query("SELECT count(*) FROM problem WHERE state = ?", DONE)  # no loop over nothing
    return found
