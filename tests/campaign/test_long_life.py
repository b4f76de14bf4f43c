# SPDX-License-Identifier: MIT
"""Memory does not grow with the number of problems: resident bytes at each batch of one long run."""
import csv
import json
import pathlib

from support import Job, strata

import campaign

ALLOWED = 8 << 20  # bytes between the first tenth of the run and its end


def write_problems(path, count):
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            file.write(json.dumps({"problem_id": f"p-{number}", "statement": f"let n be {number}", "steps": ["so", "it is"]}) + "\n")


def test_memory_is_flat(tmp_path):
    count = campaign.attempts(12_000, 1_000_000)
    with campaign.memory_folder() as memory:
        job = Job(tmp_path, None, latents={"layers": [-2], "dtype": "float16"},
                  batch={"problems": 64, "tokens": 2048, "window": 1024}, run={"output": f"{memory}/out", "checkpoint_every": 40})
        job.output = pathlib.Path(memory) / "out"
        lines = pathlib.Path(memory) / "problems.jsonl"
        write_problems(lines, count)
        assert strata("import", lines, job.database, timeout=3600).code == 0
        lines.unlink()
        job.run(timeout=6 * 3600)
        assert job.query("SELECT count(*) FROM problem WHERE state = 0") == [(count,)]
        with open(job.output / "throughput.csv") as file:
            memory_bytes = [int(row["memory_bytes"]) for row in csv.DictReader(file)]
    batches = len(memory_bytes)
    assert batches > 100
    first, last = max(memory_bytes[:batches // 10]), max(memory_bytes)
    grown = [] if last - first < ALLOWED else [f"{first} bytes in the first tenth, {last} at most"]
    campaign.record("a long run's memory", grown, problems=count, batches=batches, first_tenth_mb=round(first / 1e6, 1),
                    most_mb=round(last / 1e6, 1))
