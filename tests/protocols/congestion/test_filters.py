"""The windowed maximum against its definition, over random sequences."""

from __future__ import annotations

import random

import pytest

from iperfpy.protocols.congestion.filters import WindowedMax


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("window", [1, 2, 10])
def test_the_maximum_matches_its_definition(seed: int, window: int) -> None:
    rng = random.Random(seed)
    greatest = WindowedMax(window)
    seen: list[tuple[int, float]] = []
    now = 0
    for _ in range(500):
        now += rng.choice((0, 0, 1, 3))
        value = rng.uniform(-5.0, 5.0)
        seen.append((now, value))
        inside = [v for t, v in seen if t > now - window]
        assert greatest.update(now, value) == max(inside)


def test_the_last_value_survives_an_empty_window() -> None:
    greatest = WindowedMax(2)
    greatest.update(0, 9.0)
    greatest.update(1, 4.0)
    assert greatest.advance(1) == 9.0
    assert greatest.advance(2) == 4.0
    assert greatest.advance(100) == 4.0


def test_the_maximum_is_zero_before_the_first_sample_and_after_clear() -> None:
    greatest = WindowedMax(3)
    assert greatest.value == 0.0
    greatest.update(0, 7.0)
    greatest.clear()
    assert greatest.value == 0.0


def test_memory_is_bounded_by_the_window() -> None:
    greatest = WindowedMax(10)
    for step in range(10_000):
        greatest.update(step // 100, float(-step))
    assert len(greatest._falling) <= 10
