"""Two sides of runs compared: the verdict, the exit status, and the number of runs that are lacking."""

from __future__ import annotations

import pytest

from iperfpy.plan import Direction
from iperfpy.store.difference import ChangeVerdict, Difference, FigureDifference, differences
from iperfpy.store.run_samples import Group, RunSample

DOWN = Group("kcp-bbr", Direction.REVERSE)
QUIET = (1.0, 1.006, 0.994, 1.003, 0.998)
"""Ratios of five runs to their level."""


def side(
    level: float, ratios: tuple[float, ...] = QUIET, group: Group = DOWN, **more: float
) -> list[RunSample]:
    figures = [{"bits_per_second": level * ratio, **more} for ratio in ratios]
    return [RunSample(group, one, (one["bits_per_second"],) * 12, 1.0) for one in figures]


def rate(found: Difference) -> FigureDifference:
    return found.groups[0].figures[0]


def test_a_fall_beyond_noise_is_a_regression() -> None:
    found = differences(side(20e6), side(19e6))
    one = rate(found)
    assert (one.verdict, one.fails, found.status) == (ChangeVerdict.WORSE, True, 1)
    assert one.p == pytest.approx(2 / 252)
    assert one.shift is not None
    assert one.shift.value == pytest.approx(-0.05, abs=0.003)
    assert one.absolute is not None
    assert one.absolute.value == pytest.approx(-1e6, abs=6e4)


def test_a_rise_is_better_and_no_regression() -> None:
    found = differences(side(19e6), side(20e6))
    assert (rate(found).verdict, found.status) == (ChangeVerdict.BETTER, 0)


def test_equal_runs_that_vary_little_are_alike() -> None:
    found = differences(side(20e6), side(20.01e6))
    assert (rate(found).verdict, found.status) == (ChangeVerdict.ALIKE, 0)
    noise = rate(found).noise
    assert noise is not None
    assert noise < 0.02


def test_equal_runs_that_vary_much_cannot_be_told_apart() -> None:
    wide = (1.0, 1.3, 0.7, 1.15, 0.9)
    found = differences(side(20e6, wide), side(20.1e6, wide))
    assert (rate(found).verdict, found.status) == (ChangeVerdict.UNKNOWN, 3)
    further = rate(found).further
    assert further is not None
    assert further > 50


@pytest.mark.parametrize(
    ("level", "verdict", "status"),
    [
        (18e6, ChangeVerdict.WORSE, 1),  # by 10 %
        (19.4e6, ChangeVerdict.WORSE, 0),  # by 3 %: a fall, which the user accepts
        (19.05e6, ChangeVerdict.UNKNOWN, 3),  # by 4.75 %, perhaps 5 %
        (20e6, ChangeVerdict.ALIKE, 0),
    ],
)
def test_a_bound_accepts_smaller_falls(level: float, verdict: ChangeVerdict, status: int) -> None:
    found = differences(side(20e6), side(level), 0.05)
    assert (rate(found).verdict, found.status) == (verdict, status)


@pytest.mark.parametrize(("first", "second", "further"), [(1, 2, 3), (3, 3, 1), (5, 3, 1), (5, 1, 3)])
def test_fewer_than_four_runs_of_a_side_tell_nothing(first: int, second: int, further: int) -> None:
    found = differences(side(20e6, QUIET[:first]), side(10e6, QUIET[:second]))
    assert (rate(found).verdict, found.status) == (ChangeVerdict.UNKNOWN, 3)
    assert rate(found).further == further
    assert rate(found).p is None


def series(level: float, swing: float, length: int = 30) -> list[RunSample]:
    values = tuple(level * (1 + swing * (-1) ** (number // 3)) for number in range(length))
    return [RunSample(DOWN, {"bits_per_second": level, "rtt_us": 40_000.0}, values, 1.0)]


def test_one_run_of_each_side_is_compared_within_itself() -> None:
    found = differences(series(20e6, 0.03), series(18e6, 0.03))
    assert found.groups[0].within_one_run
    assert (rate(found).verdict, found.status) == (ChangeVerdict.WORSE, 1)
    assert found == differences(series(20e6, 0.03), series(18e6, 0.03))


def test_a_small_fall_within_one_run_proves_nothing() -> None:
    found = differences(series(20e6, 0.001), series(19.6e6, 0.001))
    assert (rate(found).verdict, found.status) == (ChangeVerdict.ALIKE, 0)


def test_a_short_run_cannot_be_compared_within_itself() -> None:
    found = differences(series(20e6, 0.03, 4), series(10e6, 0.03, 4))
    assert (rate(found).verdict, found.status, rate(found).further) == (ChangeVerdict.UNKNOWN, 3, 3)


def test_other_figures_count_from_an_absolute_bound_on() -> None:
    """0.9 ms and 0.09 points are none, whatever the ranks say."""
    first = side(20e6, rtt_us=1_000.0, resent_percent=0.0)
    for rtt, resent, verdict in (
        (1_900.0, 0.09, ChangeVerdict.ALIKE),
        (2_100.0, 0.11, ChangeVerdict.UNKNOWN),
    ):
        found = differences(first, side(20e6, rtt_us=rtt, resent_percent=resent))
        assert [one.verdict for one in found.groups[0].figures[1:]] == [
            ChangeVerdict.WORSE if rtt > 2_000 else ChangeVerdict.ALIKE,
            verdict,  # five runs a side are too few for the third figure
        ]
    more = (*QUIET, 1.001)
    found = differences(
        side(20e6, more, rtt_us=1_000.0, resent_percent=0.0),
        side(20e6, more, rtt_us=1_000.0, resent_percent=0.11),
    )
    assert found.groups[0].figures[2].verdict is ChangeVerdict.WORSE
    assert found.status == 1


def test_a_figure_that_one_side_does_not_know_is_not_compared() -> None:
    found = differences(side(20e6, rtt_us=1.0), side(20e6))
    assert [one.figure.name for one in found.groups[0].figures] == ["bits_per_second"]


def test_groups_are_compared_with_their_own_kind() -> None:
    up = Group("kcp-bbr", Direction.FORWARD)
    both = Group("kcp-bbr", Direction.REVERSE, loaded_both_ways=True)
    tcp = Group("tcp bbr", Direction.REVERSE)
    found = differences(
        [*side(20e6), *side(10e6, group=up), *side(5e6, group=both)],
        [*side(20e6), *side(8e6, group=up), *side(5e6, group=tcp)],
    )
    assert [one.group.name for one in found.groups] == ["kcp-bbr down", "kcp-bbr up"]
    assert found.only == (("kcp-bbr down (of both)",), ("tcp bbr down",))
    assert [one.status for one in found.groups] == [0, 1]
    assert found.status == 1


def test_a_rate_of_zero_has_no_share() -> None:
    found = differences(side(20e6), [*side(10e6, QUIET[:4]), *side(0.0, (1.0,))])
    one = rate(found)
    assert (one.verdict, found.status) == (ChangeVerdict.WORSE, 1)
    assert one.shift is not None
    assert one.shift.value == pytest.approx(-0.5, abs=0.02)
    nothing = differences(side(0.0), side(20e6))
    assert (rate(nothing).verdict, nothing.status) == (ChangeVerdict.BETTER, 0)
