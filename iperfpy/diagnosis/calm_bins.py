"""Losses of one stream at times at which it filled no queue.

A sender that adapts is below the path's rate for most of the time, and above it when it probes. Its own
record tells them apart: by the delay, and by the backlog that a bottleneck of the path's rate would have.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iperfpy.diagnosis.stretches import bin_times, lost_packets
from iperfpy.protocols.path_evidence import FlightBins

_LOW = 0.3
"""Part of the range of delays, 5th to 95th percentile, up to which no queue stands."""
_RANGE_US = 3e3
"""Smaller ranges of delays tell nothing of a queue."""
_BACKLOG_PACKETS, _BACKLOG_US = 3, 2e3


def calm(flight: FlightBins, rate: float, packet_bytes: int) -> NDArray[np.bool_]:
    """(n,) bool: True for each bin with packets that found no queue of the sender's own.

    rate : bits per second of IP packets that the path carries
    """
    sent = np.asarray(flight.sent_bytes, np.float64)
    walk = np.cumsum(sent - rate * flight.width_us / 8e6)
    # The backlog is the distance from the least value so far, which may be that before the first packet.
    backlog = walk - np.minimum.accumulate(np.minimum(walk, 0.0))
    small: NDArray[np.bool_] = backlog <= max(_BACKLOG_PACKETS * packet_bytes, rate * _BACKLOG_US / 8e6)
    known = ~np.isnan(flight.delay_us)
    if not known.any():
        return small
    low_us, high_us = np.percentile(flight.delay_us[known], (5, 95))
    if high_us - low_us < _RANGE_US:
        return small
    # A bin without arrivals has the delay of its neighbours.
    times = bin_times(flight)
    delays = np.interp(times, times[known], flight.delay_us[known])
    low: NDArray[np.bool_] = small & (delays <= low_us + _LOW * (high_us - low_us))
    return low


def calm_losses(flight: FlightBins, rate: float, packet_bytes: int) -> tuple[int, int]:
    """Packets that were sent at calm times, and those of them that were lost."""
    chosen = calm(flight, rate, packet_bytes)
    return int(flight.sent_packets[chosen].sum()), int(lost_packets(flight)[chosen].sum())
