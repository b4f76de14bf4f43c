# SPDX-License-Identifier: MIT
"""What the formats with a file a text have in common: EAGLE-3's draft heads are trained on every token of a few layers."""

from __future__ import annotations

from typing import Any, Iterator, Optional

import numpy as np

from strata_reader import Run

from .choose import blocks_of
from .errors import DATA, USAGE, ExportError, needed
from .output import Output
from .plan import Plan

HALF_MOST = 65504.0  # float16's largest number


def torch_module(name: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise needed("torch", f"--format {name}") from error
    return torch


def choose(run: Run, layers: list, last: Any, asked: bool) -> list:
    """The auxiliary layers, ascending, and `last` behind them. Without --layers all that are stored but for the last block's others."""
    blocks = blocks_of(run)
    others = [layer for layer in (blocks, "pre_norm") if layer != last]
    odd = [layer for layer in layers if layer in others]
    if asked and odd:
        raise ExportError(USAGE, f"--layers: this format takes the last block's output as {_say(last, blocks)}, "
                                 f"not as {_say(odd[0], blocks)}")
    return [*sorted(layer for layer in layers if layer != last and layer not in others), last]


def _say(layer: Any, blocks: int) -> str:
    return "pre_norm, before the final norm" if layer == "pre_norm" else f"{layer} (-1), after the final norm"


def check_run(run: Run, layers: list, name: str, exactly: Optional[int]) -> None:
    """Whether the run keeps what is needed; otherwise which keys of the job do."""
    blocks, last = blocks_of(run), layers[-1]
    first = run.shard(*run.sealed()[0])
    lacking = []
    if run.attributes.get("pooling") != "tokens":
        lacking.append(f"a row for each token (latents.pooling is {run.attributes.get('pooling')})")
    if not first.has_tokens:
        lacking.append("token ids (latents.token_ids)")
    if not first.has_loss_mask:
        lacking.append("which tokens are trained on (latents.loss_mask)")
    if last not in run.layers:
        lacking.append(f"the last block's output as {_say(last, blocks)}")
    if len(layers) == 1 or (exactly is not None and len(layers) - 1 != exactly):
        lacking.append(f"{exactly or 'some'} layers before it (here are {', '.join(map(str, layers[:-1])) or 'none'}; --layers chooses)")
    if lacking:
        end = "pre_norm" if last == "pre_norm" else "-1"
        aux = [2, blocks // 2, max(blocks - 3, 1)]
        raise ExportError(DATA, f"{run.path} lacks what {name}'s trainer reads: {'; '.join(lacking)}. A job has all of it with\n"
                          f"  latents: {{layers: [{', '.join(map(str, sorted(set(aux))))}, {end}], pooling: tokens, dtype: bfloat16, "
                          "token_ids: true, loss_mask: true}\n"
                          "  problems: {steps: {spans: roles, roles: [assistant]}}     # the column that strata-import writes")


class Samples:
    """The problems of a plan one by one, as tensors."""

    def __init__(self, run: Run, layers: list, numbers: Optional[str], torch: Any) -> None:
        self.run, self.layers, self.torch = run, layers, torch
        self.numbers = getattr(torch, numbers or run.dtype)

    def tokens(self, position: int) -> tuple[Any, Any]:
        """(token ids, loss mask) of a problem, int64 [tokens]."""
        problem = self.run.get(position, [])
        return tuple(self.torch.from_numpy(problem[name].astype(np.int64)) for name in ("tokens", "loss_mask"))

    def read(self, position: int) -> tuple[Any, Any, list, int]:
        """(token ids, loss mask, [tokens, hidden] of each layer, how many numbers float16 could not hold)."""
        torch, problem = self.torch, self.run.get(position, self.layers, None)
        count = problem["token_count"]
        if not np.array_equal(problem["rows"]["token_start"], np.arange(count)) or len(problem["tokens"]) != count:
            raise ExportError(DATA, f"problem {problem['id']}: its rows are not its {count} tokens")
        states, saturated = [], 0
        for layer in self.layers:
            values = torch.as_tensor(problem["latents"][layer])
            if self.numbers is torch.float16 and values.dtype is not torch.float16:
                saturated += int((values.abs() > HALF_MOST).sum())
                values = values.clamp(-HALF_MOST, HALF_MOST)
            states.append(values.to(self.numbers))
        ids, mask = (torch.from_numpy(problem[name].astype(np.int64)) for name in ("tokens", "loss_mask"))
        return ids, mask, states, saturated


def places(plan: Plan) -> Iterator[tuple[str, str, np.ndarray]]:
    """(split, its folder as a prefix of names, positions): without --split its files lie in the folder itself."""
    for split, positions in plan.splits.items():
        yield split, f"{split}/" if plan.is_split else "", positions


def trained_on(output: Output, plan: Plan) -> str:
    """The folder that a trainer is given."""
    prefixes = [prefix for _, prefix, _ in places(plan)]
    return str(output.target / ("train/" if "train/" in prefixes else prefixes[0]))


def check_files(output: Output, plan: Plan, ends: str) -> None:
    """Every problem once: as many files as the ledger has problems, with as many tokens as it has rows."""
    files = [entry for name, entry in output.files.items() if name.endswith(ends) and "tokens" in entry]
    if len(files) != plan.problems or sum(entry["tokens"] for entry in files) != plan.rows:
        raise ExportError(DATA, f"{output.folder} has {len(files)} texts where the ledger has {plan.problems}: remove it and export again")
