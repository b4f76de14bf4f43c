# SPDX-License-Identifier: MIT
"""Training layouts of the runs of `strata`: the program strata-export (`python -m strata_export`).

    strata-export runs/qwen3-8b --format parquet --to latents

`strata export` hands over to it for these formats:

    parquet        data/train-00000-of-00012.parquet and a dataset card: datasets.load_dataset("latents") reads it
    speculators    a data folder of vllm-project/speculators' trainer: tokens as a data set, hidden_states/hs_0.safetensors ...
    specforge      EAGLE-3's offline files of sgl-project/SpecForge: rows_0-2000/data_0.ckpt ...
    rjepa-parquet  the tables of `strata export --format rjepa` as Parquet

Every file appears under its name once it is whole and synced, and the folder once all of it is there: an export that was killed or met
a full disk goes on with the same command. torch, datasets, pyarrow and safetensors are imported when a format needs them.
"""

__all__: list = []
