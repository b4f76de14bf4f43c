# SPDX-License-Identifier: MIT
"""The Python reader's data set, its bfloat16 and its Parquet, with torch and pyarrow as the judges."""

import subprocess
import sys

import numpy as np
import pytest

import strata_reader.arrow
from commands.test_parts import Set
from export.drafts import AUXILIARY, BLOCKS, make_drafts
from export.made_run import HIDDEN, LAYERS, done, latents, make_run, problem_id, row_count, shard_rows, strata
from parity import ml_dtypes, parquet, torch
from strata_reader import Run, Shard, StrataDataset, collate, rjepa_parquet, to_parquet
from support import Job, make_problems


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run", problems=120, tokens=1)


def test_bfloat16(tmp_path):
    run = Run(make_run(tmp_path / "run", dtype="bfloat16"))
    for position, ordinal in enumerate(done(37)):
        exact = torch.from_numpy(latents(ordinal, 2)).to(torch.bfloat16).float().numpy()
        assert np.array_equal(run[position]["latents"][2], exact)
        # h5py's own conversion through HDF5 agrees.
        assert np.array_equal(shard_rows(tmp_path / "run", 2)[problem_id(ordinal)], exact)


@pytest.mark.parametrize("form", ["ml_dtypes", "torch"])
def test_bfloat16_as_it_is_stored(tmp_path, form):
    folder = make_run(tmp_path / "run", dtype="bfloat16")
    exact, run = Run(folder), Run(folder, bfloat16=form)
    kind = ml_dtypes.bfloat16 if form == "ml_dtypes" else torch.bfloat16
    for position in range(5):
        values = run[position]["latents"][2]
        assert values.dtype == kind and type(values) is (np.ndarray if form == "ml_dtypes" else torch.Tensor)
        assert np.array_equal(np.asarray(values.float() if form == "torch" else values.astype(np.float32)), exact[position]["latents"][2])
        assert run.get(position, dtype=np.float32)["latents"][2].dtype == np.float32
        assert exact.get(position, dtype=None)["latents"][2].dtype == np.float32
    matrix, offset = run.latents(2)
    assert matrix.dtype == kind and len(matrix) == offset[-1]
    assert np.array_equal(np.asarray(matrix.float() if form == "torch" else matrix.astype(np.float32)), exact.latents(2)[0])
    assert run.latents(2, dtype=np.float64)[0].dtype == np.float64
    half = Run(make_run(tmp_path / "half"), bfloat16=form)
    assert half[0]["latents"][2].dtype == np.float32 and half.latents(2, dtype=None)[0].dtype == np.float16
    with pytest.raises(ValueError, match="it is one of"):
        Run(folder, bfloat16="uint16")


@pytest.fixture(scope="module")
def drafts(tmp_path_factory):
    return make_drafts(tmp_path_factory.mktemp("drafts")).output


def test_loss_masks_and_the_layer_before_the_norm(drafts, folder):
    run = Run(drafts)
    assert run.layers == [*AUXILIARY, BLOCKS, "pre_norm"] and run.dtype == "bfloat16"
    for problem in run:
        assert 0 < problem["loss_mask"].sum() < len(problem["tokens"]) == len(problem["loss_mask"])
        assert problem["latents"]["pre_norm"].shape == problem["latents"][BLOCKS].shape
    matrix = run.latents("pre_norm")[0]
    assert np.array_equal(matrix, np.concatenate([problem["latents"]["pre_norm"] for problem in run]))
    assert not np.array_equal(matrix, run.latents(BLOCKS)[0]) and run.shard(*run.sealed()[0]).layer_text("pre_norm")
    data = StrataDataset(drafts, layer="pre_norm", dtype=torch.bfloat16)
    few, many = np.argsort([problem["token_count"] for problem in run])[[0, -1]].tolist()
    batch = collate([data[few], data[many]])
    assert batch["loss_mask"].shape == batch["tokens"].shape == batch["latents"].shape[:2]
    assert int(batch["loss_mask"].sum()) == sum(int(run[i]["loss_mask"].sum()) for i in (few, many))
    assert batch["tokens"].min() == -1 and "loss_mask" not in StrataDataset(folder, layer=2)[0]
    rows = run.to_datasets(layers=["pre_norm"])
    assert [rows[i]["loss_mask"] for i in range(40)] == np.concatenate([run[i]["loss_mask"] for i in range(14)])[:40].tolist()
    assert rows.column_names[-1] == f"hs_{BLOCKS:03d}_pre_norm" and rows[0]["token_id"] == run[0]["tokens"][0]


def test_datasets(folder, tmp_path, monkeypatch):
    run = Run(folder)
    rows = run.to_datasets()
    matrix = run.latents(4)[0]
    assert np.array_equal(np.array(rows["hs_004"][:]), matrix) and rows.features["hs_004"].length == HIDDEN
    assert rows["id"][:] == [name for name, count in zip(run.ids, np.diff(run.row_offset)) for _ in range(count)]
    monkeypatch.setattr(strata_reader.arrow, "FILE_BYTES", 400)
    monkeypatch.setattr(strata_reader.arrow, "BATCH_BYTES", 1500)
    many = run.to_datasets(per="problem", layers=[2, 0], numbers="float32", folder=tmp_path / "data")
    assert len(list((tmp_path / "data").glob("*.arrow"))) > 5 and many["id"][:] == run.ids
    assert all(np.array_equal(row["hs_002"], run[i]["latents"][2]) for i, row in enumerate(many.with_format("numpy")))
    assert [row["token_ids"] for row in many] == [problem["tokens"].tolist() for problem in run]
    assert [row["byte_end"] for row in many] == [problem["rows"]["byte_end"].tolist() for problem in run]
    with pytest.raises(FileExistsError):
        run.to_datasets(folder=tmp_path / "data")
    with pytest.raises(ValueError, match="per="):
        run.to_datasets(per="token")
    for layer in (3, -1, "model.layers.3"):
        with pytest.raises(KeyError, match="it has"):
            run.to_datasets(layers=[layer], folder=tmp_path / "never")
    assert not (tmp_path / "never").exists()
    assert [name for name in many.column_names if name in run[0]["metadata"]] == list(run[0]["metadata"])


def test_an_exported_file_reads_as_a_shard(folder, tmp_path):
    strata("export", folder, "--format", "hdf5", "--to", tmp_path / "out", "--dtype", "bfloat16")
    with Shard(tmp_path / "out" / "all.h5") as shard:
        assert shard.ids == [problem_id(o) for o in done(120)]
        exact = torch.from_numpy(np.concatenate([latents(o, 2) for o in done(120)])).to(torch.bfloat16).float()
        assert np.array_equal(shard.latents(2), exact.numpy())
        assert shard.layer_text(2).startswith("-3 = hidden_states[2]")


@pytest.mark.parametrize("workers, start", [(0, None), (2, "fork"), (2, "spawn")])
def test_data_loader(folder, workers, start):
    data = StrataDataset(folder, layer=2, where=lambda meta: meta["split"] == "train")
    data.run[0]  # handles of this process must not be used in the workers
    wanted = [o for o in done(120) if o % 4 < 2]
    loader = torch.utils.data.DataLoader(data, batch_size=7, num_workers=workers, collate_fn=collate, multiprocessing_context=start)
    for _ in range(2 if start == "fork" else 1):
        seen = []
        for batch in loader:
            assert batch["latents"].dtype == torch.float32 and batch["latents"].shape[2] == HIDDEN
            for i, name in enumerate(batch["id"]):
                ordinal = wanted[len(seen)]
                seen.append(name)
                assert name == problem_id(ordinal) and int(batch["mask"][i].sum()) == row_count(ordinal)
                rows = batch["latents"][i][batch["mask"][i]]
                assert np.array_equal(rows.numpy(), latents(ordinal, 2))
                assert not batch["latents"][i][~batch["mask"][i]].any()
                assert batch["step"][i].tolist()[: row_count(ordinal)] == list(range(row_count(ordinal)))
        assert seen == [problem_id(o) for o in wanted]


def test_dataset_of_several_layers_and_ids(folder):
    data = StrataDataset(folder, dtype=torch.bfloat16, ids=[problem_id(8), problem_id(0)])
    batch = collate([data[0], data[1]])
    assert batch["id"] == [problem_id(8), problem_id(0)] and set(batch["latents"]) == set(LAYERS)
    assert torch.equal(batch["latents"][4][0], torch.from_numpy(latents(8, 4)).to(torch.bfloat16))
    with pytest.raises(KeyError, match="no hidden_states"):
        StrataDataset(folder, layer=1)
    with pytest.raises(ValueError):
        StrataDataset(folder, where=bool, ids=[])


def test_a_data_set_of_a_set(tmp_path):
    job = Job(tmp_path, make_problems(30))
    parts = Set(job, 3)
    parts.run_all()
    data = StrataDataset(job.output, layer=0, ids=["p-00025", "p-00003"])
    assert [data[i]["id"] for i in range(len(data))] == ["p-00025", "p-00003"]
    data = StrataDataset(job.output, layer=0)
    loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=2, collate_fn=collate)
    assert [name for batch in loader for name in batch["id"]] == [f"p-{number:05d}" for number in range(30)]
    tables = []
    for name, words in (("set", [job.output]), ("list", [parts.part(index).output for index in range(3)])):
        result = subprocess.run([sys.executable, "-m", "strata_reader", "metadata-parquet", *words, tmp_path / name],
                                capture_output=True, text=True, check=True)
        assert result.stdout.endswith(" 30 problems\n")
        tables.append(parquet.read_table(tmp_path / name).to_pylist())
    assert tables[0] == tables[1] and [row["ordinal"] for row in tables[0]] == list(range(30))


def test_parquet(folder, tmp_path):
    for _ in range(2):
        assert to_parquet(folder, tmp_path / "meta.parquet") == len(done(120))
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(FileExistsError, match="no Parquet file"):
        to_parquet(folder, tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "mine"
    table = parquet.read_table(tmp_path / "meta.parquet").to_pylist()
    assert [row["id"] for row in table] == [problem_id(o) for o in done(120)]
    assert table[1]["rows"] == 2 and table[1]["difficulty"] == 1 and table[1]["score"] == 0.1
    strata("export", folder, "--format", "rjepa", "--layers", "2", "--to", tmp_path / "out", "--split", "source")
    result = subprocess.run([sys.executable, "-m", "strata_reader", "rjepa-parquet", tmp_path / "out"],
                            capture_output=True, text=True, check=True)
    made = sorted((tmp_path / "out").glob("*/*.parquet"))
    assert result.stdout.split() == [str(path) for path in made] and len(made) == 3
    rows = parquet.read_table(tmp_path / "out" / "test" / "shard-0000.parquet").to_pylist()
    assert [row["cot_id"] for row in rows] == [problem_id(o) for o in done(120) if o % 4 == 2]
    assert {row["split"] for row in rows} == {"test"} and rows[0]["num_steps"] == row_count(2)
    with pytest.raises(FileNotFoundError):
        rjepa_parquet(tmp_path)
