"""Endpoints without a protocol, to test the simulator itself: a sender and a recording receiver."""

from __future__ import annotations

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch


class Emitter:
    """Sends `burst` numbered datagrams of `size` bytes every `interval_us`, `total` in all."""

    def __init__(self, size: int, interval_us: float, burst: int = 1, total: int = 1 << 62) -> None:
        self._size, self._interval_us, self._burst, self._left = size, interval_us, burst, total
        self._rounds = 0
        self.sent = 0
        self.arrivals = 0

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        self.arrivals += batch.count

    def deadline_us(self) -> int | None:
        return int(self._rounds * self._interval_us) if self._left else None

    def transmit(self, now_us: int) -> list[DatagramBatch]:
        due = self.deadline_us()
        if due is None or now_us < due:
            return []
        self._rounds += 1
        count = min(self._burst, self._left)
        self._left -= count
        rows = np.zeros((count, self._size), np.uint8)
        rows[:, :8].view(np.int64)[:, 0] = np.arange(self.sent, self.sent + count)
        self.sent += count
        return [DatagramBatch.of(rows.reshape(-1), self._size)]


class Catcher:
    """Records number and arrival time of every datagram; answers each with `echo` bytes unless that is 0."""

    def __init__(self, echo: int = 0) -> None:
        self._echo = echo
        self._unanswered = 0
        self.numbers: list[int] = []
        self.times_us: list[int] = []
        self.batches: list[int] = []
        self.altered = 0

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        rows = batch.data[: batch.count * batch.stride].reshape(batch.count, batch.stride)
        self.numbers += rows[:, :8].copy().view(np.int64)[:, 0].tolist()
        self.times_us += [now_us] * batch.count
        self.batches.append(batch.count)
        if rows[:, 8:].any():
            self.altered += int(rows[:, 8:].any(axis=1).sum())
        self._unanswered += batch.count

    def deadline_us(self) -> int | None:
        return None

    def transmit(self, now_us: int) -> list[DatagramBatch]:
        if not self._echo or not self._unanswered:
            return []
        count, self._unanswered = self._unanswered, 0
        return [DatagramBatch.of(np.zeros(count * self._echo, np.uint8), self._echo)]
