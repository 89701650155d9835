"""Datagrams on their way to one host, and their delivery by its network card.

A card interrupts at once if its last interrupt is at least `coalesce_us` ago. Otherwise it waits until then
and delivers all datagrams that arrived meanwhile. Neighbours of equal size are merged into one batch, as
the kernel's receive offload (GRO) merges them. At low rates each datagram is thus delivered on arrival, and
at high rates in groups.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from math import inf

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import MAX_BYTES, MAX_DATAGRAMS, DatagramBatch
from iperfpy.protocols.simulator.release_moments import ReleaseMoments
from iperfpy.protocols.simulator.truth import Truth

Rows = NDArray[np.uint8]
Times = NDArray[np.float64]
Slots = NDArray[np.float64]
"""Positions in the service of a bottleneck (`bottleneck.py`)."""
Moved = Callable[[Slots], tuple[Slots, Times]]
"""Slots before a change of the bottleneck -> slots after it, and how much later the services end."""


class DatagramRun:
    """Datagrams of one size that left the bottleneck one after another.

    rows : (n, size) uint8, one datagram per row
    slots : (n,) float64: the end of each datagram's service
    earliest : (n,) float64, microseconds: the arrival of each if it were alone on its way
    exits : (n,) float64, microseconds: the arrival of each, ascending. The inbox derives it from `earliest`.
    moments : release moments of the path, or None if it keeps no datagram for them
    """

    __slots__ = ("at", "earliest", "exits", "last_us", "moments", "next_us", "rows", "slots", "truth")

    def __init__(
        self, rows: Rows, slots: Slots, earliest: Times, truth: Truth, moments: ReleaseMoments | None
    ) -> None:
        self.rows, self.slots, self.earliest, self.truth = rows, slots, earliest, truth
        self.moments = moments
        self.at = 0

    def arrive(self, exits: Times) -> None:
        """Set the arrivals of all datagrams."""
        self.exits = exits
        self.next_us, self.last_us = float(exits[self.at]), float(exits[-1])

    def up_to(self, now_us: float) -> tuple[int, int]:
        """Take the datagrams that have arrived by now; return their first row and the row after the last."""
        start = self.at
        if self.last_us <= now_us:
            self.at, self.next_us = len(self.exits), inf
        else:
            self.at = int(self.exits.searchsorted(now_us, "right"))
            self.next_us = float(self.exits[self.at])
        return start, self.at

    def keep_behind(self, latest_us: float) -> None:
        """Let each datagram that has not arrived yet arrive after `latest_us` and after those before it."""
        exits = np.maximum(np.maximum.accumulate(self.earliest[self.at :]), latest_us)
        if self.moments is not None:
            exits = self.moments.after(exits)
        self.arrive(np.concatenate((self.exits[: self.at], exits)) if self.at else exits)

    def sort(self) -> None:
        """Put the datagrams that have not arrived yet into the order in which they arrive when none waits."""
        exits = self.earliest if self.moments is None else self.moments.after(self.earliest)
        if len(exits) > 1:
            order = self.at + exits[self.at :].argsort(kind="stable")
            self.rows, self.slots, self.earliest = (
                self.rows[order],
                self.slots[order],
                self.earliest[order],
            )
            exits = exits[order]
        self.at = 0
        self.arrive(exits)

    def move(self, moved: Moved) -> None:
        """Follow a change of the bottleneck, which moves later departures. The inbox orders the datagrams
        then."""
        self.slots, shifts = moved(self.slots)
        self.earliest = self.earliest + shifts


class Inbox:
    """The datagrams on their way to one host."""

    def __init__(self, coalesce_us: float) -> None:
        self.coalesce_us = coalesce_us
        self._runs: deque[DatagramRun] = deque()
        self._second: deque[DatagramRun] = deque()
        """Runs of the path's second way, which keeps its own order."""
        self._loose: list[tuple[float, int, DatagramRun]] = []
        """Heap of runs that keep no order: the next arrival of each, a number that no two share, the run."""
        self._loose_count = 0
        self._interrupted_us = -inf

    def add(self, run: DatagramRun, ascending: bool = True, second_way: bool = False) -> None:
        """Add datagrams that keep their order: each arrives no earlier than those added before to its way.

        ascending : False if the run's `earliest` may fall from one datagram to the next
        """
        # The latest arrival is read from the runs on the way, which a change of rate moves, and kept nowhere.
        # A run that is gone has arrived, and holds nothing back.
        runs = self._second if second_way else self._runs
        latest_us = runs[-1].last_us if runs else 0.0
        if ascending and run.moments is None and run.earliest[0] >= latest_us:
            run.arrive(run.earliest)
        else:
            run.keep_behind(latest_us)
        runs.append(run)

    def add_loose(self, run: DatagramRun) -> None:
        """Add datagrams that may arrive before those added earlier, and before one another."""
        run.sort()
        self._push_loose(run)

    def _push_loose(self, run: DatagramRun) -> None:
        self._loose_count += 1
        heapq.heappush(self._loose, (run.next_us, self._loose_count, run))

    def order(self) -> None:
        """Derive all arrivals again, after departures have moved."""
        for runs in (self._runs, self._second):
            latest_us = 0.0
            for run in runs:
                run.keep_behind(latest_us)
                latest_us = run.last_us
        loose, self._loose = [run for _, _, run in sorted(self._loose)], []
        for run in loose:
            self.add_loose(run)

    def due_us(self) -> float:
        """Time of the next interrupt, microseconds; infinity if no datagram is on the way."""
        first = self._runs[0].next_us if self._runs else inf
        if self._second and self._second[0].next_us < first:
            first = self._second[0].next_us
        if self._loose and self._loose[0][0] < first:
            first = self._loose[0][0]
        earliest = self._interrupted_us + self.coalesce_us
        return first if first > earliest else earliest

    def take(self, now_us: float) -> list[DatagramBatch]:
        """Take all datagrams that have arrived by now, in order of arrival."""
        pieces = self.take_rows(now_us)
        return merged([rows for _, rows in pieces]) if pieces else []

    def take_rows(self, now_us: float) -> list[tuple[Times, Rows]]:
        """Take arrivals, (n,) microseconds, and rows, (n, bytes), of one size each."""
        self._interrupted_us = now_us
        pieces: list[tuple[Times, Rows]] = []
        # Half of all wake-ups find nothing.
        loose, second, runs = self._loose, self._second, self._runs
        if not (loose or second) and not (runs and runs[0].next_us <= now_us):
            return pieces
        while loose and loose[0][0] <= now_us:
            run = heapq.heappop(loose)[2]
            pieces.append(_piece(run, now_us))
            if run.next_us < inf:
                self._push_loose(run)
        _take_in_order(second, now_us, pieces)
        # The runs of the first way alone are in order already.
        mixed = bool(pieces)
        _take_in_order(runs, now_us, pieces)
        return _by_arrival(pieces) if mixed and len(pieces) > 1 else pieces


def _take_in_order(runs: deque[DatagramRun], now_us: float, pieces: list[tuple[Times, Rows]]) -> None:
    """Append the datagrams of one way that have arrived by now to `pieces`."""
    while runs and runs[0].next_us <= now_us:
        run = runs[0]
        pieces.append(_piece(run, now_us))
        if run.next_us == inf:
            runs.popleft()


def _piece(run: DatagramRun, now_us: float) -> tuple[Times, Rows]:
    """Take the datagrams of a run that have arrived by now, and count them; return their times and rows."""
    start, stop = run.up_to(now_us)
    rows = run.rows[start:stop]
    run.truth.delivered += len(rows)
    run.truth.delivered_bytes += rows.size
    return run.exits[start:stop], rows


def _by_arrival(pieces: list[tuple[Times, Rows]]) -> list[tuple[Times, Rows]]:
    """The datagrams of all pieces in order of arrival, neighbours of equal size in one piece."""
    exits = np.concatenate([exits for exits, _ in pieces])
    order = exits.argsort(kind="stable")
    exits = exits[order]
    width = max(rows.shape[1] for _, rows in pieces)
    if all(rows.shape[1] == width for _, rows in pieces):
        return [(exits, np.concatenate([rows for _, rows in pieces])[order])]
    # Rows of several sizes have no common array: each stands in that of its size.
    table = np.concatenate([np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for _, rows in pieces])[order]
    sizes = np.concatenate([np.full(len(rows), rows.shape[1]) for _, rows in pieces])[order]
    bounds = [0, *(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(sizes)]
    return [(exits[a:b], table[a:b, : sizes[a]]) for a, b in itertools.pairwise(bounds)]


def merged(pieces: list[Rows]) -> list[DatagramBatch]:
    """Merge neighbours of equal size into batches no larger than those of the kernel."""
    if len(pieces) == 1 and len(pieces[0]) == 1:
        size = pieces[0].shape[1]
        return [DatagramBatch(pieces[0].reshape(-1), size, 1, size)]
    batches: list[DatagramBatch] = []
    at = 0
    while at < len(pieces):
        size = pieces[at].shape[1]
        most = min(MAX_DATAGRAMS, max(1, MAX_BYTES // max(1, size)))
        until = at + 1
        while until < len(pieces) and pieces[until].shape[1] == size:
            until += 1
        rows = pieces[at] if until == at + 1 else np.concatenate(pieces[at:until])
        for first in range(0, len(rows), most):
            part = rows[first : first + most]
            batches.append(DatagramBatch(part.reshape(-1), size, len(part), size))
        at = until
    return batches
