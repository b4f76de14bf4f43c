# SPDX-License-Identifier: MIT
"""tools/simulate_parts.py: its arithmetic, on cases that are counted by hand, and what its tables hold together."""
import dataclasses
import math
import subprocess
import sys

import pytest

from support import SOURCE

sys.path.insert(0, str(SOURCE / "tools"))
import simulate_parts as sim  # noqa: E402

# One device, one part of 200 batches of a second.
ONE = sim.Case(nodes=1, devices_per_node=1, parts_per_device=1, ideal_seconds=200, batch_seconds=1, checkpoint_every=10, seal_seconds=0,
               start_seconds=5, queue_seconds=120, repair_seconds=1000, away_seconds=30, limit_seconds=0, detect_seconds=10, drain_seconds=100)


class Listed:
    """What chance would decide, in the order in which it is asked; never again once a list is over."""

    def __init__(self, slowness=2.0, **times):
        self.times, self.factor = {kind: list(values) for kind, values in times.items()}, slowness

    def until(self, kind, every):
        del every
        return self.times[kind].pop(0) if self.times.get(kind) else math.inf

    def slowness(self, case):
        del case
        return self.factor


def run(draws=None, **changes):
    return sim.simulate(dataclasses.replace(ONE, **changes), draws or Listed())


@pytest.mark.parametrize("computed, kept", [(0, 0), (9.9, 0), (10, 10), (95, 90), (100 - 1e-12, 100), (100.5, 100)])
def test_what_a_crash_leaves(computed, kept):
    assert sim.kept_at_crash(computed, 1, 10) == kept


def test_nothing_happens():
    outcome = run()
    assert dataclasses.astuple(outcome) == (205, 1, 0, 0, 0, 5, 205, 0)


@pytest.mark.parametrize("devices, ratio, rounds", [(4, 1, 1), (4, 1.5, 2), (4, 2, 2), (3, 16, 16)])
def test_parts_in_rounds(devices, ratio, rounds):
    outcome = run(devices_per_node=devices, parts_per_device=ratio)
    parts = math.ceil(devices * ratio)
    assert outcome.launches == parts
    assert outcome.seconds == pytest.approx(rounds * (5 + 200 * devices / parts))
    assert outcome.busy == pytest.approx(parts * 5 + 200 * devices)


def test_checkpoints_take_time():
    outcome = run(seal_seconds=2, checkpoint_every=20)
    assert outcome.seconds == pytest.approx(5 + 200 + 200 / 20 * 2)


def test_a_crash():
    """At 100 s, after 95 batches: 5 of them are lost, the node is away for 1,000 s, 110 batches are left."""
    outcome = run(Listed(crash=[100]))
    assert outcome.seconds == 1100 + 5 + 110
    assert (outcome.launches, outcome.crashes, outcome.stops, outcome.lost, outcome.starting) == (2, 1, 0, 5, 10)
    assert run(Listed(crash=[3])).seconds == 1003 + 205  # during the start
    assert run(Listed(crash=[100]), nodes=2, ideal_seconds=100).seconds == 220 + 5 + 10  # goes on at the other node, after the queue


def test_a_crash_takes_all_parts_of_the_node():
    outcome = run(Listed(crash=[100]), devices_per_node=3)
    assert (outcome.crashes, outcome.lost, outcome.seconds) == (3, 15, 1215)


def test_a_preemption():
    """At 50 s, after 45 batches, all kept; the queue lasts longer than the device is away."""
    outcome = run(Listed(preempt=[50]))
    assert outcome.seconds == 50 + 120 + 5 + 155
    assert (outcome.launches, outcome.stops, outcome.lost) == (2, 1, 0)
    assert run(Listed(preempt=[50]), away_seconds=500).seconds == 550 + 5 + 155


def test_devices_that_are_away():
    """For 30 s; for 500 s, of which a crash at 100 s has the node away until 1,100 s; and until the end alone."""
    assert run(Listed(preempt=[50])).away == 30
    assert run(Listed(preempt=[50], crash=[100]), away_seconds=500).away == 1050
    outcome = run(Listed(crash=[100]), nodes=2, ideal_seconds=100)
    assert (outcome.seconds, outcome.away) == (235, 135)


@pytest.mark.parametrize("by_number", [False, True])
def test_the_order_of_the_queue(by_number):
    """Part 0 stops at 50 s, part 1 ends at 285 s; then comes part 2, which has waited longer, or the rest of part 0."""
    fleet = sim.Fleet(dataclasses.replace(ONE, parts_per_device=3, ideal_seconds=600, by_number=by_number), Listed(preempt=[50]))
    outcome = fleet.run()
    assert outcome.seconds == 80 + 205 + 205 + 160  # either way
    started = []
    fleet = sim.Fleet(fleet.case, Listed(preempt=[50]))
    fleet.launch, launch = lambda device, part: (started.append((fleet.now, part)), launch(device, part)), fleet.launch
    fleet.run()
    assert started == [(0, 0), (80, 1), *([(285, 0), (445, 2)] if by_number else [(285, 2), (490, 0)])]


def test_a_limit():
    """55 batches a launch: 55, 55, 55, 35."""
    outcome = run(limit_seconds=60, queue_seconds=10)
    assert (outcome.seconds, outcome.launches, outcome.stops, outcome.lost) == (210 + 5 + 35, 4, 3, 0)


def test_a_slow_node():
    """From 55 s on, after 50 batches, at half the speed. Detected 10 s later, 5 batches further on."""
    assert run(Listed(slow=[55]), detects=False).seconds == 55 + 150 * 2
    outcome = run(Listed(slow=[55]))
    assert (outcome.seconds, outcome.launches, outcome.lost) == (65 + 120 + 5 + 145, 2, 0)
    assert run(Listed(slow=[55]), drain_seconds=300).seconds == 365 + 5 + 145


def test_a_launch_on_a_node_that_is_slow_already():
    assert run(Listed(slow=[1], slowness=3), detects=False).seconds == 5 + 200 * 3
    outcome = run(Listed(slow=[1], slowness=4))  # 10 s of it: 2.5 batches
    assert outcome.seconds == 15 + 120 + 5 + 197.5


def test_a_crash_of_a_slow_node():
    """45 batches until 50 s, 25 until 100 s: the 20 that are lost took 40 s."""
    outcome = run(Listed(slow=[50], crash=[100]), detects=False, checkpoint_every=50)
    assert (outcome.lost, outcome.seconds) == (40, 1100 + 5 + 150)


def test_times_add_up():
    """Whatever happens: devices are at work for the starts, for the work, and for what is lost."""
    for seed in range(20):
        case = dataclasses.replace(sim.Case(), nodes=4, ideal_seconds=6 * sim.HOUR, crash_every=3 * sim.HOUR, preempt_every=3 * sim.HOUR,
                                   limit_seconds=2 * sim.HOUR, slow_every=0)
        outcome = sim.simulate(case, sim.Draws(seed))
        assert outcome.busy == pytest.approx(outcome.starting + outcome.lost + case.parts * case.part_seconds)
        assert outcome.launches == case.parts + outcome.crashes + outcome.stops
        assert outcome.seconds * case.devices >= outcome.busy + outcome.away and outcome.away > 0 and outcome.crashes > 0 and outcome.stops > 0
        assert 0 < outcome.lost <= outcome.crashes * case.checkpoint_every * case.step_seconds


def test_seeds():
    case = sim.Case(nodes=4)
    assert sim.simulate(case, sim.Draws(7)) == sim.simulate(case, sim.Draws(7)) != sim.simulate(case, sim.Draws(8))
    draws = sim.Draws(1)
    assert sim.mean(draws.until("crash", 50) for _ in range(20000)) == pytest.approx(50, rel=0.05)
    assert draws.until("crash", 0) == math.inf


def test_tables():
    done = subprocess.run([sys.executable, SOURCE / "tools" / "simulate_parts.py", "--nodes", "2", "--repetitions", "2", "--ratios", "1", "4",
                           "--everies", "10", "--preempt-every", "0", "--no-detects"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "2 nodes of 8 devices, 24 h of work for all of them"
    assert [line.split(" | ")[0] for line in lines[2:11]] == ["| time / ideal, with parts a device:", "|---|---|---|",
                                                              *(f"| {name}" for name, _ in sim.SCENARIOS)]
