"""The path's round-trip time without a queue: level, spread, confirmation, and the result of PROBE_RTT."""

from __future__ import annotations

import pytest

from iperfpy.protocols.congestion.bbr.path_delay import (
    EXAMINE_US,
    MIN_MEAN_ACKS,
    MIN_RTT_FILTER_US,
    PROBE_RTT_INTERVAL_US,
    STANDING_QUEUE_SHARE,
    DelaySamples,
    PathDelay,
)

SECOND = 1_000_000
ROUND_US = 100_000


def _after_rounds(*samples_ms: float) -> tuple[PathDelay, int]:
    """Estimator after one round of 100 ms per value, all samples of a round being equal; and the time."""
    delay, now_us = PathDelay(), 0
    for sample_ms in samples_ms:
        now_us += ROUND_US
        _round(delay, now_us, *[sample_ms] * 20)
    return delay, now_us


def _round(delay: PathDelay, now_us: int, *samples_ms: float, self_queued: bool = False) -> bool:
    """End a round of these samples, an ACK of one segment each."""
    for sample_ms in samples_ms:
        delay.update(sample_ms * 1e3, sample_ms * 1e3, 1, now_us)
    return delay.end_round(now_us, self_queued=self_queued)


def _sample(delay: PathDelay, sample_ms: float, now_us: int) -> None:
    delay.update(sample_ms * 1e3, sample_ms * 1e3, 1, now_us)


def _measured(*samples_ms: float) -> DelaySamples:
    samples = DelaySamples()
    for sample_ms in samples_ms:
        samples.add(sample_ms * 1e3, 1)
    return samples


# -- samples of a round


def test_the_mean_is_that_of_the_segments_and_not_of_the_acks() -> None:
    samples = DelaySamples()
    samples.add(20_000, 30)
    samples.add(60_000, 10)
    assert samples.mean_us == 30_000
    assert samples.deviation_us == 10 * 30_000 / 40  # the first sample has no mean before it
    assert samples.least_us == 20_000


@pytest.mark.parametrize(("acks", "segments", "suffices"), [(8, 2, True), (7, 9, False), (15, 1, False)])
def test_a_mean_needs_segments_and_acks(acks: int, segments: int, *, suffices: bool) -> None:
    """A path that releases ACKs in lumps gives one sample per lump."""
    samples = DelaySamples()
    assert (samples.mean_us, samples.deviation_us) == (0.0, 0.0)
    for _ in range(acks):
        samples.add(20_000, segments)
    assert samples.suffices == suffices


@pytest.mark.parametrize(("away_ms", "acks"), [(3, 8), (7.5, 19), (50, 32)])
def test_samples_that_vary_more_need_more_acks(away_ms: float, acks: int) -> None:
    samples, count = DelaySamples(), 0
    while not samples.suffices:
        samples.add(50_000 + (1 if count % 2 else -1) * away_ms * 1e3, 2)
        count += 1
    assert count == pytest.approx(acks, abs=1)


def test_short_rounds_are_pooled_until_they_have_a_mean() -> None:
    delay, now_us = _after_rounds(60)
    for _ in range(4):
        _round(delay, now_us, 50, 50, 50, 50)
        assert delay.last_round_us == 60_000 or delay.last_round_us == 50_000
    assert delay.last_round_us == 50_000
    lumps = PathDelay()
    for _ in range(MIN_MEAN_ACKS):
        assert lumps.spread_us == lumps.last_round_us == 0.0
        lumps.update(60_000, 50_000, 40, now_us)
        lumps.end_round(now_us, self_queued=False)
    assert lumps.last_round_us == 60_000
    assert lumps.least_us == 50_000


# -- the level


def test_the_level_is_the_least_mean_of_a_round_and_holds_the_jitter() -> None:
    """A mean of samples between 40 and 80 ms hardly varies, and is no queue."""
    delay = PathDelay()
    for at in range(30):
        _round(delay, at * ROUND_US, *range(40, 80))
    assert delay.level_us == pytest.approx(59_500)
    assert delay.least_us == 40_000
    assert delay.spread_us == pytest.approx(10_000, rel=0.1)
    assert delay.queue_share == 0.0
    assert delay.near(75_000)
    assert not delay.near(90_000)


def test_a_level_far_above_the_least_sample_may_hold_the_queue_of_the_start() -> None:
    """The initial window over 1 Mb/s: each segment waits for all before it. PROBE_RTT answers, once."""
    delay, steady = PathDelay(), PathDelay()
    delay.service_us = steady.service_us = 11_000.0
    assert not delay.of_startup
    _round(delay, ROUND_US, *range(50, 250, 5), self_queued=True)
    assert delay.of_startup
    _round(steady, ROUND_US, *range(50, 90), self_queued=True)  # within a fourth and four segments
    assert not steady.of_startup
    delay.end_probe(_measured(*[200] * 20), 5 * SECOND, lasted_us=SECOND, settled=False)
    assert not delay.of_startup


def test_the_level_falls_at_once() -> None:
    delay, now_us = _after_rounds(60, 50)
    assert delay.level_us == 50_000
    assert delay.last_round_us == 50_000
    _round(delay, now_us, *[90] * 20)
    assert delay.level_us == 50_000


def test_the_level_does_not_fall_right_after_a_change_of_the_rate() -> None:
    """On a path of two ways, more segments of the shorter way arrive while the rate rises."""
    delay, now_us = _after_rounds(*[60] * 10)
    delay.change_rate(now_us)
    assert not _round(delay, now_us + ROUND_US, *[40] * 20)
    assert delay.level_us == 60_000
    assert _round(delay, now_us + 2 * ROUND_US, *[40] * 20)
    assert delay.level_us == 40_000


def test_the_level_rises_if_no_round_of_two_intervals_came_near_it() -> None:
    delay, now_us = _after_rounds(60)
    risen_us = 0
    while not risen_us:
        now_us += ROUND_US
        _round(delay, now_us, *[70] * 20)
        risen_us = now_us if delay.level_us > 60_000 else 0
    assert delay.level_us == 70_000
    assert PROBE_RTT_INTERVAL_US < risen_us <= 2 * PROBE_RTT_INTERVAL_US + 3 * ROUND_US


def test_the_interval_of_a_long_path_is_longer() -> None:
    """At 600 ms, STARTUP, DRAIN and the first probe take 20 s."""
    delay, now_us = PathDelay(), 0
    while now_us < 25 * SECOND:
        now_us += 600_000
        _round(delay, now_us, *[600 if now_us < SECOND else 900] * 20)
        assert not delay.stale(now_us) or now_us >= 4 * PROBE_RTT_INTERVAL_US
    assert delay.level_us == 600_000


def test_a_level_that_falls_by_more_than_the_tolerance_means_a_shorter_path() -> None:
    delay, now_us = _after_rounds(60, 60)
    assert not _round(delay, now_us, *[59] * 20)
    assert _round(delay, now_us, *[40] * 20)
    assert not _round(delay, now_us, *[40] * 20)


def test_a_wide_spread_widens_the_tolerance() -> None:
    for samples_ms, shorter in (([60.0] * 20, True), ([*[30.0] * 10, *[90.0] * 10], False)):
        delay = PathDelay()
        _round(delay, SECOND, *samples_ms)
        assert _round(delay, SECOND, *[sample_ms - 6 for sample_ms in samples_ms]) == shorter


def test_the_service_time_of_a_segment_is_no_queue() -> None:
    delay, _ = _after_rounds(60, 70)
    assert not delay.mean_near(70_000)
    assert 0.15 < delay.queue_share < 1 / 6
    delay.service_us = 10_000
    assert delay.mean_near(70_000)
    assert delay.queue_share == 0.0


def test_a_queue_counts_by_its_mean_and_less_once_it_has_fallen() -> None:
    delay, now_us = _after_rounds(60, *[90] * 3)
    assert delay.queue_share > STANDING_QUEUE_SHARE
    assert delay.queue_stands
    for _ in range(20):
        _sample(delay, 60, now_us)
    assert not delay.queue_stands


# -- confirmation of the level


def test_nothing_is_stale_before_the_first_sample() -> None:
    """The first ACK may bring no sample, and clocks do not start at zero."""
    assert not PathDelay().stale(3_600 * SECOND)
    assert not PathDelay().raised(3_600 * SECOND)
    assert PathDelay().queue_share == 0.0


def test_a_queue_that_drains_confirms_the_level() -> None:
    delay, now_us = _after_rounds(*[60, 70] * 60, 60)
    assert delay.drained
    assert not delay.stale(now_us + PROBE_RTT_INTERVAL_US)


def test_rounds_far_above_the_level_make_it_stale() -> None:
    delay, now_us = _after_rounds(60, *[70] * 50)
    assert not delay.drained
    assert delay.stale(now_us + 100_000)


def test_rounds_that_are_all_alike_only_put_probe_rtt_off() -> None:
    """The path may be policed and have no queue, or other flows may keep its queue full."""
    delay, now_us = _after_rounds(*[60, 61] * 40)
    assert not delay.drained
    assert not delay.stale(now_us)
    assert not delay.stale(MIN_RTT_FILTER_US)  # not yet the next multiple of five seconds
    assert delay.stale(MIN_RTT_FILTER_US + PROBE_RTT_INTERVAL_US)


def test_the_first_round_with_a_queue_confirms_the_level_until_then() -> None:
    """A STARTUP of seven seconds is not interrupted by its own first queue."""
    delay, now_us = _after_rounds(*[60] * 70, *[80] * 2)
    assert not delay.stale(now_us)
    _sample(delay, 80, now_us + PROBE_RTT_INTERVAL_US)
    assert delay.stale(now_us + PROBE_RTT_INTERVAL_US)


def test_a_round_with_an_empty_queue_counts_only_if_this_flow_did_not_drain_it() -> None:
    """A single sample may come near the level in a queue that other flows keep full."""
    delay, now_us = _after_rounds(90, 120)
    _round(delay, now_us, 90, *[120] * 19)
    assert not delay.drained
    _round(delay, now_us, *[92] * 20, self_queued=True)
    assert not delay.drained
    _round(delay, now_us, *[92] * 20)
    assert delay.drained


def test_a_shorter_path_drops_the_evidence_about_the_queue() -> None:
    delay, now_us = _after_rounds(60, 75, 60)
    assert delay.drained
    _round(delay, now_us, *[59] * 20)
    assert delay.drained
    _round(delay, now_us, *[40] * 20)
    assert not delay.drained


def test_idle_time_confirms_the_level() -> None:
    delay, now_us = _after_rounds(60, *[70] * 50)
    now_us += 100_000
    assert delay.stale(now_us)
    delay.confirm(now_us)
    assert not delay.stale(now_us)


@pytest.mark.parametrize(
    ("level_ms", "samples_ms", "fills"),
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
    level_ms: int, samples_ms: list[int], *, fills: bool
) -> None:
    delay, now_us = _after_rounds(level_ms)
    for sample_ms in samples_ms:
        _sample(delay, sample_ms, now_us + 1)
    assert delay.queue_fills == fills


# -- the time of PROBE_RTT


@pytest.mark.parametrize(("started_us", "first"), [(100_000, 1), (2_400_000, 1), (2_600_000, 2)])
def test_flows_of_one_clock_enter_probe_rtt_together(started_us: int, first: int) -> None:
    """PROBE_RTT is due at a multiple of five seconds, unless the level is newer than 2.5 s."""
    delay = PathDelay()
    _round(delay, started_us, *[60] * 20)
    for number in range(1, first):
        _sample(delay, 80, number * PROBE_RTT_INTERVAL_US)
        assert not delay.stale(number * PROBE_RTT_INTERVAL_US)
    _sample(delay, 80, first * PROBE_RTT_INTERVAL_US)
    assert not delay.stale(first * PROBE_RTT_INTERVAL_US - 1)
    assert delay.stale(first * PROBE_RTT_INTERVAL_US)


@pytest.mark.parametrize(("queued_ms", "rounds"), [(90, 3), (300, 2)])
def test_a_sudden_increase_starts_probe_rtt_after_two_rounds_and_four_round_trips(
    queued_ms: float, rounds: int
) -> None:
    """The round trips are those of the level; rounds are as long as the queue is deep."""
    delay, now_us = _after_rounds(*[60, 70] * 60, 60, *[queued_ms] * (rounds - 1))
    assert not delay.raised(now_us)
    _round(delay, now_us + ROUND_US, *[queued_ms] * 20)
    assert delay.raised(now_us + ROUND_US)
    assert not delay.stale(now_us + ROUND_US)


@pytest.mark.parametrize(
    ("queued_ms", "self_queued", "service_ms"),
    [
        (74, False, 0),  # within a fourth
        (90, True, 0),  # of this flow's probe for bandwidth
        (90, False, 5),  # four segments
    ],
)
def test_an_increase_that_has_a_reason_is_not_examined(
    queued_ms: float, *, self_queued: bool, service_ms: float
) -> None:
    delay, now_us = _after_rounds(*[60] * 20)
    delay.service_us = 1e3 * service_ms
    for _ in range(10):
        now_us += ROUND_US
        _round(delay, now_us, *[queued_ms] * 20, self_queued=self_queued)
        assert not delay.raised(now_us)


def test_wide_jitter_is_no_increase() -> None:
    """Lumps and jitter: single rounds lie a third above the least one."""
    delay = PathDelay()
    for at in range(40):
        shift = 20 if at % 4 > 1 else 0
        _round(delay, at * ROUND_US, *[20 + shift] * 10, *[100 + shift] * 10)
        assert not delay.raised(at * ROUND_US)


def test_an_increase_is_examined_once_a_second() -> None:
    delay, now_us = _after_rounds(*[60] * 20)
    delay.end_probe(_measured(*[60] * 20), now_us, lasted_us=100_000, settled=True)
    ended_us = now_us
    while not delay.raised(now_us):
        now_us += ROUND_US
        _round(delay, now_us, *[120] * 20)
    assert now_us == ended_us + EXAMINE_US + ROUND_US
    assert delay.may_examine(now_us)
    assert not delay.may_examine(ended_us + EXAMINE_US)


def test_a_long_probe_is_followed_by_eight_times_its_length_without_an_examination() -> None:
    """A probe by the clock comes all the same: flows that share a queue begin together."""
    delay, now_us = _after_rounds(*[60] * 20)
    delay.end_probe(_measured(*[60] * 20), now_us, lasted_us=3 * SECOND, settled=False)
    assert not delay.may_examine(now_us + 24 * SECOND)
    assert delay.may_examine(now_us + 24 * SECOND + 1)
    assert delay.stale(now_us + 20 * SECOND)


# -- the result of PROBE_RTT


def test_a_probe_behind_a_queue_changes_nothing_but_its_time() -> None:
    """The queue belongs to other flows, and round trips did not settle."""
    delay, now_us = _after_rounds(*[60, 70] * 20, 60, *[200] * 10)
    assert delay.raised(now_us)
    delay.end_probe(_measured(*[110] * 20), now_us, lasted_us=200_000, settled=False)
    assert delay.level_us == 60_000
    assert delay.drained
    assert not delay.raised(now_us + 2 * SECOND)
    assert not delay.stale(now_us + 2 * SECOND)


def test_a_probe_on_a_longer_path_replaces_the_level_at_once() -> None:
    delay, now_us = _after_rounds(*[60, 70] * 20, 60, *[200] * 10)
    assert not delay.end_probe(_measured(*[198] * 10, *[200] * 10), now_us, lasted_us=200_000, settled=True)
    assert delay.level_us == 199_000
    assert delay.least_us == 198_000
    assert not delay.drained
    _round(delay, now_us + ROUND_US, *[200] * 20)
    assert delay.level_us == 199_000


def test_a_probe_that_drains_this_flows_queue_refutes_the_bandwidth() -> None:
    """Round trips fell, so the flow had sent more than the path delivers."""
    delay, now_us = _after_rounds(*[60, 70] * 20, 60, *[200] * 10)
    assert delay.end_probe(_measured(*[61] * 20), now_us, lasted_us=200_000, settled=True)
    assert delay.level_us == 61_000
    assert delay.drained


def test_a_probe_without_an_increase_refutes_nothing() -> None:
    delay, now_us = _after_rounds(*[60, 62] * 20)
    assert not delay.end_probe(_measured(*[60] * 20), now_us, lasted_us=200_000, settled=True)


def test_a_probe_with_too_few_samples_leaves_the_level() -> None:
    delay, now_us = _after_rounds(60, *[70] * 50)
    now_us += 100_000
    assert delay.stale(now_us)
    assert not delay.end_probe(_measured(80, 80), now_us, lasted_us=200_000, settled=True)
    assert delay.level_us == 60_000
    assert not delay.stale(now_us)
