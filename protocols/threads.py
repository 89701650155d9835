"""Threads of the program: each is a daemon, and one that cannot start is an error of the system."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable


def start_thread(run: Callable[[], None], name: str) -> threading.Thread:
    """Call `run()` in a thread of its own. The program does not wait for it at its end.

    Raises
    ------
    OSError
        EAGAIN, when a limit of the user or of a control group forbids another thread. Python itself raises a
        `RuntimeError`, which no handler would take for a refusal of the system.
    """
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "this process may start no more threads (see ulimit -u)") from error
    return thread
