"""iperf3's datagrams: a header that says when and which, then filler up to the block length.

    offset 0   u32 big-endian   seconds           of a monotonic clock of the sender's
           4   u32 big-endian   microseconds
           8   u32 big-endian   number, first 1   (64-bit counters: u64)
          12   filler                             (64-bit counters: 16)

Nothing here is done per datagram. Outgoing datagrams stand ready in one buffer, numbered in one step for
all of them; a run of neighbours gets its time in one more, and leaves as it is. Received ones are read as
columns with the stride of the run.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from protocols.udp.batch import MAX_BYTES, MAX_DATAGRAMS

NARROW_BYTES, WIDE_BYTES = 12, 16
NUMBER_BITS = 62
"""What is kept of a 64-bit number, so that sums of numbers fit into 64 bits as well."""
BUFFERED_BYTES = 512 * 1024
"""About what fits into a processor's cache beside everything else."""
NOISE_BYTES = 64 * 1024
SECOND_US = 1_000_000

Int64 = NDArray[np.int64]


class Outgoing:
    """Datagrams of one stream, ready to leave in the order of their numbers.

        view = outgoing.stamp(count, now_us)    the next ones, at most `count`, as they go to the kernel
        outgoing.advance(sent)                  those that left; the others keep their numbers

    Parameters
    ----------
    block_bytes : length of a datagram, at least its header
    wide : whether numbers have 64 bits
    repeating : whether the filler is 0123456789 again and again, or noise

    Attributes
    ----------
    sent : datagrams that left
    longest_run : datagrams that the kernel takes at once
    """

    def __init__(self, block_bytes: int, *, wide: bool = False, repeating: bool = False) -> None:
        header_bytes = WIDE_BYTES if wide else NARROW_BYTES
        if not header_bytes <= block_bytes <= MAX_BYTES:
            raise ValueError(f"a datagram has {header_bytes} to {MAX_BYTES} bytes, not {block_bytes}")
        self.block_bytes = block_bytes
        self.longest_run = max(1, min(MAX_DATAGRAMS, MAX_BYTES // block_bytes))
        runs = max(1, BUFFERED_BYTES // (self.longest_run * block_bytes))
        self._slots = runs * self.longest_run
        self._buffer = bytearray(self._slots * block_bytes)
        self._view = memoryview(self._buffer)
        _fill(np.frombuffer(self._buffer, np.uint8).reshape(self._slots, block_bytes), repeating)
        self._stamps = self._column(0, "<u8")
        self._numbers = self._column(8, ">u8" if wide else ">u4")
        self._mask = 2**64 - 1 if wide else 2**32 - 1
        self._steps = np.arange(self._slots, dtype=np.uint64)
        self._at = 0
        self.sent = 0
        self._number()

    def _column(self, offset: int, dtype: str) -> NDArray[np.unsignedinteger]:
        return np.ndarray((self._slots,), dtype, self._buffer, offset, (self.block_bytes,))

    def _number(self) -> None:
        self._numbers[:] = (self._steps + np.uint64(self.sent + 1)) & np.uint64(self._mask)

    def stamp(self, count: int, now_us: int) -> memoryview:
        """The next datagrams, at most `count`, with the time in their headers. Valid until `advance`."""
        first = self._at
        last = min(first + count, self._slots)
        seconds, rest_us = divmod(now_us, SECOND_US)
        stamp = (seconds & 0xFFFF_FFFF) << 32 | rest_us
        self._stamps[first:last] = int.from_bytes(stamp.to_bytes(8, "big"), "little")
        return self._view[first * self.block_bytes : last * self.block_bytes]

    def advance(self, sent: int) -> None:
        """So many of those stamped have left."""
        self.sent += sent
        self._at += sent
        if self._at >= self._slots:
            self._at = 0
            self._number()


def _fill(rows: NDArray[np.uint8], repeating: bool) -> None:
    """Filler for every row, headers included: those are written over."""
    if repeating:
        rows[:] = np.frombuffer(b"0123456789", np.uint8)[np.arange(rows.shape[1]) % 10]
        return
    noise = np.frombuffer(os.urandom(NOISE_BYTES), np.uint8)
    rows.reshape(-1)[:] = np.resize(noise, rows.size)


def headers(
    data: NDArray[np.uint8] | bytes | bytearray, offset: int, stride: int, count: int, *, wide: bool
) -> tuple[Int64, Int64]:
    """What `count` datagrams say, `stride` bytes apart, the first at `offset`.

    Returns
    -------
    sent_us : int64 array of shape (count,)
        The sender's clock.
    numbers : int64 array of shape (count,)
        As on the wire; 64-bit ones keep their low `NUMBER_BITS`.
    """
    words = np.ndarray((count, 4 if wide else 3), ">u4", data, offset, (stride, 4)).astype(np.int64)
    sent_us = words[:, 0] * SECOND_US + words[:, 1]
    if not wide:
        return sent_us, words[:, 2]
    return sent_us, (words[:, 2] & (1 << NUMBER_BITS - 32) - 1) << 32 | words[:, 3]
