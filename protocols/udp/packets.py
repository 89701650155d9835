"""iperf3's datagrams: a header with time and number, then filler up to the block length.

    offset 0   u32 big-endian   seconds           of a monotonic clock of the sender
           4   u32 big-endian   microseconds
           8   u32 big-endian   number, first 1   (64-bit counters: u64)
          12   filler                             (64-bit counters: 16)

All work is done per batch. Outgoing datagrams stand ready in one buffer, where one numpy operation numbers
all of them; a second one stamps a GSO batch of neighbours, which leaves as it is. Received datagrams are read
as columns with the stride of the batch.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import MAX_BYTES, MAX_DATAGRAMS
from iperfpy.protocols.units import SECOND_US

NARROW_BYTES, WIDE_BYTES = 12, 16
NUMBER_BITS = 62
"""Low bits kept of a 64-bit number, so that sums of numbers fit into 64 bits as well."""
BUFFERED_BYTES = 512 * 1024
"""Size of the buffer of outgoing datagrams: it should stay in the processor's cache."""
NOISE_BYTES = 64 * 1024

Int64 = NDArray[np.int64]
_STAMP, _AS_STORED = struct.Struct(">II"), struct.Struct("<Q")


class Outgoing:
    """Datagrams of one stream, ready to leave in the order of their numbers.

        view = outgoing.stamp(count, now_us)    the next datagrams, at most `count`, as one GSO batch
        outgoing.advance(sent)                  so many left; the others keep their numbers

    Parameters
    ----------
    block_bytes : length of a datagram, at least its header
    wide : True for numbers of 64 bits
    repeating : True for a filler of 0123456789 again and again, False for random bytes

    Attributes
    ----------
    sent : datagrams that left
    batch_size : datagrams in the longest GSO batch
    """

    def __init__(self, block_bytes: int, *, wide: bool = False, repeating: bool = False) -> None:
        header_bytes = WIDE_BYTES if wide else NARROW_BYTES
        if not header_bytes <= block_bytes <= MAX_BYTES:
            raise ValueError(f"a datagram has {header_bytes} to {MAX_BYTES} bytes, not {block_bytes}")
        self.block_bytes = block_bytes
        self.batch_size = max(1, min(MAX_DATAGRAMS, MAX_BYTES // block_bytes))
        batches = max(1, BUFFERED_BYTES // (self.batch_size * block_bytes))
        self._slots = batches * self.batch_size
        self._buffer = bytearray(self._slots * block_bytes)
        self._view = memoryview(self._buffer)
        _fill(np.frombuffer(self._buffer, np.uint8).reshape(self._slots, block_bytes), repeating)
        self._stamps = self._column(0, "<u8")
        # Whole batches are sliced once: a slice per send costs as much as the rest of `stamp`.
        self._batches = [
            (self._view[first * block_bytes : last * block_bytes], self._stamps[first:last])
            for first, last in pairwise(range(0, self._slots + 1, self.batch_size))
        ]
        self._numbers = self._column(8, ">u8" if wide else ">u4")
        self._next: NDArray[np.unsignedinteger] = np.arange(
            1, self._slots + 1, dtype=np.uint64 if wide else np.uint32
        )
        self._numbers[:] = self._next
        self._at = 0
        self.sent = 0

    def _column(self, offset: int, dtype: str) -> NDArray[np.unsignedinteger]:
        return np.ndarray((self._slots,), dtype, self._buffer, offset, (self.block_bytes,))

    def stamp(self, count: int, now_us: int) -> memoryview:
        """The next datagrams, at most `count`, with the time in their headers. Valid until `advance`."""
        seconds, rest_us = divmod(now_us, SECOND_US)
        # Both words as one number, in the order of bytes of the wire: one `fill` stamps a column.
        stamp = _AS_STORED.unpack(_STAMP.pack(seconds & 0xFFFF_FFFF, rest_us))[0]
        first = self._at
        index, within = divmod(first, self.batch_size)
        if not within and count == self.batch_size:
            view, stamps = self._batches[index]
        else:
            last = min(first + count, self._slots)
            view = self._view[first * self.block_bytes : last * self.block_bytes]
            stamps = self._stamps[first:last]
        stamps.fill(stamp)
        return view

    def advance(self, sent: int) -> None:
        """Count the first `sent` of the stamped datagrams as gone."""
        self.sent += sent
        self._at += sent
        if self._at >= self._slots:
            self._at = 0
            self._next += self._slots  # wraps as the number on the wire does
            self._numbers[:] = self._next


def _fill(rows: NDArray[np.uint8], repeating: bool) -> None:
    """Fill every row, headers included: they are overwritten later."""
    if repeating:
        rows[:] = np.frombuffer(b"0123456789", np.uint8)[np.arange(rows.shape[1]) % 10]
        return
    noise = np.frombuffer(os.urandom(NOISE_BYTES), np.uint8)
    rows.reshape(-1)[:] = np.resize(noise, rows.size)


def headers(
    data: memoryview | bytes | bytearray, stride: int, count: int, *, wide: bool = False
) -> tuple[Int64, Int64]:
    """Read the headers of `count` datagrams, which begin `stride` bytes apart in `data`.

    Returns
    -------
    sent_us : int64 array of shape (count,)
        Departure by the sender's clock.
    numbers : int64 array of shape (count,)
        As on the wire; 64-bit ones keep their low `NUMBER_BITS`.
    """
    words = np.ndarray((count, 4 if wide else 3), ">u4", data, 0, (stride, 4)).astype(np.int64)
    sent_us: Int64 = words[:, 0] * SECOND_US + words[:, 1]
    if not wide:
        return sent_us, words[:, 2]
    numbers: Int64 = (words[:, 2] & (1 << NUMBER_BITS - 32) - 1) << 32 | words[:, 3]
    return sent_us, numbers


class Columns:
    """Datagrams of one size at the beginning of a buffer, as columns.

    Attributes
    ----------
    count, size : datagrams with a whole header, and their bytes
    stamps, numbers : functions that return the fields of all headers, as on the wire, concatenated
    """

    __slots__ = ("count", "numbers", "size", "stamps")

    def __init__(self, data: bytearray, size: int, stride: int, *, wide: bool = False) -> None:
        self.count, self.size = whole_datagrams(size, stride, wide=wide)
        number_bytes = 8 if wide else 4
        self.stamps = np.ndarray((self.count,), "V8", data, 0, (stride,)).tobytes
        self.numbers = np.ndarray((self.count,), f"V{number_bytes}", data, 8, (stride,)).tobytes


def whole_datagrams(size: int, stride: int, *, wide: bool = False) -> tuple[int, int]:
    """(count, bytes) of the datagrams in `size` bytes that have a whole header; the last may be shorter than
    `stride`."""
    count, rest_bytes = divmod(size, stride)
    return (
        (count + 1, size)
        if rest_bytes >= (WIDE_BYTES if wide else NARROW_BYTES)
        else (count, size - rest_bytes)
    )
