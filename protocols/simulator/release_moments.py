"""The moments at which a path releases datagrams in lumps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.simulator.path import Lumps

_BLOCK = 1_024
_KEPT_US = 60e6
"""Moments older than this before the latest question are forgotten: no datagram is so late."""


class ReleaseMoments:
    """A sequence of moments from `start_us` on. It depends on the generator alone, not on the questions."""

    def __init__(self, lumps: Lumps, rng: np.random.Generator, start_us: float) -> None:
        self._lumps, self._rng = lumps, rng
        # The first one at a random phase, so that the two directions of a path are not in step.
        first_us = start_us + rng.random() * rng.uniform(lumps.least_us, lumps.most_us)
        self._moments: NDArray[np.float64] = np.array([first_us])

    def after(self, times_us: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) float64, microseconds: the first moment at or after each of the times."""
        latest_us = float(times_us.max())
        if latest_us > self._moments[-1]:
            self._grow(latest_us)
        found: NDArray[np.float64] = self._moments[np.searchsorted(self._moments, times_us)]
        return found

    def _grow(self, until_us: float) -> None:
        lumps, moments = self._lumps, [self._moments]
        while moments[-1][-1] < until_us:
            distances = self._rng.uniform(lumps.least_us, lumps.most_us, _BLOCK)
            moments.append(moments[-1][-1] + distances.cumsum())
        joined = np.concatenate(moments)
        self._moments = joined[np.searchsorted(joined, until_us - _KEPT_US) :]
