# SPDX-License-Identifier: MIT
"""Bad input: what ends a run ends it before the first batch, with its exit code and one line that names the culprit;
what is wrong with one problem fails that problem alone."""
import json
import shutil
import signal
import sqlite3
import subprocess
import time

import numpy as np
import pytest

import support
from support import DATA, DEVICE, DONE, FAILED, JOB, OK, SKIPPED, WRITE, Job, make_problems, read_latents


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path, make_problems(12))


def refused(job, code, *words, check=True):
    """One line says why, no batch was run, and strata check ends with the same code (but for what is in the weights)."""
    done = job.run(expect=code)
    assert len(done.err.strip().splitlines()) == 1, done
    checked = support.strata("check", job.file)
    assert checked.code == (code if check else OK), checked
    # A job file that cannot be read leaves nothing to check.
    assert ("FAIL" in checked.out) == (check and checked.out != ""), checked
    assert done.last().startswith("strata run: "), done
    assert all(word in done.last() for word in words), done
    assert not job.has_ledger() or job.query("SELECT count(*) FROM batch") == [(0,)]
    return done


# ---- the job

@pytest.mark.parametrize("changes, words", [
    ({"problems": {"qurey": "x"}}, ["job.yaml:", "qurey", "query"]),
    ({"latents": {"layers": [-9]}}, ["latents.layers"]),
    ({"latents": {"layers": "2 of 3"}}, ["job.yaml:", "layers"]),
    ({"latents": {"layers": "some"}}, ["latents.layers: 'some' names no hidden state", "model.layers.2", "model.norm"]),
    ({"latents": {"layers": ["model.layer.1"]}}, ["did you mean 'model.layers.1'?"]),
    ({"latents": {"layers": ["model.layers.3"]}}, ["'model.layers.3' does not exist", "hidden states 0 to 3, pre_norm"]),
    ({"latents": {"layers": ["model.layers.1.mlp"]}}, ["is a part of a block"]),
    ({"latents": {"layers": ["blocks.1.hook_resid_mid"]}}, ["is no hook that is kept"]),
    ({"latents": {"layers": ["ln_final.hook_normalized"]}}, ["before its weights"]),
    ({"batch": {"tokens": 0}}, ["tokens"]),
    ({"run": {"checkpoint_every": 0}}, ["job.yaml:", "checkpoint_every"]),
    ({"problems": {"text": "{statement} only"}}, ["problems.text", "{steps}"]),
])
def test_bad_job(job, changes, words):
    if changes.get("problems", {}).get("text"):
        changes["problems"]["steps"] = {"column": "steps"}
    job.change(**changes)
    refused(job, JOB, *words)


def test_no_job_file(tmp_path):
    done = support.strata("run", tmp_path / "none.yaml")
    assert done.code == JOB and "none.yaml" in done.last(), done


def test_no_gpu(job):
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine may have a GPU")
    job.change(model={"device": "cuda:0"})
    refused(job, DEVICE, "cuda:0")


# ---- the database

def test_missing_database(job):
    job.database.unlink()
    refused(job, DATA, "problems.db")


def test_not_a_database(job):
    job.database.write_bytes(b"no database at all " * 400)
    refused(job, DATA, "problems.db")


def test_damaged_database(tmp_path):
    job = Job(tmp_path, make_problems(400))
    content = bytearray(job.database.read_bytes())
    for at in range(8192, len(content), 4096):
        content[at:at + 64] = b"\xff" * 64
    job.database.write_bytes(content)
    done = job.run(expect=DATA)
    assert "problems.db" in done.last(), done


@pytest.mark.parametrize("query, words", [
    ("SELECT statement, steps FROM problems", ["problem_id"]),
    ("SELECT problem_id, steps FROM problems", ["statement"]),
    ("DELETE FROM problems", ["SELECT"]),
    ("SELECT * FROM nowhere", ["nowhere"]),
    ("SELECT * FROM problems; SELECT 1", []),
    ("SELEKT", ["SELEKT"]),
    ("SELECT statement, steps, 'same' AS problem_id FROM problems", ["same"]),
    ("SELECT statement, steps, NULL AS problem_id FROM problems", ["problem_id"]),
])
def test_bad_query(job, query, words):
    job.change(problems={"query": query})
    refused(job, DATA, *words)
    assert sqlite3.connect(job.database).execute("SELECT count(*) FROM problems").fetchone() == (12,)


def test_database_written_while_the_run_reads(tmp_path):
    """The run holds a read transaction: a writer is refused, and the run's rows stay as they were. The run stands still
    while the other writes, with most of its rows still to be read."""
    problems = 400
    job = Job(tmp_path, make_problems(problems))
    undisturbed = job.twin(tmp_path / "undisturbed")
    undisturbed.run()
    process = job.start()
    log = job.output / "run.log"
    while not (log.exists() and "calibrating" in log.read_text()):
        assert process.poll() is None
        process.send_signal(signal.SIGCONT)
        time.sleep(0.005)
        process.send_signal(signal.SIGSTOP)
    writer = sqlite3.connect(job.database, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        writer.execute("UPDATE problems SET statement = 'changed'")
        writer.commit()
    writer.close()
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == OK, err
    job.check_finished(problems, undisturbed.shards())


def test_database_in_wal_mode(tmp_path):
    """There a writer goes through, and the run keeps seeing its own snapshot."""
    job = Job(tmp_path, make_problems(20))
    database = sqlite3.connect(job.database)
    assert database.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    database.close()
    job.run()
    job.check_finished(20)


# ---- tokenizer and model

@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(support.make_model(), folder)
    return folder


@pytest.fixture
def own(tmp_path, model):
    """A job on a model of its own, free to be broken."""
    return Job(tmp_path / "job", make_problems(12), model)


def edit_json(path, **changes):
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def test_missing_model(own, model):
    shutil.rmtree(model)
    own.change(model={"tokenizer": str(support.make_model() / "tokenizer.json")})
    refused(own, DATA, "there is no folder", "hf download")


def test_missing_tokenizer(own, model):
    (model / "tokenizer.json").unlink()
    refused(own, DATA, "tokenizer.json")


def test_broken_tokenizer(own, model):
    path = model / "tokenizer.json"
    path.write_text(path.read_text()[:5000])
    refused(own, DATA, "tokenizer.json")


def test_unknown_family(own, model):
    edit_json(model / "config.json", model_type="mamba")
    refused(own, DATA, "mamba")


def test_wrong_shape(own, model):
    edit_json(model / "config.json", intermediate_size=128)
    refused(own, DATA, "mlp")


def test_truncated_weights(own, model):
    path = sorted(model.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-1000])
    refused(own, DATA, path.name)


def test_missing_shard(own, model):
    path = sorted(model.glob("*.safetensors"))[1]
    path.unlink()
    refused(own, DATA, path.name)


def overwrite_tensor(model, name, number):
    """Sets values of a float32 tensor to NaN."""
    def overwritten(content):
        values = np.frombuffer(content, dtype=np.float32).copy()
        values[number] = np.nan
        return values.tobytes()
    support.change_tensor(model, name, overwritten)


def test_weights_with_nan(own, model):
    overwrite_tensor(model, "model.layers.1.mlp.up_proj.weight", slice(None))
    done = refused(own, DATA, check=False)
    assert "finite" in done.last() or "NaN" in done.last(), done


def test_vocabulary_too_small(tmp_path):
    """A tokenizer of another model: texts with ids beyond the embedding fail by name."""
    job = Job(tmp_path, make_problems(12), support.make_model("small", vocabulary=300), problems={"max_failed": 12},
              model={"tokenizer": str(support.make_model() / "tokenizer.json")})
    assert "no problem was done" in job.run(expect=DATA).last()
    reasons = [reason for state, reason in job.problems().values() if state == FAILED]
    assert reasons and all("outside the model's vocabulary of 300" in reason for reason in reasons)
    job.change(problems={"max_failed": 0, "allow_empty": True})
    assert "12 of 12 failed" in job.run(expect=DATA).last()


# ---- one problem

def test_texts_fail_alone(tmp_path):
    """Raw bytes that JSON could not carry go into the database by SQL."""
    job = Job(tmp_path, make_problems(20), problems={"max_failed": 10, "max_text_bytes": 100000})
    database = sqlite3.connect(job.database)
    for number, value in ((2, "''"), (4, "CAST(x'610062' AS TEXT)"), (6, "CAST(x'61c328' AS TEXT)"), (8, "NULL"),
                          (10, "printf('%.*c', 10000000, 'a')"), (12, "x'00ff'")):
        database.execute(f"UPDATE problems SET statement = {value} WHERE rowid = {number + 1}")
    database.execute("UPDATE problems SET steps = '[]' WHERE rowid = 15")
    database.execute("UPDATE problems SET steps = '[1, 2]' WHERE rowid = 17")
    database.commit()
    database.close()
    done = job.run()
    assert "13 done, 6 failed, 1 skipped" in done.out, done
    job.check_finished(20)
    found = job.problems()
    for number, word in ((4, "NUL"), (6, "UTF-8"), (8, "NULL"), (10, "10000"), (12, "blob"), (16, "array")):
        state, reason = found[f"p-{number:05d}"]
        assert state == FAILED and word in reason, (number, reason)
    assert found["p-00002"] == (DONE, None)  # an empty statement is no fault: its steps are there
    assert found["p-00014"][0] == SKIPPED
    # The others have the bits that they have without bad company.
    alone = Job(tmp_path / "alone", make_problems(20), problems={"max_text_bytes": 100000})
    alone.run()
    expected = read_latents(alone)
    for key, problem in read_latents(job).items():
        if key != "p-00002":
            assert problem["hs_002"].tobytes() == expected[key]["hs_002"].tobytes()


def test_ten_megabytes_within_the_limit(tmp_path):
    """A text of 10 MB that the job allows is cut to max_tokens like any other."""
    problems = make_problems(4)
    problems[1]["statement"] = "a b " * 2500000
    job = Job(tmp_path, problems, problems={"max_text_bytes": 20000000, "max_failed": 1},
              latents={"pooling": "last"})
    job.run()
    found = read_latents(job)["p-00001"]
    assert found["truncated"] and found["tokens"] == 128


def test_nan_of_one_problem(tmp_path, model):
    """One row of the embedding is NaN: only the problems that use that token fail, also after a stop."""
    problems = make_problems(30, seed=5)
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    used = {p["problem_id"]: set(tokenizer.encode(p["statement"] + "\n" + "\n".join(p["steps"])).ids[:128]) for p in problems}
    counts = {token: sum(token in ids for ids in used.values()) for ids in used.values() for token in ids}
    token = min((count, token) for token, count in counts.items() if count >= 3)[1]
    clean = Job(tmp_path / "clean", problems, model)
    clean.run()
    overwrite_tensor(model, "model.embed_tokens.weight", slice(token * 32, token * 32 + 32))
    job = Job(tmp_path / "job", problems, model, problems={"max_failed": 30})
    job.run()
    job.check_finished(30)
    failed = {key for key, (state, _) in job.problems().items() if state == FAILED}
    assert failed == {key for key, ids in used.items() if token in ids}
    assert all("NaN" in job.problems()[key][1] and "hidden_states[" in job.problems()[key][1] for key in failed)
    expected, found = read_latents(clean), read_latents(job)
    assert found.keys() == expected.keys() - failed
    assert all(found[key]["hs_003"].tobytes() == expected[key]["hs_003"].tobytes() for key in found)
    cut = job.twin(tmp_path / "cut")
    while cut.run("--stop-after", 1, expect=None).code == support.STOPPED:
        pass
    cut.check_finished(30, job.shards())
    assert cut.outcomes() == job.outcomes()


# ---- where nothing can be written

def test_output_that_cannot_be_made(job, tmp_path):
    (tmp_path / "file").write_text("")
    job.change(run={"output": str(tmp_path / "file" / "out")})
    done = job.run(expect=WRITE)
    assert "file" in done.last() and len(done.err.strip().splitlines()) == 1, done


def test_read_only_disk(job, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,ro", "none", disk], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        job.change(run={"output": str(disk / "out")})
        done = job.run(expect=WRITE)
        assert len(done.err.strip().splitlines()) == 1, done
    finally:
        subprocess.run(["umount", disk], check=True)
