"""Targets of the study of paths, and the verdict of a set of runs against each."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from statistics import median

from tests.studies.paths.run import Outcome

GRID = ("loss", "hard")
IN_ORDER = (*GRID, "policer", "policer-loss", "bursts", "acks")
"""Lines of one flow over a path without reordering."""


class Verdict(enum.Enum):
    AIM = "aim"
    LIMIT = "at least"
    BELOW = "BELOW"
    MISSING = "not run"


@dataclass(frozen=True, slots=True)
class Target:
    """`metric` of every case of these lines must lie in the range `limit` (low, high), and should lie in
    `aim`. `aim_metric`: the metric of the aim, if it has another unit."""

    what: str
    lines: tuple[str, ...]
    metric: str
    limit: tuple[float, float]
    aim: tuple[float, float]
    unit: str = ""
    aim_metric: str = ""


def _least(*bounds: float) -> tuple[tuple[float, float], tuple[float, float]]:
    return (bounds[0], inf), (bounds[1], inf)


def _most(*bounds: float) -> tuple[tuple[float, float], tuple[float, float]]:
    return (-inf, bounds[0]), (-inf, bounds[1])


TARGETS = (
    Target(
        "goodput / limit, buffer 1 BDP or more, loss up to 30 %", ("loss",), "goodput", *_least(0.93, 0.97)
    ),
    Target("goodput / limit, 40 % loss or buffer 0.1 BDP", ("hard",), "goodput", *_least(0.85, 0.95)),
    Target("retransmitted above dropped, of data segments", IN_ORDER, "excess", *_most(0.02, 0.005), "%"),
    Target("spurious of retransmitted", IN_ORDER, "spurious", *_most(0.02, 0.002), "%"),
    Target("mean RTT / base RTT", GRID, "rtt", *_most(1.25, 1.1)),
    Target("policer: goodput / rate", ("policer",), "goodput", *_least(0.90, 0.95)),
    Target("policer: dropped", ("policer",), "dropped", *_most(0.05, 0.02), "%"),
    Target("policer and 5 % loss: goodput / limit", ("policer-loss",), "goodput", *_least(0.85, 0.93)),
    Target("policer and 5 % loss: dropped", ("policer-loss",), "dropped", *_most(0.10, 0.07), "%"),
    Target("5 % lost in bursts of 5 or 20: goodput / limit", ("bursts",), "goodput", *_least(0.90, 0.95)),
    Target("20 or 40 % of ACKs lost: goodput / limit", ("acks",), "goodput", *_least(0.90, 0.95)),
    Target("5 % reordered: goodput / limit", ("reorder",), "goodput", *_least(0.93, 0.97)),
    Target("5 % reordered: spurious of sent", ("reorder",), "spurious_sent", *_most(0.01, 0.002), "%"),
    Target(
        "start: 90 % of the limit after (less 0.5 s for `at least`)",
        GRID,
        "start_late_rtts",
        *_most(12, 8),
        " RTT",
        "start_rtts",
    ),
    Target("steps of rate and RTT, an outage: settled after", ("steps",), "settle_s", *_most(5, 2), " s"),
    Target("2, 4, 8 flows: Jain's index", ("fair",), "jain", *_least(0.95, 0.99)),
    Target("a late comer: Jain's index 0.95 after", ("late",), "converged_s", *_most(20, 8), " s"),
    Target("beside a loss-based flow: share of fair", ("rival",), "share", (0.4, 1.8), (0.7, 1.3)),
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and the figures of its runs. `low`, `high`: the extremes and their cases."""

    target: Target
    runs: int
    low: float
    middle: float
    high: float
    low_case: str
    high_case: str
    failing: int
    verdict: Verdict

    @property
    def worst(self) -> tuple[tuple[float, str], ...]:
        """Extreme and case on each bounded side."""
        low, high = self.target.limit
        ends = [(self.low, self.low_case)] if low > -inf else []
        return (*ends, (self.high, self.high_case)) if high < inf else tuple(ends)


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _applies_to(target: Target, outcome: Outcome) -> bool:
    if target.metric == "rtt":  # The RTT is not judged with a buffer of a tenth of a BDP.
        return outcome.line in GRID and " 0.1 BDP" not in outcome.name
    return outcome.line in target.lines


def fails(target: Target, outcome: Outcome) -> bool:
    """True if the target applies to this run and the run does not reach it."""
    return _applies_to(target, outcome) and not _within(outcome.values[target.metric], target.limit)


def judge(target: Target, outcomes: Iterable[Outcome]) -> Judged:
    """Judge a target; the worst of all cases and seeds decides."""
    chosen = [outcome for outcome in outcomes if _applies_to(target, outcome)]
    if not chosen:
        return Judged(target, 0, 0.0, 0.0, 0.0, "", "", 0, Verdict.MISSING)
    ranked = sorted((one.values[target.metric], f"{one.name}, seed {one.seed}") for one in chosen)
    values = [value for value, _ in ranked]
    aimed = [one.values[target.aim_metric or target.metric] for one in chosen]
    failing = sum(not _within(value, target.limit) for value in values)
    verdict = Verdict.BELOW if failing else Verdict.LIMIT
    if not failing and all(_within(value, target.aim) for value in aimed):
        verdict = Verdict.AIM
    (low, low_case), (high, high_case) = ranked[0], ranked[-1]
    return Judged(target, len(chosen), low, median(values), high, low_case, high_case, failing, verdict)
