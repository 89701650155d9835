"""The steps of a diagnosis that depend on what it measured."""

from __future__ import annotations

import pytest

from iperfpy.diagnosis import ladder
from iperfpy.experiments import check_schedule as schedule
from iperfpy.experiments.path_check import PathCheck
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction
from tests.iperfpy.experiments.test_measured_path import CAPACITY, rung


@pytest.mark.parametrize(("further", "noted"), [((), []), ((2e6,), ["up: UDP at 2.00 Mbit/s (no time)"])])
def test_no_further_rung_is_missed_where_the_highest_one_decides(
    monkeypatch: pytest.MonkeyPatch, further: tuple[float, ...], noted: list[str]
) -> None:
    """Also if the rest takes longer than there is time for."""
    monkeypatch.setattr(ladder, "further", lambda rungs: further)
    check = PathCheck(ClientOptions("192.0.2.1"), schedule.QUICK)
    check._path.outcomes = [rung(0.5, 500, 500), rung(1.25, 1250, 1250)]
    last = check._path.outcomes[-1].step
    later = [schedule.rung_step(schedule.QUICK, Direction.REVERSE, 0.9, 1_000.0)]
    assert check._missing(last, {Direction.FORWARD: CAPACITY}, later, 0.1) == []
    assert check._not_checked == noted
