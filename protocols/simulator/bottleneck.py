"""The queue and the serialiser of one direction of a path.

The departure of each datagram is planned when the datagram enters, in microseconds as floats: a first-in
first-out queue needs no events of its own. A change of rate plans the waiting datagrams anew, with all that
follows from their departures: their arrivals, and the waiting times that `Truth` counts.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from iperfpy.protocols.simulator.inbox import DatagramRun, Inbox, Times, stretched
from iperfpy.protocols.simulator.path import Path
from iperfpy.protocols.simulator.truth import Truth

_UP_TO = np.arange(1, 4_097, dtype=np.float64)


class Admitted:
    """Neighbours of one size that entered the queue together, and the runs that they became behind it.

    departs : (n,) float64, microseconds, ascending: the end of each datagram's service
    longest_us : the flow's longest wait among the datagrams that entered before these
    runs : the datagrams among them that the path did not lose, on their way to `inbox`
    """

    __slots__ = ("_starts", "arrived_us", "departs", "inbox", "longest_us", "runs", "service_us", "truth")

    def __init__(self, departs: Times, arrived_us: float, service_us: float, truth: Truth) -> None:
        self.departs, self.arrived_us, self.service_us, self.truth = departs, arrived_us, service_us, truth
        self.longest_us = truth.longest_us
        self.inbox: Inbox | None = None
        self.runs: list[DatagramRun] = []
        self._starts: Times | None = None

    def stretch(self, now_us: float, factor: float) -> None:
        """Multiply the time from now to every later event by `factor`, as a change of rate does."""
        starts = self.departs - self.service_us if self._starts is None else self._starts
        # The datagram in service has begun already: it departs at another time, but it has waited as long.
        self._starts = stretched(starts, now_us, factor)
        self.truth.queued_us += float((self._starts - starts).sum())
        self.departs = stretched(self.departs, now_us, factor)
        for run in self.runs:
            run.stretch(now_us, factor)

    @property
    def longest_wait_us(self) -> float:
        """The longest wait before service among these datagrams, after a call of `stretch`."""
        assert self._starts is not None
        return float(self._starts[-1]) - self.arrived_us


class Bottleneck:
    """The queue of a link. Its datagrams may belong to several flows."""

    def __init__(self) -> None:
        self._busy_us = 0.0
        self._queue: deque[Admitted] = deque()

    def backlog_bytes(self, now_us: float, rate: float | None) -> float:
        """Bytes in the queue, including the rest of the datagram in service."""
        return max(0.0, self._busy_us - now_us) * rate / 8e6 if rate else 0.0

    def enter(self, now_us: float, count: int, size: int, path: Path, truth: Truth) -> Admitted | None:
        """Queue the first datagrams, as many as find room, and drop the rest of them.

        count, size : datagrams that arrive together, and bytes of each on the path

        Returns None if none finds room.
        """
        rate = path.rate_bits_per_s
        assert rate
        while self._queue and self._queue[0].departs[-1] <= now_us:
            self._queue.popleft()
        service_us = size * 8e6 / rate
        wait_us = max(0.0, self._busy_us - now_us)
        if path.buffer_bytes is not None:
            # An idle link accepts one datagram even if it is larger than the buffer.
            room = int((path.buffer_bytes - wait_us * rate / 8e6) / size + 1e-9)
            taken = min(count, max(room, 0 if wait_us else 1))
            truth.overflowed += count - taken
            count = taken
        if not count:
            return None
        departs: Times = _UP_TO[:count] * service_us + (now_us + wait_us)
        admitted = Admitted(departs, now_us, service_us, truth)
        self._queue.append(admitted)
        self._busy_us = float(departs[-1])
        truth.queued += count
        truth.queued_us += count * wait_us + service_us * count * (count - 1) / 2
        truth.longest_us = max(truth.longest_us, wait_us + (count - 1) * service_us)
        return admitted

    def change(self, now_us: float, factor: float) -> None:
        """Plan the waiting datagrams anew: service takes `factor` times as long from now on."""
        self._busy_us = now_us + max(0.0, self._busy_us - now_us) * factor
        waiting = [admitted for admitted in self._queue if admitted.departs[-1] > now_us]
        # Back to the longest wait that each flow had before the first datagram whose wait may change.
        for admitted in reversed(waiting):
            admitted.truth.longest_us = admitted.longest_us
        for admitted in waiting:
            admitted.stretch(now_us, factor)
            admitted.longest_us = admitted.truth.longest_us
            admitted.truth.longest_us = max(admitted.truth.longest_us, admitted.longest_wait_us)
        for inbox in {admitted.inbox for admitted in waiting if admitted.inbox is not None}:
            inbox.order()
