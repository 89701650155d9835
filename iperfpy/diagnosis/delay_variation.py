"""Variation of the delay without load: lumps, or jitter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from iperfpy.diagnosis.evidence import IdlePath
from iperfpy.diagnosis.stretches import Stretch

_LEAST_US, _LEAST_RTTS = 2e3, 0.05
"""Variation from which on jitter is named: 5th to 95th percentile of echoes without load."""
_LUMPS = 0.85
"""Distance of the moments of arrival over the variation's whole width: at least this for lumps. Order that is
kept makes arrivals coincide, too, but at distances of 0.2 to 0.7 of the width."""
_SPACINGS = 2.5
"""Least width of the variation, in distances of the echoes: closer ones tell lumps from jitter."""
_ELSEWHERE, _FEWEST_DELAYS = 0.3, 20
"""Share of the variation to be expected that datagrams of this direction show at least if it is its own. And
the delays from which that is judged."""
_COVERED = 0.9
"""Share of a uniform distribution between its 5th and 95th percentile."""
_RAYLEIGH = 2.13
"""Distance of the 5th and the 95th percentile of a Rayleigh distribution, in its scale."""


@dataclass(frozen=True, slots=True)
class DelayVariation:
    """Variation of the delay without load.

    Parameters
    ----------
    spread_us : 5th to 95th percentile of echoes that left far from each other
    lump_us : distance of the moments of arrival, if arrivals are in lumps; else 0
    present : True if the variation is worth naming
    of_answers : True if the answers vary, and not the datagrams of this direction
    """

    spread_us: float = 0.0
    lump_us: float = 0.0
    present: bool = False
    of_answers: bool = False


def measure(idle: IdlePath, calm: Sequence[Stretch], spacing_us: float = 5e3) -> DelayVariation:
    """Measure the variation, and tell lumps from jitter.

    calm : stretches far below the path's rate: their echoes are sparse, and order holds none of them back
    spacing_us : distance of the echoes before the load
    """
    if not {"p5", "p95"} <= set(idle.rtt_us):
        return DelayVariation()
    dense_us = idle.rtt_us["p95"] - idle.rtt_us["p5"]
    sparse = [one.rtt_us["p95"] - one.rtt_us["p5"] for one in calm if {"p5", "p95"} <= set(one.rtt_us)]
    spread_us = float(np.median(sparse)) if sparse else dense_us
    if dense_us < max(_LEAST_US, _LEAST_RTTS * idle.rtt_us["p5"]):
        return DelayVariation(dense_us)
    spread_us = max(spread_us, dense_us)
    one_way_us, share = _one_way_spread(calm, spread_us)
    elsewhere = share < _ELSEWHERE
    width_us = spread_us / _COVERED
    lump = idle.lump_us or 0.0
    lumps = width_us > _SPACINGS * spacing_us and lump > _LUMPS * width_us
    # Echoes go both ways. Lumps of the way back are those of this direction's acknowledgements, and matter to
    # its sender; other variation of the way back is named in that direction.
    if elsewhere and not lumps:
        return DelayVariation(one_way_us)
    return DelayVariation(spread_us, lump if lumps else 0.0, present=True, of_answers=elsewhere)


def _one_way_spread(calm: Sequence[Stretch], echoes_us: float) -> tuple[float, float]:
    """5th to 95th percentile of the one-way delay in a calm stretch, and its share of what a stretch of this
    rate shows if the echoes' variation is that of this direction; of the stretch with the least share. 0.0
    and 1.0 if no stretch has enough delays.

    A queue of its own disturbs a stretch near the path's rate; the path's variation is there in all of them.
    """
    found = [(0.0, 1.0)]
    for one in calm:
        if one.flight is not None and one.flight.one_way:
            known = one.flight.delay_us[~np.isnan(one.flight.delay_us)]
            if len(known) >= _FEWEST_DELAYS:
                spread_us = float(np.subtract(*np.percentile(known, (95, 5))))
                expected_us = echoes_us * _kept(one, echoes_us)
                found.append((spread_us, spread_us / expected_us))
    return min(found, key=lambda each: each[1])


def _kept(one: Stretch, echoes_us: float) -> float:
    """Share of a uniform variation that the datagrams of a stretch show if their order is kept.

    A datagram waits for the ones before it that were delayed by more. With k datagrams in the width of the
    variation, the delay lies below its maximum by more than y widths with the probability exp(-k y^2 / 2):
    none of those that left within that time may have come so late. That is a Rayleigh distribution with the
    scale 1 / sqrt(k).
    """
    datagrams = one.sent / one.seconds * echoes_us / _COVERED / 1e6
    return min(1.0, _RAYLEIGH / _COVERED / sqrt(datagrams)) if datagrams > 1.0 else 1.0
