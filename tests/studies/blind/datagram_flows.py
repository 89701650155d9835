"""The datagram flows of the experiment: paced streams and echoes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.simulator.simulation import Endpoint

Int64s = NDArray[np.int64]
_QUANTUM_US = 1_000
_GOLDEN = 0.618_033_988_749_895
HEADERS = 28
SMALL = 36
"""Payload of an echo."""


class Stream:
    """Sends numbered datagrams at a rate, from `start_us` on. Rows carry (number, time)."""

    def __init__(self, rate: float, packet_bytes: int, start_us: int, seconds: float) -> None:
        self._size = packet_bytes - HEADERS
        self._each_us = packet_bytes * 8e6 / rate
        self._start_us = start_us
        self.count = max(1, int(seconds * 1e6 / self._each_us))
        self.times: list[Int64s] = []
        self._sent = 0

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Ignore answers."""

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """Send all that is due."""
        due = min(self.count, int((now_us - self._start_us) / self._each_us) + 1) - self._sent
        if now_us < self._start_us or due <= 0:
            return ()
        rows = np.zeros((due, self._size), np.uint8)
        numbers = np.arange(self._sent, self._sent + due)
        rows[:, :8] = numbers.view(np.uint8).reshape(due, 8)
        self._sent += due
        self.times.append(np.full(due, now_us))
        return [DatagramBatch.of(rows[at : at + 40].reshape(-1), self._size) for at in range(0, due, 40)]

    def deadline_us(self) -> int | None:
        """The time of the next datagram, not before the quantum is over."""
        if self._sent >= self.count:
            return None
        due_us = self._start_us + self._sent * self._each_us
        if self._sent and self._each_us < _QUANTUM_US:
            due_us = max(due_us, float(self.times[-1][-1]) + _QUANTUM_US)
        return int(due_us) + 1


class Collector:
    """Notes number and time of each arrival."""

    def __init__(self) -> None:
        self._numbers: list[Int64s] = []
        self._times: list[Int64s] = []

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Note the arrivals of a batch."""
        rows = batch.data[: batch.count * batch.stride].reshape(batch.count, batch.stride)
        numbers = np.ascontiguousarray(rows[:, :8]).view(np.int64).ravel()
        self._numbers.append(numbers.copy())
        self._times.append(np.full(len(numbers), now_us))

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """Send nothing."""
        return ()

    def deadline_us(self) -> int | None:
        """No timer."""
        return None

    @property
    def arrivals(self) -> tuple[Int64s, Int64s]:
        """Numbers, and times in microseconds, (n,) each, in order of arrival."""
        if not self._numbers:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate(self._numbers), np.concatenate(self._times)


class Echoes:
    """Sends a small datagram per interval; `rtts_us` of each answer. Never in step with anything."""

    def __init__(self, start_us: int, seconds: float, per_s: float, size: int = SMALL) -> None:
        self.rtts_us: list[int] = []
        self.answered_us: list[int] = []
        self._start_us, self._interval_us, self._size = start_us, 1e6 / per_s, size
        self._most, self.sent = int(seconds * per_s), 0

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Take answers."""
        self.answered_us.append(now_us)
        self.rtts_us += [now_us - int(datagram[:8].view(np.int64)[0]) for datagram in batch]

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """Send the echo that is due."""
        due_us = self.deadline_us()
        if due_us is None or now_us < due_us:
            return ()
        self.sent += 1
        data = np.zeros(self._size, np.uint8)
        data[:8].view(np.int64)[0] = now_us
        return (DatagramBatch.of(data, self._size),)

    def deadline_us(self) -> int | None:
        """The time of the next echo."""
        if self.sent >= self._most:
            return None
        return int(self._start_us + (self.sent + self.sent * _GOLDEN % 1.0) * self._interval_us)


class Mirror:
    """Sends every datagram back."""

    def __init__(self) -> None:
        self._answers: list[DatagramBatch] = []

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Keep a copy until `transmit`."""
        for datagram in batch:
            self._answers.append(DatagramBatch.of(datagram.copy(), len(datagram)))

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """Send the answers."""
        answers, self._answers = self._answers, []
        return answers

    def deadline_us(self) -> int | None:
        """No timer."""
        return None


class SlowReader:
    """A receiving machine that takes so many packets a second; its socket buffer has room for some more.

    Attributes
    ----------
    dropped : packets for which there was no room
    """

    def __init__(self, endpoint: Endpoint, packets_per_s: float, room: int) -> None:
        self.dropped = 0
        self._endpoint, self._per_us, self._room = endpoint, packets_per_s / 1e6, room
        self._waiting, self._at_us = 0.0, 0

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Take the first packets of a batch, as far as there is room."""
        self._waiting = max(0.0, self._waiting - (now_us - self._at_us) * self._per_us)
        self._at_us = now_us
        taken = min(batch.count, max(0, int(self._room - self._waiting)))
        self.dropped += batch.count - taken
        self._waiting += taken
        if taken:
            self._endpoint.receive(batch.head(taken), now_us)

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        """Send what the endpoint sends."""
        return self._endpoint.transmit(now_us)

    def deadline_us(self) -> int | None:
        """The time at which the endpoint is due."""
        return self._endpoint.deadline_us()
