"""Challenges and proofs at the server's port and on the client's path, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from iperfpy.protocols.contract import SocketAddress, Stream
from iperfpy.protocols.datagrams.address_proof import (
    PROOF_BYTES,
    Prover,
    Verifier,
)
from iperfpy.protocols.datagrams.peer_path import BATCHES_PER_WAKE, ConnectedPath, open_path
from iperfpy.protocols.datagrams.server_port import ClientEnd, SharedPort
from iperfpy.protocols.datagrams.server_session import ServerSession
from iperfpy.protocols.errors import StreamPeerError
from iperfpy.protocols.testing.loopback import LoopbackClient, LoopbackServer, until
from tests.protocols.datagrams.openings import CONV, HERE, OPENING, TAG
from tests.protocols.kcp.ends import batch

pytestmark = pytest.mark.live

PROVES, DOES_NOT = ClientEnd("127.0.0.1", proves=True), ClientEnd("127.0.0.1")


@pytest.fixture
async def shared() -> AsyncIterator[SharedPort]:
    opened = SharedPort.open(("0.0.0.0", 0))
    yield opened
    opened.close()


class Sender:
    """A plain socket of a client or of somebody else, at a loopback address."""

    def __init__(self, shared: SharedPort, host: str = "127.0.0.1") -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((host, 0))
        self.sock.connect(("127.0.0.1", shared.local_address[1]))
        self.address: SocketAddress = self.sock.getsockname()

    async def ask(self, *datagrams: bytes, expected: int = 0) -> list[bytes]:
        """Send datagrams, and return those that come back within a moment, or until `expected` have come."""
        for datagram in datagrams:
            self.sock.send(datagram)
        answers: list[bytes] = []
        for _ in range(200):
            await asyncio.sleep(0.05)
            with contextlib.suppress(BlockingIOError):
                while True:
                    answers.append(self.sock.recv(65_536))
            if len(answers) >= expected:
                break
        return answers

    async def prove(self) -> None:
        (challenge,) = await self.ask(OPENING, expected=1)
        assert await self.ask(Prover(CONV).answer(challenge)) == []


@pytest.fixture
async def senders(shared: SharedPort) -> AsyncIterator[list[Sender]]:
    opened = [Sender(shared), Sender(shared), Sender(shared, "127.0.0.2")]
    yield opened
    for sender in opened:
        sender.sock.close()


async def test_a_stream_opens_by_its_proof_from_any_host(shared: SharedPort, senders: list[Sender]) -> None:
    future = shared.expect(CONV, PROVES)
    await senders[2].prove()
    session = future.result()
    assert session.remote_address == senders[2].address
    session.send(batch(b"data"))
    assert await senders[2].ask(expected=1) == [b"data"]


async def test_without_a_proof_a_stream_does_not_open(shared: SharedPort, senders: list[Sender]) -> None:
    future = shared.expect(CONV, PROVES)
    (challenge,) = await senders[0].ask(OPENING, expected=1)
    assert len(challenge) == PROOF_BYTES
    wrong = challenge[:-1] + bytes([challenge[-1] ^ 1])
    assert await senders[0].ask(wrong) == [challenge]
    # The cookie of one address does not prove another.
    assert challenge not in await senders[1].ask(challenge)
    assert not future.done()


@pytest.mark.linux
@pytest.mark.parametrize(
    ("server", "called"),
    [
        ("0.0.0.0", "127.0.0.3"),
        ("::", "127.0.0.3"),
        ("::", "::1"),
        ("127.0.0.3", "127.0.0.3"),
        ("::1", "::1"),
    ],
)
async def test_challenges_and_data_leave_from_the_address_that_the_client_called(
    server: str, called: str
) -> None:
    """A client's socket is connected, and takes nothing from another address of the server."""
    shared = SharedPort.open((server, 0, 0, 0) if ":" in server else (server, 0))
    port = shared.local_address[1]
    path = ConnectedPath.open((called, port, 0, 0) if ":" in called else (called, port))
    future = shared.expect(CONV, PROVES)
    async with asyncio.timeout(10):
        await path.prove(CONV)
        session = await future
        received: list[bytes] = []
        path.set_receiver(lambda batch: received.extend(bytes(each) for each in batch), lambda: None)
        session.send(batch(b"data"))
        await until(lambda: bool(received))
    path.close()
    shared.close()


@pytest.mark.parametrize("known", ["announced", "open"])
async def test_an_unproven_address_gets_at_most_the_bytes_that_it_sent(
    shared: SharedPort, senders: list[Sender], known: str
) -> None:
    shared.expect(CONV, PROVES)
    if known == "open":
        await senders[0].prove()
    stranger = senders[2]
    for datagram in (b"", TAG, TAG + b"12345", OPENING, struct.pack("<I", CONV) + bytes(1396), b"x" * 100):
        for count in (1, 20):
            answers = await stranger.ask(*[datagram] * count)
            assert sum(map(len, answers)) <= count * len(datagram)


async def test_a_client_without_proofs_opens_from_the_host_of_its_control_connection_only(
    shared: SharedPort, senders: list[Sender]
) -> None:
    refused: list[SocketAddress] = []
    future = shared.expect(CONV, ClientEnd("127.0.0.1", proves=False, refused=refused.append))
    by_first = shared.expect_from(ClientEnd("127.0.0.1", refused=refused.append), b"9876".__eq__)
    assert await senders[2].ask(struct.pack("<I", CONV), b"9876", OPENING) == []
    assert not future.done()
    assert not by_first.done()
    assert refused == [senders[2].address] * 2
    await senders[0].ask(struct.pack("<I", CONV))
    assert future.done()
    await senders[1].ask(b"9876")
    assert by_first.done()


async def test_a_session_moves_with_its_socket_when_a_new_address_is_proven(
    shared: SharedPort, senders: list[Sender]
) -> None:
    future = shared.expect(CONV, PROVES)
    await senders[0].prove()
    session = future.result()
    descriptor = session.fileno()
    received: list[bytes] = []
    session.set_receiver(lambda batch: received.extend(bytes(each) for each in batch), lambda: None)
    data = struct.pack("<I", CONV) + bytes(20)
    (challenge,) = await senders[1].ask(data, expected=1)
    assert received == []  # not even data is taken from an address that is not proven
    session.send(batch(b"one"))
    assert await senders[0].ask(expected=1) == [b"one"]
    await senders[1].ask(challenge)
    session.send(batch(b"two"))
    assert await senders[1].ask(data) == [b"two"]
    assert await senders[0].ask() == []
    assert received == [data]
    assert (session.remote_address, session.fileno()) == (senders[1].address, descriptor)
    # An opening from the session's own address asks for nothing.
    assert await senders[1].ask(OPENING) == []
    assert received == [data]


@pytest.mark.parametrize("moves", [False, True])
async def test_an_opaque_session_gets_all_datagrams_of_its_proven_address(
    shared: SharedPort, senders: list[Sender], moves: bool
) -> None:
    """They are encrypted, say: no four bytes of them name the stream, and neither do those of other sizes."""
    future = shared.expect(CONV, PROVES, opaque=True)
    opaque = [bytes([value]) * length for value, length in ((7, 24), (8, 1400), (9, 11), (0xF1, 36))]
    assert await senders[0].ask(*opaque) == []
    assert not future.done()
    await senders[0].prove()
    session, received = future.result(), list[bytes]()
    session.set_receiver(lambda batch: received.extend(bytes(each) for each in batch), lambda: None)
    sender = senders[0]
    if moves:
        sender = senders[1]
        assert await sender.ask(*opaque) == []  # nothing leaves for an address that is not proven
        assert received == []
        await sender.prove()
    assert await sender.ask(*opaque, OPENING, *opaque) == []
    assert received == opaque * 2
    session.send(batch(b"data"))
    assert await sender.ask(expected=1) == [b"data"]


async def test_two_opaque_sessions_of_one_address_cannot_be_told_apart(
    shared: SharedPort, senders: list[Sender]
) -> None:
    other = CONV + 1
    first = shared.expect(CONV, PROVES, opaque=True)
    second = shared.expect(other, PROVES, opaque=True)
    plain = shared.expect(CONV + 2, PROVES)
    await senders[0].prove()
    first.result().set_receiver(lambda batch: None, lambda: None)
    for conv, future in ((other, second), (CONV + 2, plain)):
        (challenge,) = await senders[0].ask(Prover(conv).opening, expected=1)
        await senders[0].ask(challenge)
        with pytest.raises(StreamPeerError, match="two streams from its UDP port"):
            future.result()
    assert not first.result()._closed


def test_an_opaque_session_needs_a_client_that_proves_its_address() -> None:
    async def expect() -> None:
        port = SharedPort.open(("127.0.0.1", 0))
        try:
            port.expect(CONV, DOES_NOT, opaque=True)
        finally:
            port.close()

    with pytest.raises(StreamPeerError, match="does not prove its UDP address"):
        asyncio.run(expect())


async def test_a_session_of_a_client_without_proofs_does_not_move(
    shared: SharedPort, senders: list[Sender]
) -> None:
    future = shared.expect(CONV, DOES_NOT)
    await senders[0].ask(struct.pack("<I", CONV))
    assert await senders[1].ask(struct.pack("<I", CONV) + bytes(20), OPENING) == []
    assert future.result().remote_address == senders[0].address


@pytest.mark.linux
async def test_strangers_cost_a_server_with_running_tests_a_bounded_number_of_reads(
    shared: SharedPort, senders: list[Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iperfpy.protocols.datagrams.idle_reads.IDLE_S", 3600.0)
    monkeypatch.setattr("iperfpy.protocols.datagrams.idle_reads.IDLE_BATCHES", 16)
    shared.expect(CONV, PROVES)
    await senders[0].prove()
    shared.dropped = 0
    for _ in range(4):
        for _ in range(40):
            senders[2].sock.send(b"junk")
        await asyncio.sleep(0.02)
    assert 8 <= shared.dropped <= 16 + BATCHES_PER_WAKE
    # A test that is announced is waited for nevertheless.
    shared.expect(CONV + 1, DOES_NOT)
    await senders[1].ask(struct.pack("<I", CONV + 1))
    async with asyncio.timeout(10):
        while CONV + 1 not in shared._sessions:  # noqa: ASYNC110 - the port has no event for it
            await asyncio.sleep(0.01)


async def test_a_client_that_moves_is_read_without_that_limit(
    shared: SharedPort, senders: list[Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data comes to the port until it has proven its new address, without a conv in UDP."""
    monkeypatch.setattr("iperfpy.protocols.datagrams.idle_reads.IDLE_S", 3600.0)
    monkeypatch.setattr("iperfpy.protocols.datagrams.idle_reads.IDLE_BATCHES", 16)
    future = shared.expect(CONV, PROVES)
    await senders[0].prove()
    for _ in range(4):
        await senders[1].ask(*[b"data of iperf3's form"] * 40)
    (challenge,) = await senders[1].ask(OPENING, expected=1)
    await senders[1].ask(challenge)
    assert future.result().remote_address == senders[1].address


async def test_the_port_is_not_read_when_the_last_session_has_ended(
    shared: SharedPort, senders: list[Sender]
) -> None:
    future = shared.expect(CONV, PROVES)
    await senders[0].prove()
    future.result().close()
    await senders[0].ask()  # wake-ups in which the announced session's first datagrams were awaited
    shared.dropped = 0
    await senders[2].ask(*[b"junk"] * 10)
    assert shared.dropped == 0


# ---------------------------------------------------------------------- the client's path


async def test_a_path_proves_its_address_and_passes_on_only_the_transports_datagrams() -> None:
    stream = Stream(1, 0, CONV, sends=False, proves=True)
    with LoopbackServer() as server:
        future = server.shared(SharedPort.open).expect(CONV, PROVES)
        path = await open_path(stream, LoopbackClient(server))
        session = await future
        received: list[bytes] = []
        path.set_receiver(lambda batch: received.extend(bytes(each) for each in batch), lambda: None)
        for datagram in (b"a" * 30, Verifier(CONV).challenge(HERE), OPENING, b"b" * 30):
            session.send(batch(datagram))
        session.send(batch(b"c" * 30, b"c" * 30, Verifier(CONV).challenge(HERE)))
        async with asyncio.timeout(5):
            await until(lambda: len(received) >= 4)
        assert received == [b"a" * 30, b"b" * 30, b"c" * 30, b"c" * 30]
        path.close()


async def test_openings_that_are_refused_are_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        remote = free.getsockname()
    path = ConnectedPath.open(remote)
    async with asyncio.timeout(10):
        with pytest.raises(StreamPeerError, match=r"127\.0\.0\.1 port \d+ refuses UDP datagrams"):
            await path.prove(CONV)
    path.close()


async def test_a_session_waits_for_its_receiver_after_a_proof(
    shared: SharedPort, senders: list[Sender]
) -> None:
    """Datagrams right behind the proof are kept, as behind any first datagram."""
    future: asyncio.Future[ServerSession] = shared.expect(CONV, PROVES)
    (challenge,) = await senders[0].ask(OPENING, expected=1)
    data = struct.pack("<I", CONV) + bytes(20)
    await senders[0].ask(challenge, data)
    received: list[bytes] = []
    future.result().set_receiver(lambda batch: received.extend(bytes(each) for each in batch), lambda: None)
    async with asyncio.timeout(5):
        await until(lambda: bool(received))
    assert received == [data]
