"""All transmissions in the order of time, until each is known to have arrived or to be lost."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from iperfpy.protocols.congestion.congestion_control import Flight
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.wire import Int64s


@dataclass(slots=True)
class Entry:
    """One transmission: the segments [first, last), or of those only `numbers` (n,)."""

    flight: Flight
    first: int
    last: int
    numbers: Int64s | None = None

    def missing(self, window: SendWindow) -> Int64s:
        """Segments that were not sent again since, and are neither acknowledged nor given up."""
        if self.numbers is None:
            numbers = window.outstanding(self.first, self.last)
        else:
            numbers = self.numbers[self.numbers >= window.una]
            numbers = numbers[~window.state.acked[numbers & window.mask]]
        rows = numbers & window.mask
        still = (window.state.sent_us[rows] == self.flight.stamp_us) & ~window.state.lost[rows]
        missing: Int64s = numbers[still]
        return missing

    def runs(self, missing: Int64s, after_loss: bool) -> tuple[int, bool, bool]:
        """Count the runs of consecutive transmissions that were lost.

        Parameters
        ----------
        missing : segments of this transmission that are lost, ascending
        after_loss : True if the transmission just before this one was lost: a run that begins there is not
            counted again

        Returns the number of runs, and whether the first and the last transmission of this entry were lost.
        """
        # Places in the order of transmission: a retransmitted batch may have gaps between serial numbers.
        if self.numbers is None:
            places, count = missing - self.first, self.last - self.first
        else:
            places, count = np.searchsorted(self.numbers, missing), len(self.numbers)
        runs = 1 + int(np.count_nonzero(np.diff(places) > 1))
        first_lost = int(places[0]) == 0
        return runs - (after_loss and first_lost), first_lost, int(places[-1]) == count - 1


class BurstEnds:
    """Counts the bursts that lost one of their ends.

    A burst is everything that left at one moment: a retransmission and new segments may be two entries.
    """

    __slots__ = ("_first_lost", "_heads", "_stamp_us", "_tails")

    def __init__(self) -> None:
        self._heads = self._tails = self._stamp_us = 0
        self._first_lost = False

    def follow(self, stamp_us: int, *, before_lost: bool, first_lost: bool) -> None:
        """Take the next entry.

        Parameters
        ----------
        stamp_us : its stamp; entries of one moment have successive ones
        before_lost : True if the last transmission before it was lost
        first_lost : True if its own first transmission was lost
        """
        if stamp_us > self._stamp_us + 1:
            self._heads += self._first_lost and not before_lost
            self._tails += before_lost and not self._first_lost
            self._first_lost = first_lost
        self._stamp_us = stamp_us

    def take(self) -> tuple[int, int]:
        """The number of bursts that lost only their first end, and only their last, since the last call."""
        found = self._heads, self._tails
        self._heads = self._tails = 0
        return found


class FlightLog:
    """Entries by ascending stamp, and a head that passes each of them once.

    Attributes
    ----------
    stamps : int, ascending, one per entry
    entries : the transmissions
    head : entries before it are judged, or miss nothing
    after_loss : True if the last transmission before the head was lost
    ends : ends of the bursts before the head
    """

    __slots__ = ("after_loss", "ends", "entries", "head", "stamps")

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.entries: list[Entry] = []
        self.head = 0
        self.after_loss = False
        self.ends = BurstEnds()

    def append(self, entry: Entry) -> None:
        """Add the newest transmission."""
        self.stamps.append(entry.flight.stamp_us)
        self.entries.append(entry)

    def flight(self, stamp_us: int) -> Flight | None:
        """The flight with this stamp, if the log still has it."""
        at = bisect_left(self.stamps, stamp_us)
        if at == len(self.stamps) or self.stamps[at] != stamp_us:
            return None
        return self.entries[at].flight

    def newest(self) -> Flight | None:
        """The flight of the last transmission."""
        return self.entries[-1].flight if self.entries else None

    def oldest_us(self) -> int | None:
        """The stamp at the head, None if everything is judged."""
        return self.stamps[self.head] if self.head < len(self.stamps) else None

    def pass_to(self, head: int, *, after_loss: bool) -> None:
        """Move the head; entries before it are dropped once they make up half of the log."""
        self.head, self.after_loss = head, after_loss
        if head > 512 and head * 2 > len(self.stamps):
            del self.stamps[:head], self.entries[:head]
            self.head = 0
