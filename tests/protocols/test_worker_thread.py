"""The thread of a channel: its errors, its end, and cancellation."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Iterator

import pytest

from iperfpy.protocols.errors import StreamPathError, TransportError
from iperfpy.protocols.worker_thread import WorkerThread


def translated(error: OSError) -> TransportError:
    return StreamPathError(f"errno {error.errno}")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


async def test_work_runs_in_another_thread(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, seen = WorkerThread(ends[0], "test", translated), list[str]()
    await worker.run(lambda: seen.append(threading.current_thread().name))
    await worker.run(lambda: seen.append("again"))
    assert seen == [f"test-{ends[0].fileno()}", "again"]


async def test_a_socket_error_is_translated(ends: tuple[socket.socket, socket.socket]) -> None:
    def work() -> None:
        raise OSError(errno.EHOSTUNREACH, "unreachable")

    worker = WorkerThread(ends[0], "test", translated)
    with pytest.raises(StreamPathError, match=f"^errno {errno.EHOSTUNREACH}$"):
        await worker.run(work)
    await worker.ended()


async def test_another_error_is_passed_on(ends: tuple[socket.socket, socket.socket]) -> None:
    def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await WorkerThread(ends[0], "test", translated).run(work)


async def test_stop_wakes_a_blocked_call_and_hides_its_error(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    worker, received = WorkerThread(ends[0], "test", translated), list[bytes]()

    def work() -> None:
        received.append(ends[0].recv(1))
        raise OSError(errno.EPIPE, "closed by the shutdown")

    worker.start(work)
    worker.stop()
    await worker.finished()
    assert received == [b""]


async def test_cancelling_the_waiter_stops_the_thread(ends: tuple[socket.socket, socket.socket]) -> None:
    def work() -> None:
        ends[0].recv(1)

    worker = WorkerThread(ends[0], "test", translated)
    waiting = asyncio.get_running_loop().create_task(worker.run(work))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await worker.ended()
    assert worker.stopping.is_set()


async def test_a_stopped_worker_starts_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, seen = WorkerThread(ends[0], "test", translated), list[int]()
    worker.stop()
    worker.start(lambda: seen.append(1))
    await worker.run(lambda: seen.append(2))
    await worker.finished()
    await worker.ended()
    assert seen == []


async def test_a_thread_that_cannot_start_is_an_error_and_nothing_waits_for_it(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more_threads(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    worker = WorkerThread(ends[0], "test", translated)
    with pytest.raises(TransportError, match=r"^this process may start no more threads"):
        await worker.run(lambda: None)
    await worker.ended()
