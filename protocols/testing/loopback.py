"""The smallest program that can run a transport: what the battery offers in place of iperfpy."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from iperfpy.protocols.contract import SocketAddress, Stream

T = TypeVar("T")
COOKIE_BYTES = 37


class _Closable(Protocol):
    def close(self) -> None: ...


class LoopbackServer:
    """A `ServerPort` on a port of its own. Connections that present another cookie are closed."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._listener.setblocking(False)
        self._shared: dict[Any, _Closable] = {}
        self.cookie = secrets.token_hex(18).encode() + b"\0"

    @property
    def local(self) -> SocketAddress:
        address: SocketAddress = self._listener.getsockname()
        return address

    @property
    def client(self) -> SocketAddress:
        return self.local  # the clients of this server are on the same machine, at the same address

    def prepare(self, sock: socket.socket) -> None:
        """Nobody wants anything of it."""

    async def connection(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(self._listener)
            accepted.setblocking(False)
            cookie = b""
            while len(cookie) < COOKIE_BYTES:
                cookie += await loop.sock_recv(accepted, COOKIE_BYTES - len(cookie)) or b"\0" * COOKIE_BYTES
            if cookie == self.cookie:
                return accepted
            accepted.close()

    def shared(self, open: Callable[[SocketAddress], T]) -> T:
        if open not in self._shared:
            self._shared[open] = open(self.local)  # type: ignore[assignment]  # the contract: it can be closed
        return self._shared[open]  # type: ignore[return-value]  # what `open` of that key made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in self._shared.values():
            opened.close()
        self._listener.close()


class LoopbackClient:
    """A `ClientPort` towards a `LoopbackServer`."""

    def __init__(self, server: LoopbackServer, local_port: int = 0) -> None:
        self._server = server
        self._local_port = local_port

    @property
    def remote(self) -> SocketAddress:
        return self._server.local

    def local(self, stream: Stream) -> SocketAddress | None:
        host, _, *rest = self.remote
        return (host, self._local_port, *rest) if self._local_port else None

    def prepare(self, sock: socket.socket) -> None:
        """Nobody wants anything of it."""

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
                with suppress(AttributeError):
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(local)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(made, self.remote)
            await loop.sock_sendall(made, self._server.cookie)
        except BaseException:
            made.close()
            raise
        return made
