"""PROBE_RTT: round trips that settle or fall, the rate of a saturated path, and the losses it examines."""

from __future__ import annotations

import pytest

from iperfpy.protocols.congestion.bbr.loss_tally import RELIABLE_SAMPLE, LossTally
from iperfpy.protocols.congestion.bbr.path_delay import PathDelay
from iperfpy.protocols.congestion.bbr.probe_rtt import MAX_MEANS, MAX_ROUNDS, PROBE_RTT_DURATION_US, ProbeRtt
from iperfpy.protocols.congestion.congestion_control import Ack, Flight, Loss

LEVEL_US, ROUND_US = 60_000, 60_000
SEGMENTS, ACKS = 40, 10
"""Sent per round, and the ACKs that bring them back."""


class Probe:
    """A PROBE_RTT on a path with a level of 60 ms, fed round by round."""

    def __init__(self, before_ms: float = 60, suspects: LossTally | None = None, *, by_clock: bool = False):
        self.delay, self.probe = PathDelay(), ProbeRtt()
        for _ in range(20):
            self.delay.update(LEVEL_US, LEVEL_US, 1, 0)
        self.delay.end_round(0, self_queued=False)
        self.now_us = 1_000_000
        if suspects is not None:
            self.probe.suspect(suspects, 8)
        self.probe.enter(self.now_us, before_ms * 1e3, 1_000.0, by_clock=by_clock)

    def round(
        self,
        rtt_ms: float,
        sent: int = SEGMENTS,
        delivered: int = SEGMENTS,
        floor: float = 0.0,
        *,
        full: bool = False,
        of_before: bool = False,
    ) -> float:
        """One round; return the rate that the probe found the path to carry."""
        rate = 0.0
        self.probe.on_sent(sent, window_full=full)
        for at in range(ACKS):
            self.now_us += ROUND_US // ACKS
            left_us = 0 if of_before else self.now_us
            flight = Flight(left_us, 0, 0, 0, 0, 0, app_limited=False)
            ack = Ack(self.now_us, delivered // ACKS, 0, 0, 0, None, flight, 0, 0.0, 0)
            ack.rtt_mean_us, ack.rtt_samples = rtt_ms * 1e3, delivered // ACKS
            rate = self.probe.on_ack(ack, self.delay, floor, round_started=at == ACKS - 1)
        return rate


def _loss(segments: int, heads: int = 0, tails: int = 0) -> Loss:
    loss = Loss(0, segments, 0, 0, None)
    loss.heads, loss.tails = heads, tails
    return loss


def test_the_first_round_answers_nothing() -> None:
    """Its segments left before PROBE_RTT."""
    one = Probe()
    one.round(60)
    assert not one.probe.over
    one.round(60)
    assert one.probe.over
    assert one.probe.settled
    assert one.probe.measured.mean_us == 60_000


def test_round_trips_that_fall_are_waited_for() -> None:
    one = Probe(before_ms=200)
    for rtt_ms in (200, 150, 110, 80):
        one.round(rtt_ms)
        assert not one.probe.over
    one.round(61)
    assert one.probe.over
    assert one.probe.settled
    assert one.probe.measured.mean_us == 61_000


@pytest.mark.parametrize(("settled_ms", "path"), [(190, True), (135, True), (120, False)])
def test_the_paths_own_is_at_least_half_of_the_increase_that_remains(
    settled_ms: float, *, path: bool
) -> None:
    one = Probe(before_ms=200)
    for _ in range(4):
        one.round(settled_ms)
    assert one.probe.settled == path
    assert one.probe.over == path


def test_round_trips_that_settle_high_are_seen_at_a_quarter_of_the_bandwidth_too() -> None:
    """The rate may have fallen to just half of it, and then the queue stays as it is."""
    one = Probe(before_ms=200)
    assert one.probe.pacing_gain == 0.5
    for _ in range(2):
        one.round(200)
    assert one.probe.pacing_gain == 0.25
    assert not one.probe.over
    one.round(110)
    assert not one.probe.settled
    one.round(61)
    assert one.probe.settled
    assert one.probe.measured.mean_us == 61_000
    one.probe.enter(one.now_us, 60_000, 1_000.0, by_clock=False)
    assert one.probe.pacing_gain == 0.5


def test_a_queue_of_other_flows_ends_it_without_an_answer() -> None:
    one, rounds = Probe(before_ms=200), 0
    while not one.probe.over:
        one.round(100)
        rounds += 1
    assert rounds == MAX_MEANS + 1
    assert not one.probe.settled


def test_it_lasts_200_ms_if_it_was_due_by_the_clock() -> None:
    one = Probe(by_clock=True)
    began_us = one.now_us
    while not one.probe.over:
        one.round(60)
    assert one.now_us == began_us + PROBE_RTT_DURATION_US + ROUND_US - PROBE_RTT_DURATION_US % ROUND_US


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_a_path_that_carries_less_than_half_the_bandwidth_tells_its_rate(floor: float) -> None:
    """The stretch begins again at half of that rate. Segments that the path loses anyway are carried, too."""
    one, delivered = Probe(before_ms=200), int(40 * (1 - floor))
    one.round(210)
    assert one.round(210, sent=80, delivered=delivered, floor=floor) == pytest.approx(40e6 / ROUND_US)
    assert not one.probe.over
    one.round(210, sent=20, delivered=20)
    assert not one.probe.over  # the first round of the new stretch
    one.round(61, sent=20, delivered=20)
    assert one.probe.over
    assert one.probe.settled


def test_a_full_window_hides_a_path_that_carries_less() -> None:
    """It lets leave as much as arrives."""
    one = Probe(before_ms=200)
    one.round(210, full=True)
    assert one.round(210, full=True) == pytest.approx(SEGMENTS * 1e6 / ROUND_US)
    assert not one.probe.over


@pytest.mark.parametrize("rtt_ms", [60, 150])
def test_a_path_whose_round_trips_settle_or_fall_is_not_saturated(rtt_ms: float) -> None:
    """Lumps of ACKs move a part of a round into the next."""
    one = Probe(before_ms=200)
    one.round(200)
    assert one.round(rtt_ms, delivered=20) == 0.0


def test_losses_are_examined_until_there_are_enough_transmissions() -> None:
    one = Probe(suspects=LossTally(sent=400, lost=80))
    one.probe.on_lost(one.now_us - 1, _loss(5))  # left before
    one.round(60, of_before=True)
    assert (one.probe.losses.sent, one.probe.losses.lost) == (0, 0)
    rounds = 0
    while not one.probe.over:
        one.probe.on_lost(one.now_us + 1, _loss(10))
        one.round(60)
        rounds += 1
    assert rounds == -(-RELIABLE_SAMPLE // (SEGMENTS + 10))
    assert one.probe.losses.loss_rate == pytest.approx(0.2)
    assert one.probe.suspected_burst == 8


@pytest.mark.parametrize(
    ("heads", "tails", "overflow"),
    [(0, 0, False), (0, 9, False), (0, 10, True), (30, 54, False), (30, 60, True)],
)
def test_bursts_that_lose_their_end_show_a_full_queue(heads: int, tails: int, overflow: bool) -> None:
    """Those of segments that left before do not count."""
    one = Probe(suspects=LossTally(sent=400, lost=80))
    one.probe.on_lost(one.now_us - 1, _loss(200, tails=200))
    assert not one.probe.overflow
    one.probe.on_lost(one.now_us + 1, _loss(100, heads, tails))
    assert one.probe.overflow is overflow
    one.probe.enter(one.now_us, 60_000, 1_000.0, by_clock=True)
    assert not one.probe.overflow


@pytest.mark.parametrize(("before", "expected"), [(0.1, 0.02), (0.6, 0.2), (0.9, 0.8)])
def test_a_great_overload_still_loses_at_half_the_rate(before: float, expected: float) -> None:
    """A path that is sent ten times its rate is sent five times its rate then: that is not its own loss."""
    one = Probe(suspects=LossTally(1_000, round(1_000 * before)))
    assert one.probe.expected_loss(0.02) == pytest.approx(expected)


def test_losses_are_suspected_for_one_stretch() -> None:
    one = Probe(suspects=LossTally(sent=400, lost=80), by_clock=True)
    assert one.probe.suspects is not None
    one.probe.enter(one.now_us, 60_000, 1_000.0, by_clock=True)
    assert one.probe.suspects is None


def test_a_path_that_other_flows_overload_does_not_keep_the_flow_in_it() -> None:
    """Every round loses half of its segments, so each mean begins the stretch again."""
    one = Probe(before_ms=200)
    for _ in range(MAX_ROUNDS - 1):
        one.round(200, sent=40, delivered=20)
        assert not one.probe.over
    one.round(200, sent=40, delivered=20)
    assert one.probe.over
    assert not one.probe.settled
