"""A thread that serves streams: readiness, times, fairness, errors, and its end."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from iperfpy.protocols.clock import now_us
from iperfpy.protocols.serving_thread import READ, WRITE, ServingThread, StreamTask

DEADLINE_S = 10.0

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def thread() -> Iterator[ServingThread]:
    made = ServingThread()
    made.start("served")
    yield made
    made.end()


@contextlib.contextmanager
def socket_pair() -> Iterator[Ends]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


class Served:
    """A task, and its end: `error()` waits for it."""

    def __init__(self, sock: socket.socket, event: int, visit: Callable[[], int]) -> None:
        self._ends: queue.Queue[BaseException | None] = queue.Queue()
        self.task = StreamTask(sock.fileno(), event, visit, self._ends.put)

    def error(self) -> BaseException | None:
        error = self._ends.get(timeout=DEADLINE_S)
        assert self._ends.empty()
        return error


def test_a_visit_that_returns_0_is_repeated_when_the_socket_is_ready(thread: ServingThread) -> None:
    with socket_pair() as (one, other):
        seen, arrived = list[bytes](), threading.Semaphore(0)

        def visit() -> int:
            with contextlib.suppress(BlockingIOError):
                seen.append(one.recv(1))
                arrived.release()
            return -1 if len(seen) == 3 else 0

        served = Served(one, READ, visit)
        thread.add(served.task)
        for byte in (b"a", b"b", b"c"):
            other.send(byte)
            assert arrived.acquire(timeout=DEADLINE_S)
        assert served.error() is None
        assert seen == [b"a", b"b", b"c"]


@pytest.mark.parametrize("wait_us", [300, 4_000])
def test_a_visit_that_returns_a_time_is_not_repeated_before_it(thread: ServingThread, wait_us: int) -> None:
    """The socket has room all the time, which must not matter."""
    with socket_pair() as (one, _):
        moments = list[int]()

        def visit() -> int:
            moments.append(now_us())
            return wait_us if len(moments) < 5 else -1

        served = Served(one, WRITE, visit)
        thread.add(served.task)
        assert served.error() is None
        pauses = [after - before for before, after in itertools.pairwise(moments)]
        assert all(pause >= wait_us for pause in pauses)


def test_a_task_that_waits_for_a_time_does_not_delay_a_ready_one(thread: ServingThread) -> None:
    with socket_pair() as (one, _), socket_pair() as (two, other):
        waiting = Served(one, WRITE, lambda: 60_000_000)
        reading = Served(two, READ, lambda: _read_until_end(two))
        thread.add(waiting.task)
        thread.add(reading.task)
        other.close()
        assert reading.error() is None
        thread.remove(waiting.task)
        assert waiting.error() is None


def _read_until_end(sock: socket.socket) -> int:
    try:
        return 0 if sock.recv(1) else -1
    except BlockingIOError:
        return 0


def test_ready_tasks_take_turns(thread: ServingThread) -> None:
    """Two streams always have room; neither is visited twice before the other."""
    with socket_pair() as (one, _), socket_pair() as (two, _):
        order, both = list[str](), threading.Barrier(2)

        def visits(name: str) -> Callable[[], int]:
            def visit() -> int:
                order.append(name)
                return 0 if order.count(name) < 20 else -1

            return visit

        def hold() -> int:
            # Until both are with the thread: the first would have many turns alone.
            both.wait(DEADLINE_S)
            both.wait(DEADLINE_S)
            return -1

        with socket_pair() as (three, _):
            holding = Served(three, WRITE, hold)
            thread.add(holding.task)
            both.wait(DEADLINE_S)
            first, second = Served(one, WRITE, visits("a")), Served(two, WRITE, visits("b"))
            thread.add(first.task)
            thread.add(second.task)
            both.wait(DEADLINE_S)
            assert (holding.error(), first.error(), second.error()) == (None, None, None)
        assert "".join(order) in ("ab" * 20, "ab" + "ba" * 19)


def test_an_exception_ends_its_task_alone(thread: ServingThread) -> None:
    with socket_pair() as (one, _), socket_pair() as (two, other):
        failure = ZeroDivisionError()

        def fail() -> int:
            raise failure

        failing, reading = Served(one, READ, fail), Served(two, READ, lambda: _read_until_end(two))
        thread.add(failing.task)
        thread.add(reading.task)
        assert failing.error() is failure
        other.close()
        assert reading.error() is None


def test_a_socket_that_cannot_be_watched_is_an_error_of_its_task(thread: ServingThread) -> None:
    with socket_pair() as (one, _):
        served = Served(one, READ, lambda: 0)
        one.close()
        thread.add(served.task)
        assert isinstance(served.error(), OSError)


def test_a_removed_task_is_visited_no_more_and_told_once(thread: ServingThread) -> None:
    with socket_pair() as (one, other):
        visits = list[int]()

        def visit() -> int:
            visits.append(1)
            return 0

        served = Served(one, READ, visit)
        thread.add(served.task)
        thread.remove(served.task)
        thread.remove(served.task)
        assert served.error() is None
        other.send(b"a")
        _let_pass(thread)
        assert visits == [1]


def test_a_descriptor_may_be_used_again_once_its_task_has_ended(thread: ServingThread) -> None:
    with socket_pair() as (one, _):
        number = one.fileno()
        first = Served(one, WRITE, lambda: -1)
        thread.add(first.task)
        assert first.error() is None
    with socket_pair() as (two, other):
        again = two if two.fileno() == number else other
        second = Served(again, WRITE, lambda: -1)
        thread.add(second.task)
        assert second.error() is None


def _let_pass(thread: ServingThread) -> None:
    """Return when the thread has followed all orders given before, and has looked at its sockets again."""
    with socket_pair() as (sock, _):
        turns = iter((0, 0, -1))
        passing = Served(sock, WRITE, lambda: next(turns))
        thread.add(passing.task)
        assert passing.error() is None


ROUNDS = 20
"""Number of starts: other threads of the process open fewer descriptors meanwhile."""


def _open_descriptors() -> int:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("only where the process can list its descriptors")
    return len(os.listdir("/proc/self/fd"))


def test_an_ended_thread_leaves_no_descriptor_open() -> None:
    before = _open_descriptors()
    for _ in range(ROUNDS):
        made = ServingThread()
        made.start("short")
        threads = [thread for thread in threading.enumerate() if thread.name == "short"]
        made.end()
        for thread in threads:
            thread.join(DEADLINE_S)
    assert _open_descriptors() < before + ROUNDS // 2


def test_a_thread_that_cannot_start_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more_threads(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    before = _open_descriptors()
    refused = []
    for _ in range(ROUNDS):
        thread = ServingThread()
        refused.append(thread)  # else the collector of garbage would close its descriptors
        with pytest.raises(OSError, match="may start no more threads"):
            thread.start("never")
    assert _open_descriptors() < before + ROUNDS // 2
