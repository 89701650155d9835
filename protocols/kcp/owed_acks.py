"""What is owed to the peer: which of its segments to acknowledge, and with which stamps."""

from __future__ import annotations

from collections import deque

import numpy as np

from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.wire import Bytes, Int64s


class OwedAcks:
    """Parameters
    ----------
    repeats : how many later ACK datagrams say again what arrived out of order
    """

    def __init__(self, conv: int, repeats: int) -> None:
        self._conv = conv
        self._last: tuple[int, int] | None = None
        self._parts: list[tuple[Int64s, Int64s]] = []
        self._recent: deque[tuple[Int64s, Int64s]] = deque(maxlen=max(1, repeats))

    @property
    def owed(self) -> bool:
        return self._last is not None or bool(self._parts)

    def in_order(self, number: int, stamp: int) -> None:
        """All up to `number` arrived, with this stamp the last: una says the rest."""
        self._last = (number, stamp)

    def each(self, numbers: Int64s, stamps: Int64s) -> None:
        """These arrived otherwise: serial numbers and stamps (n,)."""
        if len(numbers):
            self._parts.append((numbers, stamps))

    def take(self, wnd: int, una: int, *, repeat: bool) -> Bytes:
        """What is owed as ACK segments back to back; call when there is something. `repeat`: say again what
        the last ones said of segments above una."""
        last, parts = self._last, self._parts
        self._last, self._parts = None, []
        if not parts:
            assert last is not None
            number, stamp = last
            alone = wire.control_segment(self._conv, wire.ACK, wnd, una, stamp, number)
            return np.frombuffer(alone, np.uint8)
        if last is not None:
            parts.append((np.array(last[:1], np.int64), np.array(last[1:], np.int64)))
        said = _joined(parts)
        if repeat:
            # A lost ACK would otherwise make the peer send again what is here: una repairs only what is
            # below it.
            again = [(sn[sn >= una], stamps[sn >= una]) for sn, stamps in self._recent]
            self._recent.append(said)
            said = _joined([*again, said])
        return wire.ack_segments(self._conv, wnd, una, *said)


def _joined(parts: list[tuple[Int64s, Int64s]]) -> tuple[Int64s, Int64s]:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
