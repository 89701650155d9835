"""Datagrams on their way to one host, and how a network card hands them over.

A card whose queue was empty interrupts at once; while it is busy it interrupts at most every
`coalesce_us`, and everything that arrived meanwhile is delivered together, runs of equal size
merged into one batch as the kernel's receive offload merges them. At low rates every datagram is
thus delivered on arrival, at high rates in groups.
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


class Run:
    """Datagrams of one size that left the bottleneck one after another: (n, size) bytes, when each left
    the queue, and when each arrives (ascending)."""

    __slots__ = ("at", "departs", "exits", "next_us", "rows", "truth")

    def __init__(self, rows: Rows, departs: Times, exits: Times, truth: Truth) -> None:
        self.rows, self.departs, self.exits, self.truth = rows, departs, exits, truth
        self.at = 0
        self.next_us = float(exits[0])

    def up_to(self, now_us: float) -> tuple[int, int]:
        """Start and stop of what has arrived by now; it counts as taken."""
        start = self.at
        if self.exits[-1] <= now_us:
            self.at, self.next_us = len(self.exits), inf
        else:
            self.at = int(np.searchsorted(self.exits, now_us, "right"))
            self.next_us = float(self.exits[self.at])
        return start, self.at


class Inbox:
    """What is on the way to one host."""

    def __init__(self, coalesce_us: float) -> None:
        self.coalesce_us = coalesce_us
        self.latest_us = 0.0
        """Arrival of the last datagram that keeps its place in the order."""
        self._runs: deque[Run] = deque()
        self._strays: list[tuple[float, int, Rows, Truth]] = []
        self._count = 0
        self._interrupted_us = -inf

    def add(self, run: Run) -> None:
        """Datagrams that keep their order; none arrives before those already added."""
        self._runs.append(run)

    def add_stray(self, exit_us: float, row: Rows, truth: Truth) -> None:
        """One datagram that arrives out of order."""
        self._count += 1
        heapq.heappush(self._strays, (exit_us, self._count, row, truth))

    def due_us(self) -> float:
        """When the next interrupt fires; infinity when nothing is on the way."""
        first = self._runs[0].next_us if self._runs else inf
        if self._strays and self._strays[0][0] < first:
            first = self._strays[0][0]
        earliest = self._interrupted_us + self.coalesce_us
        return first if first > earliest else earliest

    def take(self, now_us: float) -> list[DatagramBatch]:
        """Everything that has arrived by now, in order of arrival."""
        self._interrupted_us = now_us
        pieces: list[tuple[float, Rows, Truth]] = []
        strays, runs = self._strays, self._runs
        while strays and strays[0][0] <= now_us:
            at, _, row, truth = heapq.heappop(strays)
            pieces.append((at, row, truth))
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
    """Runs of one size as batches no larger than the kernel makes them."""
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
