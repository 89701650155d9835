"""The RTT of a path without a queue of ours, measured over the same path and the same seed.

`own_rtt_us` sends sparse small datagrams. Jitter that keeps the order holds a dense stream back more
than sparse datagrams, because each datagram waits for the slowest one before it; `stream_rtt_us` measures
that with full datagrams at four fifths of the rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.simulator.application import Silent
from iperfpy.protocols.simulator.path import wire_bytes
from iperfpy.protocols.simulator.simulation import Simulation
from tests.studies.odd_paths.drawing import DATAGRAM, OddPath
from tests.studies.paths.watched import MTU, SECOND

PROBES, SIZE = 1_000, 24
"""Number of probes in the time that counts, and the payload of each: that of an acknowledgement."""
_LARGEST_LOAD = 0.02
_GOLDEN = 0.618_033_988_749_895
_STREAM_LOAD, _ANSWERED = 0.8, 4
"""Load of the stream, and the number of its datagrams that one answer acknowledges."""
_MOST_PER_SPREAD, _SPREADS, _SHORTEST_US = 1_000, 5.0, 0.5e6
"""Density of the stream at most, datagrams per width of the jitter: at more its delay hardly grows. It lasts
this many widths, or the shortest time."""


class Prober:
    """Sends one datagram per `interval_us`, at a time within the interval that does not repeat, so that
    probes keep step with nothing on the path.

    Attributes
    ----------
    rtts_us : RTT of each answered probe
    """

    def __init__(self, from_us: float, until_us: float, interval_us: float, size: int) -> None:
        self.rtts_us: list[int] = []
        self._from_us, self._until_us, self._interval_us, self._size = from_us, until_us, interval_us, size
        self._count = 0

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Take answers: each holds the time at which its probe left."""
        self.rtts_us += [now_us - int(datagram[:8].view(np.int64)[0]) for datagram in batch]

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """Send the probe that is due."""
        due_us = self.deadline_us()
        if due_us is None or now_us < due_us:
            return ()
        self._count += 1
        data = np.zeros(self._size, np.uint8)
        data[:8].view(np.int64)[0] = now_us
        return (DatagramBatch.of(data, self._size),)

    def deadline_us(self) -> int | None:
        """The time of the next probe."""
        at = self._count + self._count * _GOLDEN % 1.0
        due_us = int(self._from_us + at * self._interval_us)
        return due_us if due_us <= self._until_us else None


class Echo:
    """Answers every `each`-th datagram with its first bytes."""

    def __init__(self, each: int = 1) -> None:
        self._each, self._count = each, 0
        self._answers: list[DatagramBatch] = []

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Keep the first bytes until `transmit`."""
        for datagram in batch:
            self._count += 1
            if self._count % self._each == 0:
                self._answers.append(DatagramBatch.of(datagram[:SIZE].copy(), SIZE))

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """Send the answers."""
        answers, self._answers = self._answers, []
        return answers

    def deadline_us(self) -> int | None:
        """An echo has no timer."""
        return None


def _probe(path: OddPath, prober: Prober, echo: Echo, until_us: float) -> float:
    """Run a prober alone over the path; return the mean RTT, microseconds."""
    simulation = Simulation(path.seed)
    there, back = simulation.link(path.forward), simulation.link(path.backward)
    simulation.flow(prober, echo, there, back, Silent())
    simulation.run(int(until_us))
    return float(np.mean(prober.rtts_us))


def own_rtt_us(path: OddPath) -> float:
    """Measure the path's own mean RTT, microseconds, over the time that counts.

    A full datagram takes longer to serialise than a probe; the difference is added.
    """
    rate = path.forward.mean_bits_per_s or 0.0
    thinnest = min(rate, path.backward.mean_bits_per_s or rate)
    interval_us = 1e6 * (path.seconds - path.settled_s) / PROBES
    # On a slow path so many probes would be a load.
    interval_us = max(interval_us, wire_bytes(SIZE) * 8e6 / thinnest / _LARGEST_LOAD)
    until_us = path.seconds * SECOND
    prober = Prober(path.settled_s * SECOND, until_us, interval_us, SIZE)
    return _probe(path, prober, Echo(), until_us) + (DATAGRAM - wire_bytes(SIZE)) * 8e6 / rate


def stream_rtt_us(path: OddPath) -> float | None:
    """Measure the mean RTT of a stream without a queue, microseconds; None if the path has no jitter, so that
    a stream is held back no more than a sparse datagram."""
    spread_us = path.forward.jitter_us + path.backward.jitter_us
    if not spread_us:
        return None
    rate = path.forward.mean_bits_per_s or 0.0
    interval_us = max(DATAGRAM * 8e6 / rate / _STREAM_LOAD, spread_us / _MOST_PER_SPREAD)
    lead_us = spread_us + path.mean_rtt_us  # until the jitter has its full effect
    from_us = path.settled_s * SECOND
    until_us = from_us + lead_us + max(_SHORTEST_US, _SPREADS * spread_us, 100 * interval_us)
    prober = Prober(from_us, until_us, interval_us, MTU)
    return _probe(path, prober, Echo(_ANSWERED), until_us + 4 * path.mean_rtt_us)
