"""Ctrl-Z takes a status off the terminal before it stops the process: the shell finds an empty line."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FrameType

STOP = "SIGTSTP"


@contextlib.contextmanager
def stopping_within(hidden: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """A context in which SIGTSTP stops the process inside `hidden()`, until SIGCONT.

    It changes nothing outside the main thread, for a signal that the parent process has ignored, and on a
    system without job control.
    """
    number = signal.Signals.__members__.get(STOP)
    in_main = threading.current_thread() is threading.main_thread()
    if number is None or not in_main or signal.getsignal(number) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        with hidden():
            signal.signal(number, signal.SIG_DFL)
            # To this thread, so that it stops here. It goes on at once if no shell waits for the process: the
            # kernel does not stop the processes of an orphaned group.
            signal.raise_signal(number)
            signal.signal(number, stop)

    signal.signal(number, stop)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)
