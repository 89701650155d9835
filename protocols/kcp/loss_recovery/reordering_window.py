"""The reordering window of time-ordered recovery."""

from __future__ import annotations

from iperfpy.protocols.congestion.congestion_control import FOUND_LATE_RTTS
from iperfpy.protocols.kcp.loss_recovery.recovery_timer import LARGEST_TIMEOUT_US
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator

REORDERING_MEMORY_ROUNDS = 16
"""Rounds without displacement after which the reordering window starts to shrink (RFC 8985, 6.2 step 4)."""
THIN_RTTS = 1 / 64
"""Part of the minimum RTT that is waited for a thin stream, in place of `FOUND_LATE_RTTS`: a retransmission
in vain costs it next to nothing, and each loss delays its messages by the window."""


class ReorderingWindow:
    """Tolerance for reordering (RFC 8985, 6.2 step 4), by the displacement that was really seen.

    Attributes
    ----------
    thin : see `Recovery`
    """

    __slots__ = ("_displaced_us", "_displacement_us", "_rtt", "thin")

    def __init__(self, rtt: RttEstimator) -> None:
        self._rtt, self.thin = rtt, False
        self._displacement_us = self._displaced_us = 0

    @property
    def width_us(self) -> int:
        """The time by which an older transmission may be acknowledged after a newer one before it is lost:
        an eighth of the minimum RTT, or the displacement seen lately and a tenth."""
        share = THIN_RTTS if self.thin else FOUND_LATE_RTTS
        return max(int(self._rtt.minimum_us * share), self._displacement_us * 11 // 10)

    def displaced(self, by_us: int, now_us: int) -> None:
        """A transmission was acknowledged after one that left later, and took `by_us` longer."""
        # RFC 8985 ends the window at srtt. On a path of two ways the longer one exceeds any mean, and a
        # segment given up too early takes its own sample out of srtt.
        by_us = min(by_us, LARGEST_TIMEOUT_US)
        if by_us >= self._displacement_us:
            self._displacement_us = by_us
            self._displaced_us = now_us
        elif by_us > self._displacement_us / 2:
            self._displaced_us = now_us

    def forget(self, now_us: int) -> None:
        """Halve the displacement when none of its size was seen for some rounds."""
        memory_us = REORDERING_MEMORY_ROUNDS * self._rtt.srtt_us
        if self._displacement_us and now_us - self._displaced_us > memory_us:
            self._displacement_us //= 2
            self._displaced_us = now_us
