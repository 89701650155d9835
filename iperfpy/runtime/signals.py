"""Signals that end a program in an orderly way: SIGINT, SIGTERM, SIGHUP.

Only the command line uses them. `run_client` and `run_server` install no handler.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

from iperfpy.errors import InterruptError
from iperfpy.plan import Role
from iperfpy.runtime.abort_scope import AbortScope

T = TypeVar("T")
OnSignal = Callable[[str], None]

DUPLICATE_SIGNAL_S = 0.5
"""timeout(1) signals the process and then its group; a second signal within this time is that duplicate, not
a second Ctrl-C."""


async def until_signalled(role: Role, main: Callable[[AbortScope], Awaitable[T]]) -> T:
    """The result of `main(scope)`. The first signal aborts the scope with an `InterruptError`, the second
    cancels the task that called this function."""
    scope = AbortScope()

    def interrupt(name: str) -> None:
        scope.abort(InterruptError(f"the {role.value} has terminated by signal {name}"))

    with Signals(interrupt):
        return await main(scope)


class Signals:
    """A context in which the first signal calls `on_signal` with its name, e.g. "Interrupt(2)".

    The second one cancels the task that entered the context: the user does not want to wait for a clean
    shutdown. A signal that the parent process had ignored (nohup) stays ignored. Outside the main thread
    the context has no effect.
    """

    def __init__(self, on_signal: OnSignal) -> None:
        self._on_signal = on_signal
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._handled: list[signal.Signals] = []
        self._first_s: float | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        for number in (signal.Signals[name] for name in names if name in signal.Signals.__members__):
            if signal.getsignal(number) is not signal.SIG_IGN:
                with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C stays KeyboardInterrupt
                    self._loop.add_signal_handler(number, self._arrived, number)
                    self._handled.append(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._handled:
            self._loop.remove_signal_handler(number)

    def _arrived(self, number: signal.Signals) -> None:
        now_s = self._loop.time()
        if self._first_s is None:
            self._first_s = now_s
            self._on_signal(f"{signal.strsignal(number)}({int(number)})")
        elif self._task is not None and now_s - self._first_s > DUPLICATE_SIGNAL_S:
            self._task.cancel()
