# SPDX-License-Identifier: MIT
"""The offline EAGLE-3 files that sgl-project/SpecForge's reader lists (data.hidden_states_path), one a text:

    rows_0-2000/data_0.ckpt ...    torch.save of input_ids [tokens], loss_mask [tokens], hidden_state [1, tokens, hidden] and
                                   aux_hidden_state [1, tokens, 3 * hidden]
    vocab_mapping/vocab_mapping.pt the draft's vocabulary (d2t, t2d), with --draft-vocab-size; else the trainer makes it

hidden_state is the last block's output after the final norm: the trainer puts the language model's head on it as it is.
"""

from __future__ import annotations

import io
from typing import Any, Optional

from strata_reader import Run

from .choose import blocks_of
from .output import Output
from .plan import Plan
from .samples import Samples, check_files, check_run, choose, places, torch_module, trained_on
from .vocabulary import Sizes, count, mapping

GROUP = 2000  # files in a folder
AUXILIARY = 3


def write(run: Run, plan: Plan, output: Output, layers: list, numbers: str, asked: bool, sizes: Optional[Sizes]) -> dict[str, Any]:
    torch = torch_module("specforge")
    layers = choose(run, layers, blocks_of(run), asked)
    samples = Samples(run, layers, numbers, torch)
    for split, prefix, positions in places(plan):
        for number, position in enumerate(positions.tolist()):
            group = number // GROUP * GROUP
            name = f"{prefix}rows_{group}-{group + GROUP}/data_{number}.ckpt"
            if output.done(name):
                continue
            ids, mask, states, saturated = samples.read(position)
            data = io.BytesIO()
            torch.save({"input_ids": ids, "loss_mask": mask, "hidden_state": states[-1].unsqueeze(0),
                        "aux_hidden_state": torch.cat(states[:-1], dim=-1).unsqueeze(0)}, data)
            with output.file(name) as file:
                file.write(data.getbuffer())
                file.told = {"split": split, "tokens": len(ids), "saturated": saturated}
        name = f"{prefix}vocab_mapping/vocab_mapping.pt"
        if sizes is not None and not output.done(name):
            data = io.BytesIO()
            made = mapping(count(samples, positions.tolist()), sizes)
            torch.save({key: torch.from_numpy(values) for key, values in zip(("d2t", "t2d"), made)}, data)
            with output.file(name) as file:
                file.write(data.getbuffer())
    check_files(output, plan, ".ckpt")
    # SGLang counts blocks: what it captures as layer i is the output of block i, hidden_states[i + 1].
    ids = [layer - 1 for layer in layers[:-1]]
    return {"layers": layers, "aux_hidden_state_layer_ids": ids,
            "trained_with": f"data.hidden_states_path={trained_on(output, plan)} model.aux_hidden_state_layer_ids={ids}"}


def prepare(run: Run, layers: list, asked: bool) -> None:
    check_run(run, choose(run, layers, blocks_of(run), asked), "SpecForge", AUXILIARY)
