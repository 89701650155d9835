"""Two KCP engines joined in memory, in virtual time: the cost of the engine alone.

A link of one segment per microsecond and a round trip of W microseconds keep W segments in flight. Every step
carries the same number of datagrams for any W, so two measurements differ only in their window.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from iperfpy.protocols.datagrams.batch import MAX_BYTES, MAX_DATAGRAMS, DatagramBatch
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.wire import HEADER_BYTES, Bytes

Kept = tuple[Bytes, int]
"""The part of a batch that the path keeps, and its stride: whole datagrams (n,), or headers of full ones (n,
24)."""


@dataclass
class Costs:
    """Processor time in nanoseconds, and the number of segments acknowledged meanwhile."""

    write: int = 0
    transmit: int = 0
    acknowledge: int = 0
    receive: int = 0
    answer: int = 0
    segments: int = 0

    def per_segment_us(self) -> dict[str, float]:
        """Microseconds per acknowledged segment: per part, at the sender, and at both ends."""
        parts = {
            name: getattr(self, name) / 1000 / self.segments
            for name in ("write", "transmit", "acknowledge", "receive", "answer")
        }
        sender = parts["write"] + parts["transmit"] + parts["acknowledge"]
        return {**parts, "sender": sender, "both": sum(parts.values())}


@dataclass
class MemoryPath:
    """Parameters
    ----------
    window : segments in flight that the path holds
    loss : probability that a data datagram is dropped
    """

    sender: Engine
    receiver: Engine
    window: int
    loss: float = 0.0
    seed: int = 1
    now_us: int = 1_000_000
    costs: Costs = field(default_factory=Costs)

    def __post_init__(self) -> None:
        options = self.sender.options
        self._step = min(MAX_DATAGRAMS, MAX_BYTES // options.mtu)
        self._block = memoryview(bytes(self._step * self.sender.sending.mss))
        self._data: deque[tuple[int, Kept]] = deque()
        self._acks: deque[tuple[int, Kept]] = deque()
        self._scratch = np.zeros((MAX_DATAGRAMS, options.mtu), np.uint8)
        self._link_free_us = 0
        self._random = np.random.default_rng(self.seed)

    @property
    def acknowledged(self) -> int:
        return self.sender.sending.una

    def carry(self, segments: int) -> Costs:
        """Run until `segments` more segments are acknowledged, and give the cost of that."""
        self.costs = Costs()
        first = self.acknowledged
        while self.acknowledged - first < segments:
            self.now_us += self._step
            self._deliver_acks()
            self._send()
            self._deliver_data()
        self.costs.segments = self.acknowledged - first
        return self.costs

    def _send(self) -> None:
        before = time.thread_time_ns()
        writable = self.sender.writable()
        if writable > 0:
            self.sender.write(self._block[:writable], self.now_us)
        written = time.thread_time_ns()
        batches = self.sender.transmit(self.now_us)
        self.costs.write += written - before
        self.costs.transmit += time.thread_time_ns() - written
        for batch in batches:
            self._link_free_us = max(self._link_free_us, self.now_us) + batch.count
            kept = self._keep(batch, self.loss)
            if kept is not None:
                self._data.append((self._link_free_us + self.window // 2, kept))

    def _keep(self, batch: DatagramBatch, loss: float) -> Kept | None:
        """Copy the part of a batch that travels. Engines reuse their memory, so the path must copy; copying
        whole datagrams would cost more than the engine, so of full datagrams only the headers are kept."""
        if batch.stride != self._scratch.shape[1] or batch.last_size != batch.stride:
            return batch.data.copy(), batch.stride
        headers = batch.data.reshape(batch.count, batch.stride)[:, :HEADER_BYTES]
        if not loss:
            return headers.copy(), batch.stride
        headers = headers[self._random.random(batch.count) >= loss]
        return (headers, batch.stride) if len(headers) else None

    def _arrive(self, kept: Kept) -> DatagramBatch:
        """Give the batch as a socket would deliver it, in a buffer that is reused."""
        data, stride = kept
        if data.ndim == 1:
            return DatagramBatch.of(data, stride)
        self._scratch[: len(data), :HEADER_BYTES] = data
        return DatagramBatch(self._scratch.reshape(-1)[: len(data) * stride], stride, len(data), stride)

    def _deliver_data(self) -> None:
        delivered = False
        while self._data and self._data[0][0] <= self.now_us:
            batch = self._arrive(self._data.popleft()[1])
            # Only calls of the engine are timed, not the copies that the path makes.
            before = time.thread_time_ns()
            self.receiver.receive(batch, self.now_us)
            self.costs.receive += time.thread_time_ns() - before
            delivered = True
        if not delivered:
            return
        before = time.thread_time_ns()
        batches = self.receiver.transmit(self.now_us)
        self.costs.answer += time.thread_time_ns() - before
        for batch in batches:
            arrives_us = self.now_us + self.window - self.window // 2
            self._acks.append((arrives_us, (batch.data.copy(), batch.stride)))

    def _deliver_acks(self) -> None:
        while self._acks and self._acks[0][0] <= self.now_us:
            batch = self._arrive(self._acks.popleft()[1])
            before = time.thread_time_ns()
            self.sender.receive(batch, self.now_us)
            self.costs.acknowledge += time.thread_time_ns() - before
