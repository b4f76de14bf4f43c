# SPDX-License-Identifier: MIT
"""What `strata export` has strata-export do: other formats are handed over, and R-JEPA's shards get their Parquet tables."""

import os
import shutil
import stat
import subprocess

import pytest

from export.made_run import BUILD, lines, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run", problems=1500)


@pytest.fixture
def program(tmp_path):
    """A copy of the program in a folder of its own, with nothing beside it but what looks like runs."""
    for name in ("-run", "run", "b"):
        (tmp_path / "bin" / name).mkdir(parents=True)
        (tmp_path / "bin" / name / "ledger.sqlite").touch()
    return shutil.copy2(BUILD / "strata", tmp_path / "bin" / "strata")


def companion(program, text):
    """strata-export beside the program, as a shell script."""
    path = program.parent / "strata-export"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def call(program, *words, code=0, **more):
    result = subprocess.run([program, "export", *map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                            cwd=program.parent, env={**os.environ, "PATH": "/usr/bin:/bin", **more}, check=False)
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    return result


def test_other_formats_are_handed_over_with_their_words(program, tmp_path):
    companion(program, 'for word in "$@"; do echo "<$word>"; done; exit 17')
    words = ("-run", "b", "--format", "parquet", "--to", "out", "--layers=-2,3", "--split", "source", "--split-column", "part",
             "--dtype", "float16", "--max-shard-size", "5GB", "--per", "problem", "--require-complete")
    told = call(program, *words[2:], "--", *words[:2], code=17).stdout.split("\n")[:-1]
    given = [word.strip("<>") for word in told]
    at = given.index("--")
    assert given[at + 1:] == ["-run", "b"]
    options = given[:at]
    options.remove("--require-complete")
    assert dict(zip(options[::2], options[1::2])) == {
        "--format": "parquet", "--to": "out", "--layers": "-2,3", "--split": "source", "--split-column": "part", "--dtype": "float16",
        "--max-shard-size": "5GB", "--per": "problem"}
    told = call(program, "run", "--format", "specforge", "--to", "out", "--split", "a=1", "--seed", "5", code=17).stdout
    assert "<--seed>\n<5>\n" in told
    told = call(program, "run", "--format", "speculators", "--to", "out", "--draft-vocab-size", "32", "--vocab-size=64", code=17).stdout
    assert "<--draft-vocab-size>\n<32>\n<--vocab-size>\n<64>\n" in told
    assert "belong to draft heads" in call(program, "run", "--format", "npy", "--to", "out", "--vocab-size", "9", code=64).stderr


@pytest.mark.parametrize("words", [("--shuffle", "1"), ("--shuffle-rows", "1"), ("--normalize", "standard")])
def test_what_it_does_not_know_is_refused(program, words):
    companion(program, "echo called")
    result = call(program, "run", "--format", "parquet", "--to", "out", *words, code=64)
    assert f"{words[0]} does not go with --format parquet" in result.stderr and "called" not in result.stdout


def test_without_it_its_formats_are_named(program, tmp_path):
    result = call(program, "run", "--format", "speculators", "--to", tmp_path / "out", code=69)
    assert "--format speculators is written by strata-export, which is not on this machine" in result.stderr


# ---- R-JEPA ----


def test_rjepa_without_it_keeps_the_lines_and_says_so(run, program, tmp_path):
    for name, text in (("none", None), ("no-pyarrow", "echo 'strata-export: no pyarrow' >&2; exit 69")):
        if text is not None:
            companion(program, text)
        result = call(program, run, "--format", "rjepa", "--layers", "2", "--to", tmp_path / name)
        assert "warning: the shards have JSON lines and no Parquet" in result.stderr and "give this command again" in result.stderr
        assert len(lines(tmp_path / name / "shard-0000.jsonl")) == 1000 and not list((tmp_path / name).glob("*.parquet"))
        # The same command adds them once it is there.
        companion(program, 'for folder; do :; done; touch "$folder/shard-0000.parquet"')
        result = call(program, run, "--format", "rjepa", "--layers", "2", "--to", tmp_path / name)
        assert "complete already" in result.stdout and (tmp_path / name / "shard-0000.parquet").exists() and result.stderr == ""


def test_tables_that_could_not_be_written_are_no_export(run, program, tmp_path):
    companion(program, "echo 'strata-export: No space left on device' >&2; exit 73")
    result = call(program, run, "--format", "rjepa", "--layers", "2", "--to", tmp_path / "out", code=73)
    assert "No space left" in result.stderr and "could not write the tables" in result.stderr and not (tmp_path / "out").exists()
    companion(program, "exit 0")
    assert "finished before and kept" in call(program, run, "--format", "rjepa", "--layers", "2", "--to", tmp_path / "out").stdout
