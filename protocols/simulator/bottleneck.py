"""The queue of one direction of a path, and the plan of its services.

The departure of each datagram is planned when the datagram enters: a first-in first-out queue needs no events
of its own, even if its rate varies. A change of the service plans the waiting datagrams anew, with all that
follows from their departures: their arrivals, and the waiting times that `Truth` counts.

A *slot* is a position in the service of a bottleneck, float64, in the bottleneck's own measure: microseconds
if it has a rate (`rate_bottleneck.py`), bytes of its opportunities if it has a trace (`trace_bottleneck.py`).
Services follow each other in slots without gaps while datagrams wait, and several departures may have one
time but not one slot. So slots, and not times, identify the datagrams when a plan changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

import numpy as np

from iperfpy.protocols.simulator.inbox import DatagramRun, Inbox, Moved, Slots, Times
from iperfpy.protocols.simulator.link_log import LinkLog
from iperfpy.protocols.simulator.path import Path
from iperfpy.protocols.simulator.truth import Truth


class Admitted:
    """Neighbours of one size that entered the queue together, and the runs that they became behind it.

    slots : (n,) float64, ascending: the end of each datagram's service
    begin : slot at which the first one's service begins
    size : bytes of each in the bottleneck
    last_us : departure of the last one
    longest_us : the flow's longest wait among the datagrams that entered before these
    runs : the datagrams among them that the path did not lose, on their way to `inbox`
    logged : number of departures that the log has taken
    """

    __slots__ = (
        *("_starts_us", "arrived_us", "begin", "inbox", "last_us", "logged", "longest_us", "runs", "size"),
        *("slots", "truth"),
    )

    def __init__(
        self, slots: Slots, begin: float, size: int, arrived_us: float, last_us: float, truth: Truth
    ) -> None:
        self.slots, self.begin, self.size = slots, begin, size
        self.arrived_us, self.last_us, self.truth = arrived_us, last_us, truth
        self.longest_us = truth.longest_us
        self.inbox: Inbox | None = None
        self.runs: Sequence[DatagramRun] = ()
        self.logged = 0
        self._starts_us: Times | None = None

    @property
    def starts(self) -> Slots:
        """(n,) float64: slots at which the services begin."""
        return np.concatenate(([self.begin], self.slots[:-1]))

    def move(self, before: Bottleneck, after: Bottleneck, moved: Moved, now_us: float) -> None:
        """Follow a change of the service, which moves all later events."""
        starts = self.starts
        old_us = before.start_us(starts) if self._starts_us is None else self._starts_us
        # The datagram in service has begun already: it departs at another time, but it has waited as long.
        self._starts_us = np.where(old_us > now_us, after.start_us(moved(starts)[0]), old_us)
        self.truth.queued_us += float((self._starts_us - old_us).sum())
        self.begin = float(moved(starts[:1])[0][0])
        self.slots, shifts = moved(self.slots)
        self.last_us += float(shifts[-1])
        for run in self.runs:
            run.move(moved)

    @property
    def longest_wait_us(self) -> float:
        """The longest wait before service among these datagrams, after a call of `move`."""
        assert self._starts_us is not None
        return float(self._starts_us[-1]) - self.arrived_us


class Bottleneck(ABC):
    """The queue of a link. Its datagrams may belong to several flows.

    free : slot at which the last planned service ends
    log : takes arrivals, drops and departures, if there is one
    """

    header_bytes = 0
    """Bytes that a datagram takes here beside its IP packet."""

    def __init__(self, free: float) -> None:
        self.free = free
        self.log: LinkLog | None = None
        self._queue: deque[Admitted] = deque()
        self._planned = 0

    # -- the law of the service

    @abstractmethod
    def begin(self, arrived_us: float) -> float:
        """Slot at which the service of the next datagram begins, if it arrives at that time."""

    @abstractmethod
    def ends(self, begin: float, count: int, size: int) -> Slots:
        """(count,) float64: ends of the services that follow each other from the slot `begin` on.

        size : bytes of each datagram in the bottleneck
        """

    @abstractmethod
    def leave_us(self, slots: Slots) -> Times:
        """Departures of the datagrams with services that end at these slots."""

    @abstractmethod
    def leaves_us(self, slot: float) -> float:
        """Departure of one datagram, as `leave_us`."""

    @abstractmethod
    def start_us(self, slots: Slots) -> Times:
        """Times at which the services begin that begin at these slots."""

    @abstractmethod
    def given(self, now_us: float) -> float:
        """Slot up to which all service is over by now: departures up to it have happened."""

    @abstractmethod
    def served_us(self, times_us: Times) -> Times:
        """Service that can have been given by each time, microseconds of service at the mean rate."""

    @abstractmethod
    def ahead_bytes(self, slots: Slots, now_us: float) -> Times:
        """Bytes of service between now and each slot, which is not before now."""

    @abstractmethod
    def after_bytes(self, ahead_bytes: Times, now_us: float) -> Slots:
        """The slots so many bytes of service after now: the inverse of `ahead_bytes`."""

    @abstractmethod
    def opportunities(self, from_us: float, until_us: float) -> Times:
        """Times, after `from_us` and not after `until_us`, at which service for one more full packet has been
        given."""

    @abstractmethod
    def _free_places(
        self, now_us: float, size: int, path: Path, ahead: int, ahead_bytes: float
    ) -> int | None:
        """Number of datagrams for which the buffer has room; None for no limit."""

    # -- the queue

    def backlog_bytes(self, now_us: float) -> float:
        """Bytes of planned datagrams in the queue, including the rest of the datagram in service."""
        if self.free <= self.given(now_us):
            return 0.0
        return float(self.ahead_bytes(np.array([self.free]), now_us)[0])

    def next_start_us(self, arrived_us: float) -> float:
        """Time at which the service of the next datagram begins, if it arrived at that time."""
        return float(self.start_us(np.array([self.begin(arrived_us)]))[0])

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

        count, size : datagrams that arrive together, and bytes of each in the bottleneck
        ahead, ahead_bytes : datagrams in the buffer that are not planned yet
        """
        if self.log is not None:
            self.log.arrived(now_us, count, size - self.header_bytes)
        # A log has all arrivals, those that are dropped, too.
        taken = self._free_places(now_us, size, path, ahead, ahead_bytes)
        if taken is None or taken >= count:
            return count
        truth.overflowed += count - taken
        if self.log is not None:
            self.log.dropped(now_us, count - taken, size - self.header_bytes)
        return taken

    def _forget(self, now_us: float) -> None:
        while self._queue and self._queue[0].last_us <= now_us:
            admitted = self._queue.popleft()
            self._planned -= len(admitted.slots)
            if self.log is not None:
                self._log_departures(admitted, now_us)

    def enter(self, now_us: float, count: int, size: int, path: Path, truth: Truth) -> Admitted | None:
        """Queue the first datagrams, as many as find room, and drop the rest of them.

        count, size : datagrams that arrive together, and bytes of each in the bottleneck

        Returns None if none finds room.
        """
        count = self.room(now_us, count, size, path, truth)
        if not count:
            return None
        begin = self.begin(now_us)
        return self.admit(now_us, self.ends(begin, count, size), begin, size, now_us, truth)

    def admit(
        self, now_us: float, slots: Slots, begin: float, size: int, arrived_us: float, truth: Truth
    ) -> Admitted:
        """Plan services, and count the waits before them."""
        starts_us = self.start_us(np.concatenate(([begin], slots[:-1])))
        truth.queued_us += float(starts_us.sum()) - len(slots) * arrived_us
        return self._plan(now_us, slots, begin, size, arrived_us, truth, float(starts_us[-1]) - arrived_us)

    def _plan(
        self,
        now_us: float,
        slots: Slots,
        begin: float,
        size: int,
        arrived_us: float,
        truth: Truth,
        longest_us: float,
    ) -> Admitted:
        # Here, because every plan passes here: the queue stays as short as the datagrams that wait.
        self._forget(now_us)
        self._planned += len(slots)
        self.free = float(slots[-1])
        admitted = Admitted(slots, begin, size, arrived_us, self.leaves_us(self.free), truth)
        self._queue.append(admitted)
        truth.queued += len(slots)
        if longest_us > truth.longest_us:
            truth.longest_us = longest_us
        return admitted

    # -- the log

    def log_departures(self, now_us: float) -> None:
        """Let the log take the departures that have happened by now."""
        for admitted in self._queue:
            if self.log is None or admitted.begin > self.given(now_us):
                return
            self._log_departures(admitted, now_us)

    def _log_departures(self, admitted: Admitted, now_us: float) -> None:
        assert self.log is not None
        done = int(admitted.slots.searchsorted(self.given(now_us), "right"))
        if done > admitted.logged:
            times_us = self.leave_us(admitted.slots[admitted.logged : done])
            self.log.departed(times_us, admitted.arrived_us, admitted.size - self.header_bytes)
            admitted.logged = done

    # -- changes

    def moves_from(self, before: Bottleneck, now_us: float) -> Moved:
        """The function from slots of the bottleneck before to slots of this one, for a change now."""
        past, here = before.given(now_us), self.given(now_us)

        def moved(slots: Slots) -> tuple[Slots, Times]:
            gone = slots <= past
            waiting = before.ahead_bytes(np.maximum(slots, past), now_us)
            new = np.where(gone, here, self.after_bytes(waiting, now_us))
            return new, np.where(gone, 0.0, self.leave_us(new) - before.leave_us(slots))

        return moved

    def take_over(self, before: Bottleneck, now_us: float) -> None:
        """Serve the datagrams that wait in another bottleneck, which this one replaces now. A log must have
        taken the departures until now before, because their slots move."""
        before._forget(now_us)
        moved = self.moves_from(before, now_us)
        self.log = before.log
        self.free = float(moved(np.array([before.free]))[0][0])
        self._queue, self._planned = before._queue, before._planned
        # Back to the longest wait that each flow had before the datagrams that now wait another time.
        for admitted in reversed(self._queue):
            admitted.truth.longest_us = admitted.longest_us
        for admitted in self._queue:
            admitted.move(before, self, moved, now_us)
            admitted.longest_us = admitted.truth.longest_us
            admitted.truth.longest_us = max(admitted.truth.longest_us, admitted.longest_wait_us)
        for inbox in {admitted.inbox for admitted in self._queue if admitted.inbox is not None}:
            inbox.order()
