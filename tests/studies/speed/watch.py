"""Observers of a running test: processor time, and the datagrams on the wire."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence

from tests.studies.speed.contestants import Figures
from tests.studies.speed.processes import Program, RunError


class Meter:
    """Processor time of both ends over the middle of a test, without its start and its end."""

    SETTLE_S, MARGIN_S = 1.0, 0.3

    def __init__(self, seconds: float) -> None:
        self._span_s = max(0.5, seconds - self.SETTLE_S - self.MARGIN_S)
        self._shares = (0.0, 0.0)

    def __call__(self, server: Program, client: Program) -> None:
        time.sleep(self.SETTLE_S)
        began, before = time.monotonic(), (client.cpu_s(), server.cpu_s())
        time.sleep(self._span_s)
        if not client.running():
            raise RunError(f"{client.name} ended before its figures were taken")
        after, span_s = (client.cpu_s(), server.cpu_s()), time.monotonic() - began
        self._shares = (100 * (after[0] - before[0]) / span_s, 100 * (after[1] - before[1]) / span_s)

    def figures(self) -> Figures:
        return {"sender_cpu_percent": self._shares[0], "receiver_cpu_percent": self._shares[1]}


SMOOTH_BPS = 50_000_000
BIN_S, BINS = 0.01, 100
ETH_P_IP = 0x0800
SO_TIMESTAMPNS = 35  # not in the socket module before Python 3.14
SO_RCVBUFFORCE = 33
CAPTURE_BYTES = (
    64 << 20
)  # Packets in the buffer carry their own time stamps, so a large buffer loses nothing and delays nothing.
_TIMESPEC = struct.Struct("@ll")
_IP_AND_UDP_BYTES = 28


def no_capture() -> str:
    """Say why datagrams cannot be captured here; empty if they can."""
    try:
        _capture("lo").close()
    except PermissionError:
        return "datagrams were not captured: that needs root"
    return ""


def _capture(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    sock.bind((interface, ETH_P_IP))
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, CAPTURE_BYTES)
    sock.setblocking(False)
    return sock


class Bins:
    """Captures the client's datagrams with the kernel's time stamps, and computes how far the worst 10 ms of
    a second deviate from SMOOTH_BPS."""

    SETTLE_S = 1.0

    def __init__(self, seconds: float) -> None:
        self._arrivals: list[tuple[float, int]] = []

    def __call__(self, server: Program, client: Program) -> None:
        port = int(client.argv[client.argv.index("-p") + 1])
        with _capture("lo") as sock:
            until = time.monotonic() + self.SETTLE_S + 2 * BINS * BIN_S
            while (left_s := until - time.monotonic()) > 0 and client.running():
                if select.select([sock], [], [], left_s)[0]:
                    self._take(sock, port)

    def _take(self, sock: socket.socket, port: int) -> None:
        head, ancillary, _, address = sock.recvmsg(64, 64, socket.MSG_TRUNC)
        outgoing = address[2] == socket.PACKET_OUTGOING  # seen once on its way out, once on its way in
        if outgoing or head[9] != socket.IPPROTO_UDP or int.from_bytes(head[22:24]) != port:
            return
        (seconds, nanoseconds) = _TIMESPEC.unpack(ancillary[0][2])
        size = int.from_bytes(head[2:4]) - _IP_AND_UDP_BYTES
        self._arrivals.append((seconds + nanoseconds / 1e9, size))

    def figures(self) -> Figures:
        return {"worst_bin_percent": worst_bin_percent(self._arrivals, self.SETTLE_S)}


def worst_bin_percent(arrivals: Sequence[tuple[float, int]], settle_s: float) -> float:
    """`arrivals`: (seconds, payload bytes), in order.

    Raises
    ------
    RunError
        The arrivals do not fill the bins.
    """
    if not arrivals or arrivals[-1][0] - arrivals[0][0] < settle_s + BINS * BIN_S:
        raise RunError("too little was captured")
    # The sender needs `settle_s` to reach its rate.
    began = arrivals[0][0] + settle_s
    sizes = [0] * BINS
    for when, size in arrivals:
        place = int((when - began) / BIN_S)
        if when >= began and place < BINS:
            sizes[place] += size
    expected = SMOOTH_BPS / 8 * BIN_S
    return max(abs(size - expected) for size in sizes) / expected * 100
