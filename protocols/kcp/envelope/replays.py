"""Datagrams that come again: their nonces are random, so that one seen before is a copy.

The table of the nonces forgets one only where a later one takes its place: of copies of the 20,000th datagram
before, nine in ten are found. Others reach KCP, which drops segments that have arrived before.
"""

from __future__ import annotations

import numpy as np

from iperfpy.protocols.kcp.wire import Bytes

BEGINNING_BYTES = 16
"""The bytes by which a datagram is known, which hold the nonce."""
MOST, _SPARSE = 1 << 18, 8
"""Most places of the table, 8 bytes each, and the places for each datagram until there are as many."""
_MULTIPLIER = np.uint64(0x9E37_79B9_7F4A_7C15)
"""Odd, so that nonces that count up give different marks."""


class Replays:
    """Remembers the nonces of the datagrams that were accepted."""

    __slots__ = ("_count", "_places", "_shift")

    def __init__(self) -> None:
        self._count, self._places, self._shift = 0, np.zeros(0, np.uint64), np.uint64(0)

    def fresh(self, datagrams: Bytes) -> list[bool] | None:
        """False for each datagram, a row that begins with its nonce, that was accepted before; None if there
        is none of these. The datagrams are remembered."""
        words = np.ascontiguousarray(datagrams[:, :BEGINNING_BYTES]).view(np.uint64)
        # A mark of 64 bits: one of 2^18 others is the same with a chance of 2^-46.
        marks = words[:, 0] * _MULTIPLIER + words[:, 1]
        self._count += len(marks)
        if _SPARSE * self._count > len(self._places) < MOST:
            self._grow()
        at = marks >> self._shift
        known, each = self._places[at] == marks, marks.tolist()
        found = None
        if np.count_nonzero(known) or len(set(each)) != len(each):
            found, here = [], set[int]()
            for mark, is_known in zip(each, known.tolist(), strict=True):
                found.append(not is_known and mark not in here)
                here.add(mark)
        self._places[at] = marks
        return found

    def _grow(self) -> None:
        held = self._places[self._places > 0]
        self._places = np.zeros(min(MOST, 1 << (4 * _SPARSE * self._count).bit_length()), np.uint64)
        self._shift = np.uint64(65 - len(self._places).bit_length())  # a mark's place is its highest bits
        self._places[held >> self._shift] = held
