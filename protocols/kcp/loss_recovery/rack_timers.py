"""The two clocks of time-ordered recovery: the reordering window, and the probe and retransmission timer."""

from __future__ import annotations

from iperfpy.protocols.congestion.congestion_control import FOUND_LATE_RTTS
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator

INITIAL_TIMEOUT_US = 1_000_000
"""RFC 6298, 2.1."""
FIRST_PROBE_US = 200_000
"""KCP's first timeout (IKCP_RTO_DEF), used until there is an RTT sample. On a longer path such a probe costs
one segment, new data if there is any; if all first segments are lost, it saves most of a second. Half of it
does harm where the path is short and its queue full: most connections would send one."""
SMALLEST_TIMEOUT_US = 200_000
"""Below the 1 s of RFC 6298, 2.4, as Linux has it; time-ordered detection makes timeouts rare."""
LARGEST_TIMEOUT_US = 1_000_000
"""Backoff ends here (or at 3 smoothed RTTs): a path that comes back is found within a second."""
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
        """A transmission was acknowledged after one that left `by_us` later."""
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


class RecoveryTimer:
    """Tail loss probe (RFC 8985, 7), then retransmission timeout (RFC 6298).

    Attributes
    ----------
    probing : True between a probe and the acknowledgement, or the timeout, that follows it
    backoff : timeouts in a row
    """

    __slots__ = (
        "_known", "_known_us", "_probed_us", "_progress_us", "_rtt", "_sent_us", "backoff", "probing",
    )  # fmt: skip

    def __init__(self, rtt: RttEstimator) -> None:
        self._rtt = rtt
        self._sent_us = self._progress_us = self._probed_us = 0
        self.probing = False
        self.backoff = 0
        self._known, self._known_us = (-1, 0), 0

    def sent(self, stamp_us: int, *, first: bool) -> None:
        """A transmission left; `first`: with nothing else in flight."""
        self._sent_us = stamp_us
        if first:
            self._progress_us = stamp_us

    def progressed(self, now_us: int) -> None:
        """Something was newly acknowledged."""
        self._progress_us = now_us
        self.backoff = 0
        self.probing = False

    def probed(self, now_us: int) -> None:
        """A probe leaves now; the timer starts again with it (RFC 8985, 7.3)."""
        self.probing = True
        self._probed_us = now_us

    def expired(self, now_us: int) -> None:
        """The timer expired (RFC 6298, 5.5 and 5.6)."""
        self.backoff = min(self.backoff + 1, 16)
        self._progress_us = now_us

    def _timeout_us(self) -> int:
        # Asked several times for each datagram, and another one only after a sample or a timeout.
        known = self._rtt.samples, self.backoff
        if known != self._known:
            self._known, self._known_us = known, self._computed_us()
        return self._known_us

    def _computed_us(self) -> int:
        timeout_us = self._rtt.timeout_us(1_000, SMALLEST_TIMEOUT_US, INITIAL_TIMEOUT_US)
        largest_us = max(timeout_us, LARGEST_TIMEOUT_US, int(3 * self._rtt.srtt_us))
        return min(timeout_us << self.backoff, largest_us)

    def timeout_at_us(self) -> int:
        """The time of the timeout, once a probe was sent."""
        return max(self._progress_us, self._probed_us) + self._timeout_us()

    def probe_at_us(self) -> int:
        """RFC 8985, 7.2: two round trips after the last transmission or progress, or when the retransmission
        timer would expire, if that is sooner: a timeout is always preceded by a probe."""
        sent_us, progress_us = self._sent_us, self._progress_us
        wait_us = max(2 * int(self._rtt.srtt_us), 10_000) if self._rtt.samples else FIRST_PROBE_US
        probe_us = (sent_us if sent_us > progress_us else progress_us) + wait_us
        timeout_us = progress_us + self._timeout_us()
        return probe_us if probe_us < timeout_us else timeout_us

    def deadline_us(self) -> int:
        """The time of the next of the two."""
        return self.timeout_at_us() if self.probing else self.probe_at_us()
