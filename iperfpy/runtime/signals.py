"""Signals that end a test in good order: SIGINT, SIGTERM, SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from types import TracebackType

OnSignal = Callable[[str], None]

SAME_WISH_S = 0.5
"""A signal so soon after the first is the same wish: timeout(1) tells the process and then its group."""


class Signals:
    """While the context lasts, a signal calls `on_signal` with its name, e.g. "Interrupt(2)"; the second one
    cancels the task that entered the context, for whom a good order takes too long.

    A signal that the parent had ignored (nohup) stays ignored. Outside the main thread nothing happens.
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
        elif self._task is not None and now_s - self._first_s > SAME_WISH_S:
            self._task.cancel()
