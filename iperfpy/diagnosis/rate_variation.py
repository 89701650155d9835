"""Variation of a path's rate, from the arrivals of overloaded stretches while their queue stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iperfpy.diagnosis.capacity import Capacity, Overloaded
from iperfpy.diagnosis.stretches import bin_times

SATURATES = 1.3
"""Stretches of this many times the rate keep a queue even while a varying rate is high."""
_SHORTEST_US = 1e5
_FEWEST_PACKETS = 25
FEWEST_WINDOWS = 8
_NOTICED = 0.07
"""Deviation over mean from which on a rate is said to vary."""
_TIMES_CHANCE = 3.0
"""Factor by which the variance exceeds that of chance: losses, single packets, jitter. Twice it if losses
come in bursts of varying lengths."""
_CHANCE = 0.1
"""Deviation that random loss may cause in a window, at most."""


@dataclass(frozen=True, slots=True)
class RateVariation:
    """The rate over windows of `window_us`.

    Parameters
    ----------
    deviation : standard deviation over mean, chance taken off
    present : True if it varies by more than chance explains
    mean, error : bits per second and standard error
    """

    windows: int = 0
    window_us: float = 0.0
    deviation: float = 0.0
    present: bool = False
    mean: float = 0.0
    error: float = 0.0


def measure(capacity: Capacity, jitter_us: float, lump_us: float) -> RateVariation:
    """Measure the variation. `jitter_us`: variation of the delay without load, 5th to 95th percentile."""
    overloaded = (*capacity.overloaded, *capacity.disturbed)
    standing = [one for one in overloaded if one.rise_us > max(3 * one.rise_error_us, 5e3)]
    if not standing or capacity.rate is None:
        return RateVariation()
    packet = max(one.stretch.packet_bytes for one in standing)
    share, spread = capacity.loss.share, max(1.0, 2 * capacity.loss.mean_run - 1)
    # Long enough that random loss varies the arrivals of a window by a tenth at most.
    fewest = max(_FEWEST_PACKETS, share * spread / _CHANCE**2)
    width_us = max(_SHORTEST_US, fewest * packet * 8e6 / capacity.rate, 4 * lump_us, 4 * jitter_us)
    # A slower stretch queues only while the rate is low: its rate then is no mean.
    usual = float(np.median([one.arriving for one in standing]))
    saturated = [one for one in standing if one.stretch.offered > SATURATES * usual]
    rates = _window_rates(saturated or standing, width_us)
    if len(rates) < FEWEST_WINDOWS:
        return RateVariation(len(rates), width_us)
    mean, variance = float(np.mean(rates)), float(np.var(rates, ddof=1))
    packets = mean * width_us / 8e6 / packet
    # Losses within a window, a packet more or less at its edges, and arrivals that jitter moves across them.
    chance = share * spread / packets + 0.5 / packets**2
    chance += 2 * (jitter_us / 3.1 / width_us) ** 2
    relative = variance / mean**2
    deviation = max(0.0, relative - chance) ** 0.5
    times = _TIMES_CHANCE if spread < 2 else 2 * _TIMES_CHANCE
    present = deviation > _NOTICED and relative > times * chance
    return RateVariation(
        len(rates), width_us, deviation, present, mean / (1 - share), (variance / len(rates)) ** 0.5
    )


def _window_rates(standing: Sequence[Overloaded], width_us: float) -> list[float]:
    """Bits per second that arrived in each window, while the queue stood."""
    rates: list[float] = []
    for one in standing:
        flight = one.stretch.flight
        assert flight is not None
        known = (flight.arrived_packets > 0) & ~np.isnan(flight.delay_us)
        times = bin_times(flight)[known] + flight.delay_us[known]
        first, last = times[0], times.max()
        # A deep queue delivers long after the last packet left; all that counts.
        edges = np.arange(first + 0.1e6, last, width_us)
        counts, _ = np.histogram(times, edges, weights=flight.arrived_bytes[known])
        rates += (counts * 8e6 / width_us).tolist()
    return rates
