# SPDX-License-Identifier: MIT
"""The Python reader against the shards and the formula they were made from."""

import contextlib
import os
import pathlib
import pickle
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

import strata_reader
from export.made_run import HIDDEN, LAYERS, done, latents, make_run, problem_id, row_count, state, strata
from strata_reader import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run", problems=120, tokens=1)


def test_a_run(folder):
    with Run(folder) as run:
        assert run.ids == [problem_id(o) for o in done(120)] and len(run) == len(done(120))
        assert run.layers == list(LAYERS) and run.hidden == HIDDEN and run.complete
        assert run.attributes["pooling"] == "step_mean"
        assert [(entry["ordinal"], entry["state"]) for entry in run.left_out] == [
            (o, state(o)) for o in range(120) if state(o) != "done"]
        for position, ordinal in enumerate(done(120)):
            problem = run[position] if position % 2 else run[problem_id(ordinal)]
            rows = row_count(ordinal)
            assert problem["id"] == problem_id(ordinal) and problem["ordinal"] == ordinal
            assert problem["truncated"] == (ordinal % 8 == 6) and problem["step_count"] == ordinal % 4 + 1
            assert list(problem["rows"]["step"]) == list(range(rows))
            assert list(problem["rows"]["byte_start"]) == [10 + 20 * i for i in range(rows)]
            assert list(problem["tokens"]) == [ordinal * 100 + i for i in range(2 + 5 * rows)]
            assert problem["metadata"]["note"] == 'a "b" \u00fc'
            for layer in LAYERS:
                assert problem["latents"][layer].dtype == np.float32
                assert np.array_equal(problem["latents"][layer], latents(ordinal, layer))
        assert [problem["id"] for problem in run] == run.ids
        assert problem_id(3) not in run and problem_id(0) in run
        with pytest.raises(KeyError, match="no finished problem"):
            run[problem_id(3)]
        with pytest.raises(IndexError):
            run[len(run)]


def test_all_rows_of_a_layer(folder):
    run = Run(folder)
    matrix, offset = run.latents(4)
    assert np.array_equal(matrix, np.concatenate([latents(o, 4) for o in done(120)]))
    assert list(np.diff(offset)) == [row_count(o) for o in done(120)]
    with pytest.raises(KeyError, match="has no hidden_states\\[3\\]"):
        run.latents(3)


def test_an_unfinished_run_and_a_missing_shard(tmp_path):
    folder = make_run(tmp_path / "run", shards=2)
    shutil.copy(folder / "shards" / "part-000001.h5", folder / "shards" / "part-000002.h5")  # not in the ledger
    run = Run(folder)
    assert not run.complete and run.ids == [problem_id(o) for o in done(20)]
    (folder / "shards" / "part-000001.h5").unlink()
    with pytest.raises(FileNotFoundError):
        [problem for problem in Run(folder)]
    with pytest.raises(FileNotFoundError, match="not a run directory"):
        Run(tmp_path)


def test_pipes_are_not_waited_for(tmp_path, folder):
    run = shutil.copytree(folder, tmp_path / "run")
    for name, look in (("shards/part-000001.h5", lambda: list(Run(run))), ("ledger.sqlite", lambda: Run(run))):
        (run / name).unlink()
        os.mkfifo(run / name)
        with pytest.raises(FileNotFoundError):
            look()


def test_a_run_killed_within_a_commit(tmp_path, folder):
    """Pages of the transaction lie in the file, and what they replaced in a journal."""
    killed = shutil.copytree(folder, tmp_path / "killed")
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite")) as ledger:
        ledger.execute("PRAGMA cache_size = 1")
        ledger.execute("UPDATE problem SET rows = 77, state = 1, reason = ?", ("never committed" * 100,))
        for name in ("ledger.sqlite", "ledger.sqlite-journal"):
            shutil.copy(folder / name, killed / name)
        ledger.rollback()
    assert Run(killed).ids == [problem_id(o) for o in done(120)]
    assert not (killed / "ledger.sqlite-journal").exists() or (killed / "ledger.sqlite-journal").stat().st_size == 0


def test_a_run_that_commits_while_it_is_opened(folder, monkeypatch):
    """The pages of a long listing are of one moment."""
    ledger = sqlite3.connect(folder / "ledger.sqlite")
    before = ledger.execute("SELECT max(number) FROM checkpoint").fetchone()[0]
    monkeypatch.setattr(strata_reader.ledger, "PAGE", 7)
    run = Run(folder)
    problems = iter(run)
    first = next(problems)
    ledger.execute("INSERT INTO checkpoint SELECT number + 1, at, epoch, shards + 1, batches, window, window_batch, 0, '' "
                   "FROM checkpoint WHERE number = ?", (before,))
    ledger.execute("INSERT INTO problem SELECT 5000, 'newer', 0, NULL, batch, 99, 0, tokens, rows, steps, truncated, ? "
                   "FROM problem WHERE ordinal = 0", (before + 1,))
    ledger.commit()  # no reader's lock is in the way
    try:
        assert [problem["ordinal"] for problem in [first, *problems]] == done(120) and run.ids == [problem_id(o) for o in done(120)]
    finally:
        ledger.execute("DELETE FROM problem WHERE ordinal = 5000")
        ledger.execute("DELETE FROM checkpoint WHERE number > ?", (before,))
        ledger.commit()
        ledger.close()


def test_a_pickled_run_opens_its_own_files(folder):
    run = Run(folder)
    run[0]
    copy = pickle.loads(pickle.dumps(run))
    assert not copy._open and np.array_equal(copy[5]["latents"][0], run[5]["latents"][0])


def test_many_shards_stay_within_the_cache(tmp_path):
    run = Run(make_run(tmp_path / "run", problems=400))
    order = np.random.default_rng(0).permutation(len(run))
    for position in order[:120]:
        assert np.array_equal(run[position]["latents"][0], latents(done(400)[position], 0))
        assert len(run._open) <= 32


def test_torch_is_optional():
    code = "import sys; sys.modules['torch'] = None; sys.modules['pyarrow'] = None; import strata_reader; strata_reader.Run"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert strata_reader.__version__


def test_the_reader_under_test_is_the_tree_s():
    """Not one that was installed before."""
    assert pathlib.Path(strata_reader.__file__).is_relative_to(pathlib.Path(os.environ["STRATA_SOURCE"]) / "tools" / "python")
