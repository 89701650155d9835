"""Signals from the start of the program until its own handlers stand (`signals.Signals`), which is while its
modules are imported and its words are read. The module imports little, so that it stands early."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # SIGBREAK: Ctrl-Break of Windows
DUPLICATE_SIGNAL_S = 0.5
"""timeout(1) signals the process and then its group; a second signal within this time is that duplicate, not
a second Ctrl-C."""
INTERRUPTED = 130


def stopping_signals() -> list[signal.Signals]:
    """The signals of this system by which a user ends a program."""
    return [signal.Signals[name] for name in NAMES if name in signal.Signals.__members__]


def signal_name(number: int) -> str:
    """A signal in sentences: "Interrupt(2)"."""
    return f"{signal.strsignal(number)}({int(number)})"


class Stopped(KeyboardInterrupt):
    """A signal came. It derives from the exception of a Ctrl-C, which nothing takes for a fault."""


class EarlySignals:
    """A context in which the first signal raises `Stopped`, a duplicate does nothing, and a later one ends
    the process.

    A signal that the parent process had ignored, or that has a handler, stays as it is. Outside the main
    thread the context has no effect.

    Attributes
    ----------
    number : of the first signal, 0 before it
    """

    def __init__(self) -> None:
        self.number = 0
        self._first_s = 0.0
        self._before: dict[signal.Signals, Any] = {}
        self._unraisable = sys.unraisablehook

    def __enter__(self) -> EarlySignals:
        if threading.current_thread() is threading.main_thread():
            for number in stopping_signals():
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._arrived)
            self._unraisable, sys.unraisablehook = sys.unraisablehook, self._lost
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if sys.unraisablehook == self._lost:  # also if every signal was ignored
            sys.unraisablehook = self._unraisable

    def check(self) -> None:
        """Raise `Stopped` if the exception of a signal was lost."""
        if self.number:
            raise Stopped

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number, self._first_s = number, time.monotonic()
            raise Stopped
        if time.monotonic() - self._first_s > DUPLICATE_SIGNAL_S:
            os.write(2, b"iperfpy: interrupt - interrupted twice; stopped without a clean shutdown\n")
            os._exit(INTERRUPTED)

    def _lost(self, unraisable: Any) -> None:
        """Keep quiet about a `Stopped` that was raised in a callback of the interpreter, which drops it."""
        if not isinstance(unraisable.exc_value, Stopped):
            self._unraisable(unraisable)
