# SPDX-License-Identifier: MIT
"""PyTorch: an IterableDataset that follows a run while it goes on, every finished problem once."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Iterable, Iterator, List, Optional, Tuple, Union

import numpy as np
import torch

from .dataset import Items
from .run import Run

FORMAT = 1  # of the state
Path = Union[str, os.PathLike, List[Union[str, os.PathLike]], Run]
Layers = Union[int, str, List[Union[int, str]]]
Shards = Iterable[Tuple[int, int]]


class StrataStream(torch.utils.data.IterableDataset):
    """The problems of a run, shard by shard as its ledger acknowledges them: items as StrataDataset has them, each problem once.

    path        a run directory, a set, or a list of its parts (see Run), or a Run
    layer, dtype   as StrataDataset has them
    where       keeps the problems whose metadata dict satisfies it (where workers are spawned it is pickled: no lambda)
    follow      waits for shards until the run (or each part of a list) is complete; otherwise it ends with what is sealed when it begins
    stay        goes on waiting when the run is complete (its failed problems may be tried again)
    poll        seconds between two looks at the ledger
    patience    seconds without a new shard after which TimeoutError is raised (None: never; a killed run seals nothing more)
    shuffle     problems in the buffer that each one is drawn from, at random; 0: in the order in which they were sealed. While a
                run goes on, one is drawn only from a full buffer
    seed        of the shuffle; each iteration shuffles anew (in a DataLoader's workers, after set_epoch)
    rank, world_size   which of so many processes this is (default: torch.distributed's, where it is initialised)

    Shards are dealt out to the workers of a DataLoader and the processes of a job: shard N of part P goes to number (N + P) modulo
    their count. With fewer shards than that some get nothing. Only references are in the buffer: a problem is read when it is drawn.

    `state_dict()` tells what was yielded, `load_state_dict()` goes on behind that, though the run has grown in between: nothing is
    doubled and nothing left out. A state belongs to one worker of one process, as torchdata's StatefulDataLoader keeps them; under a
    plain DataLoader it is right with num_workers=0.
    """

    def __init__(self, path: Path, layer: Optional[Layers] = None, dtype: torch.dtype = torch.float32,
                 where: Optional[Callable[[dict[str, Any]], bool]] = None, follow: bool = False, stay: bool = False, poll: float = 5.0,
                 patience: Optional[float] = None, shuffle: int = 0, seed: int = 0, rank: Optional[int] = None,
                 world_size: Optional[int] = None) -> None:
        if (rank is None) != (world_size is None):
            raise ValueError("give `rank` and `world_size`, or neither")
        if rank is not None and not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes")
        if shuffle < 0 or poll < 0:
            raise ValueError("shuffle and poll are not negative")
        self.run = Run(path.path if isinstance(path, Run) else path, bfloat16="torch")
        self.items, self.where = Items(layer, dtype), where
        self.follow, self.stay, self.poll, self.patience = follow, stay, poll, patience
        self.shuffle, self.seed = shuffle, seed
        self.rank, self.world_size = rank, world_size
        if self.run.layers:
            self.items.check(self.run)
        self.run.close()
        self._epoch = 0
        self._loaded = None
        self._place = None

    def _consumer(self) -> tuple[int, int]:
        """(number of this worker among all of all processes, how many there are)."""
        rank, size = self.rank, self.world_size
        if rank is None:
            known = torch.distributed.is_available() and torch.distributed.is_initialized()
            rank, size = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if known else (0, 1)
        worker = torch.utils.data.get_worker_info()
        return (rank * worker.num_workers + worker.id, size * worker.num_workers) if worker else (rank, size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        consumer = self._consumer()
        if self._loaded is not None:
            self.run.refresh()
            if self._loaded["job"] not in ("", self._job()):
                raise ValueError(f"the state is of another job than {self.run.path}")
            self._place, self._loaded = _Place.of(self._loaded, consumer, self.shuffle, self.seed), None
            self._epoch = self._place.epoch
        else:
            self._place = _Place(consumer, self.shuffle, self.seed, self._epoch)
        self._epoch += 1
        return self._follow(self._place)

    def _job(self) -> str:
        """Which problems the run has, whatever part of it was the first to begin; empty while that is not known."""
        identity = self.run.ledgers[0].identity if self.run.ledgers else {}
        return identity.get("part.survey") or identity.get("problems.sha256", "")

    def _is_finished(self) -> bool:
        """Of parts that were named one by one, the others are not waited for."""
        return self.run.complete or (isinstance(self.run.path, list) and not self.run.unfinished)

    def _follow(self, place: _Place) -> Iterator[dict[str, Any]]:
        self.run.refresh()
        ends = not self.follow
        last_news = time.monotonic()
        while True:
            if place.add(self.run.sealed()):
                last_news = time.monotonic()
                self.items.check(self.run)
            complete = ends or (self._is_finished() and not self.stay)
            while place.fill(self.run, self.where) and (complete or place.is_full()):
                part, number, index = place.draw()
                yield self.items.make(self.run.shard(part, number).problem(index, self.items.layers))
            if complete:
                return
            if self.patience is not None and time.monotonic() - last_news > self.patience:
                raise TimeoutError(f"{self.run.path}: no new shard for {self.patience} s")
            time.sleep(self.poll)
            self.run.refresh()

    def set_epoch(self, epoch: int) -> None:
        """The next iteration shuffles as the one of this number does. Workers begin at 0 wherever they are started anew."""
        self._epoch = epoch

    def state_dict(self) -> Optional[dict[str, Any]]:
        if self._place is None:
            return self._loaded
        return {"format": FORMAT, "job": self._job(), **self._place.state()}

    def load_state_dict(self, state: Optional[dict[str, Any]]) -> None:
        """The next iteration goes on behind this state."""
        if state is not None and state.get("format") != FORMAT:
            raise ValueError(f"a state of format {state.get('format')}; this reader knows {FORMAT}")
        self._loaded, self._place = state, None


class _Place:
    """How far one consumer has come: shards it has begun, what of them is in the buffer, and the random numbers to come."""

    def __init__(self, consumer: tuple[int, int], shuffle: int, seed: int, epoch: int) -> None:
        self.consumer, self.shuffle, self.seed, self.epoch = consumer, shuffle, seed, epoch
        self._waiting = []  # (part, number) of shards that were not begun, in the order they came
        self._seen = {}  # part: the highest number that was given out to anybody
        self._shard, self._next = None, 0  # the one that is being put into the buffer, and its next problem
        self._buffer = []
        self._random = np.random.Generator(np.random.PCG64([seed, epoch, consumer[0]]))

    @classmethod
    def of(cls, state: dict[str, Any], consumer: tuple[int, int], shuffle: int, seed: int) -> _Place:
        mine = {"consumer": list(consumer), "shuffle": shuffle, "seed": seed}
        for name, value in mine.items():
            if state[name] != value:
                raise ValueError(f"the state is of another stream: its {name} is {state[name]}, not {value}")
        place = cls(consumer, shuffle, seed, state["epoch"])
        place._waiting = [tuple(shard) for shard in state["waiting"]]
        place._seen = {int(part): number for part, number in state["seen"]}
        place._shard = None if state["shard"] is None else tuple(state["shard"])
        place._next = state["next"]
        place._buffer = [tuple(entry) for entry in state["buffer"]]
        place._random.bit_generator.state = state["random"]
        return place

    def state(self) -> dict[str, Any]:
        """Of plain values: it may go through JSON."""
        return {"consumer": list(self.consumer), "shuffle": self.shuffle, "seed": self.seed,
                "epoch": self.epoch, "waiting": [list(shard) for shard in self._waiting], "seen": sorted(map(list, self._seen.items())),
                "shard": None if self._shard is None else list(self._shard), "next": self._next,
                "buffer": [list(entry) for entry in self._buffer], "random": self._random.bit_generator.state}

    def add(self, sealed: Shards) -> bool:
        """Takes note of the shards that came; whether there were any. Numbers of a part's shards only grow."""
        number, count = self.consumer
        fresh = [(part, shard) for part, shard in sealed if shard > self._seen.get(part, -1)]
        self._seen.update({part: shard for part, shard in fresh})
        self._waiting += [(part, shard) for part, shard in fresh if (part + shard) % count == number]
        return bool(fresh)

    def is_full(self) -> bool:
        return len(self._buffer) > self.shuffle or self.shuffle == 0

    def fill(self, run: Run, where: Optional[Callable[[dict[str, Any]], bool]]) -> bool:
        """Up to one more than the buffer keeps; whether it has anything."""
        while len(self._buffer) <= self.shuffle:
            if self._shard is None:
                if not self._waiting:
                    break
                self._shard, self._next = self._waiting.pop(0), 0
            shard = run.shard(*self._shard)
            if self._next == shard.problems:
                self._shard = None
                continue
            if where is None or where(shard.metadata(self._next)):
                self._buffer.append((*self._shard, self._next))
            self._next += 1
        return bool(self._buffer)

    def draw(self) -> tuple[int, int, int]:
        at = int(self._random.integers(len(self._buffer))) if self.shuffle else 0
        self._buffer[at], self._buffer[-1] = self._buffer[-1], self._buffer[at]
        return self._buffer.pop()
