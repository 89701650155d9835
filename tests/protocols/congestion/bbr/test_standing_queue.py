"""The rate that the path carries while a queue stands."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from iperfpy.protocols.congestion.bbr.path_delay import PathDelay
from iperfpy.protocols.congestion.bbr.standing_queue import (
    STANDING_ROUNDS,
    STANDING_US,
    STRETCHES,
    StandingQueue,
)
from iperfpy.protocols.congestion.congestion_control import Ack

LEVEL_MS = 100


def _rates(rounds: Iterable[tuple[float, int]], floor: float = 0.0, round_us: int = 100_000) -> list[float]:
    """Rates found in rounds of `round_us`, each with its mean round-trip time, ms, and its deliveries."""
    delay, standing, found = PathDelay(), StandingQueue(), []
    now_us = delivered = 0
    for rtt_ms, segments in ((LEVEL_MS, 100), *rounds):
        now_us += round_us
        delivered += segments
        for _ in range(20):
            delay.update(1e3 * rtt_ms, 1e3 * rtt_ms, 1, now_us)
        delay.end_round(now_us, self_queued=False)
        ack = Ack(now_us, 0, delivered, 0, 0, None, None, 0, 0.0, 0)
        rate = standing.end_round(ack, delay, floor)
        if rate is not None:
            found.append(rate)
    return found


def test_a_stretch_with_a_queue_gives_its_mean_rate() -> None:
    rounds = max(STANDING_ROUNDS, STANDING_US // 100_000)
    assert _rates([(130, 0), *[(130, 90), (130, 110)] * rounds][: rounds + 1]) == [
        pytest.approx(1_000.0, rel=0.03)
    ]


def test_segments_that_the_path_loses_anyway_are_carried() -> None:
    assert _rates([(130, 75)] * 6, floor=0.25) == [pytest.approx(1_000.0)]


@pytest.mark.parametrize(("round_us", "rounds"), [(10_000, 51), (200_000, 5)])
def test_a_stretch_is_four_rounds_and_half_a_second_long(round_us: int, rounds: int) -> None:
    assert _rates([(130, 100)] * (rounds - 1), round_us=round_us) == []
    assert len(_rates([(130, 100)] * rounds, round_us=round_us)) == 1


def test_a_round_without_a_queue_ends_the_stretch() -> None:
    assert _rates([*[(130, 100)] * 5, (105, 100)] * 5) == []


def test_a_queue_of_a_small_share_may_stay() -> None:
    assert _rates([(110, 100)] * 50) == []


def test_the_greatest_rate_of_the_last_stretches_counts() -> None:
    """On a path with a rate that varies all the time, the least would leave most of it unused."""
    one = [(130, 100)] * 5
    fast = [(130, 300)] * 5
    found = _rates([(130, 100), *fast, *one * (STRETCHES + 1)])
    assert found == [pytest.approx(3_000.0)] * STRETCHES + [pytest.approx(1_000.0)] * 2
