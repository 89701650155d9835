"""Which contenders of a direction differ: exact Mann-Whitney tests of all pairs, corrected for their number.

Tests are the samples, because the intervals of one test depend on each other. Two contenders differ if

- Holm's correction over all pairs of the direction leaves p below 0.05, so that at most one of twenty
  comparisons of equal contenders names any difference; and
- the shift between them (Hodges-Lehmann) is at least `MATTERS`, and at least an absolute difference where the
  values may be near zero: a smaller one decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from statistics import median

from iperfpy.sampling.order_statistics import FEWEST_A_SIDE, RunComparison, compare_runs

SIGNIFICANT = 0.05
MATTERS = 0.02
"""Relative difference below which two contenders are called equal."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two contenders of one direction.

    Parameters
    ----------
    first, second : names; `first` has the better median
    compared : the test without correction; its shifts are second minus first
    p : corrected for the number of pairs
    least : absolute difference that matters, in the unit of the values
    """

    first: str
    second: str
    compared: RunComparison
    p: float
    least: float = 0.0

    @property
    def shift(self) -> float | None:
        """Difference of the second, as a share of the first; None if a value is not positive."""
        relative = self.compared.relative
        return relative.value if relative is not None else None

    @property
    def different(self) -> bool:
        """True if the two differ."""
        matters = self.shift is None or abs(self.shift) >= MATTERS
        return self.p < SIGNIFICANT and matters and abs(self.compared.shift.value) >= self.least

    @property
    def is_below_least(self) -> bool:
        """True if the interval of the shift allows no absolute difference that matters."""
        low, high = self.compared.shift.low, self.compared.shift.high
        return low is not None and high is not None and max(abs(low), abs(high)) < self.least

    @property
    def hidden(self) -> float | None:
        """The largest difference that the interval of the shift allows, as a share; None without one, or if
        no difference matters."""
        relative = self.compared.relative
        if relative is None or relative.low is None or relative.high is None or self.is_below_least:
            return None
        return max(abs(relative.low), abs(relative.high))


@dataclass(frozen=True, slots=True)
class Ranking:
    """The contenders of one direction.

    Parameters
    ----------
    names : the best median first
    pairs : all of them, in the order of the names; empty if the tests are too few to rank
    fewest : number of tests of the contender that has the fewest
    """

    names: tuple[str, ...]
    pairs: tuple[Pair, ...]
    fewest: int

    @property
    def decides(self) -> bool:
        """True if there are enough tests to find any difference."""
        return bool(self.pairs)

    def pair(self, first: str, second: str) -> Pair | None:
        """The pair of these two, in any order."""
        return next((one for one in self.pairs if {one.first, one.second} == {first, second}), None)

    @property
    def best(self) -> tuple[str, ...]:
        """The best contender, and those that do not differ from it."""
        if not self.names or not self.decides:
            return self.names
        top = self.names[0]
        return tuple(
            name for name in self.names if name == top or not ((p := self.pair(top, name)) and p.different)
        )

    @property
    def behind(self) -> tuple[Pair, ...]:
        """The pairs of the best contender with those that differ from it."""
        return tuple(one for one in self.pairs if one.first == self.names[0] and one.different)


def enough(counts: Sequence[int]) -> bool:
    """True if so many tests of each contender could show a difference of any pair.

    The smallest p of an exact test of n and m values is 2 / C(n + m, n); Holm's correction multiplies it by
    the number of pairs.
    """
    if len(counts) < 2 or min(counts) < FEWEST_A_SIDE:
        return False
    n, m = sorted(counts)[:2]
    return comb(len(counts), 2) * 2 / comb(n + m, n) < SIGNIFICANT


def rank(
    values: Mapping[str, Sequence[float]], *, smaller_is_better: bool = False, least: float = 0.0
) -> Ranking:
    """Rank contenders by the values of their tests.

    Parameters
    ----------
    values : name -> one value for each test, at least one
    smaller_is_better : True for times, False for rates
    least : absolute difference that matters, in the unit of the values
    """
    ordered = sorted(values, key=lambda name: median(values[name]), reverse=not smaller_is_better)
    fewest = min((len(one) for one in values.values()), default=0)
    if not enough([len(one) for one in values.values()]):
        return Ranking(tuple(ordered), (), fewest)
    compared = {
        (first, second): compare_runs(values[first], values[second])
        for first, second in combinations(ordered, 2)
    }
    corrected = _holm({names: one.p for names, one in compared.items()})
    pairs = tuple(Pair(*names, one, corrected[names], least) for names, one in compared.items())
    return Ranking(tuple(ordered), pairs, fewest)


def _holm(ps: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Corrected p of each pair (Holm, A simple sequentially rejective multiple test procedure, 1979)."""
    corrected: dict[tuple[str, str], float] = {}
    largest = 0.0
    for place, names in enumerate(sorted(ps, key=lambda names: ps[names])):
        largest = max(largest, min(1.0, ps[names] * (len(ps) - place)))
        corrected[names] = largest
    return corrected
