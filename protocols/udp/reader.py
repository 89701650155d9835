"""Reads a socket into a `Reception`: batches of datagrams, each with the time at which it arrived.

Datagrams that come one by one are read until the socket is empty or the buffer full, so that all of them are
counted at once. The kernel's arrival stamps (Linux) keep a busy reader from looking like a path with jitter.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.arrival_time import (
    TIMESPEC,
    ask_for_stamps,
    wall_minus_monotonic_us,
)
from iperfpy.protocols.datagrams.datagram_socket import GRO_BYTES
from iperfpy.protocols.operating_system import (
    ANCILLARY_BYTES,
    NOT_WAITING,
    SO_TIMESTAMPNS,
    SOL_UDP,
    UDP_GRO,
    monotonic_ns,
    receive_into,
)
from iperfpy.protocols.path_events import Consequence, Moment, PathEvents, consequence
from iperfpy.protocols.udp.packets import NARROW_BYTES, WIDE_BYTES, Columns, headers, whole_datagrams
from iperfpy.protocols.udp.reception import Reception

BUFFER_BYTES = 4 * GRO_BYTES
LAST_ROOM = BUFFER_BYTES - GRO_BYTES
MOST_SINGLES = 128
MOST_ROOMS, MOST_COLUMNS = 256, 256
CLOCK_EVERY = 64
STEP_US = 50_000
"""The wall clock was set if it has moved by this much against the monotonic clock."""

_SENT = struct.Struct(">II")


class ShortDatagram(NamedTuple):
    """A datagram too short to be counted (a call or a probe), and the time since it arrived."""

    data: bytes
    age_us: float


class DatagramReader:
    """Reads one non-blocking socket into a `Reception`.

    A GRO batch is counted as soon as it is read, while it is in the processor's cache. Datagrams that come
    one by one are read behind each other, and counted together.

    Attributes
    ----------
    is_empty : True if the last `take` found the socket empty in the end
    """

    def __init__(self, sock: socket.socket, reception: Reception, events: PathEvents, *, wide: bool) -> None:
        self._receive_into = receive_into(sock)
        self._reception = reception
        self._events = events
        self._wide = wide
        self._header_bytes = WIDE_BYTES if wide else NARROW_BYTES
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._into: dict[int, list[memoryview]] = {}
        self._begin = self._room(0)
        self._columns: dict[tuple[int, int], Columns] = {}
        self._clock_us = wall_minus_monotonic_us()
        self._stamped = ask_for_stamps(sock)
        self._takes = 0
        self.is_empty = False

    def take(self) -> ShortDatagram | None:
        """Count datagrams that wait: one GRO batch, or those that came one by one. Returns a datagram that is
        too short to be counted, if any (one of several), else None. Raises `OSError` if the socket cannot be
        used on."""
        self.is_empty = False
        try:
            size, stride, arrived_us = self._read(self._begin, 0)
        except OSError as error:
            self._note(error)
            return None
        self._takes += 1
        if self._stamped and not self._takes % CLOCK_EVERY:
            arrived_us += self._follow_clock()
        # The quick way first: a sender in a steady state repeats one shape; its columns are kept.
        columns = self._columns.get((size, stride))
        if columns is None:
            if stride < self._header_bytes:
                return self._short(0, stride, arrived_us)
            columns = self._columns_of(size, stride)
        if columns.count == 1:
            rest = self._rest(0, size, columns.size, arrived_us)
            return self._take_singles(stride, arrived_us) or rest
        if not self._count_alike(columns, arrived_us):
            return self._count(0, size, stride, arrived_us)
        return self._rest(0, size, columns.size, arrived_us)

    def _take_singles(self, stride: int, arrived_us: float) -> ShortDatagram | None:
        """Count the datagram of `stride` bytes that was read, with those of its size that wait behind it."""
        arrivals_us, odd = [arrived_us], None
        while len(arrivals_us) < MOST_SINGLES and len(arrivals_us) * stride <= LAST_ROOM:
            try:
                read = self._read(self._room(len(arrivals_us) * stride), NOT_WAITING)
            except OSError as error:
                self._note(error)
                break
            # A datagram of another size, or a GRO batch, cannot join the column: it is counted after it.
            if read[:2] != (stride, stride):
                odd = read
                break
            arrivals_us.append(read[2])
        end = len(arrivals_us) * stride
        if end > stride:
            self._count(0, end, stride, np.array(arrivals_us))
        elif not self._count_alike(self._columns_of(stride, stride), arrived_us):
            self._count(0, stride, stride, arrived_us)
        return self._count(end, *odd) if odd else None

    def _note(self, error: OSError) -> None:
        """Count an error about an answer of this end; nothing for a read without a datagram."""
        if isinstance(error, BlockingIOError | TimeoutError | InterruptedError):
            self.is_empty = True
            return
        if consequence(self._events.note(error.errno or errno.EIO), Moment.RUNNING) is Consequence.END:
            raise error

    def _read(self, into: list[memoryview], flags: int) -> tuple[int, int, float]:
        """Call `recvmsg`: (bytes, size of its datagrams, arrival)."""
        size, ancillary, _, _ = self._receive_into(into, ANCILLARY_BYTES, flags)
        stride, arrived_us = size, 0.0
        for level, kind, value in ancillary:
            if level == SOL_UDP and kind == UDP_GRO:
                stride = int.from_bytes(value, sys.byteorder)
            elif kind == SO_TIMESTAMPNS and len(value) == TIMESPEC.size:
                seconds, rest_ns = TIMESPEC.unpack(value)
                arrived_us = seconds * 1e6 + rest_ns / 1e3 - self._clock_us
        return size, stride, arrived_us or monotonic_ns() / 1e3

    def _room(self, offset: int) -> list[memoryview]:
        """The buffer from `offset` on, as `receive_into` takes it; the usual ones are kept."""
        room = self._into.get(offset)
        if room is None:
            room = [self._view[offset : offset + GRO_BYTES]]
            if len(self._into) < MOST_ROOMS:
                self._into[offset] = room
        return room

    def _count_alike(self, columns: Columns, arrived_us: float) -> bool:
        """Count the batch at the buffer's beginning if all its datagrams have one time, and their numbers are
        successive. True if it was counted."""
        stamps = columns.stamps()
        first = stamps[:8]
        if stamps != first * columns.count:
            return False
        seconds, rest_us = _SENT.unpack(first)
        sent_us = seconds * 1_000_000 + rest_us
        transit_us = arrived_us - sent_us
        return self._reception.add_run(columns.numbers(), columns.count, transit_us, columns.size, sent_us)

    def _count(
        self, offset: int, size: int, stride: int, arrived_us: float | NDArray[np.float64]
    ) -> ShortDatagram | None:
        """Count the datagrams of `stride` bytes, the last perhaps shorter, in `size` bytes of the buffer.
        Returns the first that is too short for a header."""
        first_us = float(arrived_us if isinstance(arrived_us, float) else arrived_us[0])
        if stride < self._header_bytes:
            return self._short(offset, stride, first_us)
        count, counted = whole_datagrams(size, stride, wide=self._wide)
        sent_us, numbers = headers(self._view[offset:], stride, count, wide=self._wide)
        self._reception.add(numbers, np.asarray(arrived_us - sent_us, np.float64), counted, sent_us)
        return self._rest(offset, size, counted, first_us)

    def _rest(self, offset: int, size: int, counted: int, arrived_us: float) -> ShortDatagram | None:
        """The shorter datagram at the end of a batch, if it holds no header: GRO puts it there."""
        return None if size == counted else self._short(offset + counted, size - counted, arrived_us)

    def _short(self, offset: int, size: int, arrived_us: float) -> ShortDatagram:
        if self._stamped:
            # The round-trip time needs the clocks' difference of now, not that of the last look.
            arrived_us += self._clock_us - wall_minus_monotonic_us()
        return ShortDatagram(bytes(self._view[offset : offset + size]), monotonic_ns() / 1e3 - arrived_us)

    def _columns_of(self, size: int, stride: int) -> Columns:
        columns = self._columns.get((size, stride))
        if columns is None:
            if len(self._columns) >= MOST_COLUMNS:
                self._columns.clear()
            columns = self._columns[size, stride] = Columns(self._buffer, size, stride, wide=self._wide)
        return columns

    def _follow_clock(self) -> float:
        """Compare the clocks. Returns the error of the stamps taken since the wall clock was set, else 0."""
        before_us, now_us = self._clock_us, wall_minus_monotonic_us()
        if abs(now_us - before_us) <= STEP_US:
            self._reception.keep_jitter()
            return 0.0
        self._clock_us = now_us
        self._reception.forget_transit()
        return before_us - now_us
