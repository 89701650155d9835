"""The seam between the engine and the socket: layers that wrap whole batches of datagrams.

    engine.transmit -> Layer.seal, inner layer first -> socket
    socket -> Layer.open, outer layer first -> engine.receive

A layer has no clock and no socket. It takes batches and returns batches of its own memory, which it uses
again in the next call: a batch is valid until then, like those of the engine.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.wire import Bytes
from iperfpy.protocols.metrics import Value


class Opened(NamedTuple):
    """The datagrams inside of a batch: those that arrived, and those that the layer computed from
    `worked_bytes`."""

    arrived: list[DatagramBatch]
    recovered: list[DatagramBatch]
    worked_bytes: int = 0


class Layer(Protocol):
    """One layer of an envelope, for both directions of one stream.

    Attributes
    ----------
    header_bytes : added to each datagram
    """

    header_bytes: int

    def seal(self, batches: list[DatagramBatch], now_us: int) -> list[DatagramBatch]:
        """Wrap the datagrams that leave now, in order. More may leave than were given."""

    def open(self, batch: DatagramBatch, now_us: int) -> Opened:
        """Unwrap the datagrams of a batch that arrived. Nothing in them can raise: those that are not of this
        layer are counted and dropped."""

    def figures(self) -> dict[str, Value]:
        """Counters of both directions, by the keys of `kcp_metrics.ENVELOPE_METRICS`."""


class Arena:
    """Memory for the batches of one call, used again by the next one.

    Fresh memory of a megabyte costs more than the copy into it: the kernel clears each page.
    """

    __slots__ = ("_memory", "_used")

    def __init__(self) -> None:
        self._memory = np.empty(1 << 16, np.uint8)
        self._used = 0

    def reset(self) -> None:
        """Begin the next call: earlier batches become invalid."""
        self._used = 0

    def rows(self, count: int, width: int) -> Bytes:
        """Uninitialised memory of shape (count, width), uint8, contiguous."""
        size = count * width
        if self._used + size > len(self._memory):
            # Earlier batches of this call keep the memory that they are views of.
            self._memory = np.empty(max(2 * len(self._memory), size), np.uint8)
            self._used = 0
        # Rows begin at multiples of 64 bytes, for the vector instructions of numpy.
        start, self._used = self._used, -(-(self._used + size) // 64) * 64
        return self._memory[start : start + size].reshape(count, width)


def batch_of(rows: Bytes) -> DatagramBatch:
    """The batch of rows (count, width), contiguous: a datagram each."""
    count, width = rows.shape
    return DatagramBatch(rows.reshape(-1), width, count, width)


def uniform_parts(batch: DatagramBatch) -> list[Bytes]:
    """The datagrams of a batch as rows of equal length, (count, width) each, in order: views."""
    stride, count = batch.stride, batch.count
    full = count if batch.last_size == stride else count - 1
    parts = []
    if full:
        parts.append(batch.data[: full * stride].reshape(full, stride))
    if full < count:
        parts.append(batch.data[full * stride : batch.size].reshape(1, -1))
    return parts
