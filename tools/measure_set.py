# SPDX-License-Identifier: MIT
"""Seconds and peak memory of a job in parts by its number of problems: the survey, each part's run, verify, export, and reading.

A tiny model reads short texts, so that the bookkeeping is what takes time. IDs are 16 random hexadecimal digits, which is what a
ledger's index likes least. Prints one line a step: seconds, seconds of processors (which a busy machine leaves alone), and the most memory that its process
had; then bytes a problem.

usage: build/venv/bin/python tools/measure_set.py --to FOLDER [--problems 100000] [--parts 2] [--strata build/strata]"""
import argparse
import hashlib
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
READING = {
    "open": "len(run)",
    "one by id": "run[sys.argv[2]]",
    "1000 by position": "[run.get(i * (len(run) // 1000)) for i in range(1000)]",
    "all, one by one": "[None for problem in run]",
    "all ids": "run.ids",
    "all latents": "run.latents(1)",
    "select": "run.select(lambda metadata: metadata['split'] == 'test')",
}


def name(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()[:16]


def make_inputs(folder: pathlib.Path, problems: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "problems.db")
    connection.execute("CREATE TABLE problems (problem_id TEXT, split TEXT, statement TEXT)")
    connection.executemany("INSERT INTO problems VALUES(?, ?, ?)",
                           ((name(i), "train" if i % 10 else "test", f"let n be {i}, so that n is {i % 97}") for i in range(problems)))
    connection.commit()
    connection.close()
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"statement": f"let n be {i}, so that n is {i % 97}"}) + "\n" for i in range(500)))
    subprocess.run([sys.executable, ROOT / "tools/make_model.py", "--to", folder / "model", "--family", "qwen3", "--hidden", "16",
                    "--layers", "1", "--heads", "2", "--kv-heads", "1", "--head-dim", "8", "--intermediate", "32", "--vocabulary", "400",
                    "--dtype", "float32", "--corpus", corpus], check=True, stdout=subprocess.DEVNULL)
    job = {"problems": {"database": str(folder / "problems.db"), "id": "problem_id", "text": "{statement}"},
           "model": {"path": str(folder / "model"), "dtype": "float32", "device": "cpu"},
           "latents": {"layers": [-1], "pooling": "mean", "dtype": "float16"},
           "batch": {"problems": 256}, "run": {"output": str(folder / "out"), "threads": 1, "drift_stop": False, "disk_reserve_gb": 0}}
    (folder / "job.yaml").write_text(json.dumps(job))


def measure(what: str, *command) -> None:
    begin = time.monotonic()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT / "tools/python")})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{what} ended with exit code {process.returncode}")
    print(f"{what:32} {time.monotonic() - begin:9.2f} s {usage.ru_utime + usage.ru_stime:9.2f} s of processors"
          f" {usage.ru_maxrss / 1000:9.1f} MB", flush=True)


def size(paths) -> int:
    return sum(path.stat().st_size for path in paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--to", type=pathlib.Path, required=True, help="folder for it all, new or empty")
    parser.add_argument("--problems", type=int, default=100_000)
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--strata", type=pathlib.Path, default=ROOT / "build/strata")
    given = parser.parse_args()
    folder, job, out = given.to, given.to / "job.yaml", given.to / "out"
    make_inputs(folder, given.problems)
    measure("survey", given.strata, "survey", job, "--quiet")
    for part in range(given.parts):
        measure(f"run part {part} of {given.parts}", given.strata, "run", job, "--part", f"{part}/{given.parts}", "--quiet")
    parts = sorted(out.glob("part-*"))
    measure("run part 0 again (finished)", given.strata, "run", job, "--part", f"0/{given.parts}", "--quiet")
    for what, run in (("part 0", parts[0]), ("the set", out)):
        measure(f"status of {what}", given.strata, "status", run)
        measure(f"verify {what}", given.strata, "verify", run)
        measure(f"export {what} to npy", given.strata, "export", run, "--format", "npy", "--to", folder / f"npy of {what}")
    for what, code in READING.items():
        measure(f"Python: {what}", sys.executable, "-c", f"import sys; from strata_reader import Run; run = Run(sys.argv[1]); {code}", out,
                name(given.problems // 2))
    for what, paths in (("ledgers", out.glob("part-*/ledger.sqlite")), ("shards", out.glob("part-*/shards/*")),
                        ("survey.sqlite", [out / "survey.sqlite"])):
        print(f"{what:32} {size(paths) / given.problems:9.2f} bytes a problem")


if __name__ == "__main__":
    main()
