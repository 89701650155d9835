"""A relay inside the process for a test's control connection and its datagrams, some of which it drops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from iperfpy.protocols.contract import SocketAddress
from tests.interop.free_port import free_port
from tests.iperfpy.support import Relay

SHORTEST_DATA_BYTES = 100
"""Shorter datagrams are calls and echoes, which pass."""

Drops = Callable[[int], bool]
"""Called with the number of data datagrams of a stream's direction before this one; True: it is lost."""


class DatagramRelay(Relay):
    """Carries a test's control connection, and its datagrams except those that are dropped."""

    def __init__(self, server_port: int, to_server: Drops, to_client: Drops) -> None:
        super().__init__(server_port)
        self._drops = {True: to_server, False: to_client}
        self._near = socket.socket(type=socket.SOCK_DGRAM)
        self._far: dict[SocketAddress, socket.socket] = {}
        self._counts: dict[tuple[SocketAddress, bool], int] = {}

    async def listen(self) -> asyncio.Server:
        """Listen on TCP and UDP ports of the same number; the caller closes the server, and calls `close`."""
        self.port = free_port()
        self._near.setblocking(False)
        self._near.bind(("127.0.0.1", self.port))
        asyncio.get_running_loop().add_reader(self._near, self._from_clients)
        return await asyncio.start_server(self.handle, "127.0.0.1", self.port)

    def close(self) -> None:
        for sock in (self._near, *self._far.values()):
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    def _from_clients(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, client = self._near.recvfrom(65536)
                far = self._far_of(client)
                if not self._is_lost(client, data, forward=True):
                    far.send(data)

    def _far_of(self, client: SocketAddress) -> socket.socket:
        """The socket that stands for this client's at the server."""
        if client not in self._far:
            far = self._far[client] = socket.socket(type=socket.SOCK_DGRAM)
            far.setblocking(False)
            far.connect(("127.0.0.1", self._server_port))
            asyncio.get_running_loop().add_reader(far, lambda: self._from_server(far, client))
        return self._far[client]

    def _from_server(self, far: socket.socket, client: SocketAddress) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                data = far.recv(65536)
                if not self._is_lost(client, data, forward=False):
                    self._near.sendto(data, client)

    def _is_lost(self, client: SocketAddress, data: bytes, *, forward: bool) -> bool:
        if len(data) < SHORTEST_DATA_BYTES:
            return False
        before = self._counts.get((client, forward), 0)
        self._counts[client, forward] = before + 1
        return self._drops[forward](before)


def none(number: int) -> bool:
    """Lose nothing."""
    return False


@asynccontextmanager
async def relayed_datagrams(
    server_port: int, to_server: Drops = none, to_client: Drops = none
) -> AsyncIterator[int]:
    """A relay to the server; its port."""
    relay = DatagramRelay(server_port, to_server, to_client)
    listener = await relay.listen()
    try:
        yield relay.port
    finally:
        relay.cut()
        relay.close()
        listener.close()
