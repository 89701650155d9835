"""A client with a forged source address, to count the server's answers to it.

client --> Forger --> the transport's own UDP port        its source address is the forger's
           Forger <-- the transport's own UDP port        counted, and not passed on: a victim does not answer
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from iperfpy.protocols.contract import Channel, SocketAddress, Stream, Transport
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.settings import Settings
from iperfpy.protocols.testing.loopback import LoopbackClient, LoopbackServer, promptly

ELSEWHERE = "192.0.2.1"
"""The host of the control connection (TEST-NET-1, RFC 5737): no datagram comes from there."""
LISTEN_S = 0.3
"""Time for answers after the first datagram of the client."""
CONV = 0x5EED_5EED


class _Forger:
    """Passes datagrams of the client on from an address of its own, and counts what comes back to it."""

    def __init__(self) -> None:
        self.sent = self.received = 0
        self.opened = asyncio.Event()
        self._out: asyncio.DatagramTransport | None = None

    async def open(self, host: str, server: SocketAddress) -> tuple[SocketAddress, asyncio.DatagramTransport]:
        """Start. Returns the address for the client, and its transport, to be closed."""
        loop = asyncio.get_running_loop()
        self._out, _ = await loop.create_datagram_endpoint(
            lambda: _Receiver(self._count), remote_addr=server[:2]
        )
        inside, _ = await loop.create_datagram_endpoint(
            lambda: _Receiver(self._pass_on), local_addr=(host, 0)
        )
        return inside.get_extra_info("sockname"), inside

    def _pass_on(self, datagram: bytes) -> None:
        if self._out is not None:
            self.sent += len(datagram)
            self._out.sendto(datagram)
            self.opened.set()

    def _count(self, datagram: bytes) -> None:
        self.received += len(datagram)

    def close(self) -> None:
        """Pass nothing on any more."""
        if self._out is not None:
            self._out.close()


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, receive: Any) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
        self._receive(data)


class _Deceived(LoopbackClient):
    """A client port that leads to the forger in place of the server."""

    def __init__(self, server: LoopbackServer, remote_udp: SocketAddress) -> None:
        super().__init__(server)
        self._remote_udp = remote_udp

    @property
    def remote_udp(self) -> SocketAddress:
        return self._remote_udp


class _Endless:
    """A load of blocks without end, one per millisecond."""

    may_block = False

    def __init__(self, block_bytes: int) -> None:
        self._block = memoryview(bytes(block_bytes))
        self._due_us = 0

    def wait_us(self, now_us: int) -> int:
        wait_us = max(0, self._due_us - now_us)
        if not wait_us:
            self._due_us = now_us + 1000
        return wait_us

    def take(self) -> memoryview:
        return self._block


async def forged_opening(
    transport: Transport, settings: Settings, host: str, deadline_s: float, prompt_s: float
) -> tuple[int, int]:
    """Let a client open a stream on which the server sends, from an address that is not proven.

    Returns
    -------
    (bytes that the client sent, bytes that the server sent to that address)
    """
    with LoopbackServer(host, client_host=ELSEWHERE) as server:
        forger = _Forger()
        address, inside = await forger.open(host, server.own_udp_address)
        try:
            async with asyncio.timeout(deadline_s):
                await _open_and_send(
                    transport, settings, server, _Deceived(server, address), forger, prompt_s
                )
        finally:
            inside.close()
            forger.close()
    return forger.sent, forger.received


async def _open_and_send(
    transport: Transport,
    settings: Settings,
    server: LoopbackServer,
    client: LoopbackClient,
    forger: _Forger,
    prompt_s: float,
) -> None:
    """Run both ends for `LISTEN_S` after the first datagram, then close them."""

    async def serve() -> Channel:
        channel = await transport.accept(Stream(1, 0, CONV, sends=True), settings, server)
        block_bytes = max(transport.block_limits[0], min(1000, transport.block_limits[1]))
        sending.append(asyncio.ensure_future(channel.send(_Endless(block_bytes))))
        return channel

    sending: list[asyncio.Future[None]] = []
    opening = transport.connect(Stream(1, 0, CONV, sends=False), settings, client)
    tasks = [asyncio.ensure_future(serve()), asyncio.ensure_future(opening)]
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(forger.opened.wait(), prompt_s)
        await asyncio.sleep(LISTEN_S)
    finally:
        for task in tasks:
            task.cancel()
        for each in sending:
            each.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*sending, return_exceptions=True)
        for end in ends:
            if isinstance(end, Channel):
                await promptly(end.close(), "close() of a stream without an answer", prompt_s)
    for end in ends:
        # A transport may refuse the stream; another error is its fault.
        if isinstance(end, Exception) and not isinstance(end, TransportError):
            raise end
