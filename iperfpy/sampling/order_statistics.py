"""Statistics of few runs from the order of their values: no distribution is assumed.

    values of the runs of one side     --median_interval-->  median with its interval, or the range
    values of the runs of two sides    --compare_runs----->  exact p, shift with its exact interval
    interval series of one run a side  --compare_series--->  shift with a bootstrap interval
    values, or two sides, and an effect --> number of runs that show it

Values within one run are autocorrelated (BBR's probing cycle, CUBIC's sawtooth), so runs are the samples of
a comparison. Two single runs allow a statement about these two runs only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
FEWEST_FOR_MEDIAN = 6
"""Fewest values with a 95 % interval of the median: of 5, the range covers it with 93.75 %."""
FEWEST_A_SIDE = 4
"""Fewest runs of each side for the exact test: of 3 + 3 runs, the smallest two-sided p is 0.1."""
MOST_EXACT = 100
"""Most values of both sides together for the exact distribution of ranks: 0.1 s of processor time. Above,
the normal approximation is used, with an error below 0.001 there."""
MOST_CORRELATED = 0.95
"""Largest lag-1 autocorrelation that a bootstrap of one run allows for: above, the run is one long wave."""
WILCOXON_EFFICIENCY = 3 / math.pi
"""Efficiency of the rank test relative to the t test for normal values (Lehmann, Nonparametrics, 1975)."""


@dataclass(frozen=True, slots=True)
class MedianInterval:
    """The median of some values, and where the median of their source is.

    Attributes
    ----------
    n : number of values
    median : of the values, in their unit
    low, high : ends of the interval, or the range of the values if they are too few for an interval
    confidence : probability that an interval made like this covers the true median, at least the one asked
        for; None if `low` and `high` are the range
    """

    n: int
    median: float
    low: float
    high: float
    confidence: float | None

    @property
    def is_range(self) -> bool:
        """True if there are too few values for an interval."""
        return self.confidence is None


@dataclass(frozen=True, slots=True)
class Shift:
    """Difference of two sides, second minus first.

    Attributes
    ----------
    value : estimate, in the unit of the values
    low, high : ends of its interval; None if there are too few values for one
    """

    value: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """True if the interval exists and lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two sides of runs, one value for each run.

    Attributes
    ----------
    p : two-sided probability of ranks at least as unequal if both sides have one distribution
    exact : True if p and the interval come from the exact distribution, False for its normal approximation
    shift : Hodges-Lehmann estimate in the unit of the values, with its interval
    relative : Hodges-Lehmann estimate of the ratios second / first - 1; None unless all values are positive
    """

    p: float
    exact: bool
    shift: Shift
    relative: Shift | None


@dataclass(frozen=True, slots=True)
class SeriesComparison:
    """Two single runs, by their interval series. It says nothing about further runs.

    Attributes
    ----------
    shift : difference of the means, in the unit of the values, with its interval
    relative : the same as a share of the first mean, or None unless that is positive
    block : intervals in a block
    blocks : whole blocks in the shorter series
    """

    shift: Shift
    relative: Shift | None
    block: int
    blocks: int


def median_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> MedianInterval:
    """Median with a non-parametric interval between two order statistics.

    The k-th smallest and the k-th largest of n values enclose the median with probability
    1 - 2 P(B < k), B binomial(n, 1/2): the widest k that keeps the confidence is taken (David and Nagaraja,
    Order Statistics, 2003, sec. 7.1; CONFIRM, Maricq et al., OSDI 2018, uses it for benchmarks).

    Parameters
    ----------
    values : (n,) finite numbers, n >= 1
    confidence : least probability of covering the median, in (0, 1)

    Raises
    ------
    ValueError
        There is no value, or one is not finite.
    """
    ordered = np.sort(_finite(values))
    n = len(ordered)
    rank, covered = 0, None
    # tail: probability that fewer than k values lie below the median, so that the interval lies above it.
    tail = 0.0
    for k in range(1, n // 2 + 1):
        tail += math.comb(n, k - 1) / 2**n
        if 1 - 2 * tail < confidence:
            break
        rank, covered = k, 1 - 2 * tail
    low, high = (ordered[rank - 1], ordered[n - rank]) if rank else (ordered[0], ordered[-1])
    return MedianInterval(n, float(np.median(ordered)), float(low), float(high), covered)


def mann_whitney_p(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p of the Mann-Whitney U test (Mann and Whitney, 1947), exact with ties as well.

    Up to `MOST_EXACT` values it is exact: the distribution of the rank sum over all divisions of the values
    into the two sides, with the mean rank for equal values. p is twice the smaller tail, at most 1. Above,
    the normal approximation with corrections for ties and continuity is used (Lehmann, Nonparametrics,
    1975, sec. 1.3 and 1.4).

    Parameters
    ----------
    first, second : (n,) and (m,) finite numbers, n, m >= 1

    Raises
    ------
    ValueError
        A side is empty, or a value is not finite.
    """
    a, b = _finite(first), _finite(second)
    # Ranks, not values: equal values share a rank, and the distribution depends on the ranks alone.
    doubled = _doubled_ranks(np.concatenate([a, b]))
    total = int(doubled[: len(a)].sum())
    if len(doubled) > MOST_EXACT:
        return _normal_p(doubled, len(a), total)
    probability = _rank_sum_distribution(doubled, len(a))
    below, above = probability[: total + 1].sum(), probability[total:].sum()
    return float(min(1.0, 2 * min(below, above)))


def hodges_lehmann(first: ArrayLike, second: ArrayLike, confidence: float = CONFIDENCE) -> Shift:
    """Median of all differences second - first, with the interval that inverts the Mann-Whitney test.

    The interval lies between the k-th smallest and the k-th largest of the n m differences, with the largest
    k for which 2 P(U < k) <= 1 - confidence (Hodges and Lehmann, 1963; Hollander and Wolfe, Nonparametric
    Statistical Methods, sec. 4.3). There is none if even k = 1 is too narrow, as of 3 + 3 values. Ties make
    it cover the shift more often than asked for.

    Raises
    ------
    ValueError
        A side is empty, or a value is not finite.
    """
    a, b = _finite(first), _finite(second)
    return _pairwise(np.subtract.outer(b, a), confidence)


def hodges_lehmann_relative(
    first: ArrayLike, second: ArrayLike, confidence: float = CONFIDENCE
) -> Shift | None:
    """`hodges_lehmann` of the logarithms, as a share: median of the ratios second / first, minus 1.

    None unless all values are positive: a share of zero has no meaning.
    """
    a, b = _finite(first), _finite(second)
    if a.min() <= 0 or b.min() <= 0:
        return None
    return _pairwise(np.divide.outer(b, a) - 1, confidence)


def compare_runs(first: ArrayLike, second: ArrayLike, confidence: float = CONFIDENCE) -> RunComparison:
    """Compare two sides by one value of each run. Raises `ValueError` as `mann_whitney_p` does."""
    a, b = _finite(first), _finite(second)
    return RunComparison(
        p=mann_whitney_p(a, b),
        exact=len(a) + len(b) <= MOST_EXACT,
        shift=hodges_lehmann(a, b, confidence),
        relative=hodges_lehmann_relative(a, b, confidence),
    )


def block_length(interval_s: float, rtt_s: float = 0.0, *, least_s: float = 2.0, rtts: float = 8.0) -> int:
    """Intervals in a bootstrap block: at least 2 s, and a cycle of BBR's bandwidth probing (8 RTT)."""
    if not interval_s > 0:
        raise ValueError("an interval must be longer than 0 s")
    return max(1, math.ceil(max(least_s, rtts * rtt_s) / interval_s - 1e-9))


def compare_series(
    first: ArrayLike,
    second: ArrayLike,
    block: int,
    seed: int,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = 2_000,
) -> SeriesComparison:
    """Compare the means of two autocorrelated series by a moving-block bootstrap (Kuensch, 1989).

    Each resample puts blocks of consecutive values together, with random beginnings, so that the correlation
    within a block stays. Three factors widen the spread of the resampled means, which is too narrow for short
    series: sqrt(n / (n - block)), because overlapping blocks of one series vary less than independent ones;
    Student's quantile over the normal one, because the spread is known from few blocks; and the correlation
    from block to block, by the lag-1 autocorrelation of the two series (`_beyond_blocks`).

    Parameters
    ----------
    first, second : (n,) and (m,) finite numbers, one an interval, in order
    block : intervals in a block, see `block_length`
    seed : of the random numbers; one seed gives one result
    resamples : number of resampled means of each series

    Returns
    -------
    SeriesComparison
        Its shifts have no interval if one of the series is shorter than 3 blocks.

    Raises
    ------
    ValueError
        A series is empty, a value is not finite, or `block` is below 1.
    """
    a, b = _finite(first), _finite(second)
    if block < 1:
        raise ValueError("a block has at least one interval")
    blocks = min(len(a), len(b)) // block
    difference, base = float(b.mean() - a.mean()), float(a.mean())
    low: float | None = None
    high: float | None = None
    if blocks >= 3:
        rng = np.random.default_rng(seed)
        correlation = _lag_one(a, b)
        spread = _resampled(b, block, resamples, rng) - _resampled(a, block, resamples, rng)
        degrees = len(a) // block + len(b) // block - 2
        widening = student_quantile((1 + confidence) / 2, degrees) / _normal((1 + confidence) / 2)
        widening *= _beyond_blocks(correlation, block)
        tails = np.quantile(spread, [(1 - confidence) / 2, (1 + confidence) / 2]) * widening
        # The basic interval: it turns the tails of the resampled means round the estimate.
        low, high = difference - float(tails[1]), difference - float(tails[0])
    shift = Shift(difference, low, high)
    relative = _scaled(shift, 1 / base) if base > 0 else None
    return SeriesComparison(shift, relative, block, blocks)


def runs_needed(spread: float, effect: float, *, confidence: float = CONFIDENCE, power: float = 0.9) -> int:
    """Runs of each side that show a shift `effect` with the Mann-Whitney test, in `power` of the cases.

    n = 2 (z_c + z_p)^2 (spread / effect)^2 / (3 / pi) + z_c^2 / 4, rounded up: the sample size of a t test
    with Guenther's correction for small n (1981), divided by the efficiency of the rank test. At least
    `FEWEST_A_SIDE`.

    Parameters
    ----------
    spread : standard deviation of the runs, see `run_spread`
    effect : size of the shift in the same unit, above 0

    Raises
    ------
    ValueError
        `effect` is not above 0, or `spread` is negative or not finite.
    """
    if not effect > 0 or not 0 <= spread < math.inf:
        raise ValueError("the effect must be above 0, and the spread a number from 0")
    level, chance = _normal((1 + confidence) / 2), _normal(power)
    # Two sides vary, so the variance of their difference is twice that of one.
    sides = 2 * ((level + chance) * spread / effect) ** 2 / WILCOXON_EFFICIENCY + level**2 / 4
    return max(FEWEST_A_SIDE, math.ceil(sides))


def run_spread(*sides: ArrayLike) -> float | None:
    """Pooled standard deviation of runs around the means of their sides, as a share of the mean of all.

    None if no side has two runs, or the mean is not positive.
    """
    groups = [_finite(side) for side in sides]
    degrees = sum(len(group) - 1 for group in groups)
    mean = float(np.concatenate(groups).mean())
    if degrees < 1 or mean <= 0:
        return None
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return math.sqrt(squares / degrees) / mean


def further_runs(
    first: ArrayLike, second: ArrayLike, effect: float, *, confidence: float = CONFIDENCE, power: float = 0.9
) -> int | None:
    """Further runs of each side that would show a relative shift `effect` (0.05: 5 %); 0 if there are enough.

    None if no side has two runs: their spread is not known.
    """
    spread = run_spread(first, second)
    if spread is None:
        return None
    fewest = min(len(_finite(first)), len(_finite(second)))
    return max(0, runs_needed(spread, effect, confidence=confidence, power=power) - fewest)


def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t from the normal one, by the expansion of Cornish and Fisher.

    Abramowitz and Stegun, 26.7.5; from 3 degrees on, the error at 0.975 is below 0.5 %.
    """
    z = _normal(probability)
    v = float(degrees)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v ** (power + 1) for power, term in enumerate(terms))


# -- parts


def _normal(probability: float) -> float:
    return NormalDist().inv_cdf(probability)


def _finite(values: ArrayLike) -> Floats:
    """The values as a (n,) array of float64. Raises ValueError if there is none, or one is not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError("there is no value to compare")
    if not np.isfinite(array).all():
        raise ValueError("a value is not a finite number")
    return array


def _doubled_ranks(values: Floats) -> NDArray[np.int64]:
    """Twice the rank of each value, from 2; equal values share the mean of their ranks. Doubled, so that it
    is whole."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    doubled: NDArray[np.int64] = (2 * last - counts + 1)[inverse.reshape(-1)]
    return doubled


def _rank_sum_distribution(doubled: NDArray[np.int64], chosen: int) -> Floats:
    """Probability of each sum of `chosen` of these whole numbers, if every choice is as likely; by sum."""
    # counts[k, s]: choices of k numbers with sum s. Numbers of up to 29 digits: float64 keeps 15 of them.
    counts = np.zeros((chosen + 1, int(np.sort(doubled)[-chosen:].sum()) + 1))
    counts[0, 0] = 1
    for value in doubled:
        counts[1:, value:] += counts[:-1, : counts.shape[1] - value].copy()
    probability: Floats = counts[chosen] / counts[chosen].sum()
    return probability


def _normal_p(doubled: NDArray[np.int64], n: int, total: int) -> float:
    """Two-sided p of a doubled rank sum of n values, by the normal approximation."""
    everything = len(doubled)
    mean = n * (everything + 1)
    # The variance of a sum drawn without replacement holds for mean ranks, too.
    variance = n * (everything - n) * float(doubled.var()) / (everything - 1)
    if variance <= 0:
        return 1.0
    distance = max(0.0, abs(total - mean) - 1) / math.sqrt(variance)
    return math.erfc(distance / math.sqrt(2))


@lru_cache(maxsize=256)
def _interval_rank(n: int, m: int, confidence: float) -> int:
    """Largest k with 2 P(U < k) <= 1 - confidence for n and m values without ties; 0 if there is none."""
    if n + m > MOST_EXACT:
        spread = math.sqrt(n * m * (n + m + 1) / 12)
        return max(0, math.floor(n * m / 2 - _normal((1 + confidence) / 2) * spread))
    smallest = n * (n + 1)
    # Doubled ranks 2, 4, ...: every second sum, beginning with the smallest one.
    probability = _rank_sum_distribution(np.arange(2, 2 * (n + m) + 2, 2), n)[smallest::2]
    return int(np.searchsorted(np.cumsum(probability), (1 - confidence) / 2 * (1 + 1e-12), side="right"))


def _pairwise(table: Floats, confidence: float) -> Shift:
    """Median of the (m, n) values of all pairs, and the interval between two of them."""
    ordered = np.sort(table, axis=None)
    rank = _interval_rank(table.shape[1], table.shape[0], confidence)
    if not rank:
        return Shift(float(np.median(ordered)), None, None)
    return Shift(float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[-rank]))


def _resampled(series: Floats, block: int, resamples: int, rng: np.random.Generator) -> Floats:
    """(resamples,) deviations of block-resampled means from their centre, widened for a short series."""
    n = len(series)
    # Sums of every block by differences of a cumulative sum; a whole number of blocks covers the series.
    summed = np.concatenate([[0.0], np.cumsum(series)])
    means = (summed[block:] - summed[:-block]) / block
    count = max(1, round(n / block))
    drawn = means[rng.integers(0, len(means), (resamples, count))].mean(axis=1)
    deviations: Floats = (drawn - means.mean()) * math.sqrt(n / (n - block))
    return deviations


def _lag_one(*series: Floats) -> float:
    """Pooled lag-1 autocorrelation, from 0 to `MOST_CORRELATED`.

    The estimate from n values is too small by (1 + 4 r) / n on average (Marriott and Pope, 1954), which is
    solved for r.
    """
    centred = [one - one.mean() for one in series]
    power = sum(float((one**2).sum()) for one in centred)
    shortest = min(len(one) for one in series)
    if power <= 0 or shortest <= 4:  # of so few values the bias is the whole estimate
        return 0.0
    raw = sum(float((one[1:] * one[:-1]).sum()) for one in centred) / power
    return min(MOST_CORRELATED, max(0.0, (raw + 1 / shortest) / (1 - 4 / shortest)))


def _beyond_blocks(correlation: float, block: int) -> float:
    """Standard error of a long mean over the one that independent blocks give, for an AR(1) process.

    n var(mean) tends to s2 (1 + r) / (1 - r); block var(block mean) is less by
    s2 2 r (1 - r^block) / (block (1 - r)^2).
    """
    r = correlation
    long = (1 + r) / (1 - r)
    within = long - 2 * r * (1 - r**block) / (block * (1 - r) ** 2)
    return math.sqrt(long / within)


def _scaled(shift: Shift, factor: float) -> Shift:
    low, high = (None if end is None else end * factor for end in (shift.low, shift.high))
    return Shift(shift.value * factor, low, high)
