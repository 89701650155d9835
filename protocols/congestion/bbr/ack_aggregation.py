"""BBRUpdateACKAggregation (draft 5.5.9): segments acknowledged in one lump."""

from __future__ import annotations

from iperfpy.protocols.congestion.congestion_control import Ack
from iperfpy.protocols.congestion.filters import WindowedMax

AGGREGATION_ROUNDS = 10


LONGEST_LUMP_US = 10_000
"""Acknowledgements held back for longer, beyond a round trip, are an outage, not aggregation: event loops are
late by up to 8 ms. The draft's bound is the window alone, under which a single stall keeps it large."""


class AckAggregation:
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
