"""The RTT of a path without load: a sparse flow of small datagrams, over the same path and the same seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.simulator.application import Silent
from iperfpy.protocols.simulator.path import wire_bytes
from iperfpy.protocols.simulator.simulation import Simulation
from tests.studies.odd_paths.drawing import DATAGRAM, OddPath
from tests.studies.paths.watched import SECOND

PROBES, SIZE = 1_000, 24
"""Number of probes in the time that counts, and the payload of each: that of an acknowledgement."""
_LARGEST_LOAD = 0.02
_GOLDEN = 0.618_033_988_749_895


class Prober:
    """Sends one datagram per `interval_us`, at a time within the interval that does not repeat, so that
    probes keep step with nothing on the path.

    Attributes
    ----------
    rtts_us : RTT of each answered probe
    """

    def __init__(self, from_us: int, interval_us: float) -> None:
        self.rtts_us: list[int] = []
        self._from_us, self._interval_us, self._count = from_us, interval_us, 0

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Take answers: each holds the time at which its probe left."""
        for datagram in batch:
            self.rtts_us.append(now_us - int(datagram[:8].view(np.int64)[0]))

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """Send the probe that is due."""
        if now_us < self.deadline_us():
            return ()
        self._count += 1
        data = np.zeros(SIZE, np.uint8)
        data[:8].view(np.int64)[0] = now_us
        return (DatagramBatch.of(data, SIZE),)

    def deadline_us(self) -> int:
        """The time of the next probe."""
        at = self._count + self._count * _GOLDEN % 1.0
        return int(self._from_us + at * self._interval_us)


class Echo:
    """Sends every datagram back."""

    def __init__(self) -> None:
        self._answers: deque[DatagramBatch] = deque()

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Keep a copy until `transmit`."""
        self._answers.append(DatagramBatch(batch.data.copy(), batch.stride, batch.count, batch.last_size))

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """Send the copies."""
        answers = tuple(self._answers)
        self._answers.clear()
        return answers

    def deadline_us(self) -> int | None:
        """An echo has no timer."""
        return None


def own_rtt_us(path: OddPath) -> float:
    """Measure the path's own mean RTT, microseconds, over the time that counts.

    A full datagram takes longer to serialise than a probe; the difference is added.
    """
    simulation = Simulation(path.seed)
    there, back = simulation.link(path.forward), simulation.link(path.backward)
    rate = path.forward.rate_bits_per_s or 0.0
    thinnest = min(rate, path.backward.rate_bits_per_s or rate)
    interval_us = 1e6 * (path.seconds - path.settled_s) / PROBES
    # On a slow path so many probes would be a load.
    interval_us = max(interval_us, wire_bytes(SIZE) * 8e6 / thinnest / _LARGEST_LOAD)
    prober = Prober(int(path.settled_s * SECOND), interval_us)
    simulation.flow(prober, Echo(), there, back, Silent())
    simulation.run(int(path.seconds * SECOND))
    service_us = (DATAGRAM - wire_bytes(SIZE)) * 8e6 / rate
    return float(np.mean(prober.rtts_us)) + service_us
