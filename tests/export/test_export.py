# SPDX-License-Identifier: MIT
"""Exports against the shards they came from; h5py, safetensors and numpy are the judges."""

import hashlib
import json
import os
import shutil
import subprocess

import h5py
import numpy as np
import pytest
import safetensors.numpy

from export.made_run import (BUILD, HIDDEN, LAYERS, check_rows, done, export, latents, lines, make_run, problem_id, row_count,
                             same_bytes, shard_rows, state, strata)

# The leak check of a sanitized build cannot work under strace.
TRACED = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run")


def test_safetensors_in_query_order(run, tmp_path):
    about = export(run, tmp_path / "out", "--format", "safetensors")
    table = lines(tmp_path / "out" / "all.jsonl")
    ids = [line["id"] for line in table]
    assert ids == [problem_id(ordinal) for ordinal in done(37)]
    tensors = safetensors.numpy.load_file(tmp_path / "out" / "all.safetensors")
    for layer in LAYERS:
        assert tensors[f"hs_{layer:03d}"].dtype == np.float16
        check_rows(ids, tensors["row_offset"], tensors[f"hs_{layer:03d}"], shard_rows(run, layer))
    whole = np.concatenate([latents(ordinal, 2) for ordinal in done(37)])
    assert np.array_equal(tensors["hs_002"], whole.astype(np.float16))
    steps = np.concatenate([np.arange(row_count(ordinal)) for ordinal in done(37)])
    assert np.array_equal(tensors["step"], steps)
    assert np.array_equal(tensors["token_start"], 2 + 5 * steps) and np.array_equal(tensors["token_end"], 7 + 5 * steps)
    assert np.array_equal(tensors["byte_start"], 10 + 20 * steps) and np.array_equal(tensors["byte_end"], 29 + 20 * steps)
    assert list(tensors["ordinal"]) == done(37) == [line["ordinal"] for line in table]
    assert list(tensors["token_count"]) == [2 + 5 * row_count(o) for o in done(37)]
    assert list(tensors["truncated"]) == [o % 8 == 6 for o in done(37)]
    assert list(tensors["step_count"]) == [o % 4 + 1 for o in done(37)]
    truncated = next(line for line in table if line["ordinal"] == 6)
    assert truncated["missing_steps"] == [2] and truncated["truncated"] and truncated["rows"] == 2
    assert truncated["metadata"] == {"domain": "math", "split": "test", "difficulty": 0, "note": 'a "b" \u00fc', "score": 0.1}
    assert about["complete"] and about["counts"]["problems"] == 29 and about["counts"]["missing_steps"] == 4


def test_npy_can_be_mapped(run, tmp_path):
    export(run, tmp_path / "out", "--format", "npy", "--layers", "4,-5")
    folder = tmp_path / "out" / "all"
    assert not (folder / "hs_002.npy").exists()
    ids = [line["id"] for line in lines(tmp_path / "out" / "all.jsonl")]
    for layer in (0, 4):
        mapped = np.load(folder / f"hs_{layer:03d}.npy", mmap_mode="r")
        assert isinstance(mapped, np.memmap) and mapped.dtype == np.float16 and mapped.offset % 64 == 0
        check_rows(ids, np.load(folder / "row_offset.npy"), mapped, shard_rows(run, layer))


def test_hdf5_has_the_layout_of_a_shard(tmp_path):
    run = make_run(tmp_path / "run", dtype="float32", tokens=1)
    export(run, tmp_path / "out", "--format", "hdf5", "--split", "source")
    total = 0
    for name, kept in (("train", (0, 1)), ("test", (2,)), ("unsplit", (3,))):
        with h5py.File(tmp_path / "out" / f"{name}.h5") as file:
            ordinals = file["problems/ordinal"][()]
            assert list(ordinals) == [o for o in done(37) if o % 4 in kept]
            cut, text = file["problems/id_offset"][()], file["problems/id"][()].tobytes()
            ids = [text[cut[i] : cut[i + 1]].decode() for i in range(len(ordinals))]
            assert ids == [problem_id(o) for o in ordinals]
            check_rows(ids, file["problems/row_offset"][()], file["latents/hs_004"][()], shard_rows(run, 4))
            assert file.attrs["model_fingerprint"].decode() == "feedbeef"
            assert file["latents/hs_004"].attrs["layer"].decode().startswith("-1 = hidden_states[4] of 0..4 = output of block 4 of 4, after")
            tokens, first = file["tokens/ids"][()], file["tokens/offset"][()]
            for i, ordinal in enumerate(ordinals):
                count = 2 + 5 * row_count(ordinal)
                assert list(tokens[first[i] : first[i + 1]]) == [ordinal * 100 + k for k in range(count)]
            cut, text = file["problems/metadata_offset"][()], file["problems/metadata"][()].tobytes()
            assert all(json.loads(text[cut[i] : cut[i + 1]])["domain"] == "math" for i in range(len(ordinals)))
            total += len(ordinals)
    assert total == len(done(37))


def test_rjepa_shards_of_a_thousand(tmp_path):
    run = make_run(tmp_path / "run", problems=1500)
    export(run, tmp_path / "out", "--format", "rjepa", "--layers", "-3")
    wanted, stored = done(1500), shard_rows(run, 2)
    at = 0
    for number in range((len(wanted) + 999) // 1000):
        tensors = safetensors.numpy.load_file(tmp_path / "out" / f"shard-{number:04d}.safetensors")
        table = lines(tmp_path / "out" / f"shard-{number:04d}.jsonl")
        part = wanted[at : at + 1000]
        assert [line["cot_id"] for line in table] == [problem_id(o) for o in part] and set(tensors) == set(map(problem_id, part))
        for line, ordinal in zip(table, part):
            rows = tensors[line["cot_id"]]
            assert rows.dtype == np.float32 and rows.shape == (line["num_steps"], HIDDEN)
            assert np.array_equal(rows, stored[line["cot_id"]].astype(np.float32))
            assert line["domain"] == "math" and line["missing_steps"] == (1 if ordinal % 8 == 6 else 0)
        at += len(part)
    assert at == len(wanted) and not (tmp_path / "out" / f"shard-{number + 1:04d}.jsonl").exists()


def test_numbers_beyond_float16_are_saturated_and_told(tmp_path):
    run = make_run(tmp_path / "run", problems=12, dtype="float32", scale=10000)
    result = strata("export", run, "--format", "npy", "--layers", "2", "--dtype", "float16", "--to", tmp_path / "out")
    made = np.load(tmp_path / "out" / "all" / "hs_002.npy")
    exact = np.concatenate([latents(o, 2) for o in done(12)]) * np.float32(10000)
    beyond = int((np.abs(exact) >= 65520).sum())
    assert beyond > 0 and np.array_equal(made, np.clip(exact, -65504, 65504).astype(np.float16))
    assert f"warning: {beyond} numbers exceeded float16" in result.stderr
    assert json.loads((tmp_path / "out" / "export.json").read_text())["counts"]["saturated"] == beyond


def test_rows_larger_than_a_block(tmp_path):
    """At 512 KiB a row a shard takes more than one block of 4 MiB, cut within a problem."""
    run = make_run(tmp_path / "run", problems=10, dtype="float32", hidden=131072)
    export(run, tmp_path / "out", "--format", "npy", "--layers", "4", "--split", "source")
    stored = shard_rows(run, 4)
    assert sum(len(rows) for rows in stored.values()) > 8
    for name in ("train", "test"):
        ids = [line["id"] for line in lines(tmp_path / "out" / f"{name}.jsonl")]
        matrix = np.load(tmp_path / "out" / name / "hs_004.npy", mmap_mode="r")
        check_rows(ids, np.load(tmp_path / "out" / name / "row_offset.npy"), matrix, stored)


def test_shuffle_is_the_seeds(run, tmp_path):
    orders = {}
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        export(run, tmp_path / name, "--format", "safetensors", "--shuffle", seed)
        ids = orders[name] = [line["id"] for line in lines(tmp_path / name / "all.jsonl")]
        tensors = safetensors.numpy.load_file(tmp_path / name / "all.safetensors")
        check_rows(ids, tensors["row_offset"], tensors["hs_004"], shard_rows(run, 4))
    in_order = [problem_id(o) for o in done(37)]
    assert orders["a"] == orders["b"] and sorted(orders["a"]) == sorted(in_order) == sorted(orders["c"])
    assert len({tuple(order) for order in (orders["a"], orders["c"], in_order)}) == 3


def split_of(folder):
    return {line["id"]: path.stem for path in folder.glob("*.jsonl") for line in lines(path)}


def test_fractions_keep_the_sources_test_and_every_problems_place(tmp_path):
    small, large = make_run(tmp_path / "small", problems=200), make_run(tmp_path / "large", problems=600)
    words = ("--format", "npy", "--layers", "0", "--split", "train=0.75,validation=0.25")
    export(large, tmp_path / "a", *words, "--seed", 3)
    export(large, tmp_path / "b", *words, "--seed", 3, "--shuffle", 1)
    export(large, tmp_path / "c", *words, "--seed", 4)
    export(small, tmp_path / "d", *words, "--seed", 3)
    a, b, c, d = (split_of(tmp_path / name) for name in "abcd")
    assert a == b and a != c and d == {name: a[name] for name in d}
    assert {name for name in a if a[name] == "test"} == {problem_id(o) for o in done(600) if o % 4 == 2}
    others = [part for part in a.values() if part != "test"]
    assert set(others) == {"train", "validation"} and 0.65 < others.count("train") / len(others) < 0.85


def test_sidecar(run, tmp_path):
    folder = tmp_path / "out"
    about = export(run, folder, "--format", "safetensors", "--split", "source")
    assert about["left_out"] == [
        {"id": problem_id(o), "ordinal": o, "state": state(o),
         "reason": "the text is not valid UTF-8 at byte 7" if state(o) == "failed" else "the text is empty"}
        for o in range(37) if state(o) != "done"
    ]
    files = {file["path"]: file for file in about["files"]}
    assert set(files) == {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"export.json"}
    for path, file in files.items():
        content = (folder / path).read_bytes()
        assert len(content) == file["bytes"] and hashlib.sha256(content).hexdigest() == file["sha256"]
    assert about["model"] == {"name": "tiny", "path": "/models/tiny", "type": "qwen3", "fingerprint": "feedbeef",
                              "adapter": None, "adapter_fingerprint": None}
    assert about["tokenizer"] == {"fingerprint": "cafe"} and about["pooling"] == "step_mean"
    assert about["template"] == "{statement}\n{steps}" and about["identity"] == {"model.dtype": "bfloat16", "batch.problems": "5"}
    assert [layer["layer"] for layer in about["layers"]] == [
        "-5 = hidden_states[0] of 0..4 = token embeddings, input of block 1 of 4",
        "-3 = hidden_states[2] of 0..4 = output of block 2 of 4, before the final norm",
        "-1 = hidden_states[4] of 0..4 = output of block 4 of 4, after the final norm"]
    statistics = safetensors.numpy.load_file(folder / "statistics.safetensors")
    parts = {"": done(37), "train.": [o for o in done(37) if o % 4 < 2], "test.": [o for o in done(37) if o % 4 == 2]}
    for prefix, ordinals in parts.items():
        exact = np.concatenate([latents(o, 2) for o in ordinals]).astype(np.float64)
        # Sums of a few hundred numbers in float64: 1e-12 leaves room for another order of adding alone.
        np.testing.assert_allclose(statistics[prefix + "hs_002.mean"], exact.mean(0), rtol=1e-12)
        np.testing.assert_allclose(statistics[prefix + "hs_002.std"], exact.std(0), rtol=1e-9)
        assert np.array_equal(statistics[prefix + "hs_002.minimum"], exact.min(0))
        assert np.array_equal(statistics[prefix + "hs_002.maximum"], exact.max(0))
    exact = np.concatenate([latents(o, 2) for o in done(37)]).astype(np.float64)
    figures = about["layers"][1]["statistics"]
    assert figures["rows"] == len(exact)
    assert np.isclose(figures["norm_mean"], np.linalg.norm(exact, axis=1).mean(), rtol=1e-12)
    assert np.isclose(figures["std"], exact.std(), rtol=1e-9) and np.isclose(figures["mean"], exact.mean(), rtol=1e-9)


def test_every_format_that_is_named_is_explained_and_written(run, tmp_path):
    refusal = strata("export", run, "--format", "none", "--to", tmp_path / "none", code=64).stderr
    names = refusal.split("--format must be one of ")[1].split(",")[0].split("|")
    assert names[4:] == ["parquet", "speculators", "specforge"]  # by strata-export: test_export_companion.py
    page = strata("help", "export").stdout
    assert ", ".join(names[:-1]) + " or " + names[-1] in page
    for name in names:
        assert any(line.startswith(f"  {name} ") for line in page.splitlines()), name
    for name in names[:4]:
        about = export(run, tmp_path / name, "--format", name, "--layers", "2")
        assert about["format"] == name


def test_the_same_export_has_the_same_bytes(run, tmp_path):
    for form in ("safetensors", "npy", "hdf5", "rjepa"):
        for name in ("a", "b"):
            export(run, tmp_path / form / name, "--format", form, "--layers", "2", "--split", "train=0.5,dev=0.5", "--shuffle", 5)
        same_bytes(tmp_path / form / "a", tmp_path / form / "b")


def test_an_unfinished_run(tmp_path):
    run = make_run(tmp_path / "run", shards=2)
    result = strata("export", run, "--format", "npy", "--to", tmp_path / "out")
    assert "warning: the run is not complete; 17 problems are not in this export" in result.stderr
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert not about["complete"] and about["counts"]["remaining"] == 17 and len(about["shards"]) == 2
    assert [line["ordinal"] for line in lines(tmp_path / "out" / "all.jsonl")] == done(20)
    result = strata("export", run, "--format", "npy", "--to", tmp_path / "no", "--require-complete", code=65)
    assert "has not processed every problem yet" in result.stderr and not list(tmp_path.glob("no*"))


@pytest.mark.parametrize("words, code, message", [
    (("--format", "npy", "--layers", "3"), 64, "--layers: hidden_states[3] is not in this run; it has 0, 2, 4"),
    (("--format", "npy", "--layers", "-9"), 64, "hidden_states[-9] is not in this run"),
    (("--format", "npy", "--layers", "2,-3"), 64, "hidden_states[2] is named twice"),
    (("--format", "npy", "--layers", "2,x"), 64, "--layers: 'x' is no layer: they are whole numbers, pre_norm, or names"),
    (("--format", "npy", "--layers", "blocks.1.hook_mlp_out"), 64, "'blocks.1.hook_mlp_out' is no layer"),
    (("--format", "npy", "--layers", "model.layers.1.mlp"), 64, "'model.layers.1.mlp' is no layer"),
    (("--format", "npy", "--layers", "my_norm"), 64, "'my_norm' is no layer"),
    (("--format", "npy", "--layers", "model.layers.2"), 64, "hidden_states[3] is not in this run; it has 0, 2, 4"),
    (("--format", "npy", "--layers", "transformer.h.3"), 64, "pre_norm is not in this run"),
    (("--format", "npy", "--layers", "blocks.4.hook_resid_pre"), 64, "there is no block 4: the model has 4, counted from 0"),
    (("--format", "npy", "--layers", "layers.1,2"), 64, "hidden_states[2] is named twice"),
    (("--format", "rjepa"), 64, "rjepa holds one layer; choose one of the run's 3 with --layers"),
    (("--format", "rjepa", "--layers", "2", "--dtype", "float16"), 64, "rjepa is float32"),
    (("--format", "npy", "--dtype", "bfloat16"), 64, "numpy has no bfloat16"),
    (("--format", "npy", "--split", "train=0.9,dev=0.2"), 64, "the fractions sum to 1.1, not to 1"),
    (("--format", "npy", "--split", "a=0.5,a=0.5"), 64, "'a' is named twice"),
    (("--format", "npy", "--split", "../x=1"), 64, "is not NAME=FRACTION"),
    (("--format", "npy", "--split", "a=nan"), 64, "is not above 0 and at most 1"),
    (("--format", "npy", "--split", "source", "--split-column", "note"), 65, "cannot be the name of a split"),
    (("--format", "npy", "--seed", "1"), 64, "belong to --split"),
])
def test_what_does_not_fit_is_refused(run, tmp_path, words, code, message):
    result = strata("export", run, "--to", tmp_path / "out", *words, code=code)
    assert message in result.stderr and not list(tmp_path.iterdir())


def test_nothing_is_written_over(run, tmp_path):
    (tmp_path / "out").mkdir()
    assert "exists" in strata("export", run, "--format", "npy", "--to", tmp_path / "out", code=64).stderr
    (tmp_path / "link").symlink_to("nowhere")
    assert "exists" in strata("export", run, "--format", "npy", "--to", tmp_path / "link", code=64).stderr
    assert not (tmp_path / "link.tmp").exists()
    (tmp_path / "other.tmp").mkdir()
    (tmp_path / "other.tmp" / "mine").write_text("precious")
    result = strata("export", run, "--format", "npy", "--to", tmp_path / "other", code=73)
    assert "is not from an export" in result.stderr and (tmp_path / "other.tmp" / "mine").read_text() == "precious"


def test_layers_by_the_names_of_jobs(run, tmp_path):
    made = make_run(tmp_path / "blocks", problems=20, blocks=3)  # the last layer is pre_norm
    for number, (words, names, source) in enumerate([
            ("model.layers.1,blocks.0.hook_resid_pre", ["hs_002", "hs_000"], run), ("gpt_neox.layers.1", ["hs_002"], run),
            ("transformer.h.1", ["hs_002"], run), ("blocks.2.hook_resid_pre,model.norm", ["hs_002", "hs_004"], run),
            ("transformer.ln_f,blocks.1.hook_resid_post", ["hs_004", "hs_002"], run), ("all", ["hs_000", "hs_002", "hs_004"], run),
            ("model.layers.2", ["hs_003_pre_norm"], made), ("blocks.2.hook_resid_post,0", ["hs_003_pre_norm", "hs_000"], made)]):
        about = export(source, tmp_path / str(number), "--format", "npy", "--layers", words)
        assert [layer["name"] for layer in about["layers"]] == names, words
        assert {path.stem for path in (tmp_path / str(number) / "all").glob("hs_*.npy")} == set(names)


def test_an_export_that_is_there_already(run, tmp_path):
    words = ("--format", "npy", "--layers", "2", "--split", "a=0.5,b=0.5")
    about = export(run, tmp_path / "out", *words)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    (tmp_path / "out" / ".writing").touch()  # killed once it had its name
    result = strata("export", run, "--to", tmp_path / "out", *words)
    assert result.stdout == f"{tmp_path / 'out'}: complete already\n" and result.stderr == ""
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")} == files and not list(tmp_path.glob("out.tmp"))
    strata("export", run, "--to", tmp_path / "out", *words, "--normalize", "none")
    for other in (("--dtype", "float16"), ("--seed", "3"), ("--max-shard-size", "1MB"), ("--shuffle", "0")):
        again = strata("export", run, "--to", tmp_path / "out", *words, *other, code=64)
        assert "exists and is an export with other options" in again.stderr
    strata("export", run, "--to", tmp_path / "out", *words[:2], *words[4:], code=64)  # of all layers
    grown = make_run(tmp_path / "part", problems=40, shards=2, end="killed")
    export(grown, tmp_path / "two", "--format", "npy")
    strata("export", run, "--to", tmp_path / "two", "--format", "npy", code=64)
    os.truncate(tmp_path / "out" / about["files"][0]["path"], 10)
    result = strata("export", run, "--to", tmp_path / "out", *words, code=65)
    assert f"is damaged: {about['files'][0]['path']} is missing or has another size" in result.stderr


def test_a_changed_shard_is_not_exported(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shard = tmp_path / "run" / "shards" / "part-000001.h5"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    result = strata("export", tmp_path / "run", "--format", "npy", "--to", tmp_path / "out", code=65)
    assert "part-000001.h5 has changed since it was sealed" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call, number", [
    ("pwrite64", 1), ("pwrite64", 40), ("pwrite64", 150), ("fsync", 1), ("fsync", 4), ("ftruncate", 2), ("rename", 1),
    ("renameat2", 1)])
def test_a_killed_export_leaves_no_target(run, tmp_path, call, number):
    kill = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
    words = [BUILD / "strata", "export", run, "--format", "safetensors", "--split", "source", "--to", tmp_path / "out"]
    result = subprocess.run([*kill, *words], capture_output=True, text=True, env=TRACED)
    if "ptrace" in result.stderr.lower():
        pytest.skip("strace may not trace here")
    assert result.returncode != 0 and not (tmp_path / "out").exists()
    about = export(run, tmp_path / "out", "--format", "safetensors", "--split", "source")
    assert about["counts"]["problems"] == 29 and not (tmp_path / "out.tmp").exists()
    export(run, tmp_path / "whole", "--format", "safetensors", "--split", "source")
    same_bytes(tmp_path / "whole", tmp_path / "out")


def test_a_full_disk_is_said(run, tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    words = [BUILD / "strata", "export", run, "--format", "npy", "--to", tmp_path / "out"]
    fail = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC:when=30"]
    result = subprocess.run([*fail, *words], capture_output=True, text=True, env=TRACED)
    if "ptrace" in result.stderr.lower():
        pytest.skip("strace may not trace here")
    assert result.returncode == 73 and "No space left on device" in result.stderr and not list(tmp_path.iterdir())
