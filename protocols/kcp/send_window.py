"""The send window: written data, as segments, from `write` until it is acknowledged.

    una            nxt             end
     |  in flight   |   queued      |            sn & (capacity - 1) is the row
     +--------------+---------------+

Datagrams lie in blocks (packet_blocks.py), so that a run of new segments leaves straight from memory. States
lie in a ring, by row (segment_states.py). Both are as small as their content allows: they stay in the
processor's cache.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.packet_blocks import POOL, HeldPackets, Lengths, PacketPool
from iperfpy.protocols.kcp.segment_states import SegmentStates
from iperfpy.protocols.kcp.wire import HEADER_BYTES, Bytes, Int64s
from iperfpy.protocols.memory_budget import MemoryBudget

_FIRST: NDArray[np.intp] = np.zeros(1, np.intp)
_SMALLEST = 256
_SMALLEST_KEPT = 2
_STATE_BYTES = 36
"""Bytes of a segment's state (`SegmentStates`)."""


class SendWindow:
    """Holds written data, as segments, until the peer acknowledges it.

    Parameters
    ----------
    conv : conversation number, 32 bits
    mtu : bytes per datagram, header included; `set_mtu` changes it for new segments
    limit : most segments that may be held; memory grows towards it by doubling, as it is needed
    first_sn : serial number of the first segment (0 for stock peers)
    memory : grants the bytes of a window of more than `_SMALLEST` segments, and of one block more, since its
        ends fill two in part; if it refuses, `limit` is what was granted
    boundaries : True if each write is a message, which begins a new segment
    longest : the largest `mtu` there will be; None: the first one
    pool : where the memory of datagrams comes from

    Attributes
    ----------
    una, nxt, end : serial numbers, see above
    mss : payload bytes of a full datagram
    sacked : segments acknowledged above una
    bytes_acked : payload acknowledged, each byte once, that above una included
    shorts : rows in [una, end) that are not full: shorter, or cut before the size changed
    tail_fill : bytes in the last row while the next write may fill it up; else 0
    packets : the datagrams
    state : ring of `capacity` rows, a power of two; `mask` is capacity - 1
    """

    def __init__(
        self,
        conv: int,
        mtu: int,
        limit: int,
        first_sn: int = 0,
        memory: MemoryBudget | None = None,
        *,
        boundaries: bool = False,
        longest: int | None = None,
        pool: PacketPool = POOL,
    ) -> None:
        self._memory, self._granted_bytes = memory, 0
        self.mss = mtu - HEADER_BYTES
        self._message_bytes = self.mss if boundaries else None  # of the last write; None: writes are a stream
        self.limit = limit
        self.una = self.nxt = self.end = first_sn
        self.sacked = self.bytes_acked = self.shorts = self.tail_fill = 0
        self._conv = conv
        self._peak = 0  # most segments held on this lap of the ring
        self._lap_ends = first_sn
        self._waiting = WriteTimes()
        self.packets = HeldPackets(longest or mtu, pool)
        self._allocate(min(_SMALLEST, _power_of_two(limit)))

    @property
    def mtu(self) -> int:
        """Bytes of a full datagram."""
        return self.mss + HEADER_BYTES

    # -- memory

    @property
    def capacity(self) -> int:
        """Rows of the ring of states."""
        return self.mask + 1

    def _allocate(self, capacity: int) -> None:
        """Make a ring of `capacity` rows."""
        self.mask = capacity - 1
        self.state = SegmentStates(capacity)

    def _resize(self, segments: int) -> None:
        state, capacity = self.state, self.capacity
        self._allocate(max(_SMALLEST, _power_of_two(segments)))
        number = self.una
        while number < self.end:  # in slices: an index array would copy everything once more
            start, to = number & (capacity - 1), number & self.mask
            count = min(self.end - number, capacity - start, self.capacity - to)
            self.state.copy_rows(state, start, to, count)
            number += count

    def _ask_memory(self, segments: int) -> None:
        """Ask for the memory of so many segments; if it is refused, lower `limit` to what is granted, or to
        the capacity at hand."""
        wanted = _power_of_two(segments)
        while self._memory is not None and wanted > max(self.capacity, _SMALLEST):
            more = (wanted + self.packets.rows) * self.mtu + wanted * _STATE_BYTES - self._granted_bytes
            if more <= 0 or self._memory.take(more):
                self._granted_bytes += max(0, more)
                return
            wanted //= 2
            self.limit = wanted

    def release(self) -> None:
        """Give the memory back: the conversation is over, and nothing in it is sent again. Counters stay."""
        self.packets.release()
        self._allocate(_SMALLEST_KEPT)
        if self._memory is not None:
            self._memory.give(self._granted_bytes)
            self._granted_bytes = 0

    def _begin_lap(self) -> None:
        """Once per lap, shrink a ring that was never more than an eighth full."""
        if max(_SMALLEST, self._peak) * 8 <= self.capacity:
            self._resize(self._peak * 2)
        self._peak = self.end - self.una
        self._lap_ends = self.una + self.capacity

    def set_mtu(self, mtu: int) -> None:
        """Cut new segments to datagrams of `mtu` bytes; those that are written keep their length."""
        lengths = self.lengths(np.arange(self.una, self.end))
        self.mss = mtu - HEADER_BYTES
        for number in (self.end - 1, self.end):  # more of the last segment, and the next one
            self.packets.widen(number, mtu)
        self.shorts = int(np.count_nonzero(lengths != self.mss))
        last = int(lengths[-1]) if self.nxt < self.end else self.mss
        self.tail_fill = last if last < self.mss and self._message_bytes is None else 0

    def lengths(self, numbers: Int64s) -> Lengths:
        """Payload bytes of segments (n,) that are held."""
        lengths: Lengths = self.state.length[numbers & self.mask]
        return lengths

    def pieces(self, first: int, last: int) -> list[tuple[int, int]]:
        """The rows of serial numbers [first, last) as one or two (start, stop) ranges."""
        start, count, capacity = first & self.mask, last - first, self.mask + 1
        if start + count <= capacity:
            return [(start, start + count)]
        return [(start, capacity), (0, start + count - capacity)]

    # -- writing

    @property
    def queued(self) -> int:
        """Segments written and never transmitted."""
        return self.end - self.nxt

    def room_bytes(self, segments: int) -> int:
        """Bytes that `write` would take if `segments` more may be started."""
        spare = self.limit - (self.end - self.una)
        if segments < spare:
            spare = segments
        room = spare * self.mss if spare > 0 else 0
        return room + self.mss - self.tail_fill if self.tail_fill else room

    def write(self, data: memoryview, segments: int, now_us: int) -> int:
        """Queue bytes of `data`, starting at most `segments` new segments; returns how many were taken."""
        size = min(len(data), self.room_bytes(segments))
        beyond_tail = size - (self.mss - self.tail_fill if self.tail_fill else 0)
        held = self.end - self.una + -(-beyond_tail // self.mss)
        if held > self.capacity:
            self._ask_memory(held)
            size = min(size, self.room_bytes(segments))
        if size <= 0:
            return 0
        source = np.frombuffer(data, np.uint8, size)
        if self.tail_fill:
            source = source[self._fill_tail(source) :]
        count = -(-len(source) // self.mss)
        if not count:
            return size
        if self.end + count - self.una > self.capacity:
            self._resize(self.end + count - self.una)
        self._peak = max(self._peak, self.end + count - self.una)
        number, self.end = self.end, self.end + count
        for start, stop in self.pieces(number, self.end):
            self.state.length[start:stop] = self.mss
        while number < self.end:
            start, stop = self.packets.span(number, self.end)
            block = self.packets.block(number, self.mtu)
            source = source[block.fill(start, stop, source, self.mss) :]
            number += stop - start
        if len(source):
            self._put(0, source)
            self.shorts += 1
            if self._message_bytes is None:
                self.tail_fill = len(source)  # it may still grow until it is transmitted
        if self._message_bytes is not None:
            self._message_bytes = size
        self._waiting.written(self.end, now_us)
        return size

    @property
    def per_datagram(self) -> int:
        """Segments that share a datagram: messages as short as the last one; 1 of a stream."""
        if self._message_bytes is None:
            return 1
        # Full segments of a longer message share no datagram, so that the length of all of it counts.
        return max(1, self.mtu // (HEADER_BYTES + self._message_bytes))

    def _put(self, at: int, payload: Bytes) -> None:
        """Write payload bytes into the last segment, from offset `at` on."""
        last = self.end - 1
        self.packets.block(last, self.mtu).put(last & self.packets.rows - 1, at, payload)
        self.state.length[last & self.mask] = at + len(payload)

    def _fill_tail(self, source: Bytes) -> int:
        """Add bytes to the last row, which is not full yet; returns how many."""
        fill = self.tail_fill
        more = min(len(source), self.mss - fill)
        self._put(fill, source[:more])
        self.tail_fill = (fill + more) % self.mss
        self.shorts -= fill + more == self.mss
        return more

    # -- transmitting

    def stamp_new(self, first: int, last: int, stamp_us: int, una: int, wnd: int, frg: int = 0) -> None:
        """Make [first, last) ready to leave for the first time; `nxt` becomes `last`."""
        state, leading = self.state, self._leading(wnd, frg)
        lengths: int | Lengths = self.mss
        for block, start, stop, number in self.packets.runs(first, last):
            if self.shorts:
                lengths = self.lengths(np.arange(number, number + stop - start))
            block.stamp(start, stop, number, leading, stamp_us, una, lengths)
        for start, stop in self.pieces(first, last):
            state.sent_us[start:stop] = stamp_us
            state.transmissions[start:stop] = 1
        self.nxt = last
        if last == self.end:
            self.tail_fill = 0

    def stamp_again(self, numbers: Int64s, stamp_us: int, una: int, wnd: int, frg: int = 0) -> Int64s:
        """Make segments (n,) ready to leave again; returns their rows (n,)."""
        leading = self._leading(wnd, frg)
        for block, held in self.packets.groups(numbers):
            block.stamp_again(held, leading, stamp_us, una)
        rows: Int64s = numbers & self.mask
        self.state.sent_us[rows] = stamp_us
        self.state.transmissions[rows] += 1
        return rows

    def _leading(self, wnd: int, frg: int) -> int:
        """The first eight bytes of a data segment's header."""
        return self._conv | wire.PUSH << 32 | frg << 40 | wnd << 48

    def waited_us(self, first: int, last: int, now_us: int) -> int:
        """Time since the write, summed over the segments of [first, last); call once per segment."""
        return self._waiting.sum_us(first, last, now_us)

    # -- acknowledging

    def mark(self, numbers: Int64s) -> tuple[Int64s, NDArray[np.intp]]:
        """Mark segments (n,) that have an ACK of their own.

        Returns those that were not acknowledged before, ascending and without repeats, and where they stood
        in `numbers`.
        """
        if len(numbers) == 1:
            return self._mark_one(numbers)
        held = (numbers >= self.una) & (numbers < self.nxt)
        held &= ~self.state.acked[numbers & self.mask]
        at = np.flatnonzero(held)
        fresh: Int64s = numbers[at]
        # Sorting is needed only if datagrams of ACKs overtook one another, or repeat some.
        if len(fresh) > 1 and not (fresh[1:] > fresh[:-1]).all():
            fresh, first = np.unique(fresh, return_index=True)
            at = at[first]
        rows = fresh & self.mask
        self.state.acked[rows] = True
        self.sacked += len(fresh)
        self.bytes_acked += int(self.state.length[rows].sum()) if self.shorts else len(fresh) * self.mss
        return fresh, at

    def _mark_one(self, numbers: Int64s) -> tuple[Int64s, NDArray[np.intp]]:
        """`mark` for one segment, (1,), without further arrays."""
        number = int(numbers[0])
        row = number & self.mask
        if not self.una <= number < self.nxt or self.state.acked[row]:
            return numbers[:0], _FIRST[:0]
        self.state.acked[row] = True
        self.sacked += 1
        self.bytes_acked += int(self.state.length[row]) if self.shorts else self.mss
        return numbers, _FIRST

    def advance(self, una: int) -> tuple[int, int]:
        """Take a cumulative ACK: everything below `una` has arrived.

        Returns how many segments that newly acknowledges, and how many of those were marked lost.
        """
        first, una = self.una, min(una, self.nxt)
        if una <= first:
            return 0, 0
        known = lost = 0
        full, state = not self.shorts, self.state
        for start, stop in self.pieces(first, una):
            if not full:
                lengths = self.state.length[start:stop]
                self.shorts -= int(np.count_nonzero(lengths != self.mss))
                self.bytes_acked += int(lengths[~state.acked[start:stop]].sum())
            if self.sacked:
                # Bytes of these were counted when they were marked.
                known += int(np.count_nonzero(state.acked[start:stop]))
                state.acked[start:stop] = False
            lost += int(np.count_nonzero(state.lost[start:stop]))
            state.lost[start:stop] = False
        if full:
            self.bytes_acked += (una - first - known) * self.mss
        self.sacked -= known
        self.una = una
        self.packets.acknowledged(first, una)
        if una >= self._lap_ends:
            self._begin_lap()
        return una - first - known, lost

    def outstanding(self, first: int, last: int) -> Int64s:
        """Serial numbers in [first, last) that are transmitted and not acknowledged, ascending."""
        first, last = max(first, self.una), min(last, self.nxt)
        if first >= last:
            return np.empty(0, np.int64)
        numbers: Int64s = np.arange(first, last)
        missing: Int64s = numbers[~self.state.acked[numbers & self.mask]]
        return missing


class WriteTimes:
    """Times of writes, until all that was written is transmitted."""

    __slots__ = ("_writes",)

    def __init__(self) -> None:
        self._writes: deque[tuple[int, int]] = deque()  # (one past its last segment, time)

    def written(self, end: int, now_us: int) -> None:
        """Segments up to `end` were begun now."""
        self._writes.append((end, now_us))

    def sum_us(self, first: int, last: int, now_us: int) -> int:
        """Time since the write, summed over the segments of [first, last); call once per segment."""
        total, writes = 0, self._writes
        while first < last and writes:
            end, since_us = writes[0]
            until = min(last, end)
            total += (until - first) * (now_us - since_us)
            first = until
            if end <= last:
                writes.popleft()
        return total


def _power_of_two(n: int) -> int:
    return 1 << max(1, n - 1).bit_length()
