#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes runs.tar.xz and expected.json beside it with a given program: what a program of former times left behind.

    STRATA_BUILD=FOLDER PYTHONPATH=tests:tools/python python3 tests/commands/former_runs/make.py    # FOLDER/strata is the program

Only a change of a format that means to give up old runs makes them anew; see README.md.
"""
import hashlib
import json
import pathlib
import re
import tarfile
import tempfile

import h5py

import support

HERE = pathlib.Path(__file__).resolve().parent
FORMATS = ("safetensors", "npy", "hdf5", "rjepa")
KEPT = ("finished", "stage", "problems", "batches", "shards", "retry")  # of status --json: what no clock and no machine changes
BATCHES = "SELECT number, problems, tokens, rows FROM batch ORDER BY number"
SHOWN = ("p-00002", "p-00006")  # done, failed


def make_problems():
    problems = support.make_problems(24, seed=5)
    problems[6]["statement"] = "too long " * 200
    return problems


def hash_datasets(path):
    """Of what an HDF5 file holds: its own bytes depend on the library's version."""
    digest = hashlib.sha256()

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            digest.update(f"{name} {item.dtype.str} {item.shape}".encode() + item[()].tobytes())

    with h5py.File(path) as file:
        file.visititems(add)
    return digest.hexdigest()


# Members of R-JEPA's lines that the program of that day did not write.
LATER = re.compile(rb'"(problem_id|latent_id|llm_tag|domain|subdomain)":"[^"]*",|"(layer_idx|hidden_size)":-?\d+,'
                   rb'|"step_boundaries":\[[^"]*\],')


def hash_file(path):
    if path.suffix == ".h5":
        return hash_datasets(path)
    content = path.read_bytes()
    is_rjepa = path.parent.name == "rjepa" and path.suffix == ".jsonl"
    return hashlib.sha256(LATER.sub(b"", content) if is_rjepa else content).hexdigest()


def hash_exports(folder, to):
    """Of everything that an export writes but export.json, which names the program's version and the folder."""
    hashes = {}
    for name in FORMATS:
        layer = ["--layers", "-1"] if name == "rjepa" else []
        done = support.strata("export", folder, "--format", name, "--to", to / name, *layer)
        assert done.code == support.OK, done
        hashes.update({str(path.relative_to(to)): hash_file(path) for path in sorted((to / name).rglob("*"))
                       if path.is_file() and path.name != "export.json" and path.suffix != ".parquet"})
    return hashes


def find_numbers(job, key):
    """What show says in numbers with a point: norms, means and the first numbers of every vector."""
    return re.findall(r"[-+]?\d+\.\d+(?:e-?\d+)?", support.strata("show", job.output, key).out)


def look(job, to):
    """What a run tells of itself."""
    status = json.loads(support.strata("status", job.output, "--json").out)
    return {"status": {key: status[key] for key in KEPT}, "shards": job.shards(), "outcomes": job.outcomes(),
            "batches": job.query(BATCHES),
            "shown": {key: find_numbers(job, key) for key in SHOWN}, "exports": hash_exports(job.output, to)}


def main():
    with tempfile.TemporaryDirectory(prefix="former-") as folder:
        top = pathlib.Path(folder)
        model = support.make_model(dtype="bfloat16", hidden=16, intermediate=32, vocabulary=300).rename(top / "model")
        finished = support.Job(top / "finished", make_problems(), model, problems={"max_text_bytes": 1500, "max_failed": 1},
                               model={"path": "../model", "cpu_path": "portable"}, latents={"dtype": "float16", "token_ids": True})
        finished.database = finished.database.rename(top / "problems.db")
        (finished.folder / "problems.jsonl").unlink()
        finished.change(problems={"database": "../problems.db"})
        finished.run()
        uninterrupted = finished.outcomes()
        finished.run("--retry-failed=all")  # fails again; the ledger then holds an event and a retry
        stopped = finished.twin(top / "stopped")
        stopped.change(problems={"database": "../problems.db"})
        for batches in (1, 4):
            stopped.run("--stop-after", batches, expect=support.STOPPED)
        assert len(stopped.shards()) == 1 and stopped.query("SELECT batches FROM partial") == [(2,)]
        expected = {job.folder.name: look(job, top / "exported" / job.folder.name) for job in (finished, stopped)}
        expected["uninterrupted"] = uninterrupted
        (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
        with tarfile.open(HERE / "runs.tar.xz", "w:xz") as archive:
            for name in ("model", "problems.db", "finished", "stopped"):
                archive.add(top / name, arcname=name)


if __name__ == "__main__":
    main()
