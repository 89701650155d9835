"""The state of the segments in the send window, by row of its ring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp.wire import Int64s


class SegmentStates:
    """The state of each segment, by row: separate arrays, which are faster than one structured array.

    Attributes
    ----------
    acked : bool (capacity,), acknowledged by an ACK of its own while above una
    lost : bool (capacity,), given up for lost and not yet sent again
    sent_us : int64 (capacity,), stamp of the last transmission
    transmissions : uint16 (capacity,)
    length : uint32 (capacity,), payload bytes
    resend_us, rto_us : int64 (capacity,), and fastack : int32 (capacity,): stock recovery's timers and counts
    """

    __slots__ = ("acked", "fastack", "length", "lost", "resend_us", "rto_us", "sent_us", "transmissions")

    def __init__(self, capacity: int) -> None:
        self.acked: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.lost: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.sent_us: Int64s = np.zeros(capacity, np.int64)
        self.transmissions: NDArray[np.uint16] = np.zeros(capacity, np.uint16)
        self.length: NDArray[np.uint32] = np.zeros(capacity, np.uint32)
        self.resend_us: Int64s = np.zeros(capacity, np.int64)
        self.rto_us: Int64s = np.zeros(capacity, np.int64)
        self.fastack: NDArray[np.int32] = np.zeros(capacity, np.int32)

    def copy_rows(self, old: SegmentStates, start: int, to: int, count: int) -> None:
        """Take over `count` rows of other states, from row `start` on, to row `to` on."""
        for name in self.__slots__:
            getattr(self, name)[to : to + count] = getattr(old, name)[start : start + count]
