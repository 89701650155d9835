"""What a datagram transport stands on: datagrams to and from one peer, by callback, at either end.

    client:  path = ConnectedPath.open(port.remote, port.local(stream), prepare=port.prepare)
    server:  path = await shared_udp(port).accept(stream.conv)                     (server_port.py)
    both:    path.set_receiver(on_batch, on_drained)
             path.send(batch)            what it did not take: path.wait_writable(try_again)
             path.close()

A wake-up of the event loop reads a bounded number of runs: `on_batch` hears each, and `on_drained` comes
once after the last, which is the moment to transmit: acknowledgements of the whole wake-up then leave
together. A busy socket so costs the others at most `BATCHES_PER_WAKE` batches of delay.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, Self

from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.arrival_time import ask_for_stamps
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket

BATCHES_PER_WAKE = 4
"""Most gathered batches per wake-up: about a megabyte."""

OnBatch = Callable[[DatagramBatch], None]
OnDrained = Callable[[], None]


class DatagramPath(Protocol):
    """Datagrams to and from one peer. Used on the event loop's thread only."""

    def set_receiver(self, on_batch: OnBatch, on_drained: OnDrained) -> None:
        """Start receiving. `on_batch(batch)` per run of datagrams, a view that is valid during the call only;
        `on_drained()` once after the runs of a wake-up. Neither is called from within `set_receiver` or
        after `close`. A run may hold datagrams of another conversation: check the conv of every one."""

    def send(self, batch: DatagramBatch) -> int:
        """Datagrams taken; fewer than `batch.count` when the send buffer is full. Raises `PathError` when one
        is longer than the path carries."""

    def wait_writable(self, callback: Callable[[], None]) -> None:
        """Call `callback()` once, when the send buffer has room again."""

    def check(self) -> None:
        """Raise `PeerError` or `PathError` when the peer's machine has refused datagrams, or the network had
        no route for them, since the last call."""

    def size_buffers(self, size_bytes: int) -> tuple[int, int]:
        """Ask for buffers; (send, receive) bytes that were given."""

    def stamp_arrivals(self) -> None:
        """Have the kernel note when datagrams arrive, for `stamp`."""

    @property
    def stamp(self) -> bytes:
        """When the run that is being heard arrived, for a `stamps.ArrivalClock`; empty: not known."""

    def fileno(self) -> int: ...

    @property
    def local_address(self) -> SocketAddress: ...

    @property
    def remote_address(self) -> SocketAddress: ...

    def take_socket(self) -> DatagramSocket:
        """In place of `set_receiver`: the socket itself, to send and receive in another way. `close` still
        closes it."""

    def close(self) -> None:
        """No callback comes after this. Idempotent."""


class Pump:
    """Reads one socket when the event loop says so, and waits for room in its send buffer."""

    def __init__(self, sock: DatagramSocket) -> None:
        self.socket = sock
        self._loop = asyncio.get_running_loop()
        self._waiters: list[Callable[[], None]] = []
        self._sweep: Callable[[], None] | None = None
        self.closed = False

    def read(self, sweep: Callable[[], None]) -> None:
        """Call `sweep()` whenever something waits to be received."""
        if not self.closed:
            self._sweep = sweep
            self._loop.add_reader(self.socket.fileno(), sweep)

    def pause(self) -> None:
        """Leave what arrives to the kernel until `read` is called again."""
        if self._sweep is not None:
            self._sweep = None
            self._loop.remove_reader(self.socket.fileno())

    def settle(self) -> None:
        """At the end of a sweep: come back soon for what was read and not yet looked at."""
        if self.socket.holds and self._sweep is not None:
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._sweep is not None:
            self._sweep()

    def wait_writable(self, callback: Callable[[], None]) -> None:
        if self.closed:
            return
        if not self._waiters:
            self._loop.add_writer(self.socket.fileno(), self._writable)
        self._waiters.append(callback)

    def _writable(self) -> None:
        self._loop.remove_writer(self.socket.fileno())
        waiters, self._waiters = self._waiters, []
        for callback in waiters:
            callback()

    def close(self) -> None:
        if self.closed:
            return
        self.pause()
        if self._waiters:
            self._loop.remove_writer(self.socket.fileno())
            self._waiters.clear()
        self.closed = True
        self.socket.close()


class ConnectedPath:
    """The client's `DatagramPath`: one socket of its own, connected to the server."""

    def __init__(self, sock: DatagramSocket, remote: SocketAddress) -> None:
        self._socket = sock
        self._remote = remote
        self._pump = Pump(sock)
        self._on_batch: OnBatch | None = None
        self._on_drained: OnDrained | None = None
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
        """A path to `remote`, from `local` if given. Needs a running event loop; errors as
        `DatagramSocket.connected`."""
        return cls(DatagramSocket.connected(remote, local, offload=offload, prepare=prepare), remote)

    def set_receiver(self, on_batch: OnBatch, on_drained: OnDrained) -> None:
        self._on_batch, self._on_drained = on_batch, on_drained
        self._pump.read(self._sweep)

    def _sweep(self) -> None:
        on_batch, on_drained, pump = self._on_batch, self._on_drained, self._pump
        assert on_batch is not None
        assert on_drained is not None
        for heard in range(BATCHES_PER_WAKE):
            received = self._socket.receive()
            if received is None:
                if not heard:
                    return
                break
            on_batch(received[0])
            if pump.closed:
                return
            if self._socket.emptied:
                break
        on_drained()
        pump.settle()

    def take_socket(self) -> DatagramSocket:
        """The socket, for somebody who sends and receives in another way; `close` still closes it."""
        return self._socket

    def wait_writable(self, callback: Callable[[], None]) -> None:
        self._pump.wait_writable(callback)

    def check(self) -> None:
        self._socket.check()

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
        self._pump.close()
