"""The part of a test in which data flows; the same at both ends.

    start     one task per stream sends or receives, one task ticks. Where this end only receives, time
              counts from the first data: what passes before belongs to the control channel
    tick      every interval: a sample of each stream -> rows, and to the peer
    finish    senders and all counters stop at one moment
    count_late            the counters that both ends compare, again
    last_interval, totals the last interval and the whole test
    close     channels are closed, tasks ended

`ending.py` says which event ends a test at which end. A data stream that breaks aborts the test, but leaves
the control channel a moment to give the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from iperfpy.errors import FaultError, IperfpyError, guarding
from iperfpy.plan import Plan
from iperfpy.protocols.addresses import plain
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.metrics import Kind, number
from iperfpy.records import MessageTimes, Sample
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.event_loop import sleep_until
from iperfpy.sampling.host import CpuMeter
from iperfpy.traffic.counting_time import CountingTime
from iperfpy.traffic.ending import EndRule
from iperfpy.traffic.file_payload import FileSource
from iperfpy.traffic.guarded_channel import CLOSE_S
from iperfpy.traffic.measured_stream import MeasuredStream
from iperfpy.traffic.messages import MessageSource, message_end
from iperfpy.traffic.open_stream import OpenStream, becomes_true, first_data_us, where
from iperfpy.traffic.payload import Budget, Payload
from iperfpy.traffic.poll_times import PollTimes
from iperfpy.traffic.progress_watch import ProgressWatch
from iperfpy.traffic.stream_echo import StreamEcho

RECEIVED_POLL_S = 0.005
SETTLED_POLLS = 20
"""Polls without a new byte after which no more is expected."""
LATE_POLLS = 4
"""The same once the peer has stopped, and said so behind its last datagram: a reader may still be behind."""
SETTLE_LIMIT_POLLS = 400
STOP_S = 0.5
"""Longest wait for a sender that is blocked in a call."""

OnTick = Callable[[tuple[Sample, ...], int], None]
OnPoll = Callable[[int], None]


class Transfer:
    """The data streams of one test at one end.

    Parameters
    ----------
    streams : in stream order
    started_us : time from which the peer may have sent
    rule : the end of this test at this end
    on_tick : called with the samples of an interval and the time, for every interval but the last
    on_poll : called with the time, several times per interval

    Attributes
    ----------
    streams : the streams while they are measured
    keys_compared_across_ends : keys of the receiver's counters from which, with the sender's, the figures
        of both ends are computed
    peer_finished : set once the peer has sent the whole amount, or its file
    """

    def __init__(
        self,
        plan: Plan,
        transport: Transport,
        streams: Sequence[OpenStream],
        started_us: int,
        rule: EndRule,
        scope: AbortScope,
        deadlines: Deadlines,
        on_tick: OnTick,
        on_poll: OnPoll,
    ) -> None:
        self.peer_finished = asyncio.Event()
        self.cpu = CpuMeter()
        self._delivery = transport.delivery
        self.keys_compared_across_ends = frozenset(
            metric.numerator for metric in transport.metrics if metric.kind in (Kind.ACROSS, Kind.MISSING)
        ) | (transport.delivery.receiver_keys if transport.delivery else frozenset())
        self._plan = plan
        self._scope = scope
        self._deadlines = deadlines
        self._on_tick = on_tick
        self._on_poll = on_poll
        self._rule = rule
        self._budget = Budget(
            plan.amount_bytes if rule.limits_senders else 0, may_be_lifted=not rule.stops_senders
        )
        self.streams = tuple(self._measured(each, transport, started_us) for each in streams)
        self._sending = [each for each in self.streams if each.stream.sends]
        self._receiving = [each for each in self.streams if not each.stream.sends]
        self._time = CountingTime(plan, rule, started_us, only_receives=not self._sending)
        self._progress = ProgressWatch(
            self.streams,
            started_us,
            scope,
            deadlines,
            ends_by_amount=bool(plan.amount_bytes),
            has_planned_end=bool(plan.duration_us),
        )
        self._polls = PollTimes(plan, len(self.streams), only_receives=not self._sending)
        self._measuring = asyncio.Event()
        self._is_over = False
        self._ticking: asyncio.Task[None] | None = None

    def _measured(self, opened: OpenStream, transport: Transport, started_us: int) -> MeasuredStream:
        if opened.echoes:
            return MeasuredStream(opened, transport.metrics, started_us, StreamEcho(opened.channel.wake))
        if self._plan.messages_per_s:
            end = message_end(self._plan, transport, opened.stream, started_us, opened.channel.wake)
            return MeasuredStream(opened, transport.metrics, started_us, end)
        payload = None
        if opened.stream.sends:
            with guarding(transport.name, where(opened.stream)):  # it asks the transport for content
                payload = Payload.of(
                    self._plan, transport, self._budget, whole_blocks=self._rule.whole_blocks
                )
        if payload is not None and opened.file is not None:
            payload.read_from(FileSource(opened.file))
        return MeasuredStream(opened, transport.metrics, started_us, payload)

    def start(self) -> None:
        """Let data flow, and tick."""
        if not self._time.schedule.omitting:
            self._budget.begin()
        self._time.sending_since_us = now_us()
        for each in self.streams:
            each.start(self._stream_failed)
        self._ticking = asyncio.create_task(self._tick_on())
        self._ticking.add_done_callback(self._tick_ended)

    def _stream_failed(self, error: IperfpyError) -> None:
        if isinstance(error, FaultError):
            self._scope.abort(error)  # at once: the peer has no better explanation
        elif not self._is_over:
            self._scope.abort_later(self._deadlines.verdict_s, error)

    # -- events that an end waits for, see `ending.EndEvent`

    async def time_over(self) -> None:
        """Wait for the planned end, which must be known here."""
        await self._measuring.wait()
        if self._time.schedule.end_us is None:
            raise RuntimeError("the end of this test is not known")
        await sleep_until(self._time.schedule.end_us)

    async def all_sent(self) -> None:
        """Wait until every sender of this end has sent its payload, and all of it was acknowledged."""
        await asyncio.gather(*(each.sent() for each in self._sending))
        await asyncio.gather(*(each.acknowledged() for each in self._sending))

    async def answered(self) -> None:
        """Wait until every message was answered, or no more answers come: `MessageSource` has the limits."""
        ends = [each.messages for each in self._sending if isinstance(each.messages, MessageSource)]
        while not all(end.is_over(now_us()) for end in ends):  # noqa: ASYNC110 - another thread takes them
            await asyncio.sleep(RECEIVED_POLL_S)

    def message_times(self) -> MessageTimes | None:
        """The times of a message test, at its client; None at a server, and for a bulk test."""
        for each in self._sending:
            if isinstance(each.messages, MessageSource):
                return replace(each.messages.times(), wire_bytes=each.channel.wire_bytes())
        return None

    async def all_received(self) -> None:
        """Wait until this end has received the whole amount, or the peer has sent all of it.

        A stock server that sends in bursts sends nothing once it has sent the amount, and does not say so: if
        some of it was lost, only the silence tells. It ends the wait as it ends any other wait for a peer.
        """
        await self._measuring.wait()
        seen, since_us = 0, now_us()
        while (received := self._received_bytes()) < self._plan.amount_bytes:
            if self.peer_finished.is_set():  # its message may overtake the last data
                await self.settled()
                return
            if received != seen or not self._rule.silence_ends:
                seen, since_us = received, now_us()
            elif seen and now_us() - since_us > self._deadlines.quiet_s * 1e6:
                return
            await asyncio.sleep(RECEIVED_POLL_S)

    async def settled(self) -> None:
        """The peer has sent the whole amount: wait until it is here, or nothing more arrives."""
        await self._quiet(SETTLED_POLLS, self._received_bytes, self._plan.amount_bytes or math.inf)

    async def file_received(self) -> None:
        """Wait until the peer has sent its file, and nothing more of it arrives."""
        await self.peer_finished.wait()
        await self.settled()
        self._time.ends_early = True

    async def _quiet(self, polls: int, arrived: Callable[[], int], enough: float = math.inf) -> bool:
        """Wait until `arrived()` is `enough`, or has not grown for so many polls, but not without end.
        Returns False if the wait ended while it grew."""
        seen, polls_left = -1, polls
        for _ in range(SETTLE_LIMIT_POLLS):
            now = arrived()
            polls_left = polls_left - 1 if now == seen else polls
            if not polls_left or now >= enough:
                return True
            seen = now
            await asyncio.sleep(RECEIVED_POLL_S)
        return False

    def _received_bytes(self) -> int:
        """Payload received in the measured period, all streams together."""
        return sum(each.measured_bytes for each in self._receiving)

    @property
    def is_over(self) -> bool:
        """True once this end has stopped counting."""
        return self._is_over

    @property
    def is_measuring(self) -> bool:
        """True once the measured period has begun, after the omitted one."""
        return self._measuring.is_set()

    @property
    def measured_bytes(self) -> int:
        """Payload in the measured period, all streams together."""
        return sum(each.measured_bytes for each in self.streams)

    def take_round_trips_us(self) -> list[float]:
        """The round-trip times of this end's senders that were read since the last call."""
        found = [each.round_trip_us for each in self._sending if each.round_trip_us is not None]
        for each in self._sending:
            each.round_trip_us = None
        return found

    @property
    def began_us(self) -> int:
        """Time from which the present period counts."""
        return self._time.schedule.started_us

    @property
    def held_up_us(self) -> int:
        """Time for which this process did not run, though a look at its counters was due."""
        return self._polls.held_up_us

    @property
    def quiet_us(self) -> int:
        """Time since payload last moved, or none was due; at the end of the test, once that has come."""
        until_us = now_us() if self._time.ended_us is None else self._time.ended_us
        return max(0, until_us - self._progress.moved_us)

    def heard_us(self) -> int | None:
        """Time at which anything of the peer last arrived on a stream; None if nothing has."""
        known = [each.channel.heard_us for each in self.streams]
        for each in self._receiving:
            each.snapshots.look()
        return max(
            (at_us for at_us in (*known, self._progress.heard_us(now_us())) if at_us is not None),
            default=None,
        )

    def signs(self, since_us: int) -> tuple[str, ...]:
        """The errors of the paths of streams that were reported later than `since_us`, each once."""
        found = (
            f"{plain(each.channel.remote_address)[0]} {sign}"
            for each in self.streams
            for sign in each.channel.signs(since_us)
        )
        return tuple(dict.fromkeys(found))

    # -- the end

    def finish(self, *, stop_sending: bool) -> None:
        """Stop counting. `stop_sending` False: senders go on until `close`, uncounted."""
        self._is_over = True
        self._cancel_ticking()
        if self._time.ended_us is None:
            self._tick_silence(now_us())
            self._freeze()
            total_bytes = sum(each.snapshots.payload_bytes for each in self.streams)
            self._time.end(now_us(), self._progress, total_bytes)
        else:
            # This end has stopped by its clock. Data that the sender had sent by then came meanwhile.
            self.count_late()
        if stop_sending:
            self._withdraw()
        else:
            self._budget.lift()

    async def senders_stopped(self) -> None:
        """Wait until senders that were told to stop have sent their last datagram, if data may be lost.

        The receiver takes what comes before the message that this end has stopped for all that was sent.
        """
        if self._delivery is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await asyncio.gather(*(each.sent() for each in self._sending))

    async def late_arrived(self) -> bool:
        """The peer has stopped sending: wait until nothing more arrives that the compared counters count.
        Returns False if the wait ended before.

        They would else count as loss what a reader that is behind has not read yet, or what still waits in a
        queue of the path, past which the peer's last message came.
        """
        if not (self.keys_compared_across_ends and self._receiving):
            return True
        return await self._quiet(LATE_POLLS, self._compared_arrivals)

    def _compared_arrivals(self) -> int:
        """The sum of the counters that both ends compare: it grows with every arrival."""
        records = (each.snapshots.now() for each in self._receiving)
        counts = (number(record.get(key)) for record in records for key in self.keys_compared_across_ends)
        return int(sum(count for count in counts if count is not None))

    def count_late(self, *, complete: bool = True) -> None:
        """Count again what arrived since this end stopped, for figures that compare both ends.

        It does not count as carried in the measured time, but it is not lost, either. A sender takes
        them into account if its last datagrams left after it stopped counting.

        Parameters
        ----------
        complete : False if data is still under way
        """
        for each in self._receiving:
            each.snapshots.refresh(self.keys_compared_across_ends)
            if not complete and self._delivery is None:
                # Data is still under way, and nothing tells how much: these figures compare nothing.
                each.snapshots.withhold(self.keys_compared_across_ends)
        if self._delivery is not None:
            for each in self._sending:
                each.snapshots.refresh({self._delivery.sent})

    def last_interval(self) -> tuple[tuple[Sample, ...], int]:
        """Once finished: samples of the last interval, and the time of the end."""
        omitting = self._time.schedule.omitting
        samples = tuple(each.sampler.tick(self._end_of(each), omitting) for each in self.streams)
        return samples, self._ended_us()

    def totals(self) -> tuple[Sample, ...]:
        """Once finished: samples of the whole test.

        Where this end sends and receives, a stream that it receives begins with its first data, which comes
        a round trip after this end's start, and a stream that it sends when it may. Neither wait is time in
        which the path carried less.
        """
        if not (self._sending and self._receiving):
            return tuple(each.sampler.total(self._ended_us()) for each in self.streams)
        since_us = self._time.sending_since_us
        return tuple(
            each.sampler.total(self._end_of(each), since_us if each.stream.sends else each.first_data_us)
            for each in self.streams
        )

    def _end_of(self, each: MeasuredStream) -> int:
        """The end of a stream's measured time."""
        if self._sending and not each.stream.sends and self._time.received_until_us is not None:
            return self._time.received_until_us
        return self._ended_us()

    def _ended_us(self) -> int:
        if self._time.ended_us is None:
            raise RuntimeError("this transfer is not finished")
        return self._time.ended_us

    async def close(self) -> None:
        """Close all channels and end all tasks. Idempotent."""
        self._is_over = True
        self._cancel_ticking()
        self._stop_sending()
        closing = [asyncio.create_task(each.channel.close()) for each in self.streams]
        await asyncio.wait(closing)  # each has a deadline of its own
        if self._ticking is not None:
            await asyncio.gather(self._ticking, return_exceptions=True)
        await asyncio.gather(*(each.end(CLOSE_S) for each in self.streams))
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)

    def _freeze(self) -> None:
        for each in self.streams:
            each.snapshots.freeze()

    def _stop_sending(self) -> None:
        for each in self.streams:
            each.stop_sending()

    def _withdraw(self) -> None:
        """Stop sending at once: the messages of the end must not wait behind data that is not counted."""
        self._stop_sending()
        for each in self._sending:
            each.withdraw()

    def _cancel_ticking(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()

    # -- ticking

    async def _tick_on(self) -> None:
        if self._time.only_receives:
            await self._first_data()
            self._tick_silence(now_us())
        if not self._time.schedule.omitting:
            self._measuring.set()
        while True:
            tick_due_us = self._time.tick_due_us
            poll_due_us = self._polls.next_us(now_us(), omitting=self._time.schedule.omitting)
            moments = (poll_due_us, tick_due_us, self._time.stops_us)
            due_us = min(at_us for at_us in moments if at_us is not None)
            now = await sleep_until(due_us)
            self._polls.looked(max(due_us, self._time.sending_since_us), now)
            if self._time.stops_us is not None and now >= self._time.stops_us:
                # Before the last interval is read: the whole test must not know of more than its intervals.
                self._freeze()
                self._time.ended_us = now
            if tick_due_us is not None and now >= tick_due_us:
                self._tick(now)
            else:
                for each in self.streams:
                    each.look(now)
            if self._time.senders_stop_us is not None and now >= self._time.senders_stop_us:
                self._withdraw()  # again with each poll, which changes nothing
            self._progress.check(now, peer_finished=self.peer_finished.is_set())
            self._on_poll(now)

    def _tick(self, now: int) -> None:
        schedule = self._time.schedule
        self._time.ticked_us = now
        samples = tuple(each.sampler.tick(now, schedule.omitting) for each in self.streams)
        if schedule.ticked(now):
            # The omitted period is over: amounts, counts and times begin again.
            self._budget.begin()
            for each in self.streams:
                each.begin_measured_period(now)
            self._measuring.set()
        if self._plan.interval_us:
            self._on_tick(samples, now)

    def _tick_silence(self, now: int) -> None:
        """Report the intervals that have passed while this end waited for the first data: without any."""
        if not self._time.only_receives or self._any_data():
            return
        latest_us = now - self._plan.interval_us // 10  # one that has just ended is part of the last one
        while (due_us := self._time.tick_due_us) is not None and due_us < latest_us:
            self._tick(due_us)

    def _tick_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._scope.abort(error)

    async def _first_data(self) -> None:
        """Wait for the first byte, and count time from it if its time is known."""
        channels = [each.channel for each in self.streams]
        if not self._any_data():
            if not await becomes_true(self._any_data, self._time.first_data_limit_us(now_us())):
                return
        elif all(channel.first_data_us is None for channel in channels):
            return  # it was here before this end looked, and no channel recorded when it came
        now = first_data_us(channels)
        self._time.begin(now)
        for each in self.streams:
            each.sampler.begin(now)

    def _any_data(self) -> bool:
        return any(each.snapshots.payload_bytes for each in self.streams)
