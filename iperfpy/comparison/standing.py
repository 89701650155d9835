"""The figures of one contender in one direction: medians over its tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from iperfpy.comparison.comparison_report import ComparisonReport, ContenderFacts, MeasuredTest, steady_rates
from iperfpy.diagnosis.bufferbloat import LoadedRtt, grade
from iperfpy.plan import Direction
from iperfpy.sampling.order_statistics import MedianInterval, median_interval


@dataclass(frozen=True, slots=True)
class Standing:
    """A contender in one direction. Figures are medians over its tests; None: not known.

    Parameters
    ----------
    rate : steady payload rate in bits per second, with its interval or its range; None: no test has figures
    failures : number of failed tests
    startup_s, startup_bytes, rtt_us, rtt_p95_us : see `MeasuredTest`
    increase_us : 95th percentile of the round-trip time under load less `idle_rtt_us`
    grade : letter of bufferbloat; empty as `diagnosis.bufferbloat.grade` has it
    no_grade : the reason for that
    """

    contender: ContenderFacts
    direction: Direction
    rate: MedianInterval | None = None
    failures: int = 0
    startup_s: float | None = None
    startup_bytes: float | None = None
    rtt_us: float | None = None
    rtt_p95_us: float | None = None
    increase_us: float | None = None
    grade: str = ""
    no_grade: str = ""
    wire_per_payload: float | None = None
    resent_percent: float | None = None
    in_vain_percent: float | None = None
    loss_percent: float | None = None
    target_bits_per_second: float = 0.0

    @property
    def tests(self) -> int:
        """Number of tests with figures."""
        return self.rate.n if self.rate is not None else 0


def idle_rtt_us(report: ComparisonReport) -> float | None:
    """Round-trip time of the idle path, microseconds: the one before the data, median over the tests."""
    return known_median(one.idle_rtt_us for one in report.tests if not one.failed)


def standings(report: ComparisonReport, direction: Direction) -> list[Standing]:
    """The contenders of a direction, the fastest one first; those that are not ranked behind them.

    A contender without any test is left out.
    """
    rates = _packet_rates(report, direction)
    idle = idle_rtt_us(report)
    found = [
        _standing(report, facts, direction, rates, idle)
        for facts in report.contenders
        if report.of(facts.name, direction) or report.failures(facts.name, direction)
    ]

    def place(one: Standing) -> tuple[bool, float]:
        return not one.contender.ranked, -one.rate.median if one.rate is not None else 1.0

    return sorted(found, key=place)


def _packet_rates(report: ComparisonReport, direction: Direction) -> list[float]:
    """The rates of IP packets of all tests of the direction, as far as they are known."""
    tests = [one for one in report.tests if one.direction is direction and not one.failed]
    return [one.packet_bits_per_second for one in tests if one.packet_bits_per_second is not None]


def _standing(
    report: ComparisonReport,
    facts: ContenderFacts,
    direction: Direction,
    rates: Sequence[float],
    idle: float | None,
) -> Standing:
    tests = report.of(facts.name, direction)
    failures = len(report.failures(facts.name, direction))
    if not tests:
        return Standing(facts, direction, failures=failures)
    p95 = _percentile(tests, "p95")
    carried = known_median(one.packet_bits_per_second for one in tests)
    bloat = grade(idle, [LoadedRtt(carried, p95)], rates)
    return Standing(
        facts,
        direction,
        median_interval(steady_rates(tests)),
        failures,
        startup_s=known_median(one.startup_s for one in tests),
        startup_bytes=known_median(one.startup_bytes for one in tests),
        rtt_us=_percentile(tests, "p50"),
        rtt_p95_us=p95,
        increase_us=bloat.increase_us,
        grade=bloat.letter,
        no_grade=bloat.reason,
        wire_per_payload=known_median(one.wire_per_payload for one in tests),
        resent_percent=known_median(one.resent_percent for one in tests),
        in_vain_percent=known_median(one.in_vain_percent for one in tests),
        loss_percent=known_median(one.loss_percent for one in tests),
        target_bits_per_second=median(one.target_bits_per_second for one in tests),
    )


def _percentile(tests: Iterable[MeasuredTest], key: str) -> float | None:
    return known_median(one.rtt_us.get(key) for one in tests)


def known_median(values: Iterable[float | None]) -> float | None:
    """The median of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return median(known) if known else None
