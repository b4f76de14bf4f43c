# SPDX-License-Identifier: MIT
"""What a run stores, against transformers on the same checkpoint and the tokenizers library on the same texts: step
means, other poolings, dtypes, layers, spans, token ids, statistics, truncation."""
import json

import h5py
import numpy as np
import pytest

import support
from parity import tokenizers, torch, transformers
from support import Job, make_problems, read_latents

MAX_TOKENS = 60


def bits_to_float(values):
    """bfloat16 that h5py shows as float32 is float32 already; float16 widens exactly."""
    return values.astype(np.float64)


class Oracle:
    """Hidden states of every layer for every problem, cut to MAX_TOKENS as transformers cuts."""

    def __init__(self, problems, model):
        self.tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
        network = transformers.AutoModel.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").eval()
        self.of = {}
        for problem in problems:
            text = problem["statement"] + "\n" + "\n".join(problem["steps"])
            encoded = self.tokenizer.encode(text)
            ids = encoded.ids[:MAX_TOKENS]
            with torch.no_grad():
                states = network(torch.tensor([ids]), output_hidden_states=True).hidden_states
            self.of[problem["problem_id"]] = {
                "ids": ids, "text": text, "cut": len(encoded.ids) > MAX_TOKENS,
                "states": [state[0].double().numpy() for state in states],
                "steps": self.step_tokens(problem, text, encoded.offsets[:MAX_TOKENS])}

    @staticmethod
    def step_tokens(problem, text, offsets):
        """(step, first token, last token + 1, first byte, last byte + 1) of the steps that own a token. Offsets of
        the library count characters; a token belongs to the step in which its first character lies."""
        rows, at = [], len(problem["statement"]) + 1
        for number, step in enumerate(problem["steps"]):
            own = [t for t, (start, end) in enumerate(offsets) if at <= start < at + len(step)]
            if own:
                first_byte = len(text[:at].encode())
                rows.append((number, own[0], own[-1] + 1, first_byte, first_byte + len(step.encode())))
            at += len(step) + 1
        return rows


@pytest.fixture(scope="module")
def problems():
    return make_problems(24, seed=3)


@pytest.fixture(scope="module")
def oracle(problems):
    return Oracle(problems, support.make_model())


@pytest.fixture(scope="module")
def base(problems, tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("latents"), problems, problems={"max_tokens": MAX_TOKENS},
              latents={"layers": "all", "token_ids": True})
    job.run()
    return job


def pooled(states, rows):
    return np.stack([states[start:end].mean(axis=0) for _, start, end, *_ in rows])


def close(found, expected, tolerance=1e-5):
    """Relative to each row's length; NaN never passes."""
    found, expected = bits_to_float(found), bits_to_float(expected)
    assert found.shape == expected.shape and np.isfinite(found).all()
    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert errors.max() <= tolerance, errors.max()
    return errors.max()


def test_step_means(base, oracle):
    found, worst, cut, lost = read_latents(base), 0, 0, 0
    assert found.keys() == oracle.of.keys()
    for key, problem in found.items():
        expected = oracle.of[key]
        assert problem["ids"] == expected["ids"] and problem["tokens"] == len(expected["ids"])
        assert problem["truncated"] == expected["cut"]
        assert problem["rows"] == expected["steps"]
        cut += expected["cut"]
        lost += problem["steps"] - len(problem["rows"])
        for layer in range(4):
            worst = max(worst, close(problem[f"hs_{layer:03d}"], pooled(expected["states"][layer], expected["steps"])))
    assert cut > 3 and lost > 3  # or truncation would not have been tried
    print(f"largest relative error of a step mean: {worst:.2e}")


@pytest.mark.parametrize("pooling", ["mean", "last", "tokens", "last_of_step"])
def test_other_poolings(base, oracle, tmp_path, pooling):
    job = base.twin(tmp_path, latents={"pooling": pooling, "layers": [-2, -1]})
    job.run()
    for key, problem in read_latents(job).items():
        expected = oracle.of[key]
        count = len(expected["ids"])
        tokens = {"mean": [(0, 0, count)], "last": [(0, count - 1, count)], "tokens": [(t, t, t + 1) for t in range(count)],
                  "last_of_step": [(step, end - 1, end) for step, _, end, *_ in expected["steps"]]}
        assert [row[:3] for row in problem["rows"]] == tokens[pooling]
        if pooling == "mean":
            assert problem["rows"][0][3:] == (0, len(expected["text"].encode()))
        for layer in (2, 3):
            close(problem[f"hs_{layer:03d}"], pooled(expected["states"][layer], tokens[pooling]))


def test_spans_and_their_loss_mask(oracle, problems, tmp_path):
    """The steps as spans of the finished text, every second one an assistant's: tokens by the library's offsets."""
    rows = []
    for problem in problems:
        text, at, spans = oracle.of[problem["problem_id"]]["text"], len(problem["statement"]) + 1, []
        for number, step in enumerate(problem["steps"]):
            start = len(text[:at].encode())
            spans.append({"role": ("user", "assistant")[number % 2], "start": start, "end": start + len(step.encode())})
            at += len(step) + 1
        rows.append({"problem_id": problem["problem_id"], "chat": text, "roles": spans})
    job = Job(tmp_path, rows, problems={"max_tokens": MAX_TOKENS, "text": "{chat}", "max_failed": 0,
                                        "steps": {"spans": "roles", "roles": ["assistant"]}},
              latents={"layers": "all", "token_ids": True, "loss_mask": True})
    job.run()
    found, owned = read_latents(job), 0
    assert 8 < len(found) < len(rows)  # those whose one step is the user's have none
    for key, problem in found.items():
        expected = oracle.of[key]
        steps = [(number // 2, *row) for number, *row in expected["steps"] if number % 2 == 1]
        assert problem["rows"] == steps and problem["ids"] == expected["ids"]
        mask = [any(start <= t < end for _, start, end, *_ in steps) for t in range(len(expected["ids"]))]
        assert problem["mask"] == mask
        owned += sum(mask)
        for layer in range(4):
            close(problem[f"hs_{layer:03d}"], pooled(expected["states"][layer], steps))
    assert owned > 100


def test_layers_are_named_alike(base, tmp_path):
    """-2 of four hidden states is 2, with the same bits, alone or among all."""
    job = base.twin(tmp_path, latents={"layers": [-2]})
    job.run()
    alone, among = read_latents(job), read_latents(base)
    assert all(set(problem) & {f"hs_{i:03d}" for i in range(4)} == {"hs_002"} for problem in alone.values())
    assert all(alone[key]["hs_002"].tobytes() == among[key]["hs_002"].tobytes() for key in alone)


def nearest_bfloat16(values):
    return torch.from_numpy(values).to(torch.bfloat16).float().numpy()


@pytest.mark.parametrize("dtype, rounded", [("float16", lambda v: v.astype(np.float16)), ("bfloat16", nearest_bfloat16)])
def test_stored_dtypes(base, tmp_path, dtype, rounded):
    """The float32 latents, rounded to nearest, and nothing else."""
    job = base.twin(tmp_path, latents={"dtype": dtype})
    job.run()
    exact, stored = read_latents(base), read_latents(job)
    for key, problem in stored.items():
        for layer in range(4):
            name = f"hs_{layer:03d}"
            np.testing.assert_array_equal(problem[name], rounded(exact[key][name]))
    with h5py.File(sorted((job.output / "shards").glob("*.h5"))[0]) as file:
        assert file["latents/hs_002"].id.get_storage_size() == 2 * file["latents/hs_002"].size
        assert dtype != "bfloat16" or file["latents/hs_002"].attrs["dtype"] in ("bfloat16", b"bfloat16")


def test_bfloat16_computation_is_near(base, oracle, tmp_path):
    job = base.twin(tmp_path, model={"dtype": "bfloat16"})
    job.run()
    for key, problem in read_latents(job).items():
        expected = pooled(oracle.of[key]["states"][2], oracle.of[key]["steps"])
        found = bits_to_float(problem["hs_002"])
        cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.min() >= 0.9995  # false for NaN


def test_statistics_and_metadata(base, problems):
    """Sums over rows in float64, and one JSON object a problem."""
    by_id = {problem["problem_id"]: problem for problem in problems}
    paths = sorted((base.output / "shards").glob("*.h5"))
    assert len(paths) > 1
    for path in paths:
        with h5py.File(path) as file:
            assert len(file["latents"]) == 4
            for name in file["latents"]:
                values, statistics = file["latents/" + name][:].astype(np.float64), file["statistics/" + name]
                np.testing.assert_allclose(statistics["sum"][:], values.sum(axis=0), rtol=1e-12, atol=1e-12)
                np.testing.assert_allclose(statistics["sum_of_squares"][:], (values ** 2).sum(axis=0), rtol=1e-12)
                np.testing.assert_array_equal(statistics["minimum"][:], values.min(axis=0))
                np.testing.assert_array_equal(statistics["maximum"][:], values.max(axis=0))
                assert statistics.attrs["rows"] == len(values)
                assert statistics.attrs["norm_sum"] == pytest.approx(np.linalg.norm(values, axis=1).sum(), rel=1e-12)
            ids, at = file["problems/id"][:].tobytes(), file["problems/id_offset"][:]
            data, cut = file["problems/metadata"][:].tobytes(), file["problems/metadata_offset"][:]
            for p in range(len(at) - 1):
                problem = by_id[ids[at[p]:at[p + 1]].decode()]
                found = json.loads(data[cut[p]:cut[p + 1]])
                # SQLite prints 15 digits of a REAL.
                assert found == {"difficulty": pytest.approx(problem["difficulty"], rel=1e-14), "topic": problem["topic"]}


def test_view_shows_the_same(base):
    """latents.h5: the rows of all shards in shard order."""
    found = read_latents(base)
    with h5py.File(base.output / "latents.h5") as file:
        ids, at, rows = file["problems/id"][:].tobytes(), file["problems/id_offset"][:], file["problems/row_offset"][:]
        assert len(at) - 1 == len(found)
        for layer in range(4):
            name = f"hs_{layer:03d}"
            values = file["latents/" + name][:]
            for p in range(len(at) - 1):
                key = ids[at[p]:at[p + 1]].decode()
                np.testing.assert_array_equal(values[rows[p]:rows[p + 1]], found[key][name])
