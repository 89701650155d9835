"""The program as transports see it: `ClientPort` and `ServerPort` over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from iperfpy.control.framing import encode_cookie
from iperfpy.errors import fault_of, system_reason
from iperfpy.protocols.addresses import family_of, named, plain_host, with_port
from iperfpy.protocols.contract import SocketAddress, Stream, Transport
from iperfpy.protocols.errors import SettingsError, StreamPathError, TransportError
from iperfpy.runtime.sockets import any_address, bind, connect, new_socket

S = TypeVar("S")
T = TypeVar("T")
log = logging.getLogger(__name__)


class NetworkClientPort:
    """One test at the client.

    Parameters
    ----------
    remote : SocketAddress
        The server's address of the control connection.
    cookie : str
        The first bytes of each TCP data connection.
    bind, client_port
        -B, resolved, port 0, or None; --cport, the first stream's local port, or 0.
    prepare
        Applies the user's socket options to a data socket, before it is bound.
    udp_port
        The UDP port that the server announced for the test's transport alone, or 0.
    packet_bytes
        Of the control connection, see `ClientPort.packet_bytes`.
    secret
        Of the test's transport, see `ClientPort.secret`.
    """

    def __init__(
        self,
        remote: SocketAddress,
        cookie: str,
        bind: SocketAddress | None = None,
        client_port: int = 0,
        prepare: Callable[[socket.socket], None] = lambda sock: None,
        udp_port: int = 0,
        packet_bytes: int | None = None,
        secret: bytes | None = None,
    ) -> None:
        self._packet_bytes = packet_bytes
        self._secret = secret
        self._remote = remote
        self._udp_port = udp_port or remote[1]
        self._cookie = cookie
        self._bind = bind
        self._client_port = client_port
        self._prepare = prepare
        self._family = family_of(remote)

    @property
    def remote(self) -> SocketAddress:
        return self._remote

    @property
    def packet_bytes(self) -> int | None:
        return self._packet_bytes

    @property
    def secret(self) -> bytes | None:
        return self._secret

    @property
    def remote_udp(self) -> SocketAddress:
        return with_port(self._remote, self._udp_port)

    def local(self, stream: Stream) -> SocketAddress | None:
        if self._bind is None and not self._client_port:
            return None
        port = self._client_port + stream.index if self._client_port else 0
        return with_port(self._bind or any_address(self._family), port)

    def prepare(self, sock: socket.socket) -> None:
        self._prepare(sock)

    async def connection(
        self, stream: Stream, prepare: Callable[[socket.socket], None] | None = None, protocol: int = 0
    ) -> socket.socket:
        loop = asyncio.get_running_loop()
        try:
            sock = new_socket(self._family, protocol)
        except OSError as error:
            if protocol:  # the transport knows what it means that there is no such protocol
                raise
            raise StreamPathError(f"cannot open a socket: {system_reason(error)}") from error
        try:
            self.prepare(sock)
            if prepare is not None:
                prepare(sock)
            local = self.local(stream)
            if local is not None:
                bind(sock, local)
            await connect(sock, self._remote)
            await loop.sock_sendall(sock, encode_cookie(self._cookie))
        except OSError as error:
            sock.close()
            raise StreamPathError(
                f"cannot connect to {named(self._remote)}: {system_reason(error)}"
            ) from error
        except BaseException:
            sock.close()
            raise
        return sock


class SharedListeners:
    """Objects that transports open once for all tests of a server, and their own UDP sockets.

    An object is known by the function that opens it: its module and qualified name, so that a bound
    class method, or a function made anew for every test, is the same each time.
    """

    def __init__(self) -> None:
        self._opened: dict[str, Any] = {}
        self._own_udp: dict[str, socket.socket] = {}

    def get(self, open: Callable[[S], T], argument: S) -> T:
        """The object that `open(argument)` made when it was called first."""
        key = f"{getattr(open, '__module__', '')}:{getattr(open, '__qualname__', repr(open))}"
        if key not in self._opened:
            self._opened[key] = open(argument)
        opened: T = self._opened[key]
        return opened

    def own_udp_ports(
        self,
        transports: Iterable[Transport],
        local: SocketAddress,
        prepare: Callable[[socket.socket], None] = lambda sock: None,
    ) -> dict[str, int]:
        """Name -> port number of the UDP sockets of those transports that declare `own_udp_port`. The sockets
        are bound, at the host of `local`, when this is called first; one that cannot be is left out."""
        for transport in transports:
            if transport.own_udp_port and transport.name not in self._own_udp:
                from iperfpy.protocols.datagrams.datagram_socket import udp_socket

                try:
                    sock = udp_socket(family_of(local), with_port(local, 0), prepare=prepare)
                except TransportError as error:
                    log.warning("no UDP port for %s: %s", transport.name, error)
                else:
                    sock.setblocking(False)
                    self._own_udp[transport.name] = sock
        return {name: sock.getsockname()[1] for name, sock in self._own_udp.items()}

    def own_udp(self, transport: str) -> socket.socket:
        """The socket of that transport. Raises `SettingsError` if it has none."""
        try:
            return self._own_udp[transport]
        except KeyError:
            raise SettingsError(f"{transport} has no UDP port of its own at this server") from None

    async def close(self) -> None:
        """Close all objects, then the UDP sockets under them."""
        # The stack takes its steps, last one first, also if one fails or this task is cancelled meanwhile.
        async with contextlib.AsyncExitStack() as steps:
            while self._own_udp:
                steps.callback(self._own_udp.popitem()[1].close)
            while self._opened:
                steps.push_async_callback(_close, self._opened.popitem()[1])


async def _close(opened: Any) -> None:
    """Close an object; its `close` may be a coroutine function. A fault of it is logged: the server ends as
    it would without."""
    try:
        closing = opened.close()
        if inspect.isawaitable(closing):
            await closing
    except Exception as error:
        log.error("%s", fault_of(error, f"{type(opened).__name__}, an object of a transport,"))
        log.debug("where the fault is", exc_info=error)


class NetworkServerPort:
    """One test at the server: its share of what the listener accepts, and the shared listeners.

    Parameters
    ----------
    local, client : SocketAddress
        The address that the server listens on, and the client's end of the test's control connection.
    transport : str
        The name of the test's transport.
    packet_bytes : int or None
        Of the control connection, see `ServerPort.packet_bytes`.
    secret : bytes or None
        Of the test's transport, see `ServerPort.secret`.

    Attributes
    ----------
    stranger : str
        The host that `proven` refused last; empty: none.
    """

    def __init__(
        self,
        local: SocketAddress,
        client: SocketAddress,
        arrivals: asyncio.Queue[socket.socket],
        shared: SharedListeners,
        prepare: Callable[[socket.socket], None] = lambda sock: None,
        transport: str = "",
        packet_bytes: int | None = None,
        secret: bytes | None = None,
    ) -> None:
        self._packet_bytes = packet_bytes
        self._secret = secret
        self._prepare = prepare
        self._transport = transport
        self._local = local
        self._client = client
        self._arrivals = arrivals
        self._shared = shared
        self.stranger = ""

    @property
    def local(self) -> SocketAddress:
        return self._local

    @property
    def client(self) -> SocketAddress:
        return self._client

    @property
    def secret(self) -> bytes | None:
        return self._secret

    def proven(self, address: SocketAddress) -> bool:
        if plain_host(address[0]) == plain_host(self._client[0]):
            return True
        self.stranger = plain_host(address[0])
        return False

    @property
    def packet_bytes(self) -> int | None:
        return self._packet_bytes

    def prepare(self, sock: socket.socket) -> None:
        self._prepare(sock)

    async def connection(self) -> socket.socket:
        return await self._arrivals.get()

    def shared(self, open: Callable[[SocketAddress], T]) -> T:
        return self._shared.get(open, self._local)

    def own_udp(self, open: Callable[[socket.socket], T]) -> T:
        return self._shared.get(open, self._shared.own_udp(self._transport))
