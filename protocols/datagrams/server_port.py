"""The server's UDP port: finds the session of each datagram, and opens sessions that were announced.

    session = await accept_path(stream, port)            the stream has a conv, a random 32-bit number
    session = await accept_path(stream, port, opens)     without a conv: `opens(first datagram)` tells it
    session = await accept_path(stream, port, opaque=True)   with a conv that its datagrams do not show

A session is a `DatagramPath` (server_session.py). It exists once the client's address has been proven, or its
first datagram has come from the host of the control connection; the receiver gets that datagram first. To any
other address nothing but challenges is sent (address_proof.py), for every transport that uses this port. The
exception is a watched session, whose peer has no proof to send: it moves first, and its engine sends to the
new address at most as many bytes as came from there, until that has echoed a random stamp
(kcp/envelope/bare_engine.py).

    datagram -> shared socket -> session that owns the sender?      deliver
                              -> session of (sender, conv)?         deliver
                              -> proof of an announced conv?        admit: connected socket, new session
                              -> proof of a session's conv?         move: connect its socket to the sender
                              -> announced or session's conv?       challenge
                              -> announced host, `opens` says yes?  admit: connected socket, new session
                              -> a watched session's, by `judge`?   move it, or count the sign
                              -> else                               drop

The conv is the first four bytes of a datagram, little endian, as in KCP. `admit` makes a socket that is bound
to the same port and to the local address of the datagram, and connects it to the sender. From then on the
kernel separates the senders, and answers leave from the address that the client used. Sessions with a conv of
one sender share that socket unless one of them takes it over (`take_socket`). A session without a conv owns
all datagrams of its sender, and so does an opaque one, whose datagrams are encrypted or otherwise do not
begin with the conv: only the proof of its address names it. A client that cannot prove its address
(`Stream.proves` is False) is admitted by its first datagram, from its own host only, and has no opaque
streams.

A dropped datagram is neither answered nor kept. A wake-up of the event loop reads at most
`BATCHES_PER_WAKE` batches. While no session is announced, the port is read for sessions that move, with a
limit for strangers, and so it is while any host may open a session, whose first datagram may have to be
decrypted (idle_reads.py). Without sessions it is not read, so that a flood ends in the kernel.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Hashable
from typing import NamedTuple, Self

from iperfpy.protocols.addresses import named, plain_host
from iperfpy.protocols.contract import ServerPort, SocketAddress, Stream
from iperfpy.protocols.datagrams import idle_reads
from iperfpy.protocols.datagrams.address_proof import PROOF_BYTES, Addresses, Verifier, tag_of
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.conversations import CONV_BYTES, NO_CONV, by_conversation
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.datagrams.idle_reads import IdleReads
from iperfpy.protocols.datagrams.loop_share import Share, Shares
from iperfpy.protocols.datagrams.peer_path import BATCHES_PER_WAKE, Pump
from iperfpy.protocols.datagrams.port_relay import PortRelay
from iperfpy.protocols.datagrams.server_session import Peer, ServerSession
from iperfpy.protocols.errors import StreamPathError, StreamPeerError, TransportError
from iperfpy.protocols.operating_system import can_share_ports
from iperfpy.protocols.path_events import Sign

MANY = 8
"""Datagrams in a batch from which on strangers' are sorted out before each is looked at."""
LINGER_WAKES = 64
"""Keep reading the shared port for this many wake-ups after the last expected session arrived: its first
datagrams may still be queued here, from before its own socket existed."""

ONE_SOCKET_BYTES = 16 << 20
"""Socket buffers of a port that all sessions use; otherwise each has a socket of its own."""

Judge = Callable[[bytes], Sign | None]
"""The meaning of a datagram from an address without a session, for a session that cannot prove addresses:
`Sign.MOVED` if its peer made it, later than all that came before, `Sign.ELSEWHERE` if its peer may have made
it, None if not. The address is not proven by that: somebody on the way may send a copy from elsewhere."""
Prepare = Callable[[socket.socket], None]
Opens = Callable[[bytes], bool]
"""True if the datagram is the first of the announced session."""
log = logging.getLogger(__name__)


async def accept_path(
    stream: Stream, port: ServerPort, opens: Opens | None = None, *, opaque: bool = False
) -> ServerSession:
    """Wait for the client's end of `stream` on the server's one UDP port, at the address and port number of
    its TCP listener. Waits without limit: the caller sets the deadline.

    The server owns that port: it is opened at its start, or by the first transport that asks once another
    program has left it, serves all transports and tests, and is closed with the server. No transport binds
    this port number by other means; one that cannot share it declares `Transport.own_udp_port`.

    Parameters
    ----------
    opens : for a stream without a conv: True if a datagram is its first
    opaque : the datagrams of the stream do not begin with its conv

    Raises
    ------
    TransportError
        When another program has the port, the conv is in use, or the client of an opaque stream cannot prove
        its address.
    """
    shared = port.shared(SharedPort.open)
    shared.prepare(port.prepare)
    client = ClientEnd(plain_host(port.client[0]), stream.proves, port.proven, port.client)
    if stream.conv or opens is None:
        return await _fetched(shared.expect(stream.conv, client, opaque=opaque))
    return await _fetched(shared.expect_from(client, opens))


class ClientEnd(NamedTuple):
    """The client of an announced session, as its control connection knows it.

    host : the address of the control connection, without a port; empty: any host may open the session
    proves : True if the client proves the address of its datagrams
    refused : told of another host from which the session would have been opened
    test : identifies the test, whose sessions share the event loop's time (loop_share.py)
    """

    host: str
    proves: bool = False
    refused: Callable[[SocketAddress], object] = lambda address: None
    test: Hashable = None


class _Announcement(NamedTuple):
    """A session that is awaited: by its conv, with or without a proof, or by its first datagram (`opens`).
    `owns`: it gets every datagram of its sender."""

    conv: int
    client: ClientEnd
    future: asyncio.Future[ServerSession]
    verifier: Verifier | None = None
    opens: Opens | None = None
    owns: bool = False


class _Watched(NamedTuple):
    """A session that cannot prove addresses: see `SharedPort.watch`."""

    session: ServerSession
    judge: Judge
    moved: Callable[[], None]


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
        self._expected: dict[int, _Announcement] = {}
        self._expected_first: list[_Announcement] = []
        self._peers: dict[Addresses, Peer] = {}
        self._sessions: dict[int, ServerSession] = {}
        self._watched: _Watched | None = None
        self._linger = 0
        self._idle = IdleReads()
        self._shares = Shares(asyncio.get_running_loop().call_soon)
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
        # After the bind: with the option set before, a second server would go unnoticed.
        if can_share_ports():
            sock.share_port()
        else:
            sock.size_buffers(ONE_SOCKET_BYTES)
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

    def expect(self, conv: int, client: ClientEnd, *, opaque: bool = False) -> asyncio.Future[ServerSession]:
        """Announce a session by its conv. Cancel the future to take the announcement back.

        Raises
        ------
        StreamPeerError
            When `conv` is in use, or the client of an opaque session does not prove its address: nothing else
            could tell which datagrams are the session's.
        """
        if opaque and not client.proves:
            raise StreamPeerError(f"{client.host} does not prove its UDP address: update iperfpy there")
        if conv in self._expected or conv in self._sessions:
            raise StreamPeerError(f"conversation {conv:#010x} is in use")
        self._read()
        future: asyncio.Future[ServerSession] = asyncio.get_running_loop().create_future()
        verifier = Verifier(conv) if client.proves else None
        self._expected[conv] = _Announcement(conv, client, future, verifier, owns=opaque)
        future.add_done_callback(lambda done: self._withdraw(conv) if done.cancelled() else None)
        return future

    def expect_from(self, client: ClientEnd, opens: Opens) -> asyncio.Future[ServerSession]:
        """Announce a session without a conv. It begins with a datagram from the client's host for which
        `opens` is true and that belongs to no other session; of several announcements for one host, the first
        wins."""
        if not client.host and self._idle.is_spent(idle_reads.OPEN_BATCHES):
            # A peer with another key has been refused, and the next one is awaited: the limit holds.
            self._idle.rest(self._read)
        else:
            self._read()
        future: asyncio.Future[ServerSession] = asyncio.get_running_loop().create_future()
        self._expected_first.append(_Announcement(NO_CONV, client, future, opens=opens, owns=True))
        future.add_done_callback(lambda _: self._forget_answered())
        return future

    def watch(self, session: ServerSession, judge: Judge, moved: Callable[[], None]) -> None:
        """Look for datagrams of `session` from other addresses, until it is closed. One session of a port is
        watched. A batch is judged by its first datagram. `moved()` is called once the session has another
        address, before it gets the datagrams from there."""
        self._watched = _Watched(session, judge, moved)
        self._read()

    def _read(self) -> None:
        self._pump.read(self._read_waiting)

    def _forget_answered(self) -> None:
        """Drop the announcements without a conv that were met or cancelled."""
        self._expected_first = [each for each in self._expected_first if not each.future.done()]
        self._pause_if_idle()

    def close(self) -> None:
        """Close the port and every session. Idempotent."""
        for announcement in [*self._expected.values(), *self._expected_first]:
            announcement.future.cancel()
        self._expected.clear()
        self._expected_first.clear()
        self._idle.cancel()
        for peer in list(self._peers.values()):
            peer.close()
        self._pump.close()

    def _withdraw(self, conv: int) -> None:
        self._expected.pop(conv, None)
        self._pause_if_idle()

    def _pause_if_idle(self) -> None:
        needed = self._sessions or self._watched or (self._peers and not can_share_ports())
        if self._linger <= 0 and not self.is_expecting() and not needed:
            self._idle.cancel()
            self._pump.pause()

    def wait_writable(self, callback: Callable[[], None]) -> None:
        """Call `callback()` once, when the port's socket has room."""
        self._pump.wait_writable(callback)

    def is_expecting(self) -> bool:
        """True if a session is announced and has not come."""
        return bool(self._expected or self._expected_first)

    # ------------------------------------------------------------------ receiving

    def _read_waiting(self) -> None:
        delivered: dict[ServerSession, None] = {}
        limit = self._limit()
        # All data of a client that has moved comes here until its proof does, with the proof among it.
        known_hosts = {remote[0] for remote, _ in self._peers}
        self._linger = LINGER_WAKES if self.is_expecting() else self._linger - 1
        for _ in range(BATCHES_PER_WAKE):
            received = self._socket.receive_at()
            if received is None:
                self._linger = min(self._linger, 0)
                break
            # Data of a watched peer whose new address is not certain comes here to the end of the test.
            known = received[1][0] in known_hosts and self._watched is None
            if limit is not None and not (known or received[1:] in self._peers):
                self._idle.count(1)
            self.route(*received, delivered)
            if self._pump.closed:  # a receiver may close the server from its callback
                return
            if limit is not None and self._idle.is_spent(limit):
                break
        for session in delivered:
            session.drained()
        self._pump.settle()
        self._pause_if_idle()
        if limit is not None and self._idle.is_spent(limit):
            self._pump.pause()
            self._idle.rest(self._read)

    def _limit(self) -> int | None:
        """Most strangers' batches within `IDLE_S`; None: the datagrams of a session are here, or are awaited
        from a host that is known."""
        if self._expected or any(each.client.host for each in self._expected_first):
            return None
        if self._expected_first:
            return None if self._peers else idle_reads.OPEN_BATCHES
        # With sessions that may move, strangers' datagrams must cost the tests little.
        return idle_reads.IDLE_BATCHES if can_share_ports() and (self._sessions or self._watched) else None

    def route(
        self,
        batch: DatagramBatch,
        remote: SocketAddress,
        local: SocketAddress,
        delivered: dict[ServerSession, None],
    ) -> None:
        """Deliver each datagram of `batch` to its session, and add those sessions to `delivered`."""
        # A session without a conv also gets the datagrams queued here before its socket was connected.
        peer = self._peers.get((remote, local))
        if peer is not None and peer.socket_taken and peer.relay is not None:
            peer.relay.forward(batch)
            return
        if peer is not None and peer.owner is not None:
            owned: DatagramBatch | None = batch
            if batch.last_size == PROOF_BYTES and peer.owner.conv != NO_CONV:
                owned = self._without_proofs(batch, (remote, local))
            if owned is not None:
                peer.owner.deliver(owned)
                delivered[peer.owner] = None
            return
        if peer is None and self._watched is not None and batch.size:
            moved = self._judged(self._watched, batch, (remote, local))
            if moved is not None:
                moved.deliver(batch)
                delivered[moved] = None
                return
        for conv, part in by_conversation(batch, self._known(batch)):
            session = self._session_of(conv, part, (remote, local))
            if session is not None:
                session.deliver(part)
                delivered[session] = None
                self.dropped -= part.count
        self.dropped += batch.count

    def _judged(self, watched: _Watched, batch: DatagramBatch, addresses: Addresses) -> ServerSession | None:
        """The watched session if its peer has moved to these addresses; else None."""
        session, judge, moved = watched
        self._idle.count(1)
        sign = judge(bytes(batch.head(1).data[: batch.stride if batch.count > 1 else batch.last_size]))
        if sign is Sign.MOVED:
            if self._move(session.peer, addresses, named(addresses[0])):
                moved()
                return session
            sign = Sign.ELSEWHERE
        if sign is not None:
            session.events.add(sign, named(addresses[0]))
        return None

    def _without_proofs(self, batch: DatagramBatch, addresses: Addresses) -> DatagramBatch | None:
        """Take the openings and proofs, of any stream, out of `batch`; returns the rest of it, or None. No
        datagram of an opaque stream is as short."""
        alone = batch.stride == PROOF_BYTES or batch.count == 1
        for conv, part in by_conversation(batch if alone else batch.rest(batch.count - 1)):
            self._session_of(conv, part, addresses)
        return None if alone else batch.head(batch.count - 1)

    def _known(self, batch: DatagramBatch) -> set[int] | None:
        """The first words of datagrams that belong to a stream, for a batch that may be many strangers';
        None: each datagram has to be looked at."""
        if self._expected_first or batch.count < MANY:
            return None
        convs = {*self._expected, *self._sessions}
        return convs | {tag_of(conv) for conv in convs}

    def _session_of(self, conv: int, part: DatagramBatch, addresses: Addresses) -> ServerSession | None:
        """The session that gets `part`; None: it is dropped, perhaps after a challenge to its sender."""
        session = self._sessions.get(conv)
        if session is not None and session.peer.addresses == addresses:
            return session
        # A part before this one may have opened a session that owns all datagrams of the sender.
        peer = self._peers.get(addresses)
        if peer is not None and peer.owner is not None and peer.owner.conv == NO_CONV:
            return peer.owner
        # Here come datagrams that open a session, those of a client that has moved, and strangers'.
        if part.last_size == PROOF_BYTES and (owner := self._owner(tag_of(conv))) is not None:
            self._take_proof(owner, part, addresses)
            return None
        if (owner := self._owner(conv)) is None:
            announcement = self._opened_by(part, addresses[0])
        elif owner.verifier is not None:
            # Nothing is taken from the address yet: the client sends again what is lost by that.
            self._challenge(owner.verifier, part, addresses)
            return None
        else:
            # A client without proofs: its session stays where it is.
            announcement = owner if isinstance(owner, _Announcement) else None
            if announcement is not None and plain_host(addresses[0][0]) != announcement.client.host:
                announcement.client.refused(addresses[0])
                return None
        if announcement is None:
            return None
        return self._admit(announcement, bytes(part.data[: min(CONV_BYTES, part.size)]), addresses)

    def _owner(self, conv: int) -> _Announcement | ServerSession | None:
        """The announcement or the session of that conv."""
        return self._expected.get(conv) or self._sessions.get(conv)

    def _opened_by(self, part: DatagramBatch, remote: SocketAddress) -> _Announcement | None:
        """The announcement without a conv that the first datagram of `part` opens."""
        if not self._expected_first:
            return None
        # To look into a datagram may cost as much as to read a batch: it may be encrypted.
        self._idle.count(sum(not each.client.host for each in self._expected_first))
        first = bytes(part.data[: part.stride if part.count > 1 else part.last_size])
        opened = [
            each
            for each in self._expected_first
            if not each.future.done() and each.opens is not None and each.opens(first)
        ]
        # Of the waiting tests, only those of the sender's host can be meant.
        hosts = ("", plain_host(remote[0]))
        found = next((each for each in opened if each.client.host in hosts), None)
        if found is None:
            for each in opened:
                each.client.refused(remote)
        return found

    # ------------------------------------------------------------------ addresses that prove themselves

    def _challenge(self, verifier: Verifier, part: DatagramBatch, addresses: Addresses) -> None:
        """Answer datagrams from an address that is not proven: with one challenge, and never a longer one."""
        if part.size >= PROOF_BYTES:
            remote, local = addresses
            self._socket.send_now(verifier.challenge(addresses), remote, local)

    def _take_proof(
        self, owner: _Announcement | ServerSession, part: DatagramBatch, addresses: Addresses
    ) -> None:
        """Admit or move the session that a proof in `part` belongs to, or challenge the sender."""
        verifier = owner.verifier
        if verifier is None or (isinstance(owner, ServerSession) and owner.peer.addresses == addresses):
            return
        if not any(verifier.accepts(bytes(datagram), addresses) for datagram in part):
            self._challenge(verifier, part, addresses)
        elif isinstance(owner, ServerSession):
            # Without the address: the streams of a test have one sentence.
            self._move(owner.peer, addresses)
        else:
            self._admit(owner, b"", addresses)

    def _move(self, peer: Peer, addresses: Addresses, cause: str = "") -> bool:
        """Connect the socket of `peer` to its new address, which is proven, or that of a watched session's
        peer; False if that cannot be. The socket stays: with its options, and with the thread that may wait
        in it."""
        # An address that another stream has, or another local one, would need another socket.
        if addresses in self._peers or addresses[1] != peer.addresses[1]:
            return False
        try:
            peer.redirect(addresses[0])
        except StreamPathError:
            return False
        log.info(
            "a client's UDP address changed from %s to %s", *map(named, (peer.addresses[0], addresses[0]))
        )
        del self._peers[peer.addresses]
        peer.addresses = addresses
        peer.socket.events.add(Sign.MOVED, cause)
        self._peers[addresses] = peer
        return True

    # ------------------------------------------------------------------ sessions

    def _admit(
        self, announcement: _Announcement, opening: bytes, addresses: Addresses
    ) -> ServerSession | None:
        """Open an announced session; None if that cannot be: its future then has the error."""
        conv, client, future, verifier, _, owns = announcement
        self._expected.pop(conv, None)
        if future.done():
            return None
        remote = addresses[0]
        try:
            share = self._shares.of(client.test if client.test is not None else addresses)
            peer = self._peers.get(addresses) or self._connect_peer(*addresses, share)
            # A socket that a session took over, or that a session owns, cannot be shared.
            if peer.socket_taken or peer.owner is not None or (owns and peer.sessions):
                raise StreamPeerError(
                    f"{plain_host(remote[0])} opens two streams from its UDP port {remote[1]}"
                )
        except TransportError as error:
            future.set_exception(error)
            return None
        session = ServerSession(conv, peer, opening, verifier)
        if conv != NO_CONV:
            self._sessions[conv] = session
        if owns:
            peer.owner = session
        else:
            peer.sessions[conv] = session
        future.set_result(session)
        return session

    def _connect_peer(self, remote: SocketAddress, local: SocketAddress, share: Share) -> Peer:
        if can_share_ports():
            relay = None
            sock = DatagramSocket.connected(
                remote, local, reuse=True, offload=self._offload, prepare=self._prepare
            )
        else:
            relay = PortRelay(self._socket, remote)
            relay.open()
            sock = relay.inner
        peer = self._peers[remote, local] = Peer(self, sock, (remote, local), share, relay)
        return peer

    def forget(self, session: ServerSession) -> None:
        """Forget a closed session, and close its peer's socket with the last one."""
        peer = session.peer
        self._sessions.pop(session.conv, None)
        peer.sessions.pop(session.conv, None)
        if peer.owner is session:
            peer.owner = None
        if self._watched is not None and self._watched.session is session:
            self._watched = None
        if not peer.sessions and peer.owner is None:
            self._peers.pop(peer.addresses, None)
            peer.share.forget(peer)
            peer.release()
        self._pause_if_idle()


async def _fetched(future: asyncio.Future[ServerSession]) -> ServerSession:
    """The session of `future`. A session that came in the same turn of the event loop in which its waiter was
    cancelled is closed here: its waiter no longer can."""
    try:
        return await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result().close()
        raise
