#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Simulates a job in parts on many devices: how long it takes against the ideal, what is computed twice, what starts anew.

Parts wait in one queue. A device takes the one that has waited longest (or, --by-number, the first by number), starts (loads
the model, checks the survey, calibrates) and computes batches. What can happen to it:

  crash       the node fails, by an exponential law, and is away until it is repaired; its parts lose what they computed since
              their last checkpoint, and wait in the queue again after a delay
  preemption  the device is taken for a while; its part stops cleanly and loses nothing
  limit       the scheduler's time limit: the part stops cleanly, the device goes on with another
  slow node   from some moment on a node is 1.5 to 3 times slower. Detected, its parts stop cleanly a little later (drift) and the
              node is drained for a while; unnoticed, it stays as it is, and so do its parts

Without arguments it prints the tables of configs/parts.md. Every figure is a mean over seeded repetitions; the same
arguments print the same figures.
"""
import argparse
import dataclasses
import heapq
import itertools
import math
import random
from dataclasses import dataclass

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True)
class Case:
    """A job and its machines. Times are seconds; means of exponential laws where the name says every_; 0: never."""

    nodes: int = 16
    devices_per_node: int = 8
    parts_per_device: float = 8
    ideal_seconds: float = 1 * DAY  # of all devices, computing all the time
    batch_seconds: float = 0.3  # 8,192 tokens at 27,000 a second
    checkpoint_every: int = 100
    seal_seconds: float = 0.2  # that a checkpoint holds up the device
    start_seconds: float = 90  # of every launch: load, survey, calibration
    queue_seconds: float = 120  # before a part that stopped may start again
    by_number: bool = False  # the order in the queue
    crash_every: float = 30 * DAY  # of one node
    repair_seconds: float = 12 * HOUR
    preempt_every: float = 12 * HOUR  # of one device at work
    away_seconds: float = 1 * HOUR
    limit_seconds: float = 24 * HOUR
    slow_every: float = 60 * DAY  # of one node
    slow_low: float = 1.5
    slow_high: float = 3.0
    detects: bool = True
    detect_seconds: float = 60
    drain_seconds: float = 12 * HOUR

    @property
    def devices(self):
        return self.nodes * self.devices_per_node

    @property
    def parts(self):
        return math.ceil(self.devices * self.parts_per_device)

    @property
    def step_seconds(self):
        """Of a batch, with its share of the checkpoint."""
        return self.batch_seconds + self.seal_seconds / self.checkpoint_every

    @property
    def part_seconds(self):
        """Of a part's batches and checkpoints on a device that is not slow."""
        return self.ideal_seconds * self.devices / self.parts * self.step_seconds / self.batch_seconds


class Draws:
    """What chance decides, from one seed. A test puts lists in its place."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def until(self, kind, every):  # of one kind: "crash", "preempt", "slow"
        del kind
        return self.random.expovariate(1 / every) if every > 0 else math.inf

    def slowness(self, case):
        return self.random.uniform(case.slow_low, case.slow_high)


@dataclass
class Outcome:
    seconds: float = 0.0
    launches: int = 0
    crashes: int = 0  # launches that ended so
    stops: int = 0  # clean ones before the end
    lost: float = 0.0  # device seconds that were computed for nothing
    starting: float = 0.0  # device seconds of starts
    busy: float = 0.0  # device seconds of launches, starts among them
    away: float = 0.0  # device seconds without the device


def kept_at_crash(computed, step, checkpoint_every):
    """Of so many seconds since a launch began to compute: those of its whole checkpoints."""
    span = step * checkpoint_every
    return math.floor(computed / span + 1e-9) * span


@dataclass
class Launch:
    part: int
    began: float
    left: float  # seconds of work, as a fast device counts them, when it began
    done: float = 0.0  # of them, until `settled`
    settled: float = 0.0  # from here on `done` grows; the end of the start at first


class Fleet:
    """Nodes, their devices and the queue, as one list of events."""

    def __init__(self, case, draws):
        self.case, self.draws = case, draws
        self.now, self.events, self.order = 0.0, [], itertools.count()
        self.left = [case.part_seconds] * case.parts
        self.finished = 0
        self.queue = [(0.0, part) for part in range(case.parts)]  # that may start now: since when, which; a heap
        self.launches = [None] * case.devices
        self.free_at = [0.0] * case.devices  # a device that is away comes back then
        self.serial = [0] * case.devices  # of launches: an event of a former one counts for nothing
        self.slowness = [1.0] * case.nodes
        self.life = [0] * case.nodes  # since the last repair
        self.outcome = Outcome()

    # ---- events

    def at(self, seconds, call, *arguments):
        if seconds < math.inf:
            heapq.heappush(self.events, (seconds, next(self.order), call, arguments))

    def at_launch(self, seconds, device, call):
        """An event of the device's present launch."""
        serial = self.serial[device]
        self.at(seconds, lambda: call(device) if self.serial[device] == serial and self.launches[device] else None)

    def at_life(self, seconds, node, call):
        life = self.life[node]
        self.at(seconds, lambda: call(node) if self.life[node] == life else None)

    def run(self):
        for node in range(self.case.nodes):
            self.begin_life(node)
        self.assign()
        while self.finished < self.case.parts:
            self.now, _, call, arguments = heapq.heappop(self.events)
            call(*arguments)
            self.assign()
        self.outcome.seconds = self.now
        self.outcome.away -= sum(max(0.0, until - self.now) for until in self.free_at)
        return self.outcome

    # ---- devices

    def node_of(self, device):
        return device // self.case.devices_per_node

    def devices_of(self, node):
        return range(node * self.case.devices_per_node, (node + 1) * self.case.devices_per_node)

    def assign(self):
        """Gives parts that may start to devices that are free."""
        for device in range(self.case.devices):
            if not self.queue:
                return
            if self.launches[device] is None and self.free_at[device] <= self.now:
                self.launch(device, heapq.heappop(self.queue)[1])

    def launch(self, device, part):
        case = self.case
        self.serial[device] += 1
        launch = Launch(part, self.now, self.left[part], settled=self.now + case.start_seconds)
        self.launches[device] = launch
        self.outcome.launches += 1
        self.at_launch(self.now + case.limit_seconds if case.limit_seconds > 0 else math.inf, device, self.stop)
        self.at_launch(self.now + self.draws.until("preempt", case.preempt_every), device, self.preempt)
        self.foresee(device)

    def foresee(self, device):
        """When the launch is done at the node's present speed, or stopped for it."""
        launch, slowness = self.launches[device], self.slowness[self.node_of(device)]
        begin = max(self.now, launch.settled)
        self.at_launch(begin + (launch.left - launch.done) * slowness, device, self.look)
        if slowness > 1 and self.case.detects:
            self.at_life(begin + self.case.detect_seconds, self.node_of(device), self.drain)

    def settle(self, device):
        """What the launch has done by now."""
        launch = self.launches[device]
        if self.now > launch.settled:
            launch.done += (self.now - launch.settled) / self.slowness[self.node_of(device)]
            launch.settled = self.now

    def look(self, device):
        """The launch is done, unless the node has become slower since this was foreseen."""
        self.settle(device)
        launch = self.launches[device]
        if launch.done >= launch.left - 1e-6:
            self.end(device, launch.left)
            self.finished += 1

    def end(self, device, kept, requeue=False):
        launch = self.launches[device]
        self.outcome.starting += min(self.now - launch.began, self.case.start_seconds)
        self.outcome.busy += self.now - launch.began
        self.left[launch.part] = launch.left - kept
        self.launches[device] = None
        if requeue:
            ready = self.now + self.case.queue_seconds
            self.at(ready, heapq.heappush, self.queue, (0.0 if self.case.by_number else ready, launch.part))

    def stop(self, device):
        """Cleanly: every batch is kept."""
        self.settle(device)
        self.outcome.stops += 1
        self.end(device, self.launches[device].done, requeue=True)

    def preempt(self, device):
        self.stop(device)
        self.leave(device, self.now + self.case.away_seconds)

    def leave(self, device, until):
        """Also a device that is away already."""
        begin = max(self.now, self.free_at[device])
        if until > begin:
            self.outcome.away += until - begin
            self.free_at[device] = until
            self.at(until, lambda: None)

    # ---- nodes

    def begin_life(self, node):
        self.life[node] += 1
        self.slowness[node] = 1.0
        self.at_life(self.now + self.draws.until("crash", self.case.crash_every), node, self.crash)
        self.at_life(self.now + self.draws.until("slow", self.case.slow_every), node, self.slow_down)

    def take_away(self, node, seconds):
        self.life[node] += 1
        self.at_life(self.now + seconds, node, self.begin_life)  # before its devices are there again
        for device in self.devices_of(node):
            self.leave(device, self.now + seconds)

    def crash(self, node):
        for device in self.devices_of(node):
            if self.launches[device]:
                self.settle(device)
                kept = kept_at_crash(self.launches[device].done, self.case.step_seconds, self.case.checkpoint_every)
                self.outcome.lost += (self.launches[device].done - kept) * self.slowness[node]
                self.outcome.crashes += 1
                self.end(device, kept, requeue=True)
        self.take_away(node, self.case.repair_seconds)

    def slow_down(self, node):
        for device in self.devices_of(node):
            if self.launches[device]:
                self.settle(device)
        self.slowness[node] = self.draws.slowness(self.case)
        for device in self.devices_of(node):
            if self.launches[device]:
                self.foresee(device)

    def drain(self, node):
        for device in self.devices_of(node):
            if self.launches[device]:
                self.stop(device)
        self.take_away(node, self.case.drain_seconds)


def simulate(case, draws):
    return Fleet(case, draws).run()


# ---- tables

SCENARIOS = (
    ("nothing happens", {"crash_every": 0, "preempt_every": 0, "slow_every": 0}),
    ("crashes", {"preempt_every": 0, "slow_every": 0}),
    ("preemptions", {"crash_every": 0, "slow_every": 0}),
    ("slow nodes, detected", {"crash_every": 0, "preempt_every": 0}),
    ("slow nodes, unnoticed", {"crash_every": 0, "preempt_every": 0, "detects": False}),
    ("all, detected", {}),
    ("all, unnoticed", {"detects": False}),
)


def repeat(case, repetitions, seed):
    return [simulate(case, Draws(seed * 1_000_003 + number)) for number in range(repetitions)]


def mean(numbers):
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


def over_ideal(case, outcomes):
    return mean(outcome.seconds for outcome in outcomes) / case.ideal_seconds


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def scenario_rows(case, ratios, repetitions, seed):
    for name, changes in SCENARIOS:
        row = [name]
        for ratio in ratios:
            one = dataclasses.replace(case, parts_per_device=ratio, **changes)
            row.append(f"{over_ideal(one, repeat(one, repetitions, seed)):.3f}")
        yield row


def cost_rows(case, ratios, repetitions, seed):
    """All that can happen, detected: what the devices' time went into."""
    for ratio in ratios:
        one = dataclasses.replace(case, parts_per_device=ratio)
        outcomes = repeat(one, repetitions, seed)
        work = one.ideal_seconds * one.devices
        yield [f"{ratio:g}", f"{one.parts:,}", f"{one.part_seconds / HOUR:.1f} h", f"{over_ideal(one, outcomes):.3f}",
               f"{max(outcome.seconds for outcome in outcomes) / one.ideal_seconds:.3f}",
               f"{mean(outcome.launches for outcome in outcomes) - one.parts:.0f}",
               f"{100 * mean(outcome.away for outcome in outcomes) / work:.1f} %",
               f"{100 * mean(outcome.seconds * one.devices - outcome.busy - outcome.away for outcome in outcomes) / work:.1f} %",
               f"{100 * mean(outcome.starting for outcome in outcomes) / work:.2f} %",
               f"{100 * mean(outcome.lost for outcome in outcomes) / work:.4f} %"]


def checkpoint_rows(case, everies, repetitions, seed):
    for every in everies:
        one = dataclasses.replace(case, checkpoint_every=every)
        outcomes = repeat(one, repetitions, seed)
        work = one.ideal_seconds * one.devices
        yield [f"{every:,}", f"{math.ceil(work / one.batch_seconds / every):,}", f"{over_ideal(one, outcomes):.3f}",
               f"{100 * one.seal_seconds / every / one.batch_seconds:.2f} %",
               f"{100 * mean(outcome.lost for outcome in outcomes) / work:.4f} %"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in dataclasses.fields(Case):
        kind = {"type": field.type} if field.type is not bool else {"action": argparse.BooleanOptionalAction}
        parser.add_argument("--" + field.name.replace("_", "-"), default=field.default, help=f"default: {field.default:g}", **kind)
    parser.add_argument("--ratios", type=float, nargs="+", default=[1, 2, 4, 8, 16], help="parts a device (default: 1 2 4 8 16)")
    parser.add_argument("--everies", type=int, nargs="+", default=[10, 100, 1000, 10000], help="checkpoint_every (default: 10 100 1000 10000)")
    parser.add_argument("--repetitions", type=int, default=20, help="default: 20")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    arguments = parser.parse_args()
    case = Case(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Case)})
    again = (arguments.repetitions, arguments.seed)
    print(f"{case.nodes} nodes of {case.devices_per_node} devices, {case.ideal_seconds / HOUR:g} h of work for all of them\n")
    table(["time / ideal, with parts a device:", *(f"{ratio:g}" for ratio in arguments.ratios)], scenario_rows(case, arguments.ratios, *again))
    table(["parts a device", "parts", "each", "time / ideal", "the worst", "started again", "devices away", "idle", "starts take", "computed twice"],
          cost_rows(case, arguments.ratios, *again))
    table(["checkpoint_every", "shards", "time / ideal", "checkpoints take", "computed twice"], checkpoint_rows(case, arguments.everies, *again))


if __name__ == "__main__":
    main()
