"""What a transport may ask of this program: `ClientPort` and `ServerPort` on real sockets."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from iperfpy.control.framing import encode_cookie
from iperfpy.errors import system_reason
from iperfpy.protocols.contract import SocketAddress, Stream
from iperfpy.protocols.errors import PathError
from iperfpy.runtime.sockets import any_address, bind, is_ipv6, new_socket, with_port

T = TypeVar("T")


class NetworkClientPort:
    """One test at the client.

    Parameters
    ----------
    remote : SocketAddress
        The server, as the control connection reached it.
    cookie : str
        What each TCP data connection presents first.
    bind, client_port
        -B, resolved, port 0, or None; --cport, the first stream's local port, or 0.
    prepare
        What the user wants of every data socket, before it is bound.
    """

    def __init__(
        self,
        remote: SocketAddress,
        cookie: str,
        bind: SocketAddress | None = None,
        client_port: int = 0,
        prepare: Callable[[socket.socket], None] = lambda sock: None,
    ) -> None:
        self._remote = remote
        self._cookie = cookie
        self._bind = bind
        self._client_port = client_port
        self._prepare = prepare
        self._family = socket.AF_INET6 if is_ipv6(remote) else socket.AF_INET

    @property
    def remote(self) -> SocketAddress:
        return self._remote

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
        sock = new_socket(self._family, protocol)
        try:
            self.prepare(sock)
            if prepare is not None:
                prepare(sock)
            local = self.local(stream)
            if local is not None:
                bind(sock, local)
            await loop.sock_connect(sock, self._remote)
            await loop.sock_sendall(sock, encode_cookie(self._cookie))
        except OSError as error:
            sock.close()
            host, port = self._remote[:2]
            raise PathError(f"cannot connect to {host} port {port}: {system_reason(error)}") from error
        except BaseException:
            sock.close()
            raise
        return sock


class SharedListeners:
    """What transports opened once for all tests of a server.

    A listener is known by the function that opens it: its module and qualified name, so that a bound
    class method, or a function made anew for every test, is the same each time.
    """

    def __init__(self) -> None:
        self._opened: dict[str, Any] = {}

    def get(self, open: Callable[[SocketAddress], T], local: SocketAddress) -> T:
        """What `open(local)` made the first time."""
        key = f"{getattr(open, '__module__', '')}:{getattr(open, '__qualname__', repr(open))}"
        if key not in self._opened:
            self._opened[key] = open(local)
        opened: T = self._opened[key]
        return opened

    async def close(self) -> None:
        """Close them all."""
        while self._opened:
            _, opened = self._opened.popitem()
            closing = opened.close()
            if inspect.isawaitable(closing):
                await closing


class NetworkServerPort:
    """One test at the server: its share of what the listener accepts, and the shared listeners.

    Parameters
    ----------
    local, client : SocketAddress
        Where the server listens, and where the test's control connection comes from.
    """

    def __init__(
        self,
        local: SocketAddress,
        client: SocketAddress,
        arrivals: asyncio.Queue[socket.socket],
        shared: SharedListeners,
        prepare: Callable[[socket.socket], None] = lambda sock: None,
    ) -> None:
        self._prepare = prepare
        self._local = local
        self._client = client
        self._arrivals = arrivals
        self._shared = shared

    @property
    def local(self) -> SocketAddress:
        return self._local

    @property
    def client(self) -> SocketAddress:
        return self._client

    def prepare(self, sock: socket.socket) -> None:
        self._prepare(sock)

    async def connection(self) -> socket.socket:
        return await self._arrivals.get()

    def shared(self, open: Callable[[SocketAddress], T]) -> T:
        return self._shared.get(open, self._local)
