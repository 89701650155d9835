"""KCP on the wire: the 24-byte segment header, and serial numbers that wrap.

    0      4   5   6     8     12    16    20    24
    | conv |cmd|frg| wnd | ts  | sn  | una | len | payload ...        little endian

Inside the engine sequence numbers and stamps are unbounded integers; only here do they become
32 bits (`& MASK`) and grow back (`expand`, the serial number arithmetic of RFC 1982).
A batch of datagrams is looked at as one strided view: what matters is its shape, not who sent it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import DatagramBatch

Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]

HEADER_BYTES = 24
PUSH, ACK, WASK, WINS = 81, 82, 83, 84
COMMANDS = frozenset((PUSH, ACK, WASK, WINS))
MASK = 0xFFFF_FFFF
MAX_WINDOW = 0xFFFF
"""The window field has 16 bits: no more segments than this can be in flight."""

HEADER = struct.Struct("<IBBHIIII")
FIELDS = np.dtype(
    [
        ("conv", "<u4"),
        ("cmd", "u1"),
        ("frg", "u1"),
        ("wnd", "<u2"),
        ("ts", "<u4"),
        ("sn", "<u4"),
        ("una", "<u4"),
        ("len", "<u4"),
    ]
)
# The same 24 bytes as three words: (conv cmd frg wnd), (ts sn), (una len). In a run of new segments the first
# and the third are all equal and the upper half of the second counts up. So less the count, and without the
# stamps, each header equals the one before: one comparison of bytes recognises a run. The headers are first
# put side by side, for numpy is slow at rows of three words that lie far apart.
_WORD, _HEADER = np.dtype("<u8"), np.dtype("V24")
_LONGEST_RUN = 4096
_STEPS = np.zeros(3 * _LONGEST_RUN, _WORD)
_STEPS[1::3] = np.arange(_LONGEST_RUN, dtype=np.uint64) << np.uint64(32)
_BUT_TS = np.tile(np.array([MASK << 32 | MASK, MASK << 32, MASK << 32 | MASK], _WORD), _LONGEST_RUN)


def expand(low: int, reference: int) -> int:
    """The integer nearest to `reference` whose low 32 bits are `low`."""
    return reference + ((low - reference + 0x8000_0000) & MASK) - 0x8000_0000


def expand_all(low: NDArray[np.uint32], reference: int) -> Int64s:
    """`expand` for an array, shape (n,), int64."""
    offset = np.subtract(low, np.uint32(reference & MASK), dtype=np.uint32)
    wide: Int64s = offset.view(np.int32).astype(np.int64)
    wide += reference
    return wide


@dataclass(slots=True)
class Run:
    """`count` PUSH segments with consecutive serial numbers and one size, a datagram each.

    `ts`: (count,) their stamps: several runs that left one after the other may have come together. `rows`:
    (count, size) uint8 view of the payloads, valid as long as the batch is.
    """

    first: int  # serial number, 32 bits
    count: int
    ts: NDArray[np.uint32]
    una: int
    wnd: int
    rows: Bytes


@dataclass(slots=True)
class Pushes:
    """PUSH segments of one size, a datagram each, in any order: arrays of shape (n,) and (n, size). `una` is
    the furthest of theirs, `wnd` the last one's."""

    sn: NDArray[np.uint32]
    ts: NDArray[np.uint32]
    una: int
    wnd: int
    rows: Bytes


@dataclass(slots=True)
class Acks:
    """ACK segments back to back: arrays of shape (n,). `una` is the furthest of theirs (datagrams may have
    overtaken one another), `wnd` the last one's."""

    sn: NDArray[np.uint32]
    ts: NDArray[np.uint32]
    una: int
    wnd: int


@dataclass(slots=True)
class Segment:
    """One segment, parsed alone; `payload` is a view."""

    cmd: int
    frg: int
    wnd: int
    ts: int
    sn: int
    una: int
    payload: Bytes


def recognise(batch: DatagramBatch, conv: int) -> Run | Pushes | Acks | None:
    """The batch as one of the shapes that need no look at each segment, or None: then `walk` it.

    The last datagram of a batch may be shorter than the others; a batch of data ending so is not
    recognised as a whole (`split_tail` takes it apart).
    """
    data, stride, count = batch.data, batch.stride, batch.count
    if data[4] == ACK:
        return _acks(batch, conv)
    if not 2 <= count <= _LONGEST_RUN or batch.last_size != stride or stride <= HEADER_BYTES:
        return None
    their_conv, cmd, _, wnd, _, sn, una, length = HEADER.unpack_from(data.data, 0)
    if their_conv != conv or cmd != PUSH or length != stride - HEADER_BYTES:
        return None
    rows = data[: count * stride].reshape(count, stride)[:, HEADER_BYTES:]
    headers = np.ndarray((count,), _HEADER, data, 0, (stride,)).tobytes()
    words = np.frombuffer(headers, _WORD)
    alike = ((words - _STEPS[: 3 * count]) & _BUT_TS[: 3 * count]).tobytes()
    if alike[HEADER_BYTES:] == alike[:-HEADER_BYTES]:
        return Run(sn, count, words[1::3].astype(np.uint32), una, wnd, rows)
    fields = np.frombuffer(headers, FIELDS)
    if (fields["conv"] == conv).all() and (fields["cmd"] == PUSH).all() and (fields["len"] == length).all():
        return Pushes(fields["sn"], fields["ts"], _furthest(fields["una"]), int(fields["wnd"][-1]), rows)
    return None


def _acks(batch: DatagramBatch, conv: int) -> Acks | None:
    if batch.stride % HEADER_BYTES or batch.last_size % HEADER_BYTES:
        return None
    fields = np.ndarray((batch.size // HEADER_BYTES,), FIELDS, batch.data)
    if (fields["cmd"] != ACK).any() or (fields["conv"] != conv).any() or fields["len"].any():
        return None
    return Acks(fields["sn"].copy(), fields["ts"].copy(), _furthest(fields["una"]), int(fields["wnd"][-1]))


def _furthest(low: NDArray[np.uint32]) -> int:
    """The highest of these serial numbers, which lie within 2^31 of one another."""
    last = low[-1]
    offset = np.subtract(low, last, dtype=np.uint32).view(np.int32)
    return (int(last) + int(offset.max())) & MASK


def split_tail(batch: DatagramBatch) -> tuple[DatagramBatch, DatagramBatch] | None:
    """A batch whose last datagram is short, as the uniform part and the rest; None when it is uniform."""
    if batch.count < 2 or batch.last_size == batch.stride:
        return None
    cut = (batch.count - 1) * batch.stride
    return (
        DatagramBatch(batch.data[:cut], batch.stride, batch.count - 1, batch.stride),
        DatagramBatch(batch.data[cut : batch.size], batch.last_size, 1, batch.last_size),
    )


def walk(datagram: Bytes, conv: int) -> Iterator[Segment]:
    """The segments of one datagram, whatever their mix.

    Raises
    ------
    ValueError
        At the first segment that is not KCP of this conversation; what came before it stands.
    """
    offset, size = 0, len(datagram)
    while offset < size:
        if size - offset < HEADER_BYTES:
            raise ValueError("truncated segment header")
        their_conv, cmd, frg, wnd, ts, sn, una, length = HEADER.unpack_from(datagram.data, offset)
        offset += HEADER_BYTES
        if their_conv != conv:
            raise ValueError("another conversation")
        if cmd not in COMMANDS or length > size - offset:
            raise ValueError("not a KCP segment")
        yield Segment(cmd, frg, wnd, ts, sn, una, datagram[offset : offset + length])
        offset += length


def conv_of(datagram: Bytes | memoryview) -> int | None:
    """The conversation that a datagram claims to belong to, or None when it is too short for KCP."""
    if len(datagram) < HEADER_BYTES:
        return None
    return int.from_bytes(bytes(datagram[:4]), "little")


def control_segment(conv: int, cmd: int, wnd: int, una: int, ts: int = 0, sn: int = 0) -> bytes:
    """One segment without payload."""
    return HEADER.pack(conv, cmd, 0, wnd, ts & MASK, sn & MASK, una & MASK, 0)


def ack_segments(conv: int, wnd: int, una: int, sn: Int64s, ts: Int64s) -> Bytes:
    """ACK segments back to back, shape (24 n,) uint8, in the order given."""
    fields = np.zeros(len(sn), FIELDS)
    fields["conv"] = conv
    fields["cmd"] = ACK
    fields["wnd"] = wnd
    fields["ts"] = ts & MASK
    fields["sn"] = sn & MASK
    fields["una"] = una & MASK
    return fields.view(np.uint8)
