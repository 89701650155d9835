"""BBR moves only along its table of phases, and every entry of the table is used on some path.

The table is `phases.TRANSITIONS`, which test_phases.py crosses with every event. The simulated paths have low
rates, at which half a minute is cheap. Every assignment of the phase is recorded, by whatever method, and
every event that caused one.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest

from iperfpy.protocols.congestion.bbr import Bbr
from iperfpy.protocols.congestion.bbr.phases import TRANSITIONS, Phase, PhaseEvent
from iperfpy.protocols.kcp.engine_factory import with_bbr
from iperfpy.protocols.kcp.settings import KcpBbrSettings
from iperfpy.protocols.simulator import Bulk, Change, Paced, Path, Simulation, bdp_bytes

pytestmark = pytest.mark.slow

Move = tuple[Phase, Phase]
Step = tuple[Phase, PhaseEvent]
WALKS = (1, 2, 3, 7, 8, 9, 14, 22, 31, 36, 49, 81)
"""Seeds, of short simulations. Every entry of the table is used by one of them, and most by several."""


class Watched(Bbr):
    """BBR that records its moves and the events that caused them."""

    def __init__(self, seed: int) -> None:
        self.moves: set[Move] = set()
        self.steps: set[Step] = set()
        super().__init__(seed)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "phase" and "phase" in self.__dict__ and value is not self.phase:
            self.moves.add((self.phase, value))
        super().__setattr__(name, value)

    def _happen(self, event: PhaseEvent, now_us: int) -> None:
        before = self.phase
        super()._happen(event, now_us)
        if self.phase is not before:
            self.steps.add((before, event))


def _changing(seed: int) -> Watched:
    """A path that changes, with an application that may be slow."""
    rng = random.Random(seed)
    rate, rtt_us = rng.choice((5e5, 1e6, 3e6)), rng.choice((20_000, 80_000, 200_000))
    # six changes of delay and rate, at random times
    changes = tuple(
        Change(
            round(at * 1e6),
            {
                "delay_us": rtt_us / 2 * rng.choice((1, 2, 5)),
                "rate_bits_per_s": rate * rng.choice((0.5, 1, 4)),
            },
        )
        for at in sorted(rng.uniform(0.2, 50) for _ in range(6))
    )
    buffer = max(12_000, bdp_bytes(rate, rtt_us, rng.choice((0.2, 1, 5))))
    path = Path(rate, buffer, rtt_us / 2, loss=rng.choice((0.0, 0.0, 0.01, 0.1)), changes=changes)
    return _walk(path, seed, rate / 10 if rng.random() < 0.25 else None)


def _walk(path: Path, seed: int, application_bits_per_s: float | None = None) -> Watched:
    """Send for half a minute at most; the application writes as fast as it can if no rate is given."""
    control = Watched(seed)
    sender, receiver = (with_bbr(seed, KcpBbrSettings()) for _ in range(2))
    sender.steer(control)
    simulation = Simulation(seed)
    there, back = simulation.link(path), simulation.link(Path(delay_us=path.delay_us))
    rate = application_bits_per_s
    application = Bulk(sender) if rate is None else Paced(sender, rate)
    simulation.flow(sender, receiver, there, back, application)
    simulation.run(30_000_000)
    return control


LONG_PATHS = ((5e5, 800_000, 5), (5e5, 1_500_000, 1))
"""Rate, RTT, buffer in BDP: STARTUP takes so long that the minimum RTT is stale when it ends."""


@cache
def _walks() -> tuple[frozenset[Move], frozenset[Step]]:
    moves: set[Move] = set()
    steps: set[Step] = set()
    walks = [_changing(seed) for seed in WALKS]
    for rate, rtt_us, bdp in LONG_PATHS:
        walks.append(_walk(Path(rate, bdp_bytes(rate, rtt_us, bdp), rtt_us / 2), seed=1))
    for control in walks:
        moves |= control.moves
        steps |= control.steps
    return frozenset(moves), frozenset(steps)


def test_no_path_leaves_the_table() -> None:
    moves, steps = _walks()
    assert moves <= {(phase, to) for (phase, _), to in TRANSITIONS.items()}
    assert steps <= set(TRANSITIONS)
    assert moves == {(phase, TRANSITIONS[phase, event]) for phase, event in steps}


def test_every_entry_of_the_table_is_used() -> None:
    missing = set(TRANSITIONS) - _walks()[1]
    assert not missing, f"never used: {missing}"
