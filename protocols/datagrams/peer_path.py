"""Datagrams to and from one peer, by callback, at either end: the base of a datagram transport.

    client:  path = await open_path(stream, port)
    server:  path = await accept_path(stream, port)                                (server_port.py)
    both:    path.set_receiver(on_batch, on_drained)
             path.send(batch)            if it does not take all: path.wait_writable(try_again)
             path.close()

A wake-up of the event loop reads a bounded number of batches: `on_batch` gets each, and `on_drained` is
called once after the last. That is the moment to transmit: acknowledgements of the whole wake-up leave
together. A busy socket delays the others by at most `BATCHES_PER_WAKE` batches.

`open_path` proves the client's address to the server, and the path goes on answering its challenges until it
is closed (address_proof.py). A transport sees nothing of it. Only one that takes the socket must pass
datagrams of `PROOF_BYTES` to `answer_challenge`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, Self

from iperfpy.protocols.contract import ClientPort, SocketAddress, Stream
from iperfpy.protocols.datagrams.address_proof import (
    FIRST_S,
    LONGEST_S,
    PROOF_BYTES,
    REPEAT_S,
    Prover,
    split_last,
)
from iperfpy.protocols.datagrams.arrival_time import ask_for_stamps
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.datagrams.path_mtu import DatagramSizes
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.path_events import PathEvents
from iperfpy.protocols.socket_watch import SocketWatch

BATCHES_PER_WAKE = 4
"""Most gathered batches per wake-up: about a megabyte."""

MOST_ERRORS = 5
"""Errors about openings after which the server cannot be reached."""

OnBatch = Callable[[DatagramBatch], None]
OnDrained = Callable[[], None]


class DatagramPath(Protocol):
    """Datagrams to and from one peer. Used on the event loop's thread only."""

    def set_receiver(self, on_batch: OnBatch, on_drained: OnDrained) -> None:
        """Start receiving: `on_batch(batch)` per batch, a view that is valid during the call only;
        `on_drained()` once after the batches of a wake-up. Neither is called from within `set_receiver` or
        after `close`. A batch may hold datagrams of another conversation: check the conv of every one."""

    def read_now(self) -> None:
        """Read what waits, as a wake-up of the event loop does."""

    def send(self, batch: DatagramBatch) -> int:
        """Send `batch`. Returns the datagrams taken, fewer than `batch.count` if the send buffer is full.
        Raises `StreamPathError` when a datagram is longer than the path carries."""

    def wait_writable(self, callback: Callable[[], None]) -> None:
        """Call `callback()` once, when the send buffer has room again."""

    def check(self) -> None:
        """Raise `StreamPeerError` or `StreamPathError` if the peer's machine has refused datagrams or the
        network had no route for them. Only for a caller that has not heard its peer yet."""

    @property
    def events(self) -> PathEvents:
        """The errors that the kernel reported about datagrams."""

    def charge(self, work: int) -> None:
        """Tell how much work the datagrams of the present batch were, in units of about 5 us. A server gives
        each test a share of its time by that (loop_share.py)."""

    @property
    def sizes(self) -> DatagramSizes:
        """The kernel's part in finding the size of datagrams."""

    def size_buffers(self, size_bytes: int) -> tuple[int, int]:
        """Ask for socket buffers. Returns the (send, receive) bytes that the kernel gave."""

    def stamp_arrivals(self) -> None:
        """Make the kernel stamp arrivals, for `stamp`."""

    @property
    def stamp(self) -> bytes:
        """The arrival stamp of the present batch, for an `arrival_time.ArrivalClock`; empty: not known."""

    def fileno(self) -> int: ...

    @property
    def local_address(self) -> SocketAddress: ...

    @property
    def remote_address(self) -> SocketAddress: ...

    def take_socket(self) -> DatagramSocket:
        """Give the socket to a caller that sends and receives by itself, in place of `set_receiver`. `close`
        still closes it."""

    def answer_challenge(self, datagram: bytes) -> bytes:
        """The answer to a datagram that was read from a socket taken over; empty if that is not a challenge
        to this stream. Any thread may call this."""

    def close(self) -> None:
        """Close the socket; no callback comes after this. Idempotent."""


class Pump:
    """Connects one socket to the event loop: calls a reader when datagrams wait, and writers when the send
    buffer has room."""

    def __init__(self, sock: DatagramSocket) -> None:
        self.socket = sock
        self._loop = asyncio.get_running_loop()
        self._watch = SocketWatch(sock.fileno())
        self._waiters: list[Callable[[], None]] = []
        self._reader: Callable[[], None] | None = None
        self.closed = False

    def read(self, reader: Callable[[], None]) -> None:
        """Call `reader()` whenever a datagram or an error waits. Raises `TransportError` when the process has
        no descriptor left."""
        if not self.closed:
            self._watch.read(reader)
            self._reader = reader

    def pause(self) -> None:
        """Leave arriving datagrams in the kernel until `read` is called again."""
        self._reader = None
        self._watch.pause()

    def settle(self) -> None:
        """End a wake-up: call the reader again soon if the socket has read ahead, which the event loop cannot
        see."""
        if self.socket.has_read_ahead and self._reader is not None:
            self._loop.call_soon(self._read_again)

    def _read_again(self) -> None:
        if self._reader is not None:
            self._reader()

    def wait_writable(self, callback: Callable[[], None]) -> None:
        if self.closed:
            return
        if not self._waiters:
            self._watch.write_once(self._writable)
        self._waiters.append(callback)

    def _writable(self) -> None:
        waiters, self._waiters = self._waiters, []
        for callback in waiters:
            callback()

    def close(self) -> None:
        if self.closed:
            return
        self._reader = None
        self._watch.close()
        self._waiters.clear()
        self.closed = True
        self.socket.close()


async def open_path(stream: Stream, port: ClientPort) -> ConnectedPath:
    """Open the client's path of `stream`. If the server asks for it, its address has been proven on return.
    Waits without limit: the caller sets the deadline.

    Raises
    ------
    TransportError
        When the local address is not available, or the server's machine refuses datagrams.
    StreamPathError
        When there is no route to the server.
    """
    path = ConnectedPath.open(port.remote, port.local(stream), prepare=port.prepare)
    if stream.proves:
        try:
            await path.prove(stream.conv)
        except BaseException:
            path.close()
            raise
    return path


class ConnectedPath:
    """The client's `DatagramPath`: one socket of its own, connected to the server."""

    def __init__(self, sock: DatagramSocket, remote: SocketAddress) -> None:
        self._socket = sock
        self._remote = remote
        self._pump = Pump(sock)
        self._on_batch: OnBatch | None = None
        self._on_drained: OnDrained | None = None
        self._prover: Prover | None = None
        self._repeating: asyncio.TimerHandle | None = None
        self.send = sock.send  # the hot path: no frame of its own

    @classmethod
    def open(
        cls,
        remote: SocketAddress,
        local: SocketAddress | None = None,
        *,
        offload: bool = True,
        prepare: Callable[[socket.socket], None] | None = None,
    ) -> Self:
        """Open a path to `remote`, from `local` if given. Needs a running event loop; errors as
        `DatagramSocket.connected`."""
        return cls(DatagramSocket.connected(remote, local, offload=offload, prepare=prepare), remote)

    # ------------------------------------------------------------------ the proof of the address

    async def prove(self, conv: int) -> None:
        """Send openings until the server's first challenge has been answered, then repeat them until `close`.

        Raises
        ------
        TransportError
            When the server's machine refuses them, or the socket fails.
        """
        self._prover = Prover(conv)
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pump.read(lambda: self._answer_first(answered))
        try:
            wait_s = FIRST_S
            while not answered.done():
                self._socket.send_now(self._prover.opening)
                await asyncio.wait([answered], timeout=wait_s)
                if not answered.done() and sum(self.events.counts.values()) >= MOST_ERRORS:
                    self._socket.check()
                wait_s = min(1.5 * wait_s, LONGEST_S)
            answered.result()
        finally:
            self._pump.pause()
        self.events.forget()  # the server has been heard: errors from before say nothing about the test
        self._repeating = asyncio.get_running_loop().call_later(REPEAT_S, self._repeat)

    def _answer_first(self, answered: asyncio.Future[None]) -> None:
        """Read as far as the first challenge: what comes behind it is the transport's."""
        try:
            while not answered.done() and (received := self._socket.receive_at()) is not None:
                for datagram in received[0]:
                    if proof := self.answer_challenge(bytes(datagram)):
                        self._socket.send_now(proof)
                        self._pump.pause()
                        answered.set_result(None)
                        break
        except TransportError as error:
            self._pump.pause()
            answered.set_exception(error)

    def _repeat(self) -> None:
        assert self._prover is not None
        self._socket.send_now(self._prover.opening)
        self._repeating = asyncio.get_running_loop().call_later(REPEAT_S, self._repeat)

    def answer_challenge(self, datagram: bytes) -> bytes:
        return self._prover.answer(datagram) if self._prover is not None else b""

    def _without_challenges(self, batch: DatagramBatch, prover: Prover) -> DatagramBatch | None:
        """Answer the challenges in `batch`; the rest of it, or None."""
        rest, taken = split_last(batch, prover.opening[:4])
        for datagram in taken:
            if proof := prover.answer(datagram):
                self._socket.send_now(proof)
        return rest

    # ------------------------------------------------------------------ receiving

    def set_receiver(self, on_batch: OnBatch, on_drained: OnDrained) -> None:
        self._on_batch, self._on_drained = on_batch, on_drained
        self._pump.read(self._read_waiting)

    def read_now(self) -> None:
        if self._on_batch is not None and not self._pump.closed:
            self._read_waiting()

    def _read_waiting(self) -> None:
        on_batch, on_drained, pump = self._on_batch, self._on_drained, self._pump
        assert on_batch is not None
        assert on_drained is not None
        for batches in range(BATCHES_PER_WAKE):
            received = self._socket.receive()
            if received is None:
                if not batches:
                    return
                break
            batch: DatagramBatch | None = received[0]
            if received[0].last_size == PROOF_BYTES and self._prover is not None:
                batch = self._without_challenges(received[0], self._prover)
            if batch is not None:
                on_batch(batch)
            if pump.closed:  # the receiver may close the path from its callback
                return
            if self._socket.emptied:
                break
        on_drained()
        pump.settle()

    def take_socket(self) -> DatagramSocket:
        """Give the socket to a caller that sends and receives by itself; `close` still closes it."""
        return self._socket

    def wait_writable(self, callback: Callable[[], None]) -> None:
        self._pump.wait_writable(callback)

    def check(self) -> None:
        self._socket.check()

    @property
    def events(self) -> PathEvents:
        return self._socket.events

    def charge(self, work: int) -> None:
        """A client has one test, so no other test waits for its time."""

    @property
    def sizes(self) -> DatagramSizes:
        return self._socket.sizes

    def size_buffers(self, size_bytes: int) -> tuple[int, int]:
        return self._socket.size_buffers(size_bytes)

    def stamp_arrivals(self) -> None:
        self._socket.stamped = ask_for_stamps(self._socket.raw)

    @property
    def stamp(self) -> bytes:
        return self._socket.stamp

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def local_address(self) -> SocketAddress:
        return self._socket.local_address

    @property
    def remote_address(self) -> SocketAddress:
        return self._remote

    def close(self) -> None:
        if self._repeating is not None:
            self._repeating.cancel()
        self._pump.close()
