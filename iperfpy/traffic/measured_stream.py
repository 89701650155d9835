"""One stream while it is measured: its payload is carried by a task, its counters become samples."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from iperfpy.errors import IperfpyError, PeerError, fault_of
from iperfpy.protocols.contract import Stream
from iperfpy.protocols.metrics import Metric, number
from iperfpy.records import RTT_KEY
from iperfpy.sampling.sampler import Sampler
from iperfpy.traffic.messages import MessageEcho, MessageSource
from iperfpy.traffic.open_stream import OpenStream, where
from iperfpy.traffic.payload import Payload
from iperfpy.traffic.stream_echo import StreamEcho

OnFailure = Callable[[IperfpyError], None]


class MeasuredStream:
    """Sends or receives on one channel from `start` on.

    Parameters
    ----------
    payload : the sender's payload; None: this end receives. An end of a message test, and one that returns
        what it receives, sends and receives

    Attributes
    ----------
    round_trip_us : the sender's round-trip time when `look` last read the counters, None if it has none
    """

    def __init__(
        self,
        opened: OpenStream,
        metrics: Sequence[Metric],
        started_us: int,
        payload: Payload | MessageSource | MessageEcho | StreamEcho | None,
    ) -> None:
        self.stream: Stream = opened.stream
        self.channel = opened.channel
        self.snapshots = opened.snapshots
        self.sampler = Sampler(
            opened.stream.id, opened.side, opened.snapshots, metrics, started_us, opened.snapshots.opening
        )
        self._payload = payload
        # An end that answers is a payload as well, because it is a load that can be stopped.
        self.messages = payload if isinstance(payload, MessageSource | MessageEcho | StreamEcho) else None
        self.round_trip_us: float | None = None
        self._empty_until_us: int | None = None
        self._omitted_bytes = 0
        self._carrying: asyncio.Task[None] | None = None
        self._is_ending = self._is_acknowledged = False

    def start(self, on_failure: OnFailure) -> None:
        """Begin to carry payload. `on_failure` is called if the stream fails or ends early."""
        if self.messages is not None:
            # Not in the task: the first message may arrive before the event loop starts it.
            self.channel.keep(self.messages.arrived)
        self._carrying = asyncio.create_task(self._carry(on_failure))

    def look(self, now_us: int) -> None:
        """Read the counters once between two ticks."""
        record = self.snapshots.look()
        self.round_trip_us = number(record.get(RTT_KEY))
        self.sampler.poll(now_us, record)
        if not self.snapshots.seen_bytes:
            self._empty_until_us = now_us

    @property
    def first_data_us(self) -> int | None:
        """Time of the first payload; of the last look that found none, if the channel does not note it."""
        noted = self.channel.first_data_us
        return self._empty_until_us if noted is None else noted

    @property
    def measured_bytes(self) -> int:
        """Payload since the measured period began."""
        return max(0, self.snapshots.payload_bytes - self._omitted_bytes)

    @property
    def has_sent(self) -> bool:
        """True if the channel has accepted everything that this end sends."""
        return self._carrying is not None and self._carrying.done()

    @property
    def is_done(self) -> bool:
        """True if this end has sent everything, and all of it was acknowledged."""
        return self._is_acknowledged

    def begin_measured_period(self, now_us: int) -> None:
        """The omitted period is over: times and counts begin again. Payload that has arrived by now is part
        of that period, also if it waits behind a hole and is delivered later."""
        held_bytes = self.snapshots.held_bytes
        self._omitted_bytes = self.snapshots.payload_bytes + held_bytes
        self.sampler.restart(now_us, held_bytes)

    def stop_sending(self) -> None:
        """Offer the channel no more payload."""
        if self._payload is not None:
            self._payload.stop()

    def withdraw(self) -> None:
        """The test is over: let the channel send no payload, not even again."""
        if self._payload is not None:
            self.channel.withdraw()

    async def sent(self) -> None:
        """Wait until the channel has accepted all payload."""
        if self._carrying is not None:
            await asyncio.shield(self._carrying)

    async def acknowledged(self) -> None:
        """Wait until all that was accepted is acknowledged; `ProgressWatch` has the limit."""
        await self.channel.drain()
        self._is_acknowledged = True

    async def end(self, limit_s: float) -> None:
        """Cancel the task and wait for its end, at most `limit_s`: a transport may not let itself be
        cancelled."""
        self._is_ending = True
        if self._carrying is not None:
            self._carrying.cancel()
            await asyncio.wait([self._carrying], timeout=limit_s)

    async def _converse(self, messages: MessageSource | MessageEcho | StreamEcho) -> None:
        """Send and receive at once, until the other end closes the stream or one of the two fails."""
        receiving = asyncio.create_task(self.channel.receive())
        both = {asyncio.create_task(self.channel.send(messages)), receiving}
        running = both
        try:
            while not receiving.done():
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in both:
                task.cancel()
            # Both may have failed at once: an error that nobody takes would be reported as a fault.
            await asyncio.gather(*both, return_exceptions=True)

    async def _carry(self, on_failure: OnFailure) -> None:
        try:
            if self.messages is not None:
                await self._converse(self.messages)
            elif self._payload is not None:
                await self.channel.send(self._payload)
                return
            await self.channel.receive()
            text = f"{where(self.stream)}: the other end closed it before the test was over"
            on_failure(PeerError(text))
        except IperfpyError as failure:
            on_failure(failure)
        except BaseException as error:  # what the guard lets pass: a cancellation, Ctrl-C
            if not self._is_ending:
                on_failure(fault_of(error, where=where(self.stream)))
            raise
