# SPDX-License-Identifier: MIT
"""The data folder that vllm-project/speculators' trainer reads (scripts/train.py --data-path, with --on-missing raise):

    data-00000-of-00001.arrow, dataset_info.json, state.json    datasets.load_from_disk: input_ids, loss_mask, seq_len
    token_freq.pt                                               how often each token is trained on: the draft's vocabulary
    d2t.npy, t2d.npy                                            that vocabulary, with --draft-vocab-size; else the trainer makes it
    hidden_states/hs_0.safetensors ...                          token_ids [tokens], hidden_states [tokens, layers, hidden]

Row i of the data set has its hidden states in hs_i. The last of the layers is the last block's output before the final norm: the trainer
applies the norm itself.
"""

from __future__ import annotations

import collections
import io
import json
import os
import pathlib
import shutil
from typing import Any, Optional

from strata_reader import Run

from .choose import blocks_of
from .errors import needed
from .output import Output, writing
from .plan import Plan
from .samples import Samples, check_files, check_run, choose, places, torch_module, trained_on
from .vocabulary import Sizes, add, as_npy, mapping

LAST = "pre_norm"


def write(run: Run, plan: Plan, output: Output, layers: list, numbers: str, asked: bool, sizes: Optional[Sizes]) -> dict[str, Any]:
    torch = torch_module("speculators")
    try:
        import datasets
        import safetensors.torch
    except ImportError as error:
        raise needed(error.name or "datasets", "--format speculators") from error
    layers = choose(run, layers, LAST, asked)
    samples = Samples(run, layers, numbers, torch)
    for split, prefix, positions in places(plan):
        for number, position in enumerate(positions.tolist()):
            name = f"{prefix}hidden_states/hs_{number}.safetensors"
            if output.done(name):
                continue
            ids, _, states, saturated = samples.read(position)
            with output.file(name) as file:
                file.write(safetensors.torch.save({"hidden_states": torch.stack(states, dim=1), "token_ids": ids}))
                file.told = {"split": split, "tokens": len(ids), "saturated": saturated}
        if not output.done(f"{prefix}state.json"):
            _write_tokens(datasets, torch, samples, positions.tolist(), output, prefix, sizes)
    check_files(output, plan, ".safetensors")
    blocks = blocks_of(run)
    ids = layers[:-1]
    usual = [2, blocks // 2, blocks - 3]
    said = "" if ids == usual else f" --target-layer-ids {' '.join(map(str, ids))}"
    return {"layers": layers, "layer_ids": [*ids, blocks],
            "trained_with": f"scripts/train.py --data-path {trained_on(output, plan)} --on-missing raise{said}"}


def prepare(run: Run, layers: list, asked: bool) -> None:
    check_run(run, choose(run, layers, LAST, asked), "speculators", None)


def _write_tokens(datasets: Any, torch: Any, samples: Samples, positions: list, output: Output, prefix: str,
                  sizes: Optional[Sizes]) -> None:
    """The data set is made aside by its own library, whose files then get their names one by one, state.json last."""
    import pyarrow

    counts: collections.Counter = collections.Counter()
    kind = pyarrow.list_(pyarrow.int64())
    schema = pyarrow.schema({"input_ids": kind, "loss_mask": kind, "seq_len": pyarrow.int64()})
    aside = output.folder / (prefix + ".dataset.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    with writing(aside):
        aside.mkdir(parents=True)
        with pyarrow.OSFile(os.fspath(aside / "tokens"), "wb") as file, pyarrow.ipc.new_stream(file, schema) as stream:
            for first in range(0, len(positions), 1000):
                columns: dict[str, list] = {"input_ids": [], "loss_mask": [], "seq_len": []}
                for position in positions[first : first + 1000]:
                    ids, mask = samples.tokens(position)
                    add(counts, ids, mask)
                    for column, value in zip(columns.values(), (ids.tolist(), mask.tolist(), len(ids))):
                        column.append(value)
                stream.write_batch(pyarrow.RecordBatch.from_pydict(columns, schema))
        data = datasets.Dataset.from_file(os.fspath(aside / "tokens")).with_format("torch")
        data.save_to_disk(os.fspath(aside / "saved"))
    frequency = io.BytesIO()
    torch.save(dict(counts), frequency)
    with output.file(f"{prefix}token_freq.pt") as file:
        file.write(frequency.getvalue())
    if sizes is not None:
        for name, values in zip(("d2t.npy", "t2d.npy"), mapping(counts, sizes)):
            with output.file(prefix + name) as file:
                file.write(as_npy(values))
    made = sorted((aside / "saved").iterdir(), key=lambda path: (path.name == "state.json", path.name))
    for path in made:
        with output.file(prefix + path.name) as file:
            _copy(path, file)
    shutil.rmtree(aside)


def _copy(path: pathlib.Path, file: Any) -> None:
    if path.name == "state.json":  # the fingerprint is random: two exports of one run would differ
        state = json.loads(path.read_text(encoding="utf-8"))
        file.write(json.dumps({**state, "_fingerprint": "strata"}, indent=2, sort_keys=True).encode())
        return
    with open(path, "rb") as source:
        while data := source.read(1 << 20):
            file.write(data)
