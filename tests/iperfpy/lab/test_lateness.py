"""The histogram of lateness."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.lab.lateness import BINS, UNIT_US, Lateness


def test_quantiles_are_exact_to_a_bin() -> None:
    late = Lateness()
    values = np.random.default_rng(1).exponential(500.0, 20_000)
    for part in np.array_split(values, 777):
        late.add(part)
    for share in (0.1, 0.5, 0.99):
        assert late.quantile_us(share) == pytest.approx(np.quantile(values, share), abs=2 * UNIT_US)
    assert late.most_us == values.max()


def test_nothing_delivered_is_not_late() -> None:
    assert Lateness().quantile_us(0.99) == 0.0


def test_lateness_beyond_the_histogram_is_at_its_end() -> None:
    late = Lateness()
    late.add(np.array([1e9, -5.0]))
    assert late.quantile_us(1.0) == BINS * UNIT_US
    assert late.quantile_us(0.5) == UNIT_US
