# SPDX-License-Identifier: MIT
"""Rows shuffled each by itself, and latents normalised: permutations, and constants that undo."""

import json

import h5py
import numpy as np
import pytest
import safetensors.numpy

from export.made_run import HIDDEN, done, export, latents, lines, make_run, row_count, same_bytes, strata


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run", problems=300, dtype="float32")


def parts(folder, split, form="safetensors"):
    """The split's files in their order as {array: numbers}, put together."""
    index = folder / (f"{split}.safetensors.index.json" if form == "safetensors" else f"{split}.index.json")
    names = [entry["file"] for entry in json.loads(index.read_text())["files"]] if index.exists() else \
        [f"{split}.safetensors" if form == "safetensors" else split]
    files = [safetensors.numpy.load_file(folder / name) if form == "safetensors" else
             {path.stem: np.load(path) for path in (folder / name).glob("*.npy")} for name in names]
    return {name: np.concatenate([file[name] for file in files]) for name in files[0]}, len(files)


def check_permutation(folder, split, ordinals, form="safetensors"):
    """Every row of the split is there once, beside what says where it is from; returns (problem, step) in their order."""
    made, _ = parts(folder, split, form)
    table = lines(folder / f"{split}.jsonl")
    assert [line["ordinal"] for line in table] == ordinals
    wanted = [(i, step) for i, ordinal in enumerate(ordinals) for step in range(row_count(ordinal))]
    order = list(zip(made["problem"].tolist(), made["step"].tolist()))
    assert sorted(order) == wanted
    assert set(made) == {"hs_000", "hs_002", "hs_004", "problem", "step", "token_start", "token_end", "byte_start", "byte_end"}
    for layer in (0, 2, 4):
        stored = {ordinal: latents(ordinal, layer) for ordinal in ordinals}
        assert np.array_equal(made[f"hs_{layer:03d}"], np.stack([stored[ordinals[problem]][step] for problem, step in order]))
    assert np.array_equal(made["token_start"], 2 + 5 * made["step"]) and np.array_equal(made["byte_end"], 29 + 20 * made["step"])
    return order


def test_rows_of_tokens_have_their_ids_and_mask(tmp_path):
    run = make_run(tmp_path / "run", problems=60, pooling="tokens", tokens=1, mask=1)
    export(run, tmp_path / "out", "--format", "npy", "--shuffle-rows", 2, "--max-shard-size", "5KB")
    made, files = parts(tmp_path / "out", "all", "npy")
    ordinals = np.array(done(60))[made["problem"]]
    assert files > 1 and np.array_equal(made["token_id"], ordinals * 100 + made["token_start"])
    assert made["loss_mask"].dtype == np.uint8 and np.array_equal(made["loss_mask"], made["token_start"] % 3 == 0)


@pytest.mark.parametrize("form", ["safetensors", "npy"])
@pytest.mark.parametrize("size", [None, "6KB"])
def test_rows_are_a_permutation(run, tmp_path, form, size):
    words = ("--format", form, "--shuffle-rows", 5, "--split", "source", *(() if size is None else ("--max-shard-size", size)))
    about = export(run, tmp_path / "out", *words)
    assert about["order"] == {"kind": "shuffled rows", "seed": 5}
    orders = []
    for split, kept in (("train", (0, 1)), ("test", (2,)), ("unsplit", (3,))):
        order = check_permutation(tmp_path / "out", split, [o for o in done(300) if o % 4 in kept], form)
        assert order != sorted(order)
        _, files = parts(tmp_path / "out", split, form)
        assert (files > 2) == (size is not None)
        orders.append(order)
    export(run, tmp_path / "again", *words)
    same_bytes(tmp_path / "out", tmp_path / "again")


def test_more_files_than_are_written_at_once(run, tmp_path):
    export(run, tmp_path / "out", "--format", "npy", "--shuffle-rows", 5, "--max-shard-size", "3KB")
    check_permutation(tmp_path / "out", "all", done(300), "npy")
    assert parts(tmp_path / "out", "all", "npy")[1] > 40


def test_the_seed_makes_the_order(run, tmp_path):
    orders = []
    for seed in (1, 2, 3):
        export(run, tmp_path / str(seed), "--format", "safetensors", "--shuffle-rows", seed)
        orders.append(check_permutation(tmp_path / str(seed), "all", done(300)))
    assert len({tuple(order) for order in orders}) == 3


def test_files_differ_in_size_by_chance_alone(run, tmp_path):
    """Files are cut between buckets: most of them are nearly as large as they may be."""
    export(run, tmp_path / "out", "--format", "safetensors", "--shuffle-rows", 1, "--max-shard-size", "12KB")
    sizes = [path.stat().st_size for path in sorted((tmp_path / "out").glob("all-*.safetensors"))]
    assert max(sizes) <= 12000 and np.median(sizes) > 9000


# ---- normalised ----


def rows_of(ordinals, layer):
    return np.concatenate([latents(o, layer) for o in ordinals]).astype(np.float64)


def constants_of(folder, layer):
    kept = safetensors.numpy.load_file(folder / "normalization.safetensors")
    return kept[f"hs_{layer:03d}.shift"], kept[f"hs_{layer:03d}.scale"]


@pytest.mark.parametrize("split", [(), ("--split", "source")])
def test_standard(run, tmp_path, split):
    about = export(run, tmp_path / "out", "--format", "safetensors", "--normalize", "standard", *split)
    assert about["normalization"]["kind"] == "standard" and about["normalization"]["split"] == ("train" if split else "all")
    splits = {"train": (0, 1), "test": (2,), "unsplit": (3,)} if split else {"all": (0, 1, 2, 3)}
    trained = [o for o in done(300) if o % 4 in next(iter(splits.values()))]
    for layer in (0, 2, 4):
        exact = rows_of(trained, layer)
        shift, scale = constants_of(tmp_path / "out", layer)
        np.testing.assert_allclose(shift, exact.mean(0), rtol=1e-12)
        np.testing.assert_allclose(scale, exact.std(0), rtol=1e-9)
        for name, kept in splits.items():
            x = rows_of([o for o in done(300) if o % 4 in kept], layer)
            y = safetensors.numpy.load_file(tmp_path / "out" / f"{name}.safetensors")[f"hs_{layer:03d}"]
            assert y.dtype == np.float32 and np.array_equal(y, ((x - shift) / scale).astype(np.float32))
            np.testing.assert_allclose(y * scale + shift, x, atol=1e-5)
    statistics = safetensors.numpy.load_file(tmp_path / "out" / "statistics.safetensors")
    np.testing.assert_allclose(statistics["hs_002.mean"], rows_of(done(300), 2).mean(0), rtol=1e-12)  # as the run has them


def test_expected_norm(run, tmp_path):
    export(run, tmp_path / "out", "--format", "npy", "--layers", "4", "--normalize", "expected-norm")
    x, y = rows_of(done(300), 4), np.load(tmp_path / "out" / "all" / "hs_004.npy")
    shift, scale = constants_of(tmp_path / "out", 4)
    assert not shift.any() and np.array_equal(y, (x / scale).astype(np.float32))
    assert np.isclose(np.linalg.norm(y.astype(np.float64), axis=1).mean(), np.sqrt(HIDDEN), rtol=1e-6)


@pytest.mark.parametrize("numbers", ["float16", "bfloat16"])
def test_halves_are_rounded_once(run, tmp_path, numbers):
    def exactly(bits):
        half = bits.view(np.float16) if numbers == "float16" else (bits.astype(np.uint32) << 16).view(np.float32)
        return half.astype(np.float64)

    export(run, tmp_path / "out", "--format", "safetensors", "--layers", "0", "--normalize", "standard", "--dtype", numbers)
    x, (shift, scale) = rows_of(done(300), 0), constants_of(tmp_path / "out", 0)
    content = (tmp_path / "out" / "all.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8:start])["hs_000"]["data_offsets"]
    bits = np.frombuffer(content[start + begin:start + end], np.uint16).reshape(-1, HIDDEN)
    wanted = (x - shift) / scale
    far = np.abs(exactly(bits) - wanted)
    assert (far <= np.abs(exactly(bits + np.uint16(1)) - wanted)).all() and (far <= np.abs(exactly(bits - np.uint16(1)) - wanted)).all()


def test_a_dimension_that_never_changes_becomes_zero_and_comes_back(tmp_path):
    run = make_run(tmp_path / "run", problems=1)  # one problem of one row: every dimension
    export(run, tmp_path / "out", "--format", "npy", "--layers", "2", "--normalize", "standard")
    y = np.load(tmp_path / "out" / "all" / "hs_002.npy").astype(np.float64)
    shift, scale = constants_of(tmp_path / "out", 2)
    assert not y.any() and not scale.any() and np.array_equal(y * scale + shift, latents(0, 2).astype(np.float64))


def test_with_rows_files_and_splits_at_once(run, tmp_path):
    words = ("--format", "safetensors", "--split", "train=0.7,dev=0.3", "--seed", 2, "--normalize", "standard", "--layers", "2")
    export(run, tmp_path / "plain", *words)
    export(run, tmp_path / "out", *words, "--shuffle-rows", 9, "--max-shard-size", "5KB")
    assert (tmp_path / "plain" / "normalization.safetensors").read_bytes() == (tmp_path / "out" / "normalization.safetensors").read_bytes()
    for split in ("train", "dev", "test"):
        plain = safetensors.numpy.load_file(tmp_path / "plain" / f"{split}.safetensors")
        made, files = parts(tmp_path / "out", split)
        assert files > 1 and len(made["hs_002"]) == len(plain["hs_002"])
        assert np.array_equal(made["hs_002"], plain["hs_002"][plain["row_offset"][made["problem"]] + made["step"]])


def test_the_state_before_the_final_norm(tmp_path):
    """Of three blocks the tool's layer 4 is that: no index of transformers' has it."""
    run = make_run(tmp_path / "run", problems=60, dtype="float32", blocks=3)
    words = ("--normalize", "standard", "--layers", "pre_norm,0")
    about = export(run, tmp_path / "out", "--format", "npy", *words, "--shuffle-rows", 3, "--max-shard-size", "4KB")
    assert [layer["name"] for layer in about["layers"]] == ["hs_003_pre_norm", "hs_000"]
    made, files = parts(tmp_path / "out", "all", "npy")
    kept = safetensors.numpy.load_file(tmp_path / "out" / "normalization.safetensors")
    x = np.stack([latents(done(60)[problem], 4)[step] for problem, step in zip(made["problem"], made["step"])]).astype(np.float64)
    shift, scale = kept["hs_003_pre_norm.shift"], kept["hs_003_pre_norm.scale"]
    assert files > 1 and np.array_equal(made["hs_003_pre_norm"], ((x - shift) / scale).astype(np.float32))
    np.testing.assert_allclose(shift, rows_of(done(60), 4).mean(0), rtol=1e-12)
    export(run, tmp_path / "hdf5", "--format", "hdf5", "--max-shard-size", "90KB")
    assert all("hs_003_pre_norm" in h5py.File(path)["latents"] for path in (tmp_path / "hdf5").glob("all-*.h5"))
    export(run, tmp_path / "rjepa", "--format", "rjepa", "--layers", "pre_norm")
    table = lines(tmp_path / "rjepa" / "shard-0000.jsonl")
    assert table[0]["latent_id"] == table[0]["cot_id"] + "-hs_003_pre_norm" and {line["layer_idx"] for line in table} == {-1}


def test_what_exceeds_float16_when_normalised_is_counted(tmp_path):
    run = make_run(tmp_path / "run", problems=12, dtype="float32", scale=10000)
    result = strata("export", run, "--format", "npy", "--layers", "2", "--dtype", "float16", "--to", tmp_path / "out", "--shuffle-rows", 4)
    beyond = int((np.abs(rows_of(done(12), 2) * 10000) >= 65520).sum())
    assert beyond > 0 and f"warning: {beyond} numbers exceeded float16" in result.stderr
