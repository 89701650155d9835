"""The server's port: datagrams reach their announced session, all others are dropped."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from iperfpy.protocols.contract import SocketAddress, Stream
from iperfpy.protocols.datagrams import idle_reads
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.peer_path import ConnectedPath, DatagramPath
from iperfpy.protocols.datagrams.server_port import ClientEnd, SharedPort, accept_path
from iperfpy.protocols.datagrams.server_session import ServerSession
from iperfpy.protocols.errors import StreamPathError, StreamPeerError, TransportError
from iperfpy.protocols.path_events import Sign
from iperfpy.protocols.testing.loopback import LoopbackServer

pytestmark = pytest.mark.live


@pytest.fixture(params=["IPv4", "IPv6", "both", "any"])
async def shared(request: pytest.FixtureRequest) -> AsyncIterator[SharedPort]:
    local: dict[str, SocketAddress] = {
        "IPv4": ("127.0.0.1", 0),
        "IPv6": ("::1", 0, 0, 0),
        "both": ("::", 0, 0, 0),
        "any": ("0.0.0.0", 0),
    }
    opened = SharedPort.open(local[request.param])
    yield opened
    opened.close()


@pytest.fixture
async def shared4() -> AsyncIterator[SharedPort]:
    opened = SharedPort.open(("127.0.0.1", 0))
    yield opened
    opened.close()


def address_of(shared: SharedPort) -> SocketAddress:
    host, port, *rest = shared.local_address
    return ({"::": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host), port, *rest)


def announce(shared: SharedPort, conv: int, *, proves: bool = False) -> asyncio.Future[ServerSession]:
    """Announce a session of a client that runs here."""
    return shared.expect(conv, ClientEnd(address_of(shared)[0], proves))


def datagrams(conv: int, *bodies: bytes) -> DatagramBatch:
    """Return a batch of datagrams of equal size that begin with `conv`."""
    packed = b"".join(struct.pack("<I", conv) + body for body in bodies)
    return DatagramBatch.of(np.frombuffer(packed, np.uint8), 4 + len(bodies[0]))


class Listener:
    """A receiver that keeps the datagrams of a path."""

    def __init__(self, path: DatagramPath) -> None:
        self.received: list[bytes] = []
        self.wakes = 0
        self._news = asyncio.Event()
        path.set_receiver(self._on_batch, self._on_drained)

    def _on_batch(self, batch: DatagramBatch) -> None:
        self.received += [bytes(datagram) for datagram in batch]

    def _on_drained(self) -> None:
        self.wakes += 1
        self._news.set()

    async def until(self, count: int) -> list[bytes]:
        async with asyncio.timeout(5):
            while len(self.received) < count:
                self._news.clear()
                await self._news.wait()
        return self.received


@contextlib.asynccontextmanager
async def path_to(shared: SharedPort, port: int = 0) -> AsyncIterator[ConnectedPath]:
    remote = address_of(shared)
    path = ConnectedPath.open(remote, (remote[0], port, *remote[2:]))
    try:
        yield path
    finally:
        path.close()


async def wait_for(future: asyncio.Future[ServerSession]) -> ServerSession:
    async with asyncio.timeout(5):
        return await future


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the shared counts; it has no event to wait for
            await asyncio.sleep(0.001)


@pytest.mark.linux
async def test_an_announced_session_receives_and_sends(shared: SharedPort) -> None:
    future = announce(shared, 0xDEADBEEF)
    async with path_to(shared) as client:
        client.send(datagrams(0xDEADBEEF, b"one", b"two"))
        server = await wait_for(future)
        # The first datagrams arrived before the session had a receiver.
        listener = Listener(server)
        assert await listener.until(2) == [b"\xef\xbe\xad\xdeone", b"\xef\xbe\xad\xdetwo"]
        assert server.remote_address[:2] == client.local_address[:2]
        assert server.local_address[:2] == client.remote_address[:2]
        assert server.fileno() >= 0
        client_listener = Listener(client)
        assert server.send(datagrams(0xDEADBEEF, b"back")) == 1
        assert await client_listener.until(1) == [b"\xef\xbe\xad\xdeback"]
        client.send(datagrams(0xDEADBEEF, b"six"))
        assert (await listener.until(3))[-1] == b"\xef\xbe\xad\xdesix"


async def test_datagrams_without_an_announcement_are_dropped_and_not_answered(shared4: SharedPort) -> None:
    announce(shared4, 1)
    async with path_to(shared4) as other:
        listener = Listener(other)
        other.send(datagrams(2, b"junk", b"junk", b"junk"))
        other.send(DatagramBatch.of(np.zeros(3, np.uint8), 3))
        await until(lambda: shared4.dropped == 4)
        await asyncio.sleep(0.05)
        assert listener.received == []
        other.check()  # not even by ICMP


async def test_the_port_is_not_read_while_no_session_is_announced(shared4: SharedPort) -> None:
    async with path_to(shared4) as other:
        other.send(datagrams(2, b"junk"))
        await asyncio.sleep(0.05)
        assert shared4.dropped == 0
        future = announce(shared4, 3)
        await until(lambda: shared4.dropped == 1)
        other.send(datagrams(3, b"mine"))
        assert await Listener(await wait_for(future)).until(1)


async def test_a_session_of_one_sender_cannot_be_joined_by_another(shared4: SharedPort) -> None:
    future = announce(shared4, 5)
    async with path_to(shared4) as client, path_to(shared4) as intruder:
        client.send(datagrams(5, b"hello"))
        listener = Listener(await wait_for(future))
        await listener.until(1)
        announce(shared4, 6)  # keeps the port read
        intruder.send(datagrams(5, b"enemy"))
        await until(lambda: shared4.dropped == 1)
        assert len(listener.received) == 1


async def test_a_port_used_again_gets_a_new_session(shared4: SharedPort) -> None:
    first = announce(shared4, 10)
    async with path_to(shared4) as client:
        client.send(datagrams(10, b"old"))
        old = Listener(await wait_for(first))
        await old.until(1)
        port = client.local_address[1]
    second = announce(shared4, 11)
    async with path_to(shared4, port) as client:
        client.send(datagrams(10, b"ghost"))
        client.send(datagrams(11, b"new"))
        new = Listener(await wait_for(second))
        assert await new.until(1) == [struct.pack("<I", 11) + b"new"]
        assert struct.pack("<I", 11) + b"new" not in old.received


async def test_a_late_datagram_of_a_closed_session_is_dropped(shared4: SharedPort) -> None:
    first = announce(shared4, 10)
    async with path_to(shared4) as client:
        client.send(datagrams(10, b"old"))
        session = await wait_for(first)
        session.close()
        second = announce(shared4, 11)
        client.send(datagrams(10, b"ghost"))
        client.send(datagrams(11, b"fresh"))
        listener = Listener(await wait_for(second))
        assert await listener.until(1) == [struct.pack("<I", 11) + b"fresh"]
        assert shared4.dropped == 1


async def test_two_sessions_of_one_port_are_kept_apart(shared4: SharedPort) -> None:
    first, second = announce(shared4, 20), announce(shared4, 21)
    async with path_to(shared4) as client:
        client.send(datagrams(20, b"a"))
        one = Listener(await wait_for(first))
        client.send(datagrams(21, b"b"))
        two = Listener(await wait_for(second))
        mixed = b"".join(struct.pack("<I", conv) + b"xyz" for conv in (20, 20, 21, 20, 21, 99))
        client.send(DatagramBatch.of(np.frombuffer(mixed, np.uint8), 7))
        assert await one.until(4) == [struct.pack("<I", 20) + b for b in (b"a", b"xyz", b"xyz", b"xyz")]
        assert await two.until(3) == [struct.pack("<I", 21) + b for b in (b"b", b"xyz", b"xyz")]
        assert shared4.dropped == 1


async def test_one_of_two_sessions_outlives_the_other(shared4: SharedPort) -> None:
    first, second = announce(shared4, 20), announce(shared4, 21)
    async with path_to(shared4) as client:
        client.send(datagrams(20, b"a"))
        client.send(datagrams(21, b"a"))
        one, two = await wait_for(first), await wait_for(second)
        listener = Listener(two)
        one.close()
        client.send(datagrams(21, b"b"))
        await listener.until(2)
        assert two.send(datagrams(21, b"c")) == 1


async def test_datagrams_before_the_receiver_are_kept_in_order(shared4: SharedPort) -> None:
    future = announce(shared4, 30)
    async with path_to(shared4) as client:
        for number in range(20):
            client.send(datagrams(30, bytes([number])))
        listener = Listener(await wait_for(future))
        assert listener.received == []  # never from wait_for set_receiver
        assert [datagram[4] for datagram in await listener.until(20)] == list(range(20))


async def test_datagrams_of_a_withdrawn_announcement_are_dropped(shared4: SharedPort) -> None:
    announce(shared4, 40).cancel()
    await asyncio.sleep(0)
    keeper = announce(shared4, 41)
    async with path_to(shared4) as client:
        client.send(datagrams(40, b"late"))
        await until(lambda: shared4.dropped == 1)
    assert not keeper.done()
    announce(shared4, 40)  # and may be announced again


STREAM = Stream(1, 0, 42, sends=False)


async def test_a_session_whose_waiter_is_cancelled_is_closed() -> None:
    with LoopbackServer() as server:
        shared = server.shared(SharedPort.open)
        waiting = asyncio.get_running_loop().create_task(accept_path(STREAM, server))
        await asyncio.sleep(0)
        async with path_to(shared) as client:
            client.send(datagrams(42, b"x"))
            # The datagram is read and the waiter cancelled in one turn of the loop.
            await until(lambda: bool(shared._sessions))
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await waiting).close()
            announce(shared, 42)


async def test_a_cancelled_accept_withdraws_the_announcement() -> None:
    with LoopbackServer() as server:
        waiting = asyncio.get_running_loop().create_task(accept_path(STREAM, server))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        announce(server.shared(SharedPort.open), 42)


# ---------------------------------------------------------------------- sessions without a conv


def opens(datagram: bytes) -> bool:
    return datagram.startswith(b"hello")


def plain_batch(*datagrams: bytes) -> DatagramBatch:
    return DatagramBatch.of(np.frombuffer(b"".join(datagrams), np.uint8), len(datagrams[0]))


async def test_a_session_without_a_conv_owns_all_datagrams_of_its_sender(shared4: SharedPort) -> None:
    future = shared4.expect_from(ClientEnd("127.0.0.1"), opens)
    async with path_to(shared4) as client:
        client.send(plain_batch(b"hello there"))
        client.send(plain_batch(b"a", b"b"))
        session = await wait_for(future)
        assert (session.conv, session.opening) == (-1, b"hell")
        listener = Listener(session)
        client.send(plain_batch(b"another one", b"another two", b"and 3"))
        expected = [b"hello there", b"a", b"b", b"another one", b"another two", b"and 3"]
        assert await listener.until(6) == expected
        client_listener = Listener(client)
        session.send(plain_batch(b"answer"))
        assert await client_listener.until(1) == [b"answer"]


async def test_sessions_with_and_without_a_conv_share_the_port(shared4: SharedPort) -> None:
    without, with_conv = shared4.expect_from(ClientEnd("127.0.0.1"), opens), announce(shared4, 7)
    async with path_to(shared4) as first, path_to(shared4) as second, path_to(shared4) as other:
        other.send(plain_batch(b"not the opening"))
        second.send(datagrams(7, b"kcp"))
        first.send(plain_batch(b"hello"))
        one, two = Listener(await wait_for(without)), Listener(await wait_for(with_conv))
        first.send(datagrams(7, b"looks like the other"))
        assert (await one.until(2))[1].endswith(b"looks like the other")
        assert await two.until(1) == [struct.pack("<I", 7) + b"kcp"]
        await until(lambda: shared4.dropped == 1)


async def test_a_sender_may_open_a_new_session_after_the_old_one_is_closed(shared4: SharedPort) -> None:
    future = shared4.expect_from(ClientEnd("127.0.0.1"), opens)
    async with path_to(shared4) as client:
        client.send(plain_batch(b"hello"))
        (await wait_for(future)).close()
        again = shared4.expect_from(ClientEnd("127.0.0.1"), opens)
        client.send(plain_batch(b"hello again"))
        assert await Listener(await wait_for(again)).until(1) == [b"hello again"]


async def test_a_datagram_of_another_host_does_not_open_a_session(shared4: SharedPort) -> None:
    shared4.expect_from(ClientEnd("192.0.2.7"), opens)
    async with path_to(shared4) as client:
        client.send(plain_batch(b"hello"))
        await until(lambda: shared4.dropped == 1)


async def test_a_conv_is_announced_once(shared4: SharedPort) -> None:
    announce(shared4, 50)
    with pytest.raises(StreamPeerError, match="in use"):
        announce(shared4, 50)


async def test_a_second_server_on_the_port_is_an_error(shared4: SharedPort) -> None:
    with pytest.raises(TransportError, match="cannot use UDP port"):
        SharedPort.open(shared4.local_address)


async def test_a_closed_port_can_be_opened_again(shared4: SharedPort) -> None:
    future = announce(shared4, 60)
    waiting = announce(shared4, 61)
    async with path_to(shared4) as client:
        client.send(datagrams(60, b"x"))
        await wait_for(future)
        address = shared4.local_address
        shared4.close()
        shared4.close()
        assert waiting.cancelled()
        SharedPort.open(address).close()


@pytest.mark.linux
async def test_a_flood_does_not_block_the_loop(shared4: SharedPort) -> None:
    """One wake-up of the loop reads a limited part of the waiting datagrams."""
    future = announce(shared4, 70)
    async with path_to(shared4) as client, path_to(shared4) as attacker:
        for _ in range(300):
            attacker.send(datagrams(1, b"junk"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert shared4.dropped < 100
        await until(lambda: shared4.dropped > 200)
        client.send(datagrams(70, b"mine"))
        assert await Listener(await wait_for(future)).until(1)


async def test_drained_is_called_once_per_wake_up(shared4: SharedPort) -> None:
    future = announce(shared4, 80)
    async with path_to(shared4) as client:
        client.send(datagrams(80, b"x"))
        listener = Listener(await wait_for(future))
        await listener.until(1)
        wakes = listener.wakes
        for _ in range(8):
            client.send(datagrams(80, b"x"))
        await listener.until(9)
        assert listener.wakes == wakes + 1


async def test_there_is_no_callback_after_close(shared4: SharedPort) -> None:
    future = announce(shared4, 90)
    async with path_to(shared4) as client:
        client.send(datagrams(90, b"x"))
        server = await wait_for(future)
        received: list[int] = []

        # Closing inside the callback must also suppress the second one, for the drained queue.
        def on_batch(batch: DatagramBatch) -> None:
            received.append(batch.count)
            server.close()

        server.set_receiver(on_batch, lambda: received.append(-1))
        client.send(datagrams(90, b"y"))
        await asyncio.sleep(0.05)
        assert received == [1]


async def test_wait_writable_calls_once(shared4: SharedPort) -> None:
    async with path_to(shared4) as client:
        calls: list[int] = []
        client.wait_writable(lambda: calls.append(1))
        await until(lambda: bool(calls))
        await asyncio.sleep(0.02)
        assert calls == [1]


async def test_one_stream_is_found_among_a_batch_of_strangers(
    shared4: SharedPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each datagram of a flood cost as much as a session's whole batch: most are not looked at any more."""
    looked_at: list[int] = []
    session_of = SharedPort._session_of

    def counted(port: SharedPort, conv: int, *more: Any) -> Any:
        looked_at.append(conv)
        return session_of(port, conv, *more)

    monkeypatch.setattr(SharedPort, "_session_of", counted)
    future = announce(shared4, 7)
    words = np.arange(1000, 2000, dtype="<u4")
    words[500] = 7
    data = np.zeros((1000, 8), np.uint8)
    data[:, :4] = words[:, None].view(np.uint8)
    shared4.route(DatagramBatch.of(data.reshape(-1), 8), ("127.0.0.1", 9), address_of(shared4), {})
    assert looked_at == [7]
    assert shared4.dropped == 999
    assert (await wait_for(future)).conv == 7


async def test_a_watched_session_moves_or_counts_as_its_judge_says(shared4: SharedPort) -> None:
    signs = {b"peer": Sign.MOVED, b"like": Sign.ELSEWHERE, b"else": None}
    async with path_to(shared4) as first, path_to(shared4) as second:
        future = shared4.expect_from(ClientEnd(""), opens)
        first.send(plain_batch(b"hello"))
        session = await wait_for(future)
        listener = Listener(session)
        moves: list[SocketAddress] = []
        shared4.watch(session, lambda datagram: signs[datagram], lambda: moves.append(session.remote_address))
        second.send(plain_batch(b"else", b"peer"))  # the first datagram stands for its batch
        second.send(plain_batch(b"like"))
        second.send(plain_batch(b"like"))
        await until(lambda: shared4.dropped == 4)
        assert session.remote_address == first.local_address
        assert session.events.counts == {Sign.ELSEWHERE: 2}
        assert f"port {second.local_address[1]}), 2 times" in session.events.warnings("it")[0]
        second.send(plain_batch(b"peer", b"more"))
        assert (await listener.until(3))[1:] == [b"peer", b"more"]
        assert moves == [session.remote_address] == [second.local_address]
        back = Listener(second)
        session.send(plain_batch(b"back"))
        assert await back.until(1)
        session.close()
        second.send(plain_batch(b"peer"))
        await asyncio.sleep(0.05)
        assert shared4.dropped == 4  # the port is not read any more


@pytest.mark.linux
async def test_strangers_are_looked_into_a_limited_number_of_times(
    shared4: SharedPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look may decrypt the datagram. The limit holds while a peer is awaited, for the one that is awaited
    after it, and beside a session."""
    monkeypatch.setattr(idle_reads, "IDLE_S", 3600.0)
    monkeypatch.setattr(idle_reads, "OPEN_BATCHES", 40)
    looks = list[bytes]()

    def none_opens(datagram: bytes) -> bool:
        looks.append(datagram)
        return False

    async def flood(path: ConnectedPath) -> None:
        for turn in range(20):
            path.send(plain_batch(*(f"{turn:03}{at:05}".encode() for at in range(10))))
            await asyncio.sleep(0.005)

    async with path_to(shared4) as stranger, path_to(shared4) as peer:
        future = shared4.expect_from(ClientEnd(""), none_opens)
        await flood(stranger)
        assert 20 <= len(looks) <= 50  # a batch of ten is looked into to its end
        before = len(looks)
        future.cancel()
        future = shared4.expect_from(ClientEnd(""), none_opens)
        await flood(stranger)
        assert len(looks) == before
        # A session that is awaited from a known host is not held up.
        named = shared4.expect_from(ClientEnd("127.0.0.1"), opens)
        peer.send(plain_batch(b"hello"))
        session = await wait_for(named)
        future.cancel()
        monkeypatch.setattr(idle_reads, "IDLE_BATCHES", before + 40)
        shared4.watch(session, lambda datagram: looks.append(datagram), lambda: None)
        await flood(stranger)
        assert before < len(looks) <= before + 40


@pytest.mark.linux
async def test_a_watched_session_that_cannot_move_counts_the_datagrams_and_stays() -> None:
    """The peer of an engine that had moved all the same would get nothing until it answered from there."""
    shared = SharedPort.open(("0.0.0.0", 0))
    port, moves = shared.local_address[1], list[int]()
    first, second, other = (
        ConnectedPath.open((host, port), ("127.0.0.1", 0)) for host in ("127.0.0.1", "127.0.0.1", "127.0.0.2")
    )
    try:
        future = shared.expect_from(ClientEnd(""), opens)
        first.send(plain_batch(b"hello"))
        session = await wait_for(future)
        shared.watch(session, lambda datagram: Sign.MOVED, lambda: moves.append(1))
        other.send(plain_batch(b"peer"))  # to another address of this machine
        await until(lambda: shared.dropped == 1)

        def unreachable(remote: SocketAddress) -> None:
            raise StreamPathError("no route")

        session.peer.redirect = unreachable  # type: ignore[method-assign]
        second.send(plain_batch(b"peer"))
        await until(lambda: shared.dropped == 2)
        assert moves == []
        assert session.events.counts == {Sign.ELSEWHERE: 2}
        assert session.remote_address == first.local_address
    finally:
        for path in (first, second, other):
            path.close()
        shared.close()
