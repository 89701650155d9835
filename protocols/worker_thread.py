"""The thread of one channel: it sits in blocking socket calls, where the interpreter lock is not held.

    worker = WorkerThread(sock, "tcp", translated)
    await worker.run(work)          event loop    starts the thread, returns when `work` does
    worker.stopping.is_set()        thread        asked by `work` between blocking calls
    worker.stop()                   event loop    shuts the socket down: a blocked call returns
    await worker.ended()            event loop    the thread has let go of the socket, which may be closed

An `OSError` of `work` becomes the `TransportError` that `translated` makes of it. While stopping it is
ignored: the shutdown of the socket caused it. Other errors are passed on unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.threads import start_thread


class WorkerThread:
    """Runs the blocking work of one channel, one piece at a time. Its methods run on the event loop's thread.

    Attributes
    ----------
    stopping : threading.Event
        Set by `stop`; `work` returns soon after.
    """

    def __init__(
        self, sock: socket.socket, name: str, translated: Callable[[OSError], TransportError]
    ) -> None:
        self.stopping = threading.Event()
        self._sock = sock
        self._name = name
        self._translated = translated
        self._result: asyncio.Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Run `work()` in a thread, unless the worker has been stopped. Raises `TransportError` if the system
        has no thread to spare."""
        if self.stopping.is_set():
            return
        loop = asyncio.get_running_loop()
        result = loop.create_future()

        def finish(error: BaseException | None) -> None:
            if result.done():
                return
            if error is None:
                result.set_result(None)
            else:
                result.set_exception(error)
                # Mark it as retrieved: `close` waits for the end without asking for the error.
                result.exception()

        def run() -> None:
            error: BaseException | None = None
            try:
                work()
            except OSError as failure:
                error = None if self.stopping.is_set() else self._translated(failure)
            except BaseException as failure:
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop was closed before the thread ended
                loop.call_soon_threadsafe(finish, error)

        try:
            start_thread(run, f"{self._name}-{self._sock.fileno()}")
        except OSError as error:
            raise TransportError(str(error.strerror)) from error
        self._result = result  # only now: `ended` waits for it

    async def finished(self) -> None:
        """Wait until the work started last has returned, and raise its error. Cancelling stops the thread."""
        if self._result is None:
            return
        try:
            # Shielded: the thread goes on until it notices, and sets the result then.
            await asyncio.shield(self._result)
        except asyncio.CancelledError:
            self.stop()
            raise

    async def run(self, work: Callable[[], None]) -> None:
        """`start`, then `finished`; nothing once the worker has been stopped."""
        if not self.stopping.is_set():
            self.start(work)
            await self.finished()

    def stop(self) -> None:
        """Make `work` return: set `stopping`, and wake it from a blocking call."""
        self.stopping.set()
        with contextlib.suppress(OSError):  # not connected any more: no call is blocked in it
            self._sock.shutdown(socket.SHUT_RDWR)

    async def ended(self) -> None:
        """Wait for the end of the thread, whatever its result."""
        if self._result is not None:
            await asyncio.wait({self._result})
