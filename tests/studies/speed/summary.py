"""From runs to rows: medians, spreads, ratios and verdicts against the targets. Pure arithmetic."""

from __future__ import annotations

import dataclasses
import enum
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Rounds = Sequence[Mapping[str, float] | None]
"""One contestant's figures, round by round; None where the run failed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    `figure`: which figure of the contestants `ours` and `theirs` (see contestants.py). With `theirs` the
    ratio ours/theirs is judged, without it the figure itself. `limit` is the target (a minimum, or a maximum
    if less is better), `aim` a better value to strive for; None: the row is only reported. `best_of`:
    contestants; the one with the best median takes the place of `theirs`.
    """

    key: str
    what: str
    figure: str
    ours: str
    theirs: str | None = None
    limit: float | None = None
    aim: float | None = None
    less_is_better: bool = False
    best_of: tuple[str, ...] = ()

    @property
    def contestants(self) -> set[str]:
        """The contestants that this row needs."""
        return {self.ours, *self.best_of, *([self.theirs] if self.theirs else [])}

    def against_best(self, rounds: Mapping[str, Rounds]) -> Row:
        """The row with `theirs` chosen among `best_of`, as far as these have figures."""
        medians = {
            name: spread.median
            for name in self.best_of
            if (spread := Spread.of(_known(rounds.get(name, ()), self.figure)))
        }
        if not medians:
            return self
        choose = min if self.less_is_better else max
        return dataclasses.replace(self, theirs=choose(medians, key=medians.__getitem__))


class Verdict(enum.Enum):
    AIM = "aim reached"
    LIMIT = "target reached"
    BELOW = "below target"
    REPORTED = ""
    ABSENT = "not measured"


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        return cls(statistics.median(values), min(values), max(values)) if values else None


@dataclass(frozen=True, slots=True)
class Result:
    """A row with its numbers. `judged` is the number compared with the targets; `ratio_spread` are the
    smallest and largest ratio of two runs of the same round."""

    row: Row
    ours: Spread | None
    theirs: Spread | None
    judged: float | None
    ratio_spread: tuple[float, float] | None
    verdict: Verdict

    @property
    def score(self) -> float | None:
        """Factor by which the result is better than the limit; 1 reaches it exactly."""
        if self.judged is None or not self.row.limit:
            return None
        if self.row.less_is_better:
            return self.row.limit / self.judged if self.judged > 0 else None
        return self.judged / self.row.limit


def result(row: Row, rounds: Mapping[str, Rounds]) -> Result:
    """Compute a row from the rounds of each contestant."""
    row = row.against_best(rounds)
    ours = _values(rounds.get(row.ours, ()), row.figure)
    mine = Spread.of(_known(rounds.get(row.ours, ()), row.figure))
    if row.theirs is None:
        judged = mine.median if mine else None
        return Result(row, mine, None, judged, None, _verdict(row, judged))
    theirs = _values(rounds.get(row.theirs, ()), row.figure)
    other = Spread.of(_known(rounds.get(row.theirs, ()), row.figure))
    ratios = [a / b for a, b in zip(ours, theirs, strict=False) if a is not None and b]
    ratio = mine.median / other.median if mine and other and other.median else None
    spread = (min(ratios), max(ratios)) if ratios else None
    return Result(row, mine, other, ratio, spread, _verdict(row, ratio))


def _values(rounds: Rounds, figure: str) -> list[float | None]:
    return [figures.get(figure) if figures is not None else None for figures in rounds]


def _known(rounds: Rounds, figure: str) -> list[float]:
    return [value for value in _values(rounds, figure) if value is not None]


def _verdict(row: Row, judged: float | None) -> Verdict:
    if judged is None:
        return Verdict.ABSENT
    if row.limit is None:
        return Verdict.REPORTED
    sign = -1 if row.less_is_better else 1
    if row.aim is not None and sign * judged >= sign * row.aim:
        return Verdict.AIM
    return Verdict.LIMIT if sign * judged >= sign * row.limit else Verdict.BELOW
