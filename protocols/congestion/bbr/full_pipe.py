"""Detection of a plateau of the delivery rate (BBRCheckFullBWReached, draft 5.3.1.2)."""

from __future__ import annotations

from iperfpy.protocols.congestion.bbr.loss_tally import MIN_LOSS_SAMPLE

# draft 5.3.1.2

FULL_PIPE_GROWTH = 1.25
"""Growth of the rate from one round to the next that still counts as growth."""
FULL_PIPE_ROUNDS = 3
"""Rounds without growth that mean a full pipe."""


class FullPipe:
    """Plateau detector: the sender tries to send faster, and the rate no longer grows.

    The draft checks every round. Here rounds are pooled until they hold `MIN_LOSS_SAMPLE` deliveries: in a
    shorter round, a few random losses look like a plateau.

    Attributes
    ----------
    reached : True if the pipe was ever full (BBR.full_bw_reached)
    now : True if the pipe was full since the last `reset` (BBR.full_bw_now)
    flat_rounds : rounds without growth since the rate last grew (BBR.full_bw_count)
    """

    def __init__(self) -> None:
        self.reached = False
        self.now = False
        self.flat_rounds = 0
        self._baseline = 0.0  # BBR.full_bw
        self._pooled_best, self._pooled_from = 0.0, 0

    def reset(self, rate: float = 0.0) -> None:
        """BBRResetFullBW: look for a plateau above `rate`, in segments per second."""
        self._baseline, self.flat_rounds, self.now = rate, 0, False

    def end_round(self, best_rate: float, delivered: int) -> None:
        """End a round of a probing phase.

        Parameters
        ----------
        best_rate : greatest bandwidth sample of the round, segments per second
        delivered : segments delivered since the connection began
        """
        self._pooled_best = max(self._pooled_best, best_rate)
        if delivered - self._pooled_from >= MIN_LOSS_SAMPLE and self._pooled_best:
            self.update(self._pooled_best)
            self._pooled_best, self._pooled_from = 0.0, delivered

    def update(self, rate: float) -> None:
        """Compare the best rate of one or more rounds with the baseline."""
        if self.now:
            return
        if rate >= self._baseline * FULL_PIPE_GROWTH:
            self.reset(rate)
            return
        self.flat_rounds += 1
        self.now = self.flat_rounds >= FULL_PIPE_ROUNDS
        self.reached = self.reached or self.now
