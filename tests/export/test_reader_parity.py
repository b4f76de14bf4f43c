"""The Python reader's data set, its bfloat16 and its Parquet, with torch and pyarrow as the judges."""

import subprocess
import sys

import numpy as np
import pytest

from commands.test_parts import Set
from export.made_run import HIDDEN, LAYERS, done, latents, make_run, problem_id, row_count, shard_rows, strata
from parity import parquet, torch
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
    assert to_parquet(folder, tmp_path / "meta.parquet") == len(done(120))
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
