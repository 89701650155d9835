"""The queue of STARTUP: the pace that holds at its first sign, and the answer a round trip later."""

from __future__ import annotations

import pytest

from iperfpy.protocols.congestion.bbr.path_delay import PathDelay
from iperfpy.protocols.congestion.bbr.startup_queue import StartupQueue
from iperfpy.protocols.congestion.congestion_control import Ack, Flight
from iperfpy.protocols.simulator.path import Lumps, Path
from tests.studies.paths.cases import link
from tests.studies.paths.watched import SECOND, single

LEVEL_MS = 40.0


def _delay(*samples_ms: float) -> PathDelay:
    """A level from a round of such round-trip times."""
    delay = PathDelay()
    for sample_ms in samples_ms or [LEVEL_MS] * 20:
        delay.update(sample_ms * 1e3, sample_ms * 1e3, 1, SECOND)
    delay.end_round(SECOND, self_queued=True)
    return delay


def _ack(rtt_ms: float, now_ms: float, delivered: int) -> Ack:
    """An ACK of a segment that left one round-trip time before."""
    now_us, rtt_us = int(1e3 * now_ms), int(1e3 * rtt_ms)
    flight = Flight(now_us - rtt_us, 0, 0, 0, 0, 10, app_limited=False)
    return Ack(now_us, 1, delivered, 0, 10, rtt_us, flight, 1_000, 1.0, 0, 1, rtt_us, float(rtt_us), 1)


def _answer(queue: StartupQueue, delay: PathDelay, growth: float) -> bool:
    """Round trips of 50 ms from 2,000 ms on, and then an ACK of a segment that left after the first of them.
    The bandwidth grows by that factor meanwhile."""
    assert not queue.update(_ack(50, 2_000, 100), delay, 1_000.0)
    assert queue.rising
    assert not queue.update(_ack(50, 2_049, 200), delay, 1_000.0 * growth)
    assert queue.rising
    return queue.update(_ack(50, 2_051, 210), delay, 1_000.0 * growth)


def test_a_longer_round_trip_without_growth_means_a_full_path() -> None:
    assert _answer(StartupQueue(), _delay(), 1.2)


def test_with_growth_the_longer_round_trip_is_the_base_from_then_on() -> None:
    queue, delay = StartupQueue(), _delay()
    delay.smoothed_us = 50_000
    assert not _answer(queue, delay, 1.3)
    assert not queue.rising
    queue.update(_ack(52, 2_060, 300), delay, 1_300.0)
    assert not queue.rising
    queue.update(_ack(60, 2_070, 300), delay, 1_300.0)
    assert queue.rising


def test_a_short_round_trip_takes_the_sign_back() -> None:
    queue, delay = StartupQueue(), _delay()
    queue.update(_ack(50, 2_000, 100), delay, 1_000.0)
    assert not queue.update(_ack(40, 2_045, 200), delay, 1_000.0)
    assert not queue.rising
    assert not queue.update(_ack(50, 2_046, 201), delay, 1_000.0)
    assert not queue.update(_ack(45, 2_090, 300), delay, 1_000.0)  # it left before the second sign


def test_a_few_deliveries_are_no_answer() -> None:
    queue, delay = StartupQueue(), _delay()
    queue.update(_ack(50, 2_000, 100), delay, 1_000.0)
    assert not queue.update(_ack(50, 2_060, 119), delay, 1_000.0)
    assert queue.update(_ack(50, 2_070, 120), delay, 1_000.0)


def test_the_own_variation_of_the_path_is_no_sign() -> None:
    queue = StartupQueue()
    queue.update(_ack(58, 2_000, 100), _delay(*[30.0, 50.0] * 20), 1_000.0)
    assert not queue.rising


def test_before_the_level_is_measured_there_is_no_sign() -> None:
    queue, delay = StartupQueue(), PathDelay()
    delay.update(LEVEL_MS * 1e3, LEVEL_MS * 1e3, 1, SECOND)
    assert not queue.update(_ack(80, 2_000, 100), delay, 1_000.0)
    assert not queue.rising


# -- in simulated time


def _first_second(forward: Path, backward: Path) -> tuple[float, float]:
    """Share of the segments of the first second that found the queue full, and the segments that arrived, as
    a share of what the path carries in that time."""
    watched = single(forward, backward, 1, 1.0)
    truth = watched.flow.forward.truth
    carried = (forward.rate_bits_per_s or 0.0) / 8 / 1_428
    return truth.overflowed / truth.sent, truth.delivered / carried


@pytest.mark.parametrize(("rate", "rtt_ms"), [(20e6, 60.0), (70e6, 50.0)])
def test_a_start_loses_at_most_a_twentieth_in_a_buffer_of_one_bdp(rate: float, rtt_ms: float) -> None:
    lost, delivered = _first_second(*link(rate, rtt_ms, 1.0))
    assert lost <= 0.05
    assert delivered >= 0.7


def test_lumps_of_acks_do_not_end_a_start() -> None:
    forward, backward = link(20e6, 30.0, 2.0)
    _, delivered = _first_second(forward, backward.with_(lumps=Lumps(20e3, 20e3)))
    assert delivered >= 0.7
