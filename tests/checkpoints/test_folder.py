"""Folders that are not a run's, and files in a run directory that are not the program's: nothing of anybody else is
written over or removed."""

import os
import pathlib
import shutil
import subprocess

import pytest

COMMIT = str(pathlib.Path(os.environ["STRATA_BUILD"]) / "tests" / "checkpoints_tool_commit")
SHARDS = 2
WRITE = 73


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
            "shards/part-000001.partial.h5", "shards/part-000001.partial.h5.tmp", "job.yaml.tmp", "latents.h5.tmp"]
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
