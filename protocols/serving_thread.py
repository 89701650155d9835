"""A thread that serves streams in turn: a visit moves a share of one stream's data, and never waits.

    other threads      add(task), visit(task),            a queue, and a byte that wakes the thread
                       remove(task), end()
    the thread         a ready socket, or a time that has come  ->  task.visit()
                       the task is over  ->  task.ended(error)

A *task* is one stream at one end. Its `visit` returns the time of the next one, as `Load.wait_us` does:

    0       when the socket is ready: room to send, or data to read
    > 0     after so many microseconds; the socket is not watched until then
    -1      never: the task is over

All sockets are non-blocking, so a thread serves any number of them. A round visits each ready socket once.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from iperfpy.protocols.clock import now_us
from iperfpy.protocols.threads import start_thread

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
"""The readiness of a socket that a task waits for."""

TICK_US = 1_000
"""Resolution of a timeout of `select` (epoll). Shorter waits are slept through, unless a socket is ready."""


class StreamTask:
    """One stream at one end, for a `ServingThread`.

    Parameters
    ----------
    descriptor : of the socket, which stays open until `ended` was called
    event : `READ` or `WRITE`
    visit : called in the thread; returns the time of the next call. An exception ends the task
    ended : called once, in the thread, with the exception of `visit` or None: the thread uses neither the
        task nor its socket any more
    """

    __slots__ = ("descriptor", "ended", "event", "is_watched", "timer", "visit")

    def __init__(
        self,
        descriptor: int,
        event: int,
        visit: Callable[[], int],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        self.descriptor = descriptor
        self.event = event
        self.visit = visit
        self.ended = ended
        self.is_watched = False  # written by the thread only
        self.timer = -1  # number of the timer that counts; earlier ones were replaced


class ServingThread:
    """Serves tasks from `start` to `end`. Its public methods may be called from any thread.

    A task that cannot wait for a socket without blocking (a file is read or written in its visits) delays the
    others of its thread: give it a thread of its own.
    """

    def __init__(self) -> None:
        self._orders: deque[Callable[[], None]] = deque()
        self._is_ended = False
        self._tasks: set[StreamTask] = set()
        self._watched = 0
        # (due_us, number, task): the number orders tasks of one time. Entries of removed tasks are skipped,
        # and those that a later timer of their task has replaced.
        self._timers: list[tuple[int, int, StreamTask]] = []
        self._numbers = itertools.count()

    def start(self, name: str) -> None:
        """Start the thread. Raises `OSError` if the process may have no more descriptors or threads."""
        with contextlib.ExitStack() as opened:
            self._selector = opened.enter_context(selectors.DefaultSelector())
            self._wakes, self._waker = socket.socketpair()
            opened.enter_context(self._wakes)
            opened.enter_context(self._waker)
            self._wakes.setblocking(False)
            self._waker.setblocking(False)
            self._selector.register(self._wakes, READ)
            start_thread(self._run, name)
            opened.pop_all()  # the thread closes them

    def add(self, task: StreamTask) -> None:
        """Serve `task` from now on; its first visit follows at once."""
        self._order(partial(self._add, task))

    def visit(self, task: StreamTask) -> None:
        """Visit `task` now, whatever it waits for, unless it is over."""
        self._order(partial(self._visit_now, task))

    def remove(self, task: StreamTask) -> None:
        """End `task` without an error, unless it is over already."""
        self._order(partial(self._remove, task))

    def end(self) -> None:
        """Let the thread end. Tasks that are left are served no more, and not told."""
        self._order(self._end)

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        # With more than one order the thread has been woken and still takes them. A full pipe wakes it, too.
        if len(self._orders) == 1:
            with contextlib.suppress(OSError):
                self._waker.send(b"\0")

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            self._follow_orders()
            while not self._is_ended:
                for task in self._ready():
                    self._visit(task)
                    self._visit_due()
                self._visit_due()
                self._follow_orders()
        finally:
            for opened in (self._selector, self._wakes, self._waker):
                opened.close()

    def _follow_orders(self) -> None:
        while self._orders:
            self._orders.popleft()()

    def _add(self, task: StreamTask) -> None:
        self._tasks.add(task)
        self._visit(task)

    def _visit_now(self, task: StreamTask) -> None:
        if task in self._tasks:
            self._visit(task)

    def _remove(self, task: StreamTask) -> None:
        if task in self._tasks:
            self._drop(task, None)

    def _end(self) -> None:
        self._is_ended = True

    def _ready(self) -> list[StreamTask]:
        """Wait for sockets, the next timer or an order. Returns the tasks with sockets that are ready."""
        if not self._timers:
            return self._select(None)
        wait_us = self._timers[0][0] - now_us()
        if wait_us >= TICK_US:
            # Rounded down, the rest is slept through: `select` may round a timeout up to the next tick.
            return self._select((wait_us // TICK_US - 0.5) * TICK_US / 1e6)
        # With timers alone, as in a test with a rate, a call of the kernel per visit is saved.
        ready = self._select(0) if self._watched else []
        if wait_us > 0 and not ready:
            time.sleep(wait_us / 1e6)
        return ready

    def _select(self, timeout_s: float | None) -> list[StreamTask]:
        ready = []
        for key, _ in self._selector.select(timeout_s):
            if key.data is not None:
                ready.append(key.data)
            else:
                with contextlib.suppress(BlockingIOError):
                    self._wakes.recv(4096)
        return ready

    def _visit_due(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now_us():
            _, number, task = heapq.heappop(timers)
            if task.timer == number and task in self._tasks:
                self._visit(task)

    def _visit(self, task: StreamTask) -> None:
        try:
            wait_us = task.visit()
            if wait_us < 0:
                self._drop(task, None)
            elif wait_us:
                # Not watched meanwhile: its socket has room nearly always, or an error to report.
                self._unwatch(task)
                task.timer = next(self._numbers)
                heapq.heappush(self._timers, (now_us() + wait_us, task.timer, task))
            elif not task.is_watched:
                self._watch(task)
        except BaseException as error:  # the event loop raises it
            self._drop(task, error)

    def _watch(self, task: StreamTask) -> None:
        self._selector.register(task.descriptor, task.event, task)
        task.is_watched = True
        self._watched += 1

    def _unwatch(self, task: StreamTask) -> None:
        if task.is_watched:
            task.is_watched = False
            self._watched -= 1
            self._selector.unregister(task.descriptor)

    def _drop(self, task: StreamTask, error: BaseException | None) -> None:
        self._tasks.discard(task)
        self._unwatch(task)
        task.ended(error)
