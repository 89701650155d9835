"""Per-round estimators: packet-timed rounds, the plateau of the bandwidth, ACK aggregation."""

from __future__ import annotations

from iperfpy.protocols.congestion.bbr.ack_aggregation import MAX_AGGREGATION_US, AckAggregation
from iperfpy.protocols.congestion.bbr.full_pipe import FullPipe
from iperfpy.protocols.congestion.bbr.loss_tally import LossTotals
from iperfpy.protocols.congestion.bbr.rounds import Rounds, RoundSamples
from iperfpy.protocols.congestion.congestion_control import Ack, Flight


def _ack(
    now_us: int = 0, acked: int = 0, delivered: int = 0, lost: int = 0, sent_at: int | None = None
) -> Ack:
    """An ACK; `sent_at` is the number of segments delivered when the acknowledged one was sent."""
    flight = None if sent_at is None else Flight(0, 0, sent_at, 0, 0, 0, app_limited=False)
    return Ack(now_us, acked, delivered, lost, 0, None, flight, 0, 0.0, lost)


def test_a_round_ends_with_a_segment_sent_after_its_beginning() -> None:
    rounds = Rounds()
    started = []
    for delivered, sent_at in ((10, 0), (15, 0), (20, 9), (25, 10), (30, 15), (40, 25)):
        rounds.update(_ack(delivered=delivered, sent_at=sent_at))
        started.append(rounds.started)
    assert started == [True, False, False, True, False, True]
    assert rounds.count == 3
    rounds.update(_ack(delivered=50))
    assert not rounds.started


def test_the_window_counts_as_used_up_in_the_next_round_too() -> None:
    samples = RoundSamples()
    samples.window_full = True
    samples.send_rate = samples.inflight_latest = samples.best_delivery_rate = 5.0
    samples.end_round()
    assert samples.window_limited
    assert (samples.send_rate, samples.inflight_latest, samples.best_delivery_rate) == (0.0, 0.0, 5.0)
    samples.end_round()
    assert not samples.window_limited


def test_three_rounds_without_growth_mean_a_full_pipe() -> None:
    pipe, delivered = FullPipe(), 0
    for rate, flat_rounds in ((100.0, 0), (125.0, 0), (150.0, 1), (150.0, 2), (190.0, 0), (200.0, 1)):
        delivered += 50
        pipe.end_round(rate, delivered)
        assert pipe.flat_rounds == flat_rounds
        assert not pipe.now
    for _ in range(2):
        delivered += 50
        pipe.end_round(200.0, delivered)
    assert pipe.now
    assert pipe.reached
    pipe.reset(200.0)
    assert not pipe.now
    assert pipe.reached


def test_rounds_of_a_few_segments_are_pooled_before_they_count_as_flat() -> None:
    pipe = FullPipe()
    for number in range(1, 7):
        pipe.end_round(100.0, 10 * number)
    assert pipe.flat_rounds == 2  # of three pools, the first one sets the baseline


def test_a_stall_does_not_count_as_aggregation() -> None:
    """Half a second's ACKs in one burst count for ten milliseconds and a round trip of them."""
    aggregation, rate, rtt_us = AckAggregation(), 1_000.0, 20_000
    aggregation.update(_ack(0, 1), rate, 1e6, 0, rtt_us)
    aggregation.update(_ack(1_000, 500), rate, 1e6, 1, rtt_us)
    assert aggregation.extra_acked == rate * (MAX_AGGREGATION_US + rtt_us) / 1e6


def test_skipped_losses_are_not_counted() -> None:
    totals = LossTotals()
    tally = totals.advance(_ack(now_us=100_000, delivered=90, lost=10))
    assert (tally.sent, tally.lost, tally.runs) == (100, 10, 10)
    totals.skip(_ack(now_us=900_000, delivered=100, lost=60))
    tally = totals.advance(_ack(now_us=1_000_000, delivered=190, lost=60))
    assert (tally.sent, tally.lost, tally.runs) == (90, 0, 0)
