# SPDX-License-Identifier: MIT
"""Run directories made by tool_make_run.c, and the strata program on them."""

import json
import os
import pathlib
import subprocess

import h5py
import numpy as np

BUILD = pathlib.Path(os.environ["STRATA_BUILD"])
LAYERS, HIDDEN = (0, 2, 4), 8


def make_run(folder, **options):
    words = [f"{name}={value}" for name, value in options.items()]
    subprocess.run([BUILD / "tests" / "export_tool_make_run", folder, *words], check=True)
    return folder


def strata(*words, code=0, cwd=None):
    result = subprocess.run(
        [BUILD / "strata", *map(str, words)], capture_output=True, text=True, cwd=cwd, stdin=subprocess.DEVNULL
    )
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    return result


def state(ordinal):
    return "failed" if ordinal % 7 == 3 else "skipped" if ordinal % 11 == 5 else "done"


def done(problems):
    return [ordinal for ordinal in range(problems) if state(ordinal) == "done"]


def problem_id(ordinal):
    return ["plain-%d", 'quote"back\\slash-%d', "\u00fcmlaut \U0001f989-%d", "tab\tnew\nline-%d"][ordinal % 4] % ordinal


def row_count(ordinal):
    steps = ordinal % 4 + 1
    return steps - (1 if ordinal % 8 == 6 and steps > 1 else 0)


def latents(ordinal, layer):
    """tool_make_run.c's formula, [rows, hidden] float32."""
    row, column = np.mgrid[0 : row_count(ordinal), 0:HIDDEN]
    return (((ordinal * 131 + row * 17 + layer * 7 + column * 3) % 2001 - 1000) / 64).astype(np.float32)


def shard_rows(run, layer):
    """{id: rows as stored} read by h5py alone."""
    found = {}
    for path in sorted(pathlib.Path(run, "shards").glob("part-*.h5")):
        with h5py.File(path) as file:
            offset, cut = file["problems/row_offset"][()], file["problems/id_offset"][()]
            names, values = file["problems/id"][()].tobytes(), file[f"latents/hs_{layer:03d}"][()]
            for i in range(len(cut) - 1):
                found[names[cut[i] : cut[i + 1]].decode()] = values[offset[i] : offset[i + 1]]
    return found


def export(run, target, *words, **options):
    result = strata("export", run, "--to", target, *words, **options)
    return json.loads((target / "export.json").read_text())


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def same_bytes(*folders):
    a, b = (sorted(folder.rglob("*")) for folder in folders)
    assert [path.relative_to(folders[0]) for path in a] == [path.relative_to(folders[1]) for path in b] and len(a) > 3
    for one, other in zip(a, b):
        assert one.is_dir() or one.read_bytes() == other.read_bytes(), one


def check_rows(ids, offset, matrix, stored):
    assert len(ids) > 0 and len(offset) == len(ids) + 1 and offset[0] == 0 and offset[-1] == len(matrix)
    assert np.isfinite(np.asarray(matrix, np.float32)).all()
    for i, name in enumerate(ids):
        assert np.array_equal(matrix[offset[i] : offset[i + 1]], stored[name]), name
