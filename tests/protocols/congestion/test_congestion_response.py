"""The effect of losses on the bandwidth, and its undoing: the response alone, fed round by round."""

from __future__ import annotations

import pytest

from iperfpy.protocols.congestion.bbr.congestion_response import UNPROVEN_FACTOR, CongestionResponse
from iperfpy.protocols.congestion.bbr.loss_floor import LossFloor
from iperfpy.protocols.congestion.bbr.loss_tally import LossTally
from iperfpy.protocols.congestion.bbr.max_bandwidth import MaxBandwidth, Reduction
from iperfpy.protocols.congestion.bbr.min_rtt import MinRtt
from iperfpy.protocols.congestion.bbr.phases import OfferedLoad
from iperfpy.protocols.congestion.congestion_control import Ack, Flight

RTT_US, RATE, ROUND = 50_000, 1_000.0, 50
"""A path of 50 segments per round trip."""


class Feed:
    """A congestion response with its inputs: rounds of 50 transmissions, of which some are lost."""

    def __init__(self) -> None:
        self.min_rtt, self.loss_floor, self.bandwidth = MinRtt(), LossFloor(), MaxBandwidth()
        self.response = CongestionResponse(self.min_rtt, self.loss_floor, self.bandwidth)
        self.now_us = 0
        self.delivered = self.lost = self.runs = 0
        self.queue_us = 0
        self.bandwidth.sample(RATE, 0)
        self.min_rtt.update(RTT_US, 0)

    def round(
        self, lost: int, rate: float = RATE, acks: int = 10, sent: int = ROUND, runs: int | None = None
    ) -> LossTally:
        """One round trip in ten ACKs, the first `acks` of which resolve the losses, with samples of `rate`.

        The losses come in `runs` runs; None: each is a run of its own.
        """
        self.runs += lost if runs is None else runs
        for at in range(10):
            # The share of the losses that this ACK resolves, in whole segments.
            self.now_us += RTT_US // 10
            gone = lost * (at + 1) // acks - lost * at // acks if at < acks else 0
            self.lost += gone
            self.delivered += sent // 10 - gone
            self.min_rtt.update(RTT_US + self.queue_us, self.now_us)
            self.bandwidth.sample(rate, self.now_us - RTT_US)
            self.response.on_ack(self._ack(), ROUND, 1)
        self.min_rtt.end_round(self_queued=False)
        tally = self.response.end_round(self._ack())
        self.bandwidth.end_round()
        return tally

    def _ack(self) -> Ack:
        flight = Flight(self.now_us - RTT_US, 0, 0, 0, 0, 0, app_limited=False)
        lost, runs = self.lost, self.runs
        return Ack(self.now_us, 0, self.delivered, lost, 0, RTT_US, flight, RTT_US, RATE, runs)

    def cruise(self, rounds: int, lost: int, sent: int = ROUND, runs: int | None = None) -> None:
        for _ in range(rounds):
            tally = self.round(lost, 0.9 * self.bandwidth.value, sent=sent, runs=runs)
            self.response.on_cruise_round(tally, self.now_us)

    def reduced(self) -> None:
        """Three rounds that lose a fifth, and the reduction after them."""
        for _ in range(3):
            self.round(lost=10, rate=800.0)
        recent = self.response.recent_excess(self.now_us, rounds=2)
        assert recent is not None
        assert recent.loss_rate == pytest.approx(0.2, abs=0.05)
        self.response.reduce_bandwidth(recent, self.now_us)

    def probe(self) -> None:
        """Begin the next probe."""
        self.response.start_phase()
        self.response.start_probe()


@pytest.fixture
def feed() -> Feed:
    return Feed()


def test_excess_losses_of_two_round_trips_lower_the_bandwidth(feed: Feed) -> None:
    feed.reduced()
    assert feed.bandwidth.value == pytest.approx(800.0, rel=0.05)


def test_a_single_burst_is_no_excess(feed: Feed) -> None:
    for lost in (0, 0, 10, 0):
        feed.round(lost, acks=2)
    assert feed.response.recent_excess(feed.now_us, rounds=2) is None


@pytest.mark.parametrize(("runs", "queue_us", "excess"), [(40, 0, True), (2, 0, False), (2, 30_000, True)])
def test_a_round_trip_lost_in_two_bursts_is_an_excess_only_with_a_queue(
    feed: Feed, runs: int, queue_us: int, excess: bool
) -> None:
    """Bursts as long as the round trip are not left out with its worst quarter.

    The same losses one by one, or with a queue, mean a path that carries a fifth of the bandwidth.
    """
    feed.queue_us = queue_us
    feed.cruise(rounds=2, lost=0)
    feed.round(lost=40, runs=runs)
    assert (feed.response.recent_excess(feed.now_us, rounds=1) is not None) is excess
    assert (feed.response.probe_excess(feed.now_us)[1] is not None) is excess


@pytest.mark.parametrize(("runs", "lowered"), [(40, True), (2, False)])
def test_bursts_do_not_lower_the_bandwidth_in_a_whole_cruise_either(
    feed: Feed, runs: int, lowered: bool
) -> None:
    feed.cruise(rounds=3, lost=0)
    feed.cruise(rounds=1, lost=40, runs=runs)
    feed.cruise(rounds=3, lost=0)
    assert (feed.bandwidth.value < RATE) is lowered


def test_nothing_is_evaluated_until_segments_sent_at_the_old_rate_are_resolved(feed: Feed) -> None:
    feed.response.change_rate(feed.now_us)
    feed.round(lost=10)
    assert feed.response.rate_change_pending
    assert feed.response.recent_excess(feed.now_us, rounds=2) is None
    assert feed.response.probe_excess(feed.now_us) == (False, None)
    for _ in range(3):
        feed.round(lost=10)
    assert not feed.response.rate_change_pending
    assert feed.response.recent_excess(feed.now_us, rounds=2) is not None


def test_a_small_excess_of_a_whole_cruise_is_taken_off_the_bandwidth(feed: Feed) -> None:
    for _ in range(60):
        feed.cruise(rounds=1, lost=1)
        if feed.bandwidth.value < RATE:
            break
    assert RATE * 0.95 < feed.bandwidth.value < RATE * 0.99


def test_a_reduction_is_undone_if_the_loss_rate_does_not_fall(feed: Feed) -> None:
    """Less was sent, as large a share lost, and there was no queue: the next probe restores the estimate."""
    feed.reduced()
    feed.cruise(rounds=6, lost=8, sent=40)
    feed.probe()
    assert feed.bandwidth.value == RATE


def test_a_reduction_is_kept_if_no_less_was_sent(feed: Feed) -> None:
    """Something else limited the sender, so it is not known if the reduction would have helped."""
    feed.reduced()
    feed.cruise(rounds=6, lost=10)
    feed.probe()
    assert feed.bandwidth.value < 0.85 * RATE


def test_a_reduction_is_kept_if_the_losses_end(feed: Feed) -> None:
    feed.reduced()
    feed.cruise(rounds=10, lost=0, sent=40)
    feed.probe()
    assert feed.bandwidth.value == pytest.approx(800.0, rel=0.05)


def test_losses_of_an_earlier_up_do_not_confirm_a_later_reduction(feed: Feed) -> None:
    """An UP lost four of ten, and lowering the bandwidth helped. A reduction in the CRUISE after it that does
    not help is undone all the same."""
    feed.bandwidth.reduce(800.0, feed.now_us, Reduction(LossTally(sent=400, lost=160), 0.02, RATE))
    assert feed.bandwidth.last_reduction is not None
    feed.bandwidth.last_reduction.losses.elapsed_us = 320_000  # at 1,250 per second
    feed.cruise(rounds=1, lost=0, sent=40)
    for _ in range(30):
        feed.cruise(rounds=1, lost=2, sent=40)
        if feed.bandwidth.value < 800.0:
            break
    assert feed.bandwidth.last_reduction.before == 800.0
    feed.cruise(rounds=12, lost=2, sent=30)
    feed.probe()
    assert feed.bandwidth.value == 800.0


def test_losses_that_grow_after_a_reduction_lower_the_bandwidth_again(feed: Feed) -> None:
    """A token bucket was still half full when the losses began, so a larger share is lost at a lower rate."""
    feed.reduced()
    before = feed.bandwidth.value
    for _ in range(10):
        feed.cruise(rounds=1, lost=16, sent=40)
    assert feed.bandwidth.value < 0.8 * before


@pytest.mark.parametrize(("drain_seen", "kept"), [(True, True), (False, False)])
def test_a_fifth_lost_is_the_paths_own_only_where_a_queue_was_seen_to_drain(
    feed: Feed, drain_seen: bool, kept: bool
) -> None:
    """Sending less did not help. Unless a queue was seen to drain, other flows may have taken the capacity
    that this one left, and the bandwidth is lowered again."""
    feed.loss_floor.epochs.change_load(OfferedLoad.AT_CAPACITY, feed.now_us)
    feed.min_rtt.queue.seen = drain_seen
    feed.reduced()
    before = feed.bandwidth.value
    for _ in range(10):
        feed.cruise(rounds=1, lost=8, sent=40)
    assert (feed.bandwidth.value == before) is kept


def test_a_reduction_behind_a_queue_is_final(feed: Feed) -> None:
    feed.queue_us = RTT_US
    feed.reduced()
    assert feed.bandwidth.last_reduction is None
    feed.cruise(rounds=6, lost=8, sent=40)
    feed.probe()
    assert feed.bandwidth.value < RATE * 0.85


def test_a_loss_floor_that_explains_the_losses_undoes_the_reduction(feed: Feed) -> None:
    feed.bandwidth.reduce(700.0, feed.now_us, Reduction(LossTally(sent=400, lost=120), 0.02, RATE))
    feed.response.undo_explained()
    assert feed.bandwidth.value == 700.0
    for load in (OfferedLoad.BELOW_CAPACITY, OfferedLoad.AT_CAPACITY) * 10:
        feed.now_us += 1_000_000
        feed.loss_floor.epochs.change_load(load, feed.now_us)
        feed.loss_floor.epochs.on_delivered(feed.now_us, 700, queued=False)
        feed.loss_floor.epochs.on_lost(feed.now_us, 300)
    feed.loss_floor.update(feed.now_us, drain_seen=True)
    feed.response.undo_explained()
    assert feed.bandwidth.value == RATE


def test_up_goes_little_beyond_a_policers_rate_until_a_cruise_has_proved_more(feed: Feed) -> None:
    feed.round(lost=0, rate=1_500.0)
    for _ in range(3):
        feed.round(lost=20, rate=900.0)
    evaluated, recent = feed.response.probe_excess(feed.now_us)
    assert evaluated
    assert recent is not None
    feed.response.reduce_after_probe(recent, feed.now_us)
    proved = feed.bandwidth.value
    assert proved < 1_500.0
    assert not feed.response.beyond_proven_rate
    feed.bandwidth.sample(proved * UNPROVEN_FACTOR * 1.1, feed.now_us + RTT_US)
    assert feed.response.beyond_proven_rate
    feed.probe()  # after a CRUISE without losses
    assert not feed.response.beyond_proven_rate


def test_a_flow_behind_a_standing_queue_is_not_policed(feed: Feed) -> None:
    """Otherwise it would wait twice as long between two probes, longer than PROBE_RTT allows."""
    for _ in range(3):
        feed.round(lost=20, rate=900.0)
    _, recent = feed.response.probe_excess(feed.now_us)
    assert recent is not None
    feed.response.reduce_after_probe(recent, feed.now_us)
    assert feed.response.policed
    feed.queue_us = RTT_US
    feed.round(lost=0)
    assert not feed.response.policed


def test_samples_sent_before_a_reduction_do_not_raise_the_estimate() -> None:
    bandwidth = MaxBandwidth()
    bandwidth.sample(RATE, 0)
    bandwidth.reduce(500.0, 1_000)
    bandwidth.sample(900.0, 900)
    assert bandwidth.value == 500.0
    bandwidth.sample(600.0, 1_100)
    assert bandwidth.value == 600.0
