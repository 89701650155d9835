"""Delivery accounting: segments delivered and lost, and a rate sample per acknowledgement.

    acknowledge(una, acks, now_us)   arrived acknowledgements -> send window, recovery, RTT -> control.on_ack
    detect(now_us)                   losses found since       -> control.on_loss, control.on_timeout
    flight(segments, now_us)         the record that a transmission leaves for its acknowledgement

Recovery and congestion control both need these sums; they are made here, once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from iperfpy.protocols.congestion.congestion_control import Ack, CongestionControl, Flight, Loss
from iperfpy.protocols.kcp.ack_ranges import AGE_US, LONGEST_AGE, RangeAck
from iperfpy.protocols.kcp.engine_counts import Counts
from iperfpy.protocols.kcp.inbound import Acks, ack_columns
from iperfpy.protocols.kcp.loss_recovery.recovery import Recovery
from iperfpy.protocols.kcp.path_record import PathRecord
from iperfpy.protocols.kcp.range_rows import expand_rows, row_delays, row_samples
from iperfpy.protocols.kcp.rtt_estimator import MeanRtt, RttEstimator, RttSamples
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.way_back import WayBack
from iperfpy.protocols.kcp.wire import MASK, Int64s, expand

LONGEST_RTT_US = 60_000_000
SEGMENTS_PER_WORK = 256
"""Segments of rows that take about as long as one record: a few bytes may name thousands."""


class DeliveryAccounting:
    """Counts segments delivered and lost, and makes a rate sample per acknowledgement.

    Attributes
    ----------
    control : congestion control, or None
    delivered : segments acknowledged, each once
    marked_lost : transmissions given up for lost, those included that turned out to have arrived
    lost_runs : runs of consecutive transmissions that these formed
    stamp_us : stamp of the newest transmission; unique, so that its echo names it
    newest_us : the newest stamp that was echoed
    record : the fate of all transmissions, and the segments that were sent more than once
    way_back : the peer's acknowledgements in ranges
    mean_rtt : round-trip time over all acknowledged segments, for reports
    app_limited_until : rate samples measure the application until this many segments are delivered; 0: they
        measure the path
    window_limited_until : likewise for the send or receive window
    """

    def __init__(
        self,
        sending: SendWindow,
        recovery: Recovery,
        rtt: RttEstimator,
        control: CongestionControl | None,
        counts: Counts,
    ) -> None:
        self.control = control
        self.delivered = self.marked_lost = self.stamp_us = 0
        self.app_limited_until = self.window_limited_until = 0
        self.newest_us = -1
        self._sending, self._recovery, self._rtt, self._counts = sending, recovery, rtt, counts
        self.mean_rtt, self.way_back = MeanRtt(), WayBack()
        self.record = PathRecord(sending, rtt, counts)
        self._delivered_us = self._first_sent_us = 0
        self._newest_sent = self.lost_runs = 0
        self._known_from_us = 0  # flights before are of another size of segments
        self._old_end: int | None = None  # one past the last segment of another size

    @property
    def lost(self) -> int:
        """Transmissions lost, by the knowledge of now: a loss found spurious is taken back."""
        return self.marked_lost - self._recovery.spurious_losses

    # -- acknowledgements

    def acknowledge(self, una: int, acks: Acks | None, now_us: int) -> None:
        """Take a cumulative ACK, at most `nxt`, and the ACK segments that came with it, if any."""
        sending = self._sending
        each, newest_us = None, None
        if acks is not None:
            newest_us = self._implied_by_una(acks)
            if newest_us is None and (each := self._known(acks, now_us)) is not None:
                newest_us = int(each[1].max())
        acked, flight, rtt_us, samples = 0, None, None, None
        in_order = not sending.sacked and (each is None or int(each[0].max()) < una)
        if each is not None:
            acked, samples = self._mark(*each, una, now_us)
        if newest_us is not None:
            # Before `_report`, where loss detection goes by the newest arrival and by the RTT.
            flight, rtt_us = self._sample(newest_us, now_us)
        una_before = sending.una
        if in_order and una > una_before:  # una says more than the ACKs of some of those segments
            samples = self._covered(una, now_us)
        else:
            self.record.covered(una, None)
        if samples is not None:
            self.mean_rtt.update(samples.mean_us, samples.segments)
        self._advance(una, una_before, acked, flight, rtt_us, samples, now_us, 0)

    def _advance(
        self,
        una: int,
        una_before: int,
        acked: int,
        flight: Flight | None,
        rtt_us: int | None,
        samples: RttSamples | None,
        now_us: int,
        held_us: int,
    ) -> None:
        """Take the cumulative ACK of an acknowledgement that newly acknowledged `acked` segments above it.
        The peer had held it back for `held_us`."""
        sending, recovery = self._sending, self._recovery
        # Those above una are marked by now, so that only the others count as new here.
        segments, lost = sending.advance(una)
        if self._old_end is not None and sending.una >= self._old_end:
            self._known_from_us, self._old_end = self.stamp_us + 1, None
        if segments:
            acked += segments
            recovery.advanced(segments, lost, now_us)
        if acked:
            self.delivered += acked
            self._report(acked, sending.una - una_before, flight, rtt_us, samples, now_us, held_us)

    def _implied_by_una(self, acks: Acks) -> int | None:
        """The newest echo of ACKs that una already implies; None if an ACK may tell more.

        Without a loss a receiver acknowledges each run with one ACK, and una covers it. Then no array is
        needed. So it is if each ACK is for a segment below una and for that segment's last transmission,
        none is late, and no segment above una is acknowledged yet.
        """
        sending = self._sending
        if sending.sacked or not isinstance(acks, list):
            return None
        first, in_flight = sending.una, sending.nxt - sending.una
        sent_us, mask = sending.state.sent_us, sending.mask
        reached = highest = 0  # counted from `first`
        # An ACK alone may be late: it then gives no RTT sample, and nothing else depends on its order.
        newest_us = self.newest_us if len(acks) > 1 else -1
        for _, _, _, _, ts, sn, una, _ in acks:
            number, una = sn - first & MASK, una - first & MASK
            if number >= in_flight or not reached <= una <= in_flight:
                return None
            echo_us = int(sent_us[first + number & mask])
            if echo_us & MASK != ts or echo_us < newest_us:
                return None
            reached, newest_us = una, echo_us
            if number > highest:
                highest = number
        return newest_us if highest < reached else None

    def _known(self, acks: Acks, now_us: int) -> tuple[Int64s, Int64s] | None:
        """Serial numbers and echoes of the ACKs for segments that were sent, (n,) each; None if there is
        none. The others count as impossible."""
        numbers, echoes_us = ack_columns(acks, self._sending.una, now_us)
        sent = numbers < self._sending.nxt
        if not sent.all():
            numbers, echoes_us = numbers[sent], echoes_us[sent]
            self._counts.impossible += len(acks) - len(numbers)
        return (numbers, echoes_us) if len(numbers) else None

    def _covered(self, una: int, now_us: int) -> RttSamples | None:
        """Round-trip times of the segments below `una` if none of them has an ACK of its own. A segment that
        was sent again gives no sample (Karn's rule: una does not tell which transmission arrived)."""
        sending = self._sending
        first, sent_us, mask = sending.una, sending.state.sent_us, sending.mask
        if not self._counts.retransmitted:
            # They left in this order: the mean of the ends is theirs.
            oldest_us, newest_us = int(sent_us[first & mask]), int(sent_us[una - 1 & mask])
            mean_us = now_us - (oldest_us + newest_us) / 2
            samples = RttSamples(una - first, mean_us, now_us - newest_us)
            self.record.covered_in_order(una, oldest_us, newest_us, samples)
            return samples
        rows = np.arange(first, una) & mask
        of_once = _samples(now_us - sent_us[rows[sending.state.transmissions[rows] == 1]])
        self.record.covered(una, of_once)
        return of_once

    def _mark(
        self, numbers: Int64s, echoes_us: Int64s, una: int, now_us: int
    ) -> tuple[int, RttSamples | None]:
        """Take ACKs one by one, (n,) each; returns how many segments they newly acknowledge, and their RTTs:
        each echo names the transmission that arrived."""
        recovery, samples = self._recovery, None
        fresh, at = self._sending.mark(numbers)
        if len(fresh):
            echoed_us = echoes_us[at]
            recovery.acknowledged(fresh, echoed_us, now_us)
            self.record.overtook(int(fresh[-1]), una)
            rtts_us = now_us - echoed_us
            samples = _samples(rtts_us)
            self.record.marked(fresh, echoed_us, rtts_us)
        recovery.acks_arrived(numbers, echoes_us)
        if self._counts.retransmitted:
            self.record.copies(numbers, echoes_us, at)
            spurious, echoes = self.record.resent.spurious(numbers, echoes_us)
            if len(spurious):
                recovery.found_spurious(spurious, echoes, now_us)
        return len(fresh), samples

    def _sample(self, stamp_us: int, now_us: int, held_us: int = 0) -> tuple[Flight | None, int | None]:
        """The flight that the newest echo of an acknowledgement names, and its RTT sample, without the time
        for which the peer held the acknowledgement back.

        An echo no newer than one seen before gives neither: that datagram was overtaken, or repeats an ACK.
        Stock KCP samples it all the same: its timeout follows every datagram of a burst, not only the first.
        """
        now_us -= held_us
        if not 0 <= now_us - stamp_us <= LONGEST_RTT_US:
            return None, None
        recovery = self._recovery
        if stamp_us <= self.newest_us and recovery.obeys_limits:
            return None, None
        flight = recovery.echoed(stamp_us, now_us)
        if flight is None and recovery.obeys_limits:
            return None, None  # a stamp that was never sent
        self.newest_us = stamp_us
        rtt_us = max(1, now_us - stamp_us)
        self._rtt.update(rtt_us)
        if stamp_us < self._known_from_us or self._old_end is not None:
            flight = None
        return flight, rtt_us

    def _report(
        self,
        acked: int,
        advanced: int,
        flight: Flight | None,
        rtt_us: int | None,
        samples: RttSamples | None,
        now_us: int,
        held_us: int,
    ) -> None:
        """Detect losses, then tell congestion control of the acknowledgement and its rate sample."""
        self._delivered_us = max(now_us - held_us, self._delivered_us)
        if self.delivered > self.app_limited_until:
            self.app_limited_until = 0
        if self.delivered > self.window_limited_until:
            self.window_limited_until = 0
        limited = self.app_limited_until > 0 or self.window_limited_until > 0
        self.record.rates.acknowledged(self.delivered, now_us, limited=limited)
        self.detect(now_us)
        interval_us, rate = 0, 0.0
        if flight is not None:
            # draft-cheng-iccrg-delivery-rate-estimation, 3.3: the slower of the send and the ack stretch. The
            # latter ends with the arrival of the newest segment. By the time of an acknowledgement that was
            # held back, the best of many samples is several per cent above the path's rate.
            interval_us = max(
                flight.stamp_us - flight.first_sent_us, self._delivered_us - flight.delivered_us
            )
            self._first_sent_us, self._newest_sent = flight.stamp_us, flight.sent
            if interval_us >= self._rtt.minimum_us > 0:
                rate = (self.delivered - flight.delivered) * 1e6 / interval_us
            else:
                interval_us = 0  # shorter than any round trip: compressed ACKs, no sample
        if self.control is not None:
            self.control.on_ack(
                Ack(
                    now_us=now_us,
                    acked=acked,
                    delivered=self.delivered,
                    lost=self.lost,
                    in_flight=self._recovery.in_flight,
                    rtt_us=rtt_us,
                    flight=flight,
                    interval_us=interval_us,
                    delivery_rate=rate,
                    lost_runs=self.lost_runs,
                    advanced=advanced,
                    rtt_min_us=None if samples is None else max(1, samples.least_us),
                    rtt_mean_us=None if samples is None else max(1.0, samples.mean_us),
                    rtt_samples=0 if samples is None else samples.segments,
                )
            )

    # -- acknowledgements in ranges

    def acknowledge_ranges(self, acks: list[tuple[int, RangeAck]], now_us: int) -> None:
        """Take acknowledgements in ranges that arrived together, each with its cumulative ACK, at most
        `nxt`."""
        nxt, way_back = self._sending.nxt, self.way_back
        possible = [(una, ack) for una, ack in acks if ack.is_possible(una, nxt)]
        self._counts.impossible += len(acks) - len(possible)
        repairs = [way_back.take(ack, now_us, self._rtt) for _, ack in possible]
        if len(possible) > 1 and not any(repairs):
            # None is missing between them, so that all together say what one would have said.
            una, last = possible[-1]
            rows = [row for _, ack in possible for row in ack.rows]
            possible = [(una, replace(last, rows=rows))]
        for at, (una, ack) in enumerate(possible):
            self._acknowledge_range(una, ack, now_us, repairs=repairs[at])

    def _acknowledge_range(self, una: int, ack: RangeAck, now_us: int, *, repairs: bool) -> None:
        counts, una_before, acked = self._counts, self._sending.una, 0
        samples = self._in_order(una, ack, now_us)
        if samples is None:
            counts.work += ack.segments // SEGMENTS_PER_WORK
            acked, samples = self._mark_rows(ack, una, now_us)
            if repairs and ack.ranges:
                acked += self._mark_ranges(una, ack, now_us)
            self.record.covered(una, None)
        if samples is not None:
            self.mean_rtt.update(samples.mean_us, samples.segments)
        flight, rtt_us, held_us = None, None, 0
        if ack.age < LONGEST_AGE:
            held_us = ack.age * AGE_US
            flight, rtt_us = self._sample(expand(ack.ts, now_us), now_us, held_us)
        self._advance(una, una_before, acked, flight, rtt_us, samples, now_us, held_us)

    def _in_order(self, una: int, ack: RangeAck, now_us: int) -> RttSamples | None:
        """The RTTs of rows that una covers from the first to the last, if none was sent again and nothing
        above una is acknowledged: then no array is needed. None if it is not so."""
        sending = self._sending
        if sending.sacked or ack.ranges or una == sending.una:
            return None
        sent_us, mask = sending.state.sent_us, sending.mask
        number, total_us, least_us = sending.una, 0.0, LONGEST_RTT_US
        for first, count, age, ts in ack.rows:
            # A count with `REPEATED` exceeds una.
            last = number + count - 1
            if first != number & MASK or last >= una or age == LONGEST_AGE:
                return None
            echo_us = int(sent_us[last & mask])
            if echo_us & MASK != ts:
                return None
            # They left in this order: the mean of the ends is theirs.
            rtt_us = now_us - age * AGE_US - (int(sent_us[number & mask]) + echo_us) / 2
            total_us += count * rtt_us
            least_us = min(least_us, int(rtt_us))
            number += count
        if number != una or least_us < 0:
            return None
        if self._counts.retransmitted and any(
            (sending.state.transmissions[start:stop] > 1).any()
            for start, stop in sending.pieces(sending.una, una)
        ):
            return None
        segments = una - sending.una
        samples = RttSamples(segments, total_us / segments, least_us)
        self.record.covered_in_order(una, int(sent_us[sending.una & mask]), echo_us, samples)
        return samples

    def _mark_rows(self, ack: RangeAck, una: int, now_us: int) -> tuple[int, RttSamples | None]:
        """Take rows segment by segment; returns how many segments they newly acknowledge, and the RTTs."""
        if not ack.rows:
            return 0, None
        sending, recovery = self._sending, self._recovery
        rows = expand_rows(ack, sending.una, now_us)
        numbers = rows.numbers
        inside = numbers >= sending.una
        # The stamp is that of the last segment. One before it left no later; if its last transmission did, an
        # earlier one has arrived. Of segments below una, the window knows nothing.
        sent_us = sending.state.sent_us[numbers & sending.mask]
        echoes_us = np.where(inside & ~rows.is_last, np.minimum(sent_us, rows.stamps_us), rows.stamps_us)
        fresh, at = sending.mark(numbers)
        samples = None
        if len(fresh):
            recovery.acknowledged(fresh, echoes_us[at], now_us)
            self.record.overtook(int(fresh[-1]), una)
            samples = row_samples(rows, echoes_us, at, now_us)
            self.record.marked(fresh, echoes_us[at], row_delays(rows, echoes_us, at, now_us))
        if self._counts.retransmitted:
            self.record.copies(numbers, echoes_us, at)
            spurious, echoes_us = self.record.resent.spurious(numbers, echoes_us, rows.repeated)
            if len(spurious):
                recovery.found_spurious(spurious, echoes_us, now_us)
        return len(fresh), samples

    def _mark_ranges(self, una: int, ack: RangeAck, now_us: int) -> int:
        """Take the ranges of an acknowledgement after one was lost; returns the number of segments that they
        newly acknowledge. They do not tell which transmission arrived, nor when."""
        sending = self._sending
        held = np.concatenate([sending.outstanding(una + start, una + stop) for start, stop in ack.ranges])
        if not len(held):
            return 0
        fresh, _ = sending.mark(held)
        self.record.repaired(fresh)
        # No sign of reordering: they count as having arrived with the newest one.
        echoes_us = np.maximum(sending.state.sent_us[fresh & sending.mask], self.newest_us)
        self._recovery.acknowledged(fresh, echoes_us, now_us)
        return len(fresh)

    # -- acknowledgements that forward error correction recovered

    def acknowledge_late(self, una: int, acks: Acks | None, ranges: RangeAck | None, now_us: int) -> None:
        """Take an acknowledgement that arrived an unknown time ago: a cumulative ACK, at most `nxt`, and what
        came with it, if anything. It gives neither an RTT sample nor a rate sample."""
        sending = self._sending
        parts: list[Int64s] = []
        if acks is not None:
            parts.append(ack_columns(acks, sending.una, now_us)[0])
        if ranges is not None and ranges.is_possible(una, sending.nxt):
            if ranges.rows:
                parts.append(expand_rows(ranges, sending.una, now_us).numbers)
            parts += [sending.outstanding(una + start, una + stop) for start, stop in ranges.ranges]
        numbers = np.concatenate(parts) if parts else np.empty(0, np.int64)
        fresh, _ = sending.mark(numbers[numbers < sending.nxt])
        if len(fresh):
            self.record.repaired(fresh)
            # No sign of reordering: they count as having arrived with the newest one.
            echoes_us = np.maximum(sending.state.sent_us[fresh & sending.mask], self.newest_us)
            self._recovery.acknowledged(fresh, echoes_us, now_us)
        self.record.covered(una, None)
        self._advance(una, sending.una, len(fresh), None, None, None, now_us, 0)

    # -- losses

    def detect(self, now_us: int) -> None:
        """Ask recovery for losses, by acknowledgements or by the clock; tell congestion control of them."""
        found = self._recovery.detect(now_us)
        if found is None:
            return
        self.marked_lost += found.segments
        self.lost_runs += found.runs
        if self.control is None:
            return
        if found.timeout:
            self.control.on_timeout(now_us)
        if found.segments:
            loss = Loss(now_us, found.segments, self._recovery.in_flight, self.delivered, found.flight)
            loss.heads, loss.tails = found.heads, found.tails
            self.control.on_loss(loss)

    # -- transmissions

    def flight(self, segments: int, now_us: int) -> Flight:
        """The record of a transmission of `segments` that leaves now."""
        recovery = self._recovery
        if recovery.in_flight == 0:
            # draft-cheng-iccrg-delivery-rate-estimation, 3.2: a new stretch begins.
            self._first_sent_us = self._delivered_us = now_us
        return Flight(
            stamp_us=self.next_stamp(now_us),
            first_sent_us=self._first_sent_us,
            delivered=self.delivered,
            delivered_us=self._delivered_us,
            lost=self.lost,
            in_flight=recovery.in_flight + segments,
            app_limited=self.app_limited_until > 0,
            sent=self._counts.segments_sent + segments,
            newest_sent=self._newest_sent,
            window_limited=self.window_limited_until > 0,
        )

    def next_stamp(self, now_us: int) -> int:
        """A stamp for something that leaves now: the time, made unique."""
        self.stamp_us = max(now_us, self.stamp_us + 1)
        return self.stamp_us

    def path_changed(self, lost: int, *, shrinks: bool) -> None:
        """Segments have another size from now on: begin all sums anew, for a controller that knows nothing.

        Parameters
        ----------
        lost : transmissions given up because they were too long; congestion control does not hear of them
        shrinks : True if the new size is the smaller one. Else deliveries of short segments would pass for a
            high rate of long ones, and no sample is made before the last short one has arrived
        """
        self.delivered = self.lost_runs = 0
        self.marked_lost = self._recovery.spurious_losses
        self.app_limited_until = self.window_limited_until = 0
        self._newest_sent = self._counts.segments_sent
        self._known_from_us = self.stamp_us + 1
        self._old_end = None if shrinks else self._sending.nxt

    def limited_by_application(self) -> None:
        """Samples of all that is in flight now measure the application, not the path."""
        self.app_limited_until = max(1, self.delivered + self._recovery.in_flight)

    def limited_by_window(self) -> None:
        """Samples of all that is in flight now measure the send or receive window, not the path."""
        self.window_limited_until = max(1, self.delivered + self._recovery.in_flight)


def _samples(rtts_us: Int64s) -> RttSamples | None:
    """Sum up round-trip times, (n,), without impossible ones: an echo may be garbage."""
    if len(rtts_us) == 1:
        rtt_us = int(rtts_us[0])
        return RttSamples(1, float(rtt_us), rtt_us) if 0 <= rtt_us <= LONGEST_RTT_US else None
    if len(rtts_us) and (rtts_us.min() < 0 or rtts_us.max() > LONGEST_RTT_US):
        rtts_us = rtts_us[(rtts_us >= 0) & (rtts_us <= LONGEST_RTT_US)]
    if not len(rtts_us):
        return None
    return RttSamples(len(rtts_us), float(rtts_us.mean()), int(rtts_us.min()))
