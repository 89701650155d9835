"""CUBIC (RFC 9438) as a controller of iperfpy's own engine, for tests of flows that share a path.

Slow start, cubic growth with fast convergence and the Reno-friendly region, one reduction per round trip of
losses, one segment after a timeout. An ACK releases new segments at once: there is no pacing, as in most TCP.
"""

from __future__ import annotations

from typing import ClassVar

from iperfpy.protocols.congestion.congestion_control import UNLIMITED, Ack, Loss

CUBE = 0.4
BETA = 0.7
_SMALLEST = 2.0


class Cubic:
    """A `CongestionControl`, see `iperfpy.protocols.congestion`."""

    name: ClassVar[str] = "cubic"
    pacing_rate = UNLIMITED
    burst = 10

    def __init__(self, initial_window: int = 10) -> None:
        self._window = float(initial_window)
        self._threshold = float("inf")
        self._top = 0.0  # W_max
        self._epoch_us: int | None = None
        self._estimate = 0.0  # W_est of 4.3
        self._reach_s = 0.0  # K
        self._rtt_us = 0.0
        self._reduced_delivered = -1

    @property
    def window(self) -> int:
        return int(self._window)

    def on_sent(self, now_us: int, segments: int, in_flight: int) -> None:
        """CUBIC does not react to transmissions."""

    def on_idle(self, now_us: int) -> None:
        self._epoch_us = None

    def on_ack(self, ack: Ack) -> None:
        if ack.rtt_us is not None:
            self._rtt_us += (ack.rtt_us - self._rtt_us) / (8 if self._rtt_us else 1)
        if self._window < self._threshold:
            self._window += ack.acked
            return
        if self._epoch_us is None:
            # A new cubic epoch begins with the first ACK after a reduction (4.2).
            self._epoch_us = ack.now_us
            self._top = max(self._top, self._window)
            self._reach_s = ((self._top - self._window) / CUBE) ** (1 / 3)
            self._estimate = self._window
        after_s = (ack.now_us - self._epoch_us + self._rtt_us) / 1e6
        target = self._top + CUBE * (after_s - self._reach_s) ** 3
        self._estimate += 3 * (1 - BETA) / (1 + BETA) * ack.acked / self._window
        if target > self._window:
            self._window += min(0.5, (target - self._window) / self._window) * ack.acked
        self._window = max(self._window, self._estimate)

    def on_loss(self, loss: Loss) -> None:
        """Reduce the window (4.6), once for all segments in flight."""
        if loss.flight is not None and loss.flight.delivered < self._reduced_delivered:
            return
        self._reduced_delivered = loss.delivered
        # 4.7: fast convergence
        self._top = self._window * (1 + BETA) / 2 if self._window < self._top else self._window
        self._window = self._threshold = max(_SMALLEST, self._window * BETA)
        self._epoch_us = None

    def on_timeout(self, now_us: int) -> None:
        self._top = self._window
        self._threshold = max(_SMALLEST, self._window * BETA)
        self._window = 1.0
        self._epoch_us = None

    def state(self) -> dict[str, float | int | str | None]:
        return {
            "phase": "slow start" if self._window < self._threshold else "avoidance",
            "bandwidth_segments_per_s": None,
            "min_rtt_us": None,
            "noise_percent": None,
            "pacing_segments_per_s": None,
            "window_segments": self.window,
        }
