"""Takes what a socket received: runs of datagrams, each with the time at which the kernel had it.

A blocking read, then as many more as wait already and fit the buffer: figures are made of all of them at
once. Where the kernel stamps what arrives (Linux), a busy reader does not look like a path with jitter.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.udp.datagrams import NARROW_BYTES, WIDE_BYTES, Int64, headers
from protocols.udp.reception import Reception
from protocols.udp.socket import RUN_BYTES, SOL_UDP, UDP_GRO

SO_TIMESTAMPNS = 35
"""Linux, as nearly every machine numbers it; where it is another option, no stamp comes back."""
BUFFER_BYTES = 8 * RUN_BYTES
MOST_READS = 128
STEP_US = 50_000
"""The wall clock has been set when it has moved by so much against the monotonic one."""

_STAMP = struct.Struct("@ll")  # struct timespec
_ANCILLARY_BYTES = 128


class Run(NamedTuple):
    """Datagrams of `stride` bytes each, the last perhaps shorter, that one read gave."""

    offset: int
    size: int
    stride: int
    arrived_us: float


class Inbox:
    """Reads one blocking socket into a `Reception`."""

    def __init__(self, sock: socket.socket, reception: Reception, *, wide: bool) -> None:
        self._recvmsg_into = sock.recvmsg_into
        self._reception = reception
        self._wide = wide
        self._header_bytes = WIDE_BYTES if wide else NARROW_BYTES
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._data = np.frombuffer(self._buffer, np.uint8)
        self._clock_us = _wall_minus_monotonic_us()
        self._stamped = _ask_for_stamps(sock)

    def take(self) -> list[bytes]:
        """Wait for datagrams and count them. Gives those that are too short to be counted; an empty list too
        when nothing came for a while."""
        try:
            runs = self._read()
        except (BlockingIOError, TimeoutError, ConnectionRefusedError, ConnectionResetError):
            return []  # nothing came, or something this end sent did not arrive
        if self._stamped:
            self._follow_clock()
        short: list[bytes] = []
        at = 0
        while at < len(runs):
            end = self._alike(runs, at)
            self._count(runs[at:end], short)
            at = end
        return short

    def _read(self) -> list[Run]:
        """The first run there is, and those that wait behind it."""
        runs: list[Run] = []
        offset, flags, dont_wait = 0, 0, getattr(socket, "MSG_DONTWAIT", 0)
        while offset + RUN_BYTES <= BUFFER_BYTES and len(runs) < MOST_READS:
            try:
                size, ancillary, _, _ = self._recvmsg_into(
                    [self._view[offset : offset + RUN_BYTES]], _ANCILLARY_BYTES, flags
                )
            except (BlockingIOError, TimeoutError):
                if runs:
                    break
                raise
            runs.append(self._described(offset, size, ancillary))
            offset += size
            flags = dont_wait
            if not dont_wait:
                break
        return runs

    def _described(self, offset: int, size: int, ancillary: list[tuple[int, int, bytes]]) -> Run:
        stride, arrived_us = size, 0.0
        for level, kind, value in ancillary:
            if level == SOL_UDP and kind == UDP_GRO:
                stride = int.from_bytes(value, sys.byteorder)
            elif kind == SO_TIMESTAMPNS and len(value) == _STAMP.size:
                seconds, rest_ns = _STAMP.unpack(value)
                arrived_us = seconds * 1e6 + rest_ns / 1e3 - self._clock_us
        return Run(offset, size, stride, arrived_us or time.monotonic_ns() / 1e3)

    def _alike(self, runs: list[Run], first: int) -> int:
        """The end of the runs from `first` on that can be looked at as one: no short datagram in between."""
        stride, end = runs[first].stride, first + 1
        while end < len(runs) and stride and not runs[end - 1].size % stride and runs[end].stride == stride:
            end += 1
        return end

    def _count(self, runs: list[Run], short: list[bytes]) -> None:
        first, stride = runs[0], runs[0].stride
        size = sum(run.size for run in runs)
        if not stride or stride < self._header_bytes:
            if size:
                short.append(bytes(self._view[first.offset : first.offset + stride]))
            return
        count, rest = divmod(size, stride)
        if rest >= self._header_bytes:
            count += 1
        else:
            size -= rest
        sent_us, numbers = headers(self._data, first.offset, stride, count, wide=self._wide)
        self._reception.add(numbers, _transit_us(runs, sent_us), size)

    def _follow_clock(self) -> None:
        now_us = _wall_minus_monotonic_us()
        if abs(now_us - self._clock_us) > STEP_US:
            self._clock_us = now_us
            self._reception.forget_transit()


def _transit_us(runs: list[Run], sent_us: Int64) -> NDArray[np.float64]:
    """Arrival minus departure: the datagrams of one run came together."""
    if len(runs) == 1:
        return runs[0].arrived_us - sent_us.astype(np.float64)
    arrived_us = np.array([run.arrived_us for run in runs])
    counts = [-(-run.size // run.stride) for run in runs]
    return np.repeat(arrived_us, counts)[: len(sent_us)] - sent_us


def _ask_for_stamps(sock: socket.socket) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def _wall_minus_monotonic_us() -> float:
    return (time.time_ns() - time.monotonic_ns()) / 1e3
