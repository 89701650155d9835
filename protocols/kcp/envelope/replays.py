"""Datagrams that come again: their nonces are random, so that one seen before is a copy.

Few are remembered, because a look into a large set misses the processor's cache, for every datagram. An older
copy reaches KCP, which drops segments that have arrived before.
"""

from __future__ import annotations

import numpy as np

from iperfpy.protocols.kcp.wire import Bytes

REMEMBERED, BEGINNING_BYTES = 1 << 12, 16
"""Datagrams that are remembered at least, beside as many older ones, and the bytes by which they are known,
which hold the nonce."""
_MULTIPLIER = np.uint64(0x9E37_79B9_7F4A_7C15)
"""Odd, so that nonces that count up give different marks."""


class Replays:
    """Remembers the nonces of the datagrams that were accepted."""

    __slots__ = ("_newest", "_older")

    def __init__(self) -> None:
        self._newest: set[int] = set()
        self._older: set[int] = set()

    def fresh(self, datagrams: Bytes) -> list[bool] | None:
        """False for each datagram, a row that begins with its nonce, that was accepted before; None if there
        is none of these. The datagrams are remembered."""
        words = np.ascontiguousarray(datagrams[:, :BEGINNING_BYTES]).view(np.uint64)
        # A mark of 64 bits: two of 2^13 datagrams have the same with a chance of 2^-39.
        marks: list[int] = (words[:, 0] * _MULTIPLIER + words[:, 1]).tolist()
        known = set(marks)
        found = None
        if len(known) != len(marks) or not (self._newest.isdisjoint(known) and self._older.isdisjoint(known)):
            found, here = [], set[int]()
            for mark in marks:
                found.append(mark not in here and mark not in self._newest and mark not in self._older)
                here.add(mark)
        self._newest |= known
        if len(self._newest) >= REMEMBERED:
            self._older, self._newest = self._newest, set()
        return found
