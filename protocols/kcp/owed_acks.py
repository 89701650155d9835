"""Acknowledgements owed to the peer: serial numbers and stamps, until the next transmission."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.ack_timing import AckTiming
from iperfpy.protocols.kcp.inbound import Pushes
from iperfpy.protocols.kcp.receive_window import ReceiveWindow, Taken
from iperfpy.protocols.kcp.wire import HEADER_BYTES, Bytes, Int64s

MOST_OWED = 256
"""Most single segments, and most batches of segments, that wait for the time at which their ACKs leave."""


class Departure(NamedTuple):
    """Datagrams of acknowledgements: bytes back to back, bytes of each datagram, number of segments."""

    data: Bytes
    stride: int
    segments: int


class OwedAcks:
    """ACKs that leave with the next transmission, or when `timing` says.

    Parameters
    ----------
    repeats : how many later ACK datagrams repeat the ACKs of segments that arrived out of order
    timing : decides when they leave; None: the engine does, as stock KCP
    """

    def __init__(self, conv: int, repeats: int, timing: AckTiming | None = None) -> None:
        self._conv, self._repeats, self.timing = conv, repeats, timing
        self._last: tuple[int, int] | None = None
        self._parts: list[tuple[Int64s | list[int], Int64s | list[int]]] = []
        self._recent: deque[tuple[Int64s, Int64s]] = deque(maxlen=max(1, repeats))

    @property
    def owed(self) -> bool:
        """True if anything is to be acknowledged."""
        return self._last is not None or bool(self._parts)

    def owe(self, pushes: Pushes, taken: Taken, now_us: int) -> None:
        """Note segments that the receive window took."""
        if self.timing is not None:
            self.timing.arrived(taken, now_us)
        accepted = taken.accepted
        if accepted is None:
            self._last = (pushes.last, pushes.last_ts)
        elif len(accepted) == 1:
            if accepted[0]:
                self._owe_one(pushes.first, pushes.last_ts)
        elif accepted.any():
            self._parts.append((pushes.numbers()[accepted], pushes.stamps()[accepted]))
            if len(self._parts) >= MOST_OWED:
                self._fill()

    def _fill(self) -> None:
        if self.timing is not None:
            self.timing.fill()

    def _owe_one(self, number: int, stamp: int) -> None:
        """Owe an ACK for one segment: single ones are gathered in lists, which become arrays later."""
        if not self._parts or not isinstance(self._parts[-1][0], list):
            self._parts.append(([], []))
        numbers, stamps = self._parts[-1]
        assert isinstance(numbers, list)
        assert isinstance(stamps, list)
        numbers.append(number)
        stamps.append(stamp)
        if len(numbers) >= MOST_OWED:
            self._fill()

    def owe_probe(self, pushes: Pushes, now_us: int) -> None:
        """Note a probe of the path: its stamp is echoed at once."""
        self._owe_one(pushes.first, pushes.last_ts)
        if self.timing is not None:
            self.timing.report()

    def take(self, wnd: int, receiving: ReceiveWindow, now_us: int, longest: int) -> list[Departure]:
        """The ACK segments owed; call if `owed`."""
        repeat, timing = self._repeats > 0 and receiving.stored > 0, self.timing
        last, parts = self._last, self._parts
        self._last, self._parts = None, []
        stride = longest // HEADER_BYTES * HEADER_BYTES
        if last is None and not repeat and len(parts) == 1 and len(parts[0][0]) == 1:
            last, parts = (int(parts[0][0][0]), int(parts[0][1][0])), []  # no array is needed for one
        if not parts:
            assert last is not None
            number, stamp = last
            alone = wire.control_segment(self._conv, wire.ACK, wnd, receiving.nxt, stamp, number)
            return [Departure(np.frombuffer(alone, np.uint8), stride, 1)]
        if last is not None:
            parts.append((np.array(last[:1], np.int64), np.array(last[1:], np.int64)))
        owed = _joined(parts)
        if repeat:
            # A lost ACK would otherwise make the peer retransmit a segment that is here: una repairs only
            # the loss of ACKs below it.
            una, recent = receiving.nxt, list(self._recent)
            self._recent.append(owed)
            if timing is None or timing.is_losing(now_us):
                again = [(sn[sn >= una], stamps[sn >= una]) for sn, stamps in recent]
                owed = _joined([*again, owed])
            if timing is not None:
                most = max(len(self._recent[-1][0]), timing.spare_bytes // HEADER_BYTES)
                owed = owed[0][-most:], owed[1][-most:]  # the latest
        return [Departure(wire.ack_segments(self._conv, wnd, receiving.nxt, *owed), stride, len(owed[0]))]


def _joined(parts: Sequence[tuple[Int64s | list[int], Int64s | list[int]]]) -> tuple[Int64s, Int64s]:
    numbers, stamps = zip(*parts, strict=True)
    return np.concatenate(numbers, dtype=np.int64), np.concatenate(stamps, dtype=np.int64)
