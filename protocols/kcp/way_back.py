"""The way back, as acknowledgements in ranges show it: those that were lost, and its queue.

The peer's clock is in each of them. The time from there to here, less the shortest one lately, is the time
that it waited in queues of the way back: no part of it is the queue of the data.
"""

from __future__ import annotations

from iperfpy.protocols.kcp.ack_ranges import RangeAck, interval_code
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator
from iperfpy.protocols.kcp.wire import expand

INTERVALS_PER_RTT = 8
REPAIRS = 8
"""Acknowledgements after a lost one whose ranges may tell something new: the peer repeats each range four
times, and some may be lost again."""
MEMORY_US = 10_000_000
"""The shortest time on the way back is that of the last one to two of these periods: clocks drift apart."""
STANDING_US = 2_000
"""Least queue on the way back that counts: a machine may be as late."""
MOST_THINNING, THINNER, DENSER = 8.0, 1.5, 0.95
"""The interval is at most this many eighths of a round trip; each round it grows or shrinks by a factor."""


class WayBack:
    """Follows the acknowledgements in ranges of a peer.

    Attributes
    ----------
    lost : acknowledgements that did not come, or not yet
    queue_us : time that the last one waited on the way back
    thinning : factor of the interval between acknowledgements, above 1 if the way back has a standing queue
    """

    __slots__ = (
        "_least_us", "_offset_us", "_period_us", "_repairs", "_round_least_us", "_round_us", "_serial",
        "_shortest_us", "lost", "queue_us", "thinning",
    )  # fmt: skip

    def __init__(self) -> None:
        self.lost = 0
        self.queue_us = 0
        self.thinning = 1.0
        self._serial: int | None = None  # of the newest one
        self._repairs = 0
        self._offset_us = 0
        self._shortest_us = self._least_us = 0  # of the periods before, and of this one too
        self._period_us = self._round_us = 0
        self._round_least_us = 0

    def take(self, ack: RangeAck, now_us: int, rtt: RttEstimator) -> bool:
        """Note an acknowledgement. Returns True if its ranges may tell something that its rows do not."""
        self._follow_queue(ack.clock_us, now_us, rtt)
        if self._serial is None:
            self._serial = ack.serial
            self._repairs = REPAIRS if ack.serial else 0
            return self._repairs > 0
        serial = self._serial + ((ack.serial - self._serial + 0x8000) & 0xFFFF) - 0x8000
        missing = serial - self._serial - 1
        if missing < 0:
            self.lost = max(0, self.lost - 1)  # it was late
            return True
        self._serial = serial
        if missing:
            self.lost += missing
            self._repairs = REPAIRS
        elif self._repairs:
            self._repairs -= 1
        return self._repairs > 0

    def interval_code(self, least_rtt_us: int) -> int:
        """The field frg of data segments; 0 before there is a round-trip time."""
        return interval_code(least_rtt_us * self.thinning / INTERVALS_PER_RTT) if least_rtt_us else 0

    def _follow_queue(self, clock_us: int, now_us: int, rtt: RttEstimator) -> None:
        # The two clocks have nothing in common: only changes of the difference count.
        self._offset_us = way_us = now_us - expand(clock_us, now_us - self._offset_us)
        if not self._period_us:
            self._period_us = self._round_us = now_us
            self._shortest_us = self._least_us = self._round_least_us = way_us
        elif now_us - self._period_us > MEMORY_US:
            self._shortest_us, self._least_us = self._least_us, way_us
            self._period_us = now_us
        if way_us < self._least_us:
            self._least_us = way_us
        if way_us < self._shortest_us:
            self._shortest_us = way_us
        self.queue_us = way_us - self._shortest_us
        if now_us - self._round_us > rtt.srtt_us:
            self._end_round(rtt.minimum_us)
            self._round_us, self._round_least_us = now_us, way_us
        elif way_us < self._round_least_us:
            self._round_least_us = way_us

    def _end_round(self, least_rtt_us: int) -> None:
        standing_us = self._round_least_us - self._shortest_us
        if standing_us > max(STANDING_US, least_rtt_us // INTERVALS_PER_RTT):
            self.thinning = min(MOST_THINNING, self.thinning * THINNER)
        else:
            self.thinning = max(1.0, self.thinning * DENSER)
