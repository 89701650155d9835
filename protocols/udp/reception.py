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

from iperfpy.protocols.udp.packets import NUMBER_BITS, Int64

WINDOW = 1 << 16
_SLOT = WINDOW - 1
_SLOT_BITS = 16
_TAG = 0xFFFF
AHEAD = 1 << 13
MOST_SOLID = 512
"""Stretches without a gap that wait to be marked as seen, all at once."""
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
    """Counts what arrives on one stream. One thread adds; any may read `tally`."""

    def __init__(self, *, wide: bool = False) -> None:
        self._bits = NUMBER_BITS if wide else 32
        self._wire_dtype = np.dtype(">u8" if wide else ">u4")
        self._figures = (0, 0, 0, 0, 0, 0)  # those of a tally but the last, replaced as one
        self._transit_us: float | None = None
        self._jitter_us = self._kept_jitter_us = 0.0
        self._seen = np.zeros(WINDOW, np.uint16)
        self._solid_from = 1
        self._solid: list[tuple[int, int]] = []  # (first, last) of earlier stretches, not marked yet
        self._ahead = b""
        self._ahead_first = 1

    @property
    def tally(self) -> Tally:
        return Tally(*self._figures, self._jitter_us if self._transit_us is not None else None)

    def add_run(self, wire: bytes, count: int, transit_us: float, size_bytes: int) -> bool:
        """Take a run without a gap in it, the quick way. One may be before it: a reader that is too slow
        loses whole runs.

        Parameters
        ----------
        wire : the numbers of its `count` datagrams, as they are on the wire, one behind the other
        transit_us : of all of them, as in `add`
        size_bytes : of all of them

        Returns
        -------
        bool
            False: the numbers do not just go on. Nothing has been counted.
        """
        datagrams, total_bytes, highest, lost, late, duplicates = self._figures
        first = highest + 1
        if not self._looks_so(wire, first):
            first = self._first_of(wire, highest)
            if first <= highest or not self._looks_so(wire, first):
                return False
            lost += first - highest - 1
            self._leave_solid(highest, first)
        difference_us = 0.0 if self._transit_us is None else abs(transit_us - self._transit_us)
        self._transit_us = transit_us
        # The datagrams after the first differ by nothing.
        self._jitter_us += (difference_us - self._jitter_us) / 16
        self._jitter_us *= (15 / 16) ** (count - 1)
        highest = first + count - 1
        self._figures = (datagrams + count, total_bytes + size_bytes, highest, lost, late, duplicates)
        return True

    def add(self, numbers: Int64, transit_us: NDArray[np.float64], size_bytes: int) -> None:
        """Take datagrams in the order of their arrival.

        Parameters
        ----------
        numbers : shape (n,), n > 0
            As on the wire.
        transit_us : shape (n,)
            Arrival by this machine's clock, minus departure by the other's.
        size_bytes : of all of them
        """
        datagrams, total_bytes, highest, lost, late, duplicates = self._figures
        count = len(numbers)
        if _follow(numbers, (highest + 1) & ((1 << self._bits) - 1)):
            highest += count
        else:
            self._mark_solid(highest)
            numbers = self._unwrapped(numbers, highest)
            highest, lost, new_late, new_duplicates = self._sort(numbers, highest, lost)
            self._solid_from = highest + 1
            late += new_late
            duplicates += new_duplicates
        self._vary(transit_us)
        self._figures = (datagrams + count, total_bytes + size_bytes, highest, lost, late, duplicates)

    def keep_jitter(self) -> None:
        """All transit times so far are by one clock."""
        self._kept_jitter_us = self._jitter_us

    def forget_transit(self) -> None:
        """The clock was set since the last `keep_jitter`: what differed since then is no jitter, and the next
        transit time is compared with none before it."""
        self._transit_us = None
        self._jitter_us = self._kept_jitter_us

    # ---------------------------------------------------------------------- numbers

    def _looks_so(self, wire: bytes, first: int) -> bool:
        """Whether the numbers from `first` on look so on the wire. It is written down ahead of them."""
        offset = (first - self._ahead_first) * self._wire_dtype.itemsize
        if offset < 0 or offset + len(wire) > len(self._ahead):
            numbers = np.arange(first, first + AHEAD, dtype=np.int64)
            self._ahead, self._ahead_first = numbers.astype(self._wire_dtype).tobytes(), first
            offset = 0
        return self._ahead.startswith(wire, offset)

    def _first_of(self, wire: bytes, highest: int) -> int:
        """The run's first number; `highest` or less when that is not ahead."""
        if self._bits > 32:
            return int.from_bytes(wire[:8], "big") & (1 << NUMBER_BITS) - 1
        ahead = int.from_bytes(wire[:4], "big") - highest & 0xFFFF_FFFF
        return highest + ahead if ahead < 1 << 31 else 0

    def _leave_solid(self, highest: int, first: int) -> None:
        """A stretch without a gap has ended with `highest`, the next begins with `first`."""
        if len(self._solid) < MOST_SOLID:
            self._solid.append((self._solid_from, highest))
        else:
            self._mark_solid(highest)
        self._solid_from = first

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

    def _mark_solid(self, highest: int) -> None:
        """The same for the stretches up to `highest` that came without a gap: not worth a look before."""
        stretches = np.array([*self._solid, (self._solid_from, highest)], np.int64)
        self._solid.clear()
        firsts = np.maximum(stretches[:, 0], highest - WINDOW + 1)
        lengths = np.maximum(stretches[:, 1] + 1 - firsts, 0)
        ends = np.cumsum(lengths)
        self._mark(np.repeat(firsts - ends + lengths, lengths) + np.arange(ends[-1]), highest)

    # ---------------------------------------------------------------------- time

    def _vary(self, transit_us: NDArray[np.float64]) -> None:
        """The jitter after these: what is left of it, and each difference with its weight."""
        first_us = float(transit_us[0])
        before_us = first_us if self._transit_us is None else self._transit_us
        differences = np.empty(len(transit_us))
        differences[0] = first_us - before_us
        np.subtract(transit_us[1:], transit_us[:-1], out=differences[1:])
        np.abs(differences, out=differences)
        self._transit_us = float(transit_us[-1])
        recent = differences[-_REACH:]
        kept = self._jitter_us * (15 / 16) ** len(recent)
        self._jitter_us = kept + float(_WEIGHTS[-len(recent) :] @ recent)


def _follow(numbers: Int64, first: int) -> bool:
    """Whether the numbers go on from `first` without a gap: nothing was lost, all is in order."""
    count = len(numbers)
    if numbers[0] != first or numbers[-1] != first + count - 1:
        return False
    return count <= 2 or bool((numbers[1:] - numbers[:-1] == 1).all())


def _tags(numbers: Int64) -> NDArray[np.uint16]:
    """What the window holds for each number, 0 being nothing yet."""
    return ((numbers >> _SLOT_BITS) + 1 & _TAG).astype(np.uint16)
