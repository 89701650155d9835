"""The rate of a load beside messages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iperfpy.experiments.message_probe import load_rates
from iperfpy.plan import Direction
from iperfpy.records import Row
from iperfpy.store.stored_run import Run
from tests.iperfpy.experiments.test_run_figures import row, run_of, started


def load(direction: Direction) -> Run:
    """Three seconds in which the receiver got half of the datagrams that were sent."""

    def second(at: int) -> Row:
        one = row({"bytes": 2_000 * (at + 1)}, {"bytes": 1_000 * (at + 1)}, at, at + 1.0)
        assert one.peer is not None
        if direction is Direction.REVERSE:
            one = Row(1, one.peer, one.local)
        return replace(one, direction=direction)

    return run_of(started("udp"), second(0), *(second(at) for at in range(3)))


@pytest.mark.parametrize(("direction", "name"), [(Direction.FORWARD, "up"), (Direction.REVERSE, "down")])
def test_a_load_carries_the_payload_that_arrived_since_its_start_up(direction: Direction, name: str) -> None:
    assert load_rates(load(direction), 1.0) == {name: pytest.approx(8 * 2_500)}


def test_a_load_without_an_interval_beside_the_messages_has_no_rate() -> None:
    assert load_rates(load(Direction.FORWARD), 3.0) == {}
    assert load_rates(Run(), 0.0) == {}
