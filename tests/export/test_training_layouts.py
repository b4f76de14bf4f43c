# SPDX-License-Identifier: MIT
"""strata-export: its files as datasets and the trainers of draft heads read them, whole though it was killed, and what it refuses."""

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import traceback

import h5py
import numpy as np
import pytest

from commands.test_parts import Set
from export.drafts import AUXILIARY, BLOCKS, HIDDEN, make_drafts
from export.made_run import LAYERS, done, latents, make_run, problem_id, row_count, strata
from parity import datasets, parquet, safetensors, torch
from strata_export import __main__ as program
from strata_reader import Run
from support import DATA, DEVICE, OK, STOPPED, USAGE, WRITE, Job, Result, file_hash, make_problems


def export(*words, code=OK):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            ended = program.main(list(map(str, words)))
        except SystemExit as exit:
            ended = exit.code
    assert ended == code, Result(ended, out.getvalue(), err.getvalue())
    return Result(ended, out.getvalue(), err.getvalue())


def apart(prepare, *words):
    """The exit code of an export in a process of its own; negative: the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            prepare()
            os._exit(program.main(list(map(str, words))))
        except BaseException:
            traceback.print_exc()
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def files(folder):
    return {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run", problems=120, tokens=1)


@pytest.fixture(scope="module")
def drafts(tmp_path_factory):
    return make_drafts(tmp_path_factory.mktemp("drafts")).output


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def load(folder, cache, **options):
    return datasets.load_dataset(str(folder), cache_dir=str(cache), **options)


# ---- Parquet

def test_parquet_by_row(made, tmp_path, cache):
    out = tmp_path / "out"
    said = export(made, "--format", "parquet", "--to", out, "--split", "source", "--max-shard-size", "3kB")
    assert "23 problems lack the column" in said.err and "120" not in said.out and "left out: 26" in said.out
    data = load(out, cache)
    assert {name: len(set(part["id"])) for name, part in data.items()} == {"train": 46, "test": 25, "unsplit": 23}
    assert sum(len(part) for part in data.values()) == sum(row_count(o) for o in done(120))
    by_id = {problem_id(o): o for o in done(120)}
    for part in data.values():
        for row in part.with_format("numpy"):
            ordinal = by_id[row["id"]]
            assert row["ordinal"] == ordinal and row["step"] == row["row"] and row["token_start"] == 2 + 5 * row["row"]
            for layer in LAYERS:
                assert np.array_equal(row[f"hs_{layer:03d}"], latents(ordinal, layer)[row["row"]].astype(np.float16))
    assert data["train"][0]["note"] == 'a "b" ü' and data["train"][0]["score"] == 0.1
    names = sorted(path.name for path in (out / "data").iterdir())
    assert names[0] == "test-00000-of-00005.parquet" and len(names) == 19
    told = json.loads((out / "export.json").read_text())
    assert {entry["name"]: entry["sha256"] for entry in told["files"]} == {
        name: sha for name, sha in files(out).items() if name != "export.json"}
    assert told["counts"]["failed"] == 17 and len(told["left_out"]) == 26
    schema = parquet.read_schema(out / "data" / names[0])
    told = json.loads(schema.metadata[b"strata"])
    assert told["model_fingerprint"] == "feedbeef" and told["hs_002"].startswith("hidden_states[2] of 0..4 = output of block 2 of 4")
    assert str(schema.field("hs_002").type) == "fixed_size_list<element: halffloat>[8]"
    streamed = load(out, cache, streaming=True, split="train")
    assert next(iter(streamed))["hs_004"] == data["train"][0]["hs_004"]
    plain = load("parquet", cache, data_dir=str(out))
    assert {name: part.num_rows for name, part in plain.items()} == {name: part.num_rows for name, part in data.items()}


def test_parquet_by_problem(made, tmp_path, cache):
    out = tmp_path / "out"
    export(made, "--format", "parquet", "--to", out, "--per", "problem", "--layers", "-1,2", "--dtype", "float32")
    data = load(out, cache, split="train")
    assert data["id"][:] == [problem_id(o) for o in done(120)]
    assert [name for name in data.column_names if name.startswith("hs_")] == ["hs_004", "hs_002"]
    for row, ordinal in zip(data.with_format("numpy"), done(120)):
        assert np.array_equal(row["hs_002"], latents(ordinal, 2)) and len(row["token_ids"]) == 2 + 5 * row_count(ordinal)


def test_splits_are_those_of_the_c_program(made, tmp_path):
    rule = ("--split", "train=0.6,validation=0.3,extra=0.1", "--seed", "5")
    strata("export", made, "--format", "hdf5", "--to", tmp_path / "c", *rule)
    export(made, "--format", "parquet", "--to", tmp_path / "p", *rule)
    for path in (tmp_path / "c").glob("*.h5"):
        with h5py.File(path) as file:
            cuts = file["problems/id_offset"][()]
            wanted = [file["problems/id"][()].tobytes()[a:b].decode() for a, b in zip(cuts, cuts[1:])]
        ours = parquet.read_table(next((tmp_path / "p" / "data").glob(f"{path.stem}-*.parquet")))
        assert list(dict.fromkeys(ours["id"].to_pylist())) == wanted, path.stem


def test_bfloat16_and_what_float16_cannot_hold(tmp_path):
    run = make_run(tmp_path / "run", dtype="bfloat16")
    said = export(run, "--format", "parquet", "--to", tmp_path / "out")
    assert "bfloat16 becomes float32, exactly" in said.err
    table = parquet.read_table(tmp_path / "out" / "data")
    assert np.array_equal(np.array(table["hs_002"].to_pylist(), np.float32), Run(run).latents(2)[0])
    run = make_run(tmp_path / "wide", dtype="float32")
    for path in (run / "shards").iterdir():
        with h5py.File(path, "r+") as file:
            file["latents/hs_002"][0, 0] = -1e6
        with contextlib.closing(sqlite3.connect(run / "ledger.sqlite")) as ledger, ledger:
            ledger.execute("UPDATE shard SET sha256 = ? WHERE name = ?", [file_hash(path), path.name])
    said = export(run, "--format", "parquet", "--to", tmp_path / "half", "--dtype", "float16")
    shards = len(list((run / "shards").iterdir()))
    assert f"{shards} numbers exceeded float16's range" in said.err
    values = np.array(parquet.read_table(tmp_path / "half" / "data")["hs_002"].to_pylist())
    assert (values == -65504).sum() == shards and np.isfinite(values).all()


def test_columns_of_several_types(tmp_path, cache):
    problems = make_problems(6)
    odd = [1, 2.5, "x", None, [1, {"a": "ü"}], 2**62]
    for number, problem in enumerate(problems):
        problem.update(odd=odd[number], id=number, hs_002=number % 2 == 0, half=[1, 0.5][number % 2], step="s")
    job = Job(tmp_path / "job", problems)
    job.run()
    export(job.output, "--format", "parquet", "--to", tmp_path / "out", "--per", "problem")
    data = load(tmp_path / "out", cache, split="train")
    assert data["source_id"][:] == list(range(6)) and data["half"][:] == [1, 0.5] * 3 and data["source_step"][:] == ["s"] * 6
    assert data["source_hs_002"][:] == [1, 0] * 3 and np.shape(data["hs_002"][0])[1] == 32  # SQLite has no booleans
    assert data["odd"][2] == "x" and data["odd"][3] is None and len(data["odd"][:]) == 6
    assert Run(job.output).to_datasets(layers=[0])["odd"][0] == data["odd"][0]


def test_sets_and_unfinished_runs(tmp_path):
    job = Job(tmp_path / "job", make_problems(20))
    parts = Set(job, 2)
    parts.run(1)
    said = export(job.output, "--format", "parquet", "--to", tmp_path / "half", "--per", "problem")
    assert "is not complete: parts 0 have not begun" in said.err
    export(job.output, "--format", "parquet", "--to", tmp_path / "never", "--require-complete", code=DATA)
    parts.run(0)
    export(parts.part(1).output, parts.part(0).output, "--format", "parquet", "--to", tmp_path / "whole", "--per", "problem")
    half, whole = (parquet.read_table(tmp_path / name / "data")["id"].to_pylist() for name in ("half", "whole"))
    assert whole == [f"p-{number:05d}" for number in range(20)] and half == whole[20 - len(half):]


# ---- speculators: what its ArrowDataset._get_raw_data and FileTransfer.get_cached do, said again

def speculators_item(data, folder, index):
    loaded = safetensors.torch.load_file(folder / "hidden_states" / f"hs_{index}.safetensors")
    row = data[index]
    assert loaded["token_ids"].dtype == torch.int64 and torch.equal(loaded["token_ids"], row["input_ids"])
    return {"hidden_states": loaded["hidden_states"][:, :-1].flatten(1), "input_ids": loaded["token_ids"],
            "verifier_last_hidden_states": loaded["hidden_states"][:, -1], "loss_mask": row["loss_mask"]}


def states(problem, layer):
    return torch.as_tensor(problem["latents"][layer])


def test_speculators(drafts, tmp_path):
    out = tmp_path / "out"
    said = export(drafts, "--format", "speculators", "--to", out)
    assert said.out.endswith(f"trained with: scripts/train.py --data-path {out} --on-missing raise --target-layer-ids 2 4 5\n" if
                                AUXILIARY != [2, BLOCKS // 2, BLOCKS - 3] else f"--data-path {out} --on-missing raise\n")
    data, run = datasets.load_from_disk(str(out)), Run(drafts, bfloat16="torch")
    assert len(data) == len(run) and data.with_format(None)["seq_len"][:] == [problem["token_count"] for problem in run]
    counts = {}
    for index, problem in enumerate(run):
        item = speculators_item(data, out, index)
        assert item["hidden_states"].dtype == torch.bfloat16 and item["hidden_states"].shape[1] == 3 * HIDDEN
        assert torch.equal(item["hidden_states"], torch.cat([states(problem, layer) for layer in AUXILIARY], dim=1))
        assert torch.equal(item["verifier_last_hidden_states"], states(problem, "pre_norm"))
        assert item["loss_mask"].tolist() == problem["loss_mask"].tolist() and item["loss_mask"].dtype == torch.int64
        for token in item["input_ids"][item["loss_mask"].bool()].tolist():
            counts[token] = counts.get(token, 0) + 1
    assert torch.load(out / "token_freq.pt", weights_only=True) == counts
    said = export(drafts, "--format", "speculators", "--to", tmp_path / "two", "--layers", "pre_norm,5,blocks.1.hook_resid_post", "--split",
           "train=0.5,validation=0.4999,test=0.0001", "--dtype", "float32")
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["export.json", "train", "validation"]
    assert "nothing fell to test" in said.err
    assert sum(len(datasets.load_from_disk(str(tmp_path / "two" / split))) for split in ("train", "validation")) == len(run)
    item = speculators_item(datasets.load_from_disk(str(tmp_path / "two/train")), tmp_path / "two/train", 0)
    assert item["hidden_states"].shape[1] == 2 * HIDDEN and item["hidden_states"].dtype == torch.float32


# ---- SpecForge: what its list_feature_files, load_feature_file and normalize_offline_sample do, said again

def specforge_items(folder, longest):
    for path in sorted(str(path) for path in folder.rglob("*.ckpt")):
        raw = torch.load(path, weights_only=False, mmap=True)
        yield {"target": raw["hidden_state"].squeeze(0)[:longest].unsqueeze(0),
               "hidden_state": raw["aux_hidden_state"].squeeze(0)[:longest].unsqueeze(0),
               "input_ids": raw["input_ids"][:longest].unsqueeze(0), "loss_mask": raw["loss_mask"][:longest].clone().unsqueeze(0)}


def test_specforge(drafts, tmp_path):
    out = tmp_path / "out"
    said = export(drafts, "--format", "specforge", "--to", out)
    assert f"aux_hidden_state_layer_ids={[layer - 1 for layer in AUXILIARY]}" in said.out
    assert {path.parent.name for path in out.rglob("*.ckpt")} == {"rows_0-2000"}
    problems = {tuple(problem["tokens"].tolist()): problem for problem in Run(drafts, bfloat16="torch")}
    items = list(specforge_items(out, 4096))
    assert len(items) == len(problems)
    for item in items:
        problem = problems.pop(tuple(item["input_ids"][0].tolist()))
        assert torch.equal(item["target"][0], states(problem, BLOCKS)) and item["target"].dtype == torch.bfloat16
        assert torch.equal(item["hidden_state"][0], torch.cat([states(problem, layer) for layer in AUXILIARY], dim=1))
        assert item["loss_mask"].tolist() == [problem["loss_mask"].tolist()] and item["loss_mask"].dtype == torch.int64
    assert problems == {}


# ---- what is refused

def test_what_a_run_lacks(made, tmp_path, drafts):
    for name in ("speculators", "specforge"):
        said = export(made, "--format", name, "--to", tmp_path / "out", code=DATA).err
        for word in ("latents.pooling is step_mean", "loss_mask: true", "spans: roles", "pooling: tokens"):
            assert word in said, said
    assert "token_ids" in said
    said = export(drafts, "--format", "specforge", "--to", tmp_path / "out", "--layers", "2,4,-1", code=DATA).err
    assert "3 layers before it (here are 2, 4" in said
    said = export(drafts, "--format", "specforge", "--to", tmp_path / "out", "--layers", "2,4,blocks.5.hook_resid_pre,transformer.h.7", code=USAGE).err
    assert "not as pre_norm" in said
    vocabulary = [drafts, "--format", "specforge", "--to", tmp_path / "out", "--draft-vocab-size"]
    assert "belong together" in export(*vocabulary, "9", "--vocab-size", "8", code=USAGE).err
    assert "the texts have the token" in export(*vocabulary, "2", "--vocab-size", "9", code=DATA).err
    shutil.rmtree(tmp_path / "out.tmp")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("words, said", [
    (["--layers", "3"], "hidden_states[3] is not in this run; it has 0, 2, 4"), (["--layers", "a"], "'a' is no layer"),
    (["--layers", "-9"], "hidden_states[-9] is not in this run"), (["--layers", "rubbish.2"], "'rubbish.2' is no layer"),
    (["--layers", "blocks.4.hook_resid_pre"], "there is no block 4: the model has 4"), (["--layers", "my_norm"], "is no layer"),
    (["--layers", "2,-3"], "2 is named twice"), (["--layers", "model.layers.1,2"], "2 is named twice"), (["--layers", "pre_norm"], "pre_norm is not in this run"),
    (["--split", "train=2"], "not above 0"), (["--split", "train"], "not NAME=FRACTION"), (["--split", "a=0.5,b=0.4"], "sum to 0.9"),
    (["--split", "../x=1"], "not NAME=FRACTION"), (["--seed", "1"], "belong to --split"), (["--max-shard-size", "0"], "is not a size"),
    (["--max-shard-size", "5 apples"], "is not a size"), (["--shuffle", "1"], "unrecognized arguments"),
    (["--vocab-size", "4"], "belong to draft heads"), (["--dtype", "int8"], "invalid choice"),
])
def test_words_that_are_refused(made, tmp_path, words, said):
    answer = export(made, "--format", "parquet", "--to", tmp_path / "out", *words, code=USAGE)
    assert said in answer.err and not list(tmp_path.glob("out*")) and "Traceback" not in answer.err


def test_folders_named_by_any_bytes(made, tmp_path):
    run, out = (tmp_path / os.fsdecode(name) for name in (b"run-\xff", b"out-\xfe"))
    shutil.copytree(made, run)
    for said in (b"problems", b"complete already"):
        done = subprocess.run([sys.executable, "-m", "strata_export", run, "--format", "parquet", "--to", out], capture_output=True, check=True)
        assert said in done.stdout and b"out-" in done.stdout and done.stderr == b""
    strata("export", run, "--format", "npy", "--to", tmp_path / "npy")
    assert json.loads((tmp_path / "npy" / "export.json").read_text())["run"] is None


def test_places_that_are_refused(made, tmp_path, monkeypatch):
    export(tmp_path, "--format", "parquet", "--to", tmp_path / "out", code=DATA)
    export(made, "--format", "parquet", code=USAGE)
    assert "cannot be made" in export(made, "--format", "parquet", "--to", "/", code=USAGE).err
    damaged = shutil.copytree(made, tmp_path / "damaged")
    (damaged / "shards" / "part-000001.h5").write_text("rubbish")
    assert f"{damaged}/shards/part-000001.h5 has changed since it was sealed" in export(damaged, "--format", "parquet", "--to", tmp_path / "never", code=DATA).err
    flipped = shutil.copytree(made, tmp_path / "flipped")
    with h5py.File(flipped / "shards" / "part-000001.h5") as file:
        at = file["latents/hs_002"].id.get_offset()
    with open(flipped / "shards" / "part-000001.h5", "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    said = export(flipped, "--format", "parquet", "--to", tmp_path / "never", code=DATA).err
    assert "part-000001.h5 has changed since it was sealed (SHA-256)" in said
    export(made, "--format", "parquet", "--to", tmp_path / "never", "--split", "source", "--split-column", "note", code=DATA)
    assert not list(tmp_path.glob("never*"))  # nothing was finished: nothing is left
    (tmp_path / "out").mkdir()
    export(made, "--format", "parquet", "--to", tmp_path / "out", code=USAGE)
    (tmp_path / "mine.tmp").mkdir()
    (tmp_path / "mine.tmp" / "thesis").touch()
    export(made, "--format", "parquet", "--to", tmp_path / "mine", code=WRITE)
    assert (tmp_path / "mine.tmp" / "thesis").exists()
    export(made, "--format", "parquet", "--to", damaged / "ledger.sqlite" / "folder", code=WRITE)
    for name, needed in (("parquet", "pyarrow"), ("specforge", "torch")):
        monkeypatch.setitem(sys.modules, needed, None)
        assert f"pip install {needed}" in export(made, "--format", name, "--to", tmp_path / "without", code=DEVICE).err


# ---- killed, full, again

@pytest.mark.parametrize("name", ["parquet", "speculators", "specforge"])
def test_stopped_at_any_file(made, drafts, tmp_path, name):
    """A limit on files' sizes stops it at the first large one, SIGTERM and SIGKILL where they meet it; the same command ends with the
    same bytes, and what was finished before is not written again."""
    words = ([made, "--max-shard-size", "3kB"] if name == "parquet" else [drafts]) + ["--format", name, "--to"]
    (tmp_path / "whole").mkdir()
    export(*words, tmp_path / "whole" / "out")
    whole, out, aside = files(tmp_path / "whole" / "out"), tmp_path / "out", tmp_path / "out.tmp"
    wanted = {path: sha for path, sha in whole.items() if path != "export.json"}
    assert apart(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)), *words, out) == WRITE and not out.exists()
    for kind, code in ((signal.SIGTERM, STOPPED), (signal.SIGKILL, -signal.SIGKILL)):
        before = {path for path in files(aside) if path in wanted}
        assert apart(lambda: send_after(3, kind), *words, out) == code
        assert not out.exists() and {path for path in files(aside) if path in wanted} > before
    there = {path: (aside / path).stat().st_ino for path in wanted if (aside / path).exists()}
    assert "of them from before" in export(*words, out).out and not aside.exists()
    assert {path: sha for path, sha in files(out).items() if path != "export.json"} == wanted
    same = [path for path, inode in there.items() if (out / path).stat().st_ino == inode]
    assert len(same) >= len(there) - 1 > 2  # but the one that was being entered into the journal
    assert "complete already" in export(*words, out).out
    export(*words, out, "--layers", "4", code=USAGE)
    (out / next(iter(wanted))).unlink()
    assert f"{next(iter(wanted))} is missing or has another size" in export(*words, out, code=DATA).err


def send_after(count, kind):
    """The signal comes right after so many files got their names."""
    left, replace = iter(range(count - 1, -1, -1)), os.replace

    def counted(*names):
        replace(*names)
        if next(left) == 0:
            os.kill(os.getpid(), kind)
    os.replace = counted


def test_a_leftover_of_another_command(made, tmp_path):
    words = [made, "--format", "parquet", "--to", tmp_path / "out"]
    assert apart(lambda: send_after(2, signal.SIGKILL), *words) == -signal.SIGKILL
    assert "of another command" in export(*words, "--layers", "2", code=USAGE).err
    (tmp_path / "out.tmp" / ".files.jsonl").write_text('{"name": "torn')
    export(*words)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out.tmp").mkdir()  # killed before it had said what it is
    (tmp_path / "out.tmp" / ".writing").touch()
    (tmp_path / "out.tmp" / "data").mkdir()
    export(*words)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "data", "export.json"]


def test_rjepa_parquet(made, tmp_path):
    strata("export", made, "--format", "rjepa", "--layers", "2", "--to", tmp_path / "r", "--split", "source")
    beside = export(tmp_path / "r", "--format", "rjepa-parquet").out.split()
    there = export(tmp_path / "r", "--format", "rjepa-parquet", "--to", tmp_path / "p").out.split()
    assert len(beside) == len(there) == 3 and all(path.startswith(f"{tmp_path}/p/") for path in there)
    assert [parquet.read_table(path) for path in beside] == [parquet.read_table(path) for path in there]
    export("--format", "rjepa-parquet", "--", tmp_path / "r")  # as strata export calls it
    export(tmp_path, "--format", "rjepa-parquet", code=DATA)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # noqa: E731
    assert apart(limit, tmp_path / "r", "--format", "rjepa-parquet", "--to", tmp_path / "full") == WRITE
    export(tmp_path / "r", "--format", "rjepa-parquet", "--layers", "2", code=USAGE)
