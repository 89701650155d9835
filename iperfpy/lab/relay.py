"""The relay: takes frames at each end, carries them over its way, and delivers them at the other end.

One `turn` does everything that is due. `wait_us` says how long nothing will be. Clock, frames in and frames
out are arguments, so that tests drive the relay in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from iperfpy.lab.lateness import Lateness
from iperfpy.lab.way import Way
from iperfpy.protocols.simulator.inbox import Inbox, Rows

TURN_US = 250.0
"""Shortest time between two turns, as a network card moderates its interrupts: frames are taken in groups at
high rates, and each at once at low ones."""
UNCLEAN_US = 10_000.0
"""A run with a p99 of lateness above this has measured the machine, not the path."""


class FrameSource(Protocol):
    """Frames that entered one end."""

    def read(self, now_us: float) -> Iterable[tuple[float, Rows]]:
        """(arrival in microseconds of the relay's clock, rows) for neighbours of one size, in order.

        The rows are valid until the next one is asked for.
        """

    def dropped(self) -> int:
        """Number of frames that this machine lost before they could be read, so far."""


class FrameSink(Protocol):
    """One end that frames leave for."""

    def send(self, pieces: Sequence[Rows]) -> int:
        """Send the frames of all pieces; return the number of those that this machine refused."""


@dataclass(frozen=True, slots=True)
class JoinedWay:
    """A way with both of its ends."""

    way: Way
    inbox: Inbox
    source: FrameSource
    sink: FrameSink

    @classmethod
    def of(cls, way: Way, source: FrameSource, sink: FrameSink) -> JoinedWay:
        """Join a way to its ends."""
        return cls(way, way.inbox(), source, sink)


class Relay:
    """Both directions of the path.

    Parameters
    ----------
    clock : microseconds since the command began

    Attributes
    ----------
    late : lateness of all deliveries
    refused : number of frames that this machine did not take at their exit
    """

    def __init__(self, directions: Sequence[JoinedWay], clock: Callable[[], float]) -> None:
        self.late, self.refused = Lateness(), 0
        self._directions, self._clock = directions, clock
        self._turned_us = -TURN_US

    def turn(self) -> None:
        """Take in all arrivals, and deliver all frames that are due."""
        self._turned_us = self._clock()
        for one in self._directions:
            # Read anew: with the time before the other direction's frames, these would arrive too early.
            now_us = self._clock()
            for arrived_us, rows in one.source.read(now_us):
                one.way.carry(arrived_us, rows, one.inbox)
            # Everything that had arrived by then is known now, so the queue may decide until then.
            one.way.advance(now_us)
        for one in self._directions:
            now_us = self._clock()
            if one.inbox.due_us() > now_us:
                continue
            pieces = one.inbox.take_rows(now_us)
            self.refused += one.sink.send([rows for _, rows in pieces])
            # After the call: the receiver has the frames now.
            sent_us = self._clock()
            for exits, _ in pieces:
                self.late.add(sent_us - exits)

    def due_us(self) -> float:
        """The time of the next turn if nothing arrives; infinity if nothing is on its way."""
        return min(one.way.due_us() for one in self._directions)

    def rest_us(self) -> float:
        """Time until the next turn may be taken at all, microseconds, 0.0 or more."""
        return max(0.0, self._turned_us + TURN_US - self._clock())

    def why_unclean(self, lost: int = 0) -> str:
        """The reason why this machine did not keep to the path; empty if it did.

        lost : packets that the devices around the relay dropped
        """
        return unclean(self.late, sum(one.source.dropped() for one in self._directions), self.refused + lost)


def unclean(late: Lateness, before: int, behind: int) -> str:
    """The reason why this machine did not keep to the path; empty if it did.

    before, behind : packets that it lost before they entered the path, and after they left it
    """
    late_us = late.quantile_us(0.99)
    if late_us > UNCLEAN_US:
        return f"packets left {late_us / 1e3:.1f} ms late (p99)"
    for count, place in ((before, "before"), (behind, "behind")):
        if count:
            return f"this machine lost {count} packet{'s' * (count > 1)} {place} the path"
    return ""
