"""The loss floor: its epochs, its limits, the rounds of STARTUP, and the scatter of losses."""

from __future__ import annotations

import pytest

from iperfpy.protocols.congestion.bbr.loss_floor import WINDOW_US, LossFloor
from iperfpy.protocols.congestion.bbr.loss_scatter import LossScatter
from iperfpy.protocols.congestion.bbr.loss_tally import LossTally
from iperfpy.protocols.congestion.bbr.phases import OfferedLoad

SECOND = 1_000_000
BELOW, AT = OfferedLoad.BELOW_CAPACITY, OfferedLoad.AT_CAPACITY


def _send(floor: LossFloor, load: OfferedLoad, now_us: int, sent: int, lost: int) -> None:
    """Begin a phase of this load, and resolve transmissions of it without a queue."""
    floor.epochs.change_load(load, now_us)
    floor.epochs.on_delivered(now_us, sent - lost, queued=False)
    floor.epochs.on_lost(now_us, lost)


def _alternating(loss: float, cycles: int, cycle_us: int) -> tuple[LossFloor, int]:
    """Floor of a path with this loss rate after phases below and at capacity, of 100 segments each."""
    floor, now_us = LossFloor(), 0
    for _ in range(cycles):
        for load in (BELOW, AT):
            now_us += cycle_us // 2
            _send(floor, load, now_us, 100, round(100 * loss))
    return floor, now_us


def test_the_floor_is_measured_however_short_the_phases_are() -> None:
    for cycle_us in (2_000_000, 2_000):
        floor, now_us = _alternating(0.3, 50, cycle_us)
        assert floor.update(now_us + SECOND, drain_seen=True) == pytest.approx(0.3, abs=0.02)


def test_losses_at_capacity_only_do_not_raise_the_floor() -> None:
    floor, now_us = LossFloor(), 0
    for _ in range(20):
        for load, lost in ((BELOW, 0), (AT, 20)):
            now_us += SECOND
            _send(floor, load, now_us, 100, lost)
    assert floor.update(now_us + SECOND, drain_seen=True) < 0.02


def test_a_reset_forgets_losses_counted_behind_a_queue() -> None:
    floor, now_us = _alternating(0.3, 50, SECOND)
    assert floor.update(now_us + SECOND, drain_seen=True) > 0.25
    floor.reset(now_us + SECOND)
    assert floor.update(now_us + 2 * SECOND, drain_seen=True) == 0.0
    assert not floor.known


# -- limits


def test_losses_of_the_time_before_a_reset_count_for_nothing() -> None:
    """They are found up to a round trip later. PROBE_RTT's load is low, and they were sent at a high one."""
    floor = LossFloor()
    floor.epochs.change_load(BELOW, SECOND)
    floor.reset(2 * SECOND)
    floor.epochs.on_lost(2 * SECOND - 1, 500)
    floor.epochs.on_delivered(2 * SECOND + 1, 500, queued=False)
    assert floor.update(3 * SECOND, True) == 0.0
    assert floor.known


def test_the_floor_is_at_most_a_tenth_if_no_queue_was_seen_to_drain() -> None:
    floor, now_us = _alternating(0.3, 50, SECOND)
    assert floor.update(now_us + SECOND, drain_seen=False) == 0.1
    assert floor.update(now_us + 2 * SECOND, drain_seen=True) > 0.25


@pytest.mark.parametrize(("cycles", "limit"), [(1, 0.3), (50, 0.4)])
def test_the_limit_is_higher_in_startup_and_with_more_support(cycles: int, limit: float) -> None:
    """Otherwise STARTUP would hardly grow on a path of heavy loss before it has reached the queue."""
    floor, now_us = _alternating(0.5, cycles, SECOND)
    floor.epochs.change_load(OfferedLoad.UNKNOWN, now_us + SECOND)
    assert floor.update(now_us + SECOND, drain_seen=False) == limit
    floor.epochs.change_load(BELOW, now_us + 2 * SECOND)
    assert floor.update(now_us + 2 * SECOND, drain_seen=False) == 0.1


def test_the_limit_is_higher_for_a_sender_limited_by_its_application_or_window() -> None:
    """Such a sender builds no queue, so it never sees one drain."""
    floor, now_us = _alternating(0.3, 50, SECOND)
    floor.note_limited(now_us)
    assert floor.update(now_us + WINDOW_US - SECOND, drain_seen=False) > 0.25
    assert floor.update(now_us + WINDOW_US + SECOND, drain_seen=False) == 0.1


def test_losses_as_frequent_when_less_is_sent_replace_the_evidence_and_the_limit() -> None:
    """PROBE_RTT has shown that the path loses by itself, so no queue must be seen to drain."""
    floor, now_us = _alternating(0.01, 20, SECOND)
    floor.update(now_us + SECOND, drain_seen=False)
    floor.restart(LossTally(sent=400, lost=80), now_us + SECOND)
    assert floor.estimate == pytest.approx(0.2, abs=0.03)
    assert floor.update(now_us + 2 * SECOND, drain_seen=False) == pytest.approx(0.2, abs=0.03)
    assert not floor.excessive(80, 400)
    # The losses of half a minute ago count no more.
    now_us += 2 * WINDOW_US
    for load in (BELOW, AT) * 20:
        now_us += SECOND // 2
        _send(floor, load, now_us, 100, 0)
    assert floor.update(now_us, drain_seen=False) < 0.02


# -- epochs


@pytest.mark.parametrize("load", [BELOW, AT])
def test_transmissions_that_met_a_queue_are_not_counted(load: OfferedLoad) -> None:
    """A lost segment met a queue if the segments delivered of that time did, even if the queue is gone when
    the loss is detected."""
    floor, now_us = _alternating(0.0, 20, SECOND)
    floor.epochs.change_load(load, now_us + SECOND)
    floor.epochs.on_delivered(now_us + SECOND, 500, queued=True)
    floor.epochs.on_delivered(now_us + SECOND + 1_000, 1, queued=False)
    floor.epochs.on_lost(now_us + SECOND + 500, 500)
    assert floor.update(now_us + SECOND, drain_seen=True) == 0.0
    floor.epochs.on_lost(now_us + SECOND + 1_500, 500)
    assert floor.update(now_us + 2 * SECOND, drain_seen=True) == 0.0
    assert floor.known


def test_segments_of_one_transmission_count_in_whichever_ack_they_come() -> None:
    """The second ACK of a transmission names no newer one."""
    floor = LossFloor()
    floor.epochs.change_load(BELOW, 0)
    for stamp_us in range(1_000, 101_000, 1_000):
        floor.epochs.on_delivered(stamp_us, 4, queued=False)
        floor.epochs.on_delivered(None, 4, queued=False)
        floor.epochs.on_lost(stamp_us, 2)
    assert floor.update(SECOND, drain_seen=True) == pytest.approx(0.2, abs=0.02)


def test_a_loss_found_spurious_is_taken_back() -> None:
    floor = LossFloor()
    _send(floor, BELOW, 0, 200, 100)
    floor.epochs.on_lost(0, -100)
    floor.epochs.on_delivered(0, 100, queued=False)
    assert floor.update(SECOND, drain_seen=True) == 0.0


def test_epochs_of_a_path_of_microseconds_take_little_memory() -> None:
    floor, now_us = LossFloor(), 0
    for _ in range(20_000):
        for load in (BELOW, AT, OfferedLoad.ABOVE_CAPACITY):
            now_us += 500
            floor.epochs.change_load(load, now_us)
        floor.update(now_us, drain_seen=True)
    assert 3 <= len(floor.epochs) <= 4 * 25


# -- rounds of STARTUP


def test_a_round_of_startup_counts_once_the_path_delivers_faster() -> None:
    floor = LossFloor()
    floor.startup.add_round(100.0, sent=10, lost=9)  # too short to count alone
    floor.note_delivery_rate(1_000.0, SECOND)
    assert floor.update(SECOND, drain_seen=True) == 0.0
    floor.startup.add_round(200.0, sent=30, lost=3)
    floor.note_delivery_rate(150.0, 2 * SECOND)
    assert floor.update(2 * SECOND, drain_seen=True) == 0.0
    floor.note_delivery_rate(250.0, 3 * SECOND)
    assert floor.update(3 * SECOND, drain_seen=True) == pytest.approx(0.3, abs=0.1)


# -- chance


def test_few_transmissions_below_capacity_leave_a_possible_error() -> None:
    """Five of 240 were lost; by chance, so few may be lost on a path with a loss rate of 3.5 %."""
    floor = LossFloor()
    _send(floor, BELOW, 0, 240, 5)
    floor.update(SECOND, drain_seen=True)
    assert floor.estimate < 0.02
    assert not floor.excessive(35, 1_000, tolerance=0.005)
    assert floor.excessive(45, 1_000, tolerance=0.005)


def test_bursts_scatter_and_a_single_change_of_the_loss_rate_does_not() -> None:
    bursty, changed = LossScatter(), LossScatter()
    for at in range(110):
        bursty.add(30 if at % 6 == 0 else 0, 100)
        changed.add(0 if at < 100 else 8 + at % 3, 100)
    assert bursty.factor > 8
    assert changed.factor < 2
