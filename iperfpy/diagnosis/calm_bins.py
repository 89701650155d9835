"""Losses of one stream by its load: at times at which it filled no queue, or sent most.

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
_PASS_LESS, _ERRORS = 1.2, 3.0
"""Factor by which more of the packets pass that leave sparsely, at least, and the difference in standard
errors. In simulations of stock KCP, loss by chance (single, in runs) made the factor 0.98 to 1.07, and a
policer or a short queue that a window overflowed 1.3 to 5.5."""


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


def drops_by_load(flight: FlightBins) -> bool:
    """True if fewer of the packets pass that leave close together: the path drops what exceeds its rate.

    Loss by chance takes the same share of them. A sender whose rate is constant shows no difference.
    """
    sent = np.asarray(flight.sent_packets, np.float64)
    order = sent.argsort(kind="stable")
    total = sent[order].cumsum()
    if not len(total) or not total[-1]:
        return False
    # Each half has about as many packets; the second one has those of the bins in which most left.
    half = int(total.searchsorted(total[-1] / 2))
    sparse, dense = order[:half], order[half:]
    counts = np.array([sent[sparse].sum(), sent[dense].sum()])
    if not counts.all():
        return False
    passed = np.array([flight.arrived_packets[sparse].sum(), flight.arrived_packets[dense].sum()]) / counts
    error = float(np.sqrt((passed * (1 - passed) / counts).sum()))
    return bool(passed[0] > _PASS_LESS * passed[1] and passed[0] - passed[1] > _ERRORS * error)
