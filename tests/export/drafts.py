"""A run as the trainers of draft heads want it: every token of four layers and the last block's output on both sides of the norm."""

import h5py
import numpy as np

from support import Job, make_model, make_problems

BLOCKS, HIDDEN, AUXILIARY = 8, 16, [2, 4, 5]


def make_drafts(folder, count=14, **latents):
    job = Job(folder, make_problems(count, steps=2, longest=8), make_model("drafts", layers=BLOCKS, hidden=HIDDEN, intermediate=32),
              latents={"layers": [*AUXILIARY, -1], "pooling": "tokens", "dtype": "bfloat16", "token_ids": True, **latents},
              batch={"problems": 2}, run={"checkpoint_every": 2})
    job.run()
    return job


def mask_of(ids):
    return (np.asarray(ids) % 3 != 0).astype(np.uint8)


def add_what_is_kept(job):
    """Loss masks, and the last layer under the name of its states before the norm."""
    for path in (job.output / "shards").glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file["tokens/loss_mask"] = mask_of(file["tokens/ids"][()])
            file.copy(f"latents/hs_{BLOCKS:03d}", f"latents/hs_{BLOCKS:03d}_pre_norm")
