# SPDX-License-Identifier: MIT
"""Reads what `strata` writes: per-layer hidden states of tens of thousands of problems, or a thousand million.

    from strata_reader import Run

    run = Run("runs/qwen3-8b")
    len(run), run.layers, run.ids[:3]              # finished problems, in the order of the query
    problem = run["gsm8k_train_0"]                 # or run[0]
    problem["latents"][35]                         # [rows, hidden] float32: one row a step
    problem["rows"]["byte_start"]                  # where each step stands in the rendered text
    matrix, offset = run.latents(35)               # all rows of a layer, and where each problem's begin

The parts of a job that runs in parts are read as the one run that they are together:

    run = Run("runs/qwen3-8b")                     # the folder with set.json
    run = Run(["/a/part-0000-of-0064", "/b/part-0001-of-0064"])    # some of them, wherever they lie
    run.complete, run.parts, run.missing           # True when all is there; how many parts; those that have not begun

Memory does not grow with the number of problems, unless all of something is asked for: `ids` and `left_out` as lists, `latents`
and `row_offset` as arrays, `select` as positions (Run's docstring has the bytes).

Shards are opened one by one, as the ledger lists them: a shard that the run has not acknowledged is not read, and a
missing one is an error (the virtual file latents.h5 would show NaN instead).

Training (torch is needed for this part alone):

    from torch.utils.data import DataLoader
    from strata_reader import StrataDataset, collate

    data = StrataDataset("runs/qwen3-8b", layer=35, where=lambda meta: meta["split"] == "train")
    loader = DataLoader(data, batch_size=32, shuffle=True, num_workers=4, collate_fn=collate)

Each worker opens the shards it needs by itself: no HDF5 handle crosses a fork. A run that goes on is followed, problem by problem as
its shards are sealed, over all workers and processes:

    stream = StrataStream("runs/qwen3-8b", layer=35, follow=True, shuffle=1000)

`run.to_datasets()` gives a `datasets.Dataset`; the program strata-export writes training layouts.

`python -m strata_reader --help` lists the command line (Parquet tables of metadata, R-JEPA's shards).
"""

from .parquet import rjepa_parquet, to_parquet
from .run import Run
from .shard import Shard

__all__ = ["Run", "Shard", "StrataDataset", "StrataStream", "collate", "to_parquet", "rjepa_parquet"]
__version__ = "0.1.0"


def __getattr__(name):
    # torch is imported when it is asked for, so that the rest works without it.
    if name in ("StrataDataset", "collate"):
        from . import dataset

        return getattr(dataset, name)
    if name == "StrataStream":
        from .stream import StrataStream

        return StrataStream
    raise AttributeError(f"module 'strata_reader' has no attribute '{name}'")
