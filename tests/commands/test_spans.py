# SPDX-License-Identifier: MIT
"""Steps as spans of a rendered text, the loss mask of their tokens, and the last token of each."""
import json
import random

import h5py
import numpy as np
import pytest

import support
from strata_reader import Run
from support import DATA, DONE, FAILED, OK, SKIPPED, STOPPED, WORDS, Job, read_latents, strata

ENV = support.clean_environment(CUDA_EMULATION_PREFER="7")
STEPS = {"spans": "roles", "roles": ["assistant"]}
KEPT = {"layers": [1, -1], "token_ids": True, "loss_mask": True}


def chat(number, rng, turns=3, longest=12):
    """A rendered conversation, and where each of its messages is."""
    text, roles = "", []
    for role in ["system"] + ["user", "assistant"] * turns:
        text += f"<{role}>\n"
        said = " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))
        roles.append({"role": role, "start": len(text.encode()), "end": len((text + said).encode())})
        text += said + "\n"
    return {"problem_id": f"chat-{number:03d}", "text": text, "roles": roles, "split": ("train", "test")[number % 2]}


def chats(count, **shape):
    rng = random.Random(5)
    return [chat(number, rng, **shape) for number in range(count)]


def chat_job(folder, rows, **sections):
    return Job(folder, rows, None, **support.merge({"problems": {"text": "{text}", "steps": STEPS, "max_tokens": 512},
                                                    "latents": KEPT, "run": {"checkpoint_every": 2}}, sections))


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    job = chat_job(tmp_path_factory.mktemp("spans"), chats(20), latents={"pooling": "last_of_step"})
    job.run()
    job.check_finished(20)
    return job


def check_last(job, tokens):
    """Row by row, the bits that the token has in a run that keeps every token."""
    found, every = read_latents(job), read_latents(tokens)
    assert found.keys() == every.keys() and sum(len(problem["rows"]) for problem in found.values()) > len(found)
    for key, problem in found.items():
        last = [row[1] for row in problem["rows"]]
        assert all(row[2] == row[1] + 1 for row in problem["rows"]) and problem["mask"] == every[key]["mask"]
        for name in ("hs_001", "hs_003"):
            assert problem[name].tobytes() == every[key][name][last].tobytes()
        owned = np.flatnonzero(np.diff([*problem["mask"], 0]) < 0)  # where a stretch of the mask ends
        assert [token for token in owned if token in last] == owned.tolist()


def test_last_tokens_and_masks(job, tmp_path):
    tokens = job.twin(tmp_path / "tokens", latents={"pooling": "tokens"})
    tokens.run()
    check_last(job, tokens)
    means = job.twin(tmp_path / "means", latents={"pooling": "step_mean"})
    means.run()
    last = read_latents(job)
    for key, problem in read_latents(means).items():
        mask = np.zeros(problem["tokens"], int)
        for _, start, end, *_ in problem["rows"]:
            mask[start:end] = 1
        assert problem["mask"] == mask.tolist() and 0 < sum(mask) < len(mask)
        assert [row[2] for row in last[key]["rows"]] == [row[2] for row in problem["rows"]]


def test_the_rest_of_a_run_is_as_ever(job, tmp_path):
    """Without a loss mask the shards are those of the same job but for it, and no key of the identity tells of it."""
    plain = job.twin(tmp_path, latents={"loss_mask": None})
    plain.run()
    keys = dict(plain.query("SELECT key, value FROM identity"))
    assert "latents.loss_mask" not in keys and keys["problems.steps.roles"] == "[assistant]"
    refused = strata("run", job.twin(tmp_path / "other", run={"output": str(plain.output)}).file)
    assert refused.code == support.JOB and "latents.loss_mask" in refused.err
    found, masked = read_latents(plain), read_latents(job)
    for key, problem in masked.items():
        del problem["mask"]
        assert all(np.array_equal(found[key][name], problem[name]) for name in problem)


def test_stops_and_the_view(job, tmp_path):
    other = job.twin(tmp_path)
    for batches in (1, 2, 1):
        other.run("--stop-after", batches, expect=STOPPED)
    other.run()
    other.check_finished(20, job.shards())
    with h5py.File(job.output / "latents.h5") as view:
        parts = [h5py.File(path) for path in sorted((job.output / "shards").glob("*.h5"))]
        whole = np.concatenate([part["tokens/loss_mask"][:] for part in parts])
        assert len(parts) > 1 and np.array_equal(view["tokens/loss_mask"][:], whole) and whole.dtype == np.uint8
        for part in parts:
            part.close()


def test_readers_and_exports(job, tmp_path):
    latents = read_latents(job)
    with Run(job.output) as run:
        for key, problem in latents.items():
            assert run[key]["loss_mask"].tolist() == problem["mask"]
            roles = json.loads(run[key]["metadata"]["roles"])
            assert [roles[2 * step + 2]["role"] for step in run[key]["rows"]["step"]] == ["assistant"] * len(problem["rows"])
    for form in ("npy", "hdf5"):
        done = strata("export", job.output, "--to", tmp_path / form, "--format", form, "--split", "source")
        assert done.code == OK, done
    masks = {split: [mask for key, problem in sorted(latents.items()) if int(key[-3:]) % 2 == (split == "test") for mask in problem["mask"]]
             for split in ("train", "test")}
    for split, mask in masks.items():
        assert np.load(next((tmp_path / "npy").rglob(f"{split}*/loss_mask.npy"))).tolist() == mask
        with h5py.File(next((tmp_path / "hdf5").rglob(f"{split}*.h5"))) as file:
            assert file["tokens/loss_mask"][:].tolist() == mask
    shown = strata("show", job.output, "chat-003").out
    assert "row 0: step 0 (assistant), tokens " in shown and f"loss mask   {sum(latents['chat-003']['mask'])} of " in shown


@pytest.mark.parametrize("pooling", ["last_of_step", "step_mean"])
def test_verify_looks_at_masks(job, tmp_path, pooling):
    """A shard whose mask was changed, its hash in the ledger with it."""
    other = job.twin(tmp_path, latents={"pooling": pooling})
    other.run()
    path = other.output / "shards" / "part-000001.h5"
    with h5py.File(path) as file:
        mask, offset = file["tokens/loss_mask"][:], int(file["tokens/offset"][1])
        rows = list(zip(file["rows/token_start"][:int(file["problems/row_offset"][1])], file["rows/token_end"][:]))
        problem = bytes(file["problems/id"][:int(file["problems/id_offset"][1])]).decode()
    (start, end), fault = rows[0], f"the loss mask of problem '{problem}' is not that of its steps"
    for token, value, words in ((3, 2, "/tokens/loss_mask is 2 at token 3, not 0 or 1"), (int(end) - 1, 0, fault), (int(end), 1, fault),
                                (0, 1, fault), (offset - 1, 1, fault), (None, 0, None)):
        with h5py.File(path, "r+") as file:
            changed = mask.copy()
            if token is not None:
                assert changed[token] != value
                changed[token] = value
            file["tokens/loss_mask"][:] = changed
        ledger = support.sqlite3.connect(other.ledger())
        ledger.execute("UPDATE shard SET sha256 = ?, bytes = ? WHERE number = 1", (support.file_hash(path), path.stat().st_size))
        ledger.commit()
        ledger.close()
        found = strata("verify", other.output)
        assert found.code == (OK if words is None else DATA) and (words or "0 faults") in found.out + found.err, (token, found)


def test_spans_that_do_not_fit_fail_alone(tmp_path):
    rows = chats(6)
    rows[1]["roles"][2]["end"] = 100000
    rows[2]["roles"][1], rows[2]["roles"][2] = rows[2]["roles"][2], rows[2]["roles"][1]
    rows[3]["roles"] = [{"role": "user", "start": 0, "end": 4}]
    rows[4]["roles"] = "assistant"
    job = chat_job(tmp_path, rows, problems={"max_failed": 3})
    checked = strata("check", job.file)
    assert checked.code == OK and "3 of 6 problems fail; problems.max_failed allows 3" in " ".join(checked.out.split())
    job.run()
    found = job.problems()
    assert [found[row["problem_id"]][0] for row in rows] == [DONE, FAILED, FAILED, SKIPPED, FAILED, DONE]
    assert found["chat-001"][1].startswith("spans: item 3: bytes ") and "are no span of a text of" in found["chat-001"][1]
    assert found["chat-002"][1].startswith("spans: item 3: it begins at byte ")
    assert found["chat-003"][1] == "the problem has no steps"
    job.change(problems={"max_failed": 2})
    assert strata("check", job.file).code == DATA


@pytest.mark.parametrize("program, device", [(support.STRATA, "cpu"), pytest.param(support.EMULATED, "cuda:0", marks=pytest.mark.skipif(
    not support.EMULATED.exists(), reason="built without the emulation of CUDA"))])
def test_steps_across_slices(program, device, tmp_path):
    """Texts of several batches each: a step lies in two of their slices, or in more."""
    rows = [*chats(1), *(chat(number, random.Random(number), turns=6, longest=90) for number in (1, 2)[:1 if device != "cpu" else 2])]
    model = {"device": device, "dtype": "bfloat16"} if device != "cpu" else {}
    job = chat_job(tmp_path / "sliced", rows, problems={"max_tokens": 4096}, batch={"tokens": 256, "problems": 0, "window": 0},
                   model=model, latents={"pooling": "last_of_step"})
    job.program = program
    tokens = job.twin(tmp_path / "tokens", latents={"pooling": "tokens"}, batch={"tokens": 4096})
    for one in (job, tokens):
        one.run(environment=ENV)
        one.check_finished(len(rows))
    assert job.query("SELECT max(tokens) FROM problem")[0][0] > 512
    check_last(job, tokens)


def test_a_text_that_is_more_than_the_column_of_the_spans_is_noted(job, tmp_path):
    for text, noted in (("{text}", False), ("{text}\n", False), ("Q: {text}", True), ("{split}{text}", True), ("{{{text}", True)):
        other = job.twin(tmp_path, problems={"text": text, "max_failed": 20, "allow_empty": True})
        said = " ".join(strata("check", other.file).out.split())
        assert ("note template problems.steps.spans: problems.text is more than one column" in said) == noted, (text, said)
