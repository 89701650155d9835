"""A receiver's figures of the path: missing, late and duplicate numbers, and the variation of transit times.

The figures are those of iperf3, computed per batch instead of per datagram:

    number n, highest before m      n > m: n - m - 1 are lost, m becomes n
                                    else:  one is late, and one less is lost (never less than none)
    transit t, before t'            jitter += (|t - t'| - jitter) / 16           (RFC 1889, A.8)

with one exception: a datagram that comes a second time is a duplicate, and does not make up for a loss. A
duplicate is recognized among the last `WINDOW` numbers; an older one counts as late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.udp.arrival_record import LATE, REPEATED, ArrivalRecord
from iperfpy.protocols.udp.packets import NUMBER_BITS, Int64

WINDOW = 1 << 16
_SLOT = WINDOW - 1
_SLOT_BITS = 16
_TAG = 0xFFFF
AHEAD = 1 << 13
MOST_SOLID = 512
"""Most stretches without a gap that wait to be marked as seen, all at once."""
_REACH = 1024
"""Datagrams after which a transit time no longer matters: (15/16) ** 1024 is below 1e-28."""
_WEIGHTS = (15 / 16) ** np.arange(_REACH - 1, -1, -1.0) / 16


@dataclass(frozen=True, slots=True)
class Tally:
    """The figures since the start. `highest`: the largest number seen."""

    datagrams: int = 0
    bytes: int = 0
    highest: int = 0
    lost: int = 0
    late: int = 0
    duplicates: int = 0
    jitter_us: float | None = None


class Reception:
    """Counts the arriving datagrams of one stream. One thread adds; any thread may read `tally`.

    Attributes
    ----------
    record : the datagrams by the time at which they left
    """

    def __init__(self, *, wide: bool = False) -> None:
        self.record = ArrivalRecord()
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

    def add_run(self, wire: bytes, count: int, transit_us: float, size_bytes: int, sent_us: int = 0) -> bool:
        """Count a batch without a gap in it, the quick way. A gap before it is allowed: a reader that is too
        slow loses whole batches.

        Parameters
        ----------
        wire : the numbers of its `count` datagrams, as on the wire, concatenated
        transit_us : the transit time of each, as in `add`
        size_bytes : bytes of all of them
        sent_us : the sender's time in each of them

        Returns
        -------
        bool
            False if the numbers are not successive and ahead; nothing has been counted then.
        """
        datagrams, total_bytes, highest, lost, late, duplicates = self._figures
        first, skipped = highest + 1, 0
        if not self._are_successive(wire, first):
            first = self._first_of(wire, highest)
            if first <= highest or not self._are_successive(wire, first):
                return False
            skipped = first - highest - 1
            lost += skipped
            self._leave_solid(highest, first)
        difference_us = 0.0 if self._transit_us is None else abs(transit_us - self._transit_us)
        self._transit_us = transit_us
        # The datagrams after the first have the same transit time: the jitter decays by 15/16 for each.
        self._jitter_us += (difference_us - self._jitter_us) / 16
        self._jitter_us *= (15 / 16) ** (count - 1)
        highest = first + count - 1
        self._figures = (datagrams + count, total_bytes + size_bytes, highest, lost, late, duplicates)
        self.record.add_run(skipped, sent_us, count, size_bytes, transit_us)
        return True

    def add(
        self,
        numbers: Int64,
        transit_us: NDArray[np.float64],
        size_bytes: int,
        sent_us: Int64 | None = None,
    ) -> None:
        """Count datagrams in the order of their arrival.

        Parameters
        ----------
        numbers : shape (n,), n > 0
            As on the wire.
        transit_us : shape (n,)
            Arrival by this machine's clock minus departure by the sender's.
        size_bytes : bytes of all of them
        sent_us : shape (n,), the sender's times; None: they are not recorded
        """
        datagrams, total_bytes, highest, lost, late, duplicates = self._figures
        count, gaps = len(numbers), 0
        if _follow(numbers, (highest + 1) & ((1 << self._bits) - 1)):
            highest += count
            steps = np.zeros(count, np.int64)
        else:
            # Only now are the stretches without a gap marked: a duplicate may be of one of them.
            self._mark_solid(highest)
            numbers = self._unwrapped(numbers, highest)
            highest, lost, steps = self._sort(numbers, highest, lost)
            gaps = self._fill(numbers[steps == LATE], highest)
            new_late, new_duplicates = np.count_nonzero(steps == LATE), np.count_nonzero(steps == REPEATED)
            self._solid_from = highest + 1
            late += int(new_late)
            duplicates += int(new_duplicates)
        if sent_us is not None:
            self.record.add(steps, sent_us, size_bytes, transit_us, gaps)
        self._vary(transit_us)
        self._figures = (datagrams + count, total_bytes + size_bytes, highest, lost, late, duplicates)

    def keep_jitter(self) -> None:
        """Note the jitter: all transit times so far were measured by one clock."""
        self._kept_jitter_us = self._jitter_us

    def forget_transit(self) -> None:
        """Discard the differences since the last `keep_jitter`: the clock was set. The next transit time is
        compared with none before it."""
        self._transit_us = None
        self._jitter_us = self._kept_jitter_us

    # ---------------------------------------------------------------------- numbers

    def _are_successive(self, wire: bytes, first: int) -> bool:
        """True if `wire` holds the numbers from `first` on. The expected bytes are computed ahead, many at a
        time."""
        offset = (first - self._ahead_first) * self._wire_dtype.itemsize
        if offset < 0 or offset + len(wire) > len(self._ahead):
            numbers = np.arange(first, first + AHEAD, dtype=np.int64)
            self._ahead, self._ahead_first = numbers.astype(self._wire_dtype).tobytes(), first
            offset = 0
        return self._ahead.startswith(wire, offset)

    def _first_of(self, wire: bytes, highest: int) -> int:
        """The batch's first number; `highest` or less if it is not ahead."""
        if self._bits > 32:
            return int.from_bytes(wire[:8], "big") & (1 << NUMBER_BITS) - 1
        ahead = int.from_bytes(wire[:4], "big") - highest & 0xFFFF_FFFF
        return highest + ahead if ahead < 1 << 31 else 0

    def _leave_solid(self, highest: int, first: int) -> None:
        """End a stretch without a gap at `highest`, and begin the next at `first`."""
        if len(self._solid) < MOST_SOLID:
            self._solid.append((self._solid_from, highest))
        else:
            self._mark_solid(highest)
        self._solid_from = first

    def _unwrapped(self, numbers: Int64, highest: int) -> Int64:
        """Numbers without wrap-around: 32-bit ones as the nearest to the highest one seen; 64-bit ones do not
        wrap."""
        if self._bits > 32:
            return numbers
        half = 1 << 31
        ahead: Int64 = ((numbers - highest + half) & 0xFFFF_FFFF) - half
        return highest + ahead

    def _sort(self, numbers: Int64, highest: int, lost: int) -> tuple[int, int, Int64]:
        """(highest, lost) after the batch, and the step of each datagram: the length of the gap before it, or
        `LATE`, or `REPEATED`.

        With steps x_i (0 for one that had come before) iperf3's `lost = max(0, lost + x)` is, over a batch,
        the last of the sums S_i minus the least of them if that is below 0 (Lindley's recursion).
        """
        reached = np.maximum.accumulate(np.concatenate(([highest], numbers)))
        ahead = numbers > reached[:-1]
        # iperf3 takes a duplicate for a late datagram, which would make up for a loss.
        again = ~ahead & self._seen_before(numbers)
        steps = np.where(ahead, numbers - reached[:-1] - 1, np.where(again, REPEATED, LATE))
        sums = lost + np.cumsum(np.where(again, 0, steps))
        self._mark(numbers[ahead], int(reached[-1]))
        return int(reached[-1]), int(sums[-1] - min(0, sums.min())), steps

    def _seen_before(self, numbers: Int64) -> NDArray[np.bool_]:
        """True for each number that came before, in this batch or an earlier one."""
        repeated = np.ones(len(numbers), np.bool_)
        repeated[np.unique(numbers, return_index=True)[1]] = False
        known: NDArray[np.bool_] = self._seen[numbers & _SLOT] == _tags(numbers)
        return repeated | known

    def _fill(self, late: Int64, highest: int) -> int:
        """Mark the numbers that came late, (n,); the change of the number of gaps.

        A number in the middle of a gap splits it, one at its end shortens it, and the last one closes it.
        Those beyond the window change nothing, because their neighbours are not known.
        """
        change, seen = 0, self._seen
        for number in late[(late > max(0, highest - WINDOW + 1))].tolist():
            for beside in (number - 1, number + 1):
                # Before the first number there is no gap.
                change -= not beside or int(seen[beside & _SLOT]) == (beside >> _SLOT_BITS) + 1 & _TAG
            change += 1
            seen[number & _SLOT] = (number >> _SLOT_BITS) + 1 & _TAG
        self._mark(late, highest)
        return change

    def _mark(self, numbers: Int64, highest: int) -> None:
        recent = numbers[(numbers > highest - WINDOW) & (numbers > 0)]
        self._seen[recent & _SLOT] = _tags(recent)

    def _mark_solid(self, highest: int) -> None:
        """Mark the stretches without a gap up to `highest` as seen, which were not marked one by one."""
        stretches = np.array([*self._solid, (self._solid_from, highest)], np.int64)
        self._solid.clear()
        firsts = np.maximum(stretches[:, 0], highest - WINDOW + 1)
        lengths = np.maximum(stretches[:, 1] + 1 - firsts, 0)
        ends = np.cumsum(lengths)
        self._mark(np.repeat(firsts - ends + lengths, lengths) + np.arange(ends[-1]), highest)

    # ---------------------------------------------------------------------- time

    def _vary(self, transit_us: NDArray[np.float64]) -> None:
        """Update the jitter: the rest of the old one, and each difference with its weight (RFC 1889, A.8)."""
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
    """True if the numbers are successive from `first` on: nothing was lost, all is in order."""
    count = len(numbers)
    if numbers[0] != first or numbers[-1] != first + count - 1:
        return False
    return count <= 2 or bool((numbers[1:] - numbers[:-1] == 1).all())


def _tags(numbers: Int64) -> NDArray[np.uint16]:
    """The mark of each number in the window; 0 means not seen."""
    return ((numbers >> _SLOT_BITS) + 1 & _TAG).astype(np.uint16)
