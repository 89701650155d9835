"""Segments in parts: the way of data that was cut for a larger size of datagram than the path still carries.

A KCP segment cannot be cut again once it was sent: its serial number stands for all of its payload, and
copies of it may be on the way. So its payload travels in parts under that number, which the receiver joins.
Stock KCP does not know parts: one is sent only to a peer that announced in its WINS (`wire.TAKES_PARTS`)
that it joins them.

    | 24 bytes: header of the segment, cmd PART, len = 4 + n | offset u16 | total u16 | n bytes |

A transmission sends all parts under one stamp. The receiver keeps the parts of earlier transmissions, so
that a retransmission need only fill the gaps.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.wire import FIELDS, HEADER_BYTES, PART, Bytes

PART_HEADER = struct.Struct("<HH")
BUDGET_BYTES, MOST_SEGMENTS, MOST_PARTS = 16 << 20, 1_024, 64
"""Most payload of incomplete segments that a receiver keeps, most such segments, and most parts of one; what
exceeds them must be sent again."""


class Part(NamedTuple):
    """One part that arrived: `payload` is a view, valid as long as its batch is."""

    sn: int
    ts: int
    offset: int
    total: int
    payload: Bytes


def read_part(sn: int, ts: int, body: Bytes) -> Part | None:
    """The part in the payload of a PART segment; None if it contradicts itself."""
    if len(body) <= PART_HEADER.size:
        return None
    offset, total = PART_HEADER.unpack_from(body.data)
    payload = body[PART_HEADER.size :]
    return Part(sn, ts, offset, total, payload) if offset + len(payload) <= total else None


def split(packets: Bytes, mtu: int) -> list[DatagramBatch]:
    """Datagrams of at most `mtu` bytes with the parts of segments of one length, a batch per segment.

    All parts of a segment leave before those of the next one: a queue that overflows loses the end of what
    comes at once, which must not be the last parts of all segments, time and again.

    Parameters
    ----------
    packets : uint8 (n, size), whole segments
    """
    payload_bytes = packets.shape[1] - HEADER_BYTES
    body = HEADER_BYTES + PART_HEADER.size
    starts = range(0, payload_bytes, mtu - body)
    last = body + payload_bytes - starts[-1]
    batches = []
    for packet in packets:
        out = np.empty(((len(starts) - 1) * mtu + last,), np.uint8)
        for at, start in enumerate(starts):
            datagram = out[at * mtu : (at + 1) * mtu]
            datagram[:HEADER_BYTES] = packet[:HEADER_BYTES]
            fields = np.ndarray((1,), FIELDS, datagram)
            fields["cmd"], fields["len"] = PART, len(datagram) - HEADER_BYTES
            datagram[HEADER_BYTES:body] = np.frombuffer(PART_HEADER.pack(start, payload_bytes), np.uint8)
            first = HEADER_BYTES + start
            datagram[body:] = packet[first : first + len(datagram) - body]
        batches.append(DatagramBatch(out, mtu if len(starts) > 1 else last, len(starts), last))
    return batches


class PartialSegments:
    """Joins parts into segments. Only what has arrived takes memory, whatever lengths a peer claims.

    Attributes
    ----------
    held_bytes : payload of the incomplete segments, at most `BUDGET_BYTES`
    """

    __slots__ = ("_segments", "held_bytes")

    def __init__(self) -> None:
        self.held_bytes = 0
        self._segments: dict[int, dict[int, bytes]] = {}  # serial number -> offset -> payload

    def join(self, part: Part, nxt: int, limit: int, mss: int) -> Bytes | None:
        """Take a part; the whole payload of its segment, (n,), once all of it is here.

        Parameters
        ----------
        nxt, limit, mss : of the receive window. A part of a segment beyond it is dropped
        """
        size = len(part.payload)
        if not nxt <= part.sn < nxt + limit or part.total > mss:
            return None
        known = self._segments.get(part.sn)
        if known is None:
            self._forget_below(nxt)
            if len(self._segments) >= MOST_SEGMENTS:
                return None
            known = self._segments[part.sn] = {}
        before = len(known.get(part.offset, b""))
        if size <= before or self.held_bytes + size > BUDGET_BYTES or len(known) >= MOST_PARTS:
            return None
        known[part.offset] = part.payload.tobytes()
        self.held_bytes += size - before
        return self._whole(part.sn, part.total)

    def _whole(self, number: int, total: int) -> Bytes | None:
        """The payload of a segment if all of it is here; then its parts are dropped."""
        parts, reached = self._segments[number], 0
        # Parts of two transmissions may have been cut to different sizes, and overlap.
        for offset in sorted(parts):
            if offset > reached:
                return None
            reached = max(reached, offset + len(parts[offset]))
        if reached < total:
            return None
        payload = np.empty(reached, np.uint8)
        for offset, part in parts.items():
            payload[offset : offset + len(part)] = np.frombuffer(part, np.uint8)
        self._drop(number)
        return payload[:total]

    def _drop(self, number: int) -> None:
        self.held_bytes -= sum(map(len, self._segments.pop(number).values()))

    def _forget_below(self, nxt: int) -> None:
        """Drop what was begun of segments that have arrived whole since."""
        for number in [number for number in self._segments if number < nxt]:
            self._drop(number)
