# SPDX-License-Identifier: MIT
"""R-JEPA's shards with their Parquet tables by one command, read as R-JEPA's loader reads them; pyarrow is the judge."""

import json
import os
import sys

import numpy as np
import safetensors.numpy

from export.made_run import HIDDEN, done, make_run, problem_id, row_count, shard_rows, strata
from parity import parquet


def with_companion(tmp_path, monkeypatch):
    """strata-export on PATH, as the Python package installs it."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "strata-export"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={os.environ["PYTHONPATH"]} exec {sys.executable} -m strata_reader rjepa-parquet "$4"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


def test_rjepa_has_its_tables_after_one_command(tmp_path, monkeypatch):
    """What R-JEPA's LatentDataset and get_stats do (rjepa/jepa/dataset.py), by LatentSharding.iter_latent_shards (rjepa/data/sharding.py):
    they take the shards by their Parquet files in the order of the names, the tensors of shard i from shard-%04d.safetensors."""
    run = make_run(tmp_path / "run", problems=1500)
    with_companion(tmp_path, monkeypatch)
    result = strata("export", run, "--format", "rjepa", "--layers", "-3", "--to", tmp_path / "out")
    assert "warning" not in result.stderr and result.stdout.count("\n") == 2
    metadata, latents = [], {}
    for i, path in enumerate(sorted((tmp_path / "out").glob("shard-*.parquet"))):
        metadata.extend(parquet.read_table(path).to_pylist())
        latents.update(safetensors.numpy.load_file(tmp_path / "out" / f"shard-{i:04d}.safetensors"))
    assert len(metadata) == len(latents) == len(done(1500)) and metadata[0]["hidden_size"] == HIDDEN
    stored = shard_rows(run, 2)
    for record, ordinal in zip(metadata, done(1500)):
        rows = latents[record["cot_id"]]
        assert record["cot_id"] == problem_id(ordinal) == record["problem_id"] and np.array_equal(rows, stored[record["cot_id"]].astype(np.float32))
        assert rows.shape == (record["num_steps"], record["hidden_size"]) and record["num_steps"] == row_count(ordinal)
        assert record["domain"] == "math" and isinstance(record["subdomain"], str) and record["layer_idx"] == -3 and record["llm_tag"] == "tiny"
        assert record["step_boundaries"] == [[2 + 5 * step, 7 + 5 * step] for step in range(row_count(ordinal))]
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert {"shard-0000.parquet", "shard-0001.parquet"} <= {file["path"] for file in about["files"]}
