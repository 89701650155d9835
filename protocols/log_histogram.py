"""A histogram of durations with steps of one per cent: percentiles of any number of samples, in 14 KB."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

STEPS = 64
"""Steps per doubling: neighbours differ by 1.1 %."""
OCTAVES = 26
"""Doublings from 1 microsecond: the last step is 67 s."""
PERCENTILES = (5, 50, 95)
_GATHERED = 1_024
"""Single samples that wait to be counted together: numpy costs as much for one as for hundreds."""


class LogHistogram:
    """Counts samples by their logarithm."""

    __slots__ = ("_counts", "_least_us", "_most_us", "_waiting", "_weights")

    def __init__(self) -> None:
        self._counts = np.zeros(STEPS * OCTAVES, np.int64)
        self._least_us, self._most_us = float("inf"), 0.0
        self._waiting: list[float] = []
        self._weights: list[float] = []

    def add(self, us: float, weight: int = 1) -> None:
        """Take `weight` samples of one value."""
        self._waiting.append(us)
        self._weights.append(weight)
        if len(self._weights) >= _GATHERED:
            self._count_waiting()

    def _count_waiting(self) -> None:
        if self._waiting:
            self.add_all(np.array(self._waiting, np.float64), np.array(self._weights, np.float64))
            self._waiting.clear()
            self._weights.clear()

    def add_all(self, us: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> None:
        """Take the samples of an array, (n,), with their weights, (n,); 1 by default."""
        if not len(us):
            return
        steps = np.minimum((STEPS * np.log2(np.maximum(us, 1.0))).astype(np.int64), STEPS * OCTAVES - 1)
        self._counts += np.bincount(steps, weights, STEPS * OCTAVES).astype(np.int64)
        self._least_us = min(self._least_us, float(us.min()))
        self._most_us = max(self._most_us, float(us.max()))

    @property
    def count(self) -> int:
        """Samples."""
        self._count_waiting()
        return int(self._counts.sum())

    @property
    def most_us(self) -> float:
        """The largest sample; 0.0 without one."""
        self._count_waiting()
        return self._most_us

    def percentile(self, percent: float) -> float:
        """The value that `percent` of the samples do not exceed, to half a step; 0.0 without a sample."""
        wanted = self.count * percent / 100
        if not self.count:
            return 0.0
        step = int(np.searchsorted(np.cumsum(self._counts), max(wanted, 1)))
        middle_us: float = 2 ** ((step + 0.5) / STEPS)
        return min(max(middle_us, self._least_us), self._most_us)

    def record(self) -> Mapping[str, float]:
        """`PathEvidence.rtt_us`: p5, p50, p95 and max; empty without a sample."""
        if not self.count:
            return {}
        return {**{f"p{at}": self.percentile(at) for at in PERCENTILES}, "max": self.most_us}
