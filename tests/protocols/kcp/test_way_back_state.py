"""Knowledge of the way back, from acknowledgements in ranges: losses, queue, and the interval to ask for."""

from __future__ import annotations

import pytest

from iperfpy.protocols.kcp.ack_ranges import INTERVALS_US, RangeAck
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator
from iperfpy.protocols.kcp.way_back import MOST_THINNING, REPAIRS, WayBack

RTT_US, WAY_US = 40_000, 20_000
CLOCKS_US = 3_000_000_000
"""The peer's clock is ahead by this, and wraps soon."""


def _rtt() -> RttEstimator:
    rtt = RttEstimator()
    rtt.update(RTT_US)
    return rtt


def _take(way: WayBack, serial: int, left_us: int, queue_us: int = 0) -> bool:
    ack = RangeAck(0, 0, (left_us + CLOCKS_US) & 0xFFFF_FFFF, 0, serial & 0xFFFF, [], [])
    return way.take(ack, left_us + WAY_US + queue_us, _rtt())


def test_ranges_matter_only_after_a_loss() -> None:
    way = WayBack()
    told = [_take(way, serial, 1_000 * serial) for serial in (0, 1, 2, 4, *range(5, 30))]
    assert told == [False, False, False, *[True] * REPAIRS, *[False] * (26 - REPAIRS)]
    assert way.lost == 1


def test_one_that_is_late_was_not_lost() -> None:
    way = WayBack()
    for at, serial in enumerate((65_533, 65_535, 65_534, 0, 1)):
        _take(way, serial, 1_000 * at)
    assert way.lost == 0


def test_losses_before_the_first_one_count() -> None:
    assert _take(WayBack(), 3, 0)
    assert not _take(WayBack(), 0, 0)


def test_the_queue_is_that_above_the_shortest_time_whatever_the_clocks() -> None:
    way = WayBack()
    queues = []
    for serial in range(2_000):
        wait_us = 7_000 if serial % 10 == 5 else 0
        _take(way, serial, 1_000_000 * serial, wait_us)  # the 32 bits wrap about once an hour
        queues.append(way.queue_us)
    assert queues[:10] == [0, 0, 0, 0, 0, 7_000, 0, 0, 0, 0]
    assert max(queues) == 7_000


@pytest.mark.parametrize(("queue_us", "thins"), [(0, False), (1_500, False), (12_000, True)])
def test_a_standing_queue_makes_acknowledgements_rarer(queue_us: int, thins: bool) -> None:
    way, now_us = WayBack(), 0
    for serial in range(400):
        now_us += 5_000
        _take(way, serial, now_us, queue_us if serial > 20 else 0)
    assert (way.thinning == MOST_THINNING) if thins else (way.thinning == 1.0)
    asked_us = INTERVALS_US[way.interval_code(RTT_US)]
    assert asked_us == pytest.approx(RTT_US / 8 * way.thinning, rel=0.1)
    for serial in range(400, 1_500):
        now_us += 5_000
        _take(way, serial, now_us)
    assert way.thinning == 1.0


def test_a_queue_that_comes_and_goes_within_a_round_is_none() -> None:
    way = WayBack()
    for serial in range(1_000):
        _take(way, serial, 5_000 * serial, 12_000 if serial % 4 else 0)
    assert way.thinning == 1.0


def test_nothing_is_asked_before_there_is_a_round_trip_time() -> None:
    assert WayBack().interval_code(0) == 0
