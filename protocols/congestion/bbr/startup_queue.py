"""The queue that STARTUP begins to build, and the question whether it is this flow's own.

STARTUP doubles its rate every round trip, and learns a round trip late that the path is full. The draft then
waits for three rounds without growth, or for a round with losses. By that time it has lost a tenth of what it
sent in its first second, if the buffer holds one bandwidth-delay product.

The first sign of a full path is a round-trip time above the level. But the queue may be that of other flows,
and then it says nothing of this flow's share. The principle of the model tells them apart: what changes with
our rate is ours, and what changes although our rate stays is not.

    before the sign   Round trips stayed as they were while this flow grew. Only then can its growth be the
                      reason for the queue. A flow that starts behind a queue never saw that.
    from the sign on  The pace is held at the bandwidth. The segments on the way left at a higher rate, and
                      fill the queue for one more round trip. If they bring a higher bandwidth, the path had
                      room.
    a round trip on   The segments that left while the pace was held arrive. If the queue is gone, it was this
                      flow's. If their round-trip times go on rising, or some are lost, other flows send more
                      than is left for them.

If all three say so, the queue is this flow's own, and the path is full. Else STARTUP goes on as in the draft.
"""

from __future__ import annotations

from iperfpy.protocols.congestion.bbr.full_pipe import FULL_PIPE_GROWTH
from iperfpy.protocols.congestion.bbr.loss_floor import LOSS_THRESHOLD
from iperfpy.protocols.congestion.bbr.path_delay import HOST_DELAY_US, DelaySamples, PathDelay
from iperfpy.protocols.congestion.congestion_control import Ack

# not in the draft; chosen by simulation

PART_RTTS = 1 / 2
"""Length of each of the two parts of a hold that are compared, in round trips of the path."""
ROOM_GROWTH = 1.5
"""Growth of the bandwidth from the sign on that shows that the path has room. On a full path it still grows
by up to 1.2, because it is a mean over a round trip; on a path with room it doubles."""


class StartupQueue:
    """Detector of a queue of STARTUP's own.

    Attributes
    ----------
    holding : True if the pace is held at the bandwidth
    """

    def __init__(self) -> None:
        self.holding = False
        self._shared = False  # the queue is not this flow's own
        self._clear_bandwidth = 0.0  # first estimate without a queue
        self._grown = False  # the bandwidth has grown without a queue
        self._since_us = self._released_us = 0
        self._bandwidth = 0.0  # estimate at the sign
        self._part = DelaySamples()
        # At the end of the first part: its mean round-trip time, and the totals.
        self._first_us = 0.0
        self._lost = self._delivered = 0

    def tries(self, ack: Ack) -> bool:
        """True if the segment acknowledged left while STARTUP tried to send faster."""
        return not self.holding and (ack.flight is None or ack.flight.stamp_us >= self._released_us)

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
        if self._shared or ack.rtt_mean_us is None or ack.flight is None or not delay.measured:
            return False
        if ack.flight.limited:
            self.release(ack.now_us)
            return False  # something else than the path keeps the rate from growing
        tolerance_us = max(delay.sample_tolerance_us, HOST_DELAY_US)
        if ack.rtt_mean_us <= delay.level_us + tolerance_us:
            if self.holding and ack.flight.stamp_us > self._since_us:
                return True  # the queue is gone with the load
            self.release(ack.now_us)
            # The level may hold a queue of others; the least sample hardly does.
            if ack.rtt_mean_us <= delay.least_us + tolerance_us:
                self._clear_bandwidth = self._clear_bandwidth or bandwidth
                self._grown = self._grown or bandwidth >= self._clear_bandwidth * FULL_PIPE_GROWTH
            return False
        if not self.holding:
            # On a lossy path a hold could not tell the losses of others.
            if not self._grown or ack.lost > 1 + LOSS_THRESHOLD * ack.delivered:
                return False
            self.holding, self._since_us, self._bandwidth = True, ack.now_us, bandwidth
            self._part, self._first_us = DelaySamples(), 0.0
            return False
        if bandwidth >= self._bandwidth * ROOM_GROWTH:
            self._give_up(ack.now_us)
            return False
        return self._compare(ack, ack.rtt_mean_us, delay)

    def _give_up(self, now_us: int) -> None:
        """Go on with STARTUP: the queue is not this flow's own."""
        self._shared = True
        self.release(now_us)

    def release(self, now_us: int) -> None:
        """End the hold, if there is one: it was answered, or STARTUP is over."""
        if self.holding:
            self.holding, self._released_us = False, now_us

    def _compare(self, ack: Ack, rtt_us: float, delay: PathDelay) -> bool:
        """Compare the two parts of the hold; True if the queue is this flow's own."""
        left_us = (ack.flight.stamp_us if ack.flight else 0) - self._since_us
        if left_us <= 0:
            return False
        self._part.add(rtt_us, ack.rtt_samples)
        parts = 2 if self._first_us else 1
        if left_us < parts * PART_RTTS * delay.level_us or not self._part.suffices:
            return False
        mean_us, first_us = self._part.mean_us, self._first_us
        if not first_us:
            self._part, self._first_us = DelaySamples(), mean_us
            self._lost, self._delivered = ack.lost, ack.delivered
            return False
        delivered, lost = ack.delivered - self._delivered, ack.lost - self._lost
        rises = mean_us > first_us + delay.mean_tolerance_us
        if rises or lost > 1 + LOSS_THRESHOLD * delivered:
            self._give_up(ack.now_us)
            return False
        return True
