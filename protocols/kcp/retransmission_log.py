"""The last transmission of every segment that was sent more than once, also after it was acknowledged."""

from __future__ import annotations

import numpy as np

from iperfpy.protocols.kcp.wire import Int64s

_WINDOWS = 4
"""The log reaches back this many send windows: a copy that took a longer way is acknowledged that late."""
_NEVER = -1


class RetransmissionLog:
    """Finds the acknowledgements that show a retransmission to have been needless.

    The rows of the send window cannot tell: a row is used anew as soon as its segment is acknowledged, while
    the acknowledgement of the other copy is still on its way.

    Parameters
    ----------
    window : longest send window, segments
    """

    __slots__ = ("_counted_us", "_last_us", "_mask", "_numbers")

    def __init__(self, window: int) -> None:
        self._mask = (1 << (_WINDOWS * window - 1).bit_length()) - 1
        self._numbers = self._last_us = self._counted_us = np.zeros(0, np.int64)

    def sent_again(self, numbers: Int64s, stamp_us: int) -> None:
        """Note that these segments, (n,), leave again with this stamp."""
        if not len(self._numbers):  # a path without loss needs no memory for it
            size = self._mask + 1
            self._numbers, self._last_us, self._counted_us = (
                np.full(size, _NEVER, np.int64) for _ in range(3)
            )
        rows = numbers & self._mask
        self._counted_us[rows[self._numbers[rows] != numbers]] = _NEVER
        self._numbers[rows] = numbers
        self._last_us[rows] = stamp_us

    def spurious(self, numbers: Int64s, echoes_us: Int64s) -> tuple[Int64s, Int64s]:
        """The acknowledgements that name an earlier transmission of a segment than its last: that copy had
        arrived as well. Serial numbers and echoes (n,) in, (m,) out. A repeated ACK counts once."""
        if not len(self._numbers):
            return numbers[:0], echoes_us[:0]
        rows = numbers & self._mask
        known = (self._numbers[rows] == numbers) & (echoes_us < self._last_us[rows])
        known &= echoes_us > self._counted_us[rows]  # so that a repeated ACK counts once
        at = np.flatnonzero(known)
        if len(at) > 1:
            # The same copy may be acknowledged twice in one batch.
            pairs = np.stack([numbers[at], echoes_us[at]])
            at = at[np.sort(np.unique(pairs, axis=1, return_index=True)[1])]
        np.maximum.at(self._counted_us, rows[at], echoes_us[at])
        return numbers[at], echoes_us[at]
