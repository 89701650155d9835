"""A sender and a receiver of any transport in one process, over real sockets on loopback.

    async with loopback_pair(MyTransport(), MySettings()) as pair:
        await pair.carry(100_000)
        assert pair.sender.counters()["frames"] == 100

`LoopbackServer` and `LoopbackClient` stand in for iperfpy: they are the `ServerPort` that `Transport.accept`
receives, and the `ClientPort` that `Transport.connect` receives. `loopback_pair` opens both ends of one
stream, and closes them:

    client end   transport.connect(stream, settings, LoopbackClient)  --+
                                                                        +-- LoopbackPair(sender, receiver)
    server end   transport.accept(stream, settings, LoopbackServer)   --+
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from iperfpy.protocols.addresses import family_of
from iperfpy.protocols.contract import Channel, SocketAddress, Stream, Transport
from iperfpy.protocols.datagrams.datagram_socket import udp_socket
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.operating_system import rebind_soon
from iperfpy.protocols.settings import Settings

T = TypeVar("T")
COOKIE_BYTES = 37
DEADLINE_S = 20.0
"""Longest life of a pair."""
PROMPT_S = 5.0
"""Longest time for a call that must return at once. It is generous, because the machine may be busy."""
PORT_ATTEMPTS = 20
"""Numbers of ports that are tried until one is free for TCP and for UDP."""
BLOCK_BYTES = 16_000
UNRELIABLE_US_PER_KB = 50
"""Pace of a load over an unreliable transport, so that few datagrams overflow the socket buffer."""
LEAST_ARRIVING_PERCENT = 80
"""Share that an unreliable transport must deliver. It is below 100, because a busy machine may drop some."""


def expect(condition: object, sentence: str) -> None:
    """Raise `AssertionError(sentence)` unless `condition` is true. `python -O` does not remove it."""
    if not condition:
        raise AssertionError(sentence)


# ---------------------------------------------------------------------- the two ports


class _Closable(Protocol):
    def close(self) -> None: ...


class LoopbackServer:
    """A `ServerPort` with a listening socket of its own. It closes connections with a wrong cookie.

    Parameters
    ----------
    client_host : the address of the control connection, if its clients are to seem to be elsewhere
    """

    def __init__(self, host: str = "127.0.0.1", client_host: str = "") -> None:
        self._listener, self._reserved = _listening(host)
        self._listener.setblocking(False)
        self._shared: dict[Any, _Closable] = {}
        self._own_udp: socket.socket | None = None
        self._client_host = client_host
        self.cookie = secrets.token_hex(18).encode() + b"\0"

    @property
    def local(self) -> SocketAddress:
        address: SocketAddress = self._listener.getsockname()
        return address

    @property
    def packet_bytes(self) -> int | None:
        return None

    @property
    def secret(self) -> bytes | None:
        return None

    @property
    def client(self) -> SocketAddress:
        # The clients of this server run on the same machine, at the same address.
        host, *rest = self.local
        return (self._client_host or host, *rest)

    def proven(self, address: SocketAddress) -> bool:
        return bool(address[0] == self.client[0])

    def prepare(self, sock: socket.socket) -> None:
        """Leave the socket as it is: no option of a user applies here."""

    async def connection(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(self._listener)
            accepted.setblocking(False)
            cookie = b""
            while len(cookie) < COOKIE_BYTES:
                # An early end of the connection is filled up with zeros, which are no valid cookie.
                cookie += await loop.sock_recv(accepted, COOKIE_BYTES - len(cookie)) or b"\0" * COOKIE_BYTES
            if cookie == self.cookie:
                return accepted
            accepted.close()

    def shared(self, open: Callable[[SocketAddress], T]) -> T:
        if open not in self._shared:
            self._reserved.close()
            self._shared[open] = open(self.local)  # type: ignore[assignment]  # the contract: it can be closed
        return self._shared[open]  # type: ignore[return-value]  # the value that `open` of that key returned

    @property
    def own_udp_address(self) -> SocketAddress:
        """The address of the UDP port that belongs to the transport under test alone."""
        return self._own_udp_socket().getsockname()  # type: ignore[no-any-return]  # as typeshed has it

    def _own_udp_socket(self) -> socket.socket:
        if self._own_udp is None:
            host, _, *rest = self.local
            self._own_udp = udp_socket(family_of(self.local), (host, 0, *rest))
            self._own_udp.setblocking(False)
        return self._own_udp

    def own_udp(self, open: Callable[[socket.socket], T]) -> T:
        if open not in self._shared:
            self._shared[open] = open(self._own_udp_socket())  # type: ignore[assignment]  # as in `shared`
        return self._shared[open]  # type: ignore[return-value]  # as in `shared`

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in self._shared.values():
            opened.close()
        if self._own_udp is not None:
            self._own_udp.close()
        self._reserved.close()
        self._listener.close()


def _listening(host: str) -> tuple[socket.socket, socket.socket]:
    """A listener, and a UDP socket that keeps its number until a transport binds it: other programs take
    ports meanwhile. Raises `TransportError` if no number is free for both."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    attempts = 0
    while True:
        listener = socket.create_server((host, 0), family=family)
        attempts += 1
        try:
            return listener, udp_socket(family, listener.getsockname())
        except TransportError:
            listener.close()
            if attempts == PORT_ATTEMPTS:
                raise


class LoopbackClient:
    """A `ClientPort` towards a `LoopbackServer`. `own_udp`: the transport declares `own_udp_port`."""

    def __init__(self, server: LoopbackServer, local_port: int = 0, *, own_udp: bool = False) -> None:
        self._server = server
        self._local_port = local_port
        self._own_udp = own_udp

    @property
    def remote(self) -> SocketAddress:
        return self._server.local

    @property
    def packet_bytes(self) -> int | None:
        return None

    @property
    def secret(self) -> bytes | None:
        return None

    @property
    def remote_udp(self) -> SocketAddress:
        return self._server.own_udp_address if self._own_udp else self.remote

    def local(self, stream: Stream) -> SocketAddress | None:
        host, _, *rest = self.remote
        return (host, self._local_port, *rest) if self._local_port else None

    def prepare(self, sock: socket.socket) -> None:
        """Leave the socket as it is: no option of a user applies here."""

    async def connection(
        self, stream: Stream, prepare: Callable[[socket.socket], None] | None = None, protocol: int = 0
    ) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.remote[0] else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM, protocol)
        try:
            if prepare is not None:
                prepare(made)
            made.setblocking(False)
            local = self.local(stream)
            if local is not None:
                # A connection of an earlier test may still be in TIME_WAIT on this port.
                rebind_soon(made)
                made.bind(local)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(made, self.remote)
            await loop.sock_sendall(made, self._server.cookie)
        except BaseException:
            made.close()
            raise
        return made


# ---------------------------------------------------------------------- a load, and a pair that carries it


class BlockLoad:
    """A `Load` of `total` bytes (0: endless) that pauses for `pause_us` between blocks."""

    may_block = False

    def __init__(self, total: int, block_bytes: int = BLOCK_BYTES, pause_us: int = 0) -> None:
        self._block = memoryview(secrets.token_bytes(block_bytes))
        self._total = total
        self._pause_us = pause_us
        self._due_us = 0
        self._stopped = threading.Event()
        self.taken = 0

    @property
    def block(self) -> memoryview:
        """The block that is sent again and again."""
        return self._block

    def stop(self) -> None:
        """End the load. It may be called from any thread."""
        self._stopped.set()

    def slow_down(self, us_per_kb: int) -> None:
        """Lengthen the pause between blocks to at least `us_per_kb` for each 1,000 bytes of a block."""
        self._pause_us = max(self._pause_us, len(self._block) * us_per_kb // 1000)

    def wait_us(self, now_us: int) -> int:
        if self._stopped.is_set() or (self._total and self.taken >= self._total):
            return -1
        wait_us = max(0, self._due_us - now_us)
        if not wait_us:
            self._due_us = now_us + self._pause_us
        return wait_us

    def take(self) -> memoryview:
        left = self._total - self.taken if self._total else len(self._block)
        block = self._block[: min(left, len(self._block))]
        self.taken += len(block)
        return block


class EchoLoad:
    """A `Load` of what its channel receives: `arrived` is the writer for `keep`.

    `wait_us` gives a long time when nothing waits, so that only `wake` makes the transport ask in time.
    """

    may_block = False
    LONG_US = 3_600_000_000

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: deque[bytes] = deque()
        self._stopped = threading.Event()

    def arrived(self, data: memoryview) -> None:
        self._waiting.append(bytes(data))
        self._wake()

    def stop(self) -> None:
        """End the load. It may be called from any thread."""
        self._stopped.set()

    def wait_us(self, now_us: int) -> int:
        if self._stopped.is_set():
            return -1
        return 0 if self._waiting else self.LONG_US

    def take(self) -> memoryview:
        return memoryview(self._waiting.popleft())


@dataclass
class LoopbackPair:
    """Both ends of one open stream. `client` and `server` are the same two channels by role."""

    sender: Channel
    receiver: Channel
    client: Channel
    server: Channel
    reliable: bool = True
    block_limits: tuple[int, int] = (1, 1024 * 1024)
    prompt_s: float = PROMPT_S
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` (a `send` or a `receive`) beside the caller; it must end when the pair is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

    def load(self, total: int = 0, block_bytes: int = BLOCK_BYTES, pause_us: int = 0) -> BlockLoad:
        """A load with blocks of `block_bytes`, or the nearest within the transport's `block_limits`."""
        shortest, longest = self.block_limits
        return BlockLoad(total, max(shortest, min(block_bytes, longest)), pause_us)

    async def carry(self, total: int, load: BlockLoad | None = None) -> None:
        """Send `total` bytes and wait until both ends have counted them.

        Raises
        ------
        AssertionError
            If an end counts another number. The receiver of an unreliable transport may miss a few.
        """
        load = load or self.load(total)
        if not self.reliable:
            load.slow_down(UNRELIABLE_US_PER_KB)
        self.start(self.receiver.receive())
        await self.sender.send(load)
        expect(load.taken == total, f"send() took {load.taken} of {total} bytes")
        await self.sender.drain()
        counted = bytes_of(self.sender)
        expect(counted == total, f"after drain() the sender has counted {counted} of {total} bytes")
        # The receiver may lag behind an acknowledgement that its kernel has sent.
        least = total if self.reliable else total * LEAST_ARRIVING_PERCENT // 100
        await until(lambda: bytes_of(self.receiver) >= least)
        received = bytes_of(self.receiver)
        expect(received <= total, f"the receiver has counted {received} bytes of {total} that were sent")

    async def promptly(self, work: Awaitable[None], call: str) -> None:
        """Await `work`, which must end within `prompt_s`."""
        await promptly(work, call, self.prompt_s)

    async def close(self) -> None:
        """Close both ends; every task of `start` must end as a consequence.

        Raises
        ------
        AssertionError
            If a channel does not close promptly, or a task goes on.
        """
        try:
            await self.promptly(self.sender.close(), "close() of the sender")
        finally:
            await self.promptly(self.receiver.close(), "close() of the receiver")
            _, stuck = await asyncio.wait(self._tasks, timeout=self.prompt_s) if self._tasks else ((), ())
            for task in stuck:
                task.cancel()
            ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        expect(not stuck, "send() or receive() goes on after close()")
        for end in ends:
            # A stream that lost its peer may end with a TransportError.
            if isinstance(end, Exception) and not isinstance(end, TransportError):
                raise end

    def __str__(self) -> str:
        return f"sender {bytes_of(self.sender)} bytes, receiver {bytes_of(self.receiver)} bytes"


@asynccontextmanager
async def loopback_pair(
    transport: Transport, settings: Settings, *, reverse: bool = False, host: str = "127.0.0.1"
) -> AsyncIterator[LoopbackPair]:
    """Open one stream; with `reverse` the server end sends. Leaving the context closes both ends.

    Raises
    ------
    AssertionError
        If the context lasts longer than `DEADLINE_S`, or a channel does not close promptly.
    """
    async with loopback_pairs(transport, settings, reverse, host=host) as (pair,):
        yield pair


def loopback_pairs(
    transport: Transport,
    settings: Settings,
    *reverse: bool,
    host: str = "127.0.0.1",
    deadline_s: float = DEADLINE_S,
    prompt_s: float = PROMPT_S,
) -> AbstractAsyncContextManager[list[LoopbackPair]]:
    """Open a pair for each of `reverse`, one after the other as iperfpy's client opens streams."""
    streams = [(transport, settings, backwards) for backwards in reverse]
    return loopback_streams(*streams, host=host, deadline_s=deadline_s, prompt_s=prompt_s)


@asynccontextmanager
async def loopback_streams(
    *streams: tuple[Transport, Settings, bool],
    host: str = "127.0.0.1",
    deadline_s: float = DEADLINE_S,
    prompt_s: float = PROMPT_S,
    both_ways: bool = False,
) -> AsyncIterator[list[LoopbackPair]]:
    """Open a pair for each (transport, settings, reverse) at one server, in this order. `both_ways`: streams
    on which both ends send and receive.

    Raises
    ------
    AssertionError
        If the context lasts longer than `deadline_s`, or a channel takes longer than `prompt_s` to close.
    """
    pairs: list[LoopbackPair] = []
    deadline = asyncio.timeout(deadline_s)
    with LoopbackServer(host) as server:
        try:
            async with deadline:
                for index, (transport, settings, backwards) in enumerate(streams):
                    # Both ends agree on the number of the stream and on a random conv, as over a control
                    # connection.
                    conv, features = secrets.randbits(32), frozenset(transport.features)
                    ours = Stream(
                        index + 1,
                        index,
                        conv,
                        sends=not backwards,
                        proves=True,
                        features=features,
                        both_ways=both_ways,
                    )
                    theirs = replace(ours, sends=backwards)
                    client = LoopbackClient(server, own_udp=transport.own_udp_port)
                    accepted, connected = await _both(
                        transport.accept(theirs, settings, server),
                        transport.connect(ours, settings, client),
                    )
                    ends = (accepted, connected) if backwards else (connected, accepted)
                    kind = transport.reliable, transport.block_limits
                    pairs.append(LoopbackPair(*ends, connected, accepted, *kind, prompt_s))
                yield pairs
        except TimeoutError as error:
            if not deadline.expired():
                raise
            counted = "; ".join(map(str, pairs)) or "no stream is open"
            raise AssertionError(f"not finished within {deadline_s:g} s ({counted})") from error
        finally:
            for pair in pairs:
                await pair.close()


async def _both(*opening: Coroutine[Any, Any, Channel]) -> list[Channel]:
    """The channels of both ends. If one cannot be opened, close the other and raise the error."""
    tasks = [asyncio.get_running_loop().create_task(work) for work in opening]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        for made in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(made, Channel):
                await made.close()
        raise


async def promptly(work: Awaitable[None], call: str, within_s: float = PROMPT_S) -> None:
    """Await `work`, which may raise a `TransportError`.

    Raises
    ------
    AssertionError
        If it takes longer than `within_s`; the sentence names `call`.
    """
    deadline = asyncio.timeout(within_s)
    try:
        async with deadline:
            with suppress(TransportError):
                await work
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise AssertionError(f"{call} did not end within {within_s:g} s") from error


async def until(condition: Callable[[], bool]) -> None:
    """Poll until `condition()` is true. The pair's deadline ends the wait otherwise."""
    while not condition():  # noqa: ASYNC110 - counters are polled, because no event announces a change
        await asyncio.sleep(0.002)


def bytes_of(channel: Channel) -> int:
    """The payload bytes that the channel has counted."""
    count = channel.counters().get("bytes")
    if not isinstance(count, int):
        raise AssertionError(f"counters()['bytes'] is {count!r}, not an int")
    return count
