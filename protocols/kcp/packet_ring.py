"""Memory of the send window, one row per segment: its datagram, and its state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.wire import HEADER_BYTES, Bytes, Int64s


class PacketRing:
    """Whole datagrams, a row each, with the header fields as columns.

    A run of rows is sent from here without a copy. Serial number, length and payload are written when the
    application writes; the rest of the header is stamped at each transmission.

    Attributes
    ----------
    packets : uint8 (capacity, width): a row holds one datagram, and may be longer than it
    length : uint32 (capacity,), payload bytes of each row
    """

    __slots__ = ("_ack", "_conv", "_leading", "_sn", "_ts", "length", "packets")

    def __init__(self, conv: int, capacity: int, width: int) -> None:
        self._conv = conv
        self.packets: Bytes = np.empty((capacity, width), np.uint8)
        fields = np.ndarray((capacity,), wire.FIELDS, self.packets, 0, (width,))
        self._ts, self._sn = fields["ts"], fields["sn"]
        self._ack, self.length = fields["una"], fields["len"]
        # conv, cmd, frg and wnd as one word: equal in all rows of a run
        self._leading = np.ndarray((capacity,), "<u8", self.packets, 0, (width,))

    @property
    def width(self) -> int:
        """Bytes of a row."""
        width: int = self.packets.shape[1]
        return width

    def copy_rows(self, old: PacketRing, start: int, to: int, count: int) -> None:
        """Take over `count` rows of another ring, from row `start` on, to row `to` on."""
        width = min(self.packets.shape[1], old.packets.shape[1])
        self.packets[to : to + count, :width] = old.packets[start : start + count, :width]

    def fill(self, start: int, stop: int, numbers: Int64s, payload: Bytes, mss: int) -> int:
        """Begin rows [start, stop) with serial numbers (n,); full payloads, `mss` bytes, go to the first.

        Returns the bytes taken: a rest of `payload` that fills no row is left to `put`.
        """
        self._sn[start:stop] = numbers
        self.length[start:stop] = mss
        whole = min(stop - start, len(payload) // mss)
        rows = payload[: whole * mss].reshape(whole, mss)
        self.packets[start : start + whole, HEADER_BYTES : HEADER_BYTES + mss] = rows
        return whole * mss

    def put(self, row: int, at: int, payload: Bytes) -> None:
        """Write payload bytes from offset `at` of a row on; its length ends with them."""
        at += HEADER_BYTES
        self.packets[row, at : at + len(payload)] = payload
        self.length[row] = at - HEADER_BYTES + len(payload)

    def stamp(self, start: int, stop: int, stamp_us: int, una: int, wnd: int, frg: int) -> None:
        """Complete the headers of rows [start, stop) for their first transmission."""
        self._ts[start:stop] = stamp_us & wire.MASK
        self._ack[start:stop] = una & wire.MASK
        self._leading[start:stop] = self._conv | wire.PUSH << 32 | frg << 40 | wnd << 48

    def stamp_again(self, rows: Int64s, stamp_us: int, una: int, wnd: int, frg: int) -> None:
        """Renew the headers of these rows, (n,), for a retransmission."""
        self._ts[rows] = stamp_us & wire.MASK
        self._ack[rows] = una & wire.MASK
        self._leading[rows] = self._conv | wire.PUSH << 32 | frg << 40 | wnd << 48


class SegmentStates:
    """The state of each segment, by row: separate arrays, which are faster than one structured array.

    Attributes
    ----------
    acked : bool (capacity,), acknowledged by an ACK of its own while above una
    lost : bool (capacity,), given up for lost and not yet sent again
    sent_us : int64 (capacity,), stamp of the last transmission
    transmissions : uint16 (capacity,)
    resend_us, rto_us : int64 (capacity,), and fastack : int32 (capacity,): stock recovery's timers and counts
    """

    __slots__ = ("acked", "fastack", "lost", "resend_us", "rto_us", "sent_us", "transmissions")

    def __init__(self, capacity: int) -> None:
        self.acked: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.lost: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.sent_us: Int64s = np.zeros(capacity, np.int64)
        self.transmissions: NDArray[np.uint16] = np.zeros(capacity, np.uint16)
        self.resend_us: Int64s = np.zeros(capacity, np.int64)
        self.rto_us: Int64s = np.zeros(capacity, np.int64)
        self.fastack: NDArray[np.int32] = np.zeros(capacity, np.int32)

    def copy_rows(self, old: SegmentStates, start: int, to: int, count: int) -> None:
        """Take over `count` rows of other states, from row `start` on, to row `to` on."""
        for name in self.__slots__:
            getattr(self, name)[to : to + count] = getattr(old, name)[start : start + count]
