"""KCP on the wire: the 24-byte segment header, and serial numbers that wrap.

    0      4   5   6     8     12    16    20    24
    | conv |cmd|frg| wnd | ts  | sn  | una | len | payload ...        little endian

Inside the engine serial numbers and stamps are unbounded integers. They become 32 bits on the wire (`& MASK`)
and grow back on arrival (`expand`, the serial number arithmetic of RFC 1982). `inbound.py` decodes arrived
batches; this module has the format and builds the segments that carry no data.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]

HEADER_BYTES = 24
PUSH, ACK, WASK, WINS = 81, 82, 83, 84
PART = 85
"""Not of stock KCP: part of a segment (parts.py), only to a peer that announced `TAKES_PARTS`."""
ACK_RANGES = 86
"""Not of stock KCP: an acknowledgement in ranges (ack_ranges.py), only between ends that agreed on it."""
COMMANDS = frozenset((PUSH, ACK, WASK, WINS, PART, ACK_RANGES))
TAKES_PARTS = 1
"""The field frg of a WINS from a peer that joins parts. Stock KCP ignores frg there, and sends 0."""
PROBE = 255
"""The field frg of a PUSH that only probes the path (size_search.py). Stock KCP ignores it, as it drops the
payload of a segment that has arrived before."""
MASK = 0xFFFF_FFFF

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


def expand(low: int, reference: int) -> int:
    """The integer nearest to `reference` that has these low 32 bits."""
    return reference + ((low - reference + 0x8000_0000) & MASK) - 0x8000_0000


def expand_all(low: NDArray[np.uint32], reference: int) -> Int64s:
    """`expand` for an array, shape (n,), int64."""
    offset = np.subtract(low, np.uint32(reference & MASK), dtype=np.uint32)
    wide: Int64s = offset.view(np.int32).astype(np.int64)
    wide += reference
    return wide


def control_segment(conv: int, cmd: int, wnd: int, una: int, ts: int = 0, sn: int = 0, frg: int = 0) -> bytes:
    """One segment without payload."""
    return HEADER.pack(conv, cmd, frg, wnd, ts & MASK, sn & MASK, una & MASK, 0)


def probe_segment(conv: int, wnd: int, una: int, ts: int, sn: int, size: int) -> Bytes:
    """A datagram of `size` bytes that a KCP peer acknowledges and ignores otherwise: a PUSH of a segment `sn`
    that has arrived before. uint8 (size,), zeros after the header."""
    out = np.zeros(size, np.uint8)
    length = size - HEADER_BYTES
    header = HEADER.pack(conv, PUSH, PROBE, wnd, ts & MASK, sn & MASK, una & MASK, length)
    out[:HEADER_BYTES] = np.frombuffer(header, np.uint8)
    return out


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
