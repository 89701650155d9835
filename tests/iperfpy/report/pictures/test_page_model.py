"""The shapes of a page: ellipses, distributions, quartiles, and a long test with fewer points."""

from __future__ import annotations

import random
from math import hypot

import pytest

from iperfpy.report.pictures.axis_scale import round_ticks, scale_for, short_number
from iperfpy.report.pictures.page_model import (
    LimitShare,
    Panel,
    Ribbon,
    Timeline,
    Trace,
    ellipse_of,
    quantile_curve,
    quartiles,
)
from iperfpy.report.pictures.thinning import thinned


def test_an_ellipse_has_the_standard_deviations_as_half_axes() -> None:
    points = [(10 + x, 20 + y) for x in (-2.0, 2.0) for y in (-1.0, 1.0)]
    found = ellipse_of(points)
    assert found is not None
    assert found.centre == (10, 20)
    # Sample variances of these four points: 16/3 and 4/3.
    assert hypot(*found.first) == pytest.approx((16 / 3) ** 0.5)
    assert hypot(*found.second) == pytest.approx((4 / 3) ** 0.5)
    assert abs(found.first[1]) < 1e-9


def test_points_on_a_line_have_an_ellipse_without_a_width() -> None:
    found = ellipse_of([(float(x), 3.0 * x) for x in range(9)])
    assert found is not None
    assert hypot(*found.second) == pytest.approx(0.0, abs=1e-6)
    assert found.first[1] / found.first[0] == pytest.approx(3.0)


def test_two_points_have_no_ellipse() -> None:
    assert ellipse_of([(1.0, 2.0), (2.0, 3.0)]) is None


def test_a_long_distribution_keeps_its_tail() -> None:
    chance = random.Random(3)
    samples = [chance.expovariate(1.0) for _ in range(20_000)]
    curve = quantile_curve("kcp", 0, samples, most=200)
    assert len(curve.points) <= 200
    assert curve.samples == 20_000
    assert curve.points[0][0] == min(samples)
    assert curve.points[-1][0] == max(samples)
    assert sum(share > 0.99 for _, share in curve.points) > 30
    # Each point is a sample with its own rank.
    ordered = sorted(samples)
    for value, share in curve.points:
        assert ordered[round(share * 20_001) - 1] == value


def test_a_short_distribution_is_not_thinned() -> None:
    assert quantile_curve("", 0, [3.0, 1.0, 2.0]).points == ((1.0, 0.25), (2.0, 0.5), (3.0, 0.75))


def test_quartiles_are_interpolated() -> None:
    assert quartiles([4.0, 1.0, 3.0, 2.0]) == (1.0, 1.75, 2.5, 3.25, 4.0)
    assert quartiles([7.0]) == (7.0,) * 5


def long_timeline(count: int) -> Timeline:
    """Noise with one peak, one valley, a gap, and a limit that changes in the middle."""
    chance = random.Random(1)
    values: list[float | None] = [50 + chance.random() for _ in range(count)]
    values[count // 3], values[count // 2], values[5] = 900.0, 1.0, None
    known = [50.0 if value is None else value for value in values]
    lows, highs = tuple(value - 2 for value in known), tuple(value + 2 for value in known)
    half = tuple(1.0 if index < count // 2 else 0.0 for index in range(count))
    panel = Panel("Throughput", "Mbit/s", (Trace("up", 0, tuple(values), lows, highs),))
    ribbon = Ribbon("Limit", (LimitShare("pacing", 0, half),))
    return Timeline("Over time", tuple(map(float, range(count))), float(count), (panel,), (ribbon,))


@pytest.mark.parametrize("count", [2001, 7201, 86_400])
def test_a_long_test_keeps_extremes_and_means(count: int) -> None:
    whole = long_timeline(count)
    short = thinned(whole, 2000)
    assert 1000 < len(short.starts_s) <= 2000
    assert list(short.starts_s) == sorted(set(short.starts_s))
    (trace,), (limit,) = short.panels[0].traces, short.ribbons[0].limits
    assert max(value for value in trace.values if value is not None) == 900.0
    assert min(value for value in trace.values if value is not None) == 1.0
    assert max(value for value in trace.highs if value is not None) == 902.0
    assert min(value for value in trace.lows if value is not None) == -1.0
    shares = [share for share in limit.shares if share is not None]
    assert sum(shares) / len(shares) == pytest.approx(0.5, abs=0.01)
    # The peak stays in the order of time, near its place.
    assert short.starts_s[trace.values.index(900.0)] == pytest.approx(count // 3, abs=2 * count / 1000)
    assert f"{count:,} intervals" in short.note


def test_a_short_test_is_shown_as_it_is() -> None:
    whole = long_timeline(2000)
    assert thinned(whole, 2000) is whole


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 100, [0, 20, 40, 60, 80, 100]), (0.013, 0.06, [0.02, 0.03, 0.04, 0.05, 0.06]), (-3, 3, [-2, 0, 2])],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert round_ticks(low, high) == pytest.approx(ticks)


def test_a_wide_range_of_delays_is_logarithmic() -> None:
    scale = scale_for([0.05, 3.0, 900.0], 0, 100, may_be_log=True)
    assert scale.logarithmic
    assert 0.1 in [round(tick, 6) for tick in scale.ticks()]
    assert scale.at(0.05) < scale.at(3.0) < scale.at(900.0)
    assert not scale_for([0.0, 900.0], 0, 100, may_be_log=True).logarithmic


def test_a_scale_of_one_value_has_a_width() -> None:
    assert scale_for([5.0], 0, 100).at(5.0) == pytest.approx(50)
    assert scale_for([], 0, 100).high > 0


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.05, "0.05"), (12.5, "12.5"), (1250, "1,250"), (2_000_000, "2,000,000")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short_number(value) == text
