"""PROBE_RTT: the window is reduced, and the round-trip time measured behind the drained queue (draft 5.3.4).

enter            remember the conditions before
start_hold       in flight has come down to the reduced window
note             least round-trip time while it is held there
finished         200 ms and one round later, the probe is over
"""

from __future__ import annotations

from math import inf

# draft 2.13

PROBE_RTT_DURATION_US = 200_000
"""BBR.ProbeRTTDuration."""


class ProbeRtt:
    """The PROBE_RTT in progress, or the last one.

    Attributes
    ----------
    rtt_before_us : least round-trip time of the last round before it
    bandwidth_before : best bandwidth sample of the last two rounds before it, segments per second
    rtt_us : least round-trip time during the hold; infinite before the first sample
    round_over : True if a round has passed since the hold began (BBR.probe_rtt_round_done)
    """

    def __init__(self) -> None:
        self.rtt_before_us = 0.0
        self.bandwidth_before = 0.0
        self.rtt_us = inf
        self.round_over = False
        self._done_us: int | None = None  # BBR.probe_rtt_done_stamp

    def enter(self, rtt_us: float, bandwidth: float) -> None:
        """BBREnterProbeRTT (5.3.4.3)."""
        self.rtt_before_us, self.bandwidth_before = rtt_us, bandwidth
        self._done_us = None

    @property
    def holding(self) -> bool:
        """True if in flight has come down to the reduced window."""
        return self._done_us is not None

    def start_hold(self, now_us: int) -> None:
        """Start the hold; samples from here on count."""
        self._done_us = now_us + PROBE_RTT_DURATION_US
        self.round_over = False
        self.rtt_us = inf

    def note(self, rtt_us: int | None, round_started: bool) -> None:
        """Take an ACK during the hold."""
        if rtt_us is not None and rtt_us < self.rtt_us:
            self.rtt_us = float(rtt_us)
        self.round_over = self.round_over or round_started

    def finished(self, now_us: int) -> bool:
        """True if the hold has lasted long enough."""
        return self._done_us is not None and now_us > self._done_us
