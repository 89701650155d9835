"""Responsiveness of draft-ietf-ippm-responsiveness-09: trimmed means, halves, stability, confidence."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest

from iperfpy.control.self_probes import MOST_INTERVALS, MOST_TIMES
from iperfpy.plan import Plan
from iperfpy.protocols.registry import transport
from iperfpy.records import Latency, Responsiveness, RpmConfidence
from iperfpy.report.terminal import responsiveness_line
from iperfpy.sampling.responsiveness import (
    ID_US,
    KEPT,
    MAD,
    MPS,
    ProbeInterval,
    ProbeLog,
    applies_to,
    assess,
    foreign_rpm,
    is_stable,
    loaded_rpm,
    trimmed_mean,
    with_self_probes,
)

LOOK_US = 50_000


def test_the_trimmed_mean_leaves_out_the_longest_five_percent() -> None:
    """Section 5.3.1: single-sided, at the 95th percentile."""
    samples = [*range(1, 96), *([10_000] * 5)]
    assert trimmed_mean(list(reversed(samples))) == statistics.fmean(range(1, 96))
    assert trimmed_mean([10.0] * 19 + [1000.0]) == 10
    # Of fewer than 20 samples, 5 % is no whole one.
    assert trimmed_mean([10.0] * 18 + [29.0]) == 11
    assert trimmed_mean([]) is None


def test_the_halves_are_weighed_as_in_the_draft() -> None:
    """Section 5.3.1.2: 60000 / ((TM(tcp_f) + TM(http_f)) / 2) and 60000 / TM(http_l), in milliseconds."""
    assert foreign_rpm([20_000.0], [40_000.0]) == 60_000 / 30
    assert loaded_rpm([100_000.0]) == 600
    assert Responsiveness(2000, 600).rpm == 1300
    assert foreign_rpm([], [1.0]) is foreign_rpm([1.0], []) is loaded_rpm([]) is None


@pytest.mark.parametrize("halves", [(None, 600.0), (2000.0, None), (None, None)])
def test_a_figure_that_was_not_measured_is_empty(halves: tuple[float | None, float | None]) -> None:
    assert Responsiveness(*halves).rpm is None
    record = Latency(responsiveness=Responsiveness(*halves)).record()
    assert record["responsiveness_rpm"] is record["responsiveness_confidence"] is None


def test_a_series_is_stable_within_five_percent_of_its_latest_value() -> None:
    assert is_stable([100, 104, 96, 100])
    assert not is_stable([100, 112, 88, 100])
    assert not is_stable([100, 100, 100])


def run(rates: Sequence[float], own_us: Sequence[float], foreign_us: Sequence[float] = ()) -> ProbeLog:
    """The log of a test with these rates in bytes per second and these probes, one of each per interval."""
    log, sent = ProbeLog(), 0.0
    log.begin(1_000)
    for number, (rate, us) in enumerate(zip(rates, own_us, strict=True)):
        for look in range(ID_US // LOOK_US):
            now = 1_000 + number * ID_US + look * LOOK_US
            log.read(now, round(sent), [us])
            if foreign_us and not look % 2:
                log.add_foreign(now, foreign_us[number], foreign_us[number])
            sent += rate * LOOK_US / 1e6
    return log


def judged(rates: Sequence[float], own_us: Sequence[float]) -> Responsiveness:
    log = run(rates, own_us, [30_000.0] * len(rates))
    return assess([*log.intervals], log.saturated_at)


@pytest.mark.parametrize(
    ("seconds", "confidence"),
    [(5, RpmConfidence.LOW), (10, RpmConfidence.LOW), (35, RpmConfidence.LOW), (40, RpmConfidence.HIGH)],
)
def test_a_steady_test_is_sure_after_goodput_and_responsiveness_were_stable(
    seconds: int, confidence: RpmConfidence
) -> None:
    """Section 5.4: four intervals of 5 s until the goodput is saturated, four more for the responsiveness."""
    count = seconds * 1_000_000 // ID_US
    result = judged([1e6] * count, [60_000.0] * count)
    assert result.confidence is confidence
    assert result.loaded_rpm == pytest.approx(1000)
    assert result.foreign_rpm == pytest.approx(2000)
    assert result.rpm == pytest.approx(1500)
    # The last four intervals count.
    assert result.self_probes == min(count, MAD) * MPS
    assert result.foreign_probes == min(count, MAD) * MPS / 2


def test_a_goodput_that_never_settles_leaves_the_confidence_low() -> None:
    rates = [1e6 * 2**number for number in range(12)]
    assert judged(rates, [60_000.0] * 12).confidence is RpmConfidence.LOW


def test_a_responsiveness_that_never_settles_has_medium_confidence() -> None:
    own = [20_000.0 * 2**number for number in range(12)]
    log = run([1e6] * 12, own, own)
    result = assess([*log.intervals], log.saturated_at)
    assert result.confidence is RpmConfidence.MEDIUM
    assert result.rpm is not None


def test_the_latest_intervals_decide() -> None:
    own = [20_000.0] * 8 + [200_000.0] * 8
    assert judged([1e6] * 16, own).loaded_rpm == pytest.approx(300)


def test_a_long_test_keeps_a_few_intervals() -> None:
    log = run([1e6] * 40, [60_000.0] * 40)
    assert len(log.intervals) == KEPT == MOST_INTERVALS
    assert max(len(one.self_us) for one in log.intervals) == MPS == MOST_TIMES


def test_the_omitted_time_and_what_came_before_do_not_count() -> None:
    log = ProbeLog()
    log.read(10, 5, [1.0])
    log.add_foreign(10, 1, 1)
    assert not log.intervals
    log.begin(1_000)
    log.add_foreign(2_000, 1, 1)
    log.begin(10_000)  # the omitted time is over
    log.add_foreign(9_000, 1, 1)
    log.add_foreign(11_000, 2, 3)
    assert [(one.connect_us, one.request_us) for one in log.intervals] == [([2], [3])]


def test_senders_take_turns() -> None:
    log = ProbeLog()
    log.begin(0)
    for look in range(6):
        log.read(look * LOOK_US, 0, [1.0, 2.0, 3.0])
    # Looks that come sooner than the draft's rate give no further probe.
    log.read(5 * LOOK_US + 10, 0, [1.0, 2.0, 3.0])
    assert log.intervals[0].self_us == [1, 2, 3, 1, 2, 3]


def test_self_probes_of_the_other_end_go_by_their_interval() -> None:
    intervals = [ProbeInterval(3, self_us=[1.0]), ProbeInterval(4)]
    merged = with_self_probes(intervals, {4: [7.0], 9: [8.0]})
    assert [one.self_us for one in merged] == [[1], [7]]
    assert intervals[1].self_us == []


def test_only_a_load_that_seeks_the_capacity_has_a_responsiveness() -> None:
    tcp, udp, kcp = (transport(name) for name in ("tcp", "udp", "kcp-bbr"))
    plan = Plan("tcp", tcp.settings())
    assert applies_to(plan, tcp)
    assert applies_to(plan, kcp)
    assert not applies_to(plan, udp)
    for limited in (
        replace(plan, rate_bps=1),
        replace(plan, fq_rate_bps=1),
        replace(plan, messages_per_s=100),
    ):
        assert not applies_to(limited, tcp)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (Responsiveness(), ""),
        (Responsiveness(2000.4), ""),
        (
            Responsiveness(None, 599.6),
            "Loaded responsiveness: 600 RPM (by the load itself, without other probes)",
        ),
        (
            Responsiveness(2000.4, 599.6, RpmConfidence.MEDIUM, 100, 200),
            "Responsiveness: 1300 RPM, confidence medium (foreign 2000, loaded 600; "
            "draft-ietf-ippm-responsiveness-09 without HTTP, TLS)",
        ),
    ],
)
def test_the_line_names_the_figure(found: Responsiveness, line: str) -> None:
    assert responsiveness_line(found) == line
