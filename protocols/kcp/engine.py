"""One end of a KCP conversation, without clock, socket or randomness.

    data out   write(data) -> ring -> transmit(now_us): control and pacer are asked, then rows leave
    data in    receive(batch, now_us) -> deliver(payload views, in order)
    time       deadline_us(): call transmit then, though nothing arrived

`receive` only takes note; everything that leaves (acknowledgements, resends, new data) leaves by
`transmit`, so that many batches in cost one batch out. The accounting that recovery and congestion control
need is done here, once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from iperfpy.protocols.congestion.congestion_control import CongestionControl
from iperfpy.protocols.congestion.pacer import Pacer
from iperfpy.protocols.datagrams.batch import MAX_BYTES, MAX_DATAGRAMS, DatagramBatch
from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.delivery import FEW, DeliveryAccounting
from iperfpy.protocols.kcp.engine_options import Counts, EngineOptions
from iperfpy.protocols.kcp.loss_recovery.recovery import Cause, Recovery, Resend
from iperfpy.protocols.kcp.owed_acks import OwedAcks
from iperfpy.protocols.kcp.receive_window import Deliver, ReceiveWindow
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.sender_limits import SenderLimits
from iperfpy.protocols.kcp.window_probes import WindowProbes
from iperfpy.protocols.kcp.wire import HEADER_BYTES, Bytes, Int64s

_UNBOUNDED = 1 << 30
_QUEUE_S, _MOST_QUEUED = 0.002, 4096
"""What may wait for the pacer: two milliseconds' worth, which is what one turn of an event loop releases."""
_LATE_TIMER_US = 8_000
"""How late the timer of a busy machine may fire before its lateness costs rate: event loops sleep in whole
milliseconds, and what they missed leaves at once. Measured on a shared 2-core machine at 20 Mb/s: with 1 ms
a fifth of the rate was lost."""


class Engine:
    """Parameters
    ----------
    conv : conversation number, equal at both ends
    recovery : makes the way of finding losses, given the send window and the RTT estimator
    control : congestion control, None for stock KCP's nc=1: the windows alone limit
    deliver : takes payload in order; default discards it
    """

    def __init__(
        self,
        conv: int,
        options: EngineOptions,
        recovery: Callable[[SendWindow, RttEstimator], Recovery],
        control: CongestionControl | None = None,
        deliver: Deliver | None = None,
    ) -> None:
        self.conv, self.options = conv, options
        self.rtt = RttEstimator()
        self.sending = SendWindow(conv, options.mtu, options.send_window, options.first_sn)
        mss = self.sending.mss
        self.receiving = ReceiveWindow(mss, options.receive_window, deliver or _discard, options.first_sn)
        self.recovery = recovery(self.sending, self.rtt)
        self.counts = Counts()
        self.accounting = DeliveryAccounting(self.sending, self.recovery, self.rtt, control, self.counts)
        self.steer(control)
        self.peer_window = options.receive_window  # until the peer says
        self.limited_by, self.limits = "application", SenderLimits()
        self.corked = False
        """The writer will fill the last segment soon: it waits, unless `nagle` is off."""
        self.more = False
        """The writer has more at this very moment: that it left room does not make it what limits."""
        self.longest_batch = min(MAX_DATAGRAMS, MAX_BYTES // options.mtu)
        """Datagrams: what a kernel takes at once. Whoever cuts batches anyway may ask for longer ones."""
        self._pacer = Pacer(_LATE_TIMER_US)
        self._paced_until: int | None = None
        self._acks = OwedAcks(conv, options.ack_repeats)
        self._tick_us = 0
        self._awaited = False
        self._probes = WindowProbes()
        self._out: list[DatagramBatch] = []

    def steer(self, control: CongestionControl | None) -> None:
        """Congestion control from here on; before anything was sent."""
        self.control = self.accounting.control = control

    # ---------------------------------------------------------------- data in

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Take note of what arrived. Nothing in it can raise: what is not KCP of this conversation is
        counted and dropped."""
        self.counts.datagrams_received += batch.count
        self.counts.wire_bytes_received += batch.size
        if min(batch.stride, batch.size) >= HEADER_BYTES:
            self._receive(batch, now_us)
        else:
            self.counts.foreign += batch.count

    def _receive(self, batch: DatagramBatch, now_us: int) -> None:
        if batch.count == 1 and self._take_alone(batch, now_us):
            return
        if batch.data[4] == wire.ACK and self._take_few_acks(batch, now_us):
            return
        shape = wire.recognise(batch, self.conv)
        if type(shape) is wire.Run:
            self._take_run(shape, now_us)
        elif type(shape) is wire.Acks:
            self._take_acks(shape, now_us)
        elif type(shape) is wire.Pushes:
            numbers = wire.expand_all(shape.sn, self.receiving.nxt)
            self._take_pushes(numbers, wire.expand_all(shape.ts, now_us), shape.rows)
            self._heard(shape.una, shape.wnd, now_us)
        elif parts := wire.split_tail(batch):
            self._receive(parts[0], now_us)
            self._walk(parts[1].data, now_us)
        else:
            for datagram in batch:
                self._walk(datagram, now_us)

    def _take_alone(self, batch: DatagramBatch, now_us: int) -> bool:
        """The two datagrams that come one at a time on a slow path, without an array: a segment in order, and
        an ACK that says no more than its una does. False: it was neither, and nothing was done."""
        conv, cmd, _, wnd, ts, sn, una_low, length = wire.HEADER.unpack_from(batch.data.data, 0)
        if conv != self.conv or length != batch.last_size - HEADER_BYTES:
            return False
        receiving = self.receiving
        if cmd == wire.PUSH and length and not receiving.stored and sn == receiving.nxt & wire.MASK:
            payload = batch.data[HEADER_BYTES : batch.last_size].reshape(1, -1)
            if not receiving.insert_run(receiving.nxt, payload):
                return False
            self._acks.in_order(receiving.nxt - 1, ts)
            self._heard(una_low, wnd, now_us)
            return True
        if cmd == wire.ACK and not length:
            una = wire.expand(una_low, self.sending.una)
            echo_us = wire.expand(ts, now_us)
            if self.accounting.says_no_more(wire.expand(sn, una), una, echo_us):
                self.counts.acks_received += 1
                self.peer_window = wnd
                self.accounting.acknowledge(una, None, echo_us, now_us)
                return True
        return False

    def _take_few_acks(self, batch: DatagramBatch, now_us: int) -> bool:
        """ACKs without an array, when the last una says all that they do. False: nothing was done."""
        size = batch.size
        if size > FEW * HEADER_BYTES or size % HEADER_BYTES:
            return False
        headers = list(wire.HEADER.iter_unpack(batch.data.data[:size]))
        said = self.accounting.say_no_more(self.conv, headers)
        if said is None:
            return False
        self.counts.acks_received += len(headers)
        self.peer_window = headers[-1][3]
        self.accounting.acknowledge(*said, now_us)
        return True

    def _take_run(self, run: wire.Run, now_us: int) -> None:
        first = wire.expand(run.first, self.receiving.nxt)
        if self.receiving.insert_run(first, run.rows):
            self._acks.in_order(first + run.count - 1, int(run.ts[-1]))
        else:
            numbers = np.arange(first, first + run.count)
            arrived = self.receiving.insert(numbers, run.rows)
            self._acks.each(numbers[arrived], run.ts[arrived].astype(np.int64))
        self._heard(run.una, run.wnd, now_us)

    def _take_pushes(self, numbers: Int64s, stamps: Int64s, rows: Bytes) -> None:
        receiving = self.receiving
        clean = not receiving.stored and int(numbers[0]) == receiving.nxt
        arrived = receiving.insert(numbers, rows)
        if clean and not receiving.stored and receiving.nxt == int(numbers[-1]) + 1:
            self._acks.in_order(int(numbers[-1]), int(stamps[-1]))
        else:
            self._acks.each(numbers[arrived], stamps[arrived])

    def _walk(self, datagram: Bytes, now_us: int) -> None:
        try:
            for segment in wire.walk(datagram, self.conv):
                self._take(segment, now_us)
        except ValueError:
            self.counts.foreign += 1

    def _take(self, segment: wire.Segment, now_us: int) -> None:
        """One segment of a mixed datagram."""
        if segment.cmd == wire.ACK:
            number = np.array([segment.sn], np.uint32)
            echo = np.array([segment.ts], np.uint32)
            self._take_acks(wire.Acks(number, echo, segment.una, segment.wnd), now_us)
            return
        if segment.cmd == wire.PUSH:
            number64 = np.array([wire.expand(segment.sn, self.receiving.nxt)])
            stamp = np.array([segment.ts], np.int64)
            self._take_pushes(number64, stamp, segment.payload.reshape(1, -1))
        elif segment.cmd == wire.WASK:
            self._probes.answer()
        self._heard(segment.una, segment.wnd, now_us)

    def _take_acks(self, acks: wire.Acks, now_us: int) -> None:
        self.counts.acks_received += len(acks.sn)
        una = wire.expand(acks.una, self.sending.una)
        numbers = wire.expand_all(acks.sn, self.sending.una)
        echoes = wire.expand_all(acks.ts, now_us)
        self.peer_window = acks.wnd
        sent = numbers < self.sending.nxt
        if not sent.all():
            self.counts.foreign += len(sent) - int(np.count_nonzero(sent))
            numbers, echoes = numbers[sent], echoes[sent]
            if not len(numbers):
                self.accounting.acknowledge(una, None, None, now_us)
                return
        newest_us = int(echoes.max())
        if len(numbers) == 1 and self.accounting.says_no_more(int(numbers[0]), una, newest_us):
            self.accounting.acknowledge(una, None, newest_us, now_us)
        else:
            self.accounting.acknowledge(una, (numbers, echoes), newest_us, now_us)

    def _heard(self, una_low: int, wnd: int, now_us: int) -> None:
        """What every segment says: how far its sender has received, and how much more it will take."""
        self.peer_window = wnd
        if una_low != self.sending.una & wire.MASK:
            self.accounting.acknowledge(wire.expand(una_low, self.sending.una), None, None, now_us)

    # --------------------------------------------------------------- data out

    def writable(self) -> int:
        """Bytes that `write` would take now. With congestion control a writer is held at the congestion
        window: what waits here is what the next moments will release, not a send window."""
        return self.sending.room_bytes(self._admissible())

    def write(self, data: memoryview, now_us: int) -> int:
        """Queue bytes; returns how many were taken, `writable()` at most."""
        return self.sending.write(data, self._admissible(), now_us)

    def _admissible(self) -> int:
        """New segments that may be queued."""
        sending = self.sending
        if self.control is None:
            return sending.limit
        if self.recovery.bounded:
            control = self.control
            paced = int(min(control.pacing_rate * _QUEUE_S, _MOST_QUEUED))
            return max(2 * control.burst, 4, paced) - sending.end + sending.nxt
        return max(self.control.window - (sending.end - sending.una), 4 - sending.queued)

    def transmit(self, now_us: int) -> list[DatagramBatch]:
        """Everything that should leave now, in order. The batches are views of the rings: send them, or keep
        them and call nothing here, before the next call."""
        out = self._out = []
        if now_us >= self._tick_us and not self._awaited:
            # Ticks go on in silence: what comes after it waits for the next one.
            self._tick_us = now_us + (self._tick_us - now_us) % self.options.tick_us
        ticking = now_us >= self._tick_us
        if ticking:
            self._tick_us = now_us + self.options.tick_us
        if self._acks.owed and (self.options.ack_nodelay or ticking):
            self._send_acks()
        self._send_probes(now_us)
        if ticking or not self.options.write_delay:
            self._send_data(now_us)
        self._awaited = self._awaits_tick
        self.limits.note(self.limited_by, now_us)
        for batch in out:
            self.counts.datagrams_sent += batch.count
            self.counts.wire_bytes_sent += batch.size
        return out

    def _send_data(self, now_us: int) -> None:
        sending, recovery, control = self.sending, self.recovery, self.control
        self._paced_until = None
        if sending.una == sending.end:
            self.limited_by = "application"
            return
        starved = not self.more and self._admissible() > 0  # the writer had room and left it empty
        self.accounting.detect(now_us)
        if not sending.queued and not recovery.pending and not self._recovery_is_due(now_us):
            self._note_limit(starved, 0, _UNBOUNDED, _UNBOUNDED)
            return
        room = min(sending.queued, sending.una + min(sending.limit, self.peer_window) - sending.nxt)
        budget = paced = _UNBOUNDED
        if control is not None:
            used = recovery.in_flight if recovery.bounded else sending.nxt - sending.una
            if recovery.in_flight == 0 and self.accounting.app_limited_until and not recovery.pending:
                control.on_idle(now_us)
            budget = max(0, control.window - used)
            paced = self._pacer.allowance(now_us, control.pacing_rate, control.burst)
        limit = min(budget, paced)
        admitting = max(0, min(room, limit))
        admitting -= self._held_by_nagle(admitting)
        resends = recovery.due(now_us, limit if recovery.bounded else _UNBOUNDED, admitting)
        resent = sum(len(resend.numbers) for resend in resends)
        for resend in resends:
            self._send_again(resend, now_us)
        if resent and not recovery.bounded:
            self.accounting.detect(now_us)
        count = max(0, min(room, limit - resent if recovery.bounded else limit))
        count -= self._held_by_nagle(count)
        if recovery.probe_due(now_us) and count == 0 and not resent:
            count = self._probe_path(now_us)
        if count:
            self._send_new(count, now_us)
        self._note_limit(starved, room - count, budget - resent - count, paced - resent - count)

    def _recovery_is_due(self, now_us: int) -> bool:
        deadline_us = self.recovery.deadline_us()
        return deadline_us is not None and deadline_us <= now_us

    def _held_by_nagle(self, count: int) -> bool:
        sending = self.sending
        reaches_tail = bool(sending.tail_fill) and count > 0 and sending.nxt + count == sending.end
        return (
            self.options.nagle and reaches_tail and (count > 1 or self.corked or self.recovery.in_flight > 0)
        )

    def _probe_path(self, now_us: int) -> int:
        """A tail loss probe: new data if there is any (then its count), else the last segment once more
        (RFC 8985, 7.3). It may exceed the windows by one."""
        sending = self.sending
        if sending.queued and sending.nxt - sending.una < min(sending.limit, self.peer_window):
            return 1
        last = sending.outstanding(max(sending.una, sending.nxt - 64), sending.nxt)[-1:]
        if len(last):
            self._send_again(Resend(last, Cause.EARLY), now_us)
        return 0

    def _left(self, segments: int, now_us: int) -> None:
        self.counts.segments_sent += segments
        if self.control is not None:
            self._pacer.spend(segments)
            self.control.on_sent(now_us, segments, self.recovery.in_flight)

    def _send_new(self, count: int, now_us: int) -> None:
        sending, first = self.sending, self.sending.nxt
        flight = self.accounting.flight(count, now_us)
        self.counts.queue_us += sending.waited_us(first, first + count, now_us)
        self.counts.queued_segments += count
        sending.stamp_new(first, first + count, flight.stamp_us, self.receiving.nxt, self._advertised)
        self.recovery.sent(first, first + count, flight)
        for start, stop in sending.pieces(first, first + count):
            self._emit_rows(start, stop)
        self._left(count, now_us)

    def _emit_rows(self, start: int, stop: int) -> None:
        """Rows [start, stop) of the ring as batches; a row that is not full ends one."""
        sending, mtu = self.sending, self.options.mtu
        cuts = [stop]
        if sending.shorts:
            cuts = [start + int(i) + 1 for i in np.flatnonzero(sending.length[start:stop] != sending.mss)]
            if not cuts or cuts[-1] != stop:
                cuts.append(stop)
        flat = sending.packets.reshape(-1)
        for cut in cuts:
            while start < cut:
                end = min(cut, start + self.longest_batch)
                last = HEADER_BYTES + int(sending.length[end - 1]) if sending.shorts else mtu
                data = flat[start * mtu : (end - 1) * mtu + last]
                self._out.append(DatagramBatch(data, mtu if end - start > 1 else last, end - start, last))
                start = end

    def _send_again(self, resend: Resend, now_us: int) -> None:
        sending, mtu, numbers = self.sending, self.options.mtu, resend.numbers
        flight = self.accounting.flight(len(numbers), now_us)
        rows = sending.stamp_again(numbers, flight.stamp_us, self.receiving.nxt, self._advertised)
        self.recovery.resent(resend, flight)
        setattr(self.counts, resend.cause.value, getattr(self.counts, resend.cause.value) + len(numbers))
        if sending.shorts and (sending.length[rows] != sending.mss).any():
            for row in rows.tolist():
                data = sending.packets[row, : HEADER_BYTES + int(sending.length[row])].copy()
                self._out.append(DatagramBatch(data, len(data), 1, len(data)))
        else:
            for at in range(0, len(rows), self.longest_batch):
                copied = sending.packets[rows[at : at + self.longest_batch]].reshape(-1)
                self._out.append(DatagramBatch(copied, mtu, len(copied) // mtu, mtu))
        self._left(len(numbers), now_us)

    def _note_limit(self, starved: bool, room: int, budget: int, paced: int) -> None:
        """Why sending stopped; when to go on, if pacing is why; and whether the samples of what is in flight
        measure the writer or a window, not the path (draft-cheng-iccrg-delivery-rate-estimation, 3.4)."""
        control, sending = self.control, self.sending
        waiting = sending.queued > 0 or self.recovery.pending
        if control is not None and waiting and budget > 0 and paced <= 0:
            self.limited_by = "pacing"
            self._paced_until = self._pacer.release_us(control.pacing_rate, control.burst)
        elif waiting and budget <= 0:
            self.limited_by = "congestion window"
        elif (full := waiting and room <= 0) or sending.end - sending.una >= sending.limit:
            self.limited_by = "receive window" if full and self.peer_window < sending.limit else "send window"
            self.accounting.window_limited_until = self._all_in_flight
        elif not waiting and control is not None and budget <= 0:
            self.limited_by = "congestion window"
        elif self.more:
            self.limited_by = "processor"
        elif starved:
            self.limited_by = "application"
            self.accounting.app_limited_until = self._all_in_flight

    @property
    def _all_in_flight(self) -> int:
        """How many segments will have been delivered when all that is in flight is."""
        return max(1, self.accounting.delivered + self.recovery.in_flight)

    # --------------------------------------------- acknowledgements and probes

    @property
    def _advertised(self) -> int:
        return min(self.receiving.limit, wire.MAX_WINDOW)

    def _send_acks(self) -> None:
        repeat = self.options.ack_repeats > 0 and self.receiving.stored > 0
        data = self._acks.take(self._advertised, self.receiving.nxt, repeat=repeat)
        self.counts.acks_sent += len(data) // HEADER_BYTES
        stride = self.options.mtu // HEADER_BYTES * HEADER_BYTES
        for at in range(0, len(data), stride * self.longest_batch):
            self._out.append(DatagramBatch.of(data[at : at + stride * self.longest_batch], stride))

    def probe(self) -> None:
        """Ask the peer for its window with the next transmission: stock KCP's WASK. It is answered with WINS
        even before any data, so it also serves to associate."""
        self._probes.ask()

    def _send_probes(self, now_us: int) -> None:
        closed = self.peer_window == 0 and self.sending.queued > 0
        for cmd in self._probes.due(now_us, closed):
            told = wire.control_segment(self.conv, cmd, self._advertised, self.receiving.nxt)
            self._out.append(DatagramBatch.of(np.frombuffer(told, np.uint8), HEADER_BYTES))

    def deadline_us(self) -> int | None:
        """When to call `transmit` though nothing arrives or is written; None for never. May be past."""
        at_us, paced_us, probe_us = self.recovery.deadline_us(), self._paced_until, self._probes.at_us
        if paced_us is not None and (at_us is None or paced_us < at_us):
            at_us = paced_us
        if at_us is not None and self.options.write_delay and at_us < self._tick_us:
            at_us = self._tick_us  # data leaves at ticks only: to ask for it earlier would be in vain
        if probe_us is not None and (at_us is None or probe_us < at_us):
            at_us = probe_us
        if self._awaits_tick and (at_us is None or self._tick_us < at_us):
            at_us = self._tick_us
        return at_us

    @property
    def _awaits_tick(self) -> bool:
        """Whether there is something to do at the next tick."""
        data = self.options.write_delay and self.sending.end > self.sending.una
        return data or (self._acks.owed and not self.options.ack_nodelay)


def _discard(payload: Bytes) -> None:
    """Where payload goes when nobody wants to see it: it has been counted."""
