"""KCP on a socket: the engine, a datagram path, and the rounds of the event loop.

    load -> LoadFeeder -> engine.write        _pump: fill, transmit, hand to the socket, ask for a visit
    engine.transmit -> _Outlet -> path.send
    path -> _on_batch -> engine.receive       path -> _on_drained -> _pump: the socket is empty, answer
                                              with an envelope, its layers stand between engine and path
    rounds -> visit -> _pump                  in the next round, or at the deadline

A stream is associated by a window probe (WASK) that carries its conv, repeated until it is answered (WINS).
That is stock KCP on the wire, and the answer is no larger than the question. The control connection says when
a stream ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from iperfpy.protocols import clock
from iperfpy.protocols.addresses import plain
from iperfpy.protocols.contract import Channel, ClientPort, Load, ServerPort, SocketAddress, Stream
from iperfpy.protocols.datagrams.arrival_time import ArrivalClock
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.path_mtu import headers_to
from iperfpy.protocols.datagrams.peer_path import DatagramPath, open_path
from iperfpy.protocols.datagrams.server_port import accept_path
from iperfpy.protocols.datagrams.stream_rounds import BYTES_PER_VISIT, StreamRounds
from iperfpy.protocols.errors import StreamPathError
from iperfpy.protocols.kcp import engine_factory, kcp_metrics
from iperfpy.protocols.kcp.buffer_sizes import BufferSizes
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_options import ACK_RANGES
from iperfpy.protocols.kcp.envelope.bare_engine import BareEngine
from iperfpy.protocols.kcp.envelope.enveloped_engine import EnvelopedEngine
from iperfpy.protocols.kcp.envelope.layer import Layer
from iperfpy.protocols.kcp.envelope.layer_factory import layers_of
from iperfpy.protocols.kcp.kcp_evidence import path_evidence
from iperfpy.protocols.kcp.load_feeder import LoadFeeder
from iperfpy.protocols.kcp.path_size import PathSize, size_range
from iperfpy.protocols.kcp.settings import FEC, KcpBbrSettings, KcpSettings, SharedSettings
from iperfpy.protocols.kcp.stream_warnings import memory_warning, window_warning
from iperfpy.protocols.memory_budget import MemoryBudget, MemoryBudgets
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.protocols.settings import Settings

ASSOCIATE_FIRST_S, ASSOCIATE_LONGEST_S = 0.1, 1.0
LONGEST_BATCH = 1 << 16
"""Datagrams: all in a block that leaves at once is one batch; the socket cuts it."""


MakeChannel = Callable[..., "KcpChannel"]
"""`KcpChannel`, or the class of streams that go both ways."""
Wrap = Callable[[Engine, list[Layer]], EnvelopedEngine | None]
"""Puts the layers of an envelope around an engine; None: there is nothing around it."""


async def connect(stream: Stream, settings: Settings, port: ClientPort, make: MakeChannel) -> Channel:
    """The client's end, associated. Waits without limit: the caller sets the deadline."""
    path = await open_path(stream, port)

    def bare(engine: Engine, layers: list[Layer]) -> EnvelopedEngine:
        return BareEngine(engine, layers)

    try:
        channel = make_channel(stream, settings, path, port, make, bare if stream.bare else enveloped)
    except BaseException:
        path.close()
        raise
    try:
        channel.start()
        channel.opening_us = await channel.associate()
        channel.follow_size_soon()
    except BaseException:
        await channel.close()
        raise
    return channel


async def accept(stream: Stream, settings: Settings, port: ServerPort, make: MakeChannel) -> Channel:
    """The server's end, once the client's first datagram has come."""
    assert isinstance(settings, SharedSettings)
    path = await accept_path(stream, port, opaque=settings.is_enveloped)
    # Of what a client asks of a server, this much memory is one test's.
    memory = port.shared(MemoryBudgets.open).of(port.client)
    try:
        channel = make_channel(stream, settings, path, port, make, enveloped, memory)
    except BaseException:
        path.close()
        raise
    try:
        channel.start()
        if settings.crypt is not None:
            await channel.hear()
        channel.follow_size_soon()
    except BaseException:
        await channel.close()
        raise
    return channel


def enveloped(engine: Engine, layers: list[Layer]) -> EnvelopedEngine | None:
    """The engine in its envelope, between two iperfpy."""
    return EnvelopedEngine(engine, layers) if layers else None


def make_channel(
    stream: Stream,
    settings: Settings,
    path: DatagramPath,
    port: ClientPort | ServerPort,
    make: MakeChannel,
    wrap: Wrap,
    memory: MemoryBudget | None = None,
) -> KcpChannel:
    """The channel of one end, over an engine of its own. Raises `SettingsError`."""
    assert isinstance(settings, SharedSettings)
    path.sizes.probe()
    sizes, longest = size_range(path, settings, port.packet_bytes), LONGEST_BATCH
    layers = layers_of(settings, port.secret, os.urandom, agreed=FEC in stream.features)
    if isinstance(settings, KcpBbrSettings):
        engine = engine_factory.with_bbr(
            stream.conv,
            settings,
            longest_batch=longest,
            memory=memory,
            sizes=sizes,
            ack_ranges=ACK_RANGES in stream.features,
            boundaries=stream.both_ways,
            message_bytes=stream.block_bytes,
        )
    else:
        assert isinstance(settings, KcpSettings)
        engine = engine_factory.stock(
            stream.conv,
            settings,
            longest_batch=longest,
            memory=memory,
            sizes=sizes,
            boundaries=stream.both_ways,
        )
    return make(engine, path, settings, sends=stream.sends, wrapped=wrap(engine, layers))


class KcpChannel(Channel):
    """One KCP stream at one end. Everything runs on the event loop's thread.

    Parameters
    ----------
    sends : True if this end sends payload
    wrapped : the engine in its envelope; None: its datagrams leave as they are

    Attributes
    ----------
    engine, wrapped : the engine, and the one that faces the socket
    """

    def __init__(
        self,
        engine: Engine,
        path: DatagramPath,
        settings: Settings,
        *,
        sends: bool,
        wrapped: EnvelopedEngine | None = None,
    ) -> None:
        assert isinstance(settings, SharedSettings)
        self.engine = engine
        self.wrapped = engine if wrapped is None else wrapped
        self._path, self._sends = path, sends
        loop = asyncio.get_running_loop()
        self._feeder = LoadFeeder(engine)
        self._size = PathSize(engine, path)
        self._rounds = StreamRounds.of(loop)
        self._arrivals = _Arrivals(engine, path)
        self._buffers = BufferSizes(engine, settings.socket_buffer, sends=sends)
        self._outlet = _Outlet(path, self._pump)
        self._is_visited = False
        self._sent: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._answered: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()
        self._closed = False

    # -- set-up and end

    def start(self) -> None:
        """Prepare the socket, and read it from now on."""
        self._buffers.granted = self._path.size_buffers(self._buffers.asked)[0 if self._sends else 1]
        if self._sends:
            self._path.stamp_arrivals()
        self._path.set_receiver(self._on_batch, self._on_drained)

    def follow_size_soon(self) -> None:
        """Search for the size of datagrams if this end sends; the peer must be there.

        Probes leave in the next turn of the event loop: the program first marks the socket (-S, --dscp).
        """
        if self._sends:
            self._size.to_search = True
            self._rounds.soon(self)

    async def associate(self) -> int | None:
        """Probe until the server answers. Returns the time from the first probe until then, microseconds."""
        wait_s, begun_us = ASSOCIATE_FIRST_S, clock.now_us()
        while not self._answered.done():
            self.engine.probe()
            self._pump()
            events = [self._over, self._answered]
            await asyncio.wait(events, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if self._over.done():
                self._over.result()  # raises the error that ended the stream, if one did
                raise StreamPathError("the stream was closed before the server answered")
            # Only here: once the server has answered, an error about a datagram is an event of the path.
            if not self._answered.done():
                self._path.check()
            wait_s = min(wait_s * 1.5, ASSOCIATE_LONGEST_S)
        return None if self.heard_us is None else self.heard_us - begun_us

    async def hear(self) -> None:
        """Wait for the first datagram of the client that decrypts. Raises `StreamPeerError` if none does."""
        await asyncio.wait([self._over, self._answered], return_when=asyncio.FIRST_COMPLETED)
        if self._over.done():
            self._over.result()  # raises the error that ended the stream, if one did
            raise StreamPathError("the stream was closed before the client was heard")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._release()
        self._finish(self._sent)
        self._finish(self._drained)
        self._finish(self._over)

    def fileno(self) -> int:
        return self._path.fileno()

    @property
    def local_address(self) -> SocketAddress:
        return self._path.local_address

    @property
    def remote_address(self) -> SocketAddress:
        return self._path.remote_address

    # -- the two directions

    async def send(self, load: Load) -> None:
        if self._closed:
            return self._over.result()  # raises the error that ended the stream, if one did
        if self.engine.withdrawn:
            return None
        self._size.waiting = load
        self._sent = asyncio.get_running_loop().create_future()
        self._rounds.soon(self)
        return await self._sent

    async def receive(self) -> None:
        await asyncio.shield(self._over)

    def withdraw(self) -> None:
        if self._closed:
            return
        self.engine.withdraw()
        self._feeder.drop()
        self._size.waiting = None
        # The socket has no room for these: they will never leave, and so they were not sent.
        self.engine.counts.never_left(self._outlet.unsent)
        self._outlet.unsent.clear()
        self._finish(self._sent)

    async def drain(self) -> None:
        if self._is_drained() or self._closed:
            return
        self._drained = asyncio.get_running_loop().create_future()
        self._pump()
        await self._drained

    @property
    def _has_payload(self) -> bool:
        """True once payload has arrived."""
        return self.engine.receiving.has_data

    def _is_drained(self) -> bool:
        return (
            self._size.waiting is None
            and not self._feeder.has_rest
            and self.engine.sending.una == self.engine.sending.end
        )

    @staticmethod
    def _finish(future: asyncio.Future[None] | None, error: Exception | None = None) -> None:
        if future is not None and not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # retrieved: asyncio must not log one that is not awaited

    # -- the event loop

    def _on_batch(self, batch: DatagramBatch) -> None:
        try:
            now_us = self._arrivals.time_us(clock.now_us())
            before = self.engine.counts.work
            self.wrapped.receive(batch, now_us)
            self._path.charge(self.engine.counts.work - before)
            if isinstance(self.wrapped, EnvelopedEngine) and not self.wrapped.understands:
                return
            self._arrivals.heard_us = now_us
            if self.first_data_us is None and self._has_payload:
                self.first_data_us = now_us
            self._finish(self._answered)
        except Exception as error:  # a fault of ours: it ends this stream, and must not spin the loop
            self._fail(error)

    def _on_drained(self) -> None:
        # If a visit is to come, it sends, once for all batches that have arrived.
        if not self._is_visited and not self._rounds.awaits(self):
            self._pump()

    def _pump(self) -> None:
        """Fill the engine from the load and send the datagrams that it lets go, then let others have the
        loop, or wait."""
        if self._closed:
            return
        try:
            if self._outlet.unsent and not self._outlet.emit():
                return
            now_us = clock.now_us()
            if (load := self._size.released()) is not None:
                self.engine.limits.load_begins(now_us)
                self._feeder.begin(load)
            more = self._feeder.feed(now_us, BYTES_PER_VISIT)
            if self._feeder.ended and self._size.waiting is None:
                self._finish(self._sent)
            now_us = clock.now_us()  # filling takes a while, which a round trip does not include
            batches = self._outlet.unsent = self.wrapped.transmit(now_us, writer_waits=more)
            begins = self._size.waiting is not None and self._size.is_known
            left = bool(batches) and self._outlet.emit()
            if left:
                self.engine.settle()
            if begins or (left and self._feeder.has_block):
                # The engine may take more, now that this has left.
                self._rounds.soon(self)
                return
            if self._drained is not None and self._is_drained():
                self._finish(self._drained)
            deadline_us, due_us = self.engine.deadline_us(), self._feeder.due_us
            if deadline_us is not None:
                self._rounds.at(self, deadline_us if due_us is None else min(deadline_us, due_us))
            elif due_us is not None:
                self._rounds.at(self, due_us)
        except Exception as error:
            self._fail(error)

    def visit(self) -> None:
        """Send what is due. Acknowledgements in the socket come before a timer of loss recovery, which
        would take their segments for lost. Without one they are left to the event loop, which reads more of
        them at once."""
        try:
            deadline_us = self.engine.recovery.deadline_us()
            if deadline_us is not None and deadline_us <= clock.now_us():
                self._is_visited = True
                self._path.read_now()
                self._is_visited = False
                if self._closed:  # by what was read
                    return
            self._size.check(clock.now_us())
        except Exception as error:  # also a fault of ours: it ends this stream
            self._fail(error)
            return
        self._pump()

    def _fail(self, error: Exception) -> None:
        """End the stream; every call in progress raises `error`."""
        self._closed = True
        self._release()
        for future in (self._sent, self._drained, self._over):
            self._finish(future, error)

    def _release(self) -> None:
        """Close the path and free the windows now: the channel itself may wait for the garbage collector."""
        self._rounds.forget(self)
        self._path.close()
        self._outlet.unsent.clear()
        self.engine.release()

    # -- figures

    def held_bytes(self) -> int:
        return self.engine.receiving.stored_bytes

    def warnings(self) -> tuple[str, ...]:
        """A socket buffer smaller than the window needs, KCP's widest window if it limited the sender, and
        errors about datagrams."""
        buffer = self._buffers.warning()
        events = self._path.events.warnings(str(plain(self.remote_address)[0]), self.heard_us)
        windows = (*window_warning(self.engine, clock.now_us()), *memory_warning(self.engine))
        dropped = self.wrapped.warnings() if isinstance(self.wrapped, EnvelopedEngine) else ()
        return (*buffer, *windows, *events, *dropped)

    @property
    def heard_us(self) -> int | None:
        return self._arrivals.heard_us

    def signs(self, since_us: int) -> tuple[str, ...]:
        return tuple(sign.value for sign in self._path.events.since(since_us))

    def evidence(self) -> PathEvidence | None:
        headers_bytes = headers_to(self.remote_address) + self.engine.options.envelope_bytes
        return path_evidence(self.engine, clock.now_us(), headers_bytes)

    def wire_bytes(self) -> tuple[int, int] | None:
        counts, headers = self.engine.counts, headers_to(self.remote_address)
        sent = counts.wire_bytes_sent + counts.datagrams_sent * headers
        return sent, counts.wire_bytes_received + counts.datagrams_received * headers

    def counters(self) -> dict[str, Value]:
        figures = kcp_metrics.record(self.engine, clock.now_us(), self._outlet.unsent, sends=self._sends)
        return figures | self.wrapped.figures() if isinstance(self.wrapped, EnvelopedEngine) else figures


class _Outlet:
    """Hands datagrams to the socket, as far as it has room.

    Parameters
    ----------
    go_on : called when a socket that was full has room again

    Attributes
    ----------
    unsent : batches that have not left yet
    """

    __slots__ = ("_go_on", "_path", "_waits", "unsent")

    def __init__(self, path: DatagramPath, go_on: Callable[[], None]) -> None:
        self.unsent: list[DatagramBatch] = []
        self._path, self._go_on = path, go_on
        self._waits = False

    def emit(self) -> bool:
        """Hand all to the socket. Returns False if it is full: `go_on` is called when it has room."""
        batches, self.unsent = self.unsent, []
        for at, batch in enumerate(batches):
            taken = self._path.send(batch)
            if taken < batch.count:
                self.unsent = [batch.rest(taken), *batches[at + 1 :]]
                if not self._waits:
                    self._waits = True
                    self._path.wait_writable(self._has_room)
                return False
        return True

    def _has_room(self) -> None:
        self._waits = False
        self._go_on()


class _Arrivals:
    """Arrival times of batches, by the kernel's stamps if there are any: the time until this program reads
    the socket does not count in a round trip.

    Attributes
    ----------
    heard_us : arrival of the latest batch of the peer; None before
    """

    __slots__ = ("_clock", "_engine", "_last_us", "_path", "heard_us")

    def __init__(self, engine: Engine, path: DatagramPath) -> None:
        self._engine, self._path = engine, path
        self.heard_us: int | None = None
        self._clock = ArrivalClock()
        self._last_us = 0

    def time_us(self, now_us: int) -> int:
        """The arrival time of the batch just read. It never goes back before a time the engine knows."""
        stamp = self._path.stamp
        if stamp:
            arrived_us = self._clock.arrived_us(stamp, now_us)
            now_us = max(arrived_us, self._last_us, self._engine.delivery.stamp_us)
        self._last_us = now_us
        return now_us
