"""Parts of a batch are views, and together they are the batch."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.protocols.datagrams.batch import DatagramBatch

STRIDE = 10


def _batch(count: int, last_size: int) -> DatagramBatch:
    """Make a batch in a buffer that is longer than the batch, as receive buffers are."""
    data = np.arange((count - 1) * STRIDE + last_size + 7, dtype=np.uint8)
    return DatagramBatch(data, STRIDE, count, last_size)


def _datagrams(batch: DatagramBatch) -> list[bytes]:
    return [datagram.tobytes() for datagram in batch]


@pytest.mark.parametrize("last_size", [STRIDE, 3])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_head_and_rest_make_up_the_batch(count: int, last_size: int) -> None:
    batch = _batch(count, last_size)
    whole = _datagrams(batch)
    assert len(whole) == count
    for cut in range(1, count):
        assert _datagrams(batch.head(cut)) == whole[:cut]
        assert _datagrams(batch.rest(cut)) == whole[cut:]
    assert _datagrams(batch.head(count)) == _datagrams(batch.rest(0)) == whole


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_head_and_rest_copy_nothing(cut: int) -> None:
    batch = _batch(5, 3)
    for part in (batch.head(cut), batch.rest(cut)):
        assert np.shares_memory(part.data, batch.data)
        assert len(part.data) == part.size


def test_a_rest_of_one_datagram_has_its_size_as_stride() -> None:
    last = _batch(4, 3).rest(3)
    assert (last.stride, last.count, last.last_size) == (3, 1, 3)
