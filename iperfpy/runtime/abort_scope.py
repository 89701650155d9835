"""A scope in which every wait ends: with its result, at its deadline, or when the test is aborted.

    client or server    await scope.wait(something, seconds, "the server did not answer")
    any other part      scope.abort(error)      the control channel, a data stream, the user

The first `abort` decides. Its error is raised by the waits in progress and by all later ones.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from iperfpy.errors import IperfpyError, LateError

T = TypeVar("T")


class AbortScope:
    """One test, or one part of it. Must be made inside a running event loop."""

    def __init__(self) -> None:
        self._aborted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._later: asyncio.TimerHandle | None = None
        self._outer: AbortScope | None = None

    def nested(self) -> AbortScope:
        """A scope that is aborted with this one, but not the other way round. `close` it."""
        inner = AbortScope()
        inner._outer = self
        self._aborted.add_done_callback(inner._follow)
        return inner

    @property
    def error(self) -> BaseException | None:
        """The error of the abort, None while there was none."""
        return self._aborted.exception() if self._aborted.done() else None

    def abort(self, error: BaseException) -> None:
        """Abort with this error; without effect after the first. Any other error than an `IperfpyError` is a
        fault of this program, or of a plug-in, and is raised unchanged."""
        if not self._aborted.done():
            self._aborted.set_exception(error)
            self._aborted.exception()  # marks it as retrieved: asyncio logs it otherwise if no wait follows

    def abort_threadsafe(self, error: BaseException) -> None:
        """`abort` in the event loop's thread, from any other; without effect once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._aborted.get_loop().call_soon_threadsafe(self.abort, error)

    def abort_later(self, seconds: float, error: IperfpyError) -> None:
        """Abort after `seconds`, which gives a better explanation the time to arrive."""
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(seconds, self.abort, error)

    @property
    def aborting(self) -> bool:
        """True once an abort was asked for, even if its time has not come."""
        return self._later is not None or self._aborted.done()

    async def wait(
        self,
        awaitable: Awaitable[T],
        seconds: float | Callable[[], float] | None,
        late: str | Callable[[], str],
    ) -> T:
        """The result of `awaitable`, which is cancelled if this raises.

        Parameters
        ----------
        seconds : None: no deadline of its own; only the result or an abort ends the wait. A function gives
            the seconds that are left, and is asked again when they are over: 0 or less ends the wait
        late : sentence of the error at the deadline, or a function that gives it then

        Raises
        ------
        LateError
            After `seconds`.
        IperfpyError
            The error of the abort, if the scope is aborted during the wait or was before.
        """
        task = asyncio.ensure_future(awaitable)
        try:
            waiting: set[asyncio.Future[T] | asyncio.Future[None]] = {task, self._aborted}
            left_s = seconds() if callable(seconds) else seconds
            done, _ = await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            while not done and callable(seconds) and (left_s := seconds()) > 0:
                done, _ = await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            # An abort goes before a result: the test is over, even if this part of it succeeded.
            if self._aborted.done():
                self._aborted.result()
            if not task.done():
                sentence = late() if callable(late) else late
                if self._aborted.done():  # `late` asks channels, and one of them has a fault
                    self._aborted.result()
                raise LateError(sentence)
            return task.result()
        finally:
            await _cancel(task)

    async def until_aborted(self) -> NoReturn:
        """Wait for the abort, and raise its error."""
        await asyncio.wait([self._aborted])  # unlike `await`, it leaves the future alone when it is cancelled
        self._aborted.result()
        raise RuntimeError("an abort without an error")

    def close(self) -> None:
        """Forget a pending `abort_later`, and the outer scope."""
        if self._later is not None:
            self._later.cancel()
        if self._outer is not None:
            self._outer._aborted.remove_done_callback(self._follow)

    def _follow(self, outer: asyncio.Future[None]) -> None:
        error = None if outer.cancelled() else outer.exception()
        if error is not None:
            self.abort(error)


async def _cancel(task: asyncio.Future[T]) -> None:
    """Cancel the task and wait for its end, so that it has released its resources."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1.0)
    if task.done() and not task.cancelled():
        task.exception()  # retrieve it, so that asyncio does not log it; the caller raises the primary error
