"""Threads of the program: each is a daemon, and one that cannot start is an error of the system."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable


def start_thread(run: Callable[[], None], name: str) -> threading.Thread:
    """Call `run()` in a thread of its own. The program does not wait for it at its end.

    Raises
    ------
    OSError
        EAGAIN, when a limit of the user or of a control group forbids another thread. Python itself raises a
        `RuntimeError`, which no handler would take for a refusal of the system. Also while the interpreter
        ends: no thread begins any more, and Python before 3.12 would wait for it without limit.
    """
    if sys.is_finalizing():
        raise OSError(errno.EAGAIN, "the program is at its end")
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "this process may start no more threads (see ulimit -u)") from error
    return thread
