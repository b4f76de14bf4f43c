# SPDX-License-Identifier: MIT
"""Folders that are not a run's, and files in a run directory that are not the program's: nothing of anybody else is
written over or removed, and a run whose ledger was lost keeps its shards."""

import os
import pathlib
import shutil
import sqlite3
import subprocess

import pytest

COMMIT = str(pathlib.Path(os.environ["STRATA_BUILD"]) / "tests" / "checkpoints_tool_commit")
SHARDS = 2
WRITE, DATA = 73, 65


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "run"
    subprocess.run([COMMIT, folder, str(SHARDS)], check=True, capture_output=True)
    return folder


@pytest.fixture
def run(sound, tmp_path):
    return pathlib.Path(shutil.copytree(sound, tmp_path / "run"))


def start(folder):
    return subprocess.run([COMMIT, folder, str(SHARDS)], capture_output=True, text=True)


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def write(folder, name):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("somebody's")


def test_only_files_of_our_making_are_swept(run):
    ours = ["shards/part-000007.h5", "shards/part-000000.h5.tmp", "shards/part-000123.h5.tmp",
            "shards/part-000001.partial.h5", "shards/part-000001.partial.h5.tmp",
            f"shards/part-000000.h5.{'0a' * 16}.tmp", f"ledger.sqlite.{'0a' * 16}.tmp",
            f"ledger.json.{'0a' * 16}.tmp", "job.yaml.tmp", "latents.h5.tmp"]
    others = ["notes.tmp", ".tmp", "job.yaml.tmp.tmp", "run.log.tmp", "part-000000.h5.tmp", "shards/x.h5.tmp", "shards/.tmp",
              "shards/part-1.h5.tmp", "shards/part-000000.h5.old.tmp", "shards/latents.h5.tmp", "folder.tmp/within.tmp",
              "shards/folder.tmp/within.tmp"]
    before = content(run)
    for name in ours + others:
        write(run, name)
    assert start(run).returncode == 0
    after = content(run)
    assert [name for name in ours if name in after] == []
    assert [name for name in others if after.get(name) != b"somebody's"] == []
    assert {name: after[name] for name in before if name.startswith("shards/")} == {
        name: before[name] for name in before if name.startswith("shards/")}


@pytest.mark.parametrize("name", ["job.yaml", "config.json", "x.tmp", "latents.h5.tmp", "shards/train.h5", "shards/x.tmp",
                                  "folder/file", ".hidden"])
@pytest.mark.parametrize("ledger", [None, b""], ids=["none", "empty"])
def test_folder_of_somebody_else_is_refused_untouched(tmp_path, name, ledger):
    folder = tmp_path / "mine"
    folder.mkdir()
    write(folder, name)
    if ledger is not None:
        (folder / "ledger.sqlite").write_bytes(ledger)
    before = content(folder)
    done = start(folder)
    assert done.returncode == WRITE and len(done.stderr.splitlines()) == 1, done
    shown = name if name.startswith("shards/") else name.split("/")[0]
    assert f"{folder} holds {shown} and no ledger" in done.stderr, done
    assert content(folder) == before


def test_leftovers_of_a_first_start_are_taken_over(tmp_path, sound):
    """Whatever a start leaves that was killed before its ledger, and the root of an empty disk."""
    for number, names in enumerate(([], ["lock"], ["lock", "run.log"], ["lock", "run.log", "ledger.sqlite-journal"],
                                    ["lock", "run.log", "throughput.csv"], ["lock", "shards/part-000000.h5.tmp"],
                                    ["lost+found/"])):
        folder = tmp_path / str(number)
        (folder / "shards").mkdir(parents=True)
        for name in names:
            if name.endswith("/"):
                (folder / name).mkdir()
            else:
                (folder / name).write_bytes(b"")
        if names and names[-1].endswith("journal"):
            (folder / "ledger.sqlite").write_bytes(b"")
        assert start(folder).returncode == 0, names
        assert {path.name: path.read_bytes() for path in (folder / "shards").iterdir()} == {
            path.name: path.read_bytes() for path in (sound / "shards").iterdir()}


def lose(run, how):
    ledger = run / "ledger.sqlite"
    if how == "missing":
        ledger.unlink()
    elif how == "empty":
        ledger.write_bytes(b"")
    else:
        # The ledger of a start that was killed before its identity, put in the place of the real one.
        with sqlite3.connect(ledger) as db:
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                db.execute(f"DELETE FROM {table}")
        db.close()


@pytest.mark.parametrize("how", ["missing", "empty", "without identity"])
@pytest.mark.parametrize("more", [[], ["job.yaml", "latents.h5", "run.log"]], ids=["bare", "full"])
def test_lost_ledger_costs_no_shard(run, tmp_path, how, more):
    kept = (run / "ledger.sqlite").read_bytes()
    for name in more:
        write(run, name)
    lose(run, how)
    before = content(run)
    for _ in range(2):  # the second start finds what the first left
        done = start(run)
        assert done.returncode == DATA and len(done.stderr.splitlines()) == 1, done
        assert f"{run} has shards/part-00000" in done.stderr and "ledger" in done.stderr, done
        after = content(run)
        assert {**after, "lock": None} == {**before, "lock": None}
    (run / "ledger.sqlite").write_bytes(kept)
    assert start(run).returncode == 0


def test_lost_ledger_costs_no_partial_shard(run):
    shard = run / "shards" / "part-000000.h5"
    shard.rename(run / "shards" / "part-000000.partial.h5")
    (run / "shards" / "part-000001.h5").unlink()
    (run / "ledger.sqlite").unlink()
    done = start(run)
    assert done.returncode == DATA and "part-000000.partial.h5" in done.stderr, done
    assert (run / "shards" / "part-000000.partial.h5").exists()
