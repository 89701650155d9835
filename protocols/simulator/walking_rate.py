"""A bottleneck with a rate that walks: the service that it has given by each time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.simulator.path import RateWalk

Floats = NDArray[np.float64]

_BLOCK = 512


class WalkingRate:
    """Service given since `start_us`, in microseconds of service at the mean rate.

    It is a continuous function that grows linearly within each period, so its inverse gives departures
    across any number of periods at once.
    """

    def __init__(self, walk: RateWalk, rng: np.random.Generator, start_us: float) -> None:
        self.walk, self._rng = walk, rng
        self._times: Floats = np.array([start_us])
        self._given: Floats = np.array([0.0])
        self._x = walk.deviation * float(rng.standard_normal())

    def given(self, times_us: Floats) -> Floats:
        """Service given by each of the times."""
        latest_us = float(times_us.max())
        while self._times[-1] < latest_us:
            self._grow()
        return np.interp(times_us, self._times, self._given)

    def times(self, given: Floats) -> Floats:
        """The time by which each amount of service has been given: the inverse of `given`."""
        most = float(given.max())
        while self._given[-1] < most:
            self._grow()
        return np.interp(given, self._given, self._times)

    def _grow(self) -> None:
        """Draw more periods: as many as there are, so that a long run copies its history few times."""
        walk, count = self.walk, max(_BLOCK, len(self._times))
        x = np.empty(count)
        # The innovation that keeps the deviation of x: its variance is (1 - memory^2) of that of x.
        innovations = self._rng.standard_normal(count) * walk.deviation * (1.0 - walk.memory**2) ** 0.5
        for i, innovation in enumerate(innovations.tolist()):
            x[i] = self._x
            self._x = walk.memory * self._x + innovation
        # exp(x) of a normal x has the mean exp(deviation^2 / 2).
        given = (walk.period_us * np.exp(x - walk.deviation**2 / 2.0)).cumsum()
        times = walk.period_us * np.arange(1, count + 1)
        self._times = np.concatenate((self._times, self._times[-1] + times))
        self._given = np.concatenate((self._given, self._given[-1] + given))
