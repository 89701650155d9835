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

_FEWEST_ROWS = 8
"""Rows of one width for which `SlicedRows` keeps memory and slices."""


class Opened(NamedTuple):
    """The datagrams inside of a batch: those that arrived, and those that the layer computed, which took as
    long as it takes to open `worked_bytes`."""

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


class SlicedRows:
    """Memory for rows of one width, used again by the next call, and slices of each row, which are made once.

    A slice of a memoryview takes a fifth of the time of an encryption, a copy of a datagram much less. A few
    rows of another width get memory and slices of their own, so that the last datagram of a batch, which may
    have any length, leaves those of the others alone.
    """

    __slots__ = ("_parts", "_rows", "_slices", "_used")

    def __init__(self) -> None:
        self._rows, self._used = np.empty((0, 0), np.uint8), 0
        self._parts: tuple[slice, ...] = ()
        self._slices: list[list[memoryview]] = []  # of each part, in the order of the rows

    def reset(self) -> None:
        """Begin the next call: earlier rows become invalid."""
        self._used = 0

    def take(self, count: int, width: int, *parts: slice) -> tuple[Bytes, list[list[memoryview]]]:
        """Uninitialised memory of shape (count, width), uint8, contiguous, and for each part its slices of
        the rows, in order."""
        is_known = width == self._rows.shape[1] and parts == self._parts
        if count < _FEWEST_ROWS and not is_known:
            few = np.empty((count, width), np.uint8)
            return few, _sliced(few, parts)
        if not is_known or self._used + count > len(self._rows):
            # Earlier rows of this call keep the memory that they are views of.
            self._rows, self._used = np.empty((max(2 * count, 2 * _FEWEST_ROWS), width), np.uint8), 0
            self._parts, self._slices = parts, _sliced(self._rows, parts)
        start, self._used = self._used, self._used + count
        return self._rows[start : self._used], [each[start : self._used] for each in self._slices]


def _sliced(rows: Bytes, parts: tuple[slice, ...]) -> list[list[memoryview]]:
    whole = [row.data for row in rows]
    return [[row[part] for row in whole] for part in parts]


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
