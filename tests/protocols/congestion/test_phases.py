"""BBR's phases: every phase crossed with every event, by the tables that the controller runs on."""

from __future__ import annotations

from itertools import product

import pytest

from iperfpy.protocols.congestion.bbr import Bbr
from iperfpy.protocols.congestion.bbr.phases import PHASES, TRANSITIONS, Drive, Event, Phase


def test_every_phase_has_a_row_a_way_in_and_a_way_out() -> None:
    assert set(PHASES) == set(Phase)
    assert {phase for phase, _ in TRANSITIONS} == set(Phase)
    assert set(TRANSITIONS.values()) == set(Phase)
    assert {event for _, event in TRANSITIONS} == set(Event)


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_an_event_moves_along_the_table_or_changes_nothing(phase: Phase, event: Event) -> None:
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


def test_probing_alternates_with_draining() -> None:
    """What drives the path above its capacity is followed by what drives it below."""
    for (phase, _), target in TRANSITIONS.items():
        if PHASES[phase].load in (Drive.ABOVE, Drive.SEARCHING) and target is not phase:
            assert PHASES[target].load is Drive.BELOW


def test_a_phase_below_capacity_cannot_build_a_queue() -> None:
    for row in PHASES.values():
        if row.load is Drive.BELOW:
            assert row.pacing_gain <= 1.0
            assert row.pacing_gain < 1.0 or row.window_gain < 1.0
        if row.load is Drive.AT:
            assert row.pacing_gain == 1.0
