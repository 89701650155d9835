"""The queue and the serialiser of one direction of a path.

The departure of each datagram is planned when the datagram enters, in microseconds as floats: a first-in
first-out queue needs no events of its own, even if its rate walks. A change of rate plans the waiting
datagrams anew, with all that follows from their departures: their arrivals, and the waiting times that
`Truth` counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from iperfpy.protocols.simulator.inbox import DatagramRun, Inbox, Moved, Times
from iperfpy.protocols.simulator.path import Path
from iperfpy.protocols.simulator.truth import Truth
from iperfpy.protocols.simulator.walking_rate import WalkingRate

_UP_TO = np.arange(1, 4_097, dtype=np.float64)


class Admitted:
    """Neighbours of one size that entered the queue together, and the runs that they became behind it.

    departs : (n,) float64, microseconds, ascending: the end of each datagram's service
    begun_us : the beginning of the first one's service
    longest_us : the flow's longest wait among the datagrams that entered before these
    runs : the datagrams among them that the path did not lose, on their way to `inbox`
    """

    __slots__ = ("_starts", "arrived_us", "begun_us", "departs", "inbox", "longest_us", "runs", "truth")

    def __init__(self, departs: Times, begun_us: float, arrived_us: float, truth: Truth) -> None:
        self.departs, self.begun_us, self.arrived_us, self.truth = departs, begun_us, arrived_us, truth
        self.longest_us = truth.longest_us
        self.inbox: Inbox | None = None
        self.runs: Sequence[DatagramRun] = ()
        self._starts: Times | None = None

    def move(self, moved: Moved) -> None:
        """Follow a change of rate, which moves the times of all later events."""
        starts = self._starts
        if starts is None:
            starts = np.concatenate(([self.begun_us], self.departs[:-1]))
        # The datagram in service has begun already: it departs at another time, but it has waited as long.
        self._starts = moved(starts)
        self.truth.queued_us += float((self._starts - starts).sum())
        self.departs = moved(self.departs)
        for run in self.runs:
            run.move(moved)

    @property
    def longest_wait_us(self) -> float:
        """The longest wait before service among these datagrams, after a call of `move`."""
        assert self._starts is not None
        return float(self._starts[-1]) - self.arrived_us


class Bottleneck:
    """The queue of a link. Its datagrams may belong to several flows.

    busy_us : end of the last planned service
    walk : the variation of the rate, if there is one
    """

    def __init__(self, walk: WalkingRate | None) -> None:
        self.busy_us = 0.0
        self.walk = walk
        self._queue: deque[Admitted] = deque()
        self._planned = 0

    def backlog_bytes(self, now_us: float, rate: float | None) -> float:
        """Bytes of planned datagrams in the queue, including the rest of the datagram in service."""
        if not rate or self.busy_us <= now_us:
            return 0.0
        if self.walk is None:
            return (self.busy_us - now_us) * rate / 8e6
        now, end = self.walk.given(np.array([now_us, self.busy_us])).tolist()
        return float(end - now) * rate / 8e6

    def waiting(self, now_us: float) -> int:
        """Number of planned datagrams in the queue, including the one in service."""
        self._forget(now_us)
        if not self._queue:
            return 0
        return self._planned - int(self._queue[0].departs.searchsorted(now_us, "right"))

    def room(
        self,
        now_us: float,
        count: int,
        size: int,
        path: Path,
        truth: Truth,
        ahead: int = 0,
        ahead_bytes: float = 0.0,
    ) -> int:
        """Drop the datagrams for which the buffer has no room; return the number of the others.

        count, size : datagrams that arrive together, and bytes of each on the path
        ahead, ahead_bytes : datagrams in the buffer that are not planned yet
        """
        taken = count
        if path.buffer_bytes is not None:
            free = path.buffer_bytes - self.backlog_bytes(now_us, path.rate_bits_per_s) - ahead_bytes
            # The small term undoes the rounding of sums of floats.
            taken = int(free / size + 1e-9)
        elif path.buffer_datagrams is not None:
            taken = path.buffer_datagrams - self.waiting(now_us) - ahead
        if taken < count:
            # An idle link accepts one datagram even if it is larger than the buffer.
            taken = max(taken, 0 if ahead or self.busy_us > now_us else 1)
            truth.overflowed += count - taken
            return taken
        return count

    def _forget(self, now_us: float) -> None:
        while self._queue and self._queue[0].departs[-1] <= now_us:
            self._planned -= len(self._queue.popleft().departs)

    def departures(self, begin_us: float, count: int, service_us: float) -> Times:
        """(count,) float64, microseconds: ends of the services that follow each other from `begin_us` on.

        service_us : microseconds that each takes at the mean rate
        """
        if self.walk is None:
            return _UP_TO[:count] * service_us + begin_us
        return self.walk.times(self.walk.given(np.array([begin_us])) + _UP_TO[:count] * service_us)

    def enter(self, now_us: float, count: int, size: int, path: Path, truth: Truth) -> Admitted | None:
        """Queue the first datagrams, as many as find room, and drop the rest of them.

        count, size : datagrams that arrive together, and bytes of each on the path

        Returns None if none finds room.
        """
        rate = path.rate_bits_per_s
        assert rate
        count = self.room(now_us, count, size, path, truth)
        if not count:
            return None
        wait_us = max(0.0, self.busy_us - now_us)
        begin_us, service_us = now_us + wait_us, size * 8e6 / rate
        departs = self.departures(begin_us, count, service_us)
        if self.walk is not None:
            return self.admit(now_us, departs, begin_us, now_us, truth)
        # The waits are an arithmetic series.
        truth.queued_us += count * wait_us + service_us * count * (count - 1) / 2
        return self._plan(now_us, departs, begin_us, now_us, truth, wait_us + (count - 1) * service_us)

    def admit(
        self, now_us: float, departs: Times, begun_us: float, arrived_us: float, truth: Truth
    ) -> Admitted:
        """Plan departures, and count the waits before them."""
        count, last_us = len(departs), begun_us
        truth.queued_us += begun_us - arrived_us
        if count > 1:
            last_us = float(departs[-2])
            truth.queued_us += float(departs[:-1].sum()) - (count - 1) * arrived_us
        return self._plan(now_us, departs, begun_us, arrived_us, truth, last_us - arrived_us)

    def _plan(
        self,
        now_us: float,
        departs: Times,
        begun_us: float,
        arrived_us: float,
        truth: Truth,
        longest_us: float,
    ) -> Admitted:
        self._forget(now_us)
        self._planned += len(departs)
        admitted = Admitted(departs, begun_us, arrived_us, truth)
        self._queue.append(admitted)
        self.busy_us = float(departs[-1])
        truth.queued += len(departs)
        if longest_us > truth.longest_us:
            truth.longest_us = longest_us
        return admitted

    def change(self, now_us: float, factor: float, walk: WalkingRate | None) -> None:
        """Plan the waiting datagrams anew: service takes `factor` times as long from now on.

        walk : variation of the rate from now on
        """
        before, self.walk = self.walk, walk

        def moved(times_us: Times) -> Times:
            ahead = np.maximum(times_us, now_us)
            if before is not None:
                ahead = now_us + before.given(ahead) - before.given(np.array([now_us]))
            ahead = now_us + (ahead - now_us) * factor
            if walk is not None:
                ahead = walk.times(ahead - now_us + walk.given(np.array([now_us])))
            return np.where(times_us > now_us, ahead, times_us)

        self.busy_us = float(moved(np.array([self.busy_us]))[0])
        waiting = [admitted for admitted in self._queue if admitted.departs[-1] > now_us]
        # Back to the longest wait that each flow had before the datagrams that now wait another time.
        for admitted in reversed(waiting):
            admitted.truth.longest_us = admitted.longest_us
        for admitted in waiting:
            admitted.move(moved)
            admitted.longest_us = admitted.truth.longest_us
            admitted.truth.longest_us = max(admitted.truth.longest_us, admitted.longest_wait_us)
        for inbox in {admitted.inbox for admitted in waiting if admitted.inbox is not None}:
            inbox.order()
