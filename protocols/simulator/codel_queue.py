"""The queue of a bottleneck with CoDel (RFC 8289).

CoDel decides when a datagram's service begins, from its wait and from the queue behind it. So the datagrams
of this queue have no planned departure: `serve` decides on all that have begun their service by now. It
must be called before each arrival, and before any of them could reach the end of the path.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.simulator.bottleneck import Admitted, Bottleneck
from iperfpy.protocols.simulator.inbox import Inbox, Rows, Times
from iperfpy.protocols.simulator.link_log import LinkLog
from iperfpy.protocols.simulator.path import FULL_PACKET_BYTES, CoDel
from iperfpy.protocols.simulator.truth import Truth

MAX_PACKET_BYTES = FULL_PACKET_BYTES
"""CoDel drops nothing while no more than this is left in the queue."""
_FORGET_INTERVALS = 16
"""A drop rate is taken up again if the queue was good for less than this many intervals."""


@dataclass(slots=True)
class Waiting:
    """Datagrams of one size that arrived together, and their destination.

    rows : (n, bytes) uint8, one datagram per row
    size : bytes of each on the path
    """

    rows: Rows
    size: int
    arrived_us: float
    inbox: Inbox
    truth: Truth
    detour_us: float


@dataclass(frozen=True, slots=True)
class Served:
    """Datagrams of one group that the bottleneck serves one after another, and their place in its plan."""

    group: Waiting
    rows: Rows
    admitted: Admitted


class _Last(enum.Enum):
    """The datagram before this one in the queue."""

    PASSED = enum.auto()
    DROPPED = enum.auto()
    BEGAN_DROPPING = enum.auto()


class DropLaw:
    """The state machine of RFC 8289, section 5, asked about each datagram at the beginning of its service.

    Its function `dequeue` drops and takes the next datagram in one call. Here each datagram is a question of
    its own, so `_last` remembers the point in that function at which the next datagram is taken.
    """

    def __init__(self) -> None:
        self._above_us: float | None = None
        self._dropping = False
        self._next_us = 0.0
        self._count = self._last_count = 0
        self._last = _Last.PASSED

    def drops(self, codel: CoDel, now_us: float, wait_us: float, left_bytes: float) -> bool:
        """True if the datagram is dropped.

        wait_us, left_bytes : its time in the queue, and the bytes that remain in the queue without it
        """
        last, self._last = self._last, _Last.PASSED
        excessive = self._excessive(codel, now_us, wait_us, left_bytes)
        if last is _Last.BEGAN_DROPPING:
            return False
        if self._dropping:
            self._dropping = excessive
            if excessive and last is _Last.DROPPED:
                self._next_us += codel.interval_us / sqrt(self._count)
            if not excessive or now_us < self._next_us:
                return False
            self._count += 1
            self._last = _Last.DROPPED
            return True
        if not excessive:
            return False
        # A queue that was good for a short time only is taken up with the drop rate that it had.
        more = self._count - self._last_count
        recent = now_us - self._next_us < _FORGET_INTERVALS * codel.interval_us
        self._count = self._last_count = more if more > 1 and recent else 1
        self._next_us = now_us + codel.interval_us / sqrt(self._count)
        self._dropping, self._last = True, _Last.BEGAN_DROPPING
        return True

    def _excessive(self, codel: CoDel, now_us: float, wait_us: float, left_bytes: float) -> bool:
        """True if waits have been above the target for an interval."""
        if wait_us < codel.target_us or left_bytes <= MAX_PACKET_BYTES:
            self._above_us = None
            return False
        if self._above_us is None:
            self._above_us = now_us + codel.interval_us
            return False
        return now_us >= self._above_us

    def passes_until(self, codel: CoDel, arrived_us: float) -> float:
        """Time until which the datagrams behind one that passed pass too, and change nothing.

        arrived_us : their arrival. More than `MAX_PACKET_BYTES` must remain in the queue behind each.
        """
        if self._last is not _Last.PASSED:
            return -inf
        if self._above_us is None:
            return -inf if self._dropping else arrived_us + codel.target_us
        return self._next_us if self._dropping else self._above_us


class CoDelQueue:
    """Datagrams before the beginning of their service.

    count, bytes : their number, and their sum on the path
    log : takes the drops, if there is one
    """

    def __init__(self) -> None:
        self.log: LinkLog | None = None
        self.count = self.bytes = 0
        self._groups: deque[Waiting] = deque()
        self._law = DropLaw()

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, group: Waiting) -> None:
        """Append datagrams to the queue."""
        self._groups.append(group)
        self.count += len(group.rows)
        self.bytes += len(group.rows) * group.size

    def start_us(self, bottleneck: Bottleneck) -> float:
        """Time at which the next service begins; infinity if no datagram waits."""
        return bottleneck.next_start_us(self._groups[0].arrived_us) if self._groups else inf

    def serve(self, now_us: float, bottleneck: Bottleneck, codel: CoDel | None) -> list[Served]:
        """Begin the services that are due by now; those of `bottleneck` end before them.

        codel : None passes all datagrams that wait, due or not
        """
        served = []
        while self._groups and (self.start_us(bottleneck) <= now_us or codel is None):
            group = self._groups[0]
            count, size = len(group.rows), group.size
            # A drop takes no service: the datagram behind it gets the place of the dropped one.
            begin, served_bytes = bottleneck.begin(group.arrived_us), size + bottleneck.header_bytes
            slots = bottleneck.ends(begin, count, served_bytes)
            starts = bottleneck.start_us(np.concatenate(([begin], slots[:-1])))
            if codel is None:
                keep = np.ones(count, np.bool_)
            else:
                keep = self._judge(group, starts[: np.searchsorted(starts, now_us, "right")], size, codel)
            passed = int(np.count_nonzero(keep))
            self.count -= len(keep)
            self.bytes -= len(keep) * size
            group.truth.codel += len(keep) - passed
            if self.log is not None and passed < len(keep):
                self.log.dropped(now_us, len(keep) - passed, size)
            if passed:
                admitted = bottleneck.admit(
                    now_us, slots[:passed], begin, served_bytes, group.arrived_us, group.truth
                )
                served.append(Served(group, group.rows[: len(keep)][keep], admitted))
            if len(keep) == count:
                self._groups.popleft()
            else:
                group.rows = group.rows[len(keep) :]
        return served

    def _judge(self, group: Waiting, starts: Times, size: int, codel: CoDel) -> NDArray[np.bool_]:
        """(m,) bool: False for each datagram that is dropped, of the first ones.

        starts : beginnings of the services that are due, for as many datagrams as pass
        """
        law, count = self._law, len(group.rows)
        keep = np.ones(count, np.bool_)
        at = slot = 0
        while at < count and slot < len(starts):
            start_us = float(starts[slot])
            left = self.bytes - (at + 1) * size
            if law.drops(codel, start_us, start_us - group.arrived_us, left):
                keep[at] = False
                at += 1
                continue
            # The datagrams behind it pass in one step, up to the next one on which something depends.
            until_us = law.passes_until(codel, group.arrived_us)
            calm = int(np.searchsorted(starts, until_us)) - slot if until_us > start_us else 1
            calm = min(calm, count - at, 1 + max(0, (left - MAX_PACKET_BYTES - 1) // size))
            at, slot = at + calm, slot + calm
        return keep[:at]
