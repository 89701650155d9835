"""TCP and UDP streams that share a thread: exact counts, and no stream that disturbs the others."""

from __future__ import annotations

import asyncio
import threading

import pytest

from iperfpy.protocols import stream_threads
from iperfpy.protocols.errors import StreamPeerError
from iperfpy.protocols.registry import transport
from iperfpy.protocols.testing.loopback import BlockLoad, bytes_of, loopback_pairs, until

pytestmark = pytest.mark.live

STREAMS = 24
WAYS = [reverse for _ in range(STREAMS // 2) for reverse in (False, True)]


@pytest.fixture(autouse=True)
def one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """All senders share one thread, and all receivers another one."""
    monkeypatch.setattr(stream_threads, "processors_here", lambda: frozenset({0}))


def serving() -> int:
    """The number of threads that serve streams."""
    return sum(thread.name.startswith("streams-") for thread in threading.enumerate())


@pytest.mark.parametrize("name", ["tcp", "udp"])
async def test_many_streams_over_two_threads_carry_all_their_bytes(name: str) -> None:
    made = transport(name)
    async with loopback_pairs(made, made.settings(), *WAYS) as pairs:
        size = 300_000
        carrying = [
            asyncio.create_task(pair.carry(size, pair.load(size, 1_000, pause_us=50))) for pair in pairs
        ]
        await until(lambda: all(bytes_of(pair.receiver) for pair in pairs))
        assert serving() == 2
        await asyncio.gather(*carrying)


async def test_streams_without_a_rate_share_a_thread_evenly() -> None:
    """Each stream alone would keep the thread busy for ever."""
    made = transport("tcp")
    async with loopback_pairs(made, made.settings(), *WAYS) as pairs:
        loads = [pair.load(0, 100_000) for pair in pairs]
        for pair, load in zip(pairs, loads, strict=True):
            pair.start(pair.receiver.receive())
            pair.start(pair.sender.send(load))
        await until(lambda: all(bytes_of(pair.receiver) > 20_000_000 for pair in pairs))
        for load in loads:
            load.stop()
        counts = [bytes_of(pair.receiver) for pair in pairs]
        assert sum(counts) ** 2 / (len(counts) * sum(count**2 for count in counts)) > 0.8


async def test_a_stream_that_closes_or_breaks_leaves_the_others_alone() -> None:
    made = transport("tcp")
    async with loopback_pairs(made, made.settings(), False, False, False) as (closed, broken, left):
        load = left.load(0)
        for pair in (closed, broken, left):
            pair.start(pair.receiver.receive())
        closed.start(closed.sender.send(closed.load(0)))
        breaking = broken.start(broken.sender.send(broken.load(0)))
        left.start(left.sender.send(load))
        await until(lambda: all(map(bytes_of, (closed.receiver, broken.receiver, left.receiver))))
        await closed.close()
        await broken.receiver.close()
        with pytest.raises(StreamPeerError):
            await breaking
        before = bytes_of(left.receiver)
        await until(lambda: bytes_of(left.receiver) > before + 5_000_000)
        load.stop()


async def test_a_file_that_cannot_be_written_holds_up_no_other_stream() -> None:
    made, writable = transport("tcp"), threading.Event()
    async with loopback_pairs(made, made.settings(), False, False) as (file, other):
        file.receiver.keep(lambda payload: _wait(writable))
        writing = asyncio.create_task(file.carry(100_000))
        try:
            await other.carry(3_000_000)
        finally:
            writable.set()
        await writing


async def test_a_file_that_cannot_be_read_holds_up_no_other_stream() -> None:
    made, readable = transport("tcp"), threading.Event()
    async with loopback_pairs(made, made.settings(), False, False) as (file, other):
        sending = asyncio.create_task(file.carry(100_000, FileLoad(100_000, readable)))
        try:
            await other.carry(3_000_000)
        finally:
            readable.set()
        await sending


class FileLoad(BlockLoad):
    """A load that reads its file once `readable` is set."""

    may_block = True

    def __init__(self, total: int, readable: threading.Event) -> None:
        super().__init__(total)
        self._readable = readable

    def wait_us(self, now_us: int) -> int:
        _wait(self._readable)
        return super().wait_us(now_us)


def _wait(event: threading.Event) -> None:
    if not event.wait(20):
        raise AssertionError("the other stream has not ended")
