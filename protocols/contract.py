"""What a transport is, and what it may ask of the program that runs it.

A transport is one object (`Transport`) that declares a `Settings` dataclass and its
`Metric`s, and makes one `Channel` per data stream: by `connect` at the client, by `accept`
at the server. A channel carries bytes in one direction at a time and keeps cumulative
counters; who subtracts and prints them is not its business.

    client:  transport.connect(stream, settings, ClientPort)  -> Channel
    server:  transport.accept(stream, settings, ServerPort)   -> Channel
    both:    channel.send(load) | channel.receive()           until stopped
             channel.counters()                               at any moment
             channel.close()

Adding a transport: one class, one entry point in the group "iperfpy.transports".
"""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.metrics import Metric, Value
from iperfpy.protocols.settings import Settings

SocketAddress = tuple[Any, ...]
"""(host, port) for IPv4, (host, port, flowinfo, scope) for IPv6, as the socket module has it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stream:
    """One data stream of a test, as both ends know it.

    `id` is iperf3's (1, 3, 4, 5, ...), `index` counts from 0, `conv` is an unguessable 32-bit
    number agreed over the control channel, `sends` says whether this end is the sender. `conv` 0: the
    other end is a stock iperf3, which agrees on none. `block_bytes` is the test's block length (-l),
    0 when whoever opens the stream has none in mind.
    """

    id: int
    index: int
    conv: int
    sends: bool
    block_bytes: int = 0


class Load(Protocol):
    """What a sender sends: blocks, a rate, an end. Called from one thread per channel."""

    def wait_us(self, now_us: int) -> int:
        """Microseconds until the next block may go: 0 now, -1 never (finished or stopped)."""

    def take(self) -> memoryview:
        """The next block, never empty; call only after `wait_us` returned 0."""


class Channel(ABC):
    """One data stream at one end, open. Every method but `send` runs on the event loop's thread."""

    first_data_us: int | None = None
    """When the first payload came, on the monotonic clock; None before, or where nobody takes note."""

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor of the socket underneath, for setsockopt and the like."""

    @property
    @abstractmethod
    def local_address(self) -> SocketAddress: ...

    @property
    @abstractmethod
    def remote_address(self) -> SocketAddress: ...

    @abstractmethod
    def counters(self) -> dict[str, Value]:
        """The record now: `bytes` (payload this end vouches for: acknowledged or at least out of the
        local queue when sending, delivered in order when receiving) and the metrics of this side."""

    def warnings(self) -> tuple[str, ...]:
        """What keeps this end from showing all that the path carries, a sentence each: asked when the data
        starts to flow, and once more when the test is over."""
        return ()

    @abstractmethod
    async def send(self, load: Load) -> None:
        """Carry blocks of `load` until it has no more. Returns when the last one was accepted.
        Raises `TransportError` when the path or the peer ends it."""

    @abstractmethod
    async def receive(self) -> None:
        """Receive and count until the peer closes or `close` is called."""

    def keep(self, write: Callable[[memoryview], None]) -> None:
        """Before `receive`: call `write` with the payload, in order; the view is valid during the call only,
        and an error that it raises ends the stream. Raises `SettingsError` where nobody looks at payload."""
        raise SettingsError("this transport does not hand on what it receives: it cannot fill a file (-F)")

    @abstractmethod
    async def drain(self) -> None:
        """Wait until all that `send` accepted has been acknowledged; the caller sets the deadline."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything at once; `send` and `receive` in progress return. Idempotent."""


class ClientPort(Protocol):
    """What a client's transport may ask of the program."""

    @property
    def remote(self) -> SocketAddress:
        """The server's address and port, for TCP and UDP alike."""

    def local(self, stream: Stream) -> SocketAddress | None:
        """Where to bind this stream's socket (-B, --cport), or None."""

    def prepare(self, sock: socket.socket) -> None:
        """To be called with every data socket that the transport makes itself, before it is bound: what the
        user wants of it (an interface, a flow label)."""

    async def connection(
        self, stream: Stream, prepare: Callable[[socket.socket], None] | None = None, protocol: int = 0
    ) -> socket.socket:
        """A non-blocking TCP connection to the server that has presented this test's cookie.
        `prepare` sees the socket before it is bound and connected. `protocol`: of the socket, 0 is TCP.
        Raises OSError when this system does not have that protocol."""


class ServerPort(Protocol):
    """What a server's transport may ask of the program."""

    @property
    def local(self) -> SocketAddress:
        """The address and port that the server listens on."""

    @property
    def client(self) -> SocketAddress:
        """Where this test's control connection comes from."""

    def prepare(self, sock: socket.socket) -> None:
        """To be called with every data socket that the transport makes itself: what the server's owner wants
        of it (an interface)."""

    async def connection(self) -> socket.socket:
        """The next TCP connection that presents this test's cookie, non-blocking."""

    def shared(self, open: Callable[[SocketAddress], T]) -> T:
        """What `open(local)` made the first time this server was asked for it: a listener that all
        tests share. It is closed (its `close()` called) with the server."""


class Transport(ABC):
    """A protocol that can be measured. Instances hold no state; every stream gets a `Channel`."""

    name: ClassVar[str]
    """What `--proto` takes."""
    summary: ClassVar[str]
    """One line for the help."""
    prefix: ClassVar[str]
    """Generated flags are `--<prefix>-<field>`; two transports may share a prefix and its flags."""
    settings: ClassVar[type[Settings]]
    metrics: ClassVar[tuple[Metric, ...]]
    iperf3: ClassVar[str] = ""
    """The key that selects this transport in iperf3's parameters ("tcp", "udp"), or empty: then both
    ends must be iperfpy. With a key, the settings travel as top-level parameters under their wire names."""
    iperf3_stream: ClassVar[str] = ""
    """iperf3's JSON sums a stream up in one object of this name, instead of a sender and a receiver."""
    flags: ClassVar[tuple[str, ...]] = ()
    """What selects this transport beside `--proto NAME`."""
    reliable: ClassVar[bool] = True
    """Whether everything that was sent arrives, once and in order."""
    rate_bps: ClassVar[int] = 0
    """The rate (-b) when the user gives none; 0: unlimited."""
    block_limits: ClassVar[tuple[int, int]] = (1, 1024 * 1024)
    """The shortest and the longest block (-l), bytes."""
    whole_blocks: ClassVar[int] = 0
    """Above 0: blocks are datagrams, never cut, and a load offers up to so many of them at once.
    0: a load is a stream of bytes, and may be cut anywhere."""
    bulk_bytes: ClassVar[int] = 0
    """Above 0: how much a load offers at once while neither a rate nor a block length of the user's own says
    otherwise. Larger than a block, it saves system calls."""

    def iperf3_parameters(self, settings: Settings, block_bytes: int) -> dict[str, Any]:
        """What iperf3's parameters say about this transport, beside the key `iperf3`."""
        return settings.to_wire()

    def check(self, settings: Settings, *, sends: bool) -> None:
        """Whether this machine can be the client of such a test; asked before anything is connected.
        `sends`: whether it sends on any stream. Raises `SettingsError`."""
        return

    def payload(self, settings: Settings, size_bytes: int) -> bytes:
        """What a stream carries again and again: noise, unless a setting asks for something else."""
        return os.urandom(size_bytes)

    @abstractmethod
    def block_bytes(self, settings: Settings) -> int:
        """The block length (-l) when the user gives none."""

    @abstractmethod
    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel: ...

    @abstractmethod
    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel: ...
