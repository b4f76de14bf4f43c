# SPDX-License-Identifier: MIT
"""Numbers converted by an export, with torch as the judge."""

import numpy as np
import pytest

from export.made_run import done, latents, make_run, strata
from parity import safetensors, torch


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("wanted", ["float32", "float16", "bfloat16"])
def test_dtypes(tmp_path, stored, wanted):
    run = make_run(tmp_path / "run", problems=12, dtype=stored)
    strata("export", run, "--to", tmp_path / "out", "--format", "safetensors", "--dtype", wanted)
    made = safetensors.torch.load_file(tmp_path / "out" / "all.safetensors")["hs_002"]
    exact = torch.from_numpy(np.concatenate([latents(o, 2) for o in done(12)]))
    assert made.dtype == getattr(torch, wanted)
    assert torch.equal(made, exact.to(getattr(torch, stored)).to(getattr(torch, wanted)))
