"""The part of a test in which data flows: the same at both ends.

    begin   one task per channel sends or receives, one ticks. Where this end only receives, times
            count from the first data: what passes before is the control channel's time
    tick    every interval: a sample of each stream -> rows, and the other end
    finish  loads and all counters stop at one moment. What only receives ends with the planned time, or with
            its last data where bytes end it, should the word that it is over come late
    samples the last interval and the whole test
    close   channels are closed, tasks ended

Who ends the test, and when, is the client's business (client.py). A data stream that breaks calls the test
off, but first leaves the control channel a moment to say why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import FileIO

from iperfpy.errors import IperfpyError, LateError, PathError, PeerError, from_transport
from iperfpy.plan import Plan
from iperfpy.protocols.contract import Channel, Stream, Transport
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.metrics import Kind, Side
from iperfpy.records import Sample
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.event_loop import now_us, sleep_until
from iperfpy.sampling.host import CpuMeter
from iperfpy.sampling.sampler import Sampler
from iperfpy.traffic.counter_snapshots import CounterSnapshots
from iperfpy.traffic.payload import Budget, Payload
from iperfpy.traffic.schedule import Schedule

RECEIVED_POLL_S = 0.005
SETTLE_POLLS = 20
"""So many polls without a byte: nothing more will come."""
SETTLE_LIMIT_POLLS = 400
POLLS_PER_INTERVAL = 20
SHORTEST_POLL_US, LONGEST_POLL_US = 10_000, 100_000
GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, modulo 1, fall evenly: by them looks are spread, which would else keep step with a paced
sender, and see every burst at the same moment."""
END_POLL_US, END_POLL_PER_STREAM_US = 5_000, 1_000
"""How often a receiver looks when its data may end at any moment."""
FIRST_DATA_POLL_S = 0.001
FIRST_DATA_PATIENCE_US = 2_000_000
"""A silence of so long is part of what is measured."""
CLOSE_S = 3.0

OnTick = Callable[[tuple[Sample, ...], int], None]


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A stream whose channel is open, and its counters since then."""

    stream: Stream
    channel: Channel
    meter: CounterSnapshots
    file: FileIO | None = None  # -F: what is sent from it, or written to it

    @classmethod
    def of(cls, stream: Stream, channel: Channel) -> OpenStream:
        """To be called as soon as the channel is open."""
        return cls(stream, channel, CounterSnapshots(channel))

    async def close(self) -> None:
        """Close the channel and the file."""
        await self.channel.close()
        if self.file is not None:
            self.file.close()


@dataclass(slots=True)
class Track:
    """One stream while it is measured. `base_bytes`: counted before the measured stretch began."""

    stream: Stream
    channel: Channel
    meter: CounterSnapshots
    sampler: Sampler
    load: Payload | None
    carrying: asyncio.Task[None]
    base_bytes: int = 0

    def begin_again(self, now: int) -> None:
        """The omitted stretch is over."""
        self.base_bytes = self.meter.bytes
        self.sampler.restart(now)


def side_of(stream: Stream) -> Side:
    """Which end of the stream this program is."""
    return Side.SENDER if stream.sends else Side.RECEIVER


async def first_stir_us(streams: Sequence[OpenStream], patience_s: float) -> int | None:
    """When the first payload came, to a millisecond, on streams that are not measured yet: the word that the
    test runs may be lost, and come later than the data."""
    receiving = [each.meter for each in streams if not each.stream.sends]
    stirs = await _comes_true(lambda: any(meter.stirs for meter in receiving), round(patience_s * 1e6))
    return _first_data_us(each.channel for each in streams) if stirs else None


def _first_data_us(channels: Iterable[Channel]) -> int:
    """When data came that is here now: as a channel knows, or it is new."""
    noted = [channel.first_data_us for channel in channels if channel.first_data_us is not None]
    return min(noted, default=now_us())


async def _comes_true(ready: Callable[[], bool], patience_us: int) -> bool:
    give_up_us = now_us() + patience_us
    while not ready():
        if now_us() >= give_up_us:
            return False
        await asyncio.sleep(FIRST_DATA_POLL_S)
    return True


class Transfer:
    """The data streams of one test at one end. Begins on construction.

    Parameters
    ----------
    streams : in stream order
    started_us : when the other end may have begun to send
    limited : whether this end's senders stop by themselves at -n or -k
    known_end : whether this end decides when the time is over, so that intervals can be laid out before it
    on_tick : called with the samples of an interval and the time, for every interval but the last
    on_poll : called with the time, several times per interval
    """

    def __init__(
        self,
        plan: Plan,
        transport: Transport,
        streams: Sequence[OpenStream],
        started_us: int,
        guard: AbortScope,
        deadlines: Deadlines,
        *,
        limited: bool,
        known_end: bool,
        on_tick: OnTick,
        on_poll: Callable[[int], None],
    ) -> None:
        self.plan = plan
        self.cpu = CpuMeter()
        self.ended = False
        self.peer_finished = False
        self.compared = frozenset(
            metric.numerator for metric in transport.metrics if metric.kind in (Kind.ACROSS, Kind.MISSING)
        )
        self._guard = guard
        self._deadlines = deadlines
        self._on_tick = on_tick
        self._on_poll = on_poll
        self.schedule = Schedule(
            started_us, plan.interval_us, plan.omit_us, plan.duration_us if known_end else 0
        )
        self._wanted_bytes = plan.total_bytes or plan.total_blocks * plan.block_bytes
        self._budget = Budget(self._wanted_bytes if limited else 0)
        if not self.schedule.omitting:
            self._budget.begin()
        self._measuring = asyncio.Event()
        self._moved = self._received = (0, started_us)
        self._ticked_us = started_us
        self._ended_us: int | None = None
        self._polls = 0
        self._only_receives = not any(each.stream.sends for each in streams)
        self._ends_by_time = self._only_receives and not known_end and plan.duration_us > 0
        self.tracks = tuple(self._track(each, transport, started_us) for each in streams)
        self._ticking = asyncio.create_task(self._tick_on())
        self._ticking.add_done_callback(self._tick_ended)

    # -- what the client waits for

    async def time_over(self) -> None:
        """Until the planned end, which must be known."""
        await self._measuring.wait()
        if self.schedule.end_us is None:
            raise RuntimeError("the end of this test is not known")
        await sleep_until(self.schedule.end_us)

    async def all_sent(self) -> None:
        """Until every sender of this end has nothing more to send, and what it sent was acknowledged, or
        nothing has been for too long."""
        senders = [track for track in self.tracks if track.stream.sends]
        await asyncio.gather(*(asyncio.shield(track.carrying) for track in senders))
        await asyncio.gather(*(self._drain(track) for track in senders))

    async def all_received(self) -> None:
        """Until this end has received all that -n or -k asks for, or the other end has sent all of it."""
        await self._measuring.wait()
        while True:
            if self.peer_finished or self.received_bytes() >= self._wanted_bytes:
                return
            await asyncio.sleep(RECEIVED_POLL_S)

    async def settle(self) -> None:
        """The other end has sent all that -n or -k asks for: until it is here, or no more comes."""
        if not self._receives():
            return
        seen, patience = -1, SETTLE_POLLS
        for _ in range(SETTLE_LIMIT_POLLS):
            received = self.received_bytes()
            patience = patience - 1 if received == seen else SETTLE_POLLS
            if not patience or received >= self._wanted_bytes:
                return
            seen = received
            await asyncio.sleep(RECEIVED_POLL_S)

    def received_bytes(self) -> int:
        """Payload received since the measured stretch began, all streams together."""
        return sum(track.meter.bytes - track.base_bytes for track in self.tracks if not track.stream.sends)

    @property
    def senders_finished(self) -> bool:
        """Whether no sender of this end will send more."""
        return all(track.carrying.done() for track in self.tracks if track.stream.sends)

    # -- the end

    def finish(self, *, stop: bool) -> None:
        """Stop counting.

        `stop` False: senders go on until `close`, uncounted. An iperf3 that receives reads whole blocks until
        it has seen EXCHANGE_RESULTS: half a block would hold it for ever.
        """
        self.ended = True
        self._ticking.cancel()
        if self._ended_us is None:
            self._freeze()
            self._ended_us = self._end_us(now_us())
        if stop:
            self._stop_loads()

    def _freeze(self) -> None:
        for track in self.tracks:
            track.meter.freeze()

    def count_latecomers(self) -> None:
        """What was on its way when this end stopped has come by now. It is no part of what was carried until
        then, nor is it lost: whatever is held against counters of the other end is counted again."""
        for track in self.tracks:
            if not track.stream.sends:
                track.meter.count_again(self.compared)

    def samples(self) -> tuple[tuple[Sample, ...], tuple[Sample, ...], int]:
        """Once finished: the last interval, the whole test, and when it ended."""
        if self._ended_us is None:
            raise RuntimeError("this measurement is not finished")
        now, omitting = self._ended_us, self.schedule.omitting
        last = tuple(track.sampler.tick(now, omitting) for track in self.tracks)
        return last, tuple(track.sampler.total(now) for track in self.tracks), now

    async def close(self) -> None:
        """Close all channels and end all tasks. Idempotent."""
        self.ended = True
        self._ticking.cancel()
        self._stop_loads()
        closing = [asyncio.create_task(track.channel.close()) for track in self.tracks]
        await asyncio.wait(closing, timeout=CLOSE_S)
        tasks = [self._ticking, *(track.carrying for track in self.tracks)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)

    def _stop_loads(self) -> None:
        for track in self.tracks:
            if track.load is not None:
                track.load.stop()

    # -- streams

    def _track(self, opened: OpenStream, transport: Transport, started_us: int) -> Track:
        plan, stream = self.plan, opened.stream
        load = Payload.of(plan, transport, self._budget) if stream.sends else None
        if load is not None and opened.file is not None:
            load.read_from(opened.file)
        sampler = Sampler(stream.id, side_of(stream), opened.meter, transport.metrics, started_us)
        carrying = asyncio.create_task(self._carry(stream, opened.channel, load))
        return Track(stream, opened.channel, opened.meter, sampler, load, carrying)

    async def _carry(self, stream: Stream, channel: Channel, load: Payload | None) -> None:
        where = f"stream {stream.id}"
        error: IperfpyError | None = None
        try:
            if load is not None:
                await channel.send(load)
            else:
                await channel.receive()
                error = PeerError(f"{where}: the other end closed it before the test was over")
        except TransportError as failure:
            error = from_transport(failure, where)
        except OSError as failure:
            error = PathError(f"{where}: {failure.strerror or failure}")
        if error is not None and not self.ended:
            self._guard.abort_later(self._deadlines.verdict_s, error)

    async def _drain(self, track: Track) -> None:
        """As long as something is acknowledged at all."""
        draining = asyncio.ensure_future(track.channel.drain())
        try:
            seen, patience_s = -1, self._deadlines.drain_s
            while not draining.done() and track.meter.bytes != seen:
                seen = track.meter.bytes
                await asyncio.wait([draining], timeout=patience_s)
            if draining.done():
                draining.result()
        except TransportError as failure:
            raise from_transport(failure, f"stream {track.stream.id}") from failure
        finally:
            draining.cancel()

    # -- time

    async def _first_data(self) -> None:
        """Until the first byte is here; the times begin with it, if anybody knows when it came."""
        channels = [track.channel for track in self.tracks]
        if not self._any_data():
            if not await _comes_true(self._any_data, FIRST_DATA_PATIENCE_US):
                return
        elif all(channel.first_data_us is None for channel in channels):
            return
        now = self._ticked_us = _first_data_us(channels)
        self.schedule.begin(now)
        for track in self.tracks:
            track.sampler.begin(now)

    def _any_data(self) -> bool:
        return any(track.meter.bytes for track in self.tracks)

    def _end_us(self, now: int) -> int:
        """When the measured stretch has ended, at the moment when this end hears of it."""
        total = sum(track.meter.bytes for track in self.tracks)
        moved, since_us = self._moved
        if not self._only_receives or total != moved or not total:
            return now
        return min(now, max(since_us, self._planned_end_us, self._ticked_us))

    @property
    def _planned_end_us(self) -> int:
        """Of the present stretch; its beginning, when only bytes end it."""
        return self.schedule.started_us + self.plan.duration_us

    def _poll_us(self, now: int) -> int:
        interval_us = self.plan.interval_us or 1_000_000
        poll_us = min(max(interval_us // POLLS_PER_INTERVAL, SHORTEST_POLL_US), LONGEST_POLL_US)
        if self._only_receives and not self.plan.duration_us and not self.schedule.omitting:
            return min(poll_us, max(END_POLL_US, END_POLL_PER_STREAM_US * len(self.tracks)))
        return poll_us

    async def _tick_on(self) -> None:
        if self._only_receives:
            await self._first_data()
        if not self.schedule.omitting:
            self._measuring.set()
        while True:
            due_us = self.schedule.next_us if self._ended_us is None else None
            self._polls += 1
            now = now_us()
            poll_due_us = now + round(self._poll_us(now) * (0.75 + self._polls * GOLDEN % 1 / 2))
            moments = (poll_due_us, due_us, self._stops_us)
            now = await sleep_until(min(at_us for at_us in moments if at_us is not None))
            if due_us is not None and now >= due_us:
                self._tick(now)
            else:
                for track in self.tracks:
                    track.sampler.poll(now)
            self._stop_counting(now)
            self._check_progress(now)
            self._on_poll(now)

    @property
    def _stops_us(self) -> int | None:
        """When this end, which only receives, stops counting without being told."""
        if not self._ends_by_time or self.schedule.omitting or self._ended_us is not None:
            return None
        return self._planned_end_us

    def _stop_counting(self, now: int) -> None:
        """The word that the time is over may be lost, and come seconds after it; so may the last data. What
        they bring is no part of what the path carried in that time."""
        if self._stops_us is not None and now >= self._stops_us:
            self._freeze()
            self._ended_us = now

    def _tick(self, now: int) -> None:
        self._ticked_us = now
        samples = tuple(track.sampler.tick(now, self.schedule.omitting) for track in self.tracks)
        over = self.schedule.ticked(now)
        if over:
            self._budget.begin()
            for track in self.tracks:
                track.begin_again(now)
            self._measuring.set()
        if self.plan.interval_us:
            self._on_tick(samples, now)

    def _tick_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._guard.abort(error)

    def _check_progress(self, now: int) -> None:
        """Nothing moves at all, although something should: the path or the other end is gone."""
        total = sum(track.meter.moved for track in self.tracks)
        moved, since_us = self._moved
        if total != moved or self._nothing_expected():
            self._moved = (total, now)
        elif now - since_us > self._deadlines.stall_s * 1e6:
            self._guard.abort(PathError(f"no data has moved for {self._deadlines.stall_s:g} s"))
        received, since_us = self._received
        arrived = sum(track.meter.moved for track in self.tracks if not track.stream.sends)
        if arrived != received or not self._receives() or self.peer_finished:
            self._received = (arrived, now)
        elif now - since_us > self._deadlines.receive_s * 1e6:
            self._guard.abort(LateError(f"no data has come for {self._deadlines.receive_s:g} s"))

    def _nothing_expected(self) -> bool:
        """Everything there was to send has been sent; `all_sent` has its own patience."""
        return bool(self._wanted_bytes) and self.senders_finished and not self._receives()

    def _receives(self) -> bool:
        return any(not track.stream.sends for track in self.tracks)
