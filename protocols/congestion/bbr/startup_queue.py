"""The queue that STARTUP begins to build, found within a round trip.

STARTUP doubles its rate every round trip, and learns a round trip late that the path is full. The draft then
waits for three rounds without growth, or for a round with losses. By that time it has lost a tenth of what it
sent in its first second, if the buffer holds one bandwidth-delay product.

The first sign of a full path is a round-trip time above the level. From then on STARTUP sends no more than
the bandwidth, which costs little if the sign is wrong: the segments on the way left at twice the rate, so
their acknowledgements go on to raise the bandwidth. The same segments answer the question. Once a segment
that left after the sign is acknowledged, either

* round trips were short again meanwhile: STARTUP has gone on at its full rate;
* or the bandwidth has grown: longer round trips are the path's own, or another flow's. They are the base from
  now on, and STARTUP goes on;
* or it has not: the path is full.
"""

from __future__ import annotations

from iperfpy.protocols.congestion.bbr.full_pipe import FULL_PIPE_GROWTH
from iperfpy.protocols.congestion.bbr.loss_tally import MIN_LOSS_SAMPLE
from iperfpy.protocols.congestion.bbr.path_delay import HOST_DELAY_US, PathDelay
from iperfpy.protocols.congestion.congestion_control import Ack


class StartupQueue:
    """Detector of the queue of STARTUP.

    Attributes
    ----------
    rising : True if the last round-trip time of STARTUP is above the base
    """

    def __init__(self) -> None:
        self.rising = False
        self._base_us = 0.0  # longest mean round-trip time that was no queue of this flow
        self._since_us = self._delivered = 0  # of the first longer round trip
        self._bandwidth = 0.0  # estimate at that time, segments per second

    def update(self, ack: Ack, delay: PathDelay, bandwidth: float) -> bool:
        """Take an ACK of STARTUP.

        Parameters
        ----------
        bandwidth : estimate, segments per second

        Returns
        -------
        True if the path is full.
        """
        # Before the first mean, the level is a single sample, and most of a path's delays are above it.
        if ack.rtt_mean_us is None or not delay.measured:
            return False
        base_us = max(self._base_us, delay.level_us)
        rising = ack.rtt_mean_us > base_us + max(delay.sample_tolerance_us, HOST_DELAY_US)
        if rising and not self.rising:
            self._since_us, self._delivered, self._bandwidth = ack.now_us, ack.delivered, bandwidth
        self.rising = rising
        answered = ack.flight is not None and ack.flight.stamp_us > self._since_us
        # As in `FullPipe`, a few deliveries are no evidence.
        if not rising or not answered or ack.delivered - self._delivered < MIN_LOSS_SAMPLE:
            return False
        if bandwidth < self._bandwidth * FULL_PIPE_GROWTH:
            return True
        self._base_us, self.rising = delay.smoothed_us, False
        return False
