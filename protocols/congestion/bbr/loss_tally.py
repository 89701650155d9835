"""Transmissions and how many of them were lost."""

from __future__ import annotations

from math import sqrt

from iperfpy.protocols.congestion.bbr.phases import Drive


def standard_error(lost: float, sent: float) -> float:
    """Of a loss rate, by the rule of succession: that none of a few was lost says little."""
    likely = (lost + 1.0) / (sent + 2.0)
    return sqrt(likely * (1.0 - likely) / sent)


class Tally:
    """Transmissions, how many of them were lost, and, where it is asked for, in how many runs of consecutive
    ones, and in what time that was learnt."""

    __slots__ = ("load", "lost", "runs", "sent", "since_us", "us")

    def __init__(self, load: Drive = Drive.AT, since_us: int = 0, sent: int = 0, lost: int = 0) -> None:
        self.load, self.since_us, self.sent, self.lost = load, since_us, sent, lost
        self.runs = self.us = 0

    def add(self, other: Tally) -> None:
        self.sent += other.sent
        self.lost += other.lost
        self.runs += other.runs
        self.us += other.us

    @property
    def sent_per_s(self) -> float:
        return self.sent * 1e6 / self.us if self.us else 0.0

    @property
    def rate(self) -> float:
        return max(0, self.lost) / self.sent if self.sent > 0 else 0.0

    @property
    def error(self) -> float:
        """Standard error of the rate."""
        return standard_error(max(0, self.lost), max(1, self.sent))
