"""What a receiver knows of the path: which numbers are missing, late or double, and how transit times vary.

The figures are those of iperf3, run by run instead of datagram by datagram:

    number n, highest before m      n > m: n - m - 1 are lost, m becomes n
                                    else:  one is late, and one less is lost (never less than none)
    transit t, before t'            jitter += (|t - t'| - jitter) / 16           (RFC 1889, A.8)

with one exception: a datagram that comes a second time is a duplicate, and makes up for no loss. A number is
recognized within the last `WINDOW`; one that is older counts as late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.udp.datagrams import NUMBER_BITS, Int64

WINDOW = 1 << 16
_SLOT = WINDOW - 1
_SLOT_BITS = 16
_TAG = 0xFFFF
_REACH = 1024
"""So many datagrams ago no transit time matters any more: (15/16) ** 1024 is nothing."""
_WEIGHTS = (15 / 16) ** np.arange(_REACH - 1, -1, -1.0) / 16


@dataclass(frozen=True, slots=True)
class Tally:
    """The figures at one moment, all since the start. `highest`: the largest number seen."""

    datagrams: int = 0
    bytes: int = 0
    highest: int = 0
    lost: int = 0
    late: int = 0
    duplicates: int = 0
    jitter_us: float | None = None


class Reception:
    """Counts what arrives on one stream. `tally` is replaced, never changed: any thread may read it."""

    def __init__(self, *, wide: bool = False) -> None:
        self.tally = Tally()
        self._bits = NUMBER_BITS if wide else 32
        self._seen = np.zeros(WINDOW, np.uint16)
        self._transit_us: float | None = None
        self._jitter_us = 0.0

    def add(self, numbers: Int64, transit_us: NDArray[np.float64] | None, size_bytes: int) -> None:
        """Take one run.

        Parameters
        ----------
        numbers : shape (n,), n > 0
            Of the datagrams in the order of arrival, as on the wire.
        transit_us : shape (n,)
            Arrival by this machine's clock, minus departure by the other's. None: not known of this run.
        size_bytes : of all of them
        """
        before = self.tally
        count, next_number = len(numbers), before.highest + 1
        highest, lost, late, duplicates = before.highest, before.lost, before.late, before.duplicates
        if _follow(numbers, next_number & ((1 << self._bits) - 1)):
            self._mark_run(next_number, count)
            highest += count
        else:
            numbers = self._unwrapped(numbers, before.highest)
            highest, lost, new_late, new_duplicates = self._sort(numbers, before.highest, before.lost)
            late += new_late
            duplicates += new_duplicates
        jitter_us = before.jitter_us
        if transit_us is not None:
            jitter_us = self._vary(transit_us)
        self.tally = Tally(
            before.datagrams + count, before.bytes + size_bytes, highest, lost, late, duplicates, jitter_us
        )

    def forget_transit(self) -> None:
        """The clock was set: the next transit time is compared with none before it."""
        self._transit_us = None

    # ---------------------------------------------------------------------- numbers

    def _unwrapped(self, numbers: Int64, highest: int) -> Int64:
        """32-bit numbers as those nearest to the highest one seen; wider ones do not wrap."""
        if self._bits > 32:
            return numbers
        half = 1 << 31
        ahead: Int64 = ((numbers - highest + half) & 0xFFFF_FFFF) - half
        return highest + ahead

    def _sort(self, numbers: Int64, highest: int, lost: int) -> tuple[int, int, int, int]:
        """(highest, lost) after the run, (late, duplicates) in it.

        With steps x_i (a gap's length, or -1 for a late one) iperf3's `lost = max(0, lost + x)` is, over a
        run, the last of the sums S_i minus the least of them if that is below 0 (Lindley's recursion).
        """
        reached = np.maximum.accumulate(np.concatenate(([highest], numbers)))
        ahead = numbers > reached[:-1]
        again = ~ahead & self._seen_before(numbers)
        steps = np.where(ahead, numbers - reached[:-1] - 1, np.where(again, 0, -1))
        sums = lost + np.cumsum(steps)
        self._mark(numbers, int(reached[-1]))
        duplicates = int(np.count_nonzero(again))
        late = len(numbers) - int(np.count_nonzero(ahead)) - duplicates
        return int(reached[-1]), int(sums[-1] - min(0, sums.min())), late, duplicates

    def _seen_before(self, numbers: Int64) -> NDArray[np.bool_]:
        """Which numbers came before, in this run or an earlier one."""
        repeated = np.ones(len(numbers), np.bool_)
        repeated[np.unique(numbers, return_index=True)[1]] = False
        known: NDArray[np.bool_] = self._seen[numbers & _SLOT] == _tags(numbers)
        return repeated | known

    def _mark(self, numbers: Int64, highest: int) -> None:
        recent = numbers[(numbers > highest - WINDOW) & (numbers > 0)]
        self._seen[recent & _SLOT] = _tags(recent)

    def _mark_run(self, first: int, count: int) -> None:
        """The same for `count` numbers from `first` up, mostly without looking at each."""
        start, end = first & _SLOT, (first & _SLOT) + count
        if end <= WINDOW:
            self._seen[start:end] = ((first >> _SLOT_BITS) + 1) & _TAG
        else:
            self._mark(np.arange(first, first + count, dtype=np.int64), first + count - 1)

    # ---------------------------------------------------------------------- time

    def _vary(self, transit_us: NDArray[np.float64]) -> float:
        """The jitter after the run: what is left of it before, and each difference with its weight."""
        before = float(transit_us[0]) if self._transit_us is None else self._transit_us
        differences = np.abs(np.diff(transit_us, prepend=before))
        self._transit_us = float(transit_us[-1])
        recent = differences[-_REACH:]
        kept = self._jitter_us * (15 / 16) ** len(recent)
        self._jitter_us = kept + float(_WEIGHTS[-len(recent) :] @ recent)
        return self._jitter_us


def _follow(numbers: Int64, first: int) -> bool:
    """Whether the numbers go on from `first` without a gap: nothing was lost, all is in order."""
    count = len(numbers)
    if numbers[0] != first or numbers[-1] != first + count - 1:
        return False
    return count <= 2 or bool((numbers[1:] - numbers[:-1] == 1).all())


def _tags(numbers: Int64) -> NDArray[np.uint16]:
    """What the window holds for each number, 0 being nothing yet."""
    return ((numbers >> _SLOT_BITS) + 1 & _TAG).astype(np.uint16)
