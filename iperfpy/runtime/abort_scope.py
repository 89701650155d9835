"""Every wait of a test goes through a `AbortScope`: it has a deadline, and it ends when the test does.

    client or server    await guard.wait(something, seconds, LateError("..."))
    whoever knows       guard.call_off(error)      the control channel, a data stream, a signal

The first `call_off` wins; the waits in progress and all later ones raise its error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from iperfpy.errors import IperfpyError, LateError

T = TypeVar("T")


class AbortScope:
    """Made inside the event loop; one per test."""

    def __init__(self) -> None:
        self._called_off: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._later: asyncio.TimerHandle | None = None

    @property
    def error(self) -> BaseException | None:
        """Why the test was called off, None while it was not."""
        return self._called_off.exception() if self._called_off.done() else None

    def call_off(self, error: BaseException) -> None:
        """End the test with this error, unless it has ended with another. Anything but an `IperfpyError`
        is a fault of this program, or of a plug-in, and is raised as it is."""
        if not self._called_off.done():
            self._called_off.set_exception(error)
            self._called_off.exception()  # seen: nobody needs to wait for it

    def call_off_later(self, seconds: float, error: IperfpyError) -> None:
        """The same, unless a better explanation comes within `seconds`."""
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(seconds, self.call_off, error)

    @property
    def doubtful(self) -> bool:
        """Whether a `call_off_later` is pending."""
        return self._later is not None

    async def wait(self, awaitable: Awaitable[T], seconds: float | None, late: str) -> T:
        """The result of `awaitable`, which is cancelled when this raises. `seconds` None: something else
        (the stall check, a watchdog) ends the wait.

        Raises
        ------
        LateError
            With the sentence `late`, after `seconds`.
        IperfpyError
            When the test is called off meanwhile, or was before.
        """
        task = asyncio.ensure_future(awaitable)
        try:
            waiting: set[asyncio.Future[T] | asyncio.Future[None]] = {task, self._called_off}
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if self._called_off.done():
                self._called_off.result()
            if not task.done():
                raise LateError(late)
            return task.result()
        finally:
            await _abandon(task)

    def close(self) -> None:
        """No more surprises: a pending `call_off_later` is forgotten."""
        if self._later is not None:
            self._later.cancel()


async def _abandon(task: asyncio.Future[T]) -> None:
    """Cancel and wait until it is over, so that what it held is released."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1.0)
    if task.done() and not task.cancelled():
        task.exception()  # whatever it was, a better reason is on its way
