"""The share of datagrams that a path loses before any recovery, as far as a sender can know it now."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, sqrt

LONG, SHORT = 1_000.0, 200.0
"""Datagrams over which the two averages reach back."""
PRIOR_SENT, PRIOR_LOST = 50.0, 1.0
"""Assumed at the beginning: a path whose loss is not known yet is taken for a lossy one."""
CHANGE_ERRORS = 3.0
"""Standard errors between the averages from which the path has changed."""
CLEAN_LOSSES = 10.0
"""Losses that the average expects among datagrams of which none was lost, after which the path has changed:
the averages themselves take three times as long to show an end of all loss."""


@dataclass(slots=True)
class _Average:
    """Exponentially weighted sums over about `reach` datagrams."""

    reach: float
    sent: float = 0.0
    lost: float = 0.0

    def add(self, sent: float, lost: float) -> None:
        kept = exp(-sent / self.reach)
        self.sent, self.lost = kept * self.sent + sent, kept * self.lost + lost

    @property
    def rate(self) -> float:
        return self.lost / self.sent if self.sent else 0.0


class PathLoss:
    """Follows the loss of a path: a long average, which is replaced by a short one if that contradicts it."""

    __slots__ = ("_clean", "_long", "_short")

    def __init__(self) -> None:
        self._long = _Average(LONG, PRIOR_SENT, PRIOR_LOST)
        self._short = _Average(SHORT)
        self._clean = 0.0  # datagrams since the last loss

    def add(self, sent: float, lost: float) -> None:
        """Take datagrams sent since the last call, and those of them that were lost. `lost` may be negative:
        some that counted as lost have arrived."""
        self._long.add(sent, lost)
        self._short.add(sent, lost)
        expected = self._long.rate * self._short.sent
        # The variance of a count of losses is its mean, and half of it with exponential weights. 1.0 keeps a
        # single loss from being a change.
        if abs(self._short.lost - expected) > CHANGE_ERRORS * sqrt(max(expected / 2, 1.0)):
            self._long.sent, self._long.lost = self._short.sent, self._short.lost
        self._clean = 0.0 if lost else self._clean + sent
        if self._clean * self._long.rate > CLEAN_LOSSES:
            self._long.sent, self._long.lost = self._clean, 0.0

    @property
    def share(self) -> float:
        """Lost datagrams, as a share of those sent."""
        return min(1.0, max(0.0, self._long.rate))
