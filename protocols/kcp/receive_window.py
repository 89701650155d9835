"""The receive window: puts segments in order and stores those that came early.

Payload in order is handed on as views of the datagrams that it came in, and never stored. Of segments above a
gap, the sizes are kept, two bytes for each number that the ring spans, and their payload only if it is handed
on: the peer chooses the gaps, the window and the largest segment, and must not choose the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp.inbound import Pushes
from iperfpy.protocols.kcp.parts import PartialSegments
from iperfpy.protocols.kcp.wire import Bytes, Int64s

_SMALLEST = 256
_ACCEPTED, _REFUSED = np.ones(1, np.bool_), np.zeros(1, np.bool_)

MOST_STORED_BYTES = 8 << 20
"""Payload above a gap that one stream keeps to hand it on: the peer chooses how much it sends."""

Deliver = Callable[[Bytes], None]
"""Takes payload in order: a (rows, size) or (size,) uint8 view, valid only during the call."""


class Taken(NamedTuple):
    """The segments of a record in the receive window.

    Parameters
    ----------
    accepted : bool (n,), which of them to acknowledge, each with an ACK of its own; None: they came in order
        and left no gap, and one ACK for the last of them is enough, since una covers the others
    is_news : True if they made a hole, or lie below the highest one
    has_repeats : True if one of them had arrived before
    """

    accepted: NDArray[np.bool_] | None
    is_news: bool = False
    has_repeats: bool = False


_IN_ORDER = Taken(None)


class ReceiveWindow:
    """Puts arrived segments in order, and stores those above a gap.

    Parameters
    ----------
    mss : most payload bytes of a segment
    limit : segments at and above nxt that are accepted, at most 65,535
    deliver : called with payload as it becomes in order; None: payload is counted and not kept. With it, at
        most `MOST_STORED_BYTES` above a gap are kept, and what exceeds that is refused

    Attributes
    ----------
    nxt : next serial number in order
    high : one past the highest serial number that arrived
    stored : segments held above nxt
    bytes, segments : payload and segments accepted and in order, each once
    duplicates : segments that had arrived before
    refused : segments beyond the window, or larger than the mss
    repeated : bool (n,), which of the segments taken last had arrived before; not set by a `take` that
        returned None
    parts : joins segments that come in parts
    """

    def __init__(self, mss: int, limit: int, deliver: Deliver | None = None, first_sn: int = 0) -> None:
        self.mss, self.limit, self._deliver = mss, limit, deliver
        self.nxt = self.high = first_sn
        self.stored = self.bytes = self.segments = self.duplicates = self.refused = 0
        self._capacity = 0
        # One more than the size of a stored segment by row, 0 where none is: 16 bits hold any UDP payload.
        self._sizes: NDArray[np.uint16] = np.zeros(0, np.uint16)
        self._payloads: dict[int, bytes] = {}
        self._payload_bytes = 0
        self.parts = PartialSegments()
        self.repeated: NDArray[np.bool_] = _REFUSED

    def deliver_to(self, deliver: Deliver) -> None:
        """Hand payload on from now on; only before any has arrived."""
        self._deliver = deliver

    @property
    def has_data(self) -> bool:
        """True once a data segment has arrived."""
        return self.segments > 0 or self.stored > 0

    @property
    def memory_bytes(self) -> int:
        """Bytes held: the ring of sizes, the payload above a gap, and parts of segments."""
        return self._sizes.nbytes + sum(map(len, self._payloads.values())) + self.parts.held_bytes

    @property
    def stored_bytes(self) -> int:
        """Payload of the segments held above `nxt`."""
        return int(self._sizes.sum(dtype=np.int64)) - self.stored

    def take(self, pushes: Pushes) -> Taken:
        """Take the segments of a record."""
        high, duplicates = self.high, self.duplicates
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
                return _IN_ORDER if pushes.first == high else Taken(None, is_news=True)
        if pushes.first == pushes.last and len(pushes.rows) == 1:
            accepted = _ACCEPTED if self._take_one(pushes.first, pushes.rows) else _REFUSED
        else:
            accepted = self.insert(pushes.numbers(), pushes.rows)
        is_news = pushes.first != high or pushes.sn is not None
        has_repeats = self.duplicates != duplicates
        if in_order and not self.stored and self.nxt == pushes.last + 1:
            return Taken(None, is_news, has_repeats)
        return Taken(accepted, is_news, has_repeats)

    def _take_one(self, number: int, rows: Bytes) -> bool:
        """`insert` for one segment, without arrays: tiny segments with gaps would cost a sender nothing, and
        this end ten times as much. Returns True if it has arrived, now or before."""
        size, above = rows.shape[1], number - self.nxt
        self.repeated = _REFUSED
        if size > self.mss or above >= self.limit:
            self.refused += 1
            return False
        if above < 0 or (above < self._capacity and self._sizes[number & (self._capacity - 1)]):
            self.duplicates += 1
            self.repeated = _ACCEPTED
            return True
        if above and self._deliver is not None and self._payload_bytes + size > MOST_STORED_BYTES:
            self.refused += 1
            return False
        self.high = max(self.high, number + 1)
        if above == 0:
            self.nxt += 1
            self._hand_on(rows, 1)
            if self.stored:
                self._drain()
            return True
        if above >= self._capacity:
            self._grow(above + 1)
        self._sizes[number & (self._capacity - 1)] = size + 1
        self.stored += 1
        if self._deliver is not None:
            self._payloads[number] = rows.tobytes()
            self._payload_bytes += size
        return True

    def insert(self, numbers: Int64s, rows: Bytes) -> NDArray[np.bool_]:
        """Take segments of one size in any order: serial numbers (n,), payloads (n, size).

        Returns which of them have arrived, now or before, bool (n,): those may be acknowledged, the others
        were refused.
        """
        if rows.shape[1] > self.mss:
            self.refused += len(numbers)
            self.repeated = np.zeros(len(numbers), np.bool_)
            return self.repeated
        if self._deliver is not None and self._payload_bytes + rows.size > MOST_STORED_BYTES:
            return self._insert_each(numbers, rows)
        # A refused segment must not be acknowledged: its sender would forget it, and the stream would stop.
        within: NDArray[np.bool_] = numbers < self.nxt + self.limit
        wanted = within & (numbers >= self.nxt)
        if self.stored:
            known = self._sizes[numbers & (self._capacity - 1)] > 0
            wanted &= ~known | (numbers >= self.nxt + self._capacity)
        self.refused += len(numbers) - int(np.count_nonzero(within))
        kept = numbers[wanted]
        if len(kept) > 1 and not (kept[1:] > kept[:-1]).all():
            kept, at = np.unique(kept, return_index=True)
            chosen = np.flatnonzero(wanted)[at]
        else:
            chosen = np.flatnonzero(wanted)
        self.duplicates += int(np.count_nonzero(within)) - len(kept)
        self.repeated = within.copy()
        self.repeated[chosen] = False
        if len(kept):
            self._accept(kept, rows, chosen)
        return within

    def _insert_each(self, numbers: Int64s, rows: Bytes) -> NDArray[np.bool_]:
        """`insert` where not all may be stored: each that can be handed on makes room."""
        accepted, repeated = np.zeros(len(numbers), np.bool_), np.zeros(len(numbers), np.bool_)
        for at, number in enumerate(numbers.tolist()):
            accepted[at] = self._take_one(number, rows[at : at + 1])
            repeated[at] = self.repeated[0]
        self.repeated = repeated
        return accepted

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
        self._sizes[numbers & (self._capacity - 1)] = rows.shape[1] + 1
        self.stored += len(numbers)
        if self._deliver is not None:
            for number, row in zip(numbers.tolist(), chosen.tolist(), strict=True):
                self._payloads[number] = rows[row].tobytes()
            self._payload_bytes += len(numbers) * rows.shape[1]

    def held_ranges(self) -> tuple[Int64s, Int64s]:
        """The segments held above `nxt`, as ranges relative to it: starts and stops, ascending, (m,) each."""
        start = self.nxt & (self._capacity - 1)
        pieces = [self._sizes[begin:end] for begin, end in self._pieces(start, self.high - self.nxt)]
        held = (np.concatenate(pieces) > 0).view(np.int8)
        edges = np.flatnonzero(np.diff(held, prepend=0, append=0))
        return edges[::2], edges[1::2]

    def _held_from_nxt(self) -> int:
        """Number of segments in the ring from nxt on, up to the first gap."""
        count, start, total = self.high - self.nxt, self.nxt & (self._capacity - 1), 0
        for begin, end in self._pieces(start, count):
            piece = self._sizes[begin:end] > 0
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
        """Count the stored segments that have become in order, and hand their payload on."""
        if not self._sizes[self.nxt & (self._capacity - 1)]:
            return
        count = self._held_from_nxt()
        first, start = self.nxt, self.nxt & (self._capacity - 1)
        for begin, end in self._pieces(start, count):
            self.bytes += int(self._sizes[begin:end].sum(dtype=np.int64)) - (end - begin)
            self._sizes[begin:end] = 0
        self.nxt += count
        self.stored -= count
        self.segments += count
        if self._deliver is not None:
            for number in range(first, first + count):
                payload = self._payloads.pop(number)
                self._payload_bytes -= len(payload)
                self._deliver(np.frombuffer(payload, np.uint8))

    def _hand_on(self, payload: Bytes, segments: int) -> None:
        self.segments += segments
        self.bytes += payload.size
        if self._deliver is not None:
            self._deliver(payload)

    def _grow(self, need: int) -> None:
        sizes, capacity = self._sizes, self._capacity
        self._capacity = max(_SMALLEST, 1 << (need - 1).bit_length())
        self._sizes = np.zeros(self._capacity, np.uint16)
        # A row depends on the capacity, so every stored segment moves.
        numbers = np.arange(self.nxt, self.nxt + capacity)
        self._sizes[numbers & (self._capacity - 1)] = sizes[numbers & (capacity - 1)]


def _select(rows: Bytes, chosen: NDArray[np.intp]) -> Bytes:
    """rows[chosen], without a copy when they are neighbours in that order."""
    first = int(chosen[0])
    if len(chosen) == 1 or (np.diff(chosen) == 1).all():
        return rows[first : first + len(chosen)]
    return rows[chosen]
