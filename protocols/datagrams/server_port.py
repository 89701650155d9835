"""The server's UDP port: finds the session that a datagram belongs to, and makes it when it was announced.

    future = hub.expect(conv)          a control channel has agreed on `conv`, a random 32-bit number
    future = hub.expect_from(host, openings)        the other end knows no conv: a stock iperf3
    path = await future                its first datagram came; `path` is a DatagramPath (path.py)

A datagram names its session by (sender's address, conv): conv is its first four bytes, little endian, as
KCP has it. The first datagram of an announced conv makes a socket of its own, bound to the same port and
to the local address that the datagram was sent to, connected to the sender: the kernel then keeps apart
who sends what, and answers leave from the address that was asked. Several sessions of one sender address
share that socket, unless one of them took it over for good (`take_socket`); a sender that returns from an
old port with a new conv gets a new session.

Anything else is thrown away: never answered, never kept, at most `RUNS_PER_WAKE` reads per wake-up of the
event loop. Soon after nothing is announced any more nobody reads the port, and a flood ends in the kernel.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, Self

import numpy as np

from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.arrival_time import ask_for_stamps
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.datagrams.peer_path import RUNS_PER_WAKE, OnBatch, OnDrained, Pump
from iperfpy.protocols.errors import PeerError, TransportError

CONV_BYTES = 4
BACKLOG_RUNS = 64
"""Most runs kept for a session that nobody listens to yet; more are lost, as on any path."""
LINGER_WAKES = 64
"""Wake-ups that still read the port, if something waits, after the last announced session was met: what it
sent before it had a socket of its own is among it."""

Prepare = Callable[[socket.socket], None]
_CONV = struct.Struct("<I")
_MAPPED = "::ffff:"


class _Caller(NamedTuple):
    """Somebody who will open a session without a conv."""

    openings: Collection[int]
    future: asyncio.Future[Session]


class SharedPort:
    """The UDP port that all tests of a server share; opened by `ServerPort.shared(DatagramHub.open)`.

    Attributes
    ----------
    dropped : int
        Datagrams that were read and belonged to no session.
    """

    def __init__(self, sock: DatagramSocket, *, offload: bool = True) -> None:
        self._socket = sock
        self._offload = offload
        self._pump = Pump(sock)
        self._expected: dict[int, asyncio.Future[Session]] = {}
        self._callers: dict[str, deque[_Caller]] = {}
        self._nameless = -1
        self._peers: dict[tuple[SocketAddress, SocketAddress], _Peer] = {}
        self._sessions: dict[int, Session] = {}
        self._linger = 0
        self._prepare: Prepare | None = None
        self.dropped = 0

    @classmethod
    def open(cls, local: SocketAddress, *, offload: bool = True) -> Self:
        """The hub at `local`. Needs a running event loop.

        Raises
        ------
        TransportError
            When another program has the port, or the address is not this machine's.
        """
        sock = DatagramSocket.bound(local, reuse=False, offload=offload)
        sock.share_port()  # only now: bound with it, a second server would go unnoticed
        sock.report_destination()
        return cls(sock, offload=offload)

    @property
    def local_address(self) -> SocketAddress:
        return self._socket.local_address

    def prepare(self, prepare: Prepare) -> None:
        """What a server's owner wants of this port's socket and of its peers'; the first call counts."""
        if self._prepare is None:
            prepare(self._socket.raw)
            self._prepare = prepare

    def expect(self, conv: int) -> asyncio.Future[Session]:
        """Announce a session. The result is its path, once its first datagram has come; that datagram is the
        first that the path's receiver gets. Cancel the future to take the announcement back.

        Raises
        ------
        PeerError
            When `conv` is in use.
        """
        if conv in self._expected or conv in self._sessions:
            raise PeerError(f"conversation {conv:#010x} is in use")
        future = self._announce()
        self._expected[conv] = future
        future.add_done_callback(lambda done: self._withdraw(conv) if done.cancelled() else None)
        return future

    def expect_from(self, host: str, openings: Collection[int]) -> asyncio.Future[Session]:
        """Announce a session that has no conv. It begins with a datagram from `host` that is exactly one of
        `openings`, as a conv would be read; of several sessions of a host, the first announced comes first.
        Its `conv` is a number of the hub's own, its `opening` what the datagram said."""
        future = self._announce()
        self._callers.setdefault(host.removeprefix(_MAPPED), deque()).append(_Caller(openings, future))
        future.add_done_callback(lambda _: self._forget_callers())
        return future

    def _announce(self) -> asyncio.Future[Session]:
        if not self.is_expecting():
            self._pump.read(self._sweep)
        return asyncio.get_running_loop().create_future()

    def _forget_callers(self) -> None:
        """Those that came, and those that are not expected any more."""
        for host, queue in list(self._callers.items()):
            waiting = deque(caller for caller in queue if not caller.future.done())
            if waiting:
                self._callers[host] = waiting
            else:
                del self._callers[host]
        self._pause_if_idle()

    def release(self, conv: int) -> None:
        """Forget `conv`, announced or open: for whoever was cancelled between the two."""
        if conv in self._expected:
            self._expected[conv].cancel()
        if conv in self._sessions:
            self._sessions[conv].close()

    def close(self) -> None:
        """Close the port and every session. Idempotent."""
        callers = [caller.future for queue in self._callers.values() for caller in queue]
        for future in [*self._expected.values(), *callers]:
            future.cancel()
        self._expected.clear()
        self._callers.clear()
        for session in list(self._sessions.values()):
            session.close()
        self._pump.close()

    def _withdraw(self, conv: int) -> None:
        self._expected.pop(conv, None)
        self._pause_if_idle()

    def _pause_if_idle(self) -> None:
        if self._linger <= 0 and not self.is_expecting():
            self._pump.pause()

    def _sweep(self) -> None:
        touched: dict[Session, None] = {}
        self._linger = LINGER_WAKES if self.is_expecting() else self._linger - 1
        for _ in range(RUNS_PER_WAKE):
            received = self._socket.receive_at()
            if received is None:
                self._linger = min(self._linger, 0)
                break
            self.route(*received, touched)
            if self._pump.closed:
                return
        for session in touched:
            session.drained()
        self._pause_if_idle()

    def route(
        self,
        batch: DatagramBatch,
        remote: SocketAddress,
        local: SocketAddress,
        touched: dict[Session, None],
    ) -> None:
        """Give each datagram of `batch` to its session, and note the sessions that got any in `touched`."""
        for conv, part in _by_conversation(batch):
            session = self._sessions.get(conv)
            if session is None and conv in self._expected:
                session = self._admit(conv, self._expected.pop(conv), conv, remote, local)
            elif session is None and part.size == CONV_BYTES:
                session = self._answer_call(conv, remote, local)
            if session is None or session.peer.addresses != (remote, local):
                self.dropped += part.count
            else:
                session.deliver(part)
                touched[session] = None

    def _answer_call(self, opening: int, remote: SocketAddress, local: SocketAddress) -> Session | None:
        """The session of whoever was expected from that host and opens so."""
        for caller in self._callers.get(str(remote[0]).removeprefix(_MAPPED), ()):
            if opening in caller.openings and not caller.future.done():
                self._nameless -= 1
                return self._admit(self._nameless, caller.future, opening, remote, local)
        return None

    def _admit(
        self,
        conv: int,
        future: asyncio.Future[Session],
        opening: int,
        remote: SocketAddress,
        local: SocketAddress,
    ) -> Session | None:
        if future.done():
            return None
        try:
            peer = self._peers.get((remote, local)) or self._meet(remote, local)
            if peer.taken:
                raise PeerError(f"{remote[0]} opens two streams from its UDP port {remote[1]}")
        except TransportError as error:
            future.set_exception(error)
            return None
        session = self._sessions[conv] = peer.sessions[conv] = Session(conv, peer, opening)
        future.set_result(session)
        return session

    def _meet(self, remote: SocketAddress, local: SocketAddress) -> _Peer:
        sock = DatagramSocket.connected(
            remote, local, reuse=True, offload=self._offload, prepare=self._prepare
        )
        peer = self._peers[remote, local] = _Peer(self, sock, (remote, local))
        return peer

    def leave(self, session: Session) -> None:
        """Forget a closed session, and its socket with the last one of its peer."""
        peer = session.peer
        self._sessions.pop(session.conv, None)
        peer.sessions.pop(session.conv, None)
        if not peer.sessions:
            self._peers.pop(peer.addresses, None)
            peer.pump.close()

    def is_expecting(self) -> bool:
        return bool(self._expected or self._callers)


class _Peer:
    """One sender address, and the socket that its sessions share."""

    def __init__(
        self, hub: SharedPort, sock: DatagramSocket, addresses: tuple[SocketAddress, SocketAddress]
    ) -> None:
        self.hub = hub
        self.socket = sock
        self.pump = Pump(sock)
        self.addresses = addresses
        self.sessions: dict[int, Session] = {}
        self.taken = False

    def sweep(self) -> None:
        hub, (remote, local) = self.hub, self.addresses
        touched: dict[Session, None] = {}
        for _ in range(RUNS_PER_WAKE):
            received = self.socket.receive()
            if received is None:
                break
            batch, sender = received
            # Between bind and connect the socket heard everybody: `sender` may be a stranger.
            session = self._only(batch) if sender == remote else None
            if session is not None:
                session.deliver(batch)
                touched[session] = None
            else:
                hub.route(batch, sender, local, touched)
            if self.pump.closed or self.socket.emptied:
                break
        for session in touched:
            session.drained()
        self.pump.settle()

    def _only(self, batch: DatagramBatch) -> Session | None:
        """The session that `batch` can only be meant for, without looking at every datagram."""
        if len(self.sessions) != 1 or self.hub.is_expecting() or batch.size < CONV_BYTES:
            return None
        return self.sessions.get(_CONV.unpack_from(batch.data.data)[0])


class Session:
    """The server's `DatagramPath`. `opening`: the first four bytes of its first datagram, as a number."""

    def __init__(self, conv: int, peer: _Peer, opening: int) -> None:
        self.conv = conv
        self.peer = peer
        self.opening = opening
        self.send = peer.socket.send  # the hot path: no frame of its own
        self._on_batch: OnBatch | None = None
        self._on_drained: OnDrained | None = None
        self._backlog: list[DatagramBatch] = []
        self._closed = False

    def deliver(self, batch: DatagramBatch) -> None:
        if self._on_batch is not None and not self._backlog:
            self._on_batch(batch)
        elif not self._closed and len(self._backlog) < BACKLOG_RUNS:
            copy = batch.data[: batch.size].copy()
            self._backlog.append(DatagramBatch(copy, batch.stride, batch.count, batch.last_size))

    def drained(self) -> None:
        if self._on_drained is not None and not self._backlog:
            self._on_drained()

    def set_receiver(self, on_batch: OnBatch, on_drained: OnDrained) -> None:
        self._on_batch, self._on_drained = on_batch, on_drained
        self.peer.pump.read(self.peer.sweep)
        if self._backlog:
            asyncio.get_running_loop().call_soon(self._catch_up)

    def _catch_up(self) -> None:
        backlog, self._backlog = self._backlog, []
        for batch in backlog:
            if self._on_batch is not None:
                self._on_batch(batch)
        self.drained()

    def take_socket(self) -> DatagramSocket:
        """The socket, for the session alone: from now on, the hub only closes it.

        Raises
        ------
        PeerError
            When another session has the same sender.
        """
        peer, touched = self.peer, dict[Session, None]()
        if len(peer.sessions) > 1:
            raise PeerError(f"{self.remote_address[0]} opens two streams from one UDP port")
        peer.taken = True
        self._backlog.clear()
        # Between bind and connect the socket heard everybody.
        for batch, sender in iter(peer.socket.receive, None):
            if sender != self.remote_address:
                peer.hub.route(batch, sender, self.local_address, touched)
        for session in touched:
            session.drained()
        return peer.socket

    def wait_writable(self, callback: Callable[[], None]) -> None:
        self.peer.pump.wait_writable(lambda: None if self._closed else callback())

    def check(self) -> None:
        self.peer.socket.check()

    def size_buffers(self, size_bytes: int) -> tuple[int, int]:
        return self.peer.socket.size_buffers(size_bytes)

    def stamp_arrivals(self) -> None:
        self.peer.socket.stamped = ask_for_stamps(self.peer.socket.raw)

    @property
    def stamp(self) -> bytes:
        return self.peer.socket.stamp

    def fileno(self) -> int:
        return self.peer.socket.fileno()

    @property
    def local_address(self) -> SocketAddress:
        return self.peer.socket.local_address

    @property
    def remote_address(self) -> SocketAddress:
        return self.peer.addresses[0]

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_batch = self._on_drained = None
            self._backlog.clear()
            self.peer.hub.leave(self)


def _by_conversation(batch: DatagramBatch) -> Iterator[tuple[int, DatagramBatch]]:
    """`batch` in runs of equal conv, in order. Datagrams too short to name one count as conv -1."""
    stride, count, data = batch.stride, batch.count, batch.data
    named = count if batch.last_size >= CONV_BYTES else count - 1
    if stride < CONV_BYTES or named == 0:
        yield -1, batch
        return
    convs = np.ndarray((named,), "<u4", data, strides=(stride,))
    starts = [0, *(np.flatnonzero(convs[1:] != convs[:-1]) + 1).tolist()]
    for start, end in zip(starts, [*starts[1:], named], strict=True):
        last = batch.last_size if end == count else stride
        yield int(convs[start]), DatagramBatch(data[start * stride :], stride, end - start, last)
    if named < count:
        yield -1, DatagramBatch(data[named * stride :], stride, 1, batch.last_size)
