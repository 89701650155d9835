"""kcp-go's header of forward error correction (FEC), and the counters of both directions.

    | seqid u32 | type u16 | size u16 | KCP datagram |       data
    | seqid u32 | type u16 | parity of the shards ... |      parity

A data shard is the part from the size field on, `size` = 2 + length of the KCP datagram; the shards of a set
are padded with zeros to the longest one. Little endian. A type cannot be mistaken for the fields cmd and frg
that a plain KCP segment has in its place.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

DATA, PARITY, OUT_OF_BAND = 0xF1, 0xF2, 0xF3
SHARD_OFFSET, HEADER_BYTES = 6, 8
"""Offset of the shard, and of the KCP datagram in it."""
HEADER = struct.Struct("<IHH")
FIELDS = np.dtype([("seqid", "<u4"), ("type", "<u2")])
SIZE = np.dtype("<u2")


@dataclass(slots=True)
class FecCounts:
    """Totals of one end, which grow.

    Attributes
    ----------
    data_sent, parity_sent : datagrams
    data_bytes, added_bytes : KCP bytes that left, and those of headers and parity
    added_datagrams : those bytes, in data datagrams of the mean length at the time
    data_received, parity_received : datagrams
    recovered : data datagrams that were computed from the others of their set
    parity_wasted : parity datagrams that arrived and were not needed, or did not suffice
    lost : data datagrams of sets that stayed incomplete, and are remembered no longer, or whose restoring
        would have exceeded the bounds of a call
    unusable : datagrams with a type that contradicts the geometry, and recovered ones that are garbled
    out_of_band : datagrams of a kind that kcp-go has beside data and parity. Between two iperfpy with
        --kcp-fec auto, they are reports (fec_reports.py); all others are dropped
    """

    data_sent: int = 0
    parity_sent: int = 0
    data_bytes: int = 0
    added_bytes: int = 0
    added_datagrams: float = 0.0
    data_received: int = 0
    parity_received: int = 0
    recovered: int = 0
    parity_wasted: int = 0
    lost: int = 0
    unusable: int = 0
    out_of_band: int = 0

    def add(self, size: int) -> None:
        """Count bytes that were added to the data sent so far."""
        self.added_bytes += size
        if self.data_bytes:
            self.added_datagrams += size * self.data_sent / self.data_bytes
