"""Scatter of the loss rate: the factor by which the path's losses vary more than independent ones would."""

from __future__ import annotations

from iperfpy.protocols.congestion.bbr.loss_tally import LossTally

# not in the draft; chosen by simulation

SCATTER_SAMPLE = 100
"""Transmissions per sample: a single loss is then 1 %."""
SCATTER_SMOOTHING = 1 / 16
"""Weight of a new sample: the average follows about the last sixteen."""
MAX_SCATTER = 50.0
"""Upper limit: a few outages must not allow for any loss."""


class LossScatter:
    """Variance of the loss rate in CRUISE, relative to that of independent losses.

    Neighbouring samples are compared (the mean square successive difference of von Neumann, 1941): a loss
    rate that changes its level once is not bursty.

    Attributes
    ----------
    factor : at least 1.0, the value of independent losses
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self._open = LossTally()
        self._last_rate: float | None = None
        self._average = 1.0

    def add(self, lost: int, sent: int) -> None:
        """Take the transmissions resolved in a round of CRUISE."""
        self._open.sent += sent
        self._open.lost += lost
        if self._open.sent < SCATTER_SAMPLE:
            return
        rate, count = max(0.0, self._open.loss_rate), self._open.sent
        if self._last_rate is not None:
            mean = (rate + self._last_rate) / 2
            expected = mean * (1.0 - mean) / count  # variance of independent losses
            if expected > 0.0:
                # Both neighbours lie at the same distance from their mean, hence the factor 2.
                ratio = (rate - mean) ** 2 * 2 / expected
                self._average += (ratio - self._average) * SCATTER_SMOOTHING
        self._last_rate = rate
        self.factor = min(MAX_SCATTER, max(1.0, self._average))
        self._open = LossTally()
