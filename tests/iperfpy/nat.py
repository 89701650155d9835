"""A NAT between client and server in one process: TCP is relayed, and UDP leaves from a port of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

from iperfpy.protocols.socket_watch import SocketWatch
from tests.iperfpy.support import scripted

READS_PER_WAKE = 64
ATTEMPTS = 5


class Nat:
    """The client connects to `port`, over TCP and UDP. Each UDP port inside gets one at `host` outside.

    Attributes
    ----------
    drop : True for datagrams that are lost; its arguments are (True if it comes from inside, datagram)
    mappings : outside ports that were used so far
    """

    def __init__(self, server_port: int, host: str = "127.0.0.1") -> None:
        self._server_port = server_port
        self._host = host
        self._inside: socket.socket | None = None
        self._outside: dict[tuple[str, int], socket.socket] = {}
        self._watches: dict[socket.socket, SocketWatch] = {}
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0
        self.drop: Callable[[bool, bytes], bool] = lambda inside, datagram: False
        self.mappings = 0

    def open(self, port: int) -> None:
        """Carry UDP to and from this port number."""
        self.port = port
        self._inside = self._socket("127.0.0.1", port, self._from_inside)

    def rebind(self, *, refuse: bool = False) -> None:
        """Forget all mappings: the next datagram of each client port leaves from a new one, and nothing comes
        in by an old one. `refuse`: datagrams to that are answered by ICMP."""
        for sock in self._outside.values():
            self._watches[sock].pause()
            if refuse:
                self._watches.pop(sock).close()
                sock.close()
        self._outside.clear()

    def close(self) -> None:
        """Close all sockets."""
        for writer in self._writers:
            writer.transport.abort()
        for sock, watch in self._watches.items():
            watch.close()
            sock.close()

    def _socket(self, host: str, port: int, read: Callable[[socket.socket], None]) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        try:
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
        self._watches[sock] = SocketWatch(sock.fileno())
        self._watches[sock].read(lambda: read(sock))
        return sock

    def _from_inside(self, inside: socket.socket) -> None:
        with suppress(BlockingIOError):
            for _ in range(READS_PER_WAKE):
                datagram, client = inside.recvfrom(65_536)
                if self.drop(True, datagram):
                    continue
                if client not in self._outside:
                    self.mappings += 1
                    read = partial(self._from_outside, client)
                    self._outside[client] = self._socket(self._host, 0, read)
                self._outside[client].sendto(datagram, ("127.0.0.1", self._server_port))

    def _from_outside(self, client: tuple[str, int], outside: socket.socket) -> None:
        assert self._inside is not None
        with suppress(BlockingIOError, ConnectionError):
            for _ in range(READS_PER_WAKE):
                datagram = outside.recv(65_536)
                if not self.drop(False, datagram):
                    self._inside.sendto(datagram, client)

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one TCP connection."""
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers += [writer, to_server]
        await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def behind_nat(server_port: int, host: str = "127.0.0.1") -> AsyncIterator[Nat]:
    """A NAT to the server; `host` is its address outside, for UDP."""
    nat = Nat(server_port, host)
    # A number that is free for TCP may be another program's for UDP.
    for attempt in range(ATTEMPTS):
        async with scripted(nat.relay) as port:
            try:
                nat.open(port)
            except OSError:
                assert attempt < ATTEMPTS - 1
                continue
            try:
                yield nat
            finally:
                nat.close()
            return
