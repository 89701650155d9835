"""What was delivered and what was lost: the accounting that recovery and congestion control need, done once.

acknowledge(una, each, newest_us, now_us)   an acknowledgement -> windows, recovery, RTT -> control.on_ack
detect(now_us)                              losses found since -> control.on_loss
flight(segments, now_us)                    what a transmission must remember until it is acknowledged
"""

from __future__ import annotations

from iperfpy.protocols.congestion.congestion_control import Ack, CongestionControl, Flight, Loss
from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.engine_options import Counts
from iperfpy.protocols.kcp.loss_recovery.recovery import Recovery
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.wire import Int64s

FEW = 24
"""Up to so many ACKs cost less one by one than as arrays."""
_LONGEST_RTT_US = 60_000_000


class DeliveryAccounting:
    """Attributes
    ----------
    delivered : segments acknowledged, each once
    marked : transmissions given up for lost, those included that were found to have arrived
    stamp_us : of the newest transmission; unique, so that its echo names it
    newest_us : the newest stamp that was echoed
    app_limited_until : samples measure the application until so many segments are delivered; 0: the path
    window_limited_until : the same of the send or receive window
    """

    def __init__(
        self,
        sending: SendWindow,
        recovery: Recovery,
        rtt: RttEstimator,
        control: CongestionControl | None,
        counts: Counts,
    ) -> None:
        self.sending, self.recovery, self.rtt = sending, recovery, rtt
        self.control, self.counts = control, counts
        self.delivered = self.marked = self.stamp_us = 0
        self.app_limited_until = self.window_limited_until = 0
        self.newest_us = -1
        self._delivered_us = self._first_sent_us = 0
        self._newest_sent = self._newly_lost = self._lost_runs = 0

    def says_no_more(self, number: int, una: int, echo_us: int) -> bool:
        """Whether una says all that an ACK does: it is for a segment below una, of that segment's last
        transmission, and nothing above was acknowledged yet."""
        sending = self.sending
        known = sending.una <= number < una <= sending.nxt and not sending.sacked
        return known and int(sending.sent_us[number & sending.mask]) == echo_us

    def say_no_more(self, conv: int, headers: list[tuple[int, ...]]) -> tuple[int, None, int] | None:
        """The same of a few ACKs in a row, by their headers, of which none is late: then what `acknowledge`
        is to be told."""
        sending = self.sending
        if sending.sacked:
            return None
        first, in_flight, sent_us, mask = (
            sending.una,
            sending.nxt - sending.una,
            sending.sent_us,
            sending.mask,
        )
        said = highest = 0  # from `first` on
        newest_us = self.newest_us
        for their_conv, cmd, _, _, ts, sn, una, length in headers:
            number, una = sn - first & wire.MASK, una - first & wire.MASK
            if their_conv != conv or cmd != wire.ACK or length or number >= in_flight:
                return None
            echo_us = int(sent_us[first + number & mask])
            if echo_us & wire.MASK != ts or echo_us < newest_us or not said <= una <= in_flight:
                return None
            said, newest_us = una, echo_us
            if number > highest:
                highest = number
        return (first + said, None, newest_us) if highest < said else None

    def acknowledge(
        self, una: int, each: tuple[Int64s, Int64s] | None, newest_us: int | None, now_us: int
    ) -> None:
        """`each`: serial numbers acknowledged one by one, and their echoes; `newest_us`: the newest echo."""
        sending, recovery = self.sending, self.recovery
        if una > sending.nxt:
            self.counts.foreign += 1
            return
        before, acked, flight, rtt_us = recovery.in_flight, 0, None, None
        if each is not None:
            fresh, at = sending.mark(each[0])
            if len(fresh):
                acked += len(fresh)
                recovery.acknowledged(fresh, each[1][at], now_us)
            recovery.heard(*each)
            if self.counts.fast or self.counts.lost or self.counts.early:
                again, echoes = sending.older(*each)
                if len(again):
                    recovery.unneeded(again, echoes)
        if newest_us is not None:
            flight, rtt_us = self._newest(newest_us, now_us)
        una_before = sending.una
        segments, lost = sending.advance(una)
        if segments:
            acked += segments
            recovery.advanced(segments, lost, now_us)
        if acked:
            self.delivered += acked
            self._report(before, acked, sending.una - una_before, flight, rtt_us, now_us)

    def _newest(self, stamp_us: int, now_us: int) -> tuple[Flight | None, int | None]:
        """The newest stamp of an acknowledgement: its flight, and an RTT sample. A stamp no newer than one
        seen before gives neither: that datagram was reordered, or repeats what was said. Stock KCP takes it
        all the same: its timeout follows every datagram of a burst, not only the first."""
        if not 0 <= now_us - stamp_us <= _LONGEST_RTT_US:
            return None, None
        if stamp_us <= self.newest_us and self.recovery.bounded:
            return None, None
        flight = self.recovery.arrived(stamp_us, now_us)
        if flight is None and self.recovery.bounded:
            return None, None  # a stamp that we never sent
        self.newest_us = stamp_us
        rtt_us = max(1, now_us - stamp_us)
        self.rtt.update(rtt_us)
        return flight, rtt_us

    def _report(
        self, before: int, acked: int, advanced: int, flight: Flight | None, rtt_us: int | None, now_us: int
    ) -> None:
        self._delivered_us = now_us
        if self.delivered > self.app_limited_until:
            self.app_limited_until = 0
        if self.delivered > self.window_limited_until:
            self.window_limited_until = 0
        self.detect(now_us)
        interval_us, rate = 0, 0.0
        if flight is not None:
            # draft-cheng-iccrg-delivery-rate-estimation, 3.3: the slower of the send and the ack stretch.
            interval_us = max(flight.stamp_us - flight.first_sent_us, now_us - flight.delivered_us)
            self._first_sent_us, self._newest_sent = flight.stamp_us, flight.sent
            if interval_us >= self.rtt.minimum_us > 0:
                rate = (self.delivered - flight.delivered) * 1e6 / interval_us
            else:
                interval_us = 0
        if self.control is not None:
            self.control.on_ack(
                Ack(
                    now_us=now_us,
                    acked=acked,
                    delivered=self.delivered,
                    lost=self.lost,
                    in_flight_before=before,
                    in_flight=self.recovery.in_flight,
                    rtt_us=rtt_us,
                    flight=flight,
                    interval_us=interval_us,
                    delivery_rate=rate,
                    newly_lost=self._newly_lost,
                    lost_runs=self._lost_runs,
                    advanced=advanced,
                )
            )
        self._newly_lost = 0

    @property
    def lost(self) -> int:
        return self.marked - self.recovery.mistaken

    def detect(self, now_us: int) -> None:
        found = self.recovery.detect(now_us)
        if found is None:
            return
        self.marked += found.segments
        self._newly_lost += found.segments
        self._lost_runs += found.runs
        if self.control is None:
            return
        if found.timeout:
            self.control.on_timeout(now_us)
        if not found.segments:
            return
        self.control.on_loss(
            Loss(
                now_us,
                found.segments,
                self.lost,
                self.recovery.in_flight,
                self.delivered,
                found.flight,
            )
        )

    def flight(self, segments: int, now_us: int) -> Flight:
        if self.recovery.in_flight == 0:
            # draft-cheng-iccrg-delivery-rate-estimation, 3.2: a new stretch begins.
            self._first_sent_us = self._delivered_us = now_us
        self.stamp_us = max(now_us, self.stamp_us + 1)
        return Flight(
            stamp_us=self.stamp_us,
            first_sent_us=self._first_sent_us,
            delivered=self.delivered,
            delivered_us=self._delivered_us,
            lost=self.lost,
            in_flight=self.recovery.in_flight + segments,
            app_limited=self.app_limited_until > 0,
            sent=self.counts.segments_sent + segments,
            newest_sent=self._newest_sent,
            window_limited=self.window_limited_until > 0,
        )
