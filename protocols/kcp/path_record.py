"""The sender's record of the path: every transmission with its fate, and round-trip times.

    engine     left          a transmission leaves
    delivery   covered...    segments below una without an ACK of their own: their last transmission arrived
               marked        ACKs, or rows of an acknowledgement in ranges: the echo names the transmission
               copies        ACKs of segments that have arrived before
    evidence   flights, displacements, rates          read by kcp_evidence.py at the end of a test

It costs a microsecond per acknowledgement while nothing is lost: then all of it left within one or two bins.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.flight_recorder import FlightRecorder
from iperfpy.protocols.kcp.engine_counts import Counts
from iperfpy.protocols.kcp.retransmission_log import RetransmissionLog
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator, RttSamples
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.wire import HEADER_BYTES, Int64s
from iperfpy.protocols.log_histogram import LogHistogram


class PathRecord:
    """Keeps the fate of all transmissions of one sender.

    Attributes
    ----------
    resent : segments that were sent more than once
    flights : packets by the time of their transmission, bytes of UDP payload, and round-trip times
    displacements : times by which segments were acknowledged after later transmissions
    rates : the delivery rate while the path had a queue
    overtaken : segments that were missing when a later one was acknowledged, each counted once
    """

    __slots__ = (
        "_counts", "_newest_us", "_passed", "_sending", "displacements", "flights", "overtaken", "rates",
        "resent",
    )  # fmt: skip

    def __init__(self, sending: SendWindow, rtt: RttEstimator, counts: Counts) -> None:
        self.resent = RetransmissionLog()
        self.flights = FlightRecorder()
        self.displacements = LogHistogram()
        self.rates = DeliveryRates(rtt)
        self._sending, self._counts = sending, counts
        self._newest_us = -1
        self.overtaken, self._passed = 0, sending.una

    # -- departures

    def left(self, first: int, last: int, stamp_us: int) -> None:
        """Segments [first, last) leave for the first time."""
        self.flights.sent(stamp_us, last - first, self._size(first, last))

    def left_again(self, numbers: Int64s, rows: Int64s, stamp_us: int) -> None:
        """These segments, (n,), in these rows of the send window, leave again."""
        sizes = self._sizes(rows)
        size = sizes * len(numbers) if isinstance(sizes, int) else int(sizes.sum())
        self.flights.sent(stamp_us, len(numbers), size)
        self.resent.sent_again(numbers, stamp_us, self._sending.capacity)

    def _size(self, first: int, last: int) -> int:
        sending = self._sending
        if not sending.shorts:
            return (last - first) * sending.mtu
        length = sending.state.length
        payload = sum(int(length[start:stop].sum()) for start, stop in sending.pieces(first, last))
        return payload + (last - first) * HEADER_BYTES

    def _sizes(self, rows: Int64s) -> int | Int64s:
        """Bytes of the datagrams of segments in these rows, (n,), or of all of them."""
        sending = self._sending
        if not sending.shorts:
            return sending.mtu
        sizes: Int64s = sending.state.length[rows].astype(np.int64) + HEADER_BYTES
        return sizes

    # -- arrivals

    def covered_in_order(self, una: int, first_us: int, last_us: int, samples: RttSamples) -> None:
        """The cumulative ACK is about to move to `una`, at most `nxt`. Of what it covers, nothing was sent
        again, and nothing has an ACK of its own.

        Parameters
        ----------
        first_us, last_us : stamps of the first and the last segment: they left in this order
        samples : their round-trip times
        """
        sending = self._sending
        segments = una - sending.una
        size = self._size(sending.una, una) if sending.shorts else segments * sending.mtu
        if not self.flights.arrived_together(first_us, last_us, segments, size, samples.mean_us):
            rows = np.arange(sending.una, una) & sending.mask
            self.flights.arrived(sending.state.sent_us[rows], self._sizes(rows), samples.mean_us)

    def covered(self, una: int, samples: RttSamples | None) -> None:
        """The cumulative ACK is about to move to `una`. What it covers, and has no ACK of its own, counts by
        its last transmission. `samples`: the round-trip times of those that were sent once, if known."""
        sending = self._sending
        una = min(una, sending.nxt)
        if una <= sending.una:
            return
        state, delay_us = sending.state, None if samples is None else samples.mean_us
        for start, stop in sending.pieces(sending.una, una):
            if sending.sacked:
                rows = start + np.flatnonzero(~state.acked[start:stop])
                if not len(rows):
                    continue
            else:
                rows = np.arange(start, stop)
            stamps_us = state.sent_us[rows]
            delays_us: float | NDArray[np.float64] | None = delay_us
            if self._counts.retransmitted:
                again = state.transmissions[rows] > 1
                if again.any():
                    self.resent.covered(sending.una + (rows - sending.una & sending.mask))
                    if delay_us is not None:  # Karn's rule
                        delays_us = np.where(again, np.nan, delay_us)
            self.flights.arrived(stamps_us, self._sizes(rows), delays_us)

    def marked(self, fresh: Int64s, echoes_us: Int64s, delays_us: Int64s | NDArray[np.float64]) -> None:
        """Segments were newly acknowledged one by one.

        Parameters
        ----------
        fresh, echoes_us : (n,), n > 0, in order, and the transmissions that arrived
        delays_us : (n,), their round-trip times, NaN where they are not known
        """
        self.flights.arrived(echoes_us, self._sizes(fresh & self._sending.mask), delays_us)
        newest_us = self._newest_us
        if len(echoes_us) == 1:
            echo_us = int(echoes_us[0])
            if echo_us >= newest_us:
                self._newest_us = echo_us
            else:
                self.displacements.add(newest_us - echo_us)
            return
        if int(echoes_us.min()) < newest_us:
            for late_us in (newest_us - echoes_us[echoes_us < newest_us]).tolist():
                self.displacements.add(late_us)
        self._newest_us = max(newest_us, int(echoes_us.max()))

    def overtook(self, highest: int, una: int) -> None:
        """Segment `highest` was newly acknowledged: it has overtaken those that are missing below it. `una`
        is the cumulative ACK that came with it."""
        first = max(self._passed, una)
        if highest >= first:
            self.overtaken += len(self._sending.outstanding(first, highest))
            self._passed = highest + 1

    def copies(self, numbers: Int64s, echoes_us: Int64s, at: NDArray[np.intp]) -> None:
        """Segments were acknowledged one by one, (n,), and some were sent more than once. `at`: (m,), places
        of those that are newly acknowledged, which `marked` has counted."""
        copies = self.resent.new_copies(numbers, echoes_us, at)
        if len(copies):
            # Their rows may hold other segments by now. A copy of a short segment is rare.
            self.flights.arrived(echoes_us[copies], self._sending.mtu, None)

    def repaired(self, fresh: Int64s) -> None:
        """Ranges acknowledge these segments, (n,), with lost rows: their last transmission counts."""
        rows = fresh & self._sending.mask
        self.flights.arrived(self._sending.state.sent_us[rows], self._sizes(rows), None)
        if self._counts.retransmitted:
            self.resent.covered(fresh)


class DeliveryRates:
    """Mean and deviation of the delivery rate over periods in which the path had a queue, and neither the
    application nor a window limited the sender: then the path alone decides when segments arrive.

    A period has `PERIOD_US`, or a round trip if that is longer, and ends with an acknowledgement.
    """

    PERIOD_US = 100_000
    QUEUE_SHARE, QUEUE_US = 0.05, 1_000.0
    """Round-trip time above the shortest one from which there is a queue."""

    __slots__ = ("_began_us", "_busy", "_delivered", "_ends_us", "_mean", "_rtt", "_squares", "periods")

    def __init__(self, rtt: RttEstimator) -> None:
        self._rtt = rtt
        self._began_us = self._ends_us = self._delivered = 0
        self._busy = False
        self.periods = 0
        self._mean = self._squares = 0.0

    def acknowledged(self, delivered: int, now_us: int, *, limited: bool) -> None:
        """Take the segments delivered so far. `limited`: the application or a window limits the sender."""
        if limited:
            self._busy = False
        if now_us < self._ends_us and delivered >= self._delivered:
            return
        least_us = self._rtt.minimum_us
        queued = self._rtt.srtt_us > least_us * (1 + self.QUEUE_SHARE) + self.QUEUE_US
        # A controller that began anew counts from 0.
        if self._busy and queued and delivered > self._delivered:
            self._take((delivered - self._delivered) * 1e6 / (now_us - self._began_us))
        self._began_us, self._delivered = now_us, delivered
        self._ends_us = now_us + max(self.PERIOD_US, int(self._rtt.srtt_us))
        self._busy = queued and not limited

    def _take(self, rate: float) -> None:
        # Welford's recurrence: mean and sum of squares without a list.
        self.periods += 1
        difference = rate - self._mean
        self._mean += difference / self.periods
        self._squares += difference * (rate - self._mean)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over mean; None below three periods."""
        if self.periods < 3 or not self._mean:
            return None
        return sqrt(self._squares / (self.periods - 1)) / self._mean
