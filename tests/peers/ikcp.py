"""The C implementation of KCP (skywind3000/kcp, by way of its Python binding) as an endpoint.

As in programs that use it, `update` is called every `interval` ms, at which time datagrams leave, and before
each received datagram. The binding has no counters, so segments are counted here: a PUSH sent before is a
retransmission, and a PUSH received before was spurious.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from kcp.extension import KCP

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.settings import Tuning

MTU, HEADER_BYTES = 1_400, 24
MSS = MTU - HEADER_BYTES
_PUSH = 81
_LAYOUT = struct.Struct("<IBBHIIII")
_LEAST_WINDOW = 128  # the library takes no smaller receive window


class Tally:
    """Segments sent and received by one end, counted on the wire."""

    def __init__(self) -> None:
        self.segments = 0
        """Data segments sent, every transmission."""
        self.retransmitted = 0
        self.received = 0
        """Data segments that arrived, every copy."""
        self.repeated = 0
        """Of those, copies of segments that had arrived before: spurious retransmissions."""
        self.delivered_bytes = 0
        """Payload in order."""
        self._next_sn = 0
        self._seen: set[int] = set()

    def left(self, datagram: bytes) -> None:
        """Count the segments of a datagram that leaves."""
        for cmd, sn in _segments(datagram):
            if cmd == _PUSH:
                self.segments += 1
                self.retransmitted += sn < self._next_sn
                self._next_sn = max(self._next_sn, sn + 1)

    def arrived(self, datagram: bytes) -> None:
        """Count the segments of a datagram that arrives."""
        for cmd, sn in _segments(datagram):
            if cmd == _PUSH:
                self.received += 1
                self.repeated += sn in self._seen
                self._seen.add(sn)


def _segments(datagram: bytes) -> list[tuple[int, int]]:
    """Command and serial number of each segment."""
    found, at = [], 0
    while at + HEADER_BYTES <= len(datagram):
        _, cmd, _, _, _, sn, _, length = _LAYOUT.unpack_from(datagram, at)
        found.append((cmd, sn))
        at += HEADER_BYTES + length
    return found


def grouped(datagrams: Sequence[bytes]) -> list[DatagramBatch]:
    """Group consecutive datagrams of equal size into batches, in order."""
    batches, at = [], 0
    while at < len(datagrams):
        until = at + 1
        while until < len(datagrams) and len(datagrams[until]) == len(datagrams[at]):
            until += 1
        data = np.frombuffer(b"".join(datagrams[at:until]), np.uint8)
        batches.append(DatagramBatch.of(data, len(datagrams[at])))
        at = until
    return batches


class Ikcp:
    """Parameters
    ----------
    conv : conversation number, equal at both ends
    tuning : nodelay, interval in ms, resend, nc
    send_window, receive_window : segments; the library takes no receive window below 128
    """

    def __init__(self, conv: int, tuning: Tuning, send_window: int, receive_window: int) -> None:
        if receive_window < _LEAST_WINDOW:
            raise ValueError(f"the C library takes no receive window below {_LEAST_WINDOW} segments")
        self.tally = Tally()
        self._kcp = KCP(
            conv,
            max_transmission=MTU,
            no_delay=bool(tuning.nodelay),
            update_interval=tuning.interval,
            resend_count=tuning.resend,
            no_congestion_control=bool(tuning.nc),
            send_window_size=send_window,
            receive_window_size=receive_window,
        )
        self._kcp.include_outbound_handler(self._collect)
        self._send_window, self._interval_us = send_window, tuning.interval * 1_000
        self._tick_us = 0
        self._out: list[bytes] = []

    def _collect(self, _: KCP, datagram: bytes) -> None:
        self.tally.left(datagram)
        self._out.append(datagram)

    # -- as the application sees it

    def writable(self) -> int:
        """Payload bytes that may be queued: one send window beyond the segments in flight."""
        return max(0, 2 * self._send_window - self._kcp.get_outbound_packets()) * MSS

    def write(self, data: memoryview, now_us: int) -> int:
        """Queue whole segments; a rest shorter than one becomes a short segment."""
        size = min(len(data), self.writable())
        for at in range(0, size, MSS):
            self._kcp.enqueue(bytes(data[at : min(size, at + MSS)]))
        return size

    # -- as the simulation sees it

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        for view in batch:
            datagram = view.tobytes()
            self._tick(now_us)
            self.tally.arrived(datagram)
            self._kcp.receive(datagram)
            for piece in self._kcp.get_all_received():
                self.tally.delivered_bytes += len(piece)

    def transmit(self, now_us: int) -> list[DatagramBatch]:
        if now_us >= self._tick_us:
            self._tick(now_us)
        out, self._out = self._out, []
        return grouped(out)

    def _tick(self, now_us: int) -> None:
        """Give the library the time. It flushes at every tick, even if nothing was called at that time."""
        while self._tick_us <= now_us:
            self._kcp.update(self._tick_us // 1_000)
            self._tick_us += self._interval_us
        self._kcp.update(now_us // 1_000)

    def deadline_us(self) -> int | None:
        return self._tick_us
