# SPDX-License-Identifier: MIT
"""Exports of several files a split: what each holds, and that a killed export goes on with those that are finished."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import safetensors.numpy

from export.made_run import BUILD, done, export, lines, make_run, same_bytes, strata

# The leak check of a sanitized build cannot work under strace.
TRACED = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
SIZE = 3000  # bytes: about six problems


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run", problems=160, tokens=1, mask=1)


def read(path):
    """{array: numbers} of a file or folder of any format, named as safetensors has them."""
    if path.suffix == ".safetensors":
        return safetensors.numpy.load_file(path)
    if path.suffix == ".h5":
        names = {"ids": "token_ids", "offset": "token_offset"}
        with h5py.File(path) as file:
            return {names.get(name, name) if group == "tokens" else name: values[()]
                    for group in ("latents", "rows", "problems", "tokens") for name, values in file[group].items()}
    return {file.stem: np.load(file) for file in path.glob("*.npy")}


def size_of(path):
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size


@pytest.mark.parametrize("form, ending, size", [("safetensors", ".safetensors", SIZE), ("npy", "", 2600), ("hdf5", ".h5", 86000)])
@pytest.mark.parametrize("order", [(), ("--shuffle", 3)])
def test_files_of_whole_problems(run, tmp_path, form, ending, size, order):
    export(run, tmp_path / "whole", "--format", form, "--split", "source", *order)
    about = export(run, tmp_path / "out", "--format", form, "--split", "source", "--max-shard-size", size, *order)
    # More than are written at once, of npy, whose files are many.
    assert form != "npy" or sum(path.is_dir() for path in (tmp_path / "out").iterdir()) > 40
    for split in ("train", "test", "unsplit"):
        whole = read(tmp_path / "whole" / f"{split}{ending}")
        index = json.loads((tmp_path / "out" / f"{split}{ending}.index.json").read_text())
        names = [entry["file"] for entry in index["files"]]
        assert len(names) > 2 and names == [f"{split}-{i + 1:05d}-of-{len(names):05d}{ending}" for i in range(len(names))]
        rows = problems = tokens = 0
        told = []
        for entry in index["files"]:
            path = tmp_path / "out" / entry["file"]
            assert size_of(path) <= size or entry["problems"] == 1
            part = read(path)
            count, first = entry["problems"], problems
            assert (entry["first_row"], entry["first_problem"]) == (rows, problems)
            assert part["row_offset"][0] == 0 and part["row_offset"][-1] == entry["rows"] == len(part["hs_002"]) and len(part["ordinal"]) == count
            for name in ("hs_000", "hs_002", "hs_004", "step", "token_start", "byte_end"):
                assert np.array_equal(part[name], whole[name][rows:rows + entry["rows"]]), name
            assert np.array_equal(part["ordinal"], whole["ordinal"][first:first + count])
            assert np.array_equal(part["row_offset"] + rows, whole["row_offset"][first:first + count + 1])
            for name in ("token_ids", "loss_mask"):
                assert np.array_equal(part[name], whole[name][tokens:tokens + part["token_offset"][-1]])
            rows, problems, tokens = rows + entry["rows"], problems + count, tokens + len(part["token_ids"])
            if form != "hdf5":
                told += lines(tmp_path / "out" / (entry["file"].replace(".safetensors", "") + ".jsonl"))
        assert rows == len(whole["hs_002"]) == index["metadata"]["rows"] and problems == len(whole["ordinal"])
        if form != "hdf5":
            assert told == lines(tmp_path / "whole" / f"{split}.jsonl")
    assert {file["path"] for file in about["files"]} == \
        {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()} - {"export.json"}


def test_a_problem_larger_than_a_file_is_alone(run, tmp_path):
    small = make_run(tmp_path / "small", problems=20)
    export(small, tmp_path / "out", "--format", "safetensors", "--max-shard-size", 1)
    assert len(list((tmp_path / "out").glob("all-*-of-00*.safetensors"))) == len(done(20)) > 9
    export(run, tmp_path / "one", "--format", "safetensors", "--max-shard-size", "1GB")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == \
        ["all.jsonl", "all.safetensors", "export.json", "statistics.safetensors"]


@pytest.mark.parametrize("size", ["0", "-1", "5 GB", "GB", "5XB", "1.5GB", "9999999999TB", "5GBs"])
def test_sizes_that_are_none(run, tmp_path, size):
    result = strata("export", run, "--format", "npy", "--to", tmp_path / "out", f"--max-shard-size={size}", code=64)
    assert "--max-shard-size is a whole number of bytes" in result.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("--format", "rjepa", "--layers", "2", "--max-shard-size", "1GB"),
                                   ("--format", "rjepa", "--layers", "2", "--shuffle-rows", "1"),
                                   ("--format", "hdf5", "--shuffle-rows", "1"),
                                   ("--format", "npy", "--shuffle", "1", "--shuffle-rows", "1"),
                                   ("--format", "npy", "--per", "row"),
                                   ("--format", "npy", "--normalize", "standard", "--split", "dev=1")])
def test_options_that_do_not_go_together(run, tmp_path, words):
    strata("export", run, "--to", tmp_path / "out", *words, code=64)
    assert not list(tmp_path.iterdir())


# ---- going on ----


def broken(call, number, how, run, target, *words):
    """An export that one call of the system ends; its result."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{how}:when={number}"]
    result = subprocess.run([*trace, BUILD / "strata", "export", run, "--to", target, *words], capture_output=True, text=True, env=TRACED)
    if "ptrace" in result.stderr.lower():
        pytest.skip("strace may not trace here")
    assert result.returncode != 0
    return result


def inodes(folder):
    return {path.name: path.stat().st_ino for path in pathlib.Path(folder).iterdir()}


MANY = ("--format", "safetensors", "--split", "source", "--max-shard-size", str(SIZE))
CASES = [(MANY, "fsync", (2, 30, 31, 32)), (MANY, "pwrite64", (1, 700, 900)),
         ((*MANY, "--shuffle", "2", "--normalize", "standard"), "pwrite64", (1100,)),
         ((*MANY, "--shuffle-rows", "2"), "fsync", (3, 30)), ((*MANY, "--shuffle-rows", "2"), "renameat2", (1,)),
         (("--format", "npy", "--split", "source", "--max-shard-size", "9KB"), "fsync", (50,)),
         (("--format", "hdf5", "--max-shard-size", "86KB"), "fsync", (8,)),
         (("--format", "rjepa", "--layers", "2", "--split", "source"), "fsync", (7,))]


@pytest.mark.parametrize("words, call, numbers", CASES)
def test_a_killed_export_goes_on_with_what_is_finished(run, tmp_path, words, call, numbers):
    export(run, tmp_path / "whole", *words)
    out = tmp_path / "out"
    for number in numbers:
        broken(call, number, "signal=KILL", run, out, *words)
    assert not out.exists()
    left = (tmp_path / "out.tmp" / ".writing").read_text().splitlines() if (tmp_path / "out.tmp" / ".writing").exists() else []
    finished = [file["path"] for line in left[1:] for file in json.loads(line)["files"]]
    before = {path: (tmp_path / "out.tmp" / path).stat() for path in finished}
    result = strata("export", run, "--to", out, *words)
    assert ("finished before and kept" in result.stdout) == bool(finished)
    for path, stat in before.items():
        now = (out / path).stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns), path
    same_bytes(tmp_path / "whole", out)
    assert not (tmp_path / "out.tmp").exists() and not list(out.glob(".*"))


def test_a_full_disk_keeps_what_is_finished(run, tmp_path):
    export(run, tmp_path / "whole", *MANY)
    result = broken("pwrite64", 1100, "error=ENOSPC", run, tmp_path / "out", *MANY)
    assert result.returncode == 73 and "No space left on device" in result.stderr
    left = (tmp_path / "out.tmp" / ".writing").read_text().splitlines()
    kept = {file["path"] for line in left[1:] for file in json.loads(line)["files"]}
    assert kept and {path.name for path in (tmp_path / "out.tmp").iterdir()} == kept | {".writing"}
    assert "run the same command again" in result.stderr
    strata("export", run, "--to", tmp_path / "out", *MANY)
    same_bytes(tmp_path / "whole", tmp_path / "out")


def test_a_leftover_of_the_other_program_is_kept(run, tmp_path):
    """strata export and strata-export make the same TARGET.tmp."""
    words = ("--to", tmp_path / "out", "--format")
    broken("fsync", 30, "signal=KILL", run, tmp_path / "out", *MANY)
    files = inodes(tmp_path / "out.tmp")
    result = subprocess.run([sys.executable, "-m", "strata_export", run, *words, "parquet"], capture_output=True, text=True)
    assert result.returncode == 64 and "of another command" in result.stderr and inodes(tmp_path / "out.tmp") == files
    strata("export", run, "--to", tmp_path / "out", *MANY)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out.tmp").mkdir()
    for name in (".writing", ".request.json", "finished"):
        (tmp_path / "out.tmp" / name).touch()
    assert "is of an export that strata-export has begun" in strata("export", run, *words, "npy", code=64).stderr
    assert (tmp_path / "out.tmp" / "finished").exists()


def test_what_is_finished_is_not_mixed_with_another_export(run, tmp_path):
    broken("fsync", 30, "signal=KILL", run, tmp_path / "out", *MANY)
    files = inodes(tmp_path / "out.tmp")
    result = strata("export", run, "--to", tmp_path / "out", *MANY, "--shuffle", "1", code=64)
    assert "finished files of an export with other options" in result.stderr and inodes(tmp_path / "out.tmp") == files
    strata("export", run, "--to", tmp_path / "out", "--format", "npy", "--layers", "99", code=64)
    assert inodes(tmp_path / "out.tmp") == files
    # A finished file that is not as it was is made anew; half a line of the record counts for nothing.
    record = tmp_path / "out.tmp" / ".writing"
    first = json.loads(record.read_text().splitlines()[1])["files"][0]["path"]
    os.truncate(tmp_path / "out.tmp" / first, 10)
    with open(record, "a", encoding="utf-8") as file:
        file.write('{"piece":40,"saturated":0,"fil')
    strata("export", run, "--to", tmp_path / "out", *MANY)
    export(run, tmp_path / "whole", *MANY)
    same_bytes(tmp_path / "whole", tmp_path / "out")
