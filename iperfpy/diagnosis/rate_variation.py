"""Variation of a path's rate, from the arrivals of overloaded stretches while their queue stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import NamedTuple

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
_LONG_PACKETS, _LONG_VARIATIONS = 2.0, 2.0
"""Excess of a gap over the usual one that shows a run of losses: in usual gaps per packet, and in the
variation of the delay."""
_FEWEST_GAPS = 5
_EXPLAINED = 3.0
"""Time in such gaps over that of the lost packets, at most: the losses take 0.5 to 1.9 times theirs."""


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


class _Windows(NamedTuple):
    """Bits per second that arrived in each window: in all of its time, and outside of the gaps that runs of
    losses made; and the share of the time in these gaps."""

    arrived: list[float]
    passing: list[float]
    in_gaps: float


def measure(capacity: Capacity, jitter_us: float, lump_us: float) -> RateVariation:
    """Measure the variation. `jitter_us`: variation of the delay without load, 5th to 95th percentile."""
    overloaded = (*capacity.overloaded, *capacity.disturbed)
    standing = [one for one in overloaded if one.rise_us > max(3 * one.rise_error_us, 5e3)]
    if not standing or capacity.rate is None:
        return RateVariation()
    # A slower stretch queues only while the rate is low: its rate then is no mean.
    usual = float(np.median([one.arriving for one in standing]))
    standing = [one for one in standing if one.stretch.offered > SATURATES * usual] or standing
    packet = max(one.stretch.packet_bytes for one in standing)
    packet_us = packet * 8e6 / capacity.rate
    bin_us = max(one.stretch.flight.width_us for one in standing if one.stretch.flight is not None)
    long_us = max(_LONG_PACKETS * packet_us, 2 * bin_us, _LONG_VARIATIONS * max(jitter_us, lump_us))
    share = capacity.loss.share
    # Gaps that take much more time than the losses do have another reason, and all of them count.
    for longest_us in (long_us, inf):
        spread = _spread(capacity.loss.mean_run, longest_us / packet_us)
        # Long enough that random loss varies the arrivals of a window by a tenth at most.
        fewest = max(_FEWEST_PACKETS, share * spread / _CHANCE**2)
        width_us = max(_SHORTEST_US, fewest * packet_us, 4 * lump_us, 4 * jitter_us)
        arrived, passing, in_gaps = _window_rates(standing, width_us, longest_us)
        if in_gaps <= _EXPLAINED * (share + 2 * capacity.loss.error):
            break
    if len(passing) < FEWEST_WINDOWS:
        return RateVariation(len(passing), width_us)
    mean, variance = float(np.mean(passing)), float(np.var(passing, ddof=1))
    packets = mean * width_us / 8e6 / packet
    # Losses within a window, a packet more or less at its edges, and arrivals that jitter moves across them.
    chance = share * spread / packets + 0.5 / packets**2
    chance += 2 * (jitter_us / 3.1 / width_us) ** 2
    relative = variance / mean**2
    deviation = max(0.0, relative - chance) ** 0.5
    times = _TIMES_CHANCE if spread < 2 else 2 * _TIMES_CHANCE
    present = deviation > _NOTICED and relative > times * chance
    return RateVariation(
        len(passing),
        width_us,
        deviation,
        present,
        float(np.mean(arrived)) / (1 - share),
        float(np.std(arrived, ddof=1)) / len(arrived) ** 0.5,
    )


def _spread(mean_run: float, longest: float) -> float:
    """Variance of the number of losses over that of independent ones, of runs of a geometric length of that
    mean: 2 m - 1 with all runs, less without those of more than `longest` packets."""
    lengths = np.arange(1, int(min(longest, 20 * mean_run)) + 1)
    likely = (1 - 1 / mean_run) ** (lengths - 1) / mean_run
    return float((lengths**2 * likely).sum() / mean_run)


def _window_rates(standing: Sequence[Overloaded], width_us: float, long_us: float) -> _Windows:
    """Measure the windows of the time in which the queue stood.

    The bottleneck then sends packet after packet, so the gaps between arrivals tell its rate. A run of losses
    behind it makes one long gap, which the rate does not explain: gaps longer than the usual one of their
    window by `long_us` are left out, with the packets that end them.
    """
    arrived: list[float] = []
    passing: list[float] = []
    in_gaps_us = 0.0
    for one in standing:
        flight = one.stretch.flight
        assert flight is not None
        known = (flight.arrived_packets > 0) & ~np.isnan(flight.delay_us)
        times = bin_times(flight)[known] + flight.delay_us[known]
        order = times.argsort(kind="stable")
        gaps = np.diff(times[order], prepend=times.min())
        sizes, packets = flight.arrived_bytes[known][order], flight.arrived_packets[known][order]
        # A deep queue delivers long after the last packet left; all that counts.
        edges = np.arange(times.min() + 0.1e6, times.max(), width_us)
        for first, end in pairwise(times[order].searchsorted(edges)):
            gap, size, count = gaps[first:end], sizes[first:end], packets[first:end]
            arrived.append(float(size.sum()) * 8e6 / width_us)
            if long_us == inf:
                passing.append(arrived[-1])
            elif len(gap) < _FEWEST_GAPS:
                in_gaps_us += width_us  # a run of losses as long as the window, or an outage
            else:
                usual_us = np.median(gap / count)
                long = gap - count * usual_us > max(long_us, _LONG_PACKETS * usual_us)
                in_gaps_us += float(gap[long].sum())
                # Between arrivals, as a gap may begin in one window and end in the next one.
                passing.append(float(size[~long].sum() / max(1.0, gap[~long].sum())) * 8e6)
    return _Windows(arrived, passing, in_gaps_us / max(1.0, len(arrived) * width_us))
