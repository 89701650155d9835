"""The effect of losses on the bandwidth: the response alone, fed round by round."""

from __future__ import annotations

import pytest

from iperfpy.protocols.congestion.bbr.congestion_response import UNPROVEN_FACTOR, CongestionResponse
from iperfpy.protocols.congestion.bbr.loss_floor import LossFloor
from iperfpy.protocols.congestion.bbr.loss_tally import LossTally
from iperfpy.protocols.congestion.bbr.max_bandwidth import MaxBandwidth
from iperfpy.protocols.congestion.bbr.path_delay import PathDelay
from iperfpy.protocols.congestion.congestion_control import Ack, Flight

RTT_US, RATE, ROUND = 50_000, 1_000.0, 50
"""A path of 50 segments per round trip."""


class Feed:
    """A congestion response with its inputs: rounds of 50 transmissions, of which some are lost."""

    def __init__(self) -> None:
        self.delay, self.loss_floor, self.bandwidth = PathDelay(), LossFloor(), MaxBandwidth()
        self.response = CongestionResponse(self.delay, self.loss_floor, self.bandwidth)
        self.now_us = 0
        self.delivered = self.lost = self.runs = 0
        self.queue_us = 0
        self.bandwidth.sample(RATE, 0, RTT_US)
        for _ in range(10):
            self.delay.update(RTT_US, RTT_US, 5, 0)
        self.delay.end_round(0, self_queued=False)

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
            rtt_us = RTT_US + self.queue_us
            self.delay.update(rtt_us, rtt_us, sent // 10, self.now_us)
            self.bandwidth.sample(rate, self.now_us - RTT_US, self.now_us)
            self.response.on_ack(self._ack(), ROUND, 1)
        self.delay.end_round(self.now_us, self_queued=False)
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
            losses = self.response.cruise_excess(tally, self.now_us)
            if losses is not None:
                self.response.reduce_bandwidth(losses, self.now_us)

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


def test_a_bandwidth_falls_to_the_rate_delivered_or_to_the_rate_sent_without_the_excess(feed: Feed) -> None:
    """The greater of the two, since a lucky policer and a late ACK make either too small."""
    losses = LossTally(sent=400, lost=80)
    feed.round(lost=0, rate=900.0)
    feed.response.reduce_bandwidth(losses, feed.now_us)
    assert feed.bandwidth.value == pytest.approx(900.0, rel=0.02)
    feed.response.reduce_by_excess(losses, feed.now_us)
    assert feed.bandwidth.value == pytest.approx(720.0, rel=0.02)
    assert feed.response.rate_change_pending
    feed.loss_floor.estimate = 0.2
    feed.response.reduce_by_excess(losses, feed.now_us)
    assert feed.bandwidth.value == pytest.approx(720.0, rel=0.02)


def test_the_reductions_of_a_cruise_are_undone_together_until_the_next_probe(feed: Feed) -> None:
    for _ in range(2):
        feed.response.reduce_by_excess(LossTally(sent=400, lost=80), feed.now_us)
    assert feed.bandwidth.value == pytest.approx(640.0)
    feed.bandwidth.restore()
    assert feed.bandwidth.value == RATE
    feed.response.reduce_by_excess(LossTally(sent=400, lost=80), feed.now_us)
    feed.probe()
    feed.bandwidth.restore()
    assert feed.bandwidth.value == pytest.approx(800.0)


def test_a_probe_that_loses_behind_a_queue_lowers_nothing(feed: Feed) -> None:
    """The samples of UP are then real."""
    for queue_us, value in ((RTT_US, RATE), (0, 0.8 * RATE)):
        feed.queue_us = queue_us
        feed.round(lost=0, rate=10.0)
        feed.round(lost=0, rate=10.0)
        feed.response.reduce_after_probe(LossTally(sent=400, lost=80), feed.now_us)
        assert feed.bandwidth.value == pytest.approx(value)
        assert feed.response.policed == (value < RATE)


def test_losses_that_grow_after_a_reduction_lower_the_bandwidth_again(feed: Feed) -> None:
    """A token bucket was still half full when the losses began, so a larger share is lost at a lower rate."""
    feed.reduced()
    before = feed.bandwidth.value
    for _ in range(10):
        feed.cruise(rounds=1, lost=16, sent=40)
    assert feed.bandwidth.value < 0.85 * before


@pytest.mark.parametrize(("runs", "congestion"), [(1, False), (3, True), (5, True)])
def test_long_runs_are_no_bursts_if_single_segments_separate_them(
    feed: Feed, runs: int, congestion: bool
) -> None:
    """A policer that is sent ten times its rate lets every tenth segment pass."""
    for _ in range(3):
        feed.round(lost=45, runs=runs)
    assert (feed.response.recent_excess(feed.now_us, rounds=2) is not None) == congestion


def test_startup_ends_with_the_rate_of_the_segments_that_left_at_its_end(feed: Feed) -> None:
    """The bucket was still half full in the last round, and fills again while little is sent."""
    feed.round(lost=0, rate=8_000.0)
    for rate in (8_000.0, 800.0):
        feed.bandwidth.sample(rate, feed.now_us, feed.now_us + RTT_US)
    feed.response.reduce_after_startup(feed.now_us)
    first = feed.bandwidth.value
    assert 800.0 < first < 8_000.0
    for after_us, rate in ((-RTT_US, 5_000.0), (-RTT_US // 4, 900.0), (0, 850.0)):
        assert not feed.bandwidth.sample(rate, feed.now_us + after_us, feed.now_us + after_us + RTT_US)
    assert feed.bandwidth.value == first
    assert feed.bandwidth.sample(700.0, feed.now_us + 1, feed.now_us + RTT_US + 1)
    assert feed.bandwidth.value == 900.0
    # Segments that left before that are acknowledged together with saved tokens.
    feed.bandwidth.sample(2_000.0, feed.now_us + RTT_US, feed.now_us + 2 * RTT_US)
    assert feed.bandwidth.value == 900.0
    feed.bandwidth.sample(1_000.0, feed.now_us + 3 * RTT_US, feed.now_us + 4 * RTT_US)
    assert feed.bandwidth.value == 1_000.0


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
    feed.bandwidth.sample(proved * UNPROVEN_FACTOR * 1.1, feed.now_us + RTT_US, feed.now_us + 2 * RTT_US)
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
    bandwidth.sample(RATE, 0, RTT_US)
    bandwidth.reduce(500.0, 1_000)
    bandwidth.sample(900.0, 900, 1_050)
    assert bandwidth.value == 500.0
    bandwidth.sample(600.0, 1_100, 1_200)
    assert bandwidth.value == 600.0


def test_only_a_lower_rate_is_a_reduction() -> None:
    bandwidth = MaxBandwidth()
    assert not bandwidth.reduce(500.0, 0)
    bandwidth.sample(RATE, 0, RTT_US)
    assert not bandwidth.reduce(RATE, 1_000)
    assert not bandwidth.reduce(0.0, 1_000)
    bandwidth.restore()
    assert bandwidth.value == RATE
    bandwidth.sample(1_100.0, 900, 1_050)  # nothing was reduced
    assert bandwidth.value == 1_100.0
