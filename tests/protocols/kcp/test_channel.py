"""How a channel shares the event loop: over a path that only takes note."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from iperfpy.protocols import clock
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.datagrams.path_mtu import DatagramSizes
from iperfpy.protocols.datagrams.peer_path import OnBatch, OnDrained
from iperfpy.protocols.datagrams.stream_rounds import BYTES_PER_VISIT
from iperfpy.protocols.kcp import engine_factory
from iperfpy.protocols.kcp.channel import KcpChannel
from iperfpy.protocols.kcp.settings import KcpSettings
from iperfpy.protocols.path_events import PathEvents

CONV, MTU = 7, 1400
SETTINGS = KcpSettings(sndwnd=20_000, rcvwnd=20_000, mtu=MTU)


class NotedPath:
    """A `DatagramPath` without a network: `capacity` datagrams fit, and `turns` has the bytes sent in each
    turn of the event loop."""

    stamp = b""
    local_address: SocketAddress = ("127.0.0.1", 1)
    remote_address: SocketAddress = ("127.0.0.1", 2)

    def __init__(self) -> None:
        self.capacity = 1 << 30
        self.turns = [0]
        self.events = PathEvents()
        self.waiting: list[Callable[[], None]] = []
        self.read_before: list[int] = []  # bytes sent in the turn before the socket was read in it
        self.on_drained: OnDrained = lambda: None

    def set_receiver(self, on_batch: OnBatch, on_drained: OnDrained) -> None:
        self.on_drained = on_drained

    def send(self, batch: DatagramBatch) -> int:
        taken = min(self.capacity, batch.count)
        self.capacity -= taken
        self.turns[-1] += taken * batch.stride
        return taken

    def read_now(self) -> None:
        self.read_before.append(self.turns[-1])

    def wait_writable(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def stamp_arrivals(self) -> None: ...

    def charge(self, work: int) -> None: ...

    @property
    def sizes(self) -> DatagramSizes:
        raise NotImplementedError  # the engine here has a fixed size

    def check(self) -> None: ...

    def size_buffers(self, size_bytes: int) -> tuple[int, int]:
        return size_bytes, size_bytes

    def fileno(self) -> int:
        return 0

    def take_socket(self) -> DatagramSocket:
        raise NotImplementedError  # a KCP channel sends through the path, never through its socket

    def answer_challenge(self, datagram: bytes) -> bytes:
        return b""

    def close(self) -> None: ...

    async def turn(self) -> int:
        """One turn of the loop; the bytes that left in it."""
        self.turns.append(0)
        await asyncio.sleep(0)
        return self.turns[-1]


class Endless:
    """A load that always has a block."""

    may_block = False

    def wait_us(self, now_us: int) -> int:
        return 0

    def take(self) -> memoryview:
        return memoryview(bytes(126_592))


@pytest.fixture
async def path(monkeypatch: pytest.MonkeyPatch) -> NotedPath:
    """Time stands still: nothing is acknowledged here, and no machine is so slow that something is resent."""
    monkeypatch.setattr(clock, "now_us", lambda: 1_000_000)
    return NotedPath()


@pytest.fixture
async def channel(path: NotedPath) -> AsyncIterator[KcpChannel]:
    channel = KcpChannel(engine_factory.stock(CONV, SETTINGS), path, SETTINGS, sends=True)
    channel.start()
    sending = asyncio.create_task(channel.send(Endless()))
    await path.turn()
    yield channel
    await channel.close()
    await sending


async def test_a_turn_of_the_loop_is_bounded_until_the_window_is_full(
    path: NotedPath, channel: KcpChannel
) -> None:
    most = BYTES_PER_VISIT * 1.2  # the bound is for payload, and it is written in blocks
    assert 0 < max([await path.turn() for _ in range(20)]) <= most
    assert sum(path.turns) == SETTINGS.sndwnd * MTU
    assert channel.counters()["limited_by"] == "send window"


async def test_acknowledgements_that_come_meanwhile_do_not_multiply_the_turns(
    path: NotedPath, channel: KcpChannel
) -> None:
    for _ in range(3):
        path.on_drained()
    before = sum(path.turns)
    await path.turn()
    assert sum(path.turns) - before <= BYTES_PER_VISIT * 1.2
    assert channel.counters()["limited_by"] == "processor"


async def test_the_socket_is_read_before_a_timer_of_loss_recovery(
    path: NotedPath, channel: KcpChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An acknowledgement that waits there must be taken before its segment is sent again."""
    assert await path.turn() > 0
    assert path.read_before == []  # no timer is due: the event loop reads
    monkeypatch.setattr(clock, "now_us", lambda: 60_000_000)
    assert await path.turn() > 0
    assert path.read_before == [0]
    assert channel.counters()["retransmits"]


async def test_a_full_socket_is_waited_for_once(path: NotedPath, channel: KcpChannel) -> None:
    path.capacity = 10
    for _ in range(3):
        await path.turn()
        path.on_drained()
    assert len(path.waiting) == 1
    path.capacity = 1 << 30
    path.waiting.pop()()
    for _ in range(20):
        await path.turn()
    assert sum(path.turns) == SETTINGS.sndwnd * MTU
    assert not path.waiting


async def test_a_silence_of_minutes_ends_no_stream(
    path: NotedPath, channel: KcpChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program decides how long a test waits for its peer; the engine goes on to retransmit."""
    while await path.turn():  # until the window is full: afterwards only the timer sends
        pass
    receiving = asyncio.create_task(channel.receive())
    later = iter(range(60_000_000, 1 << 62, 60_000_000))
    monkeypatch.setattr(clock, "now_us", lambda: next(later))
    async with asyncio.timeout(10):
        while not channel.counters()["retransmits"]:  # noqa: ASYNC110 - by the channel's timer
            await asyncio.sleep(0.01)
    assert not receiving.done()
    receiving.cancel()


async def test_a_channel_that_withdraws_has_sent_as_many_datagrams_as_the_socket_took(
    path: NotedPath, channel: KcpChannel
) -> None:
    path.capacity = 10
    for _ in range(3):
        await path.turn()
        path.on_drained()
    taken = sum(path.turns) // MTU
    before = channel.counters()["datagrams_sent"]
    channel.withdraw()
    path.capacity = 1 << 30
    path.waiting.pop()()
    for _ in range(3):
        path.on_drained()
        await path.turn()
    assert before == channel.counters()["datagrams_sent"] == taken == sum(path.turns) // MTU
