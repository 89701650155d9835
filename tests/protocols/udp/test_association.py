"""The handshake of a UDP stream: repeated calls, one answer for each call, and datagrams that are ignored."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.contract import Channel, SocketAddress, Stream
from iperfpy.protocols.datagrams.address_proof import PROOF_BYTES
from iperfpy.protocols.datagrams.server_port import SharedPort
from iperfpy.protocols.errors import StreamPeerError
from iperfpy.protocols.kcp.wire import HEADER_BYTES
from iperfpy.protocols.registry import transport
from iperfpy.protocols.testing.loopback import LoopbackClient, LoopbackServer, until
from iperfpy.protocols.udp import UdpSettings, association
from iperfpy.protocols.udp.echo import ECHO_BYTES

pytestmark = pytest.mark.live

BLOCK_BYTES = 600
UDP = transport("udp")
DEFAULT = UdpSettings()


class LossyPath(asyncio.DatagramProtocol):
    """A path with a NAT: datagrams from inside leave from its own port.

    Datagrams from outside go to the last sender inside, and are dropped if there is none.
    `drop(from_inside, data)` is True for datagrams that the path loses.
    """

    def __init__(self, server: SocketAddress, drop: Callable[[bool, bytes], bool]) -> None:
        self._server, self._drop = server, drop
        self._inside: asyncio.DatagramTransport | None = None
        self._outside: asyncio.DatagramTransport | None = None
        self._client: SocketAddress | None = None
        self.carried: list[tuple[bool, bytes]] = []

    async def open(self) -> SocketAddress:
        """Address at which the client reaches the path."""
        loop = asyncio.get_running_loop()
        self._inside, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(self._server[0], 0), family=socket.AF_INET
        )
        self._outside, _ = await loop.create_datagram_endpoint(
            lambda: _Return(self._from_outside), remote_addr=self._server[:2], family=socket.AF_INET
        )
        address: SocketAddress = self._inside.get_extra_info("sockname")
        return address

    def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
        self._client = addr
        self.carried.append((True, data))
        if self._outside is not None and not self._drop(True, data):
            self._outside.sendto(data)

    def _from_outside(self, data: bytes) -> None:
        self.carried.append((False, data))
        if self._inside is not None and self._client is not None and not self._drop(False, data):
            self._inside.sendto(data, self._client)

    def close(self) -> None:
        for end in (self._inside, self._outside):
            if end is not None:
                end.close()


class _Return(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
        self._received(data)


class _BehindPath(LoopbackClient):
    """A client port that reaches its server over a path."""

    def __init__(self, server: LoopbackServer, remote: SocketAddress) -> None:
        super().__init__(server)
        self._remote = remote

    @property
    def remote(self) -> SocketAddress:
        return self._remote


class Blocks:
    """A payload of `total` datagrams, one every `pause_us`."""

    may_block = False

    def __init__(self, total: int, pause_us: int) -> None:
        self._left, self._pause_us = total, pause_us
        self._next_us: int | None = None

    def wait_us(self, now_us: int) -> int:
        self._next_us = self._next_us or now_us
        if not self._left:
            return -1
        return max(0, self._next_us - now_us)

    def take(self) -> memoryview:
        assert self._next_us is not None
        self._left -= 1
        self._next_us += self._pause_us
        return memoryview(bytes(BLOCK_BYTES))


async def open_stream(
    server: LoopbackServer,
    remote: SocketAddress,
    *,
    server_sends: bool,
    settings: UdpSettings = DEFAULT,
    stock: bool = False,
) -> tuple[Channel, Channel]:
    """Open one stream, and return the channels of client and server."""
    conv = 0 if stock else 1 + secrets.randbelow(2**32 - 1)
    there = Stream(1, 0, conv, sends=server_sends, block_bytes=BLOCK_BYTES)
    here = Stream(1, 0, conv, sends=not server_sends, block_bytes=BLOCK_BYTES)
    accepting = asyncio.create_task(UDP.accept(there, settings, server))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        client = await UDP.connect(here, settings, _BehindPath(server, remote))
        return client, await accepting


async def wait_received(receiver: Channel, datagrams: int) -> None:
    """Wait until this number of datagrams has been received."""
    await until(lambda: int(receiver.counters()["datagrams_received"] or 0) >= datagrams)


@pytest.fixture
async def server() -> AsyncIterator[LoopbackServer]:
    with LoopbackServer() as opened:
        yield opened


def drop_first(count: int, *, inside: bool) -> Callable[[bool, bytes], bool]:
    """Return a function that drops the first `count` datagrams of one direction."""
    left = [count]

    def drop(from_inside: bool, data: bytes) -> bool:
        if from_inside is not inside or not left[0]:
            return False
        left[0] -= 1
        return True

    return drop


@pytest.mark.parametrize("server_sends", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("inside", [True, False], ids=["calls", "answers"])
async def test_lost_first_datagrams_are_repeated(
    server: LoopbackServer, server_sends: bool, inside: bool
) -> None:
    """In reverse too, although a NAT admits nothing before the client has sent something."""
    path = LossyPath(server.local, drop_first(2, inside=inside))
    client, accepted = await open_stream(server, await path.open(), server_sends=server_sends)
    sender, receiver = (accepted, client) if server_sends else (client, accepted)
    try:
        async with asyncio.timeout(10):
            await sender.send(Blocks(100, 1000))
            await wait_received(receiver, 100)
        assert receiver.counters()["bytes"] == 100 * BLOCK_BYTES
        assert receiver.counters()["lost_datagrams"] == 0
        rtt_us = sender.counters()["rtt_us"]
        assert isinstance(rtt_us, float)
        assert 0 < rtt_us < 2e6
        # Two calls, or their answers, were lost: the third one got through.
        calls = [data for from_inside, data in path.carried if from_inside and len(data) == 4]
        answers = [data for from_inside, data in path.carried if not from_inside and len(data) == 4]
        assert len(calls) == 3
        assert set(answers) == {calls[0]}
        assert len(answers) <= len(calls)
    finally:
        await client.close()
        await accepted.close()
        path.close()


async def test_a_lost_answer_changes_no_figure(server: LoopbackServer) -> None:
    """In reverse data may arrive before the answer; the repeated call changes no figure."""
    path = LossyPath(server.local, lambda from_inside, data: not from_inside and len(data) == 4)
    # Every answer is lost, so that the client connects by the data alone.
    remote = await path.open()
    conv = 77
    there = Stream(1, 0, conv, sends=True, block_bytes=BLOCK_BYTES)
    accepting = asyncio.create_task(UDP.accept(there, UdpSettings(), server))
    await asyncio.sleep(0)
    here = Stream(1, 0, conv, sends=False, block_bytes=BLOCK_BYTES)
    connecting = asyncio.create_task(UDP.connect(here, UdpSettings(), _BehindPath(server, remote)))
    async with asyncio.timeout(10):
        accepted = await accepting
        await accepted.send(Blocks(100, 1000))
        client = await connecting
        await wait_received(client, 100)
    assert client.counters()["lost_datagrams"] == 0
    assert client.counters()["duplicate_datagrams"] == 0
    await client.close()
    await accepted.close()
    path.close()


@pytest.mark.parametrize("server_sends", [False, True], ids=["forward", "reverse"])
async def test_no_probe_is_sent_with_no_rtt(server: LoopbackServer, server_sends: bool) -> None:
    path = LossyPath(server.local, lambda from_inside, data: False)
    client, accepted = await open_stream(
        server, await path.open(), server_sends=server_sends, settings=UdpSettings(no_rtt=True)
    )
    sender = accepted if server_sends else client
    async with asyncio.timeout(10):
        await sender.send(Blocks(150, 1000))
    assert sender.counters()["rtt_us"] is None
    assert {len(data) for _, data in path.carried} == {4, BLOCK_BYTES}
    await client.close()
    await accepted.close()
    path.close()


async def test_a_stock_peer_is_never_probed(server: LoopbackServer) -> None:
    path = LossyPath(server.local, lambda from_inside, data: False)
    client, accepted = await open_stream(server, await path.open(), server_sends=True, stock=True)
    async with asyncio.timeout(10):
        await accepted.send(Blocks(150, 1000))
    assert accepted.counters()["rtt_us"] is None
    assert {len(data) for _, data in path.carried} == {4, BLOCK_BYTES}
    await client.close()
    await accepted.close()
    path.close()


async def test_duplicates_made_by_the_path_are_counted(server: LoopbackServer) -> None:
    class Doubling(LossyPath):
        def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
            super().datagram_received(data, addr)
            if len(data) == BLOCK_BYTES:
                super().datagram_received(data, addr)

    path = Doubling(server.local, lambda from_inside, data: False)
    client, accepted = await open_stream(server, await path.open(), server_sends=False)
    async with asyncio.timeout(10):
        await client.send(Blocks(100, 500))
        await wait_received(accepted, 200)
    record = accepted.counters()
    assert (record["duplicate_datagrams"], record["lost_datagrams"], record["late_datagrams"]) == (100, 0, 0)
    await client.close()
    await accepted.close()
    path.close()


@pytest.mark.parametrize("pause_us", [0, 2_000])
async def test_refusals_by_a_closed_receiver_are_counted_and_end_nothing(
    server: LoopbackServer, pause_us: int
) -> None:
    """Either of the sender's two threads may meet the error."""
    client, accepted = await open_stream(server, server.local, server_sends=False)
    await accepted.close()
    server.shared(SharedPort.open).close()
    async with asyncio.timeout(10):
        await client.send(Blocks(200, pause_us))
    assert client.counters()["datagrams_sent"] == 200
    assert "was reported to have closed its UDP port (ICMP port unreachable)" in client.signs(0)
    assert client.warnings() == ()  # they have just begun: the peer may have ended the test
    await client.close()


async def test_a_closed_port_is_an_error() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as free, socket.socket(type=socket.SOCK_DGRAM) as caller:
        free.bind(("127.0.0.1", 0))
        caller.connect(free.getsockname())
        free.close()
        caller.setblocking(False)
        async with asyncio.timeout(10):
            with pytest.raises(
                StreamPeerError, match=r"127\.0\.0\.1 port \d+ refuses UDP datagrams: nothing"
            ):
                await association.call(caller, 5)


@pytest.mark.parametrize(
    ("length", "opens"), [(0, True), (1, True), (4, True), (8, True), (PROOF_BYTES, False), (1400, False)]
)
def test_a_stock_stream_is_opened_by_a_short_datagram(length: int, opens: bool) -> None:
    assert association.is_stock_call(bytes(length)) is opens


def test_no_other_stream_begins_like_a_stock_stream() -> None:
    others = (PROOF_BYTES, ECHO_BYTES, UdpSettings().header_bytes, HEADER_BYTES)
    assert not any(association.is_stock_call(bytes(shortest)) for shortest in others)


@given(st.binary(max_size=30), st.binary(min_size=4, max_size=4))
def test_only_a_repeated_call_is_answered_again(datagram: bytes, call: bytes) -> None:
    """The answer equals the call."""
    asker, answerer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with asker, answerer:
        asker.setblocking(False)
        for message, answers in ((datagram, datagram == call), (call, True)):
            association.answer_again(answerer, message, call)
            association.answer_again(answerer, message, b"")
            try:
                assert asker.recv(100) == message
                assert answers
            except BlockingIOError:
                assert not answers
            with pytest.raises(BlockingIOError):
                asker.recv(100)


async def test_other_short_datagrams_are_not_taken_for_an_answer() -> None:
    """Short datagrams other than the answer are discarded."""
    received: list[bytes] = []

    # The answer comes only after the third call, each time behind other datagrams.
    class Server(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
            received.append(data)
            for garbage in (b"", b"\0", b"abc", b"nope", bytes(4)):
                opened.sendto(garbage, addr)
            if len(received) == 3:
                opened.sendto(data, addr)

    loop = asyncio.get_running_loop()
    opened, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    with socket.socket(type=socket.SOCK_DGRAM) as caller:
        caller.connect(opened.get_extra_info("sockname"))
        caller.setblocking(False)
        async with asyncio.timeout(10):
            await association.call(caller, 0x01020304)
    opened.close()
    assert received == [bytes.fromhex("04030201")] * 3
