"""Acknowledgements owed to a peer that reads ranges: arrivals since the last one, and what lies above una.

rows     each arrival once, with its time (`ack_ranges.py`)
ranges   above una: those that the last `_REPEATS` acknowledgements were about, then the highest. If all
         acknowledgements arrive, they tell the sender nothing new; one that is lost costs nothing
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp.ack_ranges import (
    HEAD,
    INTERVALS_US,
    RANGE,
    REPEATED,
    ROW,
    RangeAck,
    Row,
    age_of,
    write_ranges,
)
from iperfpy.protocols.kcp.ack_timing import LONGEST_US, SHORTEST_WAIT_US, AckTiming
from iperfpy.protocols.kcp.inbound import Pushes
from iperfpy.protocols.kcp.owed_acks import Departure
from iperfpy.protocols.kcp.receive_window import ReceiveWindow, Taken
from iperfpy.protocols.kcp.wire import ACK, HEADER_BYTES, Int64s, control_segment, expand

MOST_ROWS, MOST_RANGES = 32, 16
"""Most rows and ranges of one segment. More rows make more segments, which leave at once."""
_REPEATS, _FULL = 4, 4_096


class OwedRanges:
    """Acknowledgements that leave with a later transmission, when `timing` says.

    Attributes
    ----------
    timing : decides when they leave
    """

    __slots__ = ("_conv", "_newest", "_probes", "_receiving", "_recent", "_rows", "_serial", "timing")

    def __init__(self, conv: int, receiving: ReceiveWindow, timing: AckTiming) -> None:
        self._conv, self._receiving, self.timing = conv, receiving, timing
        self._rows: list[_Arrivals] = []
        self._probes: list[tuple[int, int]] = []  # (serial number, stamp)
        self._recent: deque[list[int]] = deque(maxlen=_REPEATS)
        self._newest = (-1, 0, 0)  # stamp, serial number, time of arrival
        self._serial = 0

    @property
    def owed(self) -> bool:
        """True if anything is to be acknowledged."""
        return bool(self._rows or self._probes)

    def owe_probe(self, pushes: Pushes, now_us: int) -> None:
        """Note a probe of the path: a stock ACK echoes its stamp at once."""
        self._probes.append((pushes.first, pushes.last_ts))
        self.timing.report()

    def owe(self, pushes: Pushes, taken: Taken, now_us: int) -> None:
        """Note segments that the receive window took, and the interval that the peer asks for."""
        self._owe(pushes, taken.accepted, now_us)
        self.timing.arrived(taken, now_us)
        if pushes.frg:
            self.timing.interval_us = min(INTERVALS_US[pushes.frg], LONGEST_US)

    def _owe(self, pushes: Pushes, accepted: NDArray[np.bool_] | None, now_us: int) -> None:
        if accepted is None and pushes.sn is None:
            # The usual case. A run that ends with the newest stamp of all ascends: data leaves in order. A
            # flight has one stamp: its first arrival is the one that counts.
            ts, last, rows, newest_us = pushes.last_ts, pushes.last, self._rows, self._newest[0]
            stamp = expand(ts, newest_us) if newest_us >= 0 else ts
            if stamp >= newest_us:
                if stamp != newest_us:
                    self._newest = (stamp, last, now_us)
                if rows and rows[-1].continues(pushes.first, ts, now_us, self._within_us, repeated=False):
                    rows[-1].extend(last, ts, now_us)
                else:
                    self._add(pushes.first, last, ts, now_us, repeated=False)
                return
        if pushes.first == pushes.last and pushes.sn is None:
            # One segment behind a gap, as each is on a path that loses: no array is needed.
            if accepted is None or accepted[0]:
                again = accepted is not None and bool(self._receiving.repeated[0])
                self._note_newest(pushes.last_ts, pushes.last, now_us)
                self._add(pushes.first, pushes.last, pushes.last_ts, now_us, repeated=again)
            return
        # Stamps that do not ascend, gaps, repeats: cut where a row must end.
        numbers, stamps = pushes.numbers(), pushes.stamps()
        repeats = np.zeros(len(numbers), np.bool_) if accepted is None else self._receiving.repeated
        if accepted is not None and not accepted.all():
            numbers, stamps, repeats = numbers[accepted], stamps[accepted], repeats[accepted]
        if not len(numbers):
            return
        self._cut(numbers, stamps, repeats, now_us)

    def _cut(self, numbers: Int64s, stamps: Int64s, again: NDArray[np.bool_], now_us: int) -> None:
        """Add rows of consecutive segments, (n,), with stamps that ascend modulo 2^32."""
        ends = np.diff(numbers) != 1
        ends |= np.diff(stamps).astype(np.int32) < 0
        ends |= again[1:] != again[:-1]
        ends |= again[1:] & (np.diff(stamps) != 0)  # a copy that was not needed is told by its own stamp
        start = 0
        for stop in [*(np.flatnonzero(ends) + 1).tolist(), len(numbers)]:
            first, last, ts = int(numbers[start]), int(numbers[stop - 1]), int(stamps[stop - 1])
            self._note_newest(ts, last, now_us)
            self._add(first, last, ts, now_us, repeated=bool(again[start]))
            start = stop

    def _note_newest(self, ts: int, number: int, now_us: int) -> bool:
        """Remember the transmission that left last of all that arrived; True if this is one."""
        newest = self._newest[0]
        stamp = ts if newest < 0 else expand(ts, newest)
        if stamp <= newest:
            return False
        self._newest = (stamp, number, now_us)
        return True

    def _add(self, first: int, last: int, ts: int, now_us: int, *, repeated: bool) -> None:
        rows = self._rows
        if rows and rows[-1].continues(first, ts, now_us, self._within_us, repeated=repeated):
            rows[-1].extend(last, ts, now_us)
            return
        rows.append(_Arrivals(first, last, ts, now_us, repeated=repeated))
        if len(rows) >= MOST_ROWS:
            self.timing.fill()

    @property
    def _within_us(self) -> int:
        """Segments that arrive one after the other within this time share a row."""
        return max(self.timing.interval_us // 2, SHORTEST_WAIT_US)

    def take(self, wnd: int, receiving: ReceiveWindow, now_us: int, longest: int) -> list[Departure]:
        """The segments owed, a datagram of at most `longest` bytes each; call if `owed`."""
        una, sent = receiving.nxt, []
        for number, stamp in self._probes:
            echo = np.frombuffer(control_segment(self._conv, ACK, wnd, una, stamp, number), np.uint8)
            sent.append(Departure(echo, HEADER_BYTES, 1))
        self._probes = []
        rows, ranges = [one.wire(now_us) for one in self._rows], self._ranges(receiving)
        self._rows = []
        stamp, number, arrived_us = self._newest
        room = longest - HEADER_BYTES - HEAD.size
        most = max(1, min(MOST_ROWS, room // ROW.size))
        for at in range(0, len(rows), most):
            part = rows[at : at + most]
            # The last segment has the ranges, as many of the highest as there is room for.
            fit = max(0, room - len(part) * ROW.size) // RANGE.size if at + most >= len(rows) else 0
            few = ranges[max(0, len(ranges) - fit) :] if fit else []
            ack = RangeAck(stamp, number, now_us, age_of(now_us - arrived_us), self._serial, part, few)
            data = write_ranges(self._conv, wnd, una, ack)
            sent.append(Departure(data, len(data), 1))
            self._serial += 1
        return sent

    def _ranges(self, receiving: ReceiveWindow) -> list[tuple[int, int]]:
        """The ranges above una to send, ascending, relative to una."""
        if not receiving.stored:
            self._recent.clear()
            return []
        self._recent.append([one.first for one in self._rows])
        una, (starts, stops) = receiving.nxt, receiving.held_ranges()
        chosen = np.arange(len(starts))
        if len(starts) > MOST_RANGES:
            recent = np.array([number - una for each in reversed(self._recent) for number in each])
            # Latest first; then the highest ones.
            order = np.concatenate((np.searchsorted(starts, recent[recent >= 0], "right") - 1, chosen[::-1]))
            order = order[order >= 0]
            _, at = np.unique(order, return_index=True)
            chosen = np.sort(order[np.sort(at)[:MOST_RANGES]])
        return list(zip(starts[chosen].tolist(), stops[chosen].tolist(), strict=True))


class _Arrivals:
    """A row: consecutive segments that arrived one after the other."""

    __slots__ = ("began_us", "first", "last", "repeated", "sum_us", "ts")

    def __init__(self, first: int, last: int, ts: int, now_us: int, *, repeated: bool) -> None:
        self.first, self.last, self.ts, self.repeated = first, last, ts, repeated
        self.began_us = now_us
        self.sum_us = now_us * (last - first + 1)

    def continues(self, first: int, ts: int, now_us: int, within_us: int, *, repeated: bool) -> bool:
        """True if segments from `first` on may join this row. `ts`: of the last of them."""
        return (
            first == self.last + 1
            and now_us - self.began_us <= within_us
            and self.last - self.first < _FULL
            and repeated == self.repeated
            and (ts == self.ts if repeated else (ts - self.ts) & 0x8000_0000 == 0)
        )

    def extend(self, last: int, ts: int, now_us: int) -> None:
        """Add segments up to `last`."""
        self.sum_us += now_us * (last - self.last)
        self.last, self.ts = last, ts

    def wire(self, now_us: int) -> Row:
        """The row as it leaves."""
        count = self.last - self.first + 1
        age = age_of(now_us - self.sum_us // count)
        return self.first, count | (REPEATED if self.repeated else 0), age, self.ts
