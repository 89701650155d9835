"""The limit of open files and sockets of this process (ulimit -n).

raise_limit()             the program, at its start
check_start()             before an event loop is made
check_streams(count)      a server, before it admits a test
SpareDescriptor           a server that is out of them: it refuses clients instead of leaving them waiting
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket

from iperfpy.errors import PlanError, StartError, system_reason

START = 16
"""Descriptors of an event loop, a control connection and one stream."""
PER_STREAM = 2
"""A socket, and the descriptor that watches it."""
log = logging.getLogger(__name__)


def raise_limit() -> None:
    """Let this process open as many files and sockets as the system allows it: a test of many streams, and a
    server of many tests, need more than the usual 1024."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # macOS allows less than the hard limit it reports
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check_start() -> None:
    """Raise `StartError` if an event loop could not be made: libuv aborts the process in that case."""
    reason, left = _probe(START)
    if reason:
        raise StartError(f"{reason}: it needs {START} and can have {left}")


def check_streams(count: int) -> None:
    """Raise `PlanError` if this server could not open so many streams."""
    needed = PER_STREAM * count
    reason, left = _probe(needed)
    if reason:
        raise PlanError(f"this server has {left} descriptors left, and {count} streams need up to {needed}")


def _probe(count: int) -> tuple[str, int]:
    """Why fewer than `count` descriptors can be opened, or empty; and the number that can be, at most
    `count`."""
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return system_reason(error), len(opened)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return "", count


class SpareDescriptor:
    """A descriptor that a server keeps, to refuse a client when it has no other one left.

    Without it the connection would stay in the kernel's queue: its client would wait, and the listener would
    stay readable.
    """

    def __init__(self) -> None:
        self._spare: int | None = None
        self._is_out = False

    def keep(self) -> None:
        """Open the descriptor, if there is one to be had."""
        if self._spare is None:
            with contextlib.suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY)

    def accepted(self) -> None:
        """A connection was taken: the next refusal is worth a line in the log."""
        self._is_out = False
        self.keep()

    def refuse(self, listener: socket.socket, error: OSError, message: bytes) -> None:
        """Send `message` to the client that waits at the listener, and close its connection. `error` is the
        reason why it cannot be taken."""
        if not self._is_out:
            self._is_out = True
            log.warning("refusing new connections: %s", system_reason(error))
        self.release()
        with contextlib.suppress(OSError):
            sock, _ = listener.accept()
            with sock:
                sock.setblocking(False)
                sock.send(message)
        self.keep()

    def release(self) -> None:
        """Close the descriptor."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
