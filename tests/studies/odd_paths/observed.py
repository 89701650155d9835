"""One flow over an odd path, observed: the figures of its sender beside those of the simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.wire import FIELDS, HEADER, HEADER_BYTES, PUSH
from iperfpy.protocols.simulator.application import Bulk, Silent
from iperfpy.protocols.simulator.simulation import Simulation
from iperfpy.protocols.simulator.truth import Truth
from tests.studies.odd_paths.drawing import DATAGRAM, OddPath
from tests.studies.paths.watched import MSS, MTU, SECOND

INTERVAL_US = 100_000
_UNKNOWN = -1


class FirstArrivals:
    """Wraps the receiver and notes the stamp of the copy of each segment that arrived first.

    Attributes
    ----------
    stamps_us : int64 (n,) by serial number, the time at which that copy left; -1 for none yet
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.stamps_us = np.full(4_096, _UNKNOWN, np.int64)
        self.transmit, self.deadline_us = engine.transmit, engine.deadline_us

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Note the stamps of a batch, and hand it to the engine."""
        if batch.count == 1 and batch.size >= HEADER_BYTES:
            # Most batches on slow paths; `struct` is faster than arrays for one header.
            _, cmd, _, _, stamp_us, number, _, _ = HEADER.unpack_from(batch.data.data, 0)
            if cmd == PUSH:
                self._make_room(number)
                if self.stamps_us[number] == _UNKNOWN:
                    self.stamps_us[number] = stamp_us
        elif batch.stride >= HEADER_BYTES:
            headers = np.ndarray((batch.count,), FIELDS, batch.data, 0, (batch.stride,))
            # Backwards, so that the first of two copies in one batch is noted last and stays.
            headers = headers[headers["cmd"] == PUSH][::-1]
            numbers = headers["sn"].astype(np.int64)
            if len(numbers):
                self._make_room(int(numbers.max()))
                new = self.stamps_us[numbers] == _UNKNOWN
                self.stamps_us[numbers[new]] = headers["ts"][new]
        self.engine.receive(batch, now_us)

    def _make_room(self, number: int) -> None:
        while number >= len(self.stamps_us):
            self.stamps_us = np.append(self.stamps_us, np.full_like(self.stamps_us, _UNKNOWN))


class TrueRtt:
    """Wraps the sender and sums the true RTT of every acknowledged segment: from the transmission that
    arrived first until the acknowledgement.

    Attributes
    ----------
    sum_us, segments : sum, and number of segments
    """

    def __init__(self, engine: Engine, arrivals: FirstArrivals) -> None:
        self.engine, self._arrivals = engine, arrivals
        self.sum_us = self.segments = 0
        self._known: NDArray[np.bool_] = np.zeros(4_096, np.bool_)
        self._known_above = 0
        self.transmit, self.deadline_us = engine.transmit, engine.deadline_us

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Hand a batch to the engine, and add the segments that it newly acknowledges."""
        sending = self.engine.sending
        first = sending.una
        self.engine.receive(batch, now_us)
        una = sending.una
        # Segments below una are new unless they had an ACK of their own before; those above una are looked
        # up only if their number has grown, because a window may have thousands.
        if una > first:
            passed = np.arange(first, una)
            if self._known_above:
                # The segments with an ACK of their own may end before una.
                while una > len(self._known):
                    self._known = np.append(self._known, np.zeros_like(self._known))
                counted = self._known[first:una]
                self._known_above -= int(np.count_nonzero(counted))
                passed = passed[~counted]
            self._add(passed, now_us)
        if sending.sacked > self._known_above:
            above = np.arange(una, sending.nxt)
            above = above[sending.state.acked[above & sending.mask]]
            while len(above) and int(above[-1]) >= len(self._known):
                self._known = np.append(self._known, np.zeros_like(self._known))
            above = above[~self._known[above]]
            self._known[above] = True
            self._known_above += len(above)
            self._add(above, now_us)

    def _add(self, numbers: NDArray[np.int64], now_us: int) -> None:
        self.segments += len(numbers)
        self.sum_us += len(numbers) * now_us - int(self._arrivals.stamps_us[numbers].sum())


class Company:
    """Sends datagrams at a constant rate for the first half of each period, and nothing in the other half.

    Nothing answers it: it is a second flow that does not react.
    """

    def __init__(self, rate_bits_per_s: float, period_s: float) -> None:
        self._datagram = DatagramBatch.of(np.zeros(MTU, np.uint8), MTU)
        self._each_us = DATAGRAM * 8e6 / rate_bits_per_s
        self._period_us = period_s * SECOND
        self._next_us = 0.0

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Ignore answers: the sink sends none."""

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """Send the datagrams that are due."""
        due = []
        while self._next_us <= now_us:
            due.append(self._datagram)
            self._next_us += self._each_us
            if self._next_us % self._period_us >= self._period_us / 2:
                self._next_us += self._period_us - self._next_us % self._period_us
        return due

    def deadline_us(self) -> int:
        """The time of the next datagram."""
        return int(self._next_us) + 1


class Sink:
    """Takes datagrams and sends nothing."""

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Drop a batch."""

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """Send nothing."""
        return ()

    def deadline_us(self) -> int | None:
        """A sink has no timer."""
        return None


@dataclass(slots=True)
class Look:
    """Cumulative figures, and gauges, of a flow at one moment.

    received : bytes that arrived, in order or not, each once
    rtt_us, noise : gauges of the sender; the noise as a share, None if it has none
    true_rtt_sum_us, acked : sum of the true RTT of acknowledged segments, and their number
    """

    now_s: float
    received: int
    segments: int
    retransmitted: int
    spurious: int
    duplicates: int
    rtt_us: float
    noise: float | None
    true_rtt_sum_us: int
    acked: int
    truth: Truth


def observe(path: OddPath, make: Callable[[int], Engine]) -> list[Look]:
    """Run one flow of bulk data over the path, and look at it every 100 ms."""
    # The prober and the limit make their links in this order, too: the same seed then gives the same draws.
    simulation = Simulation(path.seed)
    sender, receiver = make(path.seed), make(path.seed)
    arrivals = FirstArrivals(receiver)
    true_rtt = TrueRtt(sender, arrivals)
    there, back = simulation.link(path.forward), simulation.link(path.backward)
    flow = simulation.flow(true_rtt, arrivals, there, back, Bulk(sender))
    if path.company_bits_per_s:
        company = Company(path.company_bits_per_s, path.company_period_s)
        simulation.flow(company, Sink(), there, back, Silent())
    looks: list[Look] = []

    def look(now_us: int) -> None:
        counts, receiving = sender.counts, receiver.receiving
        noise = sender.control.state()["noise_percent"] if sender.control else None
        looks.append(
            Look(
                now_us / SECOND,
                receiving.bytes + MSS * receiving.stored,
                counts.segments_sent,
                counts.retransmitted,
                sender.recovery.spurious,
                receiving.duplicates,
                sender.delivery.mean_rtt.value_us,
                noise / 100 if isinstance(noise, float) else None,
                true_rtt.sum_us,
                true_rtt.segments,
                flow.forward.truth.copy(),
            )
        )

    simulation.every(INTERVAL_US, look)
    simulation.run(int(path.seconds * SECOND))
    return looks
