"""Acknowledgements owed to the peer: serial numbers and stamps, until the next transmission."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.inbound import Pushes
from iperfpy.protocols.kcp.wire import Bytes, Int64s


class OwedAcks:
    """ACKs that leave with the next transmission.

    Parameters
    ----------
    repeats : how many later ACK datagrams repeat the ACKs of segments that arrived out of order
    """

    def __init__(self, conv: int, repeats: int) -> None:
        self._conv = conv
        self._last: tuple[int, int] | None = None
        self._parts: list[tuple[Int64s | list[int], Int64s | list[int]]] = []
        self._recent: deque[tuple[Int64s, Int64s]] = deque(maxlen=max(1, repeats))

    @property
    def owed(self) -> bool:
        """True if anything is to be acknowledged."""
        return self._last is not None or bool(self._parts)

    def owe(self, pushes: Pushes, accepted: NDArray[np.bool_] | None) -> None:
        """Note segments that arrived.

        Parameters
        ----------
        accepted : bool (n,), which of them to acknowledge, each with an ACK of its own; None: all arrived in
            order, and one ACK for the last is enough, since una covers the others
        """
        if accepted is None:
            self._last = (pushes.last, pushes.last_ts)
        elif len(accepted) == 1:
            if accepted[0]:
                self._owe_one(pushes.first, pushes.last_ts)
        elif accepted.any():
            self._parts.append((pushes.numbers()[accepted], pushes.stamps()[accepted]))

    def _owe_one(self, number: int, stamp: int) -> None:
        """Owe an ACK for one segment: single ones are gathered in lists, which become arrays later."""
        if not self._parts or not isinstance(self._parts[-1][0], list):
            self._parts.append(([], []))
        numbers, stamps = self._parts[-1]
        assert isinstance(numbers, list)
        assert isinstance(stamps, list)
        numbers.append(number)
        stamps.append(stamp)

    def take(self, wnd: int, una: int, *, repeat: bool) -> Bytes:
        """The ACK segments owed, back to back; call if `owed`. `repeat`: also the recent ones above `una`."""
        last, parts = self._last, self._parts
        self._last, self._parts = None, []
        if not parts:
            assert last is not None
            number, stamp = last
            alone = wire.control_segment(self._conv, wire.ACK, wnd, una, stamp, number)
            return np.frombuffer(alone, np.uint8)
        if last is not None:
            parts.append((np.array(last[:1], np.int64), np.array(last[1:], np.int64)))
        owed = _joined(parts)
        if repeat:
            # A lost ACK would otherwise make the peer retransmit a segment that is here: una repairs only
            # the loss of ACKs below it.
            again = [(sn[sn >= una], stamps[sn >= una]) for sn, stamps in self._recent]
            self._recent.append(owed)
            owed = _joined([*again, owed])
        return wire.ack_segments(self._conv, wnd, una, *owed)


def _joined(parts: Sequence[tuple[Int64s | list[int], Int64s | list[int]]]) -> tuple[Int64s, Int64s]:
    numbers, stamps = zip(*parts, strict=True)
    return np.concatenate(numbers, dtype=np.int64), np.concatenate(stamps, dtype=np.int64)
