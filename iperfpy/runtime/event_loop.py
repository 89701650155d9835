"""The clock and the event loop: the only module that imports uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from iperfpy.errors import StartError
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.operating_system import fine_timers, monotonic_ns
from iperfpy.runtime.descriptors import check_start

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a new event loop, uvloop's if it is installed.

    Raises
    ------
    StartError
        The process may open too few files and sockets for any test.
    """
    try:
        check_start()
    except StartError:
        main.close()
        raise
    with fine_timers(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


class FineLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with the clock of all measurements. Its own has steps of 15.6 ms on Windows, and runs a
    callback at once that is due within such a step."""

    def __init__(self) -> None:
        super().__init__()
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return monotonic_ns() / 1e9


async def sleep_until(when_us: int) -> int:
    """Sleep until the clock has reached `when_us`, and return its reading. Yields at least once."""
    remaining_us = when_us - now_us()
    await asyncio.sleep(max(0, remaining_us) / 1e6)
    now = now_us()
    # A loop's timers are coarser than the clock, and may fire early by as much.
    return now if now >= when_us else await sleep_until(when_us)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's loop, or the one of asyncio that watches sockets: on Windows the default loop does not."""
    try:
        import uvloop
    except ImportError:
        return FineLoop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
