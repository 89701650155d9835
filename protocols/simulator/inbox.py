"""Datagrams on their way to one host, and their delivery by its network card.

A card interrupts at once if its last interrupt is at least `coalesce_us` ago. Otherwise it waits until then
and delivers all datagrams that arrived meanwhile. Neighbours of equal size are merged into one batch, as
the kernel's receive offload (GRO) merges them. At low rates each datagram is thus delivered on arrival, and
at high rates in groups.
"""

from __future__ import annotations

import heapq
from collections import deque
from math import inf

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import MAX_BYTES, MAX_DATAGRAMS, DatagramBatch
from iperfpy.protocols.simulator.truth import Truth

Rows = NDArray[np.uint8]
Times = NDArray[np.float64]


class DatagramRun:
    """Datagrams of one size that left the bottleneck one after another.

    rows : (n, size) uint8, one datagram per row
    departs : (n,) float64, microseconds: the end of each datagram's service
    exits : (n,) float64, microseconds: the arrival of each, ascending
    """

    __slots__ = ("at", "departs", "exits", "next_us", "rows", "truth")

    def __init__(self, rows: Rows, departs: Times, exits: Times, truth: Truth) -> None:
        self.rows, self.departs, self.exits, self.truth = rows, departs, exits, truth
        self.at = 0
        self.next_us = float(exits[0])

    def up_to(self, now_us: float) -> tuple[int, int]:
        """Take the datagrams that have arrived by now; return their first row and the row after the last."""
        start = self.at
        if self.exits[-1] <= now_us:
            self.at, self.next_us = len(self.exits), inf
        else:
            self.at = int(np.searchsorted(self.exits, now_us, "right"))
            self.next_us = float(self.exits[self.at])
        return start, self.at


class Inbox:
    """The datagrams on their way to one host."""

    def __init__(self, coalesce_us: float) -> None:
        self.coalesce_us = coalesce_us
        self.latest_us = 0.0
        """Arrival of the last datagram that keeps its place in the order."""
        self._runs: deque[DatagramRun] = deque()
        self._reordered: list[tuple[float, int, Rows, Truth]] = []
        self._reordered_count = 0
        self._interrupted_us = -inf

    def add(self, run: DatagramRun) -> None:
        """Add datagrams that keep their order: none may arrive before those added earlier."""
        self._runs.append(run)

    def add_reordered(self, exit_us: float, row: Rows, truth: Truth) -> None:
        """Add one datagram that may arrive before those added earlier."""
        self._reordered_count += 1
        heapq.heappush(self._reordered, (exit_us, self._reordered_count, row, truth))

    def due_us(self) -> float:
        """Time of the next interrupt, microseconds; infinity if no datagram is on the way."""
        first = self._runs[0].next_us if self._runs else inf
        if self._reordered and self._reordered[0][0] < first:
            first = self._reordered[0][0]
        earliest = self._interrupted_us + self.coalesce_us
        return first if first > earliest else earliest

    def take(self, now_us: float) -> list[DatagramBatch]:
        """Take all datagrams that have arrived by now, in order of arrival."""
        self._interrupted_us = now_us
        pieces: list[tuple[float, Rows, Truth]] = []
        reordered, runs = self._reordered, self._runs
        while reordered and reordered[0][0] <= now_us:
            at, _, row, truth = heapq.heappop(reordered)
            pieces.append((at, row, truth))
        # Without reordered datagrams the runs are in order already, and are delivered uncut.
        mixed = bool(pieces)
        while runs and runs[0].next_us <= now_us:
            run = runs[0]
            start, stop = run.up_to(now_us)
            if run.next_us == inf:
                runs.popleft()
            if mixed:
                pieces += [(run.exits[i], run.rows[i : i + 1], run.truth) for i in range(start, stop)]
            else:
                pieces.append((0.0, run.rows[start:stop], run.truth))
        if mixed:
            pieces.sort(key=lambda piece: piece[0])
        for _, rows, truth in pieces:
            truth.delivered += len(rows)
            truth.delivered_bytes += rows.size
        return _merge([rows for _, rows, _ in pieces])


def _merge(pieces: list[Rows]) -> list[DatagramBatch]:
    """Merge neighbours of equal size into batches no larger than those of the kernel."""
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
