"""The rate of a path from a sender that was held up.

A sender that gets no processor for some milliseconds sends nothing, and all that is due at once afterwards. A
short queue overflows then, and the bottleneck stands idle before: the mean rate of the arrivals is lower than
the rate of the path. Which packets of such a stream pass depends on the rate and on the size of the queue
alone, so both are fitted to the losses (`token_bucket`).
"""

from __future__ import annotations

import numpy as np

from iperfpy.diagnosis import token_bucket
from iperfpy.protocols.path_evidence import FlightBins

_GAP_US, _GAP_PACKETS = 2e3, 3.0
"""Longer times without a departure are gaps: absolute, and in times of the usual distance of packets."""
_HELD = 0.02
"""Share of the time in gaps from which on the sender was held up."""
_AS_CHANCE, _UNEXPLAINED = 0.5, 0.1
"""Squared differences of losses and predictions, over those of chance, and of a constant share, at most."""
_SHALLOW_BINS = 4
"""Bins in which the rate must fill the queue at least: a shorter one overflows within a bin, at an unknown
time."""


def held_up(flight: FlightBins) -> bool:
    """True if gaps between departures take more of the time than a paced sender leaves."""
    packets = np.asarray(flight.sent_packets)
    sending = np.flatnonzero(packets)
    if len(sending) < 2:
        return False
    span = int(sending[-1] - sending[0])
    usual_us = span * flight.width_us / max(1, int(packets.sum()))
    gaps_us = (np.diff(sending) - 1) * flight.width_us
    long = gaps_us[gaps_us > max(_GAP_US, _GAP_PACKETS * usual_us)]
    return float(long.sum()) > _HELD * span * flight.width_us


def rate_while_busy(flight: FlightBins, mean_bits_per_s: float) -> float | None:
    """Bits per second that pass while the bottleneck is busy; None if the losses do not tell.

    mean_bits_per_s : rate at which they arrived on average
    """
    found = token_bucket.fit(flight, flight.width_us)
    if found is None or found.bounded:
        return None
    if found.depth_bytes * 8e6 < _SHALLOW_BINS * flight.width_us * found.rate_bits_per_s:
        return None
    if found.error > _AS_CHANCE and found.unexplained > _UNEXPLAINED:
        return None
    return max(mean_bits_per_s, found.rate_bits_per_s)
