"""The server's port: announced sessions are found, everything else is thrown away."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.peer_path import ConnectedPath, DatagramPath
from iperfpy.protocols.datagrams.server_port import Session, SharedPort
from iperfpy.protocols.errors import PeerError, TransportError


@pytest.fixture(params=["IPv4", "IPv6", "both", "any"])
async def hub(request: pytest.FixtureRequest) -> AsyncIterator[SharedPort]:
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
async def hub4() -> AsyncIterator[SharedPort]:
    opened = SharedPort.open(("127.0.0.1", 0))
    yield opened
    opened.close()


def address_of(hub: SharedPort) -> SocketAddress:
    host, port, *rest = hub.local_address
    return ({"::": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host), port, *rest)


def datagrams(conv: int, *bodies: bytes) -> DatagramBatch:
    """One batch of equal datagrams that begin with `conv`."""
    packed = b"".join(struct.pack("<I", conv) + body for body in bodies)
    return DatagramBatch.of(np.frombuffer(packed, np.uint8), 4 + len(bodies[0]))


class Ear:
    """Keeps what a path hears."""

    def __init__(self, path: DatagramPath) -> None:
        self.heard: list[bytes] = []
        self.wakes = 0
        self._news = asyncio.Event()
        path.set_receiver(self._on_batch, self._on_drained)

    def _on_batch(self, batch: DatagramBatch) -> None:
        self.heard += [bytes(datagram) for datagram in batch]

    def _on_drained(self) -> None:
        self.wakes += 1
        self._news.set()

    async def until(self, count: int) -> list[bytes]:
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                self._news.clear()
                await self._news.wait()
        return self.heard


@contextlib.asynccontextmanager
async def path_to(hub: SharedPort, port: int = 0) -> AsyncIterator[ConnectedPath]:
    remote = address_of(hub)
    path = ConnectedPath.open(remote, (remote[0], port, *remote[2:]))
    try:
        yield path
    finally:
        path.close()


async def within(future: asyncio.Future[Session]) -> Session:
    async with asyncio.timeout(5):
        return await future


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the hub counts; it has no event to wait for
            await asyncio.sleep(0.001)


async def test_an_announced_session_is_found_and_answers(hub: SharedPort) -> None:
    future = hub.expect(0xDEADBEEF)
    async with path_to(hub) as client:
        client.send(datagrams(0xDEADBEEF, b"one", b"two"))
        server = await within(future)
        ear = Ear(server)
        assert await ear.until(2) == [b"\xef\xbe\xad\xdeone", b"\xef\xbe\xad\xdetwo"]
        assert server.remote_address[:2] == client.local_address[:2]
        assert server.local_address[:2] == client.remote_address[:2]
        assert server.fileno() >= 0
        client_ear = Ear(client)
        assert server.send(datagrams(0xDEADBEEF, b"back")) == 1
        assert await client_ear.until(1) == [b"\xef\xbe\xad\xdeback"]
        client.send(datagrams(0xDEADBEEF, b"six"))
        assert (await ear.until(3))[-1] == b"\xef\xbe\xad\xdesix"


async def test_what_was_not_announced_is_dropped_and_not_answered(hub4: SharedPort) -> None:
    hub4.expect(1)
    async with path_to(hub4) as stranger:
        ear = Ear(stranger)
        stranger.send(datagrams(2, b"junk", b"junk", b"junk"))
        stranger.send(DatagramBatch.of(np.zeros(3, np.uint8), 3))
        await until(lambda: hub4.dropped == 4)
        await asyncio.sleep(0.05)
        assert ear.heard == []
        stranger.check()  # not even by ICMP


async def test_nobody_reads_the_port_while_nothing_is_announced(hub4: SharedPort) -> None:
    async with path_to(hub4) as stranger:
        stranger.send(datagrams(2, b"junk"))
        await asyncio.sleep(0.05)
        assert hub4.dropped == 0
        future = hub4.expect(3)
        await until(lambda: hub4.dropped == 1)
        stranger.send(datagrams(3, b"mine"))
        assert await Ear(await within(future)).until(1)


async def test_a_session_of_one_sender_cannot_be_joined_by_another(hub4: SharedPort) -> None:
    future = hub4.expect(5)
    async with path_to(hub4) as client, path_to(hub4) as intruder:
        client.send(datagrams(5, b"hello"))
        ear = Ear(await within(future))
        await ear.until(1)
        hub4.expect(6)  # keeps the port read
        intruder.send(datagrams(5, b"enemy"))
        await until(lambda: hub4.dropped == 1)
        assert len(ear.heard) == 1


async def test_a_port_used_again_gets_a_new_session(hub4: SharedPort) -> None:
    first = hub4.expect(10)
    async with path_to(hub4) as client:
        client.send(datagrams(10, b"old"))
        old = Ear(await within(first))
        await old.until(1)
        port = client.local_address[1]
    second = hub4.expect(11)
    async with path_to(hub4, port) as client:
        client.send(datagrams(10, b"ghost"))
        client.send(datagrams(11, b"new"))
        new = Ear(await within(second))
        assert await new.until(1) == [struct.pack("<I", 11) + b"new"]
        assert struct.pack("<I", 11) + b"new" not in old.heard


async def test_a_ghost_of_a_closed_session_reaches_nobody(hub4: SharedPort) -> None:
    first = hub4.expect(10)
    async with path_to(hub4) as client:
        client.send(datagrams(10, b"old"))
        session = await within(first)
        session.close()
        second = hub4.expect(11)
        client.send(datagrams(10, b"ghost"))
        client.send(datagrams(11, b"fresh"))
        ear = Ear(await within(second))
        assert await ear.until(1) == [struct.pack("<I", 11) + b"fresh"]
        assert hub4.dropped == 1


async def test_two_sessions_of_one_port_are_kept_apart(hub4: SharedPort) -> None:
    first, second = hub4.expect(20), hub4.expect(21)
    async with path_to(hub4) as client:
        client.send(datagrams(20, b"a"))
        one = Ear(await within(first))
        client.send(datagrams(21, b"b"))
        two = Ear(await within(second))
        mixed = b"".join(struct.pack("<I", conv) + b"xyz" for conv in (20, 20, 21, 20, 21, 99))
        client.send(DatagramBatch.of(np.frombuffer(mixed, np.uint8), 7))
        assert await one.until(4) == [struct.pack("<I", 20) + b for b in (b"a", b"xyz", b"xyz", b"xyz")]
        assert await two.until(3) == [struct.pack("<I", 21) + b for b in (b"b", b"xyz", b"xyz")]
        assert hub4.dropped == 1


async def test_one_of_two_sessions_outlives_the_other(hub4: SharedPort) -> None:
    first, second = hub4.expect(20), hub4.expect(21)
    async with path_to(hub4) as client:
        client.send(datagrams(20, b"a"))
        client.send(datagrams(21, b"a"))
        one, two = await within(first), await within(second)
        ear = Ear(two)
        one.close()
        client.send(datagrams(21, b"b"))
        await ear.until(2)
        assert two.send(datagrams(21, b"c")) == 1


async def test_what_came_before_the_receiver_is_kept_in_order(hub4: SharedPort) -> None:
    future = hub4.expect(30)
    async with path_to(hub4) as client:
        for number in range(20):
            client.send(datagrams(30, bytes([number])))
        ear = Ear(await within(future))
        assert ear.heard == []  # never from within set_receiver
        assert [datagram[4] for datagram in await ear.until(20)] == list(range(20))


async def test_a_withdrawn_announcement_is_no_longer_met(hub4: SharedPort) -> None:
    hub4.expect(40).cancel()
    await asyncio.sleep(0)
    keeper = hub4.expect(41)
    async with path_to(hub4) as client:
        client.send(datagrams(40, b"late"))
        await until(lambda: hub4.dropped == 1)
    assert not keeper.done()
    hub4.expect(40)  # and may be announced again


async def test_a_session_that_comes_while_its_waiter_is_cancelled_is_closed(hub4: SharedPort) -> None:
    waiting = asyncio.get_running_loop().create_task(hub4.accept(42))
    await asyncio.sleep(0)
    async with path_to(hub4) as client:
        client.send(datagrams(42, b"x"))
        # The datagram is read and the waiter cancelled in one turn of the loop.
        await until(lambda: bool(hub4._sessions))
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await waiting).close()
        hub4.expect(42)


async def test_an_accept_that_is_cancelled_takes_the_announcement_back(hub4: SharedPort) -> None:
    waiting = asyncio.get_running_loop().create_task(hub4.accept(42))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    hub4.expect(42)


# ---------------------------------------------------------------------- sessions without a conv


def opens(datagram: bytes) -> bool:
    return datagram.startswith(b"hello")


def plain_batch(*datagrams: bytes) -> DatagramBatch:
    return DatagramBatch.of(np.frombuffer(b"".join(datagrams), np.uint8), len(datagrams[0]))


async def test_a_session_without_a_conv_owns_all_datagrams_of_its_sender(hub4: SharedPort) -> None:
    future = hub4.expect_from("127.0.0.1", opens)
    async with path_to(hub4) as client:
        client.send(plain_batch(b"hello there"))
        client.send(plain_batch(b"a", b"b"))
        session = await within(future)
        assert (session.conv, session.opening) == (-1, b"hell")
        ear = Ear(session)
        client.send(plain_batch(b"another one", b"another two", b"and 3"))
        expected = [b"hello there", b"a", b"b", b"another one", b"another two", b"and 3"]
        assert await ear.until(6) == expected
        client_ear = Ear(client)
        session.send(plain_batch(b"answer"))
        assert await client_ear.until(1) == [b"answer"]


async def test_sessions_with_and_without_a_conv_share_the_port(hub4: SharedPort) -> None:
    without, with_conv = hub4.expect_from("127.0.0.1", opens), hub4.expect(7)
    async with path_to(hub4) as first, path_to(hub4) as second, path_to(hub4) as stranger:
        stranger.send(plain_batch(b"not the opening"))
        second.send(datagrams(7, b"kcp"))
        first.send(plain_batch(b"hello"))
        one, two = Ear(await within(without)), Ear(await within(with_conv))
        first.send(datagrams(7, b"looks like the other"))
        assert (await one.until(2))[1].endswith(b"looks like the other")
        assert await two.until(1) == [struct.pack("<I", 7) + b"kcp"]
        await until(lambda: hub4.dropped == 1)


async def test_a_closed_session_without_a_conv_gives_its_sender_free(hub4: SharedPort) -> None:
    future = hub4.expect_from("127.0.0.1", opens)
    async with path_to(hub4) as client:
        client.send(plain_batch(b"hello"))
        (await within(future)).close()
        again = hub4.expect_from("127.0.0.1", opens)
        client.send(plain_batch(b"hello again"))
        assert await Ear(await within(again)).until(1) == [b"hello again"]


async def test_another_host_does_not_open_it(hub4: SharedPort) -> None:
    hub4.expect_from("192.0.2.7", opens)
    async with path_to(hub4) as client:
        client.send(plain_batch(b"hello"))
        await until(lambda: hub4.dropped == 1)


async def test_a_conv_is_announced_once(hub4: SharedPort) -> None:
    hub4.expect(50)
    with pytest.raises(PeerError, match="in use"):
        hub4.expect(50)


async def test_a_second_server_on_the_port_is_told(hub4: SharedPort) -> None:
    with pytest.raises(TransportError, match="cannot use UDP port"):
        SharedPort.open(hub4.local_address)


async def test_a_closed_hub_gives_its_port_back(hub4: SharedPort) -> None:
    future = hub4.expect(60)
    waiting = hub4.expect(61)
    async with path_to(hub4) as client:
        client.send(datagrams(60, b"x"))
        await within(future)
        address = hub4.local_address
        hub4.close()
        hub4.close()
        assert waiting.cancelled()
        SharedPort.open(address).close()


async def test_a_flood_leaves_the_loop_to_others(hub4: SharedPort) -> None:
    """However much waits, one wake-up of the loop reads a bounded part of it."""
    future = hub4.expect(70)
    async with path_to(hub4) as client, path_to(hub4) as attacker:
        for _ in range(300):
            attacker.send(datagrams(1, b"junk"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert hub4.dropped < 100
        await until(lambda: hub4.dropped > 200)
        client.send(datagrams(70, b"mine"))
        assert await Ear(await within(future)).until(1)


async def test_drained_comes_once_per_wake_up(hub4: SharedPort) -> None:
    future = hub4.expect(80)
    async with path_to(hub4) as client:
        client.send(datagrams(80, b"x"))
        ear = Ear(await within(future))
        await ear.until(1)
        wakes = ear.wakes
        for _ in range(8):
            client.send(datagrams(80, b"x"))
        await ear.until(9)
        assert ear.wakes == wakes + 1


async def test_no_callback_after_close(hub4: SharedPort) -> None:
    future = hub4.expect(90)
    async with path_to(hub4) as client:
        client.send(datagrams(90, b"x"))
        server = await within(future)
        heard: list[int] = []

        def on_batch(batch: DatagramBatch) -> None:
            heard.append(batch.count)
            server.close()

        server.set_receiver(on_batch, lambda: heard.append(-1))
        client.send(datagrams(90, b"y"))
        await asyncio.sleep(0.05)
        assert heard == [1]


async def test_wait_writable_calls_once(hub4: SharedPort) -> None:
    async with path_to(hub4) as client:
        calls: list[int] = []
        client.wait_writable(lambda: calls.append(1))
        await until(lambda: bool(calls))
        await asyncio.sleep(0.02)
        assert calls == [1]
