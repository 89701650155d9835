"""The use of a thread by a stream: its errors, its end, cancellation, and the threads that streams share."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Iterator

import pytest

from iperfpy.protocols import stream_threads
from iperfpy.protocols.errors import StreamPathError, TransportError
from iperfpy.protocols.serving_thread import READ, WRITE
from iperfpy.protocols.stream_threads import StreamWorker
from iperfpy.protocols.testing.loopback import until


def translated(error: OSError) -> TransportError:
    return StreamPathError(f"errno {error.errno}")


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one


class Crowd:
    """Streams that wait until they are closed, and the thread of each visit.

    Threads are compared themselves, not by name: those of an earlier test may still be ending.
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._workers: list[StreamWorker] = []
        self.threads: list[threading.Thread] = []

    def add(self, event: int = READ, *, alone: bool = False) -> None:
        one, other = socket.socketpair()
        self._stack.enter_context(one)
        self._stack.enter_context(other)
        worker = StreamWorker(one, translated)

        def visit() -> int:
            self.threads.append(threading.current_thread())
            return 60_000_000

        worker.start(event, visit, alone=alone)
        self._workers.append(worker)

    async def visited(self) -> int:
        """Wait until each has been visited. Returns the number of threads."""
        await until(lambda: len(self.threads) == len(self._workers))
        return len(set(self.threads))

    async def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            await worker.ended()


async def test_a_visit_runs_in_another_thread(sock: socket.socket) -> None:
    worker, seen = StreamWorker(sock, translated), list[threading.Thread]()

    def visit() -> int:
        seen.append(threading.current_thread())
        return -1

    await worker.run(WRITE, visit)
    assert seen[0] is not threading.current_thread()
    assert seen[0].daemon


async def test_a_socket_error_is_translated(sock: socket.socket) -> None:
    def visit() -> int:
        raise OSError(errno.EHOSTUNREACH, "unreachable")

    worker = StreamWorker(sock, translated)
    with pytest.raises(StreamPathError, match=f"^errno {errno.EHOSTUNREACH}$"):
        await worker.run(WRITE, visit)
    await worker.ended()


async def test_another_error_is_passed_on(sock: socket.socket) -> None:
    def visit() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await StreamWorker(sock, translated).run(WRITE, visit)


async def test_stop_ends_a_stream_that_waits_for_data(sock: socket.socket) -> None:
    worker = StreamWorker(sock, translated)
    worker.start(READ, lambda: 0)
    worker.stop()
    worker.stop()
    await worker.finished()
    await worker.ended()


async def test_an_error_of_the_socket_while_stopping_is_hidden(sock: socket.socket) -> None:
    worker, visited, stopped = StreamWorker(sock, translated), threading.Event(), threading.Event()

    def visit() -> int:
        visited.set()
        stopped.wait(10)
        raise OSError(errno.EPIPE, "closed")

    worker.start(WRITE, visit)
    await until(visited.is_set)
    worker.stop()
    stopped.set()
    await worker.finished()


async def test_cancelling_the_waiter_ends_the_stream(sock: socket.socket) -> None:
    worker = StreamWorker(sock, translated)
    waiting = asyncio.get_running_loop().create_task(worker.run(READ, lambda: 0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await worker.ended()
    assert worker.is_stopping


async def test_a_stopped_worker_starts_nothing(sock: socket.socket) -> None:
    worker, seen = StreamWorker(sock, translated), list[int]()

    def visit() -> int:
        seen.append(1)
        return -1

    worker.stop()
    worker.start(WRITE, visit)
    await worker.run(WRITE, visit)
    await worker.finished()
    await worker.ended()
    assert seen == []


async def test_a_thread_that_cannot_start_is_an_error_and_nothing_waits_for_it(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more_threads(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    worker = StreamWorker(sock, translated)
    with pytest.raises(TransportError, match=r"^this process may start no more threads"):
        await worker.run(WRITE, lambda: -1)
    await worker.ended()


# ---------------------------------------------------------------------- threads that streams share


@pytest.mark.parametrize("processors", [1, 3])
async def test_many_streams_have_one_thread_per_processor(
    processors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_threads, "processors_here", lambda: frozenset(range(processors)))
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack)
        for _ in range(20):
            crowd.add()
        assert await crowd.visited() == processors
        counts = [crowd.threads.count(thread) for thread in set(crowd.threads)]
        assert max(counts) - min(counts) <= 1
        await crowd.close()


async def test_the_number_of_threads_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_threads, "processors_here", lambda: frozenset(range(1000)))
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack)
        for _ in range(3 * stream_threads.MOST_THREADS):
            crowd.add()
        assert await crowd.visited() == stream_threads.MOST_THREADS
        await crowd.close()


async def test_senders_receivers_and_files_share_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_threads, "processors_here", lambda: frozenset({0}))
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack)
        for _ in range(2):
            crowd.add(READ)
            crowd.add(WRITE)
            crowd.add(READ, alone=True)
        assert await crowd.visited() == 4
        await crowd.close()


async def test_another_choice_of_processors_gets_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread keeps the processors that it had when it started."""
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack)
        for processors in ({0}, {1}, {0}):
            monkeypatch.setattr(
                stream_threads, "processors_here", lambda chosen=processors: frozenset(chosen)
            )
            crowd.add()
        assert await crowd.visited() == 2
        await crowd.close()


async def test_threads_end_with_their_last_stream() -> None:
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack)
        for _ in range(4):
            crowd.add()
        await crowd.visited()
        assert all(thread.is_alive() for thread in crowd.threads)
        await crowd.close()
    await until(lambda: not any(thread.is_alive() for thread in crowd.threads))


async def test_streams_share_the_thread_that_is_left_if_no_other_can_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_threads, "processors_here", lambda: frozenset(range(4)))
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack)
        crowd.add()
        await crowd.visited()

        def no_more_threads(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_more_threads)
            crowd.add()
        assert await crowd.visited() == 1
        await crowd.close()


def test_a_loop_that_is_closed_before_its_streams_leaves_no_thread() -> None:
    one, other = socket.socketpair()
    visited, released, threads = threading.Event(), threading.Event(), list[threading.Thread]()
    with one, other:
        one.setblocking(False)

        def visit() -> int:
            threads.append(threading.current_thread())
            visited.set()
            released.wait(10)
            return -1

        async def leave_it() -> None:
            StreamWorker(one, translated).start(WRITE, visit)

        asyncio.run(leave_it())
        assert visited.wait(10)
        released.set()
        threads[0].join(10)
        assert not threads[0].is_alive()
