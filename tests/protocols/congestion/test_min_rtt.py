"""The minimum round-trip time: confirmation by an empty queue, PROBE_RTT and its result, contested queues."""

from __future__ import annotations

from math import inf

import pytest

from iperfpy.protocols.congestion.bbr.ack_aggregation import AckAggregation
from iperfpy.protocols.congestion.bbr.control_parameters import MINIMUM_WINDOW, ControlParameters
from iperfpy.protocols.congestion.bbr.inflight_bound import InflightBound
from iperfpy.protocols.congestion.bbr.loss_floor import LossFloor
from iperfpy.protocols.congestion.bbr.max_bandwidth import MaxBandwidth
from iperfpy.protocols.congestion.bbr.min_rtt import MIN_RTT_FILTER_US, PROBE_RTT_INTERVAL_US, MinRtt
from iperfpy.protocols.congestion.bbr.probe_rtt import PROBE_RTT_DURATION_US, ProbeRtt
from iperfpy.protocols.congestion.bbr.queue_evidence import QueueDrain, QueueSign

SECOND = 1_000_000


def _after_rounds(*samples_ms: float) -> tuple[MinRtt, int]:
    """Estimator after one round of 100 ms per value, all samples of a round being equal; and the time."""
    min_rtt, now_us = MinRtt(), 0
    for sample_ms in samples_ms:
        now_us += 100_000
        _round(min_rtt, now_us, *[sample_ms] * 20)
    return min_rtt, now_us


def _round(min_rtt: MinRtt, now_us: int, *samples_ms: float, self_queued: bool = False) -> None:
    for sample_ms in samples_ms:
        min_rtt.update(int(sample_ms * 1e3), now_us)
    min_rtt.end_round(self_queued)


# -- confirmation of the minimum


def test_nothing_is_stale_before_the_first_sample() -> None:
    """The first ACK may bring no sample, and clocks do not start at zero."""
    assert not MinRtt().stale(3_600 * SECOND)


def test_a_queue_that_drains_confirms_the_minimum() -> None:
    min_rtt, now_us = _after_rounds(*[60, 70] * 60, 60)
    assert min_rtt.queue.seen
    assert not min_rtt.stale(now_us + PROBE_RTT_INTERVAL_US)


def test_samples_far_above_the_minimum_make_it_stale() -> None:
    min_rtt, now_us = _after_rounds(60, *[70] * 50)
    assert not min_rtt.queue.seen
    assert min_rtt.stale(now_us + 100_000)


def test_samples_that_never_leave_the_minimum_only_put_probe_rtt_off() -> None:
    """The path may be policed and have no queue, or other flows may keep its queue full."""
    min_rtt, now_us = _after_rounds(*[60, 61] * 40)
    assert not min_rtt.queue.seen
    assert not min_rtt.stale(now_us)
    assert not min_rtt.stale(MIN_RTT_FILTER_US)  # not yet the next multiple of five seconds
    assert min_rtt.stale(MIN_RTT_FILTER_US + PROBE_RTT_INTERVAL_US)


def test_the_first_round_with_a_queue_confirms_the_minimum_until_then() -> None:
    """A STARTUP of seven seconds is not interrupted by its own first queue."""
    min_rtt, now_us = _after_rounds(*[60] * 70, *[80] * 2)
    assert not min_rtt.stale(now_us)
    min_rtt.update(80_000, now_us + PROBE_RTT_INTERVAL_US)
    assert min_rtt.stale(now_us + PROBE_RTT_INTERVAL_US)


def test_a_shorter_path_drops_the_evidence_about_the_queue() -> None:
    min_rtt, _ = _after_rounds(60, 70, 60)
    assert min_rtt.queue.seen
    min_rtt.update(59_000, SECOND)
    assert min_rtt.queue.seen
    min_rtt.update(40_000, SECOND)
    assert not min_rtt.queue.seen


def test_a_minimum_that_falls_by_more_than_the_tolerance_means_a_shorter_path() -> None:
    min_rtt = MinRtt()
    assert not min_rtt.update(60_000, SECOND)
    assert not min_rtt.update(59_000, SECOND)
    assert min_rtt.update(40_000, SECOND)
    assert not min_rtt.update(38_000, SECOND)
    assert min_rtt.update(37_000, SECOND)  # small steps add up


def test_only_a_round_with_a_mean_near_the_minimum_shows_an_empty_queue() -> None:
    """A single sample may come near the minimum in a queue that other flows keep full."""
    min_rtt, now_us = _after_rounds(90, 120)
    _round(min_rtt, now_us, 90, *[120] * 19)
    assert not min_rtt.queue.seen
    _round(min_rtt, now_us, *[92] * 20, self_queued=True)
    assert not min_rtt.queue.seen
    _round(min_rtt, now_us, *[92] * 20)
    assert min_rtt.queue.seen


def test_jitter_is_not_taken_for_a_queue() -> None:
    """Most samples between 60 and 80 ms lie far above the minimum, although the queue is empty."""
    min_rtt, now_us = _after_rounds()
    for _ in range(30):
        now_us += 100_000
        _round(min_rtt, now_us, *range(60, 80))
    _round(min_rtt, now_us, *range(90, 110))
    _round(min_rtt, now_us, *range(60, 80))
    assert min_rtt.queue.seen
    min_rtt.update(72_000, now_us)
    assert min_rtt.queue_empty
    assert not min_rtt.stale(now_us + PROBE_RTT_INTERVAL_US)
    min_rtt.update(77_000, now_us)
    assert not min_rtt.queue_empty


def test_idle_time_confirms_the_minimum() -> None:
    min_rtt, now_us = _after_rounds(60, *[70] * 50)
    now_us += 100_000
    assert min_rtt.stale(now_us)
    min_rtt.confirm(now_us)
    assert not min_rtt.stale(now_us)


@pytest.mark.parametrize(
    ("means_us", "self_queued", "signs"),
    [
        ([60, 61], False, [QueueSign.NONE, QueueSign.NONE]),
        ([60, 90, 91], False, [QueueSign.NONE, QueueSign.APPEARED, QueueSign.NONE]),
        ([60, 90, 61], False, [QueueSign.NONE, QueueSign.APPEARED, QueueSign.DRAINED]),
        ([60, 90, 61], True, [QueueSign.NONE, QueueSign.APPEARED, QueueSign.NONE]),
        ([90, 60, 61], False, [QueueSign.NONE, QueueSign.DRAINED, QueueSign.DRAINED]),
    ],
)
def test_signs_of_a_queue_in_the_means_of_rounds(
    means_us: list[int], *, self_queued: bool, signs: list[QueueSign]
) -> None:
    queue = QueueDrain()
    assert [queue.end_round(mean_us, 5.0, self_queued=self_queued) for mean_us in means_us] == signs
    assert queue.seen == (QueueSign.DRAINED in signs)
    assert queue.lowest_us == 60


@pytest.mark.parametrize(
    ("least_ms", "samples_ms", "fills"),
    [
        (60, [100] * 20, True),
        (60, [85] * 20, False),
        (60, [100] * 10, False),  # too few samples
        (60, [*[100] * 20, 80], False),
        (1, [8] * 20, False),  # a busy host may be the reason
        (1, [12] * 20, True),
    ],
)
def test_a_round_with_nothing_but_queued_samples_fills_the_queue(
    least_ms: int, samples_ms: list[int], *, fills: bool
) -> None:
    min_rtt, now_us = _after_rounds(least_ms)
    for sample_ms in samples_ms:
        min_rtt.update(1_000 * sample_ms, now_us + 1)
    assert min_rtt.queue_fills == fills


# -- the time of PROBE_RTT


@pytest.mark.parametrize(("started_us", "first"), [(100_000, 1), (2_400_000, 1), (2_600_000, 2)])
def test_flows_of_one_clock_enter_probe_rtt_together(started_us: int, first: int) -> None:
    """PROBE_RTT is due at a multiple of five seconds, unless the minimum is newer than 2.5 s."""
    min_rtt = MinRtt()
    _round(min_rtt, started_us, *[60] * 20)
    for number in range(1, first):
        min_rtt.update(80_000, number * PROBE_RTT_INTERVAL_US)
        assert not min_rtt.stale(number * PROBE_RTT_INTERVAL_US)
    min_rtt.update(80_000, first * PROBE_RTT_INTERVAL_US)
    assert not min_rtt.stale(first * PROBE_RTT_INTERVAL_US - 1)
    assert min_rtt.stale(first * PROBE_RTT_INTERVAL_US)


@pytest.mark.parametrize(("queued_ms", "rounds"), [(80, 3), (300, 2)])
def test_a_sudden_queue_starts_probe_rtt_after_two_rounds_and_four_round_trips(
    queued_ms: float, rounds: int
) -> None:
    """The round trips are those of the minimum; rounds are as long as the queue is deep."""
    min_rtt, now_us = _after_rounds(*[60, 70] * 60, 60, *[queued_ms] * (rounds - 1))
    assert not min_rtt.stale(now_us)
    _round(min_rtt, now_us + 100_000, *[queued_ms] * 20)
    assert min_rtt.stale(now_us + 100_000)


# -- the result of PROBE_RTT


def _end_probe(min_rtt: MinRtt, measured_us: int, now_us: int, *, losing: bool) -> bool:
    """End a PROBE_RTT that measured this 0.1 s before its end."""
    before_us = min_rtt.last_round_us
    min_rtt.update(measured_us, now_us - 100_000)
    return min_rtt.end_probe(before_us, measured_us, now_us, losing=losing)


def _queued_then_probed(min_rtt: MinRtt, now_us: int, before_ms: float, measured_ms: float) -> bool:
    """One second with this round-trip time, then a PROBE_RTT that measures another."""
    for at in range(10):
        _round(min_rtt, now_us + at * 100_000, *[before_ms] * 20)
    return _end_probe(min_rtt, int(measured_ms * 1e3), now_us + SECOND + 200_000, losing=False)


def test_a_probe_behind_a_queue_does_not_replace_a_minimum_met_lately() -> None:
    min_rtt, now_us = _after_rounds(60, 200, 60, *[200] * 10)
    _end_probe(min_rtt, 110_000, now_us + 200_000, losing=False)
    assert min_rtt.us == 60_000


def test_a_probe_on_a_longer_path_replaces_the_minimum_at_once() -> None:
    min_rtt, now_us = _after_rounds(60, 70, 60, *[200] * 10)
    _end_probe(min_rtt, 199_000, now_us + 200_000, losing=False)
    assert min_rtt.us == 199_000
    assert not min_rtt.queue.seen


def test_a_full_queue_of_other_flows_is_not_taken_for_a_longer_path() -> None:
    """Emptying this flow's share changes nothing, but there are losses. The value is accepted in the end."""
    min_rtt, now_us = _after_rounds(60, 70, 60, *[200] * 10)
    for waited_us, accepted_us in ((0, 60_000), (3 * MIN_RTT_FILTER_US, 199_000)):
        _end_probe(min_rtt, 199_000, now_us + waited_us + 200_000, losing=True)
        assert min_rtt.us == accepted_us


def test_a_probe_that_drains_this_flows_queue_refutes_the_bandwidth() -> None:
    """The round-trip time fell, so the flow had sent more than the path delivers."""
    min_rtt, now_us = _after_rounds(60, 70, 60, *[200] * 10)
    assert _end_probe(min_rtt, 61_000, now_us + 200_000, losing=False)
    assert min_rtt.us == 60_000


def test_a_probe_without_a_sample_changes_nothing_but_its_time() -> None:
    min_rtt, now_us = _after_rounds(60, *[70] * 50)
    now_us += 100_000
    assert min_rtt.stale(now_us)
    assert not min_rtt.end_probe(70_000.0, inf, now_us, losing=False)
    assert min_rtt.us == 60_000
    assert not min_rtt.stale(now_us)


def test_a_path_is_contested_after_two_probes_with_a_deep_queue_of_other_flows() -> None:
    """It stays contested although the high value becomes the minimum."""
    min_rtt, now_us = _after_rounds(60)
    assert _queued_then_probed(min_rtt, now_us, before_ms=300, measured_ms=200)
    assert not min_rtt.contention.contested
    assert not _queued_then_probed(min_rtt, now_us + MIN_RTT_FILTER_US, before_ms=300, measured_ms=200)
    assert min_rtt.contention.contested
    assert min_rtt.us == 200_000
    # nearly all of the queue belongs to other flows
    assert not _queued_then_probed(min_rtt, now_us + 2 * MIN_RTT_FILTER_US, before_ms=300, measured_ms=290)
    assert min_rtt.contention.contested
    _queued_then_probed(min_rtt, now_us + 3 * MIN_RTT_FILTER_US, before_ms=100, measured_ms=60)
    assert not min_rtt.contention.contested


def test_a_shallow_queue_or_a_longer_path_is_not_contested() -> None:
    for before_ms, measured_ms in ((160, 140), (200, 199)):
        min_rtt, now_us = _after_rounds(60)
        for probe in range(4):
            _queued_then_probed(min_rtt, now_us + probe * MIN_RTT_FILTER_US, before_ms, measured_ms)
            assert not min_rtt.contention.contested


@pytest.mark.parametrize(("measured_ms", "contested"), [(200, True), (100, False)])
def test_a_contested_path_is_probed_at_multiples_of_five_seconds_only(
    measured_ms: float, *, contested: bool
) -> None:
    min_rtt, _ = _after_rounds(60)
    for at_us in (2_000_000, 7_000_000):
        _queued_then_probed(min_rtt, at_us, before_ms=300, measured_ms=measured_ms)
    assert min_rtt.contention.contested == contested
    for now_us in range(8_300_000, 13_400_000, 100_000):
        _round(min_rtt, now_us, *[300] * 20)
    assert min_rtt.stale(13_400_000) != contested
    assert min_rtt.stale(3 * PROBE_RTT_INTERVAL_US)


# -- PROBE_RTT itself


@pytest.mark.parametrize(("queued_ms", "segments"), [(60, 30), (80, MINIMUM_WINDOW)])
def test_probe_rtt_keeps_half_of_the_bdp_only_without_a_queue(queued_ms: float, segments: int) -> None:
    min_rtt, _ = _after_rounds(60, queued_ms)
    bandwidth, probe = MaxBandwidth(), ProbeRtt()
    bandwidth.sample(1_000.0, 0)
    probe.enter(min_rtt.last_round_us, bandwidth.value)
    controls = ControlParameters(
        10, min_rtt, LossFloor(), bandwidth, InflightBound(), AckAggregation(), probe
    )
    assert controls.probe_rtt_window == segments


def test_probe_rtt_takes_samples_of_the_hold_and_lasts_200_ms() -> None:
    probe = ProbeRtt()
    probe.enter(70_000.0, 1_000.0)
    assert not probe.holding
    assert not probe.finished(SECOND)
    probe.start_hold(SECOND)
    assert probe.holding
    assert probe.rtt_us == inf
    probe.note(None, round_started=False)
    probe.note(62_000, round_started=False)
    assert not probe.round_over
    probe.note(63_000, round_started=True)
    probe.note(64_000, round_started=False)
    assert probe.round_over
    assert probe.rtt_us == 62_000
    assert not probe.finished(SECOND + PROBE_RTT_DURATION_US)
    assert probe.finished(SECOND + PROBE_RTT_DURATION_US + 1)
    probe.enter(70_000.0, 1_000.0)  # the next one
    assert not probe.holding
