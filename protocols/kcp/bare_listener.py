"""The end of a KCP stream that a program of another author dials: there is no control connection.

    port -> first datagram -> Opening.opens: is it KCP, under these settings? which conv?
         -> a session of that sender -> channel over an `UnprovenEngine`

The first datagram of any address opens the stream; all others are dropped while it lasts. The program decides
how long a peer that does not go on may keep it. A peer may go on from another address if the cipher shows
that it is the peer (`Strangers`); otherwise datagrams of its conversation from elsewhere are a warning.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from iperfpy.protocols import clock
from iperfpy.protocols.addresses import plain_host
from iperfpy.protocols.contract import Channel, ServerPort, Stream
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.peer_path import DatagramPath
from iperfpy.protocols.datagrams.server_port import SharedPort, accept_path
from iperfpy.protocols.datagrams.server_session import ServerSession
from iperfpy.protocols.errors import StreamPathError, StreamPeerError
from iperfpy.protocols.kcp.channel import KcpChannel, MakeChannel, make_channel
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.envelope.bare_engine import UNASKED_FEC, UnprovenEngine, has_fec_type
from iperfpy.protocols.kcp.envelope.crypt_names import KINDS
from iperfpy.protocols.kcp.envelope.enveloped_engine import MOST_REJECTED, UNREADABLE, EnvelopedEngine
from iperfpy.protocols.kcp.envelope.layer import Layer
from iperfpy.protocols.kcp.envelope.layer_factory import layers_of
from iperfpy.protocols.kcp.settings import SharedSettings
from iperfpy.protocols.kcp.smux_channel import SmuxChannel, maker
from iperfpy.protocols.kcp.two_way_channel import EarlyPayload, TwoWayChannel
from iperfpy.protocols.kcp.wire import HEADER, HEADER_BYTES, PUSH, WASK
from iperfpy.protocols.memory_budget import MemoryBudgets
from iperfpy.protocols.path_events import Sign
from iperfpy.protocols.settings import Settings

PROOF_S = 5.0
"""Longest wait for the proof of an address."""
SMUX_BEGIN_S = 60.0
"""Longest wait for a smux stream in a session: kcptun's client opens it when a TCP client connects, and shows
before that, every 10 s, that it is there."""


async def accept_bare(stream: Stream, settings: Settings, port: ServerPort) -> Channel:
    """The end of `stream` once a peer has come; if this end sends on it, once the peer's address is proven.
    Waits without limit: the caller sets the deadline.

    Raises
    ------
    StreamPeerError
        When several datagrams show that the peer has another key, or forward error correction.
    """
    assert isinstance(settings, SharedSettings)
    # Layers of their own: a datagram that was opened twice would count as a copy.
    opening = Opening(layers_of(settings, port.secret, os.urandom), stream.conv, settings.rcvwnd)
    path = await opening.path(replace(stream, conv=0), port)
    memory = port.shared(MemoryBudgets.open).of(port.client)
    known = replace(stream, conv=opening.conv)

    follows = settings.crypt is not None and KINDS[settings.crypt].resists_change
    strangers = Strangers(layers_of(settings, port.secret, os.urandom), opening.conv, follows=follows)
    # smux has frames of either end on every stream.
    sends = stream.sends or stream.both_ways or stream.smux > 0

    def wrap(engine: Engine, layers: list[Layer]) -> EnvelopedEngine:
        strangers.engine = UnprovenEngine(engine, layers, os.urandom, sends=sends, follows=follows)
        return strangers.engine

    try:
        make: MakeChannel = _EchoEnd if stream.both_ways else KcpChannel
        if stream.smux:
            make = maker(stream, dials=False)
        channel = make_channel(known, settings, path, port, make, wrap, memory)
    except BaseException:
        path.close()
        raise
    try:
        channel.start()
        port.shared(SharedPort.open).watch(path, strangers.judge, strangers.moved)
        if stream.sends or stream.smux:
            await _proven_in_time(channel)
        if isinstance(channel, SmuxChannel):
            await _begun_in_time(channel)
        channel.follow_size_soon()
    except BaseException:
        await channel.close()
        raise
    return channel


async def _proven_in_time(channel: KcpChannel) -> None:
    """Wait for the proof of the peer's address. Raises `StreamPeerError` if it does not come."""
    try:
        async with asyncio.timeout(PROOF_S):
            await _prove(channel)
    except TimeoutError:
        host = plain_host(channel.remote_address[0])
        raise StreamPeerError(f"{host} opened a stream, and did not acknowledge its first byte") from None


async def _begun_in_time(channel: SmuxChannel) -> None:
    """Wait for the peer's smux stream, or its payload. Raises `StreamPeerError` if it does not come."""
    try:
        async with asyncio.timeout(SMUX_BEGIN_S):
            await channel.begun()
    except TimeoutError:
        host = plain_host(channel.remote_address[0])
        raise StreamPeerError(f"{host} opened a smux session, and did not use it") from None


async def _prove(channel: KcpChannel) -> None:
    """Wait until the peer has echoed a stamp. If the echo was lost, and a later segment acknowledged the data
    all the same, there has to be more data."""
    wrapped = channel.wrapped
    assert isinstance(wrapped, UnprovenEngine)
    over = drained = asyncio.ensure_future(channel.receive())
    try:
        while not wrapped.proven:
            if isinstance(channel, SmuxChannel):
                channel.write_opening()
            else:
                wrapped.write_opening(clock.now_us())
            drained = asyncio.ensure_future(channel.drain())
            await asyncio.wait((drained, over), return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                over.result()  # raises the error that ended the stream
                raise StreamPathError("the stream was closed before the peer answered")
    finally:
        over.cancel()
        drained.cancel()
        # Both may have the error that ended the stream.
        await asyncio.gather(over, drained, return_exceptions=True)


class Opening:
    """Looks at first datagrams.

    Parameters
    ----------
    layers : of an envelope with the stream's settings
    conv : the conversation that is awaited; 0: any
    window : segments that this end receives

    Attributes
    ----------
    conv : of the datagram that opened the stream
    """

    def __init__(self, layers: list[Layer], conv: int, window: int) -> None:
        self.conv = conv
        self._layers, self._awaited, self._window = layers, conv, window
        self._unread = self._unasked_fec = 0
        self._read = False
        self._refuse: Callable[[str], None] = lambda sentence: None

    async def path(self, stream: Stream, port: ServerPort) -> ServerSession:
        """The datagrams of the peer that opens the stream. Raises `StreamPeerError`."""
        refused: asyncio.Future[ServerSession] = asyncio.get_running_loop().create_future()

        def refuse(sentence: str) -> None:
            if not refused.done():
                refused.set_exception(StreamPeerError(sentence))

        self._refuse = refuse
        accepting = asyncio.ensure_future(self._accepted(stream, port))
        try:
            await asyncio.wait((accepting, refused), return_when=asyncio.FIRST_COMPLETED)
            return accepting.result() if accepting.done() else refused.result()
        except asyncio.CancelledError:
            # A session that came in the same turn of the event loop has no other owner.
            if accepting.done() and not accepting.cancelled() and accepting.exception() is None:
                accepting.result().close()
            raise
        finally:
            refused.cancel()
            if not accepting.done():
                accepting.cancel()
                await asyncio.wait((accepting,))

    async def _accepted(self, stream: Stream, port: ServerPort) -> ServerSession:
        return await accept_path(stream, port, self.opens)

    def opens(self, datagram: bytes) -> bool:
        """True if a datagram begins a stream: KCP under these settings, with data or a window probe."""
        plain = self._opened(datagram)
        if plain is None:
            self._unread += not self._read
            if self._unread >= MOST_REJECTED:
                self._refuse(UNREADABLE)
            return False
        self._read = True
        if len(plain) < HEADER_BYTES:
            return False
        conv, cmd, _, _, _, sn, _, length = HEADER.unpack_from(plain)
        whole = cmd in (PUSH, WASK) and HEADER_BYTES + length <= len(plain)
        if not whole or sn >= self._window or self._awaited not in (0, conv):
            self._unasked_fec += has_fec_type(plain)
            if self._unasked_fec >= MOST_REJECTED:
                self._refuse(UNASKED_FEC)
            return False
        self.conv = conv
        return True

    def _opened(self, datagram: bytes) -> bytes | None:
        """The KCP datagram inside; empty if it carries none, None if it does not decrypt."""
        return _opened(self._layers, datagram)


def _opened(layers: list[Layer], datagram: bytes) -> bytes | None:
    """As `Opening._opened`."""
    array = np.frombuffer(datagram, np.uint8)
    batch = DatagramBatch(array, len(array), 1, len(array))
    for layer in reversed(layers):
        arrived = layer.open(batch, 0).arrived
        if not arrived:
            return None if layer.figures().get("crypt_rejected") else b""
        batch = arrived[0]
    return bytes(batch.data[: batch.size])


class Strangers:
    """Judges datagrams of a conversation that come from another address than its peer's.

    Parameters
    ----------
    layers : of an envelope with the stream's settings
    follows : True if a datagram that decrypts cannot be made, or altered in a chosen way, without the key
    """

    def __init__(self, layers: list[Layer], conv: int, *, follows: bool) -> None:
        self._layers, self._conv, self._follows = layers, conv, follows
        self.engine: UnprovenEngine | None = None

    def judge(self, datagram: bytes) -> Sign | None:
        """`datagrams.server_port.Judge` of the session."""
        plain = _opened(self._layers, datagram) or b""
        engine = self.engine
        if engine is None or len(plain) < HEADER_BYTES or HEADER.unpack_from(plain)[0] != self._conv:
            return None
        if not self._follows:
            return Sign.ELSEWHERE
        # A copy, or one that was late, may come from anywhere.
        if not engine.is_newer(plain):
            return None
        return Sign.MOVED

    def moved(self) -> None:
        """The session has the address of the datagram that `judge` has seen last."""
        assert self.engine is not None
        self.engine.move()


class _EchoEnd(TwoWayChannel):
    """A stream that returns what arrives: nothing of it may be lost before the program takes it."""

    def __init__(
        self,
        engine: Engine,
        path: DatagramPath,
        settings: Settings,
        *,
        sends: bool,
        wrapped: EnvelopedEngine | None = None,
    ) -> None:
        super().__init__(engine, path, settings, sends=sends, wrapped=wrapped)
        self._early = EarlyPayload()
        engine.receiving.deliver_to(self._early.hold)
        if engine.sizes is not None:
            # Until the address is proven, long probes may not leave, and only returned data proves it: that
            # does not wait for a longer size.
            engine.sizes.opened = True

    def keep(self, write: Callable[[memoryview], None]) -> None:
        super().keep(write)
        self._early.hand_to(write)
