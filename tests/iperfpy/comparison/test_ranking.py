"""Which contenders differ: true differences are found, and equal contenders are rarely ranked."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from iperfpy.comparison.ranking import MATTERS, SIGNIFICANT, enough, rank

SEEDS = 200


def drawn(means: dict[str, float], count: int, seed: int, spread: float = 0.03) -> dict[str, list[float]]:
    """Values around each mean, with a relative standard deviation."""
    draws = Random(seed)
    return {name: [draws.gauss(mean, spread * mean) for _ in range(count)] for name, mean in means.items()}


@pytest.mark.parametrize("count", [6, 9])
@pytest.mark.parametrize("names", ["ab", "abcd"])
def test_equal_contenders_are_rarely_ranked(names: str, count: int) -> None:
    means = dict.fromkeys(names, 20e6)
    wrong = sum(bool(rank(drawn(means, count, seed)).behind) for seed in range(SEEDS))
    # Holm's correction keeps the share of comparisons with any difference below 5 %.
    assert wrong <= 0.05 * SEEDS + 3 * (0.05 * 0.95 * SEEDS) ** 0.5


def test_a_true_difference_is_found() -> None:
    means = {"a": 20e6, "b": 19.9e6, "c": 15e6, "d": 10e6}
    for seed in range(30):
        ranking = rank(drawn(means, 8, seed, 0.01))
        assert set(ranking.best) == {"a", "b"}
        assert [pair.second for pair in ranking.behind] == ["c", "d"]
        assert ranking.behind[0].shift == pytest.approx(-0.25, abs=0.03)


def test_a_difference_that_is_certain_and_small_decides_nothing() -> None:
    ranking = rank(drawn({"a": 20e6, "b": 20e6 * (1 - MATTERS / 2)}, 12, 1, 1e-4))
    (pair,) = ranking.pairs
    assert pair.p < SIGNIFICANT
    assert not pair.different
    assert set(ranking.best) == {"a", "b"}


def test_an_absolute_difference_that_does_not_matter_decides_nothing() -> None:
    values = drawn({"a": 100.0, "b": 150.0}, 8, 1, 0.01)
    assert rank(values, smaller_is_better=True).best == ("a",)
    assert rank(values, smaller_is_better=True, least=100.0).best == ("a", "b")


def test_for_times_the_smallest_is_the_best() -> None:
    ranking = rank(drawn({"a": 300.0, "b": 100.0}, 6, 1), smaller_is_better=True)
    assert ranking.names == ("b", "a")
    assert ranking.behind[0].shift == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize(("contenders", "needed"), [(2, 4), (3, 5), (4, 5), (5, 6)])
def test_too_few_tests_rank_nobody(contenders: int, needed: int) -> None:
    """The smallest p of an exact test, times the number of pairs, must be below 5 %."""
    means = {name: 10.0 ** (place + 1) for place, name in enumerate("abcde"[:contenders])}
    assert not rank(drawn(means, needed - 1, 1)).decides
    assert all(pair.different for pair in rank(drawn(means, needed, 1)).pairs)
    assert enough([needed] * contenders)
    assert not enough([9])


def test_every_pair_has_a_corrected_p() -> None:
    ranking = rank(drawn(dict.fromkeys("abcd", 1.0), 7, 3))
    assert {frozenset((pair.first, pair.second)) for pair in ranking.pairs} == {
        frozenset(pair) for pair in combinations("abcd", 2)
    }
    assert all(pair.compared.p <= pair.p <= 1.0 for pair in ranking.pairs)
    ordered = sorted(ranking.pairs, key=lambda pair: pair.compared.p)
    assert [pair.p for pair in ordered] == sorted(pair.p for pair in ordered)
