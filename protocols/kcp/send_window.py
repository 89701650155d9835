"""The send window: a ring of whole wire packets, and the state of each segment beside it.

    una            nxt             end
     |  in flight   |   queued      |            sn & (capacity - 1) is the row
     +--------------+---------------+

Rows are complete datagrams, so a run of new segments leaves straight from the ring. Serial number and length
are written with the data, the rest of the header when the segment is transmitted. Per-segment state lives in
separate arrays, indexed by row. The ring is as small as what it holds allows: a small one stays in the cache.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.wire import HEADER_BYTES, Bytes, Int64s

_SMALLEST = 256


class SendWindow:
    """Data from the moment it is written until it is acknowledged.

    Parameters
    ----------
    conv : conversation number, 32 bits
    mtu : bytes per datagram, header included
    limit : most segments that may be held; memory grows towards it by doubling, as it is needed
    first_sn : serial number of the first segment (0 for stock peers)

    Attributes
    ----------
    acked : bool (capacity,), individually acknowledged above una
    lost : bool (capacity,), given up for lost and not yet sent again
    sent_us : int64 (capacity,), stamp of the last transmission
    transmissions : uint16 (capacity,)
    resend_us, rto_us : int64 (capacity,); fastack : int32 (capacity,): classic recovery's
    """

    def __init__(self, conv: int, mtu: int, limit: int, first_sn: int = 0) -> None:
        self.mtu = mtu
        self.mss = mtu - HEADER_BYTES
        self.limit = limit
        self.una = self.nxt = self.end = first_sn
        self.sacked = 0
        """Segments acknowledged above una."""
        self.bytes_acked = 0
        """Payload acknowledged, each byte once, above una too."""
        self.shorts = 0
        """Rows in [una, end) that are not full."""
        self.tail_fill = 0
        """Bytes in the last row when it is not full yet and has not been sent; 0 otherwise."""
        self._conv = conv
        self._peak = 0  # most segments held on this lap of the ring
        self._lap_ends = first_sn
        self._written: deque[tuple[int, int]] = deque()
        self._allocate(min(_SMALLEST, _power_of_two(limit)))

    # -- memory

    def _allocate(self, capacity: int) -> None:
        self.capacity, self.mask = capacity, capacity - 1
        self.packets: Bytes = np.empty((capacity, self.mtu), np.uint8)
        self.fields = np.ndarray((capacity,), wire.FIELDS, self.packets, 0, (self.mtu,))
        # conv, cmd, frg and wnd as one word: the same for a whole run
        self._who = np.ndarray((capacity,), "<u8", self.packets, 0, (self.mtu,))
        self._ts, self._sn = self.fields["ts"], self.fields["sn"]
        self._una, self._wnd, self.length = self.fields["una"], self.fields["wnd"], self.fields["len"]
        self.acked: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.lost: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.sent_us: Int64s = np.zeros(capacity, np.int64)
        self.transmissions: NDArray[np.uint16] = np.zeros(capacity, np.uint16)
        self.resend_us: Int64s = np.zeros(capacity, np.int64)
        self.rto_us: Int64s = np.zeros(capacity, np.int64)
        self.fastack: NDArray[np.int32] = np.zeros(capacity, np.int32)

    def _resize(self, segments: int) -> None:
        old, capacity = [getattr(self, name) for name in ("packets", *_STATE)], self.capacity
        self._allocate(max(_SMALLEST, _power_of_two(segments)))
        number = self.una
        while number < self.end:  # slices, for an index would copy everything once more
            here, there = number & (capacity - 1), number & self.mask
            count = min(self.end - number, capacity - here, self.capacity - there)
            for name, values in zip(("packets", *_STATE), old, strict=True):
                getattr(self, name)[there : there + count] = values[here : here + count]
            number += count

    def _begin_lap(self) -> None:
        """Once per lap: give back a ring that was never more than an eighth full."""
        if max(_SMALLEST, self._peak) * 8 <= self.capacity:
            self._resize(self._peak * 2)
        self._peak = self.end - self.una
        self._lap_ends = self.una + self.capacity

    def pieces(self, first: int, last: int) -> list[tuple[int, int]]:
        """The rows of serial numbers [first, last) as one or two (start, stop) ranges."""
        start, count = first & self.mask, last - first
        if start + count <= self.capacity:
            return [(start, start + count)]
        return [(start, self.capacity), (0, start + count - self.capacity)]

    # -- writing

    @property
    def queued(self) -> int:
        """Segments written and never transmitted."""
        return self.end - self.nxt

    def room_bytes(self, segments: int) -> int:
        """Bytes that `write` would take if `segments` more may be started."""
        spare = min(segments, self.limit - (self.end - self.una))
        return max(0, spare) * self.mss + (self.mss - self.tail_fill if self.tail_fill else 0)

    def write(self, data: memoryview, segments: int, now_us: int) -> int:
        """Queue bytes of `data`, starting at most `segments` new segments; returns how many were taken."""
        size = min(len(data), self.room_bytes(segments))
        if size <= 0:
            return 0
        source = np.frombuffer(data, np.uint8, size)
        done = self._fill_tail(source) if self.tail_fill else 0
        count = -(-(size - done) // self.mss)
        if not count:
            return size
        if self.end + count - self.una > self.capacity:
            self._resize(self.end + count - self.una)
        self._peak = max(self._peak, self.end + count - self.una)
        full = (size - done) // self.mss
        numbers = np.arange(self.end, self.end + count) & wire.MASK
        for start, stop in self.pieces(self.end, self.end + count):
            span = stop - start
            self._sn[start:stop] = numbers[:span]
            numbers = numbers[span:]
            self.length[start:stop] = self.mss
            whole = min(span, full)
            full -= whole
            until = done + whole * self.mss
            self.packets[start : start + whole, HEADER_BYTES:] = source[done:until].reshape(whole, self.mss)
            done = until
        self.end += count
        if done < size:
            self._start_tail(source[done:])
        self._written.append((self.end, now_us))
        return size

    def _fill_tail(self, source: Bytes) -> int:
        row, fill = (self.end - 1) & self.mask, self.tail_fill
        more = min(len(source), self.mss - fill)
        at = HEADER_BYTES + fill
        self.packets[row, at : at + more] = source[:more]
        self.tail_fill = (fill + more) % self.mss
        self.length[row] = fill + more
        self.shorts -= fill + more == self.mss
        return more

    def _start_tail(self, rest: Bytes) -> None:
        row = (self.end - 1) & self.mask
        self.packets[row, HEADER_BYTES : HEADER_BYTES + len(rest)] = rest
        self.length[row] = self.tail_fill = len(rest)
        self.shorts += 1

    # -- transmitting

    def stamp_new(self, first: int, last: int, stamp_us: int, una: int, wnd: int) -> None:
        """Make [first, last) ready to leave for the first time; `nxt` becomes `last`."""
        for start, stop in self.pieces(first, last):
            self._ts[start:stop] = stamp_us & wire.MASK
            self._una[start:stop] = una & wire.MASK
            self._who[start:stop] = self._conv | wire.PUSH << 32 | wnd << 48
            self.sent_us[start:stop] = stamp_us
            self.transmissions[start:stop] = 1
        self.nxt = last
        if last == self.end:
            self.tail_fill = 0

    def stamp_again(self, numbers: Int64s, stamp_us: int, una: int, wnd: int) -> Int64s:
        """Make segments ready to leave again; returns their rows."""
        rows: Int64s = numbers & self.mask
        self._ts[rows] = stamp_us & wire.MASK
        self._una[rows] = una & wire.MASK
        self._wnd[rows] = wnd
        self.sent_us[rows] = stamp_us
        self.transmissions[rows] += 1
        return rows

    def waited_us(self, first: int, last: int, now_us: int) -> int:
        """Time since being written, summed over the segments of [first, last). Call once, in order."""
        total = 0
        while first < last and self._written:
            until, since_us = self._written[0]
            upto = min(last, until)
            total += (upto - first) * (now_us - since_us)
            first = upto
            if until <= last:
                self._written.popleft()
        return total

    # -- acknowledging

    def mark(self, numbers: Int64s) -> tuple[Int64s, NDArray[np.intp]]:
        """Mark segments acknowledged one by one.

        Returns those that were not yet, ascending and without repeats, and where they stood in `numbers`.
        """
        held = (numbers >= self.una) & (numbers < self.nxt)
        held &= ~self.acked[numbers & self.mask]
        at = np.flatnonzero(held)
        fresh: Int64s = numbers[at]
        if len(fresh) > 1 and not (fresh[1:] > fresh[:-1]).all():
            fresh, first = np.unique(fresh, return_index=True)
            at = at[first]
        rows = fresh & self.mask
        self.acked[rows] = True
        self.sacked += len(fresh)
        self.bytes_acked += int(self.length[rows].sum()) if self.shorts else len(fresh) * self.mss
        return fresh, at

    def older(self, numbers: Int64s, echoes_us: Int64s) -> tuple[Int64s, Int64s]:
        """Which of these acknowledged segments, and under which stamp, arrived by an earlier transmission
        than their last: in the window or passed by una a short while ago, each once and never again."""
        known = (numbers < self.nxt) & (numbers >= self.end - self.capacity)
        rows = numbers & self.mask
        known &= (self.transmissions[rows] > 1) & (echoes_us < self.sent_us[rows])
        at = np.flatnonzero(known)
        if len(at):
            at = at[np.unique(numbers[at], return_index=True)[1]]
            self.transmissions[numbers[at] & self.mask] = 1
        return numbers[at], echoes_us[at]

    def advance(self, una: int) -> tuple[int, int]:
        """Everything below `una` has arrived.

        Returns how many segments that newly acknowledges, and how many of those were marked lost.
        """
        first, una = self.una, min(una, self.nxt)
        if una <= first:
            return 0, 0
        known = lost = 0
        full = not self.shorts
        for start, stop in self.pieces(first, una):
            if not full:
                lengths = self.length[start:stop]
                self.shorts -= int(np.count_nonzero(lengths != self.mss))
                self.bytes_acked += int(lengths[~self.acked[start:stop]].sum())
            if self.sacked:
                known += int(np.count_nonzero(self.acked[start:stop]))
                self.acked[start:stop] = False
            lost += int(np.count_nonzero(self.lost[start:stop]))
            self.lost[start:stop] = False
        if full:
            self.bytes_acked += (una - first - known) * self.mss
        self.sacked -= known
        self.una = una
        if una >= self._lap_ends:
            self._begin_lap()
        return una - first - known, lost

    def outstanding(self, first: int, last: int) -> Int64s:
        """Serial numbers in [first, last) that are transmitted and not acknowledged."""
        first, last = max(first, self.una), min(last, self.nxt)
        if first >= last:
            return np.empty(0, np.int64)
        numbers: Int64s = np.arange(first, last)
        missing: Int64s = numbers[~self.acked[numbers & self.mask]]
        return missing


_STATE = ("acked", "lost", "sent_us", "transmissions", "resend_us", "rto_us", "fastack")


def _power_of_two(n: int) -> int:
    return 1 << max(1, n - 1).bit_length()
