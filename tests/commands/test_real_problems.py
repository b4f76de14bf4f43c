# SPDX-License-Identifier: MIT
"""The real problem set through a small random model in Qwen2's real vocabulary: to the end, killed and resumed at least 20
times, and with another thread count. Skipped where the data does not lie beside the checkout."""
import csv
import random
import subprocess
import sys

import pytest
from support import OK, SOURCE, STOPPED, Job, make_problems, scratch, strata

DATA = SOURCE.parent / "shared" / "data"
PROBLEMS, ROWS = 21456, 56850
KILLS = 20

pytestmark = pytest.mark.skipif(not (DATA / "problems.jsonl.gz").exists(), reason="the real problem set is not beside the checkout")


@pytest.fixture(scope="module")
def job():
    folder = scratch() / "real"
    model = folder / "model"
    subprocess.run([sys.executable, SOURCE / "tools" / "make_model.py", "--to", model, "--family", "qwen3", "--hidden", "64",
                    "--layers", "4", "--heads", "4", "--kv-heads", "2", "--head-dim", "16", "--intermediate", "128",
                    "--vocabulary", "151936", "--seed", "1", "--shards", "2",
                    "--tokenizer", DATA / "qwen2-tokenizer.json.gz"], check=True, capture_output=True)
    job = Job(folder, make_problems(1), model, problems={"max_tokens": 2048}, model={"dtype": "bfloat16"},
              latents={"layers": [-2], "dtype": "float16"}, batch={"problems": 64, "tokens": 8192, "window": 1024},
              run={"checkpoint_every": 10})
    job.database.unlink()
    assert strata("import", DATA / "problems.jsonl.gz", job.database).code == OK
    job.run("--threads", "2", timeout=900)
    return job


def test_every_problem_is_there_and_verifies(job):
    assert job.query("SELECT count(*), sum(rows) FROM problem WHERE state = 0") == [(PROBLEMS, ROWS)]
    assert strata("verify", job.output).code == OK


@pytest.mark.parametrize("tokens, least", [(8192, 99.4), (2048, 99), (4096, 99), (16384, 99), (32768, 99)])
def test_batches_are_full(job, tmp_path, tokens, least):
    """Of the tokens that a GPU computes for a job that leaves the other limits open."""
    twin = job.twin(tmp_path, model={"device": "auto"}, batch={"problems": None, "window": None, "tokens": tokens})
    planned = {line.split()[0]: line.split()[1] for line in strata("plan", twin.file).out.splitlines() if line[:1].strip()}
    assert float(planned["fill"]) >= least, planned
    assert "warning" not in planned


def test_memory_stays_flat(job):
    """Resident memory once every buffer was touched, against the end: no growth with the number of problems."""
    with open(job.output / "throughput.csv") as lines:
        memory = [int(row["memory_bytes"]) for row in csv.DictReader(lines)]
    assert len(memory) > 600
    assert max(memory) - max(memory[:100]) < 16 << 20


def test_killed_twenty_times_and_with_one_thread(job):
    killed = job.twin(job.folder / "killed")
    rng = random.Random(3)
    kills = 0
    while kills < KILLS:
        process = killed.start()
        try:
            # Late kills come only while there is enough left to be killed in again.
            process.communicate(timeout=rng.uniform(0.2, 1.8))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            killed.check_acknowledged(job.shards())
    assert kills == KILLS, "the run ended before it was killed often enough"
    killed.run("--threads", "1", timeout=900)
    assert killed.shards() == job.shards()
    assert killed.outcomes() == job.outcomes()
    assert strata("verify", killed.output).code == OK


def test_stopped_and_exported(job, tmp_path):
    stopped = job.twin(job.folder / "stopped")
    stopped.run("--stop-after", "33", expect=STOPPED)
    assert strata("export", stopped.output, "--format", "safetensors", "--to", tmp_path / "part").code == OK
    assert strata("export", job.output, "--format", "npy", "--to", tmp_path / "all", "--split", "source").code == OK
