"""A limit for reads that no test is waiting for: strangers' datagrams must cost running tests little."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

IDLE_S, IDLE_BATCHES = 0.1, 256
"""Most batches in this time: less than 5 % of a processor."""


class IdleReads:
    """Counts the batches read from a port: after `IDLE_BATCHES` within `IDLE_S` the port is to rest."""

    def __init__(self) -> None:
        self._left = IDLE_BATCHES
        self._until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def spend(self, batches: int) -> bool:
        """Count reads. Returns True if the limit is reached: then `rest`."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._until_s:
            self._left, self._until_s = IDLE_BATCHES, now_s + IDLE_S
        self._left -= batches
        return self._left <= 0

    def rest(self, then: Callable[[], None]) -> None:
        """Call `then()` when reads are allowed again."""
        self.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._until_s, then)

    def cancel(self) -> None:
        """Call nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
