"""The server's UDP port: finds the session of each datagram, and opens sessions that were announced.

    shared = shared_udp(port)                           opened once per server, whichever transport asks first
    session = await shared.accept(conv)                 both ends agreed on `conv`, a random 32-bit number
    session = await shared.accept_from(host, opens)     the client knows no conv; `opens(first datagram)`

A session is a `DatagramPath` (peer_path.py). It exists once its first datagram has arrived; the receiver gets
that datagram first.

    datagram -> shared socket -> session of (sender, conv)?         deliver
                              -> announced conv?                    admit: connected socket, new session
                              -> announced host, `opens` says yes?  admit: connected socket, new session
                              -> else                               drop

The conv is the first four bytes of a datagram, little endian, as in KCP. `admit` makes a socket that is bound
to the same port and to the local address of the datagram, and connects it to the sender. From then on the
kernel separates the senders, and answers leave from the address that the client used. Sessions with a conv of
one sender share that socket unless one of them takes it over (`take_socket`). A session without a conv owns
all datagrams of its sender.

A dropped datagram is neither answered nor kept. A wake-up of the event loop reads at most
`BATCHES_PER_WAKE` batches. The port is not read while no session is announced, so that a flood ends in the
kernel.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import numpy as np

from iperfpy.protocols.addresses import plain_host
from iperfpy.protocols.contract import ServerPort, SocketAddress
from iperfpy.protocols.datagrams.arrival_time import ask_for_stamps
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.datagrams.peer_path import BATCHES_PER_WAKE, OnBatch, OnDrained, Pump
from iperfpy.protocols.errors import PeerError, TransportError
from iperfpy.protocols.path_events import PathEvents

CONV_BYTES = 4
BACKLOG_BATCHES = 64
"""Most batches kept for a session without a receiver; further ones are lost, as on any path."""
LINGER_WAKES = 64
"""Keep reading the shared port for this many wake-ups after the last expected session arrived: its first
datagrams may still be queued here, from before its own socket existed."""

Prepare = Callable[[socket.socket], None]
Opens = Callable[[bytes], bool]
"""True if the datagram is the first of the announced session."""
_CONV = struct.Struct("<I")
_NO_CONV = -1


def shared_udp(port: ServerPort) -> SharedPort:
    """The server's one UDP port, at the address and port number of its TCP listener.

    The server owns it: it is opened by the first transport that asks, serves all transports and tests, and
    is closed with the server. No transport binds this port number by other means; one that cannot share it
    declares `Transport.own_udp_port`.
    """
    shared = port.shared(SharedPort.open)
    shared.prepare(port.prepare)
    return shared


class _Announcement(NamedTuple):
    """A session without a conv that a host is going to open."""

    opens: Opens
    future: asyncio.Future[Session]


class SharedPort:
    """The UDP port that all transports and tests of a server share.

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
        self._expected_hosts: dict[str, deque[_Announcement]] = {}
        self._peers: dict[tuple[SocketAddress, SocketAddress], _Peer] = {}
        self._sessions: dict[int, Session] = {}
        self._linger = 0
        self._prepare: Prepare | None = None
        self.dropped = 0

    @classmethod
    def open(cls, local: SocketAddress, *, offload: bool = True) -> Self:
        """Open the port at `local`. Needs a running event loop.

        Raises
        ------
        TransportError
            When another program has the port, or the address is not this machine's.
        """
        sock = DatagramSocket.bound(local, reuse=False, offload=offload)
        sock.share_port()  # after the bind: with SO_REUSEADDR set before, a second server would go unnoticed
        sock.report_destination()
        return cls(sock, offload=offload)

    @property
    def local_address(self) -> SocketAddress:
        return self._socket.local_address

    def prepare(self, prepare: Prepare) -> None:
        """Apply the server's socket options to this port and to the sockets of its peers. The first call
        counts: all tests of a server have the same options."""
        if self._prepare is None:
            prepare(self._socket.raw)
            self._prepare = prepare

    # ------------------------------------------------------------------ announcing

    async def accept(self, conv: int) -> Session:
        """Announce `conv` and wait for its session; cancelling takes the announcement back. Raises as
        `expect`."""
        return await _fetched(self.expect(conv))

    async def accept_from(self, host: str, opens: Opens) -> Session:
        """Announce a session without a conv and wait for it, as `expect_from`; cancelling takes the
        announcement back."""
        return await _fetched(self.expect_from(host, opens))

    def expect(self, conv: int) -> asyncio.Future[Session]:
        """Announce a session by its conv. Cancel the future to take the announcement back.

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

    def expect_from(self, host: str, opens: Opens) -> asyncio.Future[Session]:
        """Announce a session without a conv. It begins with a datagram from `host` for which `opens` is true
        and that belongs to no other session; of several announcements for one host, the first wins."""
        future = self._announce()
        queue = self._expected_hosts.setdefault(plain_host(host), deque())
        queue.append(_Announcement(opens, future))
        future.add_done_callback(lambda _: self._forget_answered())
        return future

    def _announce(self) -> asyncio.Future[Session]:
        if not self.is_expecting():
            self._pump.read(self._read_waiting)
        return asyncio.get_running_loop().create_future()

    def _forget_answered(self) -> None:
        """Drop the announcements by host that were met or cancelled."""
        for host, queue in list(self._expected_hosts.items()):
            waiting = deque(announcement for announcement in queue if not announcement.future.done())
            if waiting:
                self._expected_hosts[host] = waiting
            else:
                del self._expected_hosts[host]
        self._pause_if_idle()

    def close(self) -> None:
        """Close the port and every session. Idempotent."""
        by_host = [each.future for queue in self._expected_hosts.values() for each in queue]
        for future in [*self._expected.values(), *by_host]:
            future.cancel()
        self._expected.clear()
        self._expected_hosts.clear()
        for peer in list(self._peers.values()):
            peer.close()
        self._pump.close()

    def _withdraw(self, conv: int) -> None:
        self._expected.pop(conv, None)
        self._pause_if_idle()

    def _pause_if_idle(self) -> None:
        if self._linger <= 0 and not self.is_expecting():
            self._pump.pause()

    def is_expecting(self) -> bool:
        """True if a session is announced and has not come."""
        return bool(self._expected or self._expected_hosts)

    # ------------------------------------------------------------------ receiving

    def _read_waiting(self) -> None:
        delivered: dict[Session, None] = {}
        self._linger = LINGER_WAKES if self.is_expecting() else self._linger - 1
        for _ in range(BATCHES_PER_WAKE):
            received = self._socket.receive_at()
            if received is None:
                self._linger = min(self._linger, 0)
                break
            self.route(*received, delivered)
            if self._pump.closed:  # a receiver may close the server from its callback
                return
        for session in delivered:
            session.drained()
        self._pause_if_idle()

    def route(
        self,
        batch: DatagramBatch,
        remote: SocketAddress,
        local: SocketAddress,
        delivered: dict[Session, None],
    ) -> None:
        """Deliver each datagram of `batch` to its session, and add those sessions to `delivered`."""
        # A session without a conv also gets the datagrams queued here before its socket was connected.
        peer = self._peers.get((remote, local))
        if peer is not None and peer.convless_session is not None:
            peer.convless_session.deliver(batch)
            delivered[peer.convless_session] = None
            return
        for conv, part in _by_conversation(batch):
            session = self._sessions.get(conv)
            if session is None and conv in self._expected:
                session = self._admit(self._expected.pop(conv), conv, part, remote, local)
            elif session is None and (announcement := self._announced_by(remote, part)) is not None:
                session = self._admit(announcement.future, _NO_CONV, part, remote, local)
            if session is None or session.peer.addresses != (remote, local):
                self.dropped += part.count
            else:
                session.deliver(part)
                delivered[session] = None

    def _announced_by(self, remote: SocketAddress, part: DatagramBatch) -> _Announcement | None:
        """The announcement that the first datagram of `part` opens."""
        queue = self._expected_hosts.get(plain_host(remote[0])) if self._expected_hosts else None
        if not queue:
            return None
        first = bytes(part.data[: part.stride if part.count > 1 else part.last_size])
        return next((each for each in queue if not each.future.done() and each.opens(first)), None)

    def _admit(
        self,
        future: asyncio.Future[Session],
        conv: int,
        part: DatagramBatch,
        remote: SocketAddress,
        local: SocketAddress,
    ) -> Session | None:
        """Open the announced session of `future`; None if that cannot be: `future` then has the error."""
        if future.done():
            return None
        try:
            peer = self._peers.get((remote, local)) or self._connect_peer(remote, local)
            # A socket that a session took over, or that a session without a conv owns, cannot be shared.
            if peer.socket_taken or (conv == _NO_CONV and peer.sessions):
                raise PeerError(f"{remote[0]} opens two streams from its UDP port {remote[1]}")
        except TransportError as error:
            future.set_exception(error)
            return None
        session = Session(conv, peer, bytes(part.data[: min(CONV_BYTES, part.size)]))
        if conv == _NO_CONV:
            peer.convless_session = session
        else:
            self._sessions[conv] = peer.sessions[conv] = session
        future.set_result(session)
        return session

    def _connect_peer(self, remote: SocketAddress, local: SocketAddress) -> _Peer:
        sock = DatagramSocket.connected(
            remote, local, reuse=True, offload=self._offload, prepare=self._prepare
        )
        peer = self._peers[remote, local] = _Peer(self, sock, (remote, local))
        return peer

    def forget(self, session: Session) -> None:
        """Forget a closed session, and close its peer's socket with the last one."""
        peer = session.peer
        if peer.convless_session is session:
            peer.convless_session = None
        else:
            self._sessions.pop(session.conv, None)
            peer.sessions.pop(session.conv, None)
        if not peer.sessions and peer.convless_session is None:
            self._peers.pop(peer.addresses, None)
            peer.pump.close()


async def _fetched(future: asyncio.Future[Session]) -> Session:
    """The session of `future`. A session that came in the same turn of the event loop in which its waiter was
    cancelled is closed here: its waiter no longer can."""
    try:
        return await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result().close()
        raise


class _Peer:
    """One sender address, and the connected socket that its sessions share.

    Attributes
    ----------
    sessions : the sessions with a conv, by conv
    convless_session : the session without a conv, which gets every datagram of this sender
    socket_taken : True once a session took the socket over
    """

    def __init__(
        self, shared: SharedPort, sock: DatagramSocket, addresses: tuple[SocketAddress, SocketAddress]
    ) -> None:
        self.shared = shared
        self.socket = sock
        self.pump = Pump(sock)
        self.addresses = addresses
        self.sessions: dict[int, Session] = {}
        self.convless_session: Session | None = None
        self.socket_taken = False

    def read_waiting(self) -> None:
        """Deliver the datagrams that wait in the socket, a bounded number of batches."""
        shared, (remote, local) = self.shared, self.addresses
        delivered: dict[Session, None] = {}
        for _ in range(BATCHES_PER_WAKE):
            received = self.socket.receive()
            if received is None:
                break
            batch, sender = received
            # Between bind and connect the socket got datagrams of every sender.
            session = self._sole_session(batch) if sender == remote else None
            if session is not None:
                session.deliver(batch)
                delivered[session] = None
            else:
                shared.route(batch, sender, local, delivered)
            if self.pump.closed or self.socket.emptied:
                break
        for session in delivered:
            session.drained()
        self.pump.settle()

    def _sole_session(self, batch: DatagramBatch) -> Session | None:
        """The one session that `batch` can belong to, found without a look at every datagram."""
        if self.convless_session is not None:
            return self.convless_session
        if len(self.sessions) != 1 or self.shared.is_expecting() or batch.size < CONV_BYTES:
            return None
        return self.sessions.get(_CONV.unpack_from(batch.data.data)[0])

    def close(self) -> None:
        """Close every session, and with the last one the socket."""
        for session in [*self.sessions.values(), self.convless_session]:
            if session is not None:
                session.close()


class Session:
    """The server's `DatagramPath`.

    Attributes
    ----------
    conv : the conversation number, -1 for a session without one
    opening : the first four bytes of the first datagram
    """

    def __init__(self, conv: int, peer: _Peer, opening: bytes) -> None:
        self.conv = conv
        self.peer = peer
        self.opening = opening
        self.send = peer.socket.send  # the hot path: no frame of its own
        self._on_batch: OnBatch | None = None
        self._on_drained: OnDrained | None = None
        self._backlog: list[DatagramBatch] = []
        self._closed = False

    def deliver(self, batch: DatagramBatch) -> None:
        """Pass `batch` to the receiver, or keep a copy until there is one."""
        if self._on_batch is not None and not self._backlog:
            self._on_batch(batch)
        elif not (self._closed or self.peer.socket_taken) and len(self._backlog) < BACKLOG_BATCHES:
            copy = batch.data[: batch.size].copy()
            self._backlog.append(DatagramBatch(copy, batch.stride, batch.count, batch.last_size))

    def drained(self) -> None:
        """Tell the receiver that the batches of this wake-up have been delivered."""
        if self._on_drained is not None and not self._backlog:
            self._on_drained()

    def set_receiver(self, on_batch: OnBatch, on_drained: OnDrained) -> None:
        self._on_batch, self._on_drained = on_batch, on_drained
        self.peer.pump.read(self.peer.read_waiting)
        if self._backlog:
            asyncio.get_running_loop().call_soon(self._deliver_backlog)

    def _deliver_backlog(self) -> None:
        backlog, self._backlog = self._backlog, []
        for batch in backlog:
            if self._on_batch is not None:  # a receiver may close the session from its callback
                self._on_batch(batch)
        self.drained()

    def take_socket(self) -> DatagramSocket:
        """Give the socket to the session alone: from now on, the shared port only closes it.

        Raises
        ------
        PeerError
            When another session has the same sender.
        """
        peer, delivered = self.peer, dict[Session, None]()
        if len(peer.sessions) > 1:
            raise PeerError(f"{self.remote_address[0]} opens two streams from one UDP port")
        peer.socket_taken = True
        self._backlog.clear()
        # Between bind and connect the socket got datagrams of every sender: those go to their sessions.
        for batch, sender in iter(peer.socket.receive, None):
            if sender != self.remote_address:
                peer.shared.route(batch, sender, self.local_address, delivered)
        for session in delivered:
            session.drained()
        return peer.socket

    def wait_writable(self, callback: Callable[[], None]) -> None:
        self.peer.pump.wait_writable(lambda: None if self._closed else callback())

    def check(self) -> None:
        self.peer.socket.check()

    @property
    def events(self) -> PathEvents:
        return self.peer.socket.events

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
            self.peer.shared.forget(self)


def _by_conversation(batch: DatagramBatch) -> Iterator[tuple[int, DatagramBatch]]:
    """Split `batch` into views of neighbours with equal conv, in order. Datagrams too short for a conv have
    the conv -1."""
    stride, count, data = batch.stride, batch.count, batch.data
    named = count if batch.last_size >= CONV_BYTES else count - 1
    if stride < CONV_BYTES or named == 0:
        yield _NO_CONV, batch
        return
    # All convs as one column: a batch of 180 datagrams with one conv, the usual case, costs one comparison.
    convs = np.ndarray((named,), "<u4", data, strides=(stride,))
    starts = [0, *(np.flatnonzero(convs[1:] != convs[:-1]) + 1).tolist()]
    for start, end in zip(starts, [*starts[1:], named], strict=True):
        last = batch.last_size if end == count else stride
        yield int(convs[start]), DatagramBatch(data[start * stride :], stride, end - start, last)
    if named < count:
        yield _NO_CONV, DatagramBatch(data[named * stride :], stride, 1, batch.last_size)
