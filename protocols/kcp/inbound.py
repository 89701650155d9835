"""Decode arrived datagrams once: a batch becomes records that the engine takes as they are.

    shape of the batch                             record                              read with
    ---------------------------------------------  ----------------------------------  ---------
    one datagram with one segment                  `Pushes`, `acks`, or only una, wnd  struct
    up to FEW ACK segments, in any grouping        `acks`, a list of headers           struct
    more ACK segments                              `acks`, an array of headers         numpy
    a run: PUSH segments of one size, a datagram   `Pushes`, consecutive               numpy, by one
      each, equal but for a rising serial number                                       comparison
    PUSH segments of one size, a datagram each     `Pushes` with a column of serial    numpy
      (gaps, repeats, any order)                     numbers
    either, with as many segments in each          as above                            numpy
      datagram as fill it
    one acknowledgement in ranges                  `ranges`                            struct
    any of these, then one shorter datagram        the record of the uniform part,     as above, then
                                                     then one per segment of the last  struct
    anything else                                  one record per segment, in order    struct

The shape is a matter of speed only, never of meaning: a batch that is handed over whole, a datagram at a
time or a segment at a time leaves an engine in one and the same state (tests/protocols/kcp/test_shapes.py;
test_few_acks.py compares list and array). Below about 16 headers `struct` is faster than numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.ack_ranges import RangeAck, read_ranges
from iperfpy.protocols.kcp.parts import Part, read_part
from iperfpy.protocols.kcp.wire import (
    ACK,
    ACK_RANGES,
    COMMANDS,
    FIELDS,
    HEADER,
    HEADER_BYTES,
    MASK,
    PART,
    PROBE,
    PUSH,
    TAKES_PARTS,
    WASK,
    WINS,
    Bytes,
    Int64s,
    expand,
    expand_all,
)

FEW = 24
"""Most ACK segments that are read one by one: the arrays of more are cheaper."""

Header = tuple[int, ...]
"""(conv, cmd, frg, wnd, ts, sn, una, len), as `wire.HEADER` unpacks it."""

Acks = list[Header] | NDArray[np.void]
"""ACK segments: at most `FEW` as a list of headers, more as an array of `wire.FIELDS`."""

# A header as three words: (conv cmd frg wnd), (ts sn), (una len). In a run of new segments the first and the
# third are all equal, and the upper half of the second counts up. So less the count, and without the stamps,
# each header equals the one before: one comparison of bytes recognises a run. The headers are first put side
# by side, because numpy is slow at rows of three words that lie far apart.
_WORD, _HEADER = np.dtype("<u8"), np.dtype("V24")
_LONGEST_RUN = 4096
_STEPS = np.zeros(3 * _LONGEST_RUN, _WORD)
_STEPS[1::3] = np.arange(_LONGEST_RUN, dtype=np.uint64) << np.uint64(32)
_BUT_TS = np.tile(np.array([MASK << 32 | MASK, MASK << 32, MASK << 32 | MASK], _WORD), _LONGEST_RUN)


@dataclass(slots=True)
class Pushes:
    """PUSH segments of one payload size, n of them.

    Attributes
    ----------
    first, last : serial numbers of the first and the last one to arrive
    last_ts : stamp of the last one, 32 bits
    rows : uint8 (n, size), the payloads: a view, valid as long as the batch is
    sn : int64 (n,), serial numbers; None if they are consecutive
    headers : the n headers side by side; empty if there is one segment only
    frg : that field of the first header
    """

    first: int
    last: int
    last_ts: int
    rows: Bytes
    sn: Int64s | None = None
    headers: bytes = b""
    frg: int = 0

    def numbers(self) -> Int64s:
        """Serial numbers in order of arrival, int64 (n,)."""
        return np.arange(self.first, self.last + 1) if self.sn is None else self.sn

    def stamps(self) -> Int64s:
        """The stamps that ACKs must echo, 32 bits each, int64 (n,)."""
        if not self.headers:
            return np.array([self.last_ts], np.int64)
        stamps: Int64s = np.frombuffer(self.headers, FIELDS)["ts"].astype(np.int64)
        return stamps


@dataclass(slots=True)
class Arrived:
    """The content of one batch, or of one segment in a batch that mixes kinds.

    Attributes
    ----------
    una : the furthest cumulative ACK (datagrams may overtake one another)
    wnd : the peer's receive window in segments, as the last segment says
    asks : True if the peer asks for our window (WASK)
    part : a part of a segment, or None
    probe : True if `pushes` is a probe of the path: to be acknowledged and not to be counted
    takes_parts : True if the peer says that it joins parts
    ranges : an acknowledgement in ranges, or None
    tells : True if the peer answers a window probe (WINS)
    malformed : True if the segment contradicts itself: nothing in it may be used
    """

    una: int
    wnd: int
    pushes: Pushes | None = None
    acks: Acks | None = None
    asks: bool = False
    part: Part | None = None
    probe: bool = False
    takes_parts: bool = False
    ranges: RangeAck | None = None
    tells: bool = False
    malformed: bool = False


class Inbound(NamedTuple):
    """One batch, decoded.

    Parameters
    ----------
    records : in order of arrival
    foreign : datagrams that are not KCP of this conversation, or not as far as their end
    impossible : segments left out, because they acknowledge a segment never sent, or contradict themselves
    decoded : records that were made of the batch, those of a second reading included
    """

    records: list[Arrived]
    foreign: int
    impossible: int
    decoded: int


def ack_columns(acks: Acks, una: int, now_us: int) -> tuple[Int64s, Int64s]:
    """Serial numbers, near `una`, and the stamps echoed, near `now_us`: int64 (n,) each."""
    if isinstance(acks, list):
        if len(acks) == 1:
            number, echo_us = expand(acks[0][5], una), expand(acks[0][4], now_us)
            return np.array([number], np.int64), np.array([echo_us], np.int64)
        sn = np.array([header[5] for header in acks], np.uint32)
        ts = np.array([header[4] for header in acks], np.uint32)
    else:
        sn, ts = acks["sn"], acks["ts"]
    return expand_all(sn, una), expand_all(ts, now_us)


def without_stamps(acks: Acks, stamps: list[int]) -> Acks | None:
    """The ACKs that echo none of these stamps, 32 bits each; None if none is left."""
    if isinstance(acks, list):
        return [header for header in acks if header[4] not in stamps] or None
    kept = acks[~np.isin(acks["ts"], stamps)]
    return kept if len(kept) else None


def decode(batch: DatagramBatch, conv: int, next_sn: int, una: int, nxt: int, *, ranges: bool) -> Inbound:
    """The content of a batch.

    Parameters
    ----------
    conv : conversation number; datagrams of others are foreign
    next_sn, una : the receive window's next serial number, and the send window's first unacknowledged one:
        serial numbers of 32 bits grow back to the integers nearest to these
    nxt : the send window's next serial number, which nothing can acknowledge yet
    ranges : True if the peer may acknowledge in ranges

    Of a datagram that turns foreign in its middle, the segments before that point count.
    """
    records, foreign = read_batch(batch, conv, next_sn, una)
    decoded = len(records)
    for arrived in records:  # a loop, not `any`: this is asked of every batch
        if arrived.una > nxt:
            # The record of many segments has the furthest una of them: the segments are told apart again, and
            # those with an una never sent are not our peer's, or garbled: nothing in them can be trusted.
            records = decode_each(batch, conv, next_sn, una)
            decoded += len(records)
            break
    possible = [
        arrived
        for arrived in records
        if arrived.una <= nxt and not arrived.malformed and (ranges or arrived.ranges is None)
    ]
    return Inbound(possible, foreign, len(records) - len(possible), decoded)


def read_batch(batch: DatagramBatch, conv: int, next_sn: int, una: int) -> tuple[list[Arrived], int]:
    """The records of a batch, and how many datagrams are foreign."""
    data, count = batch.data, batch.count
    if (batch.last_size if count == 1 else batch.stride) < HEADER_BYTES:
        return [], count
    header: Header = HEADER.unpack_from(data.data, 0)
    if header[0] == conv:
        cmd = header[1]
        if count == 1 and header[7] == batch.last_size - HEADER_BYTES and cmd in COMMANDS:
            return [_segment(header, data, HEADER_BYTES, next_sn, una)], 0
        arrived = None
        if cmd == ACK:
            arrived = _acks(batch, conv, una)
        elif cmd == PUSH and batch.last_size == batch.stride:
            arrived = _pushes(_unpacked(batch, header[7]), header, next_sn, una)
        if arrived is not None:
            return [arrived], 0
    if count > 1 and batch.last_size < batch.stride:
        # Segmentation offload ends a run with a datagram that is not full: only that one breaks the shape.
        records, foreign = read_batch(batch.head(count - 1), conv, next_sn, una)
        return records, foreign + _walk(batch.rest(count - 1).data, conv, next_sn, una, records)
    records = []
    return records, sum(_walk(datagram, conv, next_sn, una, records) for datagram in batch)


def decode_each(batch: DatagramBatch, conv: int, next_sn: int, una: int) -> list[Arrived]:
    """A record per segment, whatever the shape of the batch."""
    records: list[Arrived] = []
    for datagram in batch:
        _walk(datagram, conv, next_sn, una, records)
    return records


def _segment(header: Header, data: Bytes, offset: int, next_sn: int, una: int) -> Arrived:
    """The record of one segment; its payload starts at `offset`."""
    _, cmd, frg, wnd, ts, sn, una_low, size = header
    if una_low != una & MASK:
        una = expand(una_low, una)
    if cmd == PUSH:
        number = next_sn if sn == next_sn & MASK else expand(sn, next_sn)
        pushes = Pushes(number, number, ts, data[None, offset : offset + size], frg=frg)
        return Arrived(una, wnd, pushes, probe=frg == PROBE and number < next_sn)
    if cmd == ACK:
        return Arrived(una, wnd, None, [header])
    if cmd == PART:
        return Arrived(una, wnd, part=read_part(expand(sn, next_sn), ts, data[offset : offset + size]))
    if cmd == ACK_RANGES:
        ranges = read_ranges(ts, sn, frg, data[offset : offset + size])
        return Arrived(una, wnd, ranges=ranges, malformed=ranges is None)
    tells = cmd == WINS
    return Arrived(una, wnd, None, None, cmd == WASK, takes_parts=tells and frg == TAKES_PARTS, tells=tells)


def _acks(batch: DatagramBatch, conv: int, una: int) -> Arrived | None:
    """The record of ACK segments back to back; None if there is anything else among them."""
    size = batch.size
    if batch.stride % HEADER_BYTES or size % HEADER_BYTES:
        return None
    if size <= FEW * HEADER_BYTES:
        headers: list[Header] = list(HEADER.iter_unpack(batch.data.data[:size]))
        furthest = 0
        for their_conv, cmd, _, _, _, _, una_low, length in headers:
            if cmd != ACK or their_conv != conv or length:
                return None
            if una_low > furthest:
                furthest = una_low
        if furthest < 0x8000_0000:
            return Arrived(expand(furthest, una), headers[-1][3], None, headers)
        # Others may have wrapped, and be further: compare them as integers.
        return Arrived(max(expand(header[6], una) for header in headers), headers[-1][3], None, headers)
    fields = np.ndarray((size // HEADER_BYTES,), FIELDS, batch.data)
    if (fields["cmd"] != ACK).any() or (fields["conv"] != conv).any() or fields["len"].any():
        return None
    reached = int(expand_all(fields["una"], una).max())
    return Arrived(reached, int(fields["wnd"][-1]), None, fields)


def _unpacked(batch: DatagramBatch, payload: int) -> DatagramBatch:
    """The segments of datagrams that are full of segments of one size, as if each had come by itself."""
    size = HEADER_BYTES + payload
    if payload == 0 or size >= batch.stride or batch.stride % size:
        return batch
    return DatagramBatch(batch.data, size, batch.size // size, size)


def _pushes(batch: DatagramBatch, header: Header, next_sn: int, una: int) -> Arrived | None:
    """The record of full datagrams that hold one PUSH segment each; None if one of them does not. `header`:
    that of the first one."""
    stride, count = batch.stride, batch.count
    conv, _, frg, wnd, _, sn, una_low, size = header
    # Empty segments, probes, and runs longer than the constants above are read one by one.
    if not 2 <= count <= _LONGEST_RUN or not 0 < size == stride - HEADER_BYTES or frg == PROBE:
        return None
    rows = batch.data[: count * stride].reshape(count, stride)[:, HEADER_BYTES:]
    headers = np.ndarray((count,), _HEADER, batch.data, 0, (stride,)).tobytes()
    words = np.frombuffer(headers, _WORD)
    alike = ((words - _STEPS[: 3 * count]) & _BUT_TS[: 3 * count]).tobytes()
    if alike[HEADER_BYTES:] == alike[:-HEADER_BYTES]:
        first = next_sn if sn == next_sn & MASK else expand(sn, next_sn)
        if una_low != una & MASK:
            una = expand(una_low, una)
        pushes = Pushes(first, first + count - 1, int(words[-2]) & MASK, rows, None, headers, frg)
        return Arrived(una, wnd, pushes)
    # No run, or with a gap: still one record, if only serial numbers, stamps, una and wnd differ.
    fields = np.frombuffer(headers, FIELDS)
    if (fields["conv"] != conv).any() or (fields["cmd"] != PUSH).any() or (fields["len"] != size).any():
        return None
    numbers = expand_all(fields["sn"], next_sn)
    pushes = Pushes(int(numbers[0]), int(numbers[-1]), int(fields["ts"][-1]), rows, numbers, headers, frg)
    return Arrived(int(expand_all(fields["una"], una).max()), int(fields["wnd"][-1]), pushes)


def _walk(datagram: Bytes, conv: int, next_sn: int, una: int, records: list[Arrived]) -> int:
    """Append a record per segment of one datagram; 1 if it is foreign from some point on, else 0."""
    offset, size = 0, len(datagram)
    while offset < size:
        if size - offset < HEADER_BYTES:
            return 1
        header: Header = HEADER.unpack_from(datagram.data, offset)
        offset += HEADER_BYTES
        if header[0] != conv or header[1] not in COMMANDS or header[7] > size - offset:
            return 1
        records.append(_segment(header, datagram, offset, next_sn, una))
        offset += header[7]
    return 0
