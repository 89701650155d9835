"""A limit for strangers' datagrams: they must cost running tests little, and so an end that awaits a peer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

IDLE_S, IDLE_BATCHES = 0.1, 256
"""Most batches in this time while no test is awaited: less than 5 % of a processor."""
OPEN_BATCHES = 1024
"""The same while any host may open a session: about a quarter of a processor, if each is decrypted. More is
left to a peer here, whose first datagram is one of all that come."""


class IdleReads:
    """Counts the batches that were read from a port, and the datagrams that were looked into: after so many
    within `IDLE_S` the port is to rest."""

    def __init__(self) -> None:
        self._counted = 0
        self._until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def count(self, batches: int) -> None:
        """Count reads, or datagrams that cost as much."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._until_s:
            self._counted, self._until_s = 0, now_s + IDLE_S
        self._counted += batches

    def is_spent(self, most: int) -> bool:
        """True if the limit is reached: then `rest`."""
        return self._counted >= most and asyncio.get_running_loop().time() < self._until_s

    def rest(self, then: Callable[[], None]) -> None:
        """Call `then()` when reads are allowed again."""
        self.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._until_s, then)

    def cancel(self) -> None:
        """Call nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
