"""The probe for bandwidth in progress: its reaction to losses, and the signs that end UP (draft 5.3.3.6)."""

from __future__ import annotations

from iperfpy.protocols.congestion.bbr.path_delay import PathDelay
from iperfpy.protocols.congestion.congestion_control import Flight

# draft 5.3.1.2

UP_GROWTH = 1.25
"""Growth of the bandwidth that is a new baseline for UP."""

# not in the draft; chosen by simulation

QUEUE_EXIT_GROWTH = 1.1
"""Growth of the bandwidth that allows UP to go on although the round-trip time rises."""
QUEUE_EXIT_SHARE = 1 / 8
"""Rise of the round-trip time, as a share of the minimum, that ends UP without such growth."""


class BandwidthProbe:
    """REFILL and UP, as one probe.

    Attributes
    ----------
    open : True if the probe has not yet been ended by losses (BBR.bw_probe_samples)
    losing : True if the last losses evaluated exceed the loss floor
    lost_flight : record of the newest transmission that was lost
    """

    def __init__(self) -> None:
        self.open = False
        self.losing = False
        self.lost_flight: Flight | None = None
        self._bandwidth = 0.0
        self._base_rtt_us = 0.0

    def start_up(self, bandwidth: float, rtt_us: float) -> None:
        """Note the bandwidth (segments per second) and the round-trip time at which UP begins."""
        self.open = True
        self._bandwidth, self._base_rtt_us = bandwidth, rtt_us

    def raise_baseline(self, bandwidth: float) -> bool:
        """True if the bandwidth has grown by a fourth; it is then the new baseline."""
        if bandwidth < self._bandwidth * UP_GROWTH:
            return False
        self._bandwidth = bandwidth
        return True

    def builds_queue(self, bandwidth: float, rtt_us: float, delay: PathDelay) -> bool:
        """True if sending faster raised the round-trip time and not the bandwidth."""
        if bandwidth >= self._bandwidth * QUEUE_EXIT_GROWTH:
            return False
        return rtt_us > self._base_rtt_us + max(delay.level_us * QUEUE_EXIT_SHARE, delay.sample_tolerance_us)
