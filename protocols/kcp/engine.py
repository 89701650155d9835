"""One end of a KCP conversation, without clock, socket or randomness.

    data out   write(data) -> send window -> transmit(now_us): control and pacer are asked, then rows leave
    data in    receive(batch, now_us) -> deliver(payload views, in order)
    time       deadline_us(): call transmit then, though nothing arrived

`receive` only takes note. Everything that leaves (acknowledgements, retransmissions, new data) leaves by
`transmit`, so that many batches in cost one batch out.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import numpy as np

from iperfpy.protocols.congestion.congestion_control import CongestionControl
from iperfpy.protocols.congestion.pacer import Pacer
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.ack_ranges import RangeAck
from iperfpy.protocols.kcp.ack_timing import AckTiming
from iperfpy.protocols.kcp.delivery import DeliveryAccounting
from iperfpy.protocols.kcp.engine_counts import Counts
from iperfpy.protocols.kcp.engine_options import MAX_WINDOW, EngineOptions
from iperfpy.protocols.kcp.inbound import Acks, Arrived, Pushes, decode, without_stamps
from iperfpy.protocols.kcp.loss_recovery.recovery import Cause, Recovery, Resend
from iperfpy.protocols.kcp.outbound import Outbound
from iperfpy.protocols.kcp.owed_acks import OwedAcks
from iperfpy.protocols.kcp.owed_ranges import OwedRanges
from iperfpy.protocols.kcp.parts import Part
from iperfpy.protocols.kcp.receive_window import Deliver, ReceiveWindow
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.sender_limits import SenderLimit, SenderLimits
from iperfpy.protocols.kcp.size_search import SizeSearch
from iperfpy.protocols.kcp.tick_clock import TickClock
from iperfpy.protocols.kcp.window_probes import WindowProbes
from iperfpy.protocols.kcp.wire import HEADER_BYTES

_UNBOUNDED = 1 << 30
_QUEUE_S, _LEAST_BOUND = 0.002, 512
"""Data that may wait for the pacer: two milliseconds' worth, which one turn of an event loop releases. Above
`_LEAST_BOUND` segments, no more may wait than the congestion window has room for: 128 streams that began at
full speed wrote 580 MB into their windows, most of which could not leave."""


class _Writing(Enum):
    """The state of an engine's writer."""

    OPEN = "writes as it likes"
    CORKED = "will fill the last segment soon"
    WITHDRAWN = "wants nothing sent any more"


_LATE_TIMER_US = 8_000
"""How late the timer of a busy machine may fire before its lateness costs rate: what was missed leaves at
once. Measured, with timers of whole milliseconds, on a shared 2-core machine at 20 Mb/s: with 1 ms a fifth of
the rate was lost."""
_CLOSED = (SenderLimit.RECEIVE_WINDOW, SenderLimit.SEND_WINDOW)
"""Limits that an acknowledgement opens in a step: the time until then is no delay of a timer. The congestion
window opens so, too, but its bursts are part of the controller's model."""


class Engine:
    """One end of a conversation: two windows, loss recovery, congestion control and pacing.

    Parameters
    ----------
    conv : conversation number, equal at both ends
    recovery : makes the loss recovery, given the send window and the RTT estimator
    control : congestion control, None for stock KCP's nc=1: only the windows limit
    deliver : takes payload in order; default: payload is counted and not kept
    renew : makes a controller for a path that has changed (`EngineOptions.sizes`)

    Attributes
    ----------
    sending, receiving : the two windows
    delivery, recovery, control, rtt : accounting, loss recovery, congestion control, round-trip time
    counts, limits : counters, and time by limit of the sender
    peer_window : segments that the peer accepts above una, as it said last
    sizes : follows the size of datagrams that the path carries, or None
    """

    def __init__(
        self,
        conv: int,
        options: EngineOptions,
        recovery: Callable[[SendWindow, RttEstimator], Recovery],
        control: CongestionControl | None = None,
        deliver: Deliver | None = None,
        renew: Callable[[], CongestionControl] | None = None,
    ) -> None:
        self.conv, self.options = conv, options
        self.rtt = RttEstimator()
        self.sizes = SizeSearch(options.sizes) if options.sizes is not None else None
        self._renew = renew
        mtu = options.mtu if self.sizes is None else self.sizes.size
        window, memory = options.send_window, options.memory
        longest = mtu if options.sizes is None else options.sizes.largest
        self.sending = SendWindow(
            conv, mtu, window, options.first_sn, memory, boundaries=options.boundaries, longest=longest
        )
        mss = options.accepted_mtu - HEADER_BYTES
        self.receiving = ReceiveWindow(mss, options.receive_window, deliver, options.first_sn)
        self.recovery = recovery(self.sending, self.rtt)
        self.counts = Counts()
        self.delivery = DeliveryAccounting(self.sending, self.recovery, self.rtt, control, self.counts)
        self.steer(control)
        self.limits = SenderLimits()
        self.peer_window = options.receive_window  # until the peer says
        self._writing = _Writing.OPEN
        self._pacer = Pacer(_LATE_TIMER_US)
        self._paced_until: int | None = None
        self._acks = self._owed_acks()
        self._ticks = TickClock(options.tick_us)
        self._probes = WindowProbes()
        self._outbound = Outbound(self.sending, options.longest_batch, packs=options.packs)

    def _owed_acks(self) -> OwedAcks | OwedRanges:
        options = self.options
        if options.ack_ranges:
            timing = AckTiming(options.ack_share, enough=4, spacing=0.5, asks=False)
            return OwedRanges(self.conv, self.receiving, timing)
        if options.ack_share:
            timing = AckTiming(options.ack_share, enough=3, spacing=0.0, asks=True)
            return OwedAcks(self.conv, options.ack_repeats, timing)
        return OwedAcks(self.conv, options.ack_repeats)

    def release(self) -> None:
        """Give memory back: the conversation is over. Counters stay."""
        self.sending.release()
        self.delivery.record.resent.release()

    def steer(self, control: CongestionControl | None) -> None:
        """Set the congestion control; only before anything was sent."""
        self.control = self.delivery.control = control

    # ---------------------------------------------------------------- data in

    def receive(self, batch: DatagramBatch, now_us: int, *, recovered: bool = False) -> None:
        """Take note of datagrams that arrived. Nothing in them can raise: datagrams that are not KCP of this
        conversation are counted and dropped, and so are segments that acknowledge a segment never sent.
        `recovered`: forward error correction computed them, so that they are late by an unknown time.

            record of `decode`    goes to
            -------------------   ------------------------------------------------------------------
            pushes                receive window -> payload to `deliver`, then ACKs owed
            asks                  window probes: an answer is owed
            wnd                   peer_window
            una, acks, ranges     delivery accounting -> send window, recovery, RTT, congestion control

        inbound.py has the table of the shapes in which datagrams come. All lead here, and how a batch is cut
        makes no difference (tests/protocols/kcp/test_shapes.py).
        """
        self._pacer.stopped_us = -1
        sending, count, size = self.sending, batch.count, batch.size
        inbound = decode(
            batch, self.conv, self.receiving.nxt, sending.una, sending.nxt, ranges=self.options.ack_ranges
        )
        ranges: list[tuple[int, RangeAck]] = []
        for arrived in inbound.records:
            if arrived.pushes is not None or arrived.part is not None:
                self._take(arrived, now_us)
            if arrived.asks:
                self._probes.answer()
            acks = arrived.acks
            if acks is not None and self.sizes is not None and self.sizes.awaits:
                acks = self._without_echoes(acks, now_us)
            if recovered:
                # Its window and its echoes are stale: they update neither peer_window nor the RTT.
                self.delivery.acknowledge_late(arrived.una, acks, arrived.ranges, now_us)
                continue
            if arrived.tells:
                self._take_told(arrived, now_us)
            self.peer_window = arrived.wnd
            if arrived.ranges is not None:
                ranges.append((arrived.una, arrived.ranges))
            elif acks is not None or arrived.una != sending.una:
                self.delivery.acknowledge(arrived.una, acks, now_us)
        if ranges:
            self.delivery.acknowledge_ranges(ranges, now_us)
        # Asked of every batch: a comparison is enough, since the first segment taken moves `high`.
        self.counts.arrive(count, size, inbound, before_data=self.receiving.high == self.options.first_sn)
        if self._acks.timing is not None and not ranges and not recovered:
            # A datagram with messages earns as much as a full one: its sender waits for news alike.
            worth = count * self._ack_bytes if self.options.boundaries else 0
            self._acks.timing.heard(count, max(size, worth))

    def _take(self, arrived: Arrived, now_us: int) -> None:
        """Take data segments, a part of one, or a probe of the path, and note what to acknowledge."""
        pushes = arrived.pushes if arrived.part is None else self._joined(arrived.part)
        if pushes is None:
            return
        if arrived.probe:
            if pushes.rows.shape[1] <= self.receiving.mss:
                self._acks.owe_probe(pushes, now_us)  # this says that a segment of this size is accepted
            return
        self._acks.owe(pushes, self.receiving.take(pushes), now_us)
        timing = self._acks.timing
        if timing is not None and timing.asks and timing.wants_to_ask(now_us):
            self._probes.ask()

    def _take_told(self, arrived: Arrived, now_us: int) -> None:
        """Take the answer to a window probe."""
        if arrived.takes_parts:
            self._outbound.splits = True
        if self._acks.timing is not None:
            self._acks.timing.told(now_us)

    def _joined(self, part: Part) -> Pushes | None:
        """The segment that a part completes, or repeats; None if more of it is missing."""
        receiving = self.receiving
        payload = part.payload
        if part.sn >= receiving.nxt:
            whole = receiving.parts.join(part, receiving.nxt, receiving.limit, receiving.mss)
            if whole is None:
                return None
            payload = whole
        return Pushes(part.sn, part.sn, part.ts, payload[None, :])

    def _without_echoes(self, acks: Acks, now_us: int) -> Acks | None:
        """The ACKs that do not echo a probe of the path; those that do are told to the search."""
        assert self.sizes is not None
        echoed = [ts for ts in self.sizes.awaited_among(acks) if self.sizes.echoed(ts, now_us) is not None]
        return without_stamps(acks, echoed) if echoed else acks

    # --------------------------------------------------------------- data out

    def writable(self) -> int:
        """Bytes that `write` would take now.

        Without congestion control the send window limits a writer. With stock KCP's it is the congestion
        window, which bounds in-flight plus queued data. For kcp-bbr only the data that waits for the pacer
        counts: two bursts, or as much as leaves within `_QUEUE_S` and the congestion window.
        """
        return 0 if self.withdrawn else self.sending.room_bytes(self._admissible())

    def write(self, data: memoryview, now_us: int) -> int:
        """Queue bytes; returns how many were taken, `writable()` at most."""
        if self.withdrawn:
            return 0
        return self.sending.write(data, self._admissible(), now_us)

    def cork(self) -> None:
        """Hold back a last segment that is not full, because its writer will fill it soon. Segments that are
        not full leave all the same if `nagle` is off."""
        if not self.withdrawn:
            self._writing = _Writing.CORKED

    def uncork(self) -> None:
        """Let the last segment go: its writer has no more."""
        if not self.withdrawn:
            self._writing = _Writing.OPEN

    @property
    def corked(self) -> bool:
        """True between `cork` and `uncork`."""
        return self._writing is _Writing.CORKED

    def withdraw(self) -> None:
        """Send no payload from now on: neither the queued data nor, again, that in flight. The path is not
        probed either. ACKs go on, and arrivals are counted. There is no way back."""
        self._writing = _Writing.WITHDRAWN
        self._paced_until = None

    @property
    def withdrawn(self) -> bool:
        """True from `withdraw` on."""
        return self._writing is _Writing.WITHDRAWN

    @property
    def limited_by(self) -> SenderLimit:
        """The limit that held the last transmission."""
        return self.limits.current

    def _admissible(self) -> int:
        """New segments that may be queued."""
        sending, control = self.sending, self.control
        if control is None:
            return sending.limit
        if self.recovery.obeys_limits:
            paced = control.pacing_rate * _QUEUE_S  # asked several times for each datagram: no `min`
            free = control.window - self.recovery.in_flight
            most = free if free > _LEAST_BOUND else _LEAST_BOUND
            paced = int(paced) if paced < most else most
            return max(2 * control.burst, 4, paced) - sending.end + sending.nxt
        return max(control.window - (sending.end - sending.una), 4 - sending.queued)

    def transmit(self, now_us: int, *, writer_waits: bool = False) -> list[DatagramBatch]:
        """Everything that should leave now, in order.

        Parameters
        ----------
        writer_waits : the writer has more data, and left room only to let others run: then the application
            is not the limit

        The batches are views of memory that other streams use later: send them before the next call. Call
        `settle` when they have left.
        """
        self.sending.packets.settle()
        ticking = self._ticks.ticks(now_us)
        if self._acks.owed and self._acks_are_due(now_us, ticking):
            self._send_acks(now_us)
        self._send_probes(now_us)
        limit = self.limits.current
        if self.withdrawn:
            limit = SenderLimit.APPLICATION
        else:
            if self.sizes is not None and now_us >= self.sizes.at_us:
                self._follow_size(self.sizes, now_us)
            # Stock KCP with `write_delay` sends data at ticks only; ACKs and probes have left above.
            if ticking or not self.options.write_delay:
                limit = self._send_data(now_us, writer_waits)
        self._ticks.awaited = self._awaits_tick
        self.limits.note(limit, now_us)
        out = self._outbound.take()
        self.sending.packets.lent = bool(out)
        self.counts.leave(out)
        return out

    def settle(self) -> None:
        """The batches of the last `transmit` have left: what is acknowledged gives its memory to others."""
        self.sending.packets.settle()

    def _send_data(self, now_us: int, writer_waits: bool) -> SenderLimit:
        """Retransmissions first, then new segments, then a probe if nothing left; returns the limit."""
        sending, recovery, control = self.sending, self.recovery, self.control
        if now_us == self._pacer.stopped_us and not self.options.boundaries:
            return SenderLimit.PACING  # nothing arrived since: data that was written waits, too
        self._paced_until = None
        if sending.una == sending.end:
            return SenderLimit.APPLICATION
        starved = not writer_waits and self._admissible() > 0  # the writer had room and left it empty
        self.delivery.detect(now_us)
        if not sending.queued and not recovery.pending and not self._recovery_is_due(now_us):
            return self._limit(starved, writer_waits, 0, _UNBOUNDED, _UNBOUNDED)
        room = min(sending.queued, sending.una + min(sending.limit, self.peer_window) - sending.nxt)
        budget = paced = _UNBOUNDED
        if control is not None:
            used = recovery.in_flight if recovery.obeys_limits else sending.nxt - sending.una
            if recovery.in_flight == 0 and self.delivery.app_limited_until and not recovery.pending:
                control.on_idle(now_us)
            budget = max(0, control.window - used)
            # The pacer counts datagrams, whatever their length.
            late = self.limits.current not in _CLOSED
            paced = self._pacer.allowance(now_us, control.pacing_rate, control.burst, late=late)
            paced *= sending.per_datagram
        allowed = min(budget, paced)
        admitting = max(0, min(room, allowed))
        admitting -= self._held_by_nagle(admitting)
        resends = recovery.due(now_us, allowed if recovery.obeys_limits else _UNBOUNDED, admitting)
        resent = sum(len(resend.numbers) for resend in resends)
        for resend in resends:
            self._send_again(resend, now_us)
        if resent and not recovery.obeys_limits:
            self.delivery.detect(now_us)  # stock recovery finds losses when it sends them again
        # Stock KCP's retransmissions take nothing away from new data.
        count = max(0, min(room, allowed - resent if recovery.obeys_limits else allowed))
        count -= self._held_by_nagle(count)
        if recovery.probe_due(now_us) and count == 0 and not resent:
            count = self._probe_path(now_us)
        if count:
            self._send_new(count, now_us)
        sent = resent + count
        return self._limit(starved, writer_waits, room - count, budget - sent, paced - sent)

    def _recovery_is_due(self, now_us: int) -> bool:
        deadline_us = self.recovery.deadline_us()
        return deadline_us is not None and deadline_us <= now_us

    def _held_by_nagle(self, count: int) -> bool:
        """True if the last of `count` new segments is not full and must wait (RFC 896)."""
        sending = self.sending
        reaches_tail = bool(sending.tail_fill) and count > 0 and sending.nxt + count == sending.end
        return (
            self.options.nagle and reaches_tail and (count > 1 or self.corked or self.recovery.in_flight > 0)
        )

    def _probe_path(self, now_us: int) -> int:
        """Send a tail loss probe: new data if there is any (returns 1: the caller sends it), else the last
        segment once more (RFC 8985, 7.3). It may exceed the windows by one."""
        sending = self.sending
        if sending.queued and sending.nxt - sending.una < min(sending.limit, self.peer_window):
            return 1
        last = sending.outstanding(max(sending.una, sending.nxt - 64), sending.nxt)[-1:]
        if len(last):
            self._send_again(Resend(last, Cause.EARLY), now_us)
        return 0

    def _send_new(self, count: int, now_us: int) -> None:
        sending, counts, first = self.sending, self.counts, self.sending.nxt
        flight = self.delivery.flight(count, now_us)
        counts.queue_us += sending.waited_us(first, first + count, now_us)
        counts.queued_segments += count
        frg, una, wnd = self._asked_interval, self.receiving.nxt, self._advertised
        sending.stamp_new(first, first + count, flight.stamp_us, una, wnd, frg)
        self.recovery.sent(first, first + count, flight)
        self.delivery.record.left(first, first + count, flight.stamp_us)
        self._outbound.new(first, first + count)
        self._spend(count, now_us)

    def _send_again(self, resend: Resend, now_us: int) -> None:
        numbers = resend.numbers
        flight = self.delivery.flight(len(numbers), now_us)
        una, wnd = self.receiving.nxt, self._advertised
        rows = self.sending.stamp_again(numbers, flight.stamp_us, una, wnd, self._asked_interval)
        self.delivery.record.left_again(numbers, rows, flight.stamp_us)
        self.recovery.resent(resend, flight)
        self.counts.count_resend(resend.cause, len(numbers))
        self._outbound.again(numbers)
        self._spend(len(numbers), now_us)

    @property
    def _asked_interval(self) -> int:
        """The field frg of data segments: the acknowledgement interval that the peer shall keep."""
        return self.delivery.way_back.interval_code(self.rtt.minimum_us) if self.options.ack_ranges else 0

    def _spend(self, segments: int, now_us: int) -> None:
        """Count data segments that leave, and charge them to pacer and congestion control."""
        self.counts.segments_sent += segments
        if self.control is not None:
            self._pacer.spend(-(-segments // self.sending.per_datagram))
            self.control.on_sent(now_us, segments, self.recovery.in_flight)

    def _limit(self, starved: bool, writer_waits: bool, room: int, budget: int, paced: int) -> SenderLimit:
        """The reason why sending stopped, by what is left: `room` in the send and receive window, `budget`
        in the congestion window, `paced` at the pacer.

        If it is the writer or a window, the samples of all in flight do not measure the path
        (draft-cheng-iccrg-delivery-rate-estimation, 3.4). If it is the pacer, sending goes on when it
        releases the next burst.
        """
        control, sending = self.control, self.sending
        self.recovery.thin = starved and self.options.boundaries
        waiting = sending.queued > 0 or self.recovery.pending
        # A retransmission that waits for its time needs no room: stock KCP's do, one tick or more.
        full = sending.queued > 0 and room <= 0
        # The pacer counts as the limit only while the congestion window has room.
        if control is not None and waiting and budget > 0 and paced <= 0:
            self._paced_until = self._pacer.release_us(control.pacing_rate, control.burst)
            return SenderLimit.PACING
        if waiting and budget <= 0:
            return SenderLimit.CONGESTION_WINDOW
        if full or sending.end - sending.una >= sending.limit:
            self.delivery.limited_by_window()
            by_peer = full and self.peer_window < sending.limit
            return SenderLimit.RECEIVE_WINDOW if by_peer else SenderLimit.SEND_WINDOW
        if not waiting and control is not None and budget <= 0:
            return SenderLimit.CONGESTION_WINDOW
        if writer_waits:
            return SenderLimit.PROCESSOR
        if starved:
            self.delivery.limited_by_application()
            return SenderLimit.APPLICATION
        return self.limits.current

    # --------------------------------------------- acknowledgements and probes

    @property
    def _advertised(self) -> int:
        """The receive window that our segments announce, as far as 16 bits say."""
        return min(self.receiving.limit, MAX_WINDOW)

    def _acks_are_due(self, now_us: int, ticking: bool) -> bool:
        timing = self._acks.timing
        if timing is None:
            return self.options.ack_nodelay or ticking
        if self._acks_ride:
            return True
        return timing.due_us() <= now_us

    @property
    def _acks_ride(self) -> bool:
        """True if acknowledgements may share a datagram with data that is about to leave."""
        return self.options.packs and self.sending.queued > 0

    def _send_acks(self, now_us: int) -> None:
        acks = self._acks
        for data, stride, segments in acks.take(self._advertised, self.receiving, now_us, self._ack_bytes):
            self.counts.acks_sent += segments
            self._outbound.loose(data, stride)
            if acks.timing is not None and self._acks_ride:
                acks.timing.left(0, 0, now_us)  # in the datagram of the data, where they cost next to nothing
            elif acks.timing is not None:
                acks.timing.left(max(1, -(-len(data) // stride)), len(data), now_us)

    @property
    def _ack_bytes(self) -> int:
        """The longest datagram of ACKs: no search covers this direction unless data goes there."""
        return self.options.mtu if self.sizes is None else min(self.sizes.size, self.sizes.range.base)

    def probe(self) -> None:
        """Ask the peer for its window with the next transmission: stock KCP's WASK. It is answered with WINS
        even before any data, so it also serves to associate."""
        self._probes.ask()

    def _send_probes(self, now_us: int) -> None:
        closed = self.peer_window == 0 and self.sending.queued > 0 and not self.withdrawn
        for cmd in self._probes.due(now_us, closed):
            says = wire.TAKES_PARTS if cmd == wire.WINS and self.sizes is not None else 0
            segment = wire.control_segment(self.conv, cmd, self._advertised, self.receiving.nxt, frg=says)
            self._outbound.loose(np.frombuffer(segment, np.uint8), HEADER_BYTES)

    # ------------------------------------------------------- size of datagrams

    @property
    def peer_takes_parts(self) -> bool:
        """True if the peer joins segments that come in parts."""
        return self._outbound.splits

    def search_size(self, now_us: int) -> None:
        """Search for the size of datagrams that the path carries, before the first data: `sizes.opened` says
        when it is known. The peer's answer to the window probe tells whether it joins parts."""
        if self.sizes is not None:
            self._probes.ask()
            self.sizes.begin(now_us)

    def _follow_size(self, sizes: SizeSearch, now_us: int) -> None:
        """Send the probes that are due, and take the size that they proved."""
        sending = self.sending
        outstanding, srtt_us = sending.nxt - sending.una, int(self.rtt.srtt_us)
        for size in sizes.poll(now_us, self.delivery.delivered, outstanding, srtt_us):
            stamp = self.delivery.next_stamp(now_us) & wire.MASK
            # The segment below una has arrived: at the beginning it is one before the first.
            probe = wire.probe_segment(
                self.conv, self._advertised, self.receiving.nxt, stamp, sending.una - 1, size
            )
            self._outbound.alone(probe)
            sizes.sent(size, stamp, now_us)
        if sizes.size != sending.mtu:
            self._take_size(sizes, now_us)

    def _take_size(self, sizes: SizeSearch, now_us: int) -> None:
        """Cut new segments to another size. The congestion control starts anew: a path of another size is
        another path, and all that it knows is in segments of the old size."""
        sending = self.sending
        shrinks = sizes.size < sending.mtu
        sending.set_mtu(sizes.size)
        if sending.nxt == sending.una and not self.counts.segments_sent:
            return
        # RFC 8899, section 3, item 7: these losses are not congestion.
        lost = self.recovery.path_changed(now_us) if shrinks else 0
        self.delivery.path_changed(lost, shrinks=shrinks)
        if self._renew is not None:
            self.steer(self._renew())
            self._pacer = Pacer(_LATE_TIMER_US)

    # ------------------------------------------------------------------- time

    def deadline_us(self) -> int | None:
        """The time to call `transmit` though nothing arrives or is written; None for never. May be past."""
        at_us = None if self.withdrawn else self.recovery.deadline_us()
        paced_us, probe_us = self._paced_until, self._probes.at_us
        if paced_us is not None and (at_us is None or paced_us < at_us):
            at_us = paced_us
        tick_us = self._ticks.at_us
        if at_us is not None and self.options.write_delay and at_us < tick_us:
            at_us = tick_us  # data leaves at ticks only: to ask for it earlier would be in vain
        if probe_us is not None and (at_us is None or probe_us < at_us):
            at_us = probe_us
        if self._awaits_tick and (at_us is None or tick_us < at_us):
            at_us = tick_us
        acks = self._acks
        if acks.timing is not None and acks.owed:
            ack_us = acks.timing.due_us()
            at_us = ack_us if at_us is None else min(at_us, ack_us)
        sizes = self.sizes
        if sizes is not None and not self.withdrawn and (sizes.busy or self.sending.nxt > self.sending.una):
            at_us = sizes.at_us if at_us is None else min(at_us, sizes.at_us)
        return at_us

    @property
    def _awaits_tick(self) -> bool:
        """True if there is something to do at the next tick."""
        data = self.options.write_delay and self.sending.end > self.sending.una and not self.withdrawn
        return data or (self._acks.timing is None and self._acks.owed and not self.options.ack_nodelay)
