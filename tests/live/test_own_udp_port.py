"""A transport with its own UDP port, beside transports that share the server's port."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

import pytest

from iperfpy.control.parameters import decode_hello, encode_hello
from iperfpy.errors import PlanError, ProtocolError
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import (
    Channel,
    ClientPort,
    Load,
    ServerPort,
    SocketAddress,
    Stream,
    Transport,
)
from iperfpy.protocols.errors import StreamPathError
from iperfpy.protocols.metrics import Side, Value
from iperfpy.protocols.registry import transports
from iperfpy.protocols.settings import Settings
from iperfpy.protocols.socket_watch import SocketWatch
from iperfpy.protocols.testing import conformance
from iperfpy.protocols.testing.conformance import Subject
from iperfpy.protocols.testing.loopback import loopback_pair
from tests.iperfpy.support import measure, register, serving

pytestmark = pytest.mark.live

CONV_BYTES = 4
BLOCK_BYTES = 1000


class Demultiplexer:
    """The plug-in's port at the server.

    A datagram begins with the conv of its stream, big endian. The first one has no payload and opens it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.channels: dict[int, asyncio.Future[SocketAddress]] = {}
        self.received: dict[int, int] = {}
        self._watch = SocketWatch(sock.fileno())
        self._watch.read(self._read)

    @classmethod
    def open(cls, sock: socket.socket) -> Demultiplexer:
        return cls(sock)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while True:
                data, address = self.sock.recvfrom(65_536)
                conv = int.from_bytes(data[:CONV_BYTES], "big")
                self.received[conv] = self.received.get(conv, 0) + len(data) - CONV_BYTES
                future = self.channels.get(conv)
                if future is not None and not future.done():
                    future.set_result(address)

    def close(self) -> None:
        self._watch.close()


@dataclass(eq=False)
class PlainChannel(Channel):
    """Datagrams without sequence numbers or ACKs; the counter has the bytes sent or received."""

    sock: socket.socket
    conv: int
    remote: SocketAddress
    shared: Demultiplexer | None = None
    sent: int = 0
    counted: int = 0
    closed: bool = False

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def local_address(self) -> SocketAddress:
        address: SocketAddress = self.sock.getsockname()
        return address

    @property
    def remote_address(self) -> SocketAddress:
        return self.remote

    def counters(self) -> dict[str, Value]:
        received = self.shared.received.get(self.conv, 0) if self.shared else self.counted
        return {"bytes": self.sent or received}

    async def send(self, load: Load) -> None:
        while not self.closed:
            wait_us = load.wait_us(time.monotonic_ns() // 1000)
            if wait_us < 0:
                return
            if wait_us:
                await asyncio.sleep(wait_us / 1e6)
                continue
            block = load.take()
            with suppress(BlockingIOError):
                self.sock.sendto(self.conv.to_bytes(CONV_BYTES, "big") + block, self.remote)
                self.sent += len(block)

    async def receive(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.closed:
            if self.shared is not None:
                await asyncio.sleep(0.01)
                continue
            with suppress(TimeoutError):
                self.counted += len(await asyncio.wait_for(loop.sock_recv(self.sock, 65_536), 0.05)) - 4

    async def drain(self) -> None:
        return

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.counters()
            if self.shared is None:
                await asyncio.sleep(0.06)  # until `receive` no longer waits on the socket
                self.sock.close()


class Plain(Transport):
    name = "plain"
    summary = "example: datagrams on a port of its own"
    prefix = "plain"
    settings = Settings
    metrics = ()
    reliable = False
    datagrams = True
    own_udp_port = True
    block_limits = (1, 60_000)
    rate_bps = 8_000_000

    def block_bytes(self, settings: Settings) -> int:
        return BLOCK_BYTES

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        family = socket.AF_INET6 if ":" in port.remote_udp[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        port.prepare(sock)
        sock.connect(port.remote_udp)
        channel = PlainChannel(sock, stream.conv, port.remote_udp)
        sock.send(stream.conv.to_bytes(CONV_BYTES, "big"))
        return channel

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        shared = port.own_udp(Demultiplexer.open)
        future = shared.channels[stream.conv] = asyncio.get_running_loop().create_future()
        remote = await asyncio.wait_for(future, 5)
        if not port.proven(remote):
            raise StreamPathError(f"datagrams of the stream come from {remote[0]}, which is not proven")
        return PlainChannel(shared.sock, stream.conv, remote, shared)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Plain())


def plain(direction: Direction = Direction.FORWARD, **more: int) -> Plan:
    settings = {"duration_us": 400_000, "parallel": 2, **more}
    return Plan(
        "plain",
        Settings(),
        direction,
        block_bytes=BLOCK_BYTES,
        rate_bps=4_000_000,
        **settings,  # type: ignore[arg-type]
    )


def kcp() -> Plan:
    chosen = transports()["kcp"]
    return Plan("kcp", chosen.settings(), block_bytes=30_000, duration_us=400_000, rate_bps=20_000_000)


async def run_test(port: int, plan: Plan) -> int:
    """Run a test, and return the bytes that the receivers counted."""
    received = [row.of(Side.RECEIVER) for row in (await measure(port, plan)).end_rows]
    return sum(sample.bytes for sample in received if sample is not None)


async def test_tests_of_both_kinds_of_port_run_in_turn() -> None:
    async with serving() as server:
        for plan in (plain(), kcp(), plain(Direction.REVERSE), kcp(), plain()):
            assert await run_test(server.port, plan) > 50_000


async def test_tests_of_both_kinds_of_port_run_at_once() -> None:
    async with serving() as server:
        plans = (plain(), kcp(), plain(), kcp())
        assert min(await asyncio.gather(*(run_test(server.port, plan) for plan in plans))) > 50_000


async def test_the_greeting_has_udp_ports_only_if_a_transport_has_its_own() -> None:
    assert set(encode_hello(["tcp"], {})) == {"version", "transports", "features"}
    greeting = encode_hello(["plain"], {"plain": 4000})
    assert greeting["udp_ports"] == {"plain": 4000}
    assert decode_hello(greeting).udp_ports == {"plain": 4000}
    for ports in ([4000], {"plain": "4000"}, {"plain": 0}, {"plain": 65536}, {"plain": True}):
        with pytest.raises(ProtocolError, match="UDP ports"):
            decode_hello({**greeting, "udp_ports": ports})


async def test_a_server_that_cannot_open_the_port_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise StreamPathError("no more ports")

    monkeypatch.setattr("iperfpy.protocols.datagrams.datagram_socket.udp_socket", refuse)
    async with serving() as server:
        with pytest.raises(PlanError, match=r"the server 127\.0\.0\.1 has no UDP port for plain"):
            await measure(server.port, plain())


def test_the_kit_finds_a_transport_that_sends_to_an_unproven_address() -> None:
    class Careless(Plain):
        async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
            port.proven = lambda address: True  # type: ignore[method-assign]  # as if it had not asked
            return await super().accept(stream, settings, port)

    conformance.nothing_is_sent_to_an_address_that_is_not_proven(Subject(Plain(), Settings()))
    with pytest.raises(AssertionError, match=r"bytes went to an address that ServerPort\.proven\(\) refuses"):
        conformance.nothing_is_sent_to_an_address_that_is_not_proven(Subject(Careless(), Settings()))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_loopback_pair_opens_the_port(host: str) -> None:
    async with loopback_pair(Plain(), Settings(), host=host) as pair:
        await pair.carry(100_000)
