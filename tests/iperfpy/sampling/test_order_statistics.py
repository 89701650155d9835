"""Statistics of few runs, against enumeration, published tables and simulated data."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from iperfpy.sampling import order_statistics as stats


def enumerated_p(first: list[float], second: list[float]) -> float:
    """Two-sided p by every division of the values: pairs won, ties as half."""

    def won(a: tuple[float, ...], b: tuple[float, ...]) -> float:
        return sum((x > y) + (x == y) / 2 for x in a for y in b)

    values = [*first, *second]
    seen = won(tuple(first), tuple(second))
    counts = []
    for chosen in itertools.combinations(range(len(values)), len(first)):
        inside = tuple(values[i] for i in chosen)
        counts.append(won(inside, tuple(values[i] for i in range(len(values)) if i not in chosen)))
    tails = (sum(one <= seen for one in counts), sum(one >= seen for one in counts))
    return min(1.0, 2 * min(tails) / len(counts))


def test_fewer_than_six_values_have_a_range_and_six_an_interval() -> None:
    five, six = stats.median_interval([5, 1, 4, 2, 3]), stats.median_interval([5, 1, 4, 2, 3, 6])
    assert (five.median, five.low, five.high, five.confidence) == (3, 1, 5, None)
    assert (six.median, six.low, six.high) == (3.5, 1, 6)
    assert six.confidence == pytest.approx(1 - 2 / 2**6)
    assert five.is_range


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (8, 1), (9, 2), (12, 3), (20, 6), (30, 10), (50, 18)])
def test_the_ranks_of_the_median_interval_are_those_of_the_published_table(n: int, rank: int) -> None:
    """The sign test's critical values at 0.05, two-sided."""
    interval = stats.median_interval(range(1, n + 1))
    assert (interval.low, interval.high) == (rank, n + 1 - rank)


def test_the_median_interval_covers_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    intervals = [stats.median_interval(rng.lognormal(size=11)) for _ in range(2_000)]
    covered = np.mean([one.low <= 1 <= one.high for one in intervals])
    assert intervals[0].confidence == pytest.approx(0.98828125)
    assert covered == pytest.approx(0.988, abs=0.01)


@pytest.mark.parametrize("ties", [False, True])
def test_the_exact_p_is_that_of_all_divisions(ties: bool) -> None:
    rng = np.random.default_rng(5)
    for n, m in itertools.product((1, 2, 4, 5), (1, 3, 5)):
        values = rng.integers(0, 5 if ties else 10**6, n + m).astype(float).tolist()
        assert stats.mann_whitney_p(values[:n], values[n:]) == pytest.approx(
            enumerated_p(values[:n], values[n:])
        )


def test_p_of_separate_and_of_equal_sides() -> None:
    assert stats.mann_whitney_p([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(2 / 70)
    assert stats.mann_whitney_p([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1)
    assert stats.mann_whitney_p([7] * 5, [7] * 5) == 1


def test_exact_and_approximate_p_agree_where_one_ends_and_the_other_begins() -> None:
    rng = np.random.default_rng(8)
    for ties in (1, 1000):
        a, b = (np.round(rng.normal(mean, 1, 50) * ties) for mean in (0, 0.45))
        exact = stats.mann_whitney_p(a, b)
        ranks = stats._doubled_ranks(np.concatenate([a, b]))
        assert stats._normal_p(ranks, 50, int(ranks[:50].sum())) == pytest.approx(exact, abs=0.001)


@pytest.mark.parametrize(
    ("n", "m", "rank"), [(3, 3, 0), (3, 5, 1), (4, 4, 1), (5, 5, 3), (6, 6, 6), (10, 10, 24), (20, 20, 128)]
)
def test_the_shift_interval_uses_the_critical_values_of_the_published_table(
    n: int, m: int, rank: int
) -> None:
    """Mann and Whitney's critical U at 0.05, two-sided, plus one."""
    assert stats._interval_rank(n, m, 0.95) == rank


def test_the_rank_of_the_shift_interval_is_continuous_where_the_approximation_begins() -> None:
    assert abs(stats._interval_rank(50, 51, 0.95) - stats._interval_rank(50, 50, 0.95)) < 30


def test_shift_of_the_textbook_pair_and_its_sign() -> None:
    shift = stats.hodges_lehmann([1, 2, 3, 4], [5, 6, 7, 8.5])
    assert (shift.value, shift.low, shift.high) == (4, 1, 7.5)
    assert shift.excludes_zero
    assert stats.hodges_lehmann([5, 6, 7, 8.5], [1, 2, 3, 4]).value == -4
    assert stats.hodges_lehmann([1, 2, 3], [4, 5, 6]) == stats.Shift(3, None, None)


def test_the_shift_interval_covers_the_shift() -> None:
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(1_000):
        shift = stats.hodges_lehmann(rng.standard_t(3, 5), rng.standard_t(3, 5) + 2)
        assert shift.low is not None
        assert shift.high is not None
        covered += shift.low <= 2 <= shift.high
    assert covered / 1_000 == pytest.approx(0.968, abs=0.015)


def test_the_relative_shift_is_that_of_the_ratios() -> None:
    shift = stats.hodges_lehmann_relative([10, 20, 40, 80], [9, 18, 36, 72])
    assert shift is not None
    assert shift.value == pytest.approx(-0.1)
    assert stats.hodges_lehmann_relative([0, 1], [1, 2]) is None


def test_the_relative_shift_does_not_depend_on_the_unit() -> None:
    a, b = [10.0, 10.3, 9.9, 10.1, 10.2], [9.5, 9.6, 9.4, 9.7, 9.55]
    assert (
        stats.compare_runs(a, b).relative
        == stats.compare_runs(np.array(a) * 1024, np.array(b) * 1024).relative
    )


def autocorrelated(rng: np.random.Generator, n: int, correlation: float) -> stats.Floats:
    noise = rng.normal(size=n + 30)
    values = np.zeros(n + 30)
    for i in range(1, len(values)):
        values[i] = correlation * values[i - 1] + noise[i]
    return values[30:] + 50


@pytest.mark.parametrize(("count", "correlation"), [(60, -0.4), (60, 0.0), (60, 0.4), (60, 0.6), (20, 0.6)])
def test_equal_autocorrelated_series_are_rarely_called_different(count: int, correlation: float) -> None:
    rng = np.random.default_rng(9)
    called = 0
    for seed in range(200):
        a, b = (autocorrelated(rng, count, correlation) for _ in range(2))
        called += stats.compare_series(a, b, 2, seed, resamples=300).shift.excludes_zero
    assert called / 200 <= 0.09


def test_independent_tests_of_the_intervals_would_call_them_different() -> None:
    """The reason for runs, or blocks, as samples."""
    rng = np.random.default_rng(9)
    p = [stats.mann_whitney_p(autocorrelated(rng, 20, 0.6), autocorrelated(rng, 20, 0.6)) for _ in range(100)]
    assert np.mean(np.array(p) < 0.05) > 0.15


def test_a_series_comparison_finds_a_shift_and_repeats_with_its_seed() -> None:
    rng = np.random.default_rng(2)
    a, b = autocorrelated(rng, 40, 0.3), autocorrelated(rng, 40, 0.3) * 0.9
    first = stats.compare_series(a, b, 2, 1)
    assert first == stats.compare_series(a, b, 2, 1)
    assert first != stats.compare_series(a, b, 2, 2)
    assert first.shift.excludes_zero
    assert first.relative is not None
    assert first.relative.value == pytest.approx(-0.1, abs=0.02)


def test_a_series_of_two_blocks_has_no_interval() -> None:
    result = stats.compare_series([1.0] * 5, [2.0] * 40, 2, 1)
    assert (result.shift.value, result.shift.low, result.blocks) == (1, None, 2)


def test_a_block_is_two_seconds_or_eight_round_trips() -> None:
    assert stats.block_length(1) == 2
    assert stats.block_length(0.1) == 20
    assert stats.block_length(1, 0.6) == 5
    assert stats.block_length(10) == 1


def test_the_number_of_runs_grows_with_the_spread_and_keeps_its_promise() -> None:
    assert stats.runs_needed(0.5, 5) == stats.FEWEST_A_SIDE
    rng = np.random.default_rng(4)
    for spread in (3.0, 5.0):
        needed = stats.runs_needed(spread, 5)
        shown = [
            stats.mann_whitney_p(rng.normal(100, spread, needed), rng.normal(95, spread, needed)) < 0.05
            for _ in range(150)
        ]
        assert 0.83 <= np.mean(shown) <= 0.97


def test_further_runs_of_one_run_a_side_are_not_known() -> None:
    assert stats.further_runs([10], [9], 0.05) is None
    assert stats.further_runs([10, 10.1], [9, 9.1], 0.05) == 2
    assert stats.further_runs([10, 10.1] * 3, [9, 9.1] * 3, 0.05) == 0


def test_students_quantile() -> None:
    for degrees, value in ((3, 3.182), (4, 2.776), (8, 2.306), (30, 2.042)):
        assert stats.student_quantile(0.975, degrees) == pytest.approx(value, rel=0.005)


@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf, 1.0]])
def test_values_that_are_no_numbers_are_refused(bad: list[float]) -> None:
    for call in (stats.median_interval, stats.run_spread):
        with pytest.raises(ValueError, match="value"):
            call(bad)
    with pytest.raises(ValueError, match="value"):
        stats.mann_whitney_p([1.0], bad)
