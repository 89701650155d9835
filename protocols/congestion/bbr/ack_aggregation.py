"""Segments acknowledged in one burst beyond the bandwidth (BBRUpdateACKAggregation, draft 5.5.9)."""

from __future__ import annotations

from iperfpy.protocols.congestion.congestion_control import Ack
from iperfpy.protocols.congestion.filters import WindowedMax

# draft 2.11

EXTRA_ACKED_ROUNDS = 10
"""BBR.ExtraAckedFilterLen."""

# not in the draft; chosen by simulation

MAX_AGGREGATION_US = 100_000
"""Longest time, beyond a round trip, for which held-back ACKs count as aggregation, as in Linux: Wi-Fi and
DOCSIS release them every few tens of milliseconds. The draft's only bound is the window, and with it an
outage would keep the allowance large."""


class AckAggregation:
    """Estimator of the degree of ACK aggregation.

    Attributes
    ----------
    extra_acked : segments acknowledged at once beyond the expected number (BBR.extra_acked)
    """

    def __init__(self) -> None:
        self._filter = WindowedMax(EXTRA_ACKED_ROUNDS)
        self.extra_acked = 0.0
        self._since_us = 0  # BBR.extra_acked_interval_start
        self._acked = 0  # BBR.extra_acked_delivered

    def restart(self, now_us: int) -> None:
        """Begin a new interval of measurement."""
        self._since_us, self._acked = now_us, 0

    def update(self, ack: Ack, bandwidth: float, window: float, round_: int, min_rtt_us: float) -> None:
        """Take an ACK.

        Parameters
        ----------
        bandwidth : expected delivery rate, segments per second
        window : segments
        round_ : number of the current round
        """
        expected = bandwidth * (ack.now_us - self._since_us) / 1e6
        # ACKs no longer run ahead of the expected rate: a new interval begins.
        if self._acked <= expected:
            self.restart(ack.now_us)
            expected = 0.0
        self._acked += ack.acked
        most = min(window, bandwidth * (MAX_AGGREGATION_US + min_rtt_us) / 1e6)
        self.extra_acked = self._filter.update(round_, min(self._acked - expected, most))
