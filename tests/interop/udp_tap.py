"""Path between an iperf3 client and an iperf3 server that drops, reorders and delays datagrams by a fixed
pattern, and delivers the same datagrams to our receiver."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self

from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.path_events import PathEvents
from iperfpy.protocols.udp.reader import DatagramReader
from iperfpy.protocols.udp.reception import Reception, Tally
from tests.interop.free_port import free_port

LOST_EVERY, OVERTAKEN_EVERY, DELAYED_EVERY = 17, 23, 2
DELAY_S = 0.008
HEADER_BYTES = 12


class Tap:
    """Forwards TCP unchanged, and UDP by the pattern. Datagrams too short for a header always pass.

    Attributes
    ----------
    port : of 127.0.0.1, TCP and UDP, at which the client sees the server
    dropped, overtaken, delivered : datagrams, so far
    """

    def __init__(self, server_port: int) -> None:
        self.port = free_port()
        self.dropped = self.overtaken = self.delivered = 0
        self._server_port = server_port
        self._carried = 0
        self._held: bytes | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._outgoing: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._reception = Reception()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._listener = await asyncio.start_server(self._carry_tcp, "127.0.0.1", self.port)
        self._near = _udp(("127.0.0.1", self.port))
        self._far = _udp(None, ("127.0.0.1", self._server_port))
        self._ours = _udp(("127.0.0.1", 0))
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._show = _udp(None, self._ours.getsockname())
        self._inbox = DatagramReader(self._ours, self._reception, PathEvents(), wide=False)
        self._client: SocketAddress | None = None
        loop.add_reader(self._near, self._from_client)
        loop.add_reader(self._far, self._from_server)
        self._delivering = asyncio.create_task(self._deliver_in_time())
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._near)
        loop.remove_reader(self._far)
        self._listener.close()
        for task in (self._delivering, *self._tasks):
            task.cancel()
        for sock in (self._near, self._far, self._ours, self._show):
            sock.close()

    def tally(self) -> Tally:
        """Deliver the datagram to our receiver."""
        self._ours.settimeout(0.1)
        while self._reception.tally.datagrams < self.delivered:
            before = self._reception.tally.datagrams
            self._inbox.take()
            if self._reception.tally.datagrams == before:
                break
        return self._reception.tally

    def _from_client(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data, self._client = self._near.recvfrom(65536)
            if len(data) < HEADER_BYTES:
                self._far.send(data)
                return
            self._by_pattern(data)

    def _by_pattern(self, data: bytes) -> None:
        (number,) = struct.unpack_from(">I", data, 8)
        if number % LOST_EVERY == 5:
            self.dropped += 1
        elif number % OVERTAKEN_EVERY == 7 and self._held is None:
            self._held = data
        else:
            self._after_delay(data)
            if self._held is not None:
                held, self._held = self._held, None
                self.overtaken += 1
                self._after_delay(held)

    def _after_delay(self, data: bytes) -> None:
        """Delay every second datagram by `DELAY_S`, without reordering."""
        now = asyncio.get_running_loop().time()
        self._carried += 1
        self._outgoing.put_nowait((now + DELAY_S * (self._carried % DELAYED_EVERY), data))

    async def _deliver_in_time(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            when, data = await self._outgoing.get()
            await asyncio.sleep(max(0.0, when - loop.time()))
            self._far.send(data)
            self._show.send(data)
            self.delivered += 1

    def _from_server(self) -> None:
        with contextlib.suppress(OSError):
            data = self._far.recv(65536)
            if self._client is not None:
                self._near.sendto(data, self._client)

    async def _carry_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection("127.0.0.1", self._server_port)
        ways = [asyncio.create_task(_copy(reader, there)), asyncio.create_task(_copy(back, writer))]
        self._tasks.update(ways)
        await asyncio.gather(*ways, return_exceptions=True)


def _udp(local: SocketAddress | None, remote: SocketAddress | None = None) -> socket.socket:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setblocking(False)
    if local is not None:
        sock.bind(local)
    if remote is not None:
        sock.connect(remote)
    return sock


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
