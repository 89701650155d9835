"""A KCP stream whose bytes are those of a smux stream, as kcptun's are (smux.py has the frames).

    load -> _FramedLoad -> LoadFeeder -> engine      engine -> SmuxStream.receive -> payload
    SmuxStream.pending -> engine                     frames without payload, between those of the load

An end that closes sends FIN, and waits a while until it is acknowledged: the program behind kcptun learns
from it that no more comes. For that, what was accepted is sent first, also if the test is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

import numpy as np

from iperfpy.protocols import clock
from iperfpy.protocols.contract import Channel, ClientPort, Load, Stream
from iperfpy.protocols.datagrams.peer_path import DatagramPath
from iperfpy.protocols.errors import StreamPeerError, TransportError
from iperfpy.protocols.kcp import channel
from iperfpy.protocols.kcp.channel import KcpChannel
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.envelope.bare_engine import BareEngine
from iperfpy.protocols.kcp.envelope.enveloped_engine import EnvelopedEngine
from iperfpy.protocols.kcp.smux import SmuxStream
from iperfpy.protocols.kcp.two_way_channel import EarlyPayload, TwoWayChannel
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.settings import Settings
from iperfpy.protocols.units import counted

KEEP_ALIVE_S = 10.0
"""Pause between NOPs, as smux's own; it takes a peer for dead that is silent for 30 s."""
LINGER_S = 2.0
"""Longest wait at the end for the acknowledgement of what was accepted, and of FIN."""
HEARD_S = 1.0
"""An end that has not heard its peer for this long does not wait for it at the end."""
ANSWER_S = 3.0
"""Time after the beginning by which a peer of version 2 has sent its first UPD."""
FINISHED_S = 0.5
"""Time between the peer's FIN and the error about it: the test may have come to its end by then."""
FULL_WAIT_US = 50_000
"""The load of a sender is asked again after this time, if no UPD comes before."""


async def connect(stream: Stream, settings: Settings, port: ClientPort) -> Channel:
    """The end that dials, with its smux stream open. Waits without limit: the caller sets the deadline."""
    opened = await channel.connect(stream, settings, port, maker(stream, dials=True))
    assert isinstance(opened, SmuxChannel)
    opened.open()
    return opened


def maker(stream: Stream, *, dials: bool) -> channel.MakeChannel:
    """Makes the channel of one end of `stream`."""
    make = _SmuxTwoWayChannel if stream.both_ways else SmuxChannel
    begins = stream.sends and not dials
    smux = SmuxStream(stream.smux, dials=dials, begins=begins, compressed=stream.compressed)
    return partial(make, session=SmuxSession(smux, sends=stream.sends))


class SmuxSession:
    """A smux stream with its times: keep-alives, and waits for the peer.

    Parameters
    ----------
    sends : True if this end counts what it sends, False if what it receives

    Attributes
    ----------
    stream : of an end that waits for a peer, it is opened by that
    begun : done once the stream is open, and payload has come, unless this end sends first
    finished_us : time of the peer's FIN, None before
    is_closing : True once this end closes its channel
    doubt : a question about the peer's settings, for errors
    early : payload of a stream that goes both ways, until the program takes it
    """

    def __init__(self, stream: SmuxStream, *, sends: bool) -> None:
        self.stream, self.sends = stream, sends
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.finished_us: int | None = None
        self.is_closing = False
        has = "compression (no --nocomp)" if stream.compression else "--nocomp (else give --compress)"
        self.doubt = f"does kcptun have {has}, and --smuxver {stream.version}?"
        self.early = EarlyPayload()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def stop(self) -> None:
        """Call nothing any more."""
        for timer in self._timers.values():
            timer.cancel()

    def keep_alive(self, pump: Callable[[], None]) -> None:
        """Queue a NOP from time to time, and call `pump()`, which sends it."""

        def again() -> None:
            self._call("keep alive", KEEP_ALIVE_S, again)
            self.stream.keep_alive()
            pump()

        self._call("keep alive", KEEP_ALIVE_S, again)

    def await_answer(self, fail: Callable[[Exception], None]) -> None:
        """Call `fail(error)` if a peer of version 2 takes nothing: an UPD answers the first payload."""

        def check() -> None:
            stream = self.stream
            if stream.sent_bytes and not (stream.is_told or self.is_closing):
                fail(StreamPeerError(f"the peer consumes nothing of the smux stream: {self.doubt}"))

        if self.stream.version > 1:
            self._call("answer", ANSWER_S, check)

    def take(self, data: memoryview, fail: Callable[[Exception], None]) -> None:
        """Take bytes of the KCP stream. `fail(error)` is called soon if the peer has closed its stream in
        mid-test. Raises `StreamPeerError` if they break the protocol."""
        stream = self.stream
        stream.receive(data)
        if not self.begun.done() and (stream.received_bytes or (self.sends and stream.number is not None)):
            self.begun.set_result(None)
        if stream.peer_finished and self.finished_us is None:
            self.finished_us = clock.now_us()
            # A peer that dials and sends knows the end of the test.
            if stream.dials or self.sends:
                self._call("finished", FINISHED_S, lambda: self._check_end(fail))

    def _check_end(self, fail: Callable[[Exception], None]) -> None:
        if not (self.is_closing or self.stream.finished):
            fail(
                StreamPeerError(
                    "the peer closed its smux stream before the end of the test: does a program listen at"
                    " kcptun's --target, and does it go on?"
                )
            )

    def _call(self, name: str, after_s: float, then: Callable[[], None]) -> None:
        self._timers[name] = asyncio.get_running_loop().call_later(after_s, then)


class SmuxChannel(KcpChannel):
    """One smux stream at one end.

    Parameters
    ----------
    session : the stream
    """

    def __init__(
        self,
        engine: Engine,
        path: DatagramPath,
        settings: Settings,
        *,
        sends: bool,
        wrapped: EnvelopedEngine | None = None,
        session: SmuxSession,
    ) -> None:
        super().__init__(engine, path, settings, sends=sends, wrapped=wrapped)
        self.session = session
        engine.receiving.deliver_to(self._take)
        if isinstance(wrapped, BareEngine):
            wrapped.doubt = session.doubt

    # -- set-up and end

    def start(self) -> None:
        super().start()
        self.session.keep_alive(self._pump)

    def open(self) -> None:
        """Open the smux stream, at the end that dials."""
        self.session.stream.open()
        self._pump()

    def write_opening(self) -> None:
        """Write a frame that says nothing, so that the peer has a segment to acknowledge."""
        self.session.stream.keep_alive()
        self._pump()

    async def begun(self) -> None:
        """Wait until the peer has opened a smux stream, and payload has come on it, unless this end sends
        first. Raises the error that ends the KCP stream."""
        await asyncio.wait((self.session.begun, self._over), return_when=asyncio.FIRST_COMPLETED)
        if self._over.done():
            self._over.result()

    def withdraw(self) -> None:
        """Close the smux stream. Unlike data of other streams, what was accepted still leaves: FIN arrives
        behind it only."""
        if self._closed or self.session.stream.finished:
            return
        self.session.stream.finish(self._feeder.drop())
        self._size.waiting = None
        self._finish(self._sent)
        self._pump()

    async def close(self) -> None:
        if self.session.is_closing:
            return
        self.session.is_closing = True
        try:
            self.withdraw()
            # A peer that has closed its stream itself waits for nothing.
            if self._is_heard and not self.session.stream.peer_finished:
                with contextlib.suppress(TimeoutError, TransportError):
                    async with asyncio.timeout(LINGER_S):
                        await self.drain()
        finally:
            await super().close()

    @property
    def _is_heard(self) -> bool:
        heard_us = self._arrivals.heard_us
        return heard_us is not None and clock.now_us() - heard_us < HEARD_S * 1e6

    def _release(self) -> None:
        self.session.stop()
        super()._release()

    # -- the two directions

    async def send(self, load: Load) -> None:
        self.session.await_answer(self._fail)
        await super().send(_FramedLoad(load, self.session.stream, self.engine))

    def _is_drained(self) -> bool:
        return not self.session.stream.pending and super()._is_drained()

    def _pump(self) -> None:
        if not self._closed:
            try:
                self._write_pending()
            except Exception as error:  # as in the method of the base
                self._fail(error)
        super()._pump()

    def _write_pending(self) -> None:
        """Write the frames without payload, unless a frame of the load is not whole yet."""
        pending = self.session.stream.pending
        if pending and not self._feeder.has_rest:
            room_bytes = self.engine.writable()
            taken = self.engine.write(memoryview(bytes(pending[:room_bytes])), clock.now_us())
            del pending[:taken]
            # They do not wait for a load that may have nothing to add.
            self.engine.uncork()

    def _take(self, payload: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
        self.session.take(np.ascontiguousarray(payload).reshape(-1).data, self._fail)

    # -- figures

    @property
    def _has_payload(self) -> bool:
        return self.received_bytes > 0

    @property
    def heard_us(self) -> int | None:
        """As of any channel; a peer that has closed its stream is not heard again, though its NOPs come."""
        finished_us = self.session.finished_us
        return self._arrivals.heard_us if finished_us is None else finished_us

    @property
    def received_bytes(self) -> int:
        """Payload that has arrived, before compression."""
        return self.session.stream.received_bytes

    def counters(self) -> dict[str, Value]:
        acked_bytes = self.session.stream.payload_acked(self.engine.sending.bytes_acked)
        return super().counters() | {"bytes": acked_bytes if self.session.sends else self.received_bytes}

    def warnings(self) -> tuple[str, ...]:
        stream, said = self.session.stream, list(super().warnings())
        if stream.refused:
            said.append(
                f"refused {counted(stream.refused, 'further smux stream')} of the peer: one is measured"
            )
        if not (self.session.sends or stream.received_bytes):
            said.append(f"nothing came: does the program behind kcptun send, and {self.session.doubt}")
        compression = stream.compression
        if compression is not None and stream.received_bytes > compression.arrived_bytes:
            said.append(
                f"the figures are payload before compression: {stream.received_bytes:,} bytes"
                f" arrived as {compression.arrived_bytes:,}"
            )
        return tuple(said)


class _SmuxTwoWayChannel(SmuxChannel, TwoWayChannel):
    """One smux stream that sends and receives. Payload that arrives before the program takes it is kept."""

    def start(self) -> None:
        self.session.stream.deliver = self.session.early.hold
        super().start()

    def keep(self, write: Callable[[memoryview], None]) -> None:
        self.session.stream.deliver = write
        self.session.early.hand_to(write)


class _FramedLoad:
    """The blocks of a load, in frames."""

    __slots__ = ("_block", "_engine", "_load", "_smux")

    def __init__(self, load: Load, smux: SmuxStream, engine: Engine) -> None:
        self._load, self._smux, self._engine = load, smux, engine
        self._block: memoryview | None = None  # the rest of one, which may be longer than a frame

    @property
    def may_block(self) -> bool:
        return self._load.may_block

    def wait_us(self, now_us: int) -> int:
        if self._block is None:
            wait_us = self._load.wait_us(now_us)
            if wait_us:
                return wait_us
            self._block = self._load.take()
        if self._smux.room_bytes:
            return 0
        # The peer's window may open only once the last segment, which is not full, has arrived.
        self._engine.uncork()
        return FULL_WAIT_US

    def take(self) -> memoryview:
        assert self._block is not None
        part, rest = self._block[: self._smux.room_bytes], self._block[self._smux.room_bytes :]
        self._block = rest if len(rest) else None
        return memoryview(self._smux.wrap(part))
