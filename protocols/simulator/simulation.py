"""The virtual clock, the hosts, and the flows between them.

Simulation.run -> Host.wake(now_us):  inbox.take   -> endpoint.receive     datagrams that have arrived
                                      application.feed                     data to send
                                      endpoint.transmit -> Port.send       datagrams that leave, into a Link
                  Host.timer_us and inbox.due_us: the time of the next wake-up
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, inf
from typing import Any, Protocol

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.simulator.application import Application, Silent
from iperfpy.protocols.simulator.inbox import Inbox
from iperfpy.protocols.simulator.link import Link
from iperfpy.protocols.simulator.path import Path
from iperfpy.protocols.simulator.truth import Truth

COALESCE_US = 500
"""Shortest time between two deliveries to a host, as interrupt moderation enforces it on fast links."""
_MAX_IDLE_WAKES = 10_000


class Endpoint(Protocol):
    """One end of a protocol, without clock, socket or thread."""

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Process datagrams that arrived."""

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """The datagrams that leave now. The simulation copies them before it calls the endpoint again."""

    def deadline_us(self) -> int | None:
        """The time at which `transmit` must be called even if nothing arrives; None for no timer."""


class Port:
    """The outgoing side of a host: a link, the inbox at its far end, and the counts of its datagrams."""

    def __init__(self, link: Link, inbox: Inbox, detour_us: float) -> None:
        self.link, self.truth = link, Truth()
        self._inbox, self._detour_us = inbox, detour_us

    def send(self, now_us: int, batch: DatagramBatch) -> None:
        """Send a batch into the link."""
        self.link.carry(float(now_us), batch, self._inbox, self.truth, self._detour_us)


class Host:
    """An endpoint, its application and its network card."""

    def __init__(self, endpoint: Endpoint, application: Application, inbox: Inbox) -> None:
        self.endpoint, self.application, self.inbox = endpoint, application, inbox
        self.port: Port | None = None
        self._idle_wakes = 0

    def wake(self, now_us: int) -> None:
        """Deliver arrived datagrams, then write and transmit until neither makes progress."""
        arrived = self.inbox.take(now_us)
        for batch in arrived:
            self.endpoint.receive(batch, now_us)
        busy = bool(arrived)
        # A transmission may make room for the application, and its data may then leave at once.
        while True:
            written = self.application.feed(now_us)
            batches = self.endpoint.transmit(now_us)
            for batch in batches:
                self._send(now_us, batch)
            busy = busy or bool(batches)
            if not (written and batches):
                break
        self._idle_wakes = 0 if busy else self._idle_wakes + 1
        if self._idle_wakes > _MAX_IDLE_WAKES:
            raise RuntimeError(
                f"{type(self.endpoint).__name__} keeps asking to be woken at {now_us} us and does nothing"
            )

    def _send(self, now_us: int, batch: DatagramBatch) -> None:
        if self.port is None:
            raise RuntimeError("this host is not connected")
        self.port.send(now_us, batch)

    def timer_us(self) -> float:
        """The earlier deadline of the endpoint and the application, microseconds; infinity for none."""
        endpoint, application = self.endpoint.deadline_us(), self.application.due_us()
        at = inf if endpoint is None else endpoint
        return at if application is None or application > at else application


@dataclass(frozen=True, slots=True)
class SimulatedFlow:
    """Two connected hosts. `forward.truth` and `backward.truth` count the datagrams of each direction."""

    sender: Host
    receiver: Host
    forward: Port
    backward: Port


class Simulation:
    """Virtual time, in microseconds, from 0.

    Parameters
    ----------
    seed : determines every random draw
    coalesce_us : shortest time between two deliveries to a host (`inbox.py`); 0 delivers each datagram alone
    host_late_us : mean time by which a host wakes up late, exponentially distributed, as an operating system
        and an interpreter make it; 0: all hosts are on time
    """

    def __init__(self, seed: int, coalesce_us: float = COALESCE_US, *, host_late_us: float = 0.0) -> None:
        self.now_us = 0
        self._late_us, self._late = host_late_us, random.Random(f"late hosts {seed}")
        self._seed = np.random.SeedSequence(seed)
        self._coalesce_us = coalesce_us
        self._hosts: list[Host] = []
        self._versions: list[int] = []
        self._due_us: list[float] = []
        self._served_us: dict[Link, float] = {}
        """Time of the next event of each link that must be served."""
        self._events: list[tuple[float, int, int, int | Callable[[int], None]]] = []
        self._count = 0

    def link(self, path: Path) -> Link:
        """Make one direction of a path and schedule its changes. Several flows may share it."""
        link = Link(path, self._seed.spawn(1)[0])
        for change in path.changes:
            self.at(change.at_us, partial(self._change, link, change.fields))
        return link

    def _change(self, link: Link, fields: Mapping[str, Any], now_us: int) -> None:
        link.change(now_us, link.path.with_(**fields))
        self._arrivals_changed(link)

    def _serve(self, link: Link, due_us: float, now_us: int) -> None:
        if self._served_us.get(link) != due_us:
            return  # another event has taken the place of this one
        del self._served_us[link]
        link.serve(now_us)
        self._arrivals_changed(link)

    def _arrivals_changed(self, link: Link) -> None:
        self._watch(link)
        for index in range(len(self._hosts)):
            self._schedule(index, self.now_us)

    def _watch(self, link: Link) -> None:
        """Keep an event at the time at which the link must be served, or before it."""
        due_us = link.due_us()
        if due_us < self._served_us.get(link, inf):
            self._served_us[link] = due_us
            self.at(ceil(max(due_us, self.now_us)), partial(self._serve, link, due_us))

    def flow(
        self,
        sender: Endpoint,
        receiver: Endpoint,
        forward: Link,
        backward: Link,
        application: Application,
        *,
        answers: Application | None = None,
        start_us: int = 0,
        detour_us: float = 0.0,
    ) -> SimulatedFlow:
        """Connect two endpoints.

        application : writes into the sender
        answers : writes into the receiver; None: nothing does
        start_us : time of the first wake-up of the sender
        detour_us : propagation delay added in each direction for this flow alone
        """
        hosts = (
            Host(sender, application, Inbox(self._coalesce_us)),
            Host(receiver, answers or Silent(), Inbox(self._coalesce_us)),
        )
        there, back = Port(forward, hosts[1].inbox, detour_us), Port(backward, hosts[0].inbox, detour_us)
        hosts[0].port, hosts[1].port = there, back
        # Neighbours in the list are the two ends of a flow: `index ^ 1` is the other end.
        for host in hosts:
            self._hosts.append(host)
            self._versions.append(0)
            self._due_us.append(inf)
        self._push(max(start_us, self.now_us), len(self._hosts) - 2)
        return SimulatedFlow(hosts[0], hosts[1], there, back)

    def at(self, time_us: int, action: Callable[[int], None]) -> None:
        """Run `action(now_us)` at `time_us`, before any host that is due at the same time."""
        self._count += 1
        # The offset sorts actions ahead of hosts of the same time, and keeps their own order.
        heapq.heappush(self._events, (float(time_us), self._count - (1 << 60), 0, action))

    def every(self, interval_us: int, action: Callable[[int], None]) -> None:
        """Run `action(now_us)` at the present time and then once per `interval_us`."""

        def again(now_us: int) -> None:
            action(now_us)
            self.at(now_us + interval_us, again)

        self.at(self.now_us, again)

    def run(self, until_us: int) -> None:
        """Advance the clock to `until_us`, inclusive, running every event on the way."""
        events = self._events
        while events and events[0][0] <= until_us:
            time_us, _, version, due = heapq.heappop(events)
            if not isinstance(due, int):
                self.now_us = int(time_us)
                due(self.now_us)
            elif version == self._versions[due]:  # an older event of this host was replaced
                self._wake(due, ceil(time_us))
        self.now_us = until_us

    def _wake(self, index: int, now_us: int) -> None:
        self.now_us = now_us
        self._due_us[index] = inf
        host = self._hosts[index]
        host.wake(now_us)
        if host.port is not None:
            self._watch(host.port.link)
        self._schedule(index, now_us + 1)
        arrival_us = self._hosts[index ^ 1].inbox.due_us()  # the other end changes by arrivals only
        if arrival_us < self._due_us[index ^ 1]:
            self._push(arrival_us if arrival_us > now_us else now_us, index ^ 1)

    def _push(self, time_us: float, index: int) -> None:
        self._versions[index] += 1
        self._due_us[index] = time_us
        self._count += 1
        if self._late_us:
            time_us += self._late.expovariate(1.0 / self._late_us)
        heapq.heappush(self._events, (time_us, self._count, self._versions[index], index))

    def _schedule(self, index: int, earliest_us: int) -> None:
        """Keep one valid event per host: its timer or its card's interrupt, whichever is first.

        A timer in the past runs a microsecond later, so that an endpoint cannot stop the clock.
        """
        host, now_us = self._hosts[index], self.now_us
        due_us, arrival_us = host.timer_us(), host.inbox.due_us()
        # Plain comparisons: this runs once for each wake-up.
        if due_us < earliest_us:
            due_us = earliest_us
        if arrival_us < due_us:
            due_us = arrival_us if arrival_us > now_us else now_us
        if due_us != self._due_us[index] and due_us < inf:
            self._push(due_us, index)
