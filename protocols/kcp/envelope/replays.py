"""Datagrams that come again: their nonces are random, so that one seen before is a copy."""

from __future__ import annotations

import numpy as np

from iperfpy.protocols.kcp.wire import Bytes

REMEMBERED, BEGINNING_BYTES = 1 << 15, 16
"""Datagrams that are remembered at least, beside as many older ones, and the bytes by which they are known,
which hold the nonce. 10 MB in all."""


class Replays:
    """Remembers the nonces of the datagrams that were accepted."""

    __slots__ = ("_newest", "_older")

    def __init__(self) -> None:
        self._newest: set[bytes] = set()
        self._older: set[bytes] = set()

    def fresh(self, datagrams: Bytes) -> list[bool]:
        """False for each datagram, a row that begins with its nonce, that was accepted before; the others are
        remembered."""
        beginnings = np.ascontiguousarray(datagrams[:, :BEGINNING_BYTES])
        nonces: list[bytes] = beginnings.view(f"V{BEGINNING_BYTES}").ravel().tolist()
        known = set(nonces)
        if len(known) == len(nonces) and self._newest.isdisjoint(known) and self._older.isdisjoint(known):
            found = [True] * len(nonces)
        else:
            found, here = [], set[bytes]()
            for nonce in nonces:
                found.append(nonce not in here and nonce not in self._newest and nonce not in self._older)
                here.add(nonce)
        self._newest |= known
        if len(self._newest) >= REMEMBERED:
            self._older, self._newest = self._newest, set()
        return found
