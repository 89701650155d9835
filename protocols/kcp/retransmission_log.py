"""The last transmission of every segment that was sent more than once, also after it was acknowledged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp.wire import Int64s

_WINDOWS = 4
"""The log reaches back this many send windows: a copy that took a longer way is acknowledged that late."""
_NEVER = -1


class RetransmissionLog:
    """Finds the acknowledgements that show a retransmission to have been needless.

    The rows of the send window cannot tell: a row is used anew as soon as its segment is acknowledged, while
    the acknowledgement of the other copy is still on its way. The log has 132 bytes for each row, once a
    segment was sent again: a path without loss needs none.
    """

    __slots__ = ("_arrived_us", "_counted_us", "_landed", "_last_us", "_numbers")

    def __init__(self) -> None:
        self.release()

    @property
    def _mask(self) -> int:
        return len(self._numbers) - 1

    def sent_again(self, numbers: Int64s, stamp_us: int, capacity: int) -> None:
        """Note that these segments, (n,), leave again with this stamp. `capacity`: rows of the send window, a
        power of two; its memory is what a peer can ask for, so the log grows with it and not beyond."""
        if len(self._numbers) < _WINDOWS * capacity:
            self._grow(_WINDOWS * capacity)
        rows = numbers & self._mask
        others = rows[self._numbers[rows] != numbers]
        self._counted_us[others] = self._arrived_us[others] = _NEVER
        self._numbers[rows] = numbers
        self._last_us[rows], self._landed[rows] = stamp_us, False

    def release(self) -> None:
        """Give the memory back."""
        self._numbers = self._last_us = self._counted_us = self._arrived_us = np.zeros(0, np.int64)
        self._landed = np.zeros(0, np.bool_)

    def _grow(self, size: int) -> None:
        numbers, last_us, counted_us, landed = self._numbers, self._last_us, self._counted_us, self._landed
        arrived_us = self._arrived_us
        self._numbers, self._last_us, self._counted_us, self._arrived_us = (
            np.full(size, _NEVER, np.int64) for _ in range(4)
        )
        self._landed = np.zeros(size, np.bool_)
        held = np.flatnonzero(numbers != _NEVER)
        rows = numbers[held] & self._mask
        self._numbers[rows], self._last_us[rows] = numbers[held], last_us[held]
        self._counted_us[rows], self._landed[rows] = counted_us[held], landed[held]
        self._arrived_us[rows] = arrived_us[held]

    def covered(self, numbers: Int64s) -> None:
        """Segments, (n,), are acknowledged without an echo: their last transmission counts as arrived."""
        if not len(self._numbers):
            return
        rows = numbers & self._mask
        rows = rows[self._numbers[rows] == numbers]
        self._arrived_us[rows] = self._last_us[rows]

    def new_copies(self, numbers: Int64s, echoes_us: Int64s, at: NDArray[np.intp]) -> NDArray[np.intp]:
        """The acknowledgements that tell of another copy of a segment than those told before.

        Parameters
        ----------
        numbers, echoes_us : (n,), segments, and the transmissions that arrived
        at : (m,), places of segments that are newly acknowledged: these copies are known

        Returns
        -------
        (k,), places of the others. Copies count in the order of their transmission.
        """
        if not len(self._numbers):
            return at[:0]
        if len(numbers) == 1 and self._numbers[int(numbers[0]) & self._mask] != numbers[0]:
            return at[:0]
        rows = numbers & self._mask
        logged = self._numbers[rows] == numbers
        if not logged.any():
            return at[:0]
        all_fresh, at = len(at) == len(numbers), at[logged[at]]
        self._arrived_us[rows[at]] = np.maximum(self._arrived_us[rows[at]], echoes_us[at])
        if all_fresh:
            return at[:0]
        new = logged & (echoes_us > self._arrived_us[rows])
        copies = np.flatnonzero(new)
        if len(copies) > 1:
            # The same copy may be acknowledged twice in one batch.
            pairs = np.stack([numbers[copies], echoes_us[copies]])
            copies = copies[np.unique(pairs, axis=1, return_index=True)[1]]
        np.maximum.at(self._arrived_us, rows[copies], echoes_us[copies])
        return copies

    def spurious(
        self, numbers: Int64s, echoes_us: Int64s, repeated: NDArray[np.bool_] | None = None
    ) -> tuple[Int64s, Int64s]:
        """The arrivals that show that one copy of a segment was enough: an earlier transmission than the last
        arrived; or the last one did, and the receiver says that the segment was there already.

        Parameters
        ----------
        numbers, echoes_us : (n,), segments, and the transmissions that arrived. A repeated ACK counts once
        repeated : bool (n,), segments that had arrived before; None: the peer does not tell

        Returns
        -------
        (numbers, echoes) : (m,), in place of a transmission that is not known, one just before the last
        """
        if not len(self._numbers):
            return numbers[:0], echoes_us[:0]
        if len(numbers) == 1 and self._numbers[int(numbers[0]) & self._mask] != numbers[0]:
            return numbers[:0], echoes_us[:0]
        rows = numbers & self._mask
        logged, last_us = self._numbers[rows] == numbers, self._last_us[rows]
        known = logged & (echoes_us < last_us)
        if repeated is not None:
            is_last = logged & (echoes_us == last_us)
            # If the same transmission has arrived twice, the path made the copy.
            self._landed[rows[is_last & ~repeated]] = True
            vain = is_last & repeated & ~self._landed[rows]
            echoes_us = echoes_us - vain
            known |= vain & (self._counted_us[rows] == _NEVER)
            self._landed[rows[is_last]] = True
        known &= echoes_us > self._counted_us[rows]  # so that a repeated ACK counts once
        at = np.flatnonzero(known)
        if len(at) > 1:
            # The same copy may be acknowledged twice in one batch.
            pairs = np.stack([numbers[at], echoes_us[at]])
            at = at[np.sort(np.unique(pairs, axis=1, return_index=True)[1])]
        np.maximum.at(self._counted_us, rows[at], echoes_us[at])
        return numbers[at], echoes_us[at]
