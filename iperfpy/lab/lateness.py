"""The lateness of deliveries: a histogram of the time between a datagram's exit and its delivery."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNIT_US, BINS = 10.0, 10_001
"""Bins of 10 us up to 100 ms; the last one has everything above."""
_GATHERED = 4_096


class Lateness:
    """Counts of deliveries by their lateness, microseconds. Its size does not grow with their number.

    most_us : the greatest lateness
    """

    def __init__(self) -> None:
        self.most_us = 0.0
        self._counts = np.zeros(BINS, np.int64)
        self._gathered: list[NDArray[np.float64]] = []
        self._waiting = 0

    def add(self, late_us: NDArray[np.float64]) -> None:
        """Count deliveries; (n,) float64, valid as long as this object."""
        # One pass over many deliveries costs a fraction of a pass over each few.
        self._gathered.append(late_us)
        self._waiting += len(late_us)
        if self._waiting >= _GATHERED:
            self._count()

    def _count(self) -> None:
        if self._gathered:
            late_us = np.concatenate(self._gathered)
            self._gathered, self._waiting = [], 0
            self.most_us = max(self.most_us, float(late_us.max()))
            bins = np.clip(late_us / UNIT_US, 0, BINS - 1).astype(np.int64)
            self._counts += np.bincount(bins, minlength=BINS)

    def quantile_us(self, share: float) -> float:
        """The lateness that `share` of the deliveries did not exceed, to a bin; 0.0 without deliveries."""
        self._count()
        total = int(self._counts.sum())
        if not total:
            return 0.0
        index = int(np.searchsorted(self._counts.cumsum(), share * total))
        return min(self.most_us, (index + 1) * UNIT_US)
