"""One timer of an event loop, as punctual as the kernel.

    timer = LoopTimer(ring)
    timer.start(wait_us)           ring() once, after that time; it replaces an earlier one
    timer.stop()
    timer.close()                  gives the descriptor back; `start` takes a new one

Event loops sleep in whole milliseconds, and `call_later` with them: at 100 Mb/s, a pacer that waits for it
releases nine datagrams at once where two or three are due, and a buffer of ten loses some. A timer descriptor
(timerfd) wakes the loop as a socket does. `call_later` is used where there is none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.operating_system import ABSENT, start_timer, timer_descriptor
from iperfpy.protocols.socket_watch import SocketWatch

_PUNCTUAL_US, _LATE_US = 100, 1_000
"""Shortest waits with and without a descriptor. The work of a wake-up takes about a tenth of a millisecond;
without a descriptor, an event loop spins for as long as the wait is shorter than its clock's unit."""


class LoopTimer:
    """One timer. It is used on the thread of a running event loop only.

    Parameters
    ----------
    ring : called when the timer has run out

    Attributes
    ----------
    shortest_us : the shortest time worth waiting for, as far as is known before the first `start`
    """

    __slots__ = ("_descriptor", "_handle", "_ring", "_runs", "_watch", "shortest_us")

    def __init__(self, ring: Callable[[], None]) -> None:
        self.shortest_us = _LATE_US
        self._ring = ring
        self._descriptor = ABSENT
        self._watch: SocketWatch | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._runs = False

    def start(self, wait_us: int) -> None:
        """Ring after `wait_us`, above 0."""
        if self._watch is None:
            self._open()
        self._runs = True
        if self._watch is not None:
            start_timer(self._descriptor, 1000 * wait_us)
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = asyncio.get_running_loop().call_later(wait_us / 1e6, self._expired)

    def stop(self) -> None:
        """Ring no more. Idempotent."""
        self._runs = False
        if self._watch is not None:
            start_timer(self._descriptor, 0)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        """Stop, and give the descriptor back. Idempotent."""
        self.stop()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
            os.close(self._descriptor)
            self._descriptor, self.shortest_us = ABSENT, _LATE_US

    def _open(self) -> None:
        """Take a descriptor if the system has them, and one is left for this process."""
        try:
            self._descriptor = timer_descriptor()
        except OSError:
            return
        if self._descriptor == ABSENT:
            return
        watch = SocketWatch(self._descriptor)
        try:
            watch.read(self._expired)
        except TransportError:
            os.close(self._descriptor)
            self._descriptor = ABSENT
            return
        self._watch, self.shortest_us = watch, _PUNCTUAL_US
        if self._handle is not None:  # of a time when no descriptor was left
            self._handle.cancel()
            self._handle = None

    def _expired(self) -> None:
        self._runs, self._handle = False, None
        try:
            self._ring()
        finally:
            if not self._runs and self._watch is not None:
                start_timer(self._descriptor, 0)  # the descriptor stays readable otherwise
