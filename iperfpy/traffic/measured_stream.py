"""One stream while it is measured: its payload is carried by a task, its counters become samples."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from iperfpy.errors import IperfpyError, PathError, PeerError, from_transport
from iperfpy.protocols.contract import Channel, Stream
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.metrics import Metric
from iperfpy.sampling.sampler import Sampler
from iperfpy.traffic.open_stream import OpenStream
from iperfpy.traffic.payload import Payload

OnFailure = Callable[[IperfpyError], None]


class MeasuredStream:
    """Sends or receives on one channel from `start` on.

    Parameters
    ----------
    payload : the sender's payload; None: this end receives
    """

    def __init__(
        self, opened: OpenStream, metrics: Sequence[Metric], started_us: int, payload: Payload | None
    ) -> None:
        self.stream: Stream = opened.stream
        self.channel: Channel = opened.channel
        self.snapshots = opened.snapshots
        self.sampler = Sampler(
            opened.stream.id, opened.side, opened.snapshots, metrics, started_us, opened.snapshots.opening
        )
        self._payload = payload
        self._omitted_bytes = 0
        self._carrying: asyncio.Task[None] | None = None

    def start(self, on_failure: OnFailure) -> None:
        """Begin to carry payload. `on_failure` is called if the stream fails or ends early."""
        self._carrying = asyncio.create_task(self._carry(on_failure))

    @property
    def measured_bytes(self) -> int:
        """Payload since the measured period began."""
        return max(0, self.snapshots.payload_bytes - self._omitted_bytes)

    @property
    def is_done(self) -> bool:
        """True if this end will send or receive no more."""
        return self._carrying is not None and self._carrying.done()

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

    async def sent(self) -> None:
        """Wait until the channel has accepted all payload."""
        if self._carrying is not None:
            await asyncio.shield(self._carrying)

    async def acknowledged(self, limit_s: float) -> None:
        """Wait until all that was accepted is acknowledged, or nothing more is within `limit_s`."""
        draining = asyncio.ensure_future(self.channel.drain())
        try:
            seen = -1
            # Progress extends the wait: a slow path may take many times `limit_s` to empty its queue.
            while not draining.done() and self.snapshots.payload_bytes != seen:
                seen = self.snapshots.payload_bytes
                await asyncio.wait([draining], timeout=limit_s)
            if draining.done():
                draining.result()
        except TransportError as failure:
            raise from_transport(failure, self._where) from failure
        finally:
            draining.cancel()

    async def end(self) -> None:
        """Cancel the task and wait for its end."""
        if self._carrying is not None:
            self._carrying.cancel()
            await asyncio.gather(self._carrying, return_exceptions=True)

    @property
    def _where(self) -> str:
        return f"stream {self.stream.id}"

    async def _carry(self, on_failure: OnFailure) -> None:
        try:
            if self._payload is not None:
                await self.channel.send(self._payload)
                return
            await self.channel.receive()
            on_failure(PeerError(f"{self._where}: the other end closed it before the test was over"))
        except TransportError as failure:
            on_failure(from_transport(failure, self._where))
        except OSError as failure:
            on_failure(PathError(f"{self._where}: {failure.strerror or failure}"))
