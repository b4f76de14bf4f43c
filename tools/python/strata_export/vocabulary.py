# SPDX-License-Identifier: MIT
"""The vocabulary of a draft head: the tokens that are trained on most often."""

from __future__ import annotations

import collections
import io
from typing import Any, Iterable, NamedTuple, Optional

import numpy as np

from .errors import DATA, USAGE, ExportError


class Sizes(NamedTuple):
    """How many tokens the draft head has, and how many the model (its config.json's vocab_size)."""

    draft: int
    model: int


def parse_sizes(draft: Optional[int], model: Optional[int]) -> Optional[Sizes]:
    if draft is None and model is None:
        return None
    if draft is None or model is None or not 0 < draft <= model:
        raise ExportError(USAGE, "--draft-vocab-size N and --vocab-size N belong together, the first at most the second")
    return Sizes(draft, model)


def count(samples: Any, positions: Iterable[int]) -> collections.Counter:
    """How often each token is trained on."""
    counts: collections.Counter = collections.Counter()
    for position in positions:
        ids, mask = samples.tokens(position)
        add(counts, ids, mask)
    return counts


def add(counts: collections.Counter, ids: Any, mask: Any) -> None:
    values, times = ids[mask == 1].unique(return_counts=True)
    counts.update(dict(zip(values.tolist(), times.tolist())))


def mapping(counts: collections.Counter, sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """(d2t, t2d): int64 [draft], what is added to a draft's token to get the model's; bool [model], whether the draft has a token.
    Of tokens that are equally frequent the first are taken, and those that never occur only where there are too few others."""
    if counts and max(counts) >= sizes.model:
        raise ExportError(DATA, f"--vocab-size is {sizes.model}, and the texts have the token {max(counts)}")
    chosen = sorted(counts, key=lambda token: (-counts[token], token))[: sizes.draft]
    others = (token for token in range(sizes.model) if token not in counts)
    tokens = np.array(sorted([*chosen, *(token for token, _ in zip(others, range(sizes.draft - len(chosen))))]), np.int64)
    has = np.zeros(sizes.model, bool)
    has[tokens] = True
    return tokens - np.arange(sizes.draft), has


def as_npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()
