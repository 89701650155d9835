"""Frames in: the ring of an AF_PACKET socket, which the kernel fills (TPACKET_V2, Documentation/networking/
packet_mmap.rst).

Version 2 has a slot of a fixed size for each frame. So the headers of many frames are columns of one numpy
array, and the frames are rows of another: no frame is touched by Python alone, and none needs a system call.
Version 3 packs frames closer, but keeps them back for a millisecond or more until a block is full.
"""

from __future__ import annotations

import itertools
import mmap
import socket
import struct
import time
from collections.abc import Iterator

import numpy as np

from iperfpy.protocols.operating_system import SOL_PACKET
from iperfpy.protocols.simulator.inbox import Rows, Times

HEADER_BYTES = 14
"""The header of Ethernet, with which every frame begins."""

ETH_P_ALL = 3
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 5, 6, 10
TPACKET_V2 = 1
TP_STATUS_USER = 1

BLOCK_BYTES = 65_536
RING_BYTES = 16 << 20
"""8,192 frames of 1,500 bytes: 0.3 s at 300 Mb/s."""
_FRAME_AT_MOST = 96
"""Bytes of a slot before the frame, at most: the kernel's header, an address, and alignment."""
MOST_AT_ONCE = 512
GROUP_US = 100.0
"""Frames that arrived within this time share the arrival of the first: one step of the link for all."""
_OLDEST_US = 10e6
"""Age beyond which the kernel's time stamp is not believed: the wall clock was set."""


class FrameRing:
    """The frames that arrive on one device.

    Parameters
    ----------
    sock : a packet socket without a protocol yet
    device : its name
    longest : bytes of the longest frame
    """

    def __init__(self, sock: socket.socket, device: str, longest: int) -> None:
        self._sock = sock
        slot = 1 << (longest + _FRAME_AT_MOST - 1).bit_length()
        block = max(BLOCK_BYTES, slot)
        blocks = RING_BYTES // block
        count = blocks * (block // slot)
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        sock.setsockopt(SOL_PACKET, PACKET_RX_RING, struct.pack("@4I", block, blocks, slot, count))
        self._map = mmap.mmap(sock.fileno(), blocks * block)
        self._slots = np.frombuffer(self._map, np.uint8).reshape(count, slot)
        words = self._slots.view(np.uint32)
        # struct tpacket2_hdr: status, len, snaplen, mac and net (16 bits each), seconds, nanoseconds
        self._status, self._lengths, self._stamps = words[:, 0], words[:, 2], words[:, 4:6]
        self._offsets = self._slots.view(np.uint16)[:, 6]
        self._at = 0
        self._dropped = 0
        # Bound last: the ring gets no frame of another device.
        sock.bind((device, ETH_P_ALL))

    def fileno(self) -> int:
        """The descriptor that is readable when a frame has arrived."""
        return self._sock.fileno()

    def read(self, now_us: float) -> Iterator[tuple[float, Rows]]:
        """(arrival, rows) of all frames that have arrived, but those for many receivers.

        now_us : the present time; arrivals are on the same clock, microseconds
        """
        ready = self._ready()
        if not ready:
            return
        start, stop = self._at, self._at + ready
        # Frames are in order; a wall clock that is set meanwhile must not reverse them.
        arrived_us = np.maximum.accumulate(now_us - self._ages_us(start, stop))
        lengths, offset = self._lengths[start:stop], int(self._offsets[start])
        # Multicast and broadcast are left out: neighbour discovery and the like do not travel over the path.
        unicast = (self._slots[start:stop, offset] & 1) == 0
        # A group ends where the size changes, or the kind, or when its time is over.
        ends = (lengths[1:] != lengths[:-1]) | (unicast[1:] != unicast[:-1])
        bounds = [0, *(np.flatnonzero(ends) + 1).tolist(), ready]
        for first, last in itertools.pairwise(bounds):
            if unicast[first]:
                width = offset + int(lengths[first])
                for a, b in _groups(arrived_us, first, last):
                    yield float(arrived_us[a]), self._slots[start + a : start + b, offset:width]
        self._status[start:stop] = 0
        self._at = stop % len(self._slots)

    def _ready(self) -> int:
        """Number of filled slots in a row, from the next one to the end of the ring at most."""
        at = self._at
        if not self._status[at] & TP_STATUS_USER:
            return 0
        empty = (self._status[at : at + MOST_AT_ONCE] & TP_STATUS_USER) == 0
        first = int(empty.argmax())
        return first if empty[first] else len(empty)

    def _ages_us(self, start: int, stop: int) -> Times:
        """Time since each frame arrived, (n,) float64, by the kernel's stamps of the wall clock."""
        now_s, now_ns = divmod(time.time_ns(), 1_000_000_000)
        stamps = self._stamps[start:stop].astype(np.int64)
        ages = ((now_s - stamps[:, 0]) * 1e6 + (now_ns - stamps[:, 1]) / 1e3).clip(0.0)
        return np.where(ages > _OLDEST_US, 0.0, ages)

    def dropped(self) -> int:
        """Number of frames for which the ring had no slot, so far."""
        counts = self._sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        self._dropped += struct.unpack("@2I", counts)[1]  # reading resets the kernel's counters
        return self._dropped

    def close(self) -> None:
        """Close the socket; the ring goes with the process."""
        self._sock.close()


def _groups(arrived_us: Times, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Cut [first, last) into groups of frames that arrived within `GROUP_US`."""
    while first < last:
        until = first + 1
        if last - first > 1:
            until = first + int(arrived_us[first:last].searchsorted(arrived_us[first] + GROUP_US, "right"))
        yield first, max(until, first + 1)
        first = max(until, first + 1)
