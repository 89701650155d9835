"""The figures of the messages of one contender, pooled over its rounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iperfpy.comparison.comparison_report import ComparisonReport, ContenderFacts, MeasuredMessages
from iperfpy.sampling.message_figures import late_percent, percentile

SLOWEST = 0.05
"""Share of the messages of a round whose mean ranks a contender: a high percentile of so few messages is the
time of one of them, and the mean of all messages hides the losses."""


@dataclass(frozen=True, slots=True)
class MessageStanding:
    """The messages of a contender. Times are microseconds; None: not known, or too few messages.

    Parameters
    ----------
    tests, failures : number of tests with figures, and of failed ones
    due, answered : messages of all tests together
    p50_us, p90_us, p99_us : of the answered messages; each has at least 10 messages beyond it
    slowest_us : median over the tests of the mean of the slowest `SLOWEST`
    late_percent : messages that were not answered within 200 ms, per cent of those due
    wire_ratio : bytes of IP packets for each byte of messages and echoes, both directions together
    """

    contender: ContenderFacts
    tests: int
    failures: int
    due: int
    answered: int
    p50_us: float | None = None
    p90_us: float | None = None
    p99_us: float | None = None
    slowest_us: float | None = None
    late_percent: float | None = None
    wire_ratio: float | None = None


def message_standings(report: ComparisonReport) -> list[MessageStanding]:
    """The contenders with messages, the one with the fastest slow messages first; those that are not ranked
    behind them."""
    found = [_standing(report, facts) for facts in report.contenders]
    return sorted(
        (one for one in found if one.tests or one.failures),
        key=lambda one: (not one.contender.ranked, one.slowest_us is None, one.slowest_us or 0.0),
    )


def slowest_means(tests: list[MeasuredMessages]) -> list[float]:
    """The mean of the slowest `SLOWEST` of the messages of each test, microseconds."""
    return [_slowest(np.array(one.round_trip_us, dtype=np.float64)) for one in tests]


def _slowest(trips: NDArray[np.float64]) -> float:
    count = max(1, round(SLOWEST * len(trips)))
    return float(np.sort(trips)[-count:].mean())


def _standing(report: ComparisonReport, facts: ContenderFacts) -> MessageStanding:
    failures = sum(one.contender == facts.name and one.failed for one in report.messages)
    return pooled(facts, report.messages_of(facts.name), failures)


def pooled(facts: ContenderFacts, tests: list[MeasuredMessages], failures: int = 0) -> MessageStanding:
    """The figures of some tests of one contender that have figures, together."""
    if not tests:
        return MessageStanding(facts, 0, failures, 0, 0)
    trips = np.concatenate([np.array(one.round_trip_us, dtype=np.float64) for one in tests])
    due = sum(one.due for one in tests)
    return MessageStanding(
        facts,
        len(tests),
        failures,
        due,
        len(trips),
        percentile(trips, 50.0),
        percentile(trips, 90.0),
        percentile(trips, 99.0),
        float(np.median(slowest_means(tests))),
        late_percent(trips, due),
        _wire_ratio(tests),
    )


def _wire_ratio(tests: list[MeasuredMessages]) -> float | None:
    if any(one.wire_bytes is None for one in tests):
        return None
    payload = sum(one.size_bytes * (one.sent + len(one.round_trip_us)) for one in tests)
    return sum(one.wire_bytes or 0 for one in tests) / payload if payload else None
