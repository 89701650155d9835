"""The timer of time-ordered recovery: tail loss probe, then retransmission timeout."""

from __future__ import annotations

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
