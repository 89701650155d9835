"""The threads that serve streams of an event loop: a few for all streams, about one per processor.

    worker = StreamWorker(sock, translated)
    await worker.run(WRITE, visit)   a thread visits the stream (serving_thread.py) until it is over
    worker.is_stopping               True once `stop` was called
    worker.stop()                    the thread leaves the stream
    await worker.ended()             the thread has let go of the socket, which may be closed

An `OSError` of `visit` becomes the `TransportError` that `translated` makes of it. While stopping it is
ignored. Other errors are passed on unchanged.

A thread per stream would be simpler, and the kernel's work would use all processors as well. But many threads
that all want the interpreter lock starve the event loop: with 128 of them, intervals were seconds late.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar
from weakref import WeakKeyDictionary

from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.operating_system import processors_here
from iperfpy.protocols.serving_thread import ServingThread, StreamTask
from iperfpy.protocols.system_reasons import system_reason

MOST_THREADS = 16
"""Threads of one direction at most: a visit needs the interpreter lock for a tenth of its time, or less."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Tasks of one kind share threads.

    Receivers have threads of their own, because they must read before a buffer overflows. A thread runs on
    those processors that the event loop's thread had when it started the thread (-A).
    """

    event: int
    processors: frozenset[int]


@dataclass(eq=False, slots=True)
class _Place:
    """A thread, its kind (None: it serves one task alone), and the number of its tasks."""

    thread: ServingThread
    kind: _Kind | None
    tasks: int = 0


class StreamThreads:
    """The threads of one event loop. They are started when they are needed, and end with their last task."""

    _of_loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, StreamThreads]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._places: list[_Place] = []
        self._started = 0

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> StreamThreads:
        """The threads of `loop`."""
        threads = cls._of_loops.get(loop)
        if threads is None:
            threads = cls._of_loops[loop] = cls()
        return threads

    def enter(self, event: int, *, alone: bool) -> _Place:
        """Find a thread for one more task, the one that has fewest. Raises `TransportError` if there is none
        and the system does not give one."""
        kind = None if alone else _Kind(event, processors_here())
        shared = [place for place in self._places if place.kind == kind] if kind else []
        if kind is None or len(shared) < min(MOST_THREADS, max(1, len(kind.processors))):
            try:
                shared = [self._start(kind)]
            except OSError as error:
                if not shared:  # else one of those serves this task, too
                    raise TransportError(system_reason(error)) from error
        place = min(shared, key=lambda each: each.tasks)
        place.tasks += 1
        return place

    def leave(self, place: _Place) -> None:
        """A task of this thread is over."""
        place.tasks -= 1
        if not place.tasks:
            self._places.remove(place)
            place.thread.end()

    def _start(self, kind: _Kind | None) -> _Place:
        place = _Place(ServingThread(), kind)
        self._started += 1
        place.thread.start(f"streams-{self._started}")
        self._places.append(place)
        return place


class StreamWorker:
    """One stream's use of a thread. Its methods run on the event loop's thread.

    Parameters
    ----------
    sock : non-blocking; it stays open until `ended` has returned

    Attributes
    ----------
    is_stopping : True once `stop` was called; written by the event loop's thread only
    """

    def __init__(self, sock: socket.socket, translated: Callable[[OSError], TransportError]) -> None:
        self.is_stopping = False
        self._sock = sock
        self._translated = translated
        self._result: asyncio.Future[None] | None = None
        self._place: _Place | None = None
        self._task: StreamTask | None = None

    def start(self, event: int, visit: Callable[[], int], *, alone: bool = False) -> None:
        """Let a thread visit the stream from now on, unless the worker has been stopped.

        Parameters
        ----------
        event, visit : see `StreamTask`
        alone : True if a visit may wait for something else than the socket: the thread serves no other stream

        Raises
        ------
        TransportError
            The system has no thread or descriptor to spare.
        """
        if self.is_stopping:
            return
        loop = asyncio.get_running_loop()
        threads, result = StreamThreads.of(loop), loop.create_future()
        place = threads.enter(event, alone=alone)

        def finish(error: BaseException | None) -> None:
            threads.leave(place)
            if error is None:
                result.set_result(None)
            else:
                result.set_exception(error)
                # Mark it as retrieved: `close` waits for the end without asking for the error.
                result.exception()

        def ended(error: BaseException | None) -> None:
            if isinstance(error, OSError):
                error = None if self.is_stopping else self._translated(error)
            try:
                loop.call_soon_threadsafe(finish, error)
            except RuntimeError:  # the loop was closed before its streams: no other code can end this thread
                place.thread.end()

        self._place, self._result = place, result
        self._task = StreamTask(self._sock.fileno(), event, visit, ended)
        place.thread.add(self._task)

    async def finished(self) -> None:
        """Wait until the stream is over, and raise its error. Cancelling stops the worker."""
        if self._result is None:
            return
        try:
            # Shielded: the thread goes on until it notices, and sets the result then.
            await asyncio.shield(self._result)
        except asyncio.CancelledError:
            self.stop()
            raise

    async def run(self, event: int, visit: Callable[[], int], *, alone: bool = False) -> None:
        """`start`, then `finished`; nothing once the worker has been stopped."""
        if not self.is_stopping:
            self.start(event, visit, alone=alone)
            await self.finished()

    def wake(self) -> None:
        """Let the thread visit the stream now. Any thread may call this."""
        place, task = self._place, self._task
        if not self.is_stopping and place is not None and task is not None:
            place.thread.visit(task)

    def stop(self) -> None:
        """Let the thread leave the stream. Idempotent."""
        if self.is_stopping:
            return
        self.is_stopping = True
        if self._place is not None and self._task is not None and not self._is_over:
            self._place.thread.remove(self._task)

    @property
    def _is_over(self) -> bool:
        """True if this worker needs its thread no more, which may have ended."""
        return self._result is None or self._result.done()

    async def ended(self) -> None:
        """Wait until the thread has left the stream, whatever its result."""
        if self._result is not None:
            await asyncio.wait({self._result})
