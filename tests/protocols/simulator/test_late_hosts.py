"""Hosts that wake up late, as an operating system makes them."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.protocols.simulator import Path, Silent, Simulation
from tests.studies.odd_paths.prober import Echo, Prober

RTT_US, PROBES = 40_000, 4_000


def _rtts_us(seed: int, **options: float) -> list[int]:
    """Round-trip times of probes 5 ms apart over a path of constant delay."""
    simulation = Simulation(seed, 0.0, **options)
    prober = Prober(0.0, PROBES * 5_000.0, 5_000.0, 24)
    there, back = (simulation.link(Path(delay_us=RTT_US / 2)) for _ in range(2))
    simulation.flow(prober, Echo(), there, back, Silent())
    simulation.run(PROBES * 5_000 + 1_000_000)
    return prober.rtts_us


def test_each_wake_up_of_a_round_trip_is_late_by_the_mean() -> None:
    """A probe waits for the far host, and its answer for the near one."""
    late_us = np.array(_rtts_us(1, host_late_us=200.0)) - RTT_US
    assert len(late_us) == PROBES
    assert late_us.min() >= 0
    # The sum of two exponential times: its standard deviation is sqrt(2) means. Times are rounded up.
    assert late_us.mean() == pytest.approx(2 * 200.0, abs=5 * 2**0.5 * 200.0 / PROBES**0.5 + 2)
    assert late_us.std() == pytest.approx(2**0.5 * 200.0, rel=0.1)


def test_a_seed_decides_the_lateness_and_hosts_are_on_time_without() -> None:
    assert _rtts_us(1, host_late_us=200.0) == _rtts_us(1, host_late_us=200.0)
    assert _rtts_us(1, host_late_us=200.0) != _rtts_us(2, host_late_us=200.0)
    assert set(_rtts_us(1)) == set(_rtts_us(2))
    assert max(_rtts_us(1)) <= RTT_US + 2
