"""Acknowledgements in ranges: a command of our own, between ends that both have it.

Stock KCP acknowledges each segment behind a hole with 24 bytes, once. This segment acknowledges any number
of them, says when they arrived, and repeats the ranges above una, so that a lost one costs nothing: QUIC's
ACK frame (RFC 9000, 19.3) is alike. It is for ends that agreed on it over the control connection
(`engine_options.ACK_RANGES`).

    24 bytes         header: cmd ACK_RANGES, frg = number of rows, ts and sn of the newest transmission here
    8 bytes          clock u32 | age u16 | serial u16
    12 bytes a row   first u32 | count u16 | age u16 | ts u32
    4 bytes a range  start u16 | stop u16

    clock    receiver's clock when this left, microseconds modulo 2^32
    age      time between an arrival and `clock`, in units of `AGE_US`; of a row, the mean of its segments.
             65,535: longer than that
    serial   counts these segments, modulo 2^16: the sender sees which were lost
    row      `count` consecutive segments from `first` on that arrived since the last acknowledgement; `ts` is
             the stamp of the last of them. Bit 15 of count: they had arrived before
    range    segments [una + start, una + stop) have arrived; ascending, with gaps between them

The stamps of a row ascend. So it tells for each of its segments which transmission arrived:
the last one, if that left no later than the stamp; else an earlier one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import ceil, log2

import numpy as np

from iperfpy.protocols.kcp.wire import ACK_RANGES, HEADER, HEADER_BYTES, MASK, Bytes, expand

HEAD, ROW, RANGE = struct.Struct("<IHH"), struct.Struct("<IHHI"), struct.Struct("<HH")
AGE_US, LONGEST_AGE = 2, 0xFFFF
REPEATED = 0x8000
LONGEST_ROW = 0x7FFF
MOST_SEGMENTS, MOST_RANGES = 1 << 16, 256
"""Most segments of all rows, and most ranges, that are read: a receive window has no more."""

_STEPS = 8
"""Steps per doubling of the intervals that a sender can ask for."""
INTERVALS_US = (0, *(int(2 ** (code / _STEPS)) for code in range(1, 256)))
"""The acknowledgement interval that the field frg of a PUSH asks for; 0: none, as in stock KCP."""

Row = tuple[int, int, int, int]
"""(first, count with `REPEATED`, age, ts), as on the wire."""


@dataclass(slots=True)
class RangeAck:
    """One segment that arrived. Numbers have 16 and 32 bits, as on the wire.

    Attributes
    ----------
    ts, sn : of the newest transmission that the peer has
    clock_us, age, serial : see above
    rows : arrivals since the last one, in order of arrival
    ranges : (start, stop) above una
    """

    ts: int
    sn: int
    clock_us: int
    age: int
    serial: int
    rows: list[Row]
    ranges: list[tuple[int, int]]

    @property
    def segments(self) -> int:
        """Segments of all rows."""
        return sum(row[1] & LONGEST_ROW for row in self.rows)

    def is_possible(self, una: int, nxt: int) -> bool:
        """True if it names only segments below `nxt`: others were never sent."""
        if self.ranges and una + self.ranges[-1][1] > nxt:
            return False
        return all(expand(first, una) + (count & LONGEST_ROW) <= nxt for first, count, _, _ in self.rows)


def read_ranges(ts: int, sn: int, row_count: int, body: Bytes) -> RangeAck | None:
    """The content of an ACK_RANGES segment, given three fields of its header and its payload; None if it
    contradicts itself or exceeds the bounds above."""
    rows_end = HEAD.size + row_count * ROW.size
    if len(body) < rows_end or (len(body) - rows_end) % RANGE.size:
        return None
    if len(body) - rows_end > MOST_RANGES * RANGE.size:
        return None
    data = body.data
    clock_us, age, serial = HEAD.unpack_from(data)
    rows: list[Row] = list(ROW.iter_unpack(data[HEAD.size : rows_end]))
    ranges: list[tuple[int, int]] = list(RANGE.iter_unpack(data[rows_end:]))
    segments = reached = 0
    for _, count, _, _ in rows:
        count &= LONGEST_ROW
        if not count:
            return None
        segments += count
    if segments > MOST_SEGMENTS:
        return None
    for start, stop in ranges:
        # A range next to the one before, or to una, would be one with it.
        if not reached < start < stop:
            return None
        reached = stop
    return RangeAck(ts, sn, clock_us, age, serial, rows, ranges)


def write_ranges(conv: int, wnd: int, una: int, ack: RangeAck) -> Bytes:
    """The segment for `ack`, which has at most 255 rows; uint8 (n,)."""
    parts = [HEAD.pack(ack.clock_us & MASK, ack.age, ack.serial & 0xFFFF)]
    parts += [ROW.pack(first & MASK, count, age, ts & MASK) for first, count, age, ts in ack.rows]
    parts += [RANGE.pack(*each) for each in ack.ranges]
    body = b"".join(parts)
    ts, sn, una = ack.ts & MASK, ack.sn & MASK, una & MASK
    header = HEADER.pack(conv, ACK_RANGES, len(ack.rows), wnd, ts, sn, una, len(body))
    return np.frombuffer(header + body, np.uint8)


def segment_bytes(rows: int, ranges: int) -> int:
    """Bytes of a segment with so many rows and ranges."""
    return HEADER_BYTES + HEAD.size + rows * ROW.size + ranges * RANGE.size


def interval_code(interval_us: float) -> int:
    """The field frg that asks for this interval, 1 to 254: rounded up to the next step, 9 % at most."""
    return min(max(1, ceil(_STEPS * log2(max(1.0, interval_us)))), 254)


def age_of(us: int) -> int:
    """The age on the wire."""
    return min(max(0, (us + AGE_US // 2) // AGE_US), LONGEST_AGE)
