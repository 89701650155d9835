"""One direction of an emulated path in real time: the simulator's `Link`, and the events of its path.

No clock is read here: the relay says the time, in microseconds since the command began.
"""

from __future__ import annotations

from collections import deque
from math import inf

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.simulator.inbox import Inbox, Rows
from iperfpy.protocols.simulator.link import Link
from iperfpy.protocols.simulator.link_log import LinkLog
from iperfpy.protocols.simulator.path import Change, Path
from iperfpy.protocols.simulator.truth import Truth

MTU = 1_500
"""Bytes of the longest IP packet, unless the path says otherwise."""


class Way:
    """Carries datagrams of one direction.

    Parameters
    ----------
    path : properties and events
    seed : determines every random draw
    overhead_bytes : as `Link` has it

    Attributes
    ----------
    truth : counts of datagrams by their fate
    """

    def __init__(self, path: Path, seed: np.random.SeedSequence, overhead_bytes: int) -> None:
        self.truth = Truth()
        self._link = Link(path, seed, overhead_bytes=overhead_bytes)
        self._inboxes: list[Inbox] = []
        self._changes: deque[Change] = deque(sorted(path.changes, key=lambda change: change.at_us))
        self._reached_us = 0.0

    def inbox(self) -> Inbox:
        """Make an inbox for one receiver at the end of the way."""
        made = Inbox(0.0)
        self._inboxes.append(made)
        return made

    def close(self, inbox: Inbox) -> None:
        """Forget a receiver; the datagrams on their way to it never arrive."""
        self._inboxes.remove(inbox)

    def carry(self, arrived_us: float, rows: Rows, inbox: Inbox) -> None:
        """Send datagrams of one size to `inbox`; rows is (n, bytes).

        Arrivals are in the past when they become known. One that became known later than an event, or than a
        decision of the queue, counts as of that time: the path's own time never goes back.
        """
        self._reach(arrived_us)
        self._link.carry_rows(self._reached_us, rows, inbox, self.truth, 0.0)

    def carry_batch(self, arrived_us: float, batch: DatagramBatch, inbox: Inbox) -> None:
        """Send a batch to `inbox`, as `carry` does."""
        self._reach(arrived_us)
        self._link.carry(self._reached_us, batch, inbox, self.truth, 0.0)

    def advance(self, now_us: float) -> None:
        """Let everything happen that is due by now; all arrivals until now are known."""
        self._reach(now_us)
        if self._link.due_us() <= now_us:
            self._link.serve(self._reached_us)

    def due_us(self) -> float:
        """Time of the next event, decision or delivery, microseconds; infinity if there is none."""
        event_us = self._changes[0].at_us if self._changes else inf
        arrival_us = min((inbox.due_us() for inbox in self._inboxes), default=inf)
        return min(event_us, self._link.due_us(), arrival_us)

    def keep_log(self, log: LinkLog) -> None:
        """Write the events of the queue into a log from now on."""
        self._link.keep_log(log)

    def write_log(self, now_us: float) -> None:
        """Write the events up to now that the log has not written yet."""
        self._link.write_log(max(self._reached_us, now_us))

    def _reach(self, until_us: float) -> None:
        """Apply the events until a time, each at its own."""
        while self._changes and self._changes[0].at_us <= until_us:
            change = self._changes.popleft()
            self._reached_us = max(self._reached_us, float(change.at_us))
            self._link.change(self._reached_us, self._link.path.with_(**change.fields))
        self._reached_us = max(self._reached_us, until_us)
