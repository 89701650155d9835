"""Conversations in a batch: the conv is the first four bytes of a datagram, little endian, as in KCP."""

from __future__ import annotations

from collections.abc import Container, Iterator

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch

CONV_BYTES = 4
NO_CONV = -1


def by_conversation(
    batch: DatagramBatch, known: Container[int] | None = None
) -> Iterator[tuple[int, DatagramBatch]]:
    """Split `batch` into views of neighbours with equal conv, in order. Datagrams too short for a conv have
    the conv -1. With `known`, datagrams of other convs are left out."""
    stride, count, data = batch.stride, batch.count, batch.data
    named = count if batch.last_size >= CONV_BYTES else count - 1
    if stride < CONV_BYTES or named == 0:
        yield NO_CONV, batch
        return
    # All convs as one column: a batch of 180 datagrams with one conv, the usual case, costs one comparison.
    convs = np.ndarray((named,), "<u4", data, strides=(stride,))
    starts = [0, *(np.flatnonzero(convs[1:] != convs[:-1]) + 1).tolist()]
    for conv, start, end in zip(convs[starts].tolist(), starts, [*starts[1:], named], strict=True):
        if known is None or conv in known:
            last = batch.last_size if end == count else stride
            yield conv, DatagramBatch(data[start * stride :], stride, end - start, last)
    if named < count:
        yield NO_CONV, DatagramBatch(data[named * stride :], stride, 1, batch.last_size)
