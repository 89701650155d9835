"""The receive window: puts segments in order and stores those that came early.

Payload in order is handed on as views of the datagrams that it came in, and never stored. Only segments
above a gap are copied, into a ring of payload rows that grows as it is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp.inbound import Pushes
from iperfpy.protocols.kcp.wire import Bytes, Int64s

_SMALLEST = 256

Deliver = Callable[[Bytes], None]
"""Takes payload in order: a (rows, size) or (size,) uint8 view, valid only during the call."""


class ReceiveWindow:
    """Puts arrived segments in order, and stores those above a gap.

    Parameters
    ----------
    mss : most payload bytes of a segment
    limit : segments at and above nxt that are accepted, at most 65,535
    deliver : called with payload as it becomes in order

    Attributes
    ----------
    nxt : next serial number in order
    high : one past the highest serial number that arrived
    stored : segments held above nxt
    bytes, segments : payload and segments accepted and in order, each once
    duplicates : segments that had arrived before
    refused : segments beyond the window, or larger than the mss
    """

    def __init__(self, mss: int, limit: int, deliver: Deliver, first_sn: int = 0) -> None:
        self.mss, self.limit, self._deliver = mss, limit, deliver
        self.nxt = self.high = first_sn
        self.stored = self.bytes = self.segments = self.duplicates = self.refused = 0
        self._capacity = 0

    @property
    def stored_bytes(self) -> int:
        """Payload of the segments held above `nxt`."""
        return int(self._sizes[self._present].sum()) if self.stored else 0

    def take(self, pushes: Pushes) -> NDArray[np.bool_] | None:
        """Take the segments of a record.

        Returns which of them to acknowledge, (n,), or None if they came in order and left no gap: then one
        ACK for the last of them is enough.
        """
        in_order = not self.stored and pushes.first == self.nxt
        if in_order and pushes.sn is None:
            rows = pushes.rows
            count, size = rows.shape
            if count <= self.limit and 0 < size <= self.mss:
                # The usual case: consecutive segments, and the first of them is the next in order.
                self.nxt += count
                if self.nxt > self.high:
                    self.high = self.nxt
                self._hand_on(rows, count)
                return None
        accepted = self.insert(pushes.numbers(), pushes.rows)
        if in_order and not self.stored and self.nxt == pushes.last + 1:
            return None
        return accepted

    def insert(self, numbers: Int64s, rows: Bytes) -> NDArray[np.bool_]:
        """Take segments of one size in any order: serial numbers (n,), payloads (n, size).

        Returns which of them have arrived, now or before, bool (n,): those may be acknowledged, the others
        were refused.
        """
        if rows.shape[1] > self.mss:
            self.refused += len(numbers)
            return np.zeros(len(numbers), np.bool_)
        # A refused segment must not be acknowledged: its sender would forget it, and the stream would stop.
        within: NDArray[np.bool_] = numbers < self.nxt + self.limit
        wanted = within & (numbers >= self.nxt)
        if self.stored:
            known = self._present[numbers & (self._capacity - 1)]
            wanted &= ~known | (numbers >= self.nxt + self._capacity)
        self.refused += len(numbers) - int(np.count_nonzero(within))
        kept = numbers[wanted]
        if len(kept) > 1 and not (kept[1:] > kept[:-1]).all():
            kept, at = np.unique(kept, return_index=True)
            chosen = np.flatnonzero(wanted)[at]
        else:
            chosen = np.flatnonzero(wanted)
        self.duplicates += int(np.count_nonzero(within)) - len(kept)
        if len(kept):
            self._accept(kept, rows, chosen)
        return within

    def _accept(self, kept: Int64s, rows: Bytes, chosen: NDArray[np.intp]) -> None:
        """Hand on or store segments: `kept` ascends, and `chosen` has the row of each."""
        self.high = max(self.high, int(kept[-1]) + 1)
        # Ascending and unique: it can equal the count from nxt only along a prefix.
        in_order = int(np.count_nonzero(kept == np.arange(self.nxt, self.nxt + len(kept))))
        if in_order:
            self.nxt += in_order
            self._hand_on(_select(rows, chosen[:in_order]), in_order)
        if in_order < len(kept):
            self._store(kept[in_order:], rows, chosen[in_order:])
        if self.stored:
            self._drain()

    def _store(self, numbers: Int64s, rows: Bytes, chosen: NDArray[np.intp]) -> None:
        need = int(numbers[-1]) + 1 - self.nxt
        if need > self._capacity:
            self._grow(need)
        at = numbers & (self._capacity - 1)
        size = rows.shape[1]
        self._rows[at, :size] = rows[chosen]
        self._sizes[at] = size
        self._present[at] = True
        self.stored += len(numbers)

    def _held_from_nxt(self) -> int:
        """Number of segments in the ring from nxt on, up to the first gap."""
        count, start, total = self.high - self.nxt, self.nxt & (self._capacity - 1), 0
        for begin, end in self._pieces(start, count):
            piece = self._present[begin:end]
            stop = int(np.argmin(piece))
            if not piece[stop]:
                return total + stop
            total += end - begin
        return total

    def _pieces(self, start: int, count: int) -> list[tuple[int, int]]:
        if start + count <= self._capacity:
            return [(start, start + count)] if count else []
        return [(start, self._capacity), (0, start + count - self._capacity)]

    def _drain(self) -> None:
        count = self._held_from_nxt()
        start = self.nxt & (self._capacity - 1)
        self.nxt += count
        self.stored -= count
        for begin, end in self._pieces(start, count):
            self._present[begin:end] = False
            sizes = self._sizes[begin:end]
            if (sizes == sizes[0]).all():
                self._hand_on(self._rows[begin:end, : sizes[0]], end - begin)
            else:
                for row, size in zip(self._rows[begin:end], sizes, strict=True):
                    self._hand_on(row[:size], 1)

    def _hand_on(self, payload: Bytes, segments: int) -> None:
        self.segments += segments
        self.bytes += payload.size
        self._deliver(payload)

    def _grow(self, need: int) -> None:
        held: Int64s = np.empty(0, np.int64)
        old = None
        if self._capacity:
            numbers = np.arange(self.nxt, self.nxt + self._capacity)
            held = numbers[self._present[numbers & (self._capacity - 1)]]
            rows = held & (self._capacity - 1)
            old = self._rows, self._sizes, rows
        # A row depends on the capacity, so every stored segment moves.
        self._capacity = max(_SMALLEST, 1 << (need - 1).bit_length())
        self._rows: Bytes = np.empty((self._capacity, self.mss), np.uint8)
        self._sizes: NDArray[np.int64] = np.zeros(self._capacity, np.int64)
        self._present: NDArray[np.bool_] = np.zeros(self._capacity, np.bool_)
        if old is not None:
            at = held & (self._capacity - 1)
            self._rows[at] = old[0][old[2]]
            self._sizes[at] = old[1][old[2]]
            self._present[at] = True


def _select(rows: Bytes, chosen: NDArray[np.intp]) -> Bytes:
    """rows[chosen], without a copy when they are neighbours in that order."""
    first = int(chosen[0])
    if len(chosen) == 1 or (np.diff(chosen) == 1).all():
        return rows[first : first + len(chosen)]
    return rows[chosen]
