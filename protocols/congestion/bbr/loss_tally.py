"""Counts of transmissions and of the losses among them."""

from __future__ import annotations

from math import sqrt

from iperfpy.protocols.congestion.congestion_control import Ack

# not in the draft; chosen by simulation

MIN_LOSS_SAMPLE = 20
"""Transmissions below which a loss rate is not evaluated: one loss more or less changes it by 5 %."""
RELIABLE_SAMPLE = 100
"""Transmissions from which a loss rate counts as known: a single loss is then 1 %."""


def standard_error(lost: float, sent: float) -> float:
    """Standard error of a loss rate.

    The rate is estimated by the rule of succession, (lost + 1) / (sent + 2), so that a sample without a loss
    still has an error.
    """
    likely = (lost + 1.0) / (sent + 2.0)
    return sqrt(likely * (1.0 - likely) / sent)


class LossTally:
    """Number of resolved transmissions and of the lost ones among them.

    Parameters
    ----------
    sent : transmissions, delivered or lost
    lost : lost transmissions; negative if losses were found spurious later

    Attributes
    ----------
    runs : runs of consecutive lost transmissions; 0 where the caller does not count them
    heads, tails : bursts that lost their first transmission but not their last, and the reverse; 0 where the
        caller does not count them
    """

    __slots__ = ("heads", "lost", "runs", "sent", "tails")

    def __init__(self, sent: int = 0, lost: int = 0) -> None:
        self.sent, self.lost = sent, lost
        self.runs = self.heads = self.tails = 0

    def add(self, other: LossTally) -> None:
        self.sent += other.sent
        self.lost += other.lost
        self.runs += other.runs
        self.heads += other.heads
        self.tails += other.tails

    @property
    def loss_rate(self) -> float:
        """Share of the transmissions that was lost, 0.0 to 1.0."""
        return max(0, self.lost) / self.sent if self.sent > 0 else 0.0

    @property
    def error(self) -> float:
        """Standard error of `loss_rate`."""
        return standard_error(max(0, self.lost), max(1, self.sent))

    @property
    def tail_errors(self) -> float:
        """Standard errors by which bursts lost their last transmission more often than their first (McNemar,
        1947).

        Where the path itself loses segments, both are equally frequent. A queue that is full has room for the
        first segment of a burst rather than for those that follow it at once, and it does not matter which
        flow fills it; so has a policer.
        """
        heads, tails = self.heads, self.tails
        return (tails - heads) / sqrt(tails + heads) if tails > heads else 0.0


class LossTotals:
    """The transport's cumulative counts at one moment; their difference to later counts is a tally."""

    __slots__ = ("_delivered", "_lost", "_runs")

    def __init__(self) -> None:
        self._delivered = self._lost = self._runs = 0

    def advance(self, ack: Ack) -> LossTally:
        """Move to the totals of `ack` and return the transmissions resolved since the last move."""
        lost = ack.lost - self._lost
        tally = LossTally(ack.delivered - self._delivered + lost, lost)
        tally.runs = ack.lost_runs - self._runs
        self.skip(ack)
        return tally

    def skip(self, ack: Ack) -> None:
        """Move to the totals of `ack` without counting the transmissions before it."""
        self._delivered, self._lost, self._runs = ack.delivered, ack.lost, ack.lost_runs
