# SPDX-License-Identifier: MIT
"""Mutated run directories: verify names what is wrong, recovery refuses or cleans up, and h5py reads the documented layout."""

import hashlib
import os
import pathlib
import random
import re
import shutil
import sqlite3
import subprocess

import h5py
import numpy as np
import pytest

TOOLS = pathlib.Path(os.environ["STRATA_BUILD"]) / "tests"
COMMIT = str(TOOLS / "checkpoints_tool_commit")
VERIFY = str(TOOLS / "checkpoints_tool_verify")
SHARDS = 3
HIDDEN = 24
LAYERS = [0, 3, 4]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "run"
    subprocess.run([COMMIT, folder, str(SHARDS)], check=True, capture_output=True)
    return folder


@pytest.fixture
def run(sound, tmp_path):
    return pathlib.Path(shutil.copytree(sound, tmp_path / "run"))


def verify(folder):
    ended = subprocess.run([VERIFY, folder], capture_output=True, text=True)
    faults, refusal = ended.stdout.splitlines(), ended.stderr.splitlines()
    if ended.returncode == 65:  # the ledger itself cannot be opened or read
        assert len(refusal) == 1 and refusal[0].startswith("tool_verify: "), ended
        return faults + refusal
    assert (ended.returncode, refusal) == (1 if [line for line in faults if not line.startswith("NOTE ")] else 0, []), ended
    return faults if ended.returncode == 1 else []


def notes(folder):
    """What verify says of a run without a fault."""
    ended = subprocess.run([VERIFY, folder], capture_output=True, text=True)
    assert ended.returncode == 0, (ended.returncode, ended.stdout, ended.stderr)
    lines = ended.stdout.splitlines()
    assert all(line.startswith("NOTE ") for line in lines), lines
    return [line.removeprefix("NOTE ") for line in lines]


def resume(folder):
    return subprocess.run([COMMIT, folder, str(SHARDS)], capture_output=True, text=True)


def test_sound_run_has_no_fault(run):
    assert verify(run) == []


def test_every_flipped_shard_byte_is_found(run):
    generator = random.Random(1)
    for _ in range(60):
        shard = run / "shards" / f"part-{generator.randrange(SHARDS):06d}.h5"
        before = shard.read_bytes()
        place = generator.randrange(len(before))
        damaged = bytearray(before)
        damaged[place] ^= 1 << generator.randrange(8)
        shard.write_bytes(damaged)
        lines = verify(run)
        assert len(lines) == 1 and shard.name in lines[0] and "bytes were changed" in lines[0], lines
        shard.write_bytes(before)
    assert verify(run) == []


def test_truncated_and_missing_shards_are_named_and_not_run_over(run):
    shard = run / "shards" / "part-000001.h5"
    before = shard.read_bytes()
    for size in (0, 1, len(before) // 2, len(before) - 1):
        shard.write_bytes(before[:size])
        lines = verify(run)
        assert len(lines) == 1 and f"part-000001.h5: {size} bytes" in lines[0], lines
        again = resume(run)
        assert again.returncode == 65 and "part-000001.h5" in again.stderr
    shard.unlink()
    assert verify(run) == ["shard part-000001.h5: missing"]
    again = resume(run)
    assert again.returncode == 65 and "is missing" in again.stderr
    shard.write_bytes(before)
    assert verify(run) == [] and resume(run).returncode == 0


def test_swapped_shards_are_found(run):
    first, second = (run / "shards" / f"part-{n:06d}.h5" for n in (0, 1))
    first.rename(run / "x")
    second.rename(first)
    (run / "x").rename(second)
    assert {line.split(":")[0] for line in verify(run)} == {"shard part-000000.h5", "shard part-000001.h5"}


def test_orphans_are_named_and_removed(run):
    shards = run / "shards"
    ours = ["part-000003.h5", "part-000003.h5.tmp", "part-000001.partial.h5", "part-000000.h5.tmp"]
    for name in ours:
        shutil.copy(shards / "part-000000.h5", shards / name)
    (shards / "notes.txt").write_text("somebody's")
    (run / "latents.h5.tmp").write_text("half")
    lines = notes(run)
    assert sorted(re.match(r"shards/(\S+): not acknowledged", line)[1] for line in lines if "notes.txt" not in line) == sorted(ours)
    assert "shards/notes.txt: the ledger does not know this file" in lines
    assert resume(run).returncode == 0
    assert sorted(p.name for p in shards.iterdir()) == ["notes.txt"] + [f"part-{n:06d}.h5" for n in range(SHARDS)]
    assert not (run / "latents.h5.tmp").exists()


def test_changed_partial_shard_is_computed_again(tmp_path, sound):
    folder = tmp_path / "run"
    assert subprocess.run([COMMIT, folder, str(SHARDS), "partial"], capture_output=True).returncode == 75
    assert verify(folder) == []
    partial = folder / "shards" / "part-000001.partial.h5"
    damaged = bytearray(partial.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    partial.write_bytes(damaged)
    assert "part-000001.partial.h5: the partial shard of a clean stop is missing or changed" in notes(folder)[0]
    assert resume(folder).returncode == 0
    assert not partial.exists()
    for name in ("part-000000.h5", "part-000001.h5", "part-000002.h5"):
        assert (folder / "shards" / name).read_bytes() == (sound / "shards" / name).read_bytes()


def acknowledged_rows(path):
    """All that the chain covers, or None when SQLite cannot read it. Columns go by their places: a flipped bit in a name of
    the schema changes no row, and python cannot read a name that is not UTF-8."""
    columns = {"identity": 3, "survey": 10, "checkpoint": 9, "shard": 11, "problem": 12, "batch": 29}
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            db.text_factory = bytes
            return [
                db.execute(f"WITH t({','.join(f'c{i}' for i in range(count))}) AS (SELECT * FROM {table}) "
                           "SELECT * FROM t ORDER BY 1").fetchall()
                for table, count in columns.items()
            ]
    except (sqlite3.Error, UnicodeDecodeError):  # the second: of an error's text
        return None


def test_flipped_ledger_bits_are_found(run):
    """A flip that changes an acknowledged row is always named. Those in free space, or in notes and events, may pass."""
    ledger = run / "ledger.sqlite"
    before = ledger.read_bytes()
    rows = acknowledged_rows(ledger)
    generator = random.Random(2)
    changed = passed = 0
    used = [place for place, byte in enumerate(before) if byte != 0]  # most of a small ledger's pages is empty
    for _ in range(250):
        damaged = bytearray(before)
        damaged[generator.choice(used)] ^= 1 << generator.randrange(8)
        ledger.write_bytes(damaged)
        lines = verify(run)
        if acknowledged_rows(ledger) != rows:
            changed += 1
            assert lines, "a changed row passed"
        passed += not lines
    ledger.write_bytes(before)
    print(f"\n250 flips: {changed} changed an acknowledged row, all named; {passed} passed without one")
    assert changed > 20 and verify(run) == []


@pytest.mark.parametrize("change", [
    "UPDATE total SET done = done + 1 WHERE checkpoint = 2",
    "UPDATE total SET compute_seconds = compute_seconds * 1.001 WHERE checkpoint = 1",
    "UPDATE total SET bytes = 0",
    "DELETE FROM total WHERE checkpoint = 1",
    "INSERT INTO total SELECT 99, done, failed, skipped, truncated, shards, rows, tokens, bytes, batches, overflowed,"
    " compute_seconds, wait_seconds, write_seconds, prepare_seconds FROM total WHERE checkpoint = 1",
])
def test_sums_that_disagree_with_their_rows_are_found(run, change):
    with sqlite3.connect(run / "ledger.sqlite") as db:
        db.execute(change)
    lines = verify(run)
    assert len(lines) == 1 and "sums" in lines[0], lines


def test_a_run_that_commits_meanwhile_is_sound(tmp_path):
    """Every look at a run that goes on is of one moment: no commit in between is a fault."""
    folder = tmp_path / "run"
    runner = subprocess.Popen([COMMIT, folder, "150"], stdout=subprocess.DEVNULL)
    looks = 0
    while runner.poll() is None:
        if (folder / "ledger.sqlite").exists():
            notes(folder)
            looks += 1
    assert runner.returncode == 0 and notes(folder) == []
    print(f"\n{looks} looks while it ran")


def test_zeroed_ledger_pages_are_found(run):
    ledger = run / "ledger.sqlite"
    before = ledger.read_bytes()
    rows = acknowledged_rows(ledger)
    assert rows is not None
    changed = 0
    for page in range(len(before) // 4096):
        ledger.write_bytes(before[: page * 4096] + bytes(4096) + before[(page + 1) * 4096 :])
        if acknowledged_rows(ledger) != rows or page == 0:
            changed += 1
            assert verify(run), f"page {page}"
    assert changed > 3
    ledger.unlink()
    assert "there is no ledger" in verify(run)[0]


def test_rows_changed_with_a_matching_hash_are_found(run):
    """Whoever rewrites a shard and its hash in the ledger still breaks the chain, and the content check names the problem."""
    shard = run / "shards" / "part-000001.h5"
    with h5py.File(shard, "r+") as file:
        file["latents/hs_003"][3, 5] = np.nan
    with sqlite3.connect(run / "ledger.sqlite") as db:
        db.execute(
            "UPDATE shard SET sha256 = ?, bytes = ? WHERE number = 1",
            (hashlib.sha256(shard.read_bytes()).hexdigest(), shard.stat().st_size),
        )
    lines = verify(run)
    assert any("checkpoint 2 (part-000001.h5)" in line for line in lines), lines
    assert any(re.search(r"problem 'aufgabe-.*row 3 of hs_003 is not finite", line) for line in lines), lines


@pytest.mark.parametrize("change", ["chain = chain || 'x' WHERE number = 1", "batches = 1 WHERE number = 0", "window = 1 WHERE number = 0",
                                    "shards = 1 WHERE number = 0", "window_batch = 1 WHERE number = 0", "finished = 1 WHERE number = 0"])
def test_what_no_hash_covers_is_looked_at(run, change):
    with sqlite3.connect(run / "ledger.sqlite") as db:
        assert db.execute(f"UPDATE checkpoint SET {change}").rowcount == 1
    assert any("are not those that were written" in line for line in verify(run)), verify(run)


# ---- the layout as h5py sees it ----------------------------------------------------------------------------------


def cut(values, offsets):
    return [bytes(values[a:b]) for a, b in zip(offsets[:-1], offsets[1:])]


def test_layout_of_a_shard(sound):
    with h5py.File(sound / "shards" / "part-000001.h5") as file:
        assert file.attrs["format_version"] == 1 and file.attrs["shard"] == 1
        assert list(file.attrs["layers"]) == LAYERS
        assert file.attrs["template"].decode() == "{statement}\n{steps} \u00e4"
        problems, rows = file["problems"], file["rows"]
        ids = cut(problems["id"][:], problems["id_offset"][:])
        assert len(ids) == 10 and ids[1].decode() == "aufgabe-\u00fc-11"
        assert ids[0] == "auf\0abe-\u00fc-10".encode()  # any text, a NUL in it too
        assert list(problems["ordinal"]) == list(range(10, 20))
        assert all(m.startswith(b'{"level": ') for m in cut(problems["metadata"][:], problems["metadata_offset"][:]))
        row_offset = problems["row_offset"][:]
        assert row_offset[0] == 0 and row_offset[-1] == len(rows["step"])
        assert np.array_equal(np.diff(file["tokens/offset"][:]), problems["token_count"][:])
        assert list(file["batches/number"]) == [2, 3] and list(file["batches/problem_offset"]) == [0, 5, 10]
        assert np.all(rows["token_end"][:] >= rows["token_start"][:])
        for layer in LAYERS:
            data = file[f"latents/hs_{layer:03d}"]
            assert data.dtype == np.float16 and data.shape == (row_offset[-1], HIDDEN)
            values = data[:].astype(np.float64)
            assert np.isfinite(values).all()
            figures = file[f"statistics/hs_{layer:03d}"]
            assert figures.attrs["rows"] == len(values)
            assert np.array_equal(figures["minimum"][:], values.min(0))
            assert np.array_equal(figures["maximum"][:], values.max(0))
            assert np.allclose(figures["sum"][:], values.sum(0), rtol=1e-13, atol=1e-12)
            assert np.allclose(figures["sum_of_squares"][:], (values**2).sum(0), rtol=1e-13)
            assert np.isclose(figures.attrs["norm_sum"], np.linalg.norm(values, axis=1).sum(), rtol=1e-13)
        says = {layer: file[f"latents/hs_{layer:03d}"].attrs for layer in LAYERS}
        assert says[0]["layer"].decode() == "hidden_states[0] of 0..4 = embedding output"
        assert says[3]["layer"].decode() == "hidden_states[3] of 0..4 = output of block 3 of 4, before the final norm"
        assert says[4]["layer"].decode() == "hidden_states[4] of 0..4 = output of block 4 of 4, after the final norm"
        assert says[3]["hidden_states_index"] == 3 and says[3]["after_final_norm"] == 0
        assert says[4]["block"] == 4 and says[4]["after_final_norm"] == 1


@pytest.mark.parametrize("dtype, seen", [("bfloat16", np.float32), ("float32", np.float32)])
def test_other_number_formats(tmp_path, dtype, seen):
    folder = tmp_path / "run"
    subprocess.run([COMMIT, folder, "1", dtype], check=True, capture_output=True)
    half = tmp_path / "half"
    subprocess.run([COMMIT, half, "1"], check=True, capture_output=True)
    with h5py.File(folder / "shards/part-000000.h5") as file, h5py.File(half / "shards/part-000000.h5") as other:
        data = file["latents/hs_003"]
        assert data.dtype == seen and data.attrs["dtype"].decode() == dtype == file.attrs["dtype"].decode()
        assert data.id.get_type().get_size() == (2 if dtype == "bfloat16" else 4)
        values, near = data[:], other["latents/hs_003"][:].astype(np.float32)
        assert np.isfinite(values).all() and np.allclose(values, near, rtol=2**-7)
        if dtype == "bfloat16":
            assert not np.any(values.view(np.uint32) & 0xFFFF)  # each number has bfloat16's 8 bits of precision


def test_view_equals_the_shards(run, tmp_path, monkeypatch):
    assert subprocess.run([VERIFY, run, "view"]).returncode == 0
    first = (run / "latents.h5").read_bytes()
    assert subprocess.run([VERIFY, run, "view"]).returncode == 0
    assert (run / "latents.h5").read_bytes() == first
    assert verify(run) == []
    moved = run.rename(tmp_path / "moved")  # names of sources are relative to the view
    monkeypatch.chdir("/")
    with h5py.File(moved / "latents.h5") as view:
        parts = [h5py.File(p) for p in sorted((moved / "shards").glob("*.h5"))]
        flat = ["problems/id", "problems/metadata", "problems/ordinal", "problems/token_count", "problems/truncated",
                "problems/step_count", "rows/step", "rows/token_start", "rows/token_end", "rows/byte_start",
                "rows/byte_end", "tokens/ids", "batches/number"]
        for name in flat + [f"latents/hs_{layer:03d}" for layer in LAYERS]:
            whole = np.concatenate([part[name][:] for part in parts])
            assert whole.dtype == view[name].dtype and np.array_equal(view[name][:], whole), name
        for name in ["problems/id_offset", "problems/metadata_offset", "problems/row_offset", "tokens/offset",
                     "batches/problem_offset"]:
            steps = np.concatenate([np.diff(part[name][:]) for part in parts])
            assert view[name][0] == 0 and np.array_equal(np.diff(view[name][:]), steps), name
        for layer in LAYERS:
            name = f"statistics/hs_{layer:03d}"
            total = np.zeros(HIDDEN)
            for part in parts:
                total += part[name]["sum"][:]
            assert np.array_equal(view[name]["sum"][:], total)
            assert view[f"latents/hs_{layer:03d}"].is_virtual
            assert view[f"latents/hs_{layer:03d}"].attrs["layer"].startswith(b"hidden_states")
        for part in parts:
            part.close()
    (moved / "shards" / "part-000001.h5").unlink()
    with h5py.File(moved / "latents.h5") as view:  # a missing source reads as NaN, never as zeros
        values = view["latents/hs_003"][:]
        assert np.isnan(values).any() and np.isfinite(values).any()


def test_no_view_beyond_what_it_can_show(run):
    """A view of a time when there were fewer shards would show only some of them."""
    assert subprocess.run([VERIFY, run, "view"]).returncode == 0 and (run / "latents.h5").exists()
    with sqlite3.connect(run / "ledger.sqlite") as db:
        db.execute("UPDATE total SET shards = 501")
    assert subprocess.run([VERIFY, run, "view"]).returncode == 0 and not (run / "latents.h5").exists()
    status = subprocess.run([TOOLS.parent / "strata", "status", run], capture_output=True, text=True)
    assert "latents.h5  not written beyond 500 shards: read the shards by strata_reader" in status.stdout, status
