"""The sessions of the server's UDP port: a socket per sender, and a `DatagramPath` for each stream on it.

    Peer            one sender, and the socket connected to it; reads it, and hands batches to its sessions
    ServerSession   one stream

The port itself, which opens and moves them, is server_port.py.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Protocol

from iperfpy.protocols.addresses import plain_host
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.address_proof import PROOF_BYTES, Addresses, Verifier, split_last, tag_of
from iperfpy.protocols.datagrams.arrival_time import ask_for_stamps
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.conversations import CONV_BYTES, NO_CONV
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.datagrams.loop_share import Share
from iperfpy.protocols.datagrams.path_mtu import DatagramSizes
from iperfpy.protocols.datagrams.peer_path import BATCHES_PER_WAKE, OnBatch, OnDrained, Pump
from iperfpy.protocols.datagrams.port_relay import PortRelay
from iperfpy.protocols.errors import StreamPeerError
from iperfpy.protocols.path_events import PathEvents

BACKLOG_BATCHES = 64
"""Most batches kept for a session without a receiver; further ones are lost, as on any path."""
DENSE = 1 / 256
"""Work per byte from which on a socket is read without gathering: a read of 256 KiB in tiny segments would
hold up every other test."""
_CONV = struct.Struct("<I")


class Hub(Protocol):
    """The port that opened a session."""

    def route(
        self,
        batch: DatagramBatch,
        remote: SocketAddress,
        local: SocketAddress,
        delivered: dict[ServerSession, None],
    ) -> None:
        """Deliver each datagram of `batch` to its session, and add those sessions to `delivered`."""

    def is_expecting(self) -> bool:
        """True if a session is announced and has not come."""

    def wait_writable(self, callback: Callable[[], None]) -> None:
        """Call `callback()` once, when the port has room."""

    def forget(self, session: ServerSession) -> None:
        """Forget a closed session."""


class Peer:
    """One sender address, and the connected socket that its sessions share.

    Attributes
    ----------
    sessions : the sessions that share the sender's datagrams by conv
    owner : the session that gets every datagram of this sender, whatever it begins with; else None
    socket_taken : True once a session took the socket over
    share : the test's share of the event loop's time
    relay : carries datagrams between the port and the socket, where the port cannot be shared; else None
    """

    def __init__(
        self,
        shared: Hub,
        sock: DatagramSocket,
        addresses: Addresses,
        share: Share,
        relay: PortRelay | None = None,
    ) -> None:
        self.share = share
        self.relay = relay
        self._is_dense = False  # True if what was read last was much work for its size
        self.shared = shared
        self.socket = sock
        self.pump = Pump(sock)
        self.addresses = addresses
        self.sessions: dict[int, ServerSession] = {}
        self.owner: ServerSession | None = None
        self.socket_taken = False

    def wait_writable(self, callback: Callable[[], None]) -> None:
        """Call `callback()` once, when the socket that sends has room."""
        if self.relay is None:
            self.pump.wait_writable(callback)
        else:
            self.shared.wait_writable(callback)

    def read_waiting(self) -> None:
        """Deliver the datagrams that wait in the socket, now or in a turn of the test."""
        if self.share.in_turns:
            # Not watched while it waits: it would wake the event loop in every turn until then.
            self.pump.pause()
            self.share.run(self, self._read_in_turn)
        else:
            self._read()

    def _read_in_turn(self) -> None:
        self.pump.read(self.read_waiting)
        self._read()

    def _read(self) -> None:
        """Deliver a bounded number of batches, and no more than is one turn's work."""
        share, shared, (remote, local) = self.share, self.shared, self.addresses
        delivered: dict[ServerSession, None] = {}
        for _ in range(BATCHES_PER_WAKE):
            if self.pump.closed or share.is_spent:
                break
            received = self.socket.receive(gather=not self._is_dense)
            if received is None:
                break
            before = share.debt
            batch, sender = received
            # Between bind and connect the socket got datagrams of every sender.
            session = self._sole_session(batch) if sender == remote else None
            if session is not None:
                session.deliver(batch if batch.last_size != PROOF_BYTES else session.without_openings(batch))
                delivered[session] = None
            else:
                shared.route(batch, sender, local, delivered)
            self._is_dense = share.debt - before > DENSE * batch.size
            if self.pump.closed or self.socket.emptied:
                break
        for session in delivered:
            session.drained()
        self.pump.settle()

    def _sole_session(self, batch: DatagramBatch) -> ServerSession | None:
        """The one session that `batch` can belong to, found without a look at every datagram."""
        if self.owner is not None:
            # The proof of an address may be that of another stream: the port looks at each.
            proof = batch.last_size == PROOF_BYTES and self.owner.conv != NO_CONV
            return None if proof else self.owner
        if len(self.sessions) != 1 or self.shared.is_expecting() or batch.size < CONV_BYTES:
            return None
        return self.sessions.get(_CONV.unpack_from(batch.data.data)[0])

    def redirect(self, remote: SocketAddress) -> None:
        """Exchange datagrams with `remote` from now on. Raises `StreamPathError` without a route to it."""
        if self.relay is None:
            self.socket.reconnect(remote)
        else:
            self.relay.remote = remote

    def release(self) -> None:
        """Close the socket."""
        self.pump.close()
        if self.relay is not None:
            self.relay.close()

    def close(self) -> None:
        """Close every session, and with the last one the socket."""
        for session in [*self.sessions.values(), self.owner]:
            if session is not None:
                session.close()


class ServerSession:
    """The server's `DatagramPath`.

    Attributes
    ----------
    conv : the conversation number, -1 for a session without one
    opening : the first four bytes of the datagram that opened it; empty if that was a proof
    verifier : checks proofs of further addresses; None: the session does not move
    """

    def __init__(self, conv: int, peer: Peer, opening: bytes, verifier: Verifier | None = None) -> None:
        self.conv = conv
        self.peer = peer
        self.opening = opening
        self.verifier = verifier
        # The hot path: no frame of its own.
        self.send = peer.socket.send if peer.relay is None else peer.relay.send
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

    def without_openings(self, batch: DatagramBatch) -> DatagramBatch:
        """The batch, which begins with a datagram of the transport, without an opening at its end."""
        if self.conv == NO_CONV:
            return batch
        rest, _ = split_last(batch, tag_of(self.conv).to_bytes(CONV_BYTES, "little"))
        return rest or batch

    def drained(self) -> None:
        """Tell the receiver that the batches of this wake-up have been delivered."""
        if self._on_drained is not None and not self._backlog:
            self._on_drained()

    def set_receiver(self, on_batch: OnBatch, on_drained: OnDrained) -> None:
        self._on_batch, self._on_drained = on_batch, on_drained
        self.peer.pump.read(self.peer.read_waiting)
        if self._backlog:
            asyncio.get_running_loop().call_soon(self._deliver_backlog)

    def read_now(self) -> None:
        if self._on_batch is not None and not self.peer.socket_taken:
            self.peer.read_waiting()

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
        StreamPeerError
            When another session has the same sender.
        """
        peer, delivered = self.peer, dict[ServerSession, None]()
        if len(peer.sessions) > 1:
            raise StreamPeerError(f"{plain_host(self.remote_address[0])} opens two streams from one UDP port")
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
        self.peer.wait_writable(lambda: None if self._closed else callback())

    def check(self) -> None:
        self.peer.socket.check()

    @property
    def events(self) -> PathEvents:
        return self.peer.socket.events

    @property
    def sizes(self) -> DatagramSizes:
        peer = self.peer
        return peer.socket.sizes if peer.relay is None else peer.relay.sizes

    def charge(self, work: int) -> None:
        self.peer.share.charge(work)

    def size_buffers(self, size_bytes: int) -> tuple[int, int]:
        return self.peer.socket.size_buffers(size_bytes)

    def answer_challenge(self, datagram: bytes) -> bytes:
        return b""  # the server challenges, and is not challenged

    def stamp_arrivals(self) -> None:
        self.peer.socket.stamped = ask_for_stamps(self.peer.socket.raw)

    @property
    def stamp(self) -> bytes:
        return self.peer.socket.stamp

    def fileno(self) -> int:
        return self.peer.socket.fileno()

    @property
    def local_address(self) -> SocketAddress:
        return self.peer.addresses[1] if self.peer.relay is not None else self.peer.socket.local_address

    @property
    def remote_address(self) -> SocketAddress:
        return self.peer.addresses[0]

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_batch = self._on_drained = None
            self._backlog.clear()
            self.peer.shared.forget(self)
