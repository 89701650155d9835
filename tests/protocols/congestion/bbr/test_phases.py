"""BBR's phases: every phase crossed with every event, by the tables that the controller uses."""

from __future__ import annotations

from itertools import product

import pytest

from iperfpy.protocols.congestion.bbr import Bbr
from iperfpy.protocols.congestion.bbr.phases import PHASES, TRANSITIONS, OfferedLoad, Phase, PhaseEvent


def test_every_phase_has_gains_an_entry_and_an_exit() -> None:
    assert set(PHASES) == set(Phase)
    assert {phase for phase, _ in TRANSITIONS} == set(Phase)
    assert set(TRANSITIONS.values()) == set(Phase)
    assert {event for _, event in TRANSITIONS} == set(PhaseEvent)


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, PhaseEvent)))
def test_an_event_moves_along_the_table_or_changes_nothing(phase: Phase, event: PhaseEvent) -> None:
    bbr = Bbr()
    bbr.phase = phase
    before = bbr.state()
    bbr._happen(event, 1_000_000)
    expected = TRANSITIONS.get((phase, event))
    assert bbr.phase is (expected or phase)
    if expected is None:
        assert bbr.state() == before
    assert bbr.window >= 4
    assert bbr.pacing_rate > 0
    assert bbr.burst >= 1


def test_a_phase_above_capacity_is_followed_by_one_below() -> None:
    """A phase that may exceed the path's capacity is followed by one below it, which drains the queue."""
    for (phase, _), target in TRANSITIONS.items():
        if (
            PHASES[phase].offered_load in (OfferedLoad.ABOVE_CAPACITY, OfferedLoad.UNKNOWN)
            and target is not phase
        ):
            assert PHASES[target].offered_load is OfferedLoad.BELOW_CAPACITY


def test_a_phase_below_capacity_cannot_build_a_queue() -> None:
    for gains in PHASES.values():
        if gains.offered_load is OfferedLoad.BELOW_CAPACITY:
            assert gains.pacing_gain <= 1.0
            assert gains.pacing_gain < 1.0 or gains.window_gain < 1.0
        if gains.offered_load is OfferedLoad.AT_CAPACITY:
            assert gains.pacing_gain == 1.0
