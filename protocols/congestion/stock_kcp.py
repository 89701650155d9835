"""The congestion control of stock KCP (nc=0), as ikcp and kcp-go have it.

It counts inputs, not bytes: every input that moves the cumulative ACK opens the window by one segment below
`ssthresh`, and above it by about 1/window + 1/16. A fast retransmission halves it, a timeout sets it to one.
There is no pacing. On long paths it grows too slowly to be useful, and KCP users switch it off; it is here so
that `kcp` measures what people deploy.
"""

from __future__ import annotations

from math import ceil
from typing import ClassVar

from iperfpy.protocols.congestion.congestion_control import UNLIMITED, Ack, Loss

SMALLEST_THRESHOLD = 2
_GROWTH = 1 / 16


class StockCongestionControl:
    """`CongestionControl` of stock KCP.

    Parameters
    ----------
    resend : the fast retransmit threshold; after one the window is half of the segments in flight plus this
    """

    name: ClassVar[str] = "classic"
    pacing_rate = UNLIMITED
    burst = 1 << 16

    def __init__(self, resend: int = 2) -> None:
        self._resend = resend
        self._window = 1
        self._threshold = SMALLEST_THRESHOLD
        self._credit = 1.0  # the window with its fraction, `incr` in units of segments
        self._timed_out = False

    @property
    def window(self) -> int:
        return self._window

    def on_sent(self, now_us: int, segments: int, in_flight: int) -> None:
        """Sending does not change the window."""

    def on_ack(self, ack: Ack) -> None:
        if not ack.advanced:
            return
        if self._window < self._threshold:
            self._window += 1  # slow start
            self._credit += 1.0
            return
        self._credit = max(self._credit, 1.0)
        self._credit += 1.0 / self._credit + _GROWTH
        if self._window + 1 <= self._credit:
            self._window = ceil(self._credit)

    def on_loss(self, loss: Loss) -> None:
        """Halve the threshold on a fast or early retransmission.

        Retransmissions by timeout are reported, too, after `on_timeout`. That has set the window already,
        and stock KCP leaves it so.
        """
        if self._timed_out:
            self._timed_out = False
            return
        self._threshold = max(SMALLEST_THRESHOLD, loss.in_flight // 2)
        self._open(self._threshold + self._resend)

    def on_timeout(self, now_us: int) -> None:
        self._threshold = max(SMALLEST_THRESHOLD, self._window // 2)
        self._open(1)
        self._timed_out = True

    def on_idle(self, now_us: int) -> None:
        """Do nothing: stock KCP keeps its window while idle."""

    def _open(self, window: int) -> None:
        self._window, self._credit = window, float(window)

    def state(self) -> dict[str, float | int | str | None]:
        return {
            "phase": "slow start" if self._window < self._threshold else "avoidance",
            "bandwidth_segments_per_s": None,
            "min_rtt_us": None,
            "noise_percent": None,
            "pacing_segments_per_s": None,
            "window_segments": self._window,
            "inflight_bound_segments": None,
        }
