"""The losses of STARTUP's rounds, until it is known that they were sent below the path's capacity.

While STARTUP grows, the path's capacity is unknown. A round was sent below it if the path later delivers at
a greater rate than that of the round. Its losses then are the path's own.
"""

from __future__ import annotations

from collections import deque

from iperfpy.protocols.congestion.bbr.loss_epochs import Epoch
from iperfpy.protocols.congestion.bbr.phases import OfferedLoad

# not in the draft; chosen by simulation

MAX_STARTUP_ROUNDS = 32
"""Rounds kept; STARTUP rarely has more."""
MIN_ROUND = 30
"""Transmissions of a round, at least; shorter ones are joined. A flow that begins at a full queue may lose
nine of its first ten segments, so the first rounds alone say nothing."""


class StartupLosses:
    """Rounds of STARTUP, until the path delivers at a greater rate than theirs."""

    def __init__(self) -> None:
        self._rounds: deque[tuple[float, Epoch]] = deque(maxlen=MAX_STARTUP_ROUNDS)  # rate, losses

    def add_round(self, rate: float, sent: int, lost: int) -> None:
        """Add a round.

        Parameters
        ----------
        rate : greatest sending rate in the round, segments per second
        sent, lost : transmissions resolved in the round, and the lost ones among them
        """
        if sent <= 0:
            return
        if self._rounds and self._rounds[-1][1].sent < MIN_ROUND:
            rate_before, before = self._rounds.pop()
            sent, lost, rate = sent + before.sent, lost + before.lost, max(rate, rate_before)
        self._rounds.append((rate, Epoch(OfferedLoad.BELOW_CAPACITY, 0, sent, lost)))

    def take_exceeded(self, delivery_rate: float, now_us: int) -> list[Epoch]:
        """Remove and return the rounds that were not faster than the path delivers.

        Parameters
        ----------
        delivery_rate : greatest delivery rate so far, segments per second
        """
        exceeded: list[Epoch] = []
        waiting = []
        for rate, epoch in self._rounds:
            if rate <= delivery_rate and epoch.sent >= MIN_ROUND:
                epoch.started_us = now_us
                exceeded.append(epoch)
            else:
                waiting.append((rate, epoch))
        if exceeded:
            self._rounds = deque(waiting, MAX_STARTUP_ROUNDS)
        return exceeded

    def clear(self) -> None:
        """Drop all rounds."""
        self._rounds.clear()
