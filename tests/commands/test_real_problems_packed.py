# SPDX-License-Identifier: MIT
"""The real problem set, as far as seconds go, through packed checkpoints of a small random model in Qwen2's real vocabulary: killed
several times and resumed, the shards are those of a run that was left alone. Skipped where the data does not lie beside the checkout."""
import random
import subprocess
import sys
import time

import pytest
from packed.checkpoints import quantised
from packed.gguf_model import gguf_model
from support import OK, SOURCE, Job, make_problems, scratch, strata

DATA = SOURCE.parent / "shared" / "data"
PROBLEMS = 3000
KILLS = 4

pytestmark = pytest.mark.skipif(not (DATA / "problems.jsonl.gz").exists(), reason="the real problem set is not beside the checkout")

CHECKPOINTS = {"nf4": lambda model, to: quantised(model, "bnb4", double=True).write(to),
               "awq": lambda model, to: quantised(model, "awq", group=64).write(to),
               "q4_k_m": lambda model, to: gguf_model(model, "Q4_K_M").write(to)}


@pytest.fixture(scope="module")
def numbers():
    """A job of the model before it is packed, with the database that the others share."""
    folder = scratch() / "real-packed"
    model = folder / "model"
    subprocess.run([sys.executable, SOURCE / "tools" / "make_model.py", "--to", model, "--family", "qwen3", "--hidden", "256",
                    "--layers", "2", "--heads", "4", "--kv-heads", "2", "--head-dim", "64", "--intermediate", "512",
                    "--vocabulary", "151936", "--seed", "1", "--tokenizer", DATA / "qwen2-tokenizer.json.gz"],
                   check=True, capture_output=True)
    job = Job(folder, make_problems(1), model, problems={"max_tokens": 2048}, model={"dtype": "bfloat16"},
              latents={"layers": [-2], "dtype": "float16"}, batch={"problems": 64, "tokens": 8192, "window": 1024},
              run={"checkpoint_every": 2})
    job.database.unlink()
    assert strata("import", DATA / "problems.jsonl.gz", job.database).code == OK
    return job


def sealed(job):
    return len(list((job.output / "shards").glob("part-??????.h5")))


def kill_after(job, shards, arguments):
    """SIGKILL once so many more shards than now lie in the folder. False: the run ended before."""
    wanted = sealed(job) + shards
    process = job.start(*arguments)
    while sealed(job) < wanted and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    return process.returncode < 0


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_killed_and_resumed(name, numbers, tmp_path):
    path = CHECKPOINTS[name](numbers.folder / "model", tmp_path / "packed")
    alone = numbers.twin(tmp_path / "alone", model={"path": str(path)})
    limit = ("--limit", str(PROBLEMS))
    alone.run(*limit)
    alone.check_finished(PROBLEMS)
    assert len(alone.shards()) > 3 * KILLS
    killed = alone.twin(tmp_path / "killed")
    rng = random.Random(name)
    kills = 0
    while kills < KILLS and kill_after(killed, rng.randint(1, 3), limit):
        killed.check_acknowledged(alone.shards())
        kills += 1
    assert sealed(killed) > 0  # a machine that starves this test may let the run end before the last of them
    killed.run(*limit)
    killed.check_finished(PROBLEMS, alone.shards())
    assert killed.outcomes() == alone.outcomes()
