"""Small estimators over acknowledgements: rounds, a full pipe, aggregation (draft 5.5.1, 5.3.1.2, 5.5.9)."""

from __future__ import annotations

from protocols.congestion.contract import Ack
from protocols.congestion.filters import WindowedMax

FULL_PIPE_GROWTH = 1.25
FULL_PIPE_ROUNDS = 3
AGGREGATION_ROUNDS = 10
LONGEST_LUMP_US = 10_000
"""Acknowledgements held back for longer, beyond a round trip, are an outage, not aggregation: event loops are
late by up to 8 ms. The draft's bound is the window alone, under which a single stall keeps it large."""


class Rounds:
    """Packet-timed rounds: one is over when something sent after its begin is acknowledged (5.5.1)."""

    def __init__(self) -> None:
        self.count = 0
        self.started = False
        self._next_delivered = 0

    def update(self, ack: Ack) -> None:
        self.started = ack.flight is not None and ack.flight.delivered >= self._next_delivered
        if self.started:
            self.count += 1
            self.restart(ack.delivered)

    def restart(self, delivered: int) -> None:
        """BBRStartRound: the round in progress ends with what is sent from now on."""
        self._next_delivered = delivered


class FullPipe:
    """Has the delivery rate stopped growing though we send faster? (BBRCheckFullBWReached, 5.3.1.2)"""

    def __init__(self) -> None:
        self.reached = False
        """Ever."""
        self.now = False
        """Since the last `reset`."""
        self.flat_rounds = 0
        self.rate = 0.0

    def reset(self, rate: float = 0.0) -> None:
        self.rate, self.flat_rounds, self.now = rate, 0, False

    def update(self, rate: float) -> None:
        """The best delivery rate of a round that was not limited by the application."""
        if self.now:
            return
        if rate >= self.rate * FULL_PIPE_GROWTH:
            self.reset(rate)
            return
        self.flat_rounds += 1
        self.now = self.flat_rounds >= FULL_PIPE_ROUNDS
        self.reached = self.reached or self.now


class Aggregation:
    """`extra`: how many segments more than the bandwidth explains are acknowledged in one lump (5.5.9)."""

    def __init__(self) -> None:
        self._filter = WindowedMax(AGGREGATION_ROUNDS)
        self.extra = 0.0
        self._since_us = 0
        self._acked = 0

    def restart(self, now_us: int) -> None:
        self._since_us, self._acked = now_us, 0

    def update(self, ack: Ack, bandwidth: float, window: float, round_: int, min_rtt_us: float) -> None:
        """`bandwidth` is what should be acknowledged per second."""
        expected = bandwidth * (ack.now_us - self._since_us) / 1e6
        if self._acked <= expected:
            self.restart(ack.now_us)
            expected = 0.0
        self._acked += ack.acked
        most = min(window, bandwidth * (LONGEST_LUMP_US + min_rtt_us) / 1e6)
        self.extra = self._filter.update(round_, min(self._acked - expected, most))
