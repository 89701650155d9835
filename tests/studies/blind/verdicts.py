"""Targets of the blind test, and the verdict on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from iperfpy.diagnosis.finding import Cause
from tests.studies.blind.advice_trial import Trial
from tests.studies.blind.outcome import Outcome

RATE_VARIES, QUEUE, POLICER = str(Cause.RATE_VARIES), str(Cause.QUEUE), str(Cause.POLICER)
ASYMMETRY, PROCESSOR = str(Cause.ASYMMETRY), str(Cause.PROCESSOR)
NOISE, BURSTS, UNKNOWN = str(Cause.NOISE), str(Cause.BURSTS), str(Cause.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Error:
    """One figure of one path: its deviation from the truth, and the deviation allowed."""

    outcome: Outcome
    deviation: float
    allowed: float

    @property
    def met(self) -> bool:
        """True if the deviation is allowed."""
        return abs(self.deviation) <= self.allowed


@dataclass(frozen=True, slots=True)
class Scores:
    """Counts of one cause over all paths."""

    cause: str
    right: int
    invented: int
    missed: int

    @property
    def precision(self) -> float | None:
        """Share of the findings that are true."""
        found = self.right + self.invented
        return self.right / found if found else None

    @property
    def recall(self) -> float | None:
        """Share of the truths that are found."""
        there = self.right + self.missed
        return self.right / there if there else None


def scores(outcomes: Sequence[Outcome]) -> list[Scores]:
    """Count each cause that is true or found somewhere; all causes together come first."""
    rows = []
    for cause in map(str, Cause):
        if cause == UNKNOWN:
            continue
        right = sum(cause in one.truth and cause in one.found for one in outcomes)
        invented = sum(cause in one.invented for one in outcomes)
        missed = sum(cause in one.missed for one in outcomes)
        if right or invented or missed:
            rows.append(Scores(cause, right, invented, missed))
    total = [sum(getattr(row, name) for row in rows) for name in ("right", "invented", "missed")]
    return [Scores("all", *total), *rows]


def capacity_errors(outcomes: Sequence[Outcome]) -> list[Error]:
    """Relative errors of the path's rate: 3 %, and 10 % for one that varies."""
    return [
        Error(one, one.capacity / one.true_rate - 1, 0.1 if RATE_VARIES in one.truth else 0.03)
        for one in outcomes
        # A receiver that is too slow hides the rate of the path.
        if one.capacity is not None and PROCESSOR not in one.truth
    ]


def figure_errors(
    outcomes: Sequence[Outcome], cause: str, found: str, true: str, allowed: float
) -> list[Error]:
    """Relative errors of a figure of a cause that was found and is there."""
    return [
        Error(one, one.found[cause][found] / one.truth[cause][true] - 1, allowed)
        for one in outcomes
        if cause in one.found and true in one.truth.get(cause, {})
    ]


def queue_errors(outcomes: Sequence[Outcome]) -> list[Error]:
    """Relative errors of the queue's size; a queue that was not filled must hold the part that was seen."""
    errors = figure_errors(outcomes, QUEUE, "queue_bytes", "queue_bytes", 0.15)
    return [
        error if error.outcome.found[QUEUE]["full"] else Error(error.outcome, max(0.0, error.deviation), 0.15)
        for error in errors
    ]


def loss_errors(outcomes: Sequence[Outcome]) -> list[Error]:
    """Errors of the share of random loss: 0.3 points, or 2 standard errors."""
    return [
        Error(
            one,
            one.found[cause]["share"] - one.truth[cause]["share"],
            max(0.003, 2 * one.found[cause]["error"]),
        )
        for one in outcomes
        for cause in (NOISE, BURSTS)
        if cause in one.found and cause in one.truth
    ]


def drops_right(outcomes: Sequence[Outcome]) -> list[Error]:
    """Tail drop or active management, of queues that were found full and told apart: 0 for right."""
    kinds = {0: "tail", 1: "aqm"}
    return [
        Error(one, float(one.found[QUEUE]["drops"] != kinds[one.truth[QUEUE]["aqm"]]), 0.0)
        for one in outcomes
        if QUEUE in one.found and QUEUE in one.truth and one.found[QUEUE]["drops"]
    ]


ERRORS: dict[str, tuple[str, Callable[[Sequence[Outcome]], list[Error]]]] = {
    "capacity": ("within 3 % (10 % if it varies)", capacity_errors),
    "policer rate": (
        "within 2 %",
        lambda outcomes: figure_errors(outcomes, POLICER, "rate_bits_per_s", "rate_bits_per_s", 0.02),
    ),
    "policer burst": (
        "within 20 %",
        lambda outcomes: figure_errors(outcomes, POLICER, "burst_bytes", "burst_bytes", 0.2),
    ),
    "queue size, tail drop": ("within 15 %", queue_errors),
    "tail drop or AQM": ("right", drops_right),
    "ratio of the directions": (
        "within 6 %",
        lambda outcomes: figure_errors(outcomes, ASYMMETRY, "ratio", "ratio", 0.06),
    ),
    "random loss": ("0.3 points or 2 standard errors", loss_errors),
}
"""Figure -> allowed deviation in words, and its errors."""

PRECISION, RECALL, CANNOT_TELL, WITHIN = 0.98, 0.95, 0.05, 0.95
"""Targets: of all causes together, of the paths, and of each figure's errors."""


def cannot_tell(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Paths about which the diagnosis leaves something open."""
    return [
        one
        for one in outcomes
        if UNKNOWN in one.found or (one.capacity is None and one.measures_rate and PROCESSOR not in one.truth)
    ]


def false_policers(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Paths without a policer that were said to have one."""
    return [one for one in outcomes if POLICER in one.invented]


def trial(outcome: Outcome) -> Trial:
    """Give the proof of the advice of a path that has one."""
    return Trial(**{one.name: outcome.trial[one.name] for one in fields(Trial) if one.name in outcome.trial})


def advice_faults(outcome: Outcome) -> list[str]:
    """Say where the advice did harm, or did not keep its promise; nothing if it was not tried."""
    if not outcome.trial:
        return []
    one = trial(outcome)
    rates = f"{one.before / 1e6:.2f} Mb/s before, {one.advised / 1e6:.2f} with it"
    faults = [] if one.as_good else [f"worse: {rates}"]
    return faults if one.kept else [*faults, f"promised {one.promise:.2f} times the rate: {rates}"]
