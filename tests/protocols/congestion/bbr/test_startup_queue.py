"""The queue of STARTUP: the pace that is held at its first sign, and the proof that it is the flow's own."""

from __future__ import annotations

import pytest

from iperfpy.protocols.congestion.bbr.path_delay import PathDelay
from iperfpy.protocols.congestion.bbr.startup_queue import ROOM_GROWTH, StartupQueue
from iperfpy.protocols.congestion.congestion_control import Ack, Flight
from iperfpy.protocols.simulator.path import Lumps, Path
from tests.studies.paths.cases import link
from tests.studies.paths.watched import SECOND, single

LEVEL_MS, SIGN_MS = 40.0, 2_100


def _delay(*samples_ms: float) -> PathDelay:
    """A level from a round of such round-trip times."""
    delay = PathDelay()
    for sample_ms in samples_ms or [LEVEL_MS] * 40:
        delay.update(sample_ms * 1e3, sample_ms * 1e3, 1, SECOND)
    delay.end_round(SECOND, self_queued=True)
    return delay


def _ack(rtt_ms: float, now_ms: float, delivered: int = 1_000, lost: int = 0) -> Ack:
    """An ACK of a segment that left one round-trip time before."""
    now_us, rtt_us = int(1e3 * now_ms), int(1e3 * rtt_ms)
    flight = Flight(now_us - rtt_us, 0, 0, 0, 0, 10, app_limited=False)
    return Ack(now_us, 1, delivered, lost, 10, rtt_us, flight, 1_000, 1.0, 0, 1, rtt_us, float(rtt_us), 1)


def _grown(delay: PathDelay, rtt_ms: float = LEVEL_MS) -> StartupQueue:
    """The queue after the bandwidth has grown twofold at such round-trip times."""
    queue = StartupQueue()
    for bandwidth in (500.0, 1_000.0):
        assert not queue.update(_ack(rtt_ms, 2_000), delay, bandwidth)
    return queue


def _hold(*rtts_ms: float, lost: int = 0) -> tuple[StartupQueue, bool]:
    """The queue and its answer, after a sign at `SIGN_MS` and segments that leave every millisecond after it.

    The round-trip times are spread evenly over the hold."""
    delay, full = _delay(), False
    queue = _grown(delay)
    assert not queue.update(_ack(50, SIGN_MS), delay, 1_000.0)
    assert queue.holding
    for left_ms in range(1, 50):
        rtt_ms = rtts_ms[min(left_ms * len(rtts_ms) // 42, len(rtts_ms) - 1)]
        one = _ack(rtt_ms, SIGN_MS + left_ms + rtt_ms, 1_000 + 10 * left_ms, lost * left_ms)
        full = full or queue.update(one, delay, 1_100.0)
    return queue, full


def test_a_queue_that_stays_while_the_pace_is_held_is_the_flow_s_own() -> None:
    queue, full = _hold(70, 70)
    assert full
    assert queue.holding


@pytest.mark.parametrize(
    ("rtts_ms", "lost"), [((60.0, 70.0), 0), ((70.0, 70.0), 1)], ids=["delay rises", "segments are lost"]
)
def test_a_queue_that_goes_on_growing_belongs_to_others(rtts_ms: tuple[float, ...], lost: int) -> None:
    queue, full = _hold(*rtts_ms, lost=lost)
    assert not full
    assert not queue.holding
    assert not queue.update(_ack(80, 2_500), _delay(), 1_100.0)
    assert not queue.holding  # nor is any later one


def test_a_path_that_brings_twice_the_bandwidth_is_not_full() -> None:
    delay = _delay()
    queue = _grown(delay)
    queue.update(_ack(50, SIGN_MS), delay, 1_000.0)
    assert not queue.update(_ack(50, SIGN_MS + 20), delay, 1_000.0 * ROOM_GROWTH)
    assert not queue.holding


def test_a_queue_that_is_gone_once_the_pace_is_held_is_the_flow_s_own() -> None:
    _, full = _hold(40)
    assert full


def test_a_limited_sender_does_not_hold() -> None:
    delay = _delay()
    queue = _grown(delay)
    one = _ack(50, SIGN_MS)
    assert one.flight is not None
    one.flight.app_limited = True
    queue.update(one, delay, 1_000.0)
    assert not queue.holding


def test_a_short_round_trip_takes_the_sign_back() -> None:
    delay = _delay()
    queue = _grown(delay)
    queue.update(_ack(50, SIGN_MS), delay, 1_000.0)
    queue.update(_ack(40, SIGN_MS + 20), delay, 1_000.0)
    assert not queue.holding
    assert not queue.tries(_ack(40, SIGN_MS + 59))  # it left while the pace was held
    assert queue.tries(_ack(40, SIGN_MS + 61))


def test_a_flow_that_never_grew_without_a_queue_does_not_hold() -> None:
    delay = _delay()
    queue = StartupQueue()
    queue.update(_ack(50, SIGN_MS), delay, 1_000.0)
    assert not queue.holding
    delay.least_us = 20e3  # the level holds a queue of others
    queue = _grown(delay)
    queue.update(_ack(50, SIGN_MS), delay, 1_000.0)
    assert not queue.holding


def test_the_own_variation_of_the_path_is_no_sign() -> None:
    delay = _delay(*[30.0, 50.0] * 20)
    queue = _grown(delay)
    queue.update(_ack(58, SIGN_MS), delay, 1_000.0)
    assert not queue.holding


def test_before_the_level_is_measured_there_is_no_sign() -> None:
    delay = PathDelay()
    delay.update(LEVEL_MS * 1e3, LEVEL_MS * 1e3, 1, SECOND)
    queue = _grown(delay)
    queue.update(_ack(80, SIGN_MS), delay, 1_000.0)
    assert not queue.holding


# -- in simulated time


def _first_second(forward: Path, backward: Path) -> tuple[float, float]:
    """Share of the segments of the first second that found the queue full, and the segments that arrived, as
    a share of what the path carries in that time."""
    watched = single(forward, backward, 1, 1.0)
    truth = watched.flow.forward.truth
    carried = (forward.rate_bits_per_s or 0.0) / 8 / 1_428
    return truth.overflowed / truth.sent, truth.delivered / carried


@pytest.mark.parametrize(
    ("rate", "rtt_ms", "buffer_bdp", "most"),
    [(20e6, 60.0, 1.0, 0.05), (70e6, 50.0, 1.0, 0.05), (8e6, 100.0, 0.1, 0.2)],
)
def test_a_start_hardly_overflows_the_queue(
    rate: float, rtt_ms: float, buffer_bdp: float, most: float
) -> None:
    lost, delivered = _first_second(*link(rate, rtt_ms, buffer_bdp))
    assert lost <= most
    assert delivered >= 0.6


def test_lumps_of_acks_do_not_end_a_start() -> None:
    forward, backward = link(20e6, 30.0, 2.0)
    _, delivered = _first_second(forward, backward.with_(lumps=Lumps(20e3, 20e3)))
    assert delivered >= 0.7
