"""Variation of the delay belongs to the direction in which datagrams show it; echoes go both ways."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.diagnosis.delay_variation import measure
from iperfpy.diagnosis.evidence import IdlePath
from iperfpy.diagnosis.stretches import Stretch
from iperfpy.protocols.path_evidence import FlightBins

IDLE = IdlePath({"p5": 25e3, "p50": 31e3, "p95": 38e3, "max": 39e3}, echoes=200, lump_us=5e3)


def stretch(spread_us: float, *, one_way: bool = True, count: int = 400) -> Stretch:
    """Datagrams with delays spread evenly; the echoes beside them vary as those of the idle path."""
    ones = np.ones(count, np.int64)
    delays = np.linspace(0, spread_us, count)
    flight = FlightBins(0, 1000, 1000 * ones, 1000 * ones, ones, ones, delays, one_way)
    return Stretch(8e6, 1000, count / 1000, count, 0, 0, 0, 0, IDLE.rtt_us, flight)


@pytest.mark.parametrize("spread_us", [4e3, 8e3])
def test_variation_that_the_datagrams_show_is_this_directions(spread_us: float) -> None:
    assert measure(IDLE, [stretch(spread_us)]).present


def test_variation_of_echoes_alone_is_the_other_directions() -> None:
    found = measure(IDLE, [stretch(300.0), stretch(3e3)])
    assert not found.present
    assert found.spread_us == pytest.approx(270.0)


@pytest.mark.parametrize("calm", [[], [stretch(300.0, one_way=False)], [stretch(300.0, count=10)]])
def test_without_one_way_delays_the_echoes_decide(calm: list[Stretch]) -> None:
    assert measure(IDLE, calm).present


@pytest.mark.parametrize("spacing_us", [2_000, 200, 20])
def test_order_that_is_kept_hides_no_jitter_of_dense_datagrams(spacing_us: int) -> None:
    """A datagram waits for earlier ones with more delay: the closer they are, the less the delays differ."""
    count = 400_000 // spacing_us
    left = spacing_us * np.arange(count)
    arrived = np.maximum.accumulate(left + np.random.default_rng(1).uniform(0, 14e3, count))
    per_bin = max(1, 1_000 // spacing_us)
    delays = (arrived - left).reshape(-1, per_bin).mean(axis=1)
    ones = np.ones(len(delays), np.int64)
    flight = FlightBins(0, 1000, 1000 * ones, 1000 * ones, ones, ones, delays, one_way=True)
    dense = Stretch(8e9 / spacing_us, 1000, 0.4, count, 0, 0, 0, 0, IDLE.rtt_us, flight)
    assert measure(IDLE, [dense]).present
